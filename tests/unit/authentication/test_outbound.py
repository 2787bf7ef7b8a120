"""Requests to addresses that tenants have named (LIMITS O7): public hosts over https, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from hooks.errors import BadGateway, Forbidden
from server.outbound import LARGEST, Outbound, is_public

PRIVATE = """
127.0.0.1 127.1.2.3 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254 100.64.0.1 192.0.2.1
198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 fe80::1 fe80::1%eth0 fc00::1 fd12:3456::1 ff02::1 2001:db8::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
2002:7f00:1:: 2002:a9fe:a9fe:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
""".split()


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_a_public_address(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "example.com", "127.1", "0x7f000001", "2130706433", "1.1.1.1.1"])
def test_what_is_no_address(text: str) -> None:
    assert not is_public(text)


REFUSED = [
    "http://idp.example/keys",
    "ftp://idp.example/keys",
    "file:///etc/passwd",
    "//idp.example/keys",
    "idp.example/keys",
    "https://",
    "https:///keys",
    "https://user@idp.example/keys",
    "https://user:word@idp.example/keys",
    "https://127.0.0.1/keys",
    "https://127.0.0.1:8443/keys",
    "https://[::1]/keys",
    "https://[::ffff:127.0.0.1]/keys",
    "https://169.254.169.254/latest/meta-data",
    "https://10.0.0.1/keys",
    "https://0.0.0.0/keys",
    "https://localhost/keys",
    "https://localhost:1/keys",
    "https://127.1/keys",
    "https://2130706433/keys",
    "https://0x7f000001/keys",
    "https://[::1/keys",
    "",
]


@pytest.mark.parametrize("url", REFUSED)
async def test_what_may_not_be_asked(url: str) -> None:
    outbound = Outbound()
    try:
        with pytest.raises(Forbidden):
            await outbound.get(url)
    finally:
        await outbound.close()


@asynccontextmanager
async def site(handler: web.Application) -> AsyncIterator[str]:
    """A server on this machine."""
    runner = web.AppRunner(handler, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def pages() -> web.Application:
    """Answers of all kinds."""

    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/good":
                return web.Response(body=b"good")
            case "/large":
                return web.Response(body=b"x" * LARGEST)
            case "/larger":
                return web.Response(body=b"x" * (LARGEST + 1))
            case "/moved":
                return web.Response(status=302, headers={"Location": "/good"})
            case "/endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x" * 65_536)
                    await asyncio.sleep(0)
            case _:
                return web.Response(status=404)

    app = web.Application()

    async def take(request: web.Request) -> web.Response:
        form = (await request.read()).decode()
        if request.path == "/moved":
            return web.Response(status=307, headers={"Location": "/taken"})
        return web.Response(status=400, text=f"{request.headers['X-Own']} {form}")

    app.router.add_get("/{path:.*}", answer)
    app.router.add_post("/{path:.*}", take)
    return app


async def test_a_form_is_answered_whatever_the_status_and_goes_nowhere_else() -> None:
    """O7: a redirect would carry a client secret on to wherever it leads."""
    outbound = Outbound(allow_private=True)
    async with site(pages()) as url:
        try:
            assert await outbound.post(f"{url}/taken", "a=1&b=2", {"X-Own": "x"}) == (400, b"x a=1&b=2")
            assert await outbound.post(f"{url}/moved", "secret=1", {}) == (307, b"")
        finally:
            await outbound.close()
        with pytest.raises(Forbidden):
            await Outbound().post(f"{url}/taken", "secret=1", {})


async def test_a_private_server_can_be_allowed_for_tests() -> None:
    outbound = Outbound(allow_private=True)
    async with site(pages()) as url:
        try:
            assert await outbound.get(f"{url}/good") == b"good"
            assert len(await outbound.get(f"{url}/large")) == LARGEST
            assert await outbound.get(url.replace("127.0.0.1", "localhost") + "/good") == b"good"
            for path in ("larger", "endless", "moved", "missing"):
                with pytest.raises(BadGateway):
                    await outbound.get(f"{url}/{path}")
        finally:
            await outbound.close()
        with pytest.raises(Forbidden):
            await Outbound().get(f"{url}/good")


async def test_a_server_that_is_not_there_is_a_bad_gateway() -> None:
    outbound = Outbound(allow_private=True)
    async with site(pages()) as url:
        pass
    try:
        for address in (url, "http://no-such-host.invalid/"):
            with pytest.raises(BadGateway):
                await outbound.get(address)
    finally:
        await outbound.close()
