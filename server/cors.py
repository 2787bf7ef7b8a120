"""CORS: which pages of other origins may read answers. A socket that polls needs it as much as a REST call does."""

from __future__ import annotations

from aiohttp import web

from hooks.errors import FeathersError
from server.handshake import HEADER
from services.control.catalogue import Catalogue

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, HEAD",
    "Access-Control-Allow-Headers": f"authorization, content-type, accept, {HEADER}, x-service-method",
    "Access-Control-Max-Age": "600",
}


def allow(origins: list[str]) -> dict[str, str]:
    """The headers that let pages of this origin read an answer; none if there is no origin."""
    return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"} if origins else {}


class PollingOrigins:
    """Lets browsers poll from origins that any app lists; whether the app itself lists it is checked by the handshake."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def __call__(self, request: web.Request, response: web.StreamResponse) -> None:
        """A listener of `on_response_prepare`."""
        origins = request.headers.getall("Origin", ())
        if len(origins) != 1 or not request.path.startswith("/socket.io/"):
            return
        try:
            allowed = await self._catalogue.allows_origin(origins[0])
        except FeathersError:
            return
        if allowed:
            response.headers.update(allow([*origins]))
            if request.method == "OPTIONS":
                response.headers.update(PREFLIGHT)
