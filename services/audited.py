"""What of the calls to Roost's own services goes into the audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from hooks.chain import AroundHook, Next
from hooks.context import HookContext
from hooks.errors import FeathersError, Forbidden, NotAuthenticated, to_feathers_error
from hooks.limit import FIELD
from hooks.permission import PRINCIPAL_PREFIX
from hooks.tenancy import FIELD as APP_ID
from hooks.tenant import Tenant
from services import api_keys, identities, sessions, users
from services.accounts.service import PATH as ACCOUNTS
from services.application import Application
from services.audit import Audit, Happening, failure_of
from services.authentication.names import LONGEST
from services.control.own_rules import OwnRules
from services.control.tenants import Change
from services.entities.registry import ENTITIES, Entity
from services.registration import HooksByKind

log = structlog.get_logger()

Note = Callable[[HookContext, FeathersError | None], None]
"""Adds an entry for a call that has ended, if it is worth one."""

TELLING = ("name", "identifier", "org_id", "user_id", "role_id", "rs_identifier", "permission")
"""Fields of entities that an entry repeats."""
ACCOUNT_EVENTS: Mapping[str, str] = {
    "reset-request": "password-reset-requested",
    "reset": "password-reset",
    "change-password": "password-changed",
    "change-email": "email-changed",
    "verify": "email-verified",
    "invite": "user-invited",
    "accept-invitation": "sign-up",
    "remove-account": "user-removed",
}
"""By action of the accounts service."""


Home = Callable[[], Tenant | None]
"""The control plane's tenant, as far as it is known."""
DONE: Mapping[str, str] = {
    "create": "created",
    "update": "changed",
    "patch": "changed",
    "remove": "removed",
    "accept": "accepted",
}
"""What an entry says of a method of an entity service."""


def watch_services(app: Application, audit: Audit, home: Home = lambda: None) -> None:
    """Adds the hooks to those of Roost's own services, which are registered by then."""
    for entity in ENTITIES:
        for path in entity.paths:
            if path in app.services:
                offered = app.services[path].methods
                app.service(path).add_hooks(entity_hooks(audit, entity, offered, home))
    for path, hooks in {
        "authentication": authentication_hooks(audit),
        users.COLLECTION: users_hooks(audit),
        ACCOUNTS: account_hooks(audit),
        sessions.PATH: sessions_hooks(audit),
        identities.PATH: identities_hooks(audit),
        api_keys.PATH: api_keys_hooks(audit),
    }.items():
        app.service(path).add_hooks(hooks)


def authentication_hooks(audit: Audit) -> HooksByKind:
    """Signing in and out. That a client shows its access token again is neither."""

    def sign_in(context: HookContext, error: FeathersError | None) -> None:
        data = context.data if isinstance(context.data, Mapping) else {}
        strategy = data.get("strategy")
        if strategy == "jwt" or not (error is None or isinstance(error, NotAuthenticated)):
            return
        if strategy == "refresh" and error is None:
            return
        outcome, details = failure_of(error)
        user = None if error is not None else _id_of(context.result.get("user"))
        name = data.get(context.tenant.auth.username_field)
        subject = user or (name if isinstance(name, str) and len(name) <= LONGEST else None)
        if isinstance(strategy, str):
            details["strategy"] = strategy[:32]
        if strategy == "oauth" and isinstance(data.get("provider"), str):
            details["provider"] = data["provider"][:32]
            if data.get("link") is True:
                details["linked"] = "yes"
        audit.add(
            context.tenant,
            "sign-in",
            outcome=outcome,
            actor_id=user,
            subject=subject,
            params=context.params,
            details=details,
        )

    def sign_out(context: HookContext, error: FeathersError | None) -> None:
        if error is None:
            user = _id_of(context.result.get("user"))
            audit.add(context.tenant, "sign-out", actor_id=user, subject=user, params=context.params)

    return {"around": {"create": [_watch(sign_in)], "remove": [_watch(sign_out)]}}


def users_hooks(audit: Audit) -> HooksByKind:
    """Sign-ups, new passwords and removals by way of the users service."""

    def sign_up(context: HookContext, error: FeathersError | None) -> None:
        outcome, details = failure_of(error)
        made = None if error is not None else _id_of(context.result)
        audit.add(
            context.tenant,
            "sign-up",
            outcome=outcome,
            actor_id=made,
            subject=made,
            params=context.params,
            details=details,
        )

    def change(context: HookContext, error: FeathersError | None) -> None:
        if isinstance(context.data, Mapping) and FIELD in context.data:
            _add(audit, "password-changed", context, error)

    def remove(context: HookContext, error: FeathersError | None) -> None:
        if error is None:
            _add(audit, "user-removed", context, error)

    return {
        "around": {
            "create": [_watch(sign_up)],
            "update": [_watch(change)],
            "patch": [_watch(change)],
            "remove": [_watch(remove)],
        }
    }


def account_hooks(audit: Audit) -> HooksByKind:
    """What people do about their own accounts."""

    def act(context: HookContext, error: FeathersError | None) -> None:
        data = context.data if isinstance(context.data, Mapping) else {}
        action = data.get("action")
        event = ACCOUNT_EVENTS.get(action) if isinstance(action, str) else None
        if event is None:
            return
        name = data.get(context.tenant.auth.username_field)
        subject = name if action == "reset-request" and isinstance(name, str) and len(name) <= LONGEST else None
        _add(audit, event, context, error, subject=subject)

    return {"around": {"create": [_watch(act)]}}


def sessions_hooks(audit: Audit) -> HooksByKind:
    """Ending sessions, one or all of them."""

    def end(context: HookContext, error: FeathersError | None) -> None:
        if error is None:
            _add(audit, "sign-out" if context.id is not None else "sign-out-everywhere", context, error)

    return {"around": {"remove": [_watch(end)]}}


def identities_hooks(audit: Audit) -> HooksByKind:
    """Parting with a way to sign in."""

    def unlink(context: HookContext, error: FeathersError | None) -> None:
        _add(audit, "identity-unlinked", context, error, subject=None if error else _id_of(context.result))

    return {"around": {"remove": [_watch(unlink)]}}


def api_keys_hooks(audit: Audit) -> HooksByKind:
    """API keys that come and go; of a key its id alone."""

    def make(context: HookContext, error: FeathersError | None) -> None:
        _add(audit, "api-key-created", context, error, subject=None if error else _id_of(context.result))

    def revoke(context: HookContext, error: FeathersError | None) -> None:
        _add(audit, "api-key-revoked", context, error, subject=None if error else _id_of(context.result))

    return {"around": {"create": [_watch(make)], "remove": [_watch(revoke)]}}


def entity_hooks(audit: Audit, entity: Entity, methods: Sequence[str], home: Home) -> HooksByKind:
    """Writes to entities, and those that were forbidden. What managers do in an app stands in the control plane's log too."""
    noun = entity.name.replace(" ", "-")

    def write(context: HookContext, error: FeathersError | None) -> None:
        if error is not None and not isinstance(error, Forbidden):
            return
        record = {} if error is not None or not isinstance(context.result, Mapping) else context.result
        outcome, failed = failure_of(error)
        details: dict[str, Any] = {**failed}
        details |= {name: str(record[name]) for name in TELLING if name in record}
        if context.method in ("update", "patch") and isinstance(context.data, Mapping):
            details["fields"] = sorted(set(context.data) - {APP_ID})
        actor = _id_of(context.params.user)
        subject = _id_of(record) or (None if context.id is None else str(context.id)[:64])
        event, plane = f"{noun}-{DONE[context.method]}", home()
        note = partial(audit.add, outcome=outcome, actor_id=actor, subject=subject, params=context.params)
        note(context.tenant, event, details=details)
        if plane is not None and actor is not None and actor.startswith(PRINCIPAL_PREFIX):
            note(plane, event, details={**details, "app": context.tenant.id})

    watched = [method for method in methods if method in DONE]
    return {"around": {method: [_watch(write)] for method in watched}}


def note_applied(audit: Audit, change: Change, before: Tenant | None, after: Tenant, plane: Tenant | None) -> None:
    """Adds what applying a declaration has changed: the names of what is different, nothing of its content.

    What is not made yet has nowhere to keep a log: then it is in that of the control plane, `plane`.
    """
    old = {} if before is None else before.services
    services = sorted(path for path in {*old, *after.services} if old.get(path) != after.services.get(path))
    details: dict[str, Any] = {"by": "operator", "outcome": change.outcome, "services": services}
    if before is not None:
        details["auth"] = before.auth != after.auth
    into = plane if after.status in ("provisioning", "failed") else after
    if into is not None:
        audit.add(into, "app-applied", subject=after.id, details=details)


class RuleLog:
    """Adds to an app's log what has changed in the rules that come with the code.

    Such a change concerns every app. It is written when an app's log is read: nothing is written for those nobody reads.
    """

    def __init__(self, audit: Audit, own_rules: OwnRules) -> None:
        self._audit = audit
        self._own_rules = own_rules

    async def complete(self, tenant: Tenant) -> None:
        """Writes what is missing in the tenant's log."""
        changes = await self._own_rules.changes_since_creation(tenant.id)
        happenings = [
            Happening(change.id, change.at, "rules-changed", {"by": "operator", "services": [*change.services]})
            for change in changes
        ]
        await self._audit.complete(tenant, happenings)


def _watch(note: Note) -> AroundHook:
    """Around: notes how an external call has ended. A fault in the noting is logged, and leaves the call alone."""

    async def watch(context: HookContext, next: Next) -> None:
        if context.params.provider is None:
            await next()
            return
        try:
            await next()
        except Exception as error:
            note_safely(context, to_feathers_error(error))
            raise
        note_safely(context, None)

    def note_safely(context: HookContext, error: FeathersError | None) -> None:
        try:
            note(context, error)
        except Exception as fault:
            log.error("a call was not audited", path=context.path, error=type(fault).__name__)  # noqa: TRY400

    return watch


def _add(
    audit: Audit, event: str, context: HookContext, error: FeathersError | None, *, subject: str | None = None
) -> None:
    outcome, details = failure_of(error)
    actor = _id_of(context.params.user)
    audit.add(
        context.tenant,
        event,
        outcome=outcome,
        actor_id=actor,
        subject=subject or actor,
        params=context.params,
        details=details,
    )


def _id_of(record: Any) -> str | None:
    return str(record["_id"]) if isinstance(record, Mapping) and "_id" in record else None
