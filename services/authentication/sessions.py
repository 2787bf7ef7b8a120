"""What the service tells the transport: who has logged in or out on a live connection."""

from __future__ import annotations

from typing import Any, Protocol

from hooks.context import Authentication, Record
from hooks.tenant import Tenant


class Sessions(Protocol):
    """The logins of live connections. Implemented by the server; REST calls have no connection and are never told of.

    `connection` is what the server itself put into `params.connection`.
    """

    async def login(self, connection: Any, authentication: Authentication, user: Record, tenant: Tenant) -> None:
        """Makes this the connection's login, in place of an earlier one, unless the connection has left the tenant since.

        `user` is the principal, as rules see him; `authentication.payload["exp"]` is the second of the login's end.
        """
        ...

    async def switch(self, connection: Any, authentication: Authentication, user: Record, tenant: Tenant) -> None:
        """Makes this the connection's login in the tenant, into which the connection goes if it is in another.

        All of it happens at once: nothing of the old tenant reaches the connection afterwards.
        """
        ...

    async def logout(self, connection: Any, login: Authentication | None = None) -> None:
        """Takes the connection's login and its channels away; the connection stays. Nothing to do if there is none.

        With `login` only if that is still the connection's: it may have a newer one by now.
        """
        ...

    async def end_session(self, tenant_id: str, session_id: str) -> None:
        """Logs out every connection of the tenant whose access token belongs to this session."""
        ...

    async def end_user(self, tenant_id: str, user_id: str, *, but: str | None = None) -> None:
        """Logs out every connection of this user, except those of the session that `but` names."""
        ...


class NoSessions:
    """For servers without live connections."""

    async def login(self, connection: Any, authentication: Authentication, user: Record, tenant: Tenant) -> None:
        """Nothing to tell."""

    async def switch(self, connection: Any, authentication: Authentication, user: Record, tenant: Tenant) -> None:
        """Nothing to tell."""

    async def logout(self, connection: Any, login: Authentication | None = None) -> None:
        """Nothing to tell."""

    async def end_session(self, tenant_id: str, session_id: str) -> None:
        """Nothing to tell."""

    async def end_user(self, tenant_id: str, user_id: str, *, but: str | None = None) -> None:
        """Nothing to tell."""
