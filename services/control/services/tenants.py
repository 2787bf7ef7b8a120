"""The service `tenants`: the apps, as those see and change them who manage them from the control plane (CP-10 to CP-16)."""

from __future__ import annotations

import re
import secrets
import string
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field as Bounds
from pydantic import ValidationError, field_validator

from hooks.context import UNSET, HookContext, Params, Record
from hooks.control import Manager, control_plane_only, manager
from hooks.errors import BadRequest, Conflict, Forbidden, MethodNotAllowed, NotFound
from hooks.permission import ADMIN_ORGANIZATIONS
from hooks.tenancy import FIELD, asked
from hooks.tenant import TENANT_ID
from services.audit import Audit
from services.base import Page, Service
from services.control.configuration import Configuration
from services.control.lifecycle import Actor, Lifecycle
from services.control.listing import Field, moment, parse, text
from services.control.memberships import Memberships
from services.control.operations import Operation, Operations
from services.control.sagas import PROVISION
from services.control.tenants import Tenants
from services.declaration import TenantDeclaration
from services.declaration.model import Strict, as_tuple
from services.declaration.tenant import Origin, Word
from services.registration import HooksByKind
from services.tenant_hooks import TenantCall

PATH = "tenants"
ALIAS = "apps"
READ, CREATE, UPDATE, DELETE = (f"{verb}:tenants" for verb in ("read", "create", "update", "delete"))
SETTINGS = "update:tenant_settings"
HEARING = {"permission": READ}
"""Who hears of the events, in the control plane alone."""

FIELDS: Mapping[str, Field] = {
    "_id": Field("_id", text),
    "friendly_name": Field("name", text, is_prefix=True),
    "status": Field("status", text),
    "plan": Field("plan", text),
    "created_at": Field("created_at", moment),
}
"""By what may be asked and ordered."""
OWN_CHANGES = frozenset({"friendly_name", "allowed_origins", "require_origin"})
"""What administrators of one tenant may change of it."""
CHANGES = OWN_CHANGES | {"is_active", "limits", "plan", "region", "sync_exclude", "inheritance", "providers"}
"""What managers of the platform may change."""
_SHOWN = (
    "status is_active plan region allowed_origins require_origin limits sync_exclude inheritance public_keys epoch "
    "settings_rev created_by created_at updated_at"
).split()


class _New(Strict):
    """What `create` takes (CP-14)."""

    id: str | None = None
    friendly_name: Annotated[str, Bounds(min_length=1, max_length=120)]
    plan: Word = "default"
    region: Word | None = None
    allowed_origins: tuple[Origin, ...] = ()

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _accept_list(cls, values: Any) -> Any:
        return as_tuple(values)


class TenantsService(Service):
    """Apps: `{_id, friendly_name, status, is_active, plan, region, allowed_origins, audience, epoch, ...}`."""

    control_plane = True
    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True, "description": "The appId."},
        "friendly_name": {"type": "string", "required": True},
        "status": {"type": "string"},
        "is_active": {"type": "boolean"},
        "plan": {"type": "string"},
        "region": {"type": ["string", "null"]},
        "allowed_origins": {"type": "array", "items": {"type": "string"}},
        "require_origin": {"type": "boolean"},
        "limits": {"type": "object"},
        "sync_exclude": {"type": "array", "items": {"type": "string"}},
        "inheritance": {"type": "object", "description": "Which settings come from the control plane."},
        "public_keys": {"type": "array", "items": {"type": "string"}},
        "audience": {"type": "string"},
        "is_control_plane": {"type": "boolean"},
        "epoch": {"type": "integer", "description": "Give it to `patch` as `?epoch=`: 409 if somebody was faster."},
        "settings_rev": {"type": "integer"},
        "created_by": {"type": ["string", "null"]},
        "created_at": {"type": "string"},
        "updated_at": {"type": "string"},
        "operation": {"type": ["string", "null"], "description": "What is being done to it."},
    }
    data_schema: Mapping[str, Any] = {
        "id": {"type": "string", "description": "The appId; without it one is made of the name."},
        "friendly_name": {"type": "string", "required": True, "minLength": 1, "maxLength": 120},
        "plan": {"type": "string"},
        "region": {"type": ["string", "null"]},
        "allowed_origins": {"type": "array", "items": {"type": "string"}},
    }

    def __init__(
        self,
        tenants: Tenants,
        lifecycle: Lifecycle,
        operations: Operations,
        configuration: Configuration,
        *,
        audit: Audit,
        memberships: Memberships,
        control_plane: str,
        most: int | None = None,
    ) -> None:
        """`control_plane` is its tenant's id; `most` is how many apps a user may have who does not manage all of them."""
        self._tenants = tenants
        self._lifecycle = lifecycle
        self._operations = operations
        self._configuration = configuration
        self._audit = audit
        self.memberships = memberships
        self._control_plane = control_plane
        self._most = most

    def hooks(self) -> HooksByKind:
        """For `Application.use`. Events go to the control plane alone, from where operations are followed, not from here."""
        return {
            "before": {"all": [control_plane_only(self._control_plane)], "create": [self._answer_repeated]},
            "after": {"all": [_keep_quiet], "remove": [_accept]},
        }

    async def find(self, params: Params) -> Page:
        """The apps that the caller may see, 50 at a time, at most 100 (CP-10, CP-12)."""
        listing = parse(asked(params.query), FIELDS)
        visible = await self._visible(params)
        chosen = listing.filter if visible is None else {"$and": [listing.filter, {"_id": {"$in": sorted(visible)}}]}
        total, found = await self._tenants.page(chosen, sort=listing.sort, skip=listing.skip, limit=listing.limit)
        return {"total": total, "limit": listing.limit, "skip": listing.skip, "data": [shown(one) for one in found]}

    async def get(self, id: Any, params: Params) -> Record:
        """One app.

        Raises:
            NotFound: there is none with this id that the caller may see (CP-13).
        """
        return shown(await self._seen(id, params))

    async def create(self, data: Any, params: Params) -> Record:
        """Makes an app, and waits some seconds until it is ready.

        The query's `idempotency_key`, or the header `Idempotency-Key`, makes a repeated call answer the same app (CP-22).

        Raises:
            Forbidden: the caller may not, or has as many as he may. BadRequest: the data has mistakes.
            Conflict: the id is taken.
        """
        caller = self._caller(params)
        if caller is not None:
            _check_creator(caller)
        wanted = _checked(data)
        id = wanted.id or _id_for(wanted.friendly_name)
        given = wanted.model_dump(mode="json", exclude_unset=True, exclude={"id", "friendly_name"})
        if not TENANT_ID.fullmatch(id):
            raise BadRequest("An app's id has 3 to 63 lower case letters, digits and inner hyphens")
        declared = TenantDeclaration.model_validate({"id": id, "name": wanted.friendly_name, **given})
        most = None if caller is None or caller.may(ADMIN_ORGANIZATIONS) else self._most
        operation = await self._lifecycle.create(
            declared, _actor(params, caller), idempotency_key=idempotency_key(params), most=most
        )
        return await self._made(operation, wanted.id)

    async def patch(self, id: Any, data: Any, params: Params) -> Record:
        """Changes an app (CP-15, TC-12). `?epoch=` has it fail with 409 if it is not as it was; `?dry_run=true` only checks.

        Raises:
            MethodNotAllowed: several at once. NotFound: none that the caller may see. Forbidden: he may not.
            BadRequest: the changes have mistakes. Conflict: somebody was faster.
        """
        if id is None:
            raise MethodNotAllowed("Apps are changed one at a time")
        document = await self._seen(id, params, UPDATE)
        caller = self._caller(params)
        if not isinstance(data, Mapping):
            raise BadRequest("The changes are an object")
        allowed = CHANGES if caller is None else _changes_of(caller, document["_id"])
        data = {key: value for key, value in data.items() if key != FIELD}
        if unknown := sorted(set(data) - allowed):
            raise BadRequest(f"These cannot be changed: {', '.join(name[:64] for name in unknown)}")
        epoch, dry_run = _options(params)
        call = TenantCall(document["_id"], _actor(params, caller).name, params.provider)
        refined = dict(await self._lifecycle.hooks().before_update(call, data))
        wanted = {("name" if key == "friendly_name" else key): value for key, value in refined.items()}
        changed = await self._configuration.change(document["_id"], wanted, epoch=epoch, dry_run=dry_run)
        if changed.keys and not dry_run:
            details = {"by": _actor(params, caller).name, "keys": [*changed.keys]}
            await self._note("app-changed", document["_id"], params, caller, details)
            await self._lifecycle.tell_updated(changed.after, _actor(params, caller))
        return shown({**document, **wanted} if dry_run else await self._tenants.document(document["_id"]))

    async def remove(self, id: Any, params: Params) -> Record:
        """Begins to delete an app, for good; the operation, which goes on (CP-16). Needs `?confirm=` with the appId.

        Raises:
            MethodNotAllowed: several at once. Forbidden: the control plane, or the caller may not.
            NotFound: none that the caller may see. BadRequest: it is not confirmed.
        """
        if id is None:
            raise MethodNotAllowed("Apps are deleted one at a time")
        self._lifecycle.check_deletable(str(id))
        document = await self._seen(id, params, DELETE)
        caller = self._caller(params)
        if caller is not None:
            _check_remover(caller, document["_id"])
        if asked(params.query).get("confirm") != document["_id"]:
            raise BadRequest(
                f"This deletes the app with all its users and data: confirm it with confirm={document['_id']}"
            )
        return (await self._lifecycle.delete(document["_id"], _actor(params, caller))).shown()

    async def _answer_repeated(self, context: HookContext) -> None:
        """Before create: who asks again with his key gets the app of the first time, with 200 and without an event."""
        key = idempotency_key(context.params)
        caller = self._caller(context.params)
        if key is None or caller is None:
            return
        _check_creator(caller)
        earlier = await self._operations.by_key(_actor(context.params, caller).name, key)
        if earlier is not None and earlier.kind == PROVISION:
            named = context.data.get("id") if isinstance(context.data, Mapping) else None
            context.result = await self._made(await self._lifecycle.settle(earlier.id), named)
            context.http["status"] = 200

    async def _made(self, operation: Operation, named: str | None) -> Record:
        if named is not None and named != operation.app_id:
            raise Conflict("This idempotency key was used for another app")
        document = await self._tenants.document(operation.app_id)
        return {**shown(document), "operation": operation.id if operation.is_active else None}

    async def _seen(self, id: Any, params: Params, verb: str = READ) -> Record:
        """The entry of an app that the caller may see, or with `verb` may do this to.

        Raises:
            NotFound: whether there is none or he may not see it (CP-13).
        """
        if isinstance(id, str):
            visible = await self._visible(params, verb)
            if visible is None or id in visible:
                return await self._tenants.document(id)
        raise NotFound(f"No record found for id '{str(id)[:64]}'")

    async def _visible(self, params: Params, verb: str = READ) -> set[str] | None:
        """The tenants that the caller sees; None is all. His `sub` is looked up because the control plane has issued it."""
        caller = self._caller(params)
        if caller is None or (caller.is_platform and (caller.may(READ) or caller.may(verb))):
            return None
        if caller.is_platform:
            return {*await self.memberships.tenants_of(caller.sub)}
        is_member = await self.memberships.is_member(caller.sub, caller.tenant)
        return {caller.tenant} if is_member else set()

    def _caller(self, params: Params) -> Manager | None:
        """Who calls; None is the server itself."""
        return None if params.provider is None else manager(params)

    async def _note(self, event: str, id: str, params: Params, caller: Manager | None, details: Record) -> None:
        actor = None if caller is None else caller.sub
        for log in (self._control_plane, id):
            tenant = await self._tenants.get(log)
            if tenant is not None:
                self._audit.add(tenant, event, actor_id=actor, subject=id, params=params, details=details)


def shown(document: Mapping[str, Any]) -> Record:
    """An entry of the catalogue as managers see it."""
    record: Record = {"_id": document["_id"], "friendly_name": document["name"]}
    defaults: Record = {
        "is_active": True,
        "plan": "default",
        "allowed_origins": [],
        "require_origin": False,
        "limits": {},
    }
    defaults |= {"sync_exclude": [], "inheritance": {}, "public_keys": [], "settings_rev": 0}
    record |= {name: document.get(name, defaults.get(name)) for name in _SHOWN}
    record["audience"] = f"urn:roost:tenant:{document['_id']}"
    record["is_control_plane"] = document.get("control_plane", False)
    return record


def idempotency_key(params: Params) -> str | None:
    """The key by which a repeated call is known.

    Raises:
        BadRequest: it is no short text.
    """
    key = asked(params.query).get("idempotency_key", params.headers.get("idempotency-key"))
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= 128):
        raise BadRequest("An idempotency key is a text of 1 to 128 characters")
    return key


def _check_creator(caller: Manager) -> None:
    if not caller.is_platform or not caller.may(CREATE):
        raise Forbidden(f"This needs the permission {CREATE} in the control plane, and no organization")


def _check_remover(caller: Manager, id: str) -> None:
    if not caller.may(DELETE) or not (caller.is_platform or caller.tenant == id):
        raise Forbidden(f"This needs the permission {DELETE}")


def _changes_of(caller: Manager, id: str) -> frozenset[str]:
    if caller.is_platform and caller.may(UPDATE):
        return CHANGES
    if not caller.is_platform and caller.tenant == id and caller.may(SETTINGS):
        return OWN_CHANGES
    raise Forbidden(f"This needs the permission {UPDATE} in the control plane")


def _checked(data: Any) -> _New:
    if not isinstance(data, Mapping):
        raise BadRequest("An app is made of an object, one at a time")
    try:
        return _New.model_validate({key: value for key, value in data.items() if key != FIELD})
    except ValidationError as error:
        faults = [
            {"path": ".".join(map(str, fault["loc"])), "message": fault["msg"].removeprefix("Value error, ")}
            for fault in error.errors()
        ]
        raise BadRequest("The app has mistakes", errors=faults) from error


def _id_for(name: str) -> str:
    """An id that speaks of the name, and that nobody has."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    tail = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
    return f"{words or 'app'}-{tail}"


def _options(params: Params) -> tuple[int | None, bool]:
    query = asked(params.query)
    if unknown := sorted(set(query) - {"epoch", "dry_run", "$select"}):
        raise BadRequest(f"A change of an app does not know '{unknown[0][:64]}'")
    epoch, dry_run = query.get("epoch"), query.get("dry_run", False)
    if isinstance(epoch, str) and epoch.isascii() and epoch.isdigit() and len(epoch) < 10:
        epoch = int(epoch)
    if epoch is not None and (not isinstance(epoch, int) or isinstance(epoch, bool)):
        raise BadRequest("epoch is the number that the app had when it was read")
    if dry_run not in (True, False, "true", "false"):
        raise BadRequest("dry_run is true or false")
    return epoch, dry_run in (True, "true")


def _actor(params: Params, caller: Manager | None) -> Actor:
    return Actor(None if caller is None else caller.sub, params.provider)


def _keep_quiet(context: HookContext) -> None:
    """After: the tenant of the call may be a child, which hears nothing of the control plane's services."""
    context.event = None


def _accept(context: HookContext) -> None:
    """After remove: it has only begun."""
    if context.result is not UNSET:
        context.http["status"] = 202
