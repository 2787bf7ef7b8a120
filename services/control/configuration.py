"""A tenant's configuration as its operators change it: checked as a whole, counted, and never over somebody else's change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator
from pymongo import ReturnDocument

from hooks.errors import BadRequest, Conflict, Forbidden, NotFound
from hooks.tenant import Tenant
from services.control import public_keys
from services.control.inheritance.selection import Selection
from services.control.provider_rules import ProviderRules
from services.control.snapshot import to_tenant
from services.control.tenants import COLLECTION, EXCLUDED, LookAt, control_database
from services.database.deployment import Deployment
from services.database.faults import DRIVER_ERRORS, from_driver
from services.database.transaction import current_session
from services.declaration.model import Strict, as_tuple
from services.declaration.tenant import LimitsDeclaration, Origin, Word


def _as_declared(given: dict[str, Any]) -> dict[str, Any]:
    """Only what is said: the rest is the control plane's to say."""
    return Selection.model_validate(given).model_dump(mode="json", exclude_unset=True)


class _Changes(Strict):
    """What may be changed. Each key replaces the whole value that it names."""

    name: Annotated[str, Field(min_length=1, max_length=120)] = "-"
    is_active: bool = True
    allowed_origins: tuple[Origin, ...] = ()
    require_origin: bool = False
    limits: LimitsDeclaration = LimitsDeclaration()
    plan: Word = "default"
    region: Word | None = None
    sync_exclude: tuple[Word, ...] = ()
    inheritance: Annotated[dict[str, Any], AfterValidator(_as_declared)] = {}
    providers: dict[str, dict[str, Any]] = {}

    @field_validator("allowed_origins", "sync_exclude", mode="before")
    @classmethod
    def _accept_list(cls, values: Any) -> Any:
        return as_tuple(values)


_DEFAULTS = _Changes().model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Changed:
    """The tenant before and after, and the keys that are different: what the audit log may name."""

    before: Tenant
    after: Tenant
    keys: tuple[str, ...]


class Configuration:
    """Changes the configuration of tenants; running servers hear of it within seconds (TC-11, TC-12)."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        database: str,
        control_plane: str = "control_plane",
        providers: ProviderRules | None = None,
        look_at: LookAt | None = None,
    ) -> None:
        """`providers` checks what is configured of them; without it there are none. `look_at` is as of `Tenants`."""
        self._deployment = deployment
        self._providers = providers
        self._look_at = look_at
        self._control = control_database(database)
        self._control_plane = control_plane

    async def change(
        self, id: str, changes: dict[str, Any], *, epoch: int | None = None, dry_run: bool = False
    ) -> Changed:
        """Sets what `changes` names. With `epoch`, only if the tenant is still as it was then; `dry_run` writes nothing.

        Raises:
            BadRequest: a change is not understood; `errors` names each mistake. Conflict: somebody was faster.
            Forbidden: the control plane is always active. NotFound: there is no such tenant.
        """
        wanted = check(changes)
        if id == self._control_plane and wanted.get("is_active") is False:
            raise Forbidden("Cannot deactivate the control plane")
        if "providers" in wanted:
            if self._providers is None:
                raise BadRequest("There are no providers here")
            await self._providers.check(id, wanted["providers"])
        try:
            found = await self._documents.find_one({"_id": id}, max_time_ms=2000)
            if found is None:
                raise NotFound(f"There is no tenant '{id}'")
            if epoch is not None and found["epoch"] != epoch:
                raise Conflict(f"The tenant '{id}' has been changed meanwhile: read it again")
            before = to_tenant(found)
            keys = tuple(sorted(key for key, value in wanted.items() if found.get(key, _DEFAULTS[key]) != value))
            if dry_run or not keys:
                return Changed(before, to_tenant({**found, **wanted}), keys)
            update = {
                "$set": {key: wanted[key] for key in keys},
                "$inc": {"epoch": 1, "settings_rev": 1},
                "$currentDate": {"updated_at": True},
            }
            after = await self._write(id, found["epoch"], update, looked_at=EXCLUDED in keys)
        except DRIVER_ERRORS as error:
            raise from_driver(error) from error
        if after is None:
            raise Conflict(f"The tenant '{id}' has been changed meanwhile: read it again")
        return Changed(before, to_tenant(after), keys)

    async def _write(self, id: str, epoch: int, update: dict[str, Any], *, looked_at: bool) -> dict[str, Any] | None:
        """The entry as it is then, if it was still of this epoch; `looked_at` leaves word of it for the sync."""

        async def write() -> dict[str, Any] | None:
            session = current_session(self._deployment.client)
            found: dict[str, Any] | None = await self._documents.find_one_and_update(
                {"_id": id, "epoch": epoch}, update, return_document=ReturnDocument.AFTER, session=session
            )
            if found is not None and looked_at and self._look_at is not None:
                await self._look_at(id, found["epoch"])
            return found

        return await (self._deployment.transaction(write) if looked_at else write())

    async def rotate_public_key(self, id: str) -> tuple[str, ...]:
        """Gives a tenant a new public key; the one before stays valid. The valid keys, the newest first.

        Raises:
            NotFound: there is no such tenant.
        """
        return await public_keys.rotate(self._documents, id)

    @property
    def _documents(self) -> Any:
        return self._deployment.client[self._control][COLLECTION]


def check(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes as they are stored.

    Raises:
        BadRequest: with each mistake as `{path, message}`.
    """
    try:
        model = _Changes.model_validate(changes)
    except ValidationError as error:
        faults = [
            {"path": ".".join(map(str, fault["loc"])), "message": fault["msg"].removeprefix("Value error, ")}
            for fault in error.errors()
        ]
        raise BadRequest("The configuration has mistakes", errors=faults) from error
    return model.model_dump(mode="json", include=set(changes))
