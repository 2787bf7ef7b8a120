"""Logins of live connections: kept true to the database, whatever process or command changes it.

A connection does not ask the database at each call who it is. So whatever ends a login or changes a user has to come here:
a session, key or user that is gone, a user that was changed, a signing key that is retired.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog

from hooks.context import Params, Record
from hooks.errors import FeathersError, Forbidden, NotAuthenticated
from hooks.scopes import STRATEGY
from hooks.tenant import Tenant
from server.connection import Connection
from server.connections import Connections
from services import users
from services.authentication import api_keys, ledger
from services.authentication.api_keys import ApiKeys
from services.authentication.directory import Directory
from services.authentication.keys import Keys
from services.authentication.ledger import Ledger
from services.authentication.service import AuthenticationService
from services.authentication.tokens import Issuers, Tokens
from services.control.changes import Change
from services.entities.grants import Grants
from services.entities.records import Entities
from services.entities.registry import (
    BY_COLLECTION,
    MEMBERS,
    ORGANIZATIONS,
    RESOURCE_SERVERS,
    ROLE_PERMISSIONS,
    ROLES,
    USER_ROLES,
)

log = structlog.get_logger()

GRANTING = tuple(
    entity.collection for entity in (MEMBERS, USER_ROLES, ROLES, ROLE_PERMISSIONS, RESOURCE_SERVERS, ORGANIZATIONS)
)
"""Collections on which permissions rest: it matters also that a record is new."""
CHANGING = (users.COLLECTION, *GRANTING)
"""Collections of which every change matters."""
ENDING = (ledger.COLLECTION, api_keys.COLLECTION)
"""Collections of which it matters when a record goes."""
AT_ONCE = 8
"""Logins that are verified at a time when all are."""
_LONGEST_WAIT = 30 * 86_400.0


class Logins:
    """Hears of changes, and logs connections out in place or gives them their new user."""

    def __init__(
        self,
        connections: Connections,
        authentication: AuthenticationService,
        *,
        directory: Directory,
        tokens: Tokens,
        signing: Keys,
        sessions: Ledger,
        keys: ApiKeys,
        grants: Grants,
        entities: Entities,
        tenants: Issuers,
    ) -> None:
        """`tenants` finds tenants by their ids."""
        self._grants = grants
        self._entities = entities
        self._tenants = tenants
        self._connections = connections
        self._authentication = authentication
        self._directory = directory
        self._tokens = tokens
        self._signing = signing
        self._sessions = sessions
        self._keys = keys
        self._retirements: dict[str, asyncio.TimerHandle] = {}
        self._checks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Gives up what is still to come."""
        for handle in self._retirements.values():
            handle.cancel()
        for task in self._checks:
            task.cancel()

    async def hear(self, change: Change) -> None:
        """A record of one of the watched collections was changed, in this process or another."""
        if change.collection == ledger.COLLECTION:
            await self._sessions.forget(change.app_id, change.id)
        elif change.collection == api_keys.COLLECTION:
            await self._keys.forget(change.app_id, change.id)
        elif change.collection in GRANTING:
            await self._hear_of_rights(change)
        elif change.is_deleted:
            await self._connections.end_user(change.app_id, change.id)
        else:
            await self._refresh_user(change.app_id, change.id)

    async def review(self, app_id: str | None = None) -> None:
        """Verifies every login anew, or those of one app: changes may have been missed."""
        if app_id is None:
            self._grants.forget_all()
        else:
            self._grants.forget_tenant(app_id)
        logged_in = self._connections.logged_in() if app_id is None else self._connections.concerning(app_id)
        await self._renew_all(logged_in)

    async def follow_user(self, tenant_id: str, user: Record, *, removed: bool) -> None:
        """A user was changed or removed by a call in this process: his connections know it before the answer comes."""
        if removed:
            await self._connections.end_user(tenant_id, str(user["_id"]))
        else:
            await self._renew_all(self._connections.of_user(tenant_id, str(user["_id"])))

    async def follow_rights(self, tenant_id: str, user_id: str | None) -> None:
        """A user's roles or memberships were changed by a call in this process, or with None what roles allow."""
        if user_id is None:
            await self._renew_people(tenant_id, self._grants.forget_roles(tenant_id))
        else:
            await self._renew_people(tenant_id, self._grants.forget_user(tenant_id, user_id))

    async def follow_tenant(self, tenant: Tenant) -> None:
        """A tenant was changed: its signing keys may be others."""
        self._signing.forget(tenant.id)
        await self._check_keys(tenant.id)

    async def watch_keys(self) -> None:
        """Takes note of when signing keys retire that were replaced before this process began."""
        for tenant_id in await self._signing.retiring():
            await self._check_keys(tenant_id)

    async def _hear_of_rights(self, change: Change) -> None:
        if change.collection in (ROLE_PERMISSIONS.collection, RESOURCE_SERVERS.collection):
            await self._renew_people(change.app_id, self._grants.forget_roles(change.app_id))
            return
        people = self._grants.forget_record(change.app_id, change.id)
        tenant = await self._tenants(change.app_id)
        entity = BY_COLLECTION[change.collection]
        if not change.is_deleted and tenant is not None and entity in (MEMBERS, USER_ROLES):
            record = await self._entities.get(tenant, entity, change.id)
            named = None if record is None else self._grants.forget_user(change.app_id, record["user_id"])
            people = None if people is None else people | (named or set())
        await self._renew_people(change.app_id, people)

    async def _renew_people(self, tenant_id: str, people: set[str] | None) -> None:
        """Gives the connections of these users of a tenant, or of all, the permissions that they have now."""
        if people is None:
            found = self._connections.issued_by(tenant_id)
        else:
            found = [one for user_id in people for one in self._connections.of_user(tenant_id, user_id)]
        await self._renew_all(found)

    async def _refresh_user(self, tenant_id: str, user_id: str) -> None:
        found = self._connections.of_user(tenant_id, user_id)
        tenant = await self._tenants(tenant_id) if found else None
        if tenant is not None:
            if await self._directory.show(Params(tenant=tenant), user_id) is None:
                await self._connections.end_user(tenant_id, user_id)
            else:
                await self._renew_all(self._connections.of_user(tenant_id, user_id))

    async def _renew_all(self, connections: Iterable[Connection]) -> None:
        turn = asyncio.Semaphore(AT_ONCE)

        async def renew(connection: Connection) -> None:
            async with turn:
                await self._renew(connection)

        await asyncio.gather(*(renew(connection) for connection in connections))

    async def _renew(self, connection: Connection) -> None:
        """Looks at a connection's login anew: what it may do, or that it is over."""
        login = connection.authentication
        if login is None:
            return
        try:
            params = Params(tenant=connection.tenant)
            found = await self._authentication.verify(params, login.access_token, live=True)
        except NotAuthenticated as error:
            if connection.authentication is login:
                self._connections.end(connection, "ended" if _is_over(error) else "expired")
        except Forbidden:
            if connection.authentication is login:
                self._connections.dismiss(connection)
        except FeathersError as error:
            log.warning("a login could not be verified", tenant=connection.tenant.id, error=type(error).__name__)
        else:
            if connection.authentication is login:
                self._connections.renew(connection, found.principal)

    async def _check_keys(self, tenant_id: str) -> None:
        """Logs out whose token a retired key has signed, and comes back when the next key retires."""
        for connection in self._connections.issued_by(tenant_id):
            login = connection.authentication
            if login is None or login.strategy == STRATEGY:
                continue
            trusted = await self._tokens.is_signed_by_serving_key(tenant_id, login.access_token)
            if not trusted and connection.authentication is login:
                self._connections.expire(connection)
        retirement = await self._signing.next_retirement(tenant_id)
        earlier = self._retirements.pop(tenant_id, None)
        if earlier is not None:
            earlier.cancel()
        if retirement is not None:
            delay = min(max(0.0, retirement - time.time()), _LONGEST_WAIT)
            self._retirements[tenant_id] = asyncio.get_running_loop().call_later(delay, self._retire, tenant_id)

    def _retire(self, tenant_id: str) -> None:
        self._retirements.pop(tenant_id, None)
        check = asyncio.ensure_future(self._check_again(tenant_id))
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check_again(self, tenant_id: str) -> None:
        try:
            await self._check_keys(tenant_id)
        except FeathersError as error:
            log.warning("signing keys could not be checked", tenant=tenant_id, error=type(error).__name__)
            self._retirements[tenant_id] = asyncio.get_running_loop().call_later(1.0, self._retire, tenant_id)


def _is_over(error: NotAuthenticated) -> bool:
    """Whether the session has ended, and not the token alone."""
    return isinstance(error.data, dict) and error.data.get("name") == "SessionEndedError"
