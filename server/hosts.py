"""Hosts: what the name by which a request reached the server says about the app that is meant.

With base hosts configured, every request comes by one: `acme.<base>` means the app `acme`, an app's verified own domain means
that app, a base host itself means the control plane, and anything else is nobody's. Without any, hosts say nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import idna
import structlog

from hooks.errors import BadRequest, NotFound, Unavailable
from hooks.tenant import TENANT_ID, Tenant
from server.addresses import Addresses
from server.engine import Request
from services.composition import HostResolver
from services.control.catalogue import Catalogue

log = structlog.get_logger()

FORWARDED = "X-Forwarded-Host"
PATIENCE = 0.25
"""Seconds that a resolver of a plug-in has."""
LONGEST = 253

_PORT = re.compile(r":[0-9]{1,5}")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Host:
    """A host name in canonical form, or an address."""

    name: str
    is_address: bool = False


@dataclass(frozen=True, slots=True)
class Meant:
    """What a host says: the app that it belongs to, or that it is the control plane's own."""

    host: str
    tenant: Tenant | None = None

    @property
    def is_base(self) -> bool:
        """Whether any app may be named, and any app's token be brought."""
        return self.tenant is None


class Hosts:
    """Reads hosts of requests."""

    def __init__(
        self,
        catalogue: Catalogue,
        addresses: Addresses,
        *,
        base_hosts: Sequence[str] = (),
        reserved: frozenset[str] = frozenset(),
        serve_reserved: bool = True,
        development: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """`reserved` labels mean the control plane if `serve_reserved`, else nobody; so do addresses in `development`."""
        self._catalogue = catalogue
        self._addresses = addresses
        self._bases: list[str] = []
        self.serve(base_hosts)
        self._reserved = reserved
        self._serve_reserved = serve_reserved
        self._development = development
        self._patience = patience
        self.resolve: HostResolver | None = None
        """Set by a plug-in, in place of taking the label for the appId."""

    def serve(self, base_hosts: Sequence[str]) -> None:
        """Makes these the base hosts.

        Raises:
            BadRequest: one is no host.
        """
        # The longest first: of `example.com` and `eu.example.com`, `acme.eu.example.com` is the second's.
        self._bases = sorted({canonical(host).name for host in base_hosts}, key=len, reverse=True)

    @property
    def say_something(self) -> bool:
        """Whether there are base hosts at all."""
        return bool(self._bases)

    async def meant(self, request: Request) -> Meant | None:
        """What the request's host says; None when hosts say nothing.

        Raises:
            BadRequest: it is no host name. NotFound: it is nobody's. TooManyRequests: its address asked for too many.
            Unavailable: the database, or a plug-in's resolver, does not answer.
        """
        if not self._bases:
            return None
        host = canonical(self._named(request))
        if host.is_address or host.name == "localhost":
            if self._development or host.name in self._bases:
                return Meant(host.name)
            raise unknown(host.name)
        return await self._mean(host.name, self._addresses.of(request))

    def is_own(self, host: str) -> bool:
        """Whether a host is a base host, or lies below one: no app can claim it as its own."""
        return any(host == base or host.endswith(f".{base}") for base in self._bases)

    def _named(self, request: Request) -> str:
        """What the client calls the server; a proxy's word counts if the proxy is trusted."""
        named: list[str] = request.headers.getall("Host", [])
        if len(named) != 1:
            raise BadRequest("A request has one Host")
        if self._addresses.is_by_proxy(request) and (forwarded := request.headers.get(FORWARDED)):
            return forwarded.partition(",")[0].strip()
        return named[0]

    async def _mean(self, host: str, address: str) -> Meant:
        base = next((base for base in self._bases if host == base or host.endswith(f".{base}")), None)
        if host == base:
            return Meant(host)
        label = None if base is None else host.removesuffix(f".{base}")
        if label in self._reserved:
            if self._serve_reserved:
                return Meant(host)
            raise unknown(host)
        if label is None or "." in label:
            found = await self._catalogue.by_host(host, address=address, counts=self.resolve is None)
            if found is None and label is None and self.resolve is not None:
                found = await self._called(await self._ask(self.resolve, None, host), address)
        else:
            id = label if self.resolve is None else await self._ask(self.resolve, label, host)
            found = await self._called(id, address)
            # Claimed before its base host was one: then it stays the claimant's.
            found = await self._catalogue.by_host(host, counts=False) or found
        if found is None:
            raise unknown(host)
        return Meant(host, found)

    async def _called(self, id: str | None, address: str) -> Tenant | None:
        return None if id is None or not TENANT_ID.fullmatch(id) else await self._catalogue.get(id, address=address)

    async def _ask(self, resolve: HostResolver, label: str | None, host: str) -> str | None:
        try:
            async with asyncio.timeout(self._patience):
                return await resolve(label, host)
        except Exception as error:
            log.warning("a host could not be resolved", host=host, error=type(error).__name__)
            raise Unavailable("It cannot be told at the moment which app this host belongs to: try again") from error


def canonical(text: str) -> Host:
    """A host as it is compared: without port and trailing dot, in lower case, IDNA-encoded.

    Raises:
        BadRequest: it is neither a DNS name nor an address.
    """
    if bracketed := _BRACKETED.fullmatch(text):
        return _address(bracketed[1])
    bare, port = text, ""
    if ":" in text:
        bare, _, _ = text.partition(":")
        port = text[len(bare) :]
    if port and not _PORT.fullmatch(port):
        raise BadRequest("The Host is not a host name")
    if bare and bare.replace(".", "").isdigit():
        return _address(bare)
    try:
        name = idna.encode(bare.removesuffix("."), uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise BadRequest("The Host is not a host name") from error
    if len(name) > LONGEST or name.endswith("."):
        raise BadRequest("The Host is not a host name")
    return Host(name)


def unknown(host: str) -> NotFound:
    """The error for a host that is nobody's."""
    return NotFound(f"No app is served at '{host}'", data={"reason": "UnknownHost"})


def _address(text: str) -> Host:
    try:
        return Host(str(ip_address(text)), is_address=True)
    except ValueError as error:
        raise BadRequest("The Host is not a host name") from error
