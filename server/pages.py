"""Pages for people: the example, served from its own directory."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

_MISSING = """<!doctype html><meta charset="utf-8"><title>Roost</title>
<p>The example needs its packages: run <code>npm ci</code> in <code>client-example</code>, then reload this page.</p>
"""


class Pages:
    """`/example/` serves the example's directory, once its npm packages are there."""

    def __init__(self, example: Path) -> None:
        self._example = example

    @property
    def has_example(self) -> bool:
        """Whether the example can run."""
        return (self._example / "index.html").is_file() and (self._example / "node_modules").is_dir()

    def attach(self, app: web.Application) -> None:
        """Adds the routes."""
        app.router.add_get("/", self._index)
        app.router.add_get("/example", self._to_example)
        if self.has_example:
            app.router.add_get("/example/", self._example_page)
            app.router.add_static("/example/", self._example)
        else:
            app.router.add_get("/example/", self._no_example)

    async def _index(self, request: web.Request) -> web.Response:
        return web.Response(text="Roost is running. Try /docs or /example/ in a browser, or /health.\n")

    async def _to_example(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/example/")

    async def _example_page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._example / "index.html")

    async def _no_example(self, request: web.Request) -> web.Response:
        return web.Response(text=_MISSING, content_type="text/html", status=404)
