"""Logins of live connections: kept true to the database, whatever process or command changes it.

A connection does not ask the database at each call who it is. So whatever ends a login or changes a user has to come here:
a session, key or user that is gone, a user that was changed, a signing key that is retired.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from hooks.context import Params, Record
from hooks.errors import FeathersError, NotAuthenticated
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
from services.authentication.tokens import Tokens
from services.control.changes import Change

log = structlog.get_logger()

CHANGING = (users.COLLECTION,)
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
    ) -> None:
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
        elif change.is_deleted:
            await self._connections.end_user(change.app_id, change.id)
        else:
            await self._refresh_user(change.app_id, change.id)

    async def review(self, app_id: str | None = None) -> None:
        """Verifies every login anew, or those of one app: changes may have been missed."""
        turn = asyncio.Semaphore(AT_ONCE)

        async def verify(connection: Connection) -> None:
            async with turn:
                await self._verify(connection)

        logged_in = self._connections.logged_in()
        await asyncio.gather(*(verify(one) for one in logged_in if app_id is None or one.tenant.id == app_id))

    async def follow_user(self, tenant_id: str, user: Record, *, removed: bool) -> None:
        """A user was changed or removed by a call in this process: his connections know it before the answer comes."""
        if removed:
            await self._connections.end_user(tenant_id, str(user["_id"]))
        else:
            self._connections.update_user(tenant_id, str(user["_id"]), user)

    async def follow_tenant(self, tenant: Tenant) -> None:
        """A tenant was changed: its signing keys may be others."""
        self._signing.forget(tenant.id)
        await self._check_keys(tenant.id)

    async def watch_keys(self) -> None:
        """Takes note of when signing keys retire that were replaced before this process began."""
        for tenant_id in await self._signing.retiring():
            await self._check_keys(tenant_id)

    async def _refresh_user(self, tenant_id: str, user_id: str) -> None:
        found = self._connections.of_user(tenant_id, user_id)
        if found:
            user = await self._directory.show(Params(tenant=found[0].tenant), user_id)
            if user is None:
                await self._connections.end_user(tenant_id, user_id)
            else:
                self._connections.update_user(tenant_id, user_id, user)

    async def _verify(self, connection: Connection) -> None:
        login = connection.authentication
        if login is None:
            return
        try:
            _, user = await self._authentication.verify(Params(tenant=connection.tenant), login.access_token)
        except NotAuthenticated:
            if connection.authentication is login:
                self._connections.expire(connection)
        except FeathersError as error:
            log.warning("a login could not be verified", tenant=connection.tenant.id, error=type(error).__name__)
        else:
            if connection.authentication is login:
                self._connections.update_user(connection.tenant.id, str(user["_id"]), user)

    async def _check_keys(self, tenant_id: str) -> None:
        """Logs out whose token a retired key has signed, and comes back when the next key retires."""
        for connection in self._connections.of(tenant_id):
            login = connection.authentication
            if login is None or login.strategy == STRATEGY:
                continue
            trusted = await self._tokens.is_signed_by_serving_key(connection.tenant, login.access_token)
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
