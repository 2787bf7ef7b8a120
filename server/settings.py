"""All settings of a Roost process, in one model. Each is an environment variable with the prefix `ROOST_`."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from hooks.permission import TENANT_ADMIN, TENANT_LEVEL
from hooks.tenant import RESERVED_IDS
from services.control.sync.model import Switches
from services.declaration.placement import PlacementDeclaration
from services.redirects import parse_target

PREFIX = "ROOST_"
_CLUSTER = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class SettingsError(Exception):
    """A setting is unknown or invalid; each line names its variable and what is wrong."""


def _check_public_url(url: str) -> str:
    target = parse_target(url)
    if target.path != "/" or target.query:
        raise ValueError("must be scheme://host or scheme://host:port, without a path")
    return target.origin


class SyncSettings(BaseModel):
    """What the control plane has of which types is copied into all apps, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resource_servers: bool = True
    roles: bool = True
    role_permissions: bool | None = None
    connections: bool = True
    on_disable: Literal["keep_protected", "release", "remove"] = "keep_protected"
    should_sync: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    at_once: int = Field(16, ge=1, le=64)
    attempts: int = Field(10, ge=1, le=100)

    def switches(self) -> Switches:
        """The same for the engine.

        Raises:
            ImportError, AttributeError, ValueError: `should_sync` names no function.
        """
        own = self.model_dump(include={"resource_servers", "roles", "role_permissions", "connections", "on_disable"})
        if self.should_sync is None:
            return Switches(**own)
        module, _, name = self.should_sync.partition(":")
        predicate = getattr(importlib.import_module(module), name)
        if not callable(predicate):
            raise ValueError(f"'{self.should_sync}' is no function")
        return Switches(**own, should_sync=predicate)


class Settings(BaseSettings):
    """Settings come from the environment, and command-line options override them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3030, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data: Path = Field(Path("data"), description="Directory of the embedded MongoDB's files and the development keys.")
    example: Path = Field(Path("client-example"), description="Directory of the example page served at /example/.")
    mongodb_uri: SecretStr | None = Field(
        None,
        description="A MongoDB replica set to use. Without it, an embedded mongod is started in the data directory.",
    )
    mongod_port: int | None = Field(None, ge=1, le=65535, description="Port of the embedded mongod; else a free one.")
    database: str = Field(
        "roost",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,47}$",
        description="Database of the tenants' data; the control plane's is named `<database>_control`.",
    )
    control_plane: str = Field(
        "control_plane",
        pattern=r"^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$",
        description="The appId of the control plane, whose users manage the other apps.",
    )
    admin_username: str = Field(
        "admin", min_length=1, max_length=128, description="The control plane's first user, made at the first start."
    )
    admin_password: SecretStr | None = Field(
        None,
        description="His password. Without it one is made up, and printed once, at the first start.",
    )
    self_test: bool = Field(
        True,
        description="Try at each start what the guards between apps must refuse, and do not start if it goes through.",
    )
    reserved_ids: Annotated[frozenset[str], NoDecode] = Field(
        RESERVED_IDS, description="Ids, separated by commas, that no new app may have."
    )
    creator_permissions: Annotated[tuple[str, ...], NoDecode] = Field(
        (TENANT_ADMIN,),
        description="Permissions, separated by commas, that who makes an app has in it: what the role `tenant-admin` is "
        "given when it is made.",
    )
    tenants_per_creator: int | None = Field(
        None,
        ge=0,
        description="Apps that a user of the control plane may have made, unless he holds `admin:organizations`. "
        "Without it, any number.",
    )
    clusters: SecretStr | None = Field(
        None,
        description="Further clusters on which apps can have databases of their own: a JSON object of MongoDB URIs by name.",
    )
    placement: Annotated[PlacementDeclaration | None, NoDecode] = Field(
        None,
        description="Where the data of new apps is kept that say nothing of it: an isolation model, or a JSON object as "
        "`placement` in a declaration. Without it, in the shared database.",
    )
    dedicated_pool: int = Field(
        5, ge=1, le=1000, description="Connections to each server of a database that one app alone uses, at most."
    )
    node_lease: float = Field(
        10.0,
        ge=2,
        le=60,
        description="Seconds without the control plane's database after which a server writes no data any more.",
    )
    mongo_path: Literal["pymongo", "lean"] = Field("lean", description="How data commands reach MongoDB.")
    mongo_pool: int = Field(50, ge=1, le=1000, description="Connections to each MongoDB server, at most.")
    query_time: int = Field(2000, ge=50, le=60_000, description="Milliseconds that one database command may take.")
    master_key: SecretStr | None = Field(
        None,
        description="32 bytes in base64url that encrypt the tenants' signing keys. "
        "Required with ROOST_MONGODB_URI; else made in the data directory.",
    )
    max_connections: int = Field(20_000, ge=1, le=1_000_000, description="Sockets of this process; more are refused.")
    token_lifetime: int = Field(86_400, ge=10, le=31_536_000, description="Seconds for which an access token is valid.")
    idle_hashing: bool = Field(
        True,
        description="Hash passwords in processes that run when nobody else wants a processor (on Linux); else in threads.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="SMTP server for mails to users: smtps://user:password@host:465, or smtp://host:587 for STARTTLS. "
        "Without it mails become files in the data directory's folder `mail`.",
    )
    mail_from: str | None = Field(None, description="Address that mails come from. Required with ROOST_SMTP_URL.")
    public_url: Annotated[str, AfterValidator(_check_public_url)] | None = Field(
        None,
        description="Where browsers reach this server, such as https://api.example.com: providers by whom users sign in "
        "send them back there. Without it, the address that the server listens on.",
    )
    outbound_private: bool = Field(
        False,
        description="Let the server fetch identity providers' keys over http and from private addresses: "
        "for development and tests.",
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        (),
        description="Networks of proxies, separated by commas, whose X-Forwarded-For tells where a request comes from.",
    )
    base_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts of this server, separated by commas. With any, an app is reached at <appId>.<base host> or at a "
        "domain of its own, the control plane at the base host itself, and other hosts are unknown.",
    )
    reserved_hosts: Literal["control_plane", "unknown"] = Field(
        "control_plane", description="What <reserved id>.<base host> means."
    )
    plan_connections: Annotated[dict[str, Annotated[int, Field(ge=0)]], NoDecode] = Field(
        {},
        description="Sockets that apps may have by plan, such as free=100,pro=5000; plans that are not named have no limit.",
    )
    heartbeat: float = Field(
        10.0,
        ge=2.0,
        le=20.0,
        description="Seconds after which a process says again how many sockets it holds of apps with a limit. One that is "
        "silent half as long again is taken for dead.",
    )
    dns_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Name servers, separated by commas, as address or address:port, that are asked about apps' own "
        "domains. Without any, the system's.",
    )
    name_failures: int = Field(
        10, ge=1, le=1000, description="Logins by password that may fail in 15 minutes for one user name of an app."
    )
    address_failures: int = Field(
        100, ge=1, le=1_000_000, description="Attempts that may fail in 15 minutes from one address in one app."
    )
    audit_days: int = Field(90, ge=1, le=3650, description="Days for which entries of the audit log are kept.")
    modules: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Python modules, separated by commas, whose `configure(app)` adds services and hooks."
    )
    sync: SyncSettings = Field(
        SyncSettings.model_validate({}),
        description="What the control plane has that is copied into all apps: a JSON object with the switches "
        "resource_servers, roles, role_permissions, connections, with on_disable (keep_protected, release or remove), "
        "should_sync (module:function), at_once and attempts; or false for nothing at all.",
    )
    bus: SecretStr | None = Field(
        None,
        description="The Redis by which nodes tell each other of events, `redis://host:port`; without it, MongoDB does.",
    )
    rates: SecretStr | None = Field(
        None,
        description="The Redis in which calls are counted for limits of rates, `redis://host:port`; without it, in MongoDB.",
    )
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="The bearer token that requests for /metrics need; without it, only this machine gets them.",
    )
    tracing: bool = Field(
        False, description="Whether calls and commands are traced by OpenTelemetry, which the extra `tracing` installs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Log lines as JSON or for reading; auto is JSON unless standard error is a terminal."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @field_validator("sync", mode="before")
    @classmethod
    def _switch_all(cls, value: Any) -> Any:
        if not isinstance(value, bool):
            return value
        return dict.fromkeys(("resource_servers", "roles", "connections"), value)

    @field_validator("clusters")
    @classmethod
    def _check_clusters(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            named_clusters(value.get_secret_value())
        return value

    @field_validator("placement", mode="before")
    @classmethod
    def _read_placement(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if not value.lstrip().startswith("{"):
            return {"model": value}
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be an isolation model, or a JSON object as `placement` in a declaration") from None

    @field_validator("plan_connections", mode="before")
    @classmethod
    def _split_pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = (pair.partition("=") for pair in value.split(",") if pair.strip())
        return {name.strip(): limit.strip() for name, _, limit in pairs}

    @field_validator(
        "modules", "trusted_proxies", "base_hosts", "reserved_ids", "dns_servers", "creator_permissions", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("creator_permissions")
    @classmethod
    def _check_permissions(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        known = TENANT_LEVEL | {TENANT_ADMIN}
        if not words or not known.issuperset(words):
            raise ValueError(f"must be some of {', '.join(sorted(known))}")
        return words


def named_clusters(text: str) -> dict[str, str]:
    """The URIs by name in the setting `clusters`.

    Raises:
        ValueError: it is not what it has to be; the sentence repeats nothing of it.
    """
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("must be a JSON object of MongoDB URIs by name") from None
    if not isinstance(found, dict):
        raise ValueError("must be a JSON object of MongoDB URIs by name")
    for name, uri in found.items():
        if not _CLUSTER.fullmatch(name) or name == "default":
            raise ValueError("a cluster's name has lower case letters, digits, - and _, and is not 'default'")
        if not isinstance(uri, str) or not uri.startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError(f"'{name}' is not a MongoDB URI")
    return found


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process; `overrides` are options that were given, None stands for not given.

    Raises:
        SettingsError: an unknown `ROOST_` variable, or a value that is not valid, by its name.
    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise SettingsError("\n".join(f"{name}: is not a setting of Roost" for name in unknown))
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = (f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors() if fault["loc"])
        raise SettingsError("\n".join(lines)) from error
