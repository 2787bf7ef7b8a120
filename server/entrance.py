"""The entrance: how requests find their app, put together; and the domains by which they may."""

from __future__ import annotations

from server.addresses import Addresses
from server.backend import Backend
from server.door import Door
from server.hosts import Hosts
from server.people import QUIET
from server.resolver import Resolver
from services.application import Application
from services.authentication.tokens import Tokens
from services.control.catalogue import Catalogue
from services.control.dns import Resolver as DnsResolver
from services.control.services.domains import DOMAINS_RULES, PATH, DomainsService
from services.control.verification import Verification


class Entrance:
    """The hosts, the resolver and the door; registers the service `domains`."""

    def __init__(
        self, app: Application, backend: Backend, *, catalogue: Catalogue, addresses: Addresses, tokens: Tokens
    ) -> None:
        settings = backend.settings
        self.hosts = Hosts(
            catalogue,
            addresses,
            base_hosts=settings.base_hosts,
            reserved=settings.reserved_ids | {settings.control_plane},
            serve_reserved=settings.reserved_hosts == "control_plane",
            development=settings.mongodb_uri is None,
        )
        self.resolver = Resolver(catalogue, self.hosts, addresses, tokens, control_plane=settings.control_plane)
        self.door = Door(self.hosts, self.resolver)
        app.service("authentication").add_hooks({"before": {"create": [self.resolver.check_login]}})
        self.dns = DnsResolver(settings.dns_servers)
        self.verification = Verification(backend.domains, self.dns, base_hosts=settings.base_hosts)
        self._app = app
        domains = DomainsService(backend.domains, self.verification, is_own=self.hosts.is_own)
        app.use(PATH, domains, methods=[*DOMAINS_RULES], rules=DOMAINS_RULES, hooks=QUIET)

    def follow(self) -> None:
        """Does as plug-ins have asked: their resolver, and base hosts where no setting names any.

        Raises:
            BadRequest: a base host is none.
        """
        self.hosts.resolve = self._app.resolve_host
        if self._app.base_hosts:
            self.hosts.serve(self._app.base_hosts)
            self.verification.base_hosts = self._app.base_hosts
