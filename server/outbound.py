"""Outbound: the only way to addresses that tenants have named. It reaches public hosts over https, and nothing else.

The host is resolved once, and what it resolves to is both judged and connected to: a name that answers differently the second
time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from hooks.errors import BadGateway, Forbidden

LARGEST = 256 * 1024
"""Bytes of an answer."""
PATIENCE = 5.0
"""Seconds for a whole request."""


class ForbiddenAddress(OSError):
    """The host resolves to an address that is not a public one."""


class Outbound:
    """An HTTP client for foreign addresses."""

    def __init__(self, *, allow_private: bool = False) -> None:
        """`allow_private` lifts the restrictions to https and public addresses: for development and tests."""
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body at an address.

        Raises:
            Forbidden: the address is not one that may be asked. BadGateway: no good answer of a bearable size came in time.
        """
        status, body = await self._send("GET", url, headers or {}, None)
        if status != 200:
            raise BadGateway(f"The other server answered with the status {status}")
        return body

    async def post(self, url: str, form: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The status and body with which a form is answered. Redirects are an answer like others.

        Raises:
            Forbidden: the address is not one that may be asked. BadGateway: no answer of a bearable size came in time.
        """
        return await self._send("POST", url, headers, form.encode())

    async def _send(self, method: str, url: str, headers: Mapping[str, str], sent: bytes | None) -> tuple[int, bytes]:
        self.check(url)
        try:
            async with self._client().request(
                method, url, data=sent, headers=headers, allow_redirects=False
            ) as response:
                body = await response.content.read(LARGEST + 1)
                while len(body) <= LARGEST and not response.content.at_eof():
                    body += await response.content.read(LARGEST + 1 - len(body))
        except ForbiddenAddress as error:
            raise Forbidden("This address may not be asked") from error
        except aiohttp.InvalidURL as error:
            raise Forbidden("This address may not be asked") from error
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error.__cause__, ForbiddenAddress):
                raise Forbidden("This address may not be asked") from error
            raise BadGateway("The other server gave no answer") from error
        if len(body) > LARGEST:
            raise BadGateway("The other server's answer is too long")
        return response.status, body

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection to a host that a tenant has named, for what is not HTTP. The host is resolved once, as above.

        Raises:
            Forbidden: the host is not a public one. OSError: nobody answers there in time.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                found = await _Resolver(allow_private=self._allow_private).resolve(host, port)
                address = found[0]
                sock = socket.socket(address["family"], socket.SOCK_STREAM)
                try:
                    sock.setblocking(False)
                    await loop.sock_connect(sock, (address["host"], port))
                except BaseException:
                    sock.close()
                    raise
        except ForbiddenAddress as error:
            raise Forbidden("This address may not be asked") from error
        return sock

    async def close(self) -> None:
        """Closes what is open."""
        if self._session is not None:
            await self._session.close()

    def check(self, url: str) -> None:
        """Lets pass what can be told to be an address that may be asked, before its host is looked up.

        Raises:
            Forbidden: it is none.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise Forbidden("Only https addresses may be asked") from error
        schemes = ("https", "http") if self._allow_private else ("https",)
        if parts.scheme not in schemes or not parts.hostname or parts.username or parts.password:
            raise Forbidden("Only https addresses may be asked")
        if not self._allow_private and _as_address(parts.hostname) is not None and not is_public(parts.hostname):
            raise Forbidden("This address may not be asked")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Resolver(allow_private=self._allow_private), limit=20),
                timeout=aiohttp.ClientTimeout(total=PATIENCE),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _Resolver(AbstractResolver):
    """Resolves a host to public addresses, all of them or none."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        if not self._allow_private and not all(is_public(entry[4][0]) for entry in found):
            raise ForbiddenAddress(f"{host} is not a public host")
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=entry_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for entry_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet: not private, local, reserved, multicast, or a way to such a one."""
    found = _as_address(address)
    if found is None:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast and not found.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
