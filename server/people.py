"""The people and programs of an app: their services, logins and mails, put together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from hooks.context import HookContext, Params, Record
from hooks.errors import Forbidden, NotAuthenticated
from hooks.limit import limit
from hooks.permission import PRINCIPAL_PREFIX as MANAGER
from hooks.permission import effective
from hooks.rules import permissions_of
from hooks.scopes import PRINCIPAL_PREFIX as KEY_PRINCIPAL
from hooks.silence import silence
from hooks.tenant import Tenant
from server.backend import Backend
from server.connections import Connections
from server.logins import CHANGING, ENDING, GRANTING, Logins
from server.outbound import Outbound
from services import identities, sessions
from services.accounts.hooks import account_hooks
from services.accounts.letters import Letters
from services.accounts.service import PATH as ACCOUNTS
from services.accounts.service import AccountsService
from services.accounts.tokens import AccountTokens
from services.api_keys import API_KEYS_RULES, ApiKeysService
from services.api_keys import PATH as API_KEYS
from services.application import Application
from services.authentication.api_keys import ApiKeys
from services.authentication.attempts import Attempts, account_attempt, login_attempt, sign_up_attempt
from services.authentication.authorization import Authorization
from services.authentication.codes import Codes
from services.authentication.directory import Directory
from services.authentication.external import ExternalStrategy
from services.authentication.identities import Identities
from services.authentication.keysets import KeySets
from services.authentication.ledger import Ledger
from services.authentication.oauth import OAuthStrategy
from services.authentication.oauth_states import OAuthStates
from services.authentication.passwords import Passwords
from services.authentication.providers import Providers
from services.authentication.service import AUTHENTICATION_RULES, AuthenticationService
from services.authentication.tokens import Issuers, Tokens
from services.control.changes import Changes, Home
from services.entities.grants import Grants
from services.entities.offer import offer_entities
from services.entities.provisioning import Memberships
from services.entities.records import Entities
from services.entities.registry import CLIENTS
from services.errands import Errands
from services.isolation import Isolation
from services.jobs.queue import Jobs
from services.mail.outbox import Outbox
from services.registration import HooksByKind
from services.users import USERS_RULES, UsersService, session_hooks, users_hooks

QUIET: HooksByKind = {"before": {"all": [silence]}}


class People:
    """Registers `authentication users sessions identities api-keys accounts` and the entities, and keeps live logins true."""

    def __init__(
        self,
        app: Application,
        backend: Backend,
        *,
        isolation: Isolation,
        connections: Connections,
        outbound: Outbound,
        jobs: Jobs,
        home: Home,
        tenants: Issuers,
        issuers: Issuers,
    ) -> None:
        """`home` tells where a tenant's data is; `tenants` finds tenants by their ids, as the catalogue has them.

        `issuers` does so for ids that nobody has verified.
        """
        settings = backend.settings
        self._app = app
        self._urls = backend.inheritance.urls
        self._isolation = isolation
        self._secrets = backend.secrets
        self._tenants, self._control = tenants, settings.control_plane
        self.passwords = Passwords(idle=settings.idle_hashing)
        self.attempts = Attempts(per_name=settings.name_failures, per_address=settings.address_failures)
        self.ledger = Ledger(isolation, connections)
        self.api_keys = ApiKeys(isolation, connections)
        self.tokens = Tokens(backend.keys, lifetime=settings.token_lifetime, issuers=issuers)
        self.directory = Directory(app)
        self.entities = Entities(isolation)
        self.grants = Grants(self.entities, tenants)
        self.memberships = Memberships(self.entities, self.grants, self._control_plane)
        self.identities = Identities(isolation, self.directory)
        key_sets = KeySets(outbound.get)
        self.oauth_states = OAuthStates(isolation)
        self.providers = Providers(outbound, key_sets, backend.secrets)
        self.authentication = AuthenticationService(
            app,
            self.tokens,
            self.passwords,
            self.ledger,
            self.api_keys,
            authorization=lambda entry: Authorization(Codes(isolation), self.ledger, entry, self._callbacks),
            external=ExternalStrategy(self.identities, key_sets),
            oauth=OAuthStrategy(
                app,
                self.providers,
                self.identities,
                self.directory,
                self.ledger,
                registrations=backend.inheritance.credentials,
            ),
            sessions=connections,
            principals=self.grants,
            issuers=tenants,
            control_plane=self._control_plane,
        )
        self.logins = Logins(
            connections,
            self.authentication,
            directory=self.directory,
            tokens=self.tokens,
            signing=backend.keys,
            sessions=self.ledger,
            keys=self.api_keys,
            grants=self.grants,
            entities=self.entities,
            tenants=tenants,
        )
        self.changes = Changes(
            backend.deployment,
            database=settings.database,
            updates=CHANGING,
            deletions=ENDING,
            insertions=GRANTING,
            placements=backend.placements,
            home=home,
        )
        self.outbox = Outbox(jobs, backend.mailers, backend.master)
        self.errands = Errands("accounts", at_once=8, most=1000)
        app.authenticator = self.authentication.authenticate
        self._use_authentication()
        self._use_users()
        app.use(sessions.PATH, sessions.SessionsService(self.ledger), rules=sessions.SESSIONS_RULES, hooks=QUIET)
        app.use(
            identities.PATH,
            identities.IdentitiesService(self.identities),
            rules=identities.IDENTITIES_RULES,
            hooks=QUIET,
        )
        keys_service = ApiKeysService(self.api_keys, self.directory)
        app.use(API_KEYS, keys_service, rules=API_KEYS_RULES, hooks=QUIET)

    async def start(self, stack: AsyncExitStack) -> None:
        """Begins to follow what happens to logins elsewhere."""
        stack.callback(self.passwords.close)
        stack.push_async_callback(self.errands.stop)
        stack.callback(self.logins.close)
        await self.logins.watch_keys()
        await self.changes.start(self.logins.hear, self.logins.review)
        stack.push_async_callback(self.changes.stop)

    async def holds(self, tenant: Tenant, caller: str, permission: str, org_id: str | None = None) -> bool:
        """Whether who called holds a permission in the tenant now: for work that goes on after the call.

        `caller` is the id under which he called, a user's, a key's or that of somebody from the control plane; `org_id`
        names the organization in which he did.
        """
        if caller.startswith(KEY_PRINCIPAL):
            key = await self.api_keys.find_one(tenant, caller)
            return key is not None and permission in key.scopes
        issuer = await self._control_plane() if caller.startswith(MANAGER) else tenant
        user_id = caller.removeprefix(MANAGER)
        user = None if issuer is None else await self.directory.load(Params(tenant=issuer), user_id)
        if issuer is None or user is None:
            return False
        claims: Record = {"sub": user_id, "app_id": issuer.id}
        if org_id is not None:
            claims["org_id"] = org_id
        try:
            principal = (await self.grants.grant(tenant, issuer, claims)).principal(user[0])
        except (Forbidden, NotAuthenticated):
            return False
        return permission in effective(permissions_of(principal))

    async def _control_plane(self) -> Tenant | None:
        return await self._tenants(self._control)

    async def _callbacks(self, tenant: Tenant, client_id: str) -> Sequence[str] | None:
        """Where a client of the tenant may be sent: see `services.authentication.authorization`."""
        if await self.entities.get(tenant, CLIENTS, client_id) is None:
            return None
        return await self._urls.of(tenant, "callbacks", [client_id])

    def _use_authentication(self) -> None:
        self._app.use(
            "authentication",
            self.authentication,
            rules=AUTHENTICATION_RULES,
            hooks={
                "around": {"create": [limit(self.attempts, login_attempt)]},
                "before": {"all": [silence]},
                "after": {"create": [self._tell_login], "remove": [self._tell_logout]},
            },
        )

    def _use_users(self) -> None:
        asked = self._app.asked_fields
        users = self._app.use(
            "users",
            UsersService(self._isolation, asked),
            rules=USERS_RULES,
            hooks=users_hooks(self.passwords),
        )
        users.add_hooks({"around": {"create": [limit(self.attempts, sign_up_attempt)]}})
        users.add_hooks(session_hooks(self.ledger, self.identities))
        for event in ("patched", "updated", "removed"):
            users.on(event, self._follow_user)
        account_tokens = AccountTokens(self._isolation)
        letters = Letters(self.outbox, account_tokens)
        users.add_hooks(account_hooks(account_tokens, letters, self.errands))
        offer_entities(
            self._app,
            self._isolation,
            self.entities,
            self.directory,
            tokens=account_tokens,
            letters=letters,
            errands=self.errands,
            follow=self.logins.follow_rights,
            vault=self._secrets,
        )
        self._app.use(
            ACCOUNTS,
            AccountsService(self._app, account_tokens, letters, self.errands, self.passwords, asked=asked),
            rules={"create": "public"},
            hooks={"around": {"create": [limit(self.attempts, account_attempt)]}, "before": {"all": [silence]}},
        )

    def _tell_login(self, context: HookContext) -> None:
        if context.params.provider is not None:
            params, connection = context.params, context.params.connection
            if connection is not None and connection.tenant.id != params.tenant.id:
                # Who has gone on in another app has logged in there.
                params = replace(params, tenant=connection.tenant, user=connection.user)
            self._app.happen("login", context.result, params)

    def _tell_logout(self, context: HookContext) -> None:
        if context.params.provider is not None:
            self._app.happen("logout", context.result, context.params)

    async def _follow_user(self, user: Any, context: HookContext) -> None:
        """Live connections see their user's changes at once, and a removed user is logged out."""
        await self.logins.follow_user(context.tenant.id, user, removed=context.method == "remove")
