"""The command line: `python -m server`. Every command works beside a running server and takes effect in it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from hooks.errors import FeathersError
from hooks.tenant import TENANT_ID, Tenant
from server import logs
from server.backend import Backend, StartError, open_backend
from server.documents.typescript import typescript
from server.main import Roost
from server.modules import configure
from server.settings import Settings, SettingsError, load
from services import declaration
from services.control.tenants import Change
from services.declaration import DeclarationError, TenantDeclaration
from services.description import describe
from services.isolation import Isolation
from services.review import review
from services.users import assign, grant

cli = typer.Typer(
    help="Roost: one realtime server for many apps. Every setting is also an environment variable, ROOST_<NAME>.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tenants = typer.Typer(help="Create, list and show the apps that are hosted.", no_args_is_help=True)
cli.add_typer(tenants, name="tenants")
users = typer.Typer(help="Give users permissions and other fields that access rules ask for.", no_args_is_help=True)
cli.add_typer(users, name="users")
keys = typer.Typer(help="Replace and list the keys that sign an app's access tokens.", no_args_is_help=True)
cli.add_typer(keys, name="keys")
secrets = typer.Typer(
    help="Keep what an app's services elsewhere ask for, such as client secrets.", no_args_is_help=True
)
cli.add_typer(secrets, name="secrets")

BY_OPERATOR = {"by": "operator"}
"""In entries of audit logs: whoever runs commands on the server."""

App = Annotated[str, typer.Argument(help="The appId.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
Permission = Annotated[str, typer.Argument(help="The permission; 'admin' manages API keys.")]
SecretName = Annotated[str, typer.Argument(help="The secret's name, as the app's declaration speaks of it.")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory of the embedded MongoDB and development keys.")]


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: Data = None,
    apply: Annotated[Path | None, typer.Option(help="Declarative file to apply before serving.")] = None,
) -> None:
    """Start the server; Ctrl-C or SIGTERM stops it."""
    _run(lambda settings: _serve(settings, apply), host=host, port=port, data=data)


@cli.command()
def check(
    subject: Annotated[
        str | None, typer.Argument(metavar="[FILE|APP]", help="Declarative file, or an app, whose rules to review.")
    ] = None,
    data: Data = None,
) -> None:
    """Check the settings, the database, a declarative file, and what access rules let through; and change nothing."""
    app = subject if subject is not None and TENANT_ID.fullmatch(subject) and not Path(subject).exists() else None
    file = Path(subject) if subject is not None and app is None else None
    _run(lambda settings: _check(settings, file, app), data=data)


@cli.command()
def apply(file: Annotated[Path, typer.Argument(help="Declarative file.")], data: Data = None) -> None:
    """Create and update the tenants and services of a declarative file; nothing is applied in part."""
    _run(lambda settings: _apply(settings, file), data=data)


@cli.command("types")
def write_types(
    id: Annotated[str, typer.Argument(help="The appId.")],
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="File to write, such as types.d.ts, instead of printing.")] = None,
) -> None:
    """Print what an app's services take and return, as types for clients in TypeScript."""
    _run(lambda settings: _types(settings, id, out), data=data)


@tenants.command("create")
def create_tenant(
    id: Annotated[str, typer.Argument(help="The appId: 3 to 63 lower case letters, digits and inner hyphens.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Allowed origin; may be given again.")] = None,
    data: Data = None,
) -> None:
    """Create an app without data services."""
    _run(lambda settings: _create(settings, id, name, origin or []), data=data)


@tenants.command("list")
def list_tenants(data: Data = None) -> None:
    """List all apps."""
    _run(_list, data=data)


@tenants.command("show")
def show_tenant(id: Annotated[str, typer.Argument(help="The appId.")], data: Data = None) -> None:
    """Show an app with its services."""
    _run(lambda settings: _show(settings, id), data=data)


@users.command("grant")
def grant_permission(app: App, name: Name, permission: Permission, data: Data = None) -> None:
    """Give a user a permission."""
    _run(lambda settings: _grant(settings, app, name, permission), data=data)


@users.command("withdraw")
def withdraw_permission(app: App, name: Name, permission: Permission, data: Data = None) -> None:
    """Take a permission from a user."""
    _run(lambda settings: _grant(settings, app, name, permission, withdraw=True), data=data)


@users.command("set")
def set_field(
    app: App,
    name: Name,
    field: Annotated[str, typer.Argument(help="The field, such as one that access rules ask for.")],
    value: Annotated[str, typer.Argument(help="Its value: JSON, or else a text; null takes the field away.")],
    data: Data = None,
) -> None:
    """Set a field of a user, such as the organization: what access rules ask for, clients cannot write."""
    _run(lambda settings: _set(settings, app, name, field, value), data=data)


@keys.command("rotate")
def rotate_keys(
    app: App,
    overlap: Annotated[
        float, typer.Option(min=0, help="Seconds for which tokens that older keys have signed are still accepted.")
    ] = 86_400,
    data: Data = None,
) -> None:
    """Make a new signing key; with --overlap 0 everybody has to log in again at once."""
    _run(lambda settings: _rotate(settings, app, overlap), data=data)


@keys.command("list")
def list_keys(app: App, data: Data = None) -> None:
    """List an app's signing keys, the oldest first."""
    _run(lambda settings: _list_keys(settings, app), data=data)


@secrets.command("set")
def set_secret(app: App, name: SecretName, data: Data = None) -> None:
    """Keep a secret, or replace it: the value is asked for, or read from standard input; running servers use it at once."""
    if sys.stdin.isatty():
        value = str(typer.prompt("Value", hide_input=True, confirmation_prompt=True))
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    _run(lambda settings: _set_secret(settings, app, name, value), data=data)


@secrets.command("list")
def list_secrets(app: App, data: Data = None) -> None:
    """List the names of an app's secrets, with version and date; values are never shown."""
    _run(lambda settings: _list_secrets(settings, app), data=data)


@secrets.command("remove")
def remove_secret(app: App, name: SecretName, data: Data = None) -> None:
    """Delete a secret with all its versions."""
    _run(lambda settings: _remove_secret(settings, app, name), data=data)


async def _serve(settings: Settings, file: Path | None) -> None:
    declared = declaration.read(file) if file is not None else None
    roost = await Roost.start(settings, declared)
    try:
        typer.echo(roost.welcome())
        await roost.wait_for_signal()
    finally:
        await roost.stop()


async def _check(settings: Settings, file: Path | None, app: str | None) -> None:
    declared = declaration.read(file) if file is not None else None
    async with open_backend(settings) as backend:
        services = {tenant.id: tenant.services for tenant in declared.tenants} if declared is not None else {}
        if app is not None:
            services[app] = dict((await _tenant(backend, app)).services)
        count = len([tenant async for tenant in backend.tenants.all()])
    for id, own in services.items():
        for remark in review(own):
            typer.echo(f"{id}: {remark}")
    typer.echo(f"All is well: MongoDB answers, {count} tenants.")


async def _apply(settings: Settings, file: Path) -> None:
    declared = declaration.read(file)
    async with open_backend(settings) as backend:
        for change in await backend.apply(declared):
            typer.echo(_describe(change))


async def _create(settings: Settings, id: str, name: str | None, origins: list[str]) -> None:
    declared = _declare(id, name, origins)
    async with open_backend(settings) as backend:
        tenant = await backend.tenants.create(declared)
        backend.audit.add(tenant, "app-created", subject=tenant.id, details=BY_OPERATOR)
    typer.echo(f"{id}: created")


async def _list(settings: Settings) -> None:
    async with open_backend(settings) as backend:
        async for tenant in backend.tenants.all():
            typer.echo(f"{tenant.id}\t{tenant.status}\t{tenant.name}\t{len(tenant.services)} services")


async def _show(settings: Settings, id: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, id)
    typer.echo(f"id:       {tenant.id}\nname:     {tenant.name}\nstatus:   {tenant.status}\nepoch:    {tenant.epoch}")
    typer.echo(f"login by: {tenant.auth.username_field}\norigins:  {', '.join(sorted(tenant.allowed_origins)) or '-'}")
    for path, service in tenant.services.items():
        rules = ", ".join(f"{method}: {rule}" for method, rule in service.rules.items()) or "nobody"
        typer.echo(f"service:  {path} ({rules})")


async def _types(settings: Settings, id: str, out: Path | None) -> None:
    async with open_backend(settings) as backend, contextlib.AsyncExitStack() as stack:
        tenant = await backend.tenants.get(id)
        if tenant is None:
            raise StartError(f"There is no tenant '{id}'")
        roost = Roost(backend, stack)
        stack.callback(roost.people.passwords.close)
        for module in settings.modules:
            await configure(roost.app, module)
        text = typescript(describe(tenant, roost.app))
    if out is None:
        typer.echo(text, nl=False)
    else:
        _write(out, text)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"{file}: cannot be written ({error.strerror})") from error


async def _grant(settings: Settings, app: str, name: str, permission: str, *, withdraw: bool = False) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        found = await grant(Isolation(backend.deployment), tenant, name, permission, withdraw=withdraw)
        event = "permission-withdrawn" if withdraw else "permission-granted"
        details = {**BY_OPERATOR, "permission": permission}
        backend.audit.add(tenant, event, subject=str(found["_id"]), details=details)
    typer.echo(f"{name}: {', '.join(found.get('permissions', [])) or 'no permissions'}")


async def _set(settings: Settings, app: str, name: str, field: str, value: str) -> None:
    try:
        plain = json.loads(value)
    except ValueError:
        plain = value
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        found = await assign(Isolation(backend.deployment), tenant, name, field, plain)
        details = {**BY_OPERATOR, "field": field}
        backend.audit.add(tenant, "user-changed", subject=str(found["_id"]), details=details)
    typer.echo(f"{name}: {field} is {json.dumps(found[field]) if field in found else 'not set'}")


async def _rotate(settings: Settings, app: str, overlap: float) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        record = await backend.keys.rotate(tenant.id, overlap)
        # Only now: a server that looks at the tenant again has to find the keys as they are.
        await backend.tenants.touch(tenant.id)
        details = {**BY_OPERATOR, "overlap": overlap}
        backend.audit.add(tenant, "keys-rotated", subject=record.kid, details=details)
    typer.echo(f"{app}: {record.kid} signs from now on; older keys are accepted for {overlap:g} s")


async def _list_keys(settings: Settings, app: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        for record in await backend.keys.records(tenant.id):
            retires = f"until {record.retires_at:%Y-%m-%d %H:%M:%S} UTC" if record.retires_at else "no end"
            typer.echo(f"{record.kid}\t{record.state}\tsince {record.created_at:%Y-%m-%d %H:%M:%S} UTC\t{retires}")


async def _set_secret(settings: Settings, app: str, name: str, value: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        version = await backend.secrets.put(tenant.id, name, value)
        backend.audit.add(tenant, "secret-set", subject=name, details={**BY_OPERATOR, "version": version})
    typer.echo(f"{app}: {name} is kept as version {version}")


async def _list_secrets(settings: Settings, app: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        for kept in await backend.secrets.names(tenant.id):
            typer.echo(f"{kept.name}\tversion {kept.version}\tsince {kept.created_at:%Y-%m-%d %H:%M:%S} UTC")


async def _remove_secret(settings: Settings, app: str, name: str) -> None:
    async with open_backend(settings) as backend:
        tenant = await _tenant(backend, app)
        if not await backend.secrets.forget(tenant.id, name):
            raise StartError(f"The app '{app}' has no secret '{name}'")
        backend.audit.add(tenant, "secret-removed", subject=name, details=BY_OPERATOR)
    typer.echo(f"{app}: {name} is removed")


async def _tenant(backend: Backend, id: str) -> Tenant:
    tenant = await backend.tenants.get(id)
    if tenant is None:
        raise StartError(f"There is no tenant '{id}'")
    return tenant


def _declare(id: str, name: str | None, origins: list[str]) -> TenantDeclaration:
    return declaration.check({"tenants": [{"id": id, "name": name, "allowed_origins": origins}]}).tenants[0]


def _describe(change: Change) -> str:
    gone = f"; no longer served, data kept: {', '.join(change.withdrawn)}" if change.withdrawn else ""
    return f"{change.tenant}: {change.outcome}{gone}"


def _run(command: Callable[[Settings], Coroutine[Any, Any, None]], **overrides: Any) -> None:
    """Runs a command with the settings; what a person can mend is a sentence on standard error and exit code 1."""
    try:
        settings = load(overrides)
        logs.configure(settings.log_level, settings.log_format)
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(command(settings))
    except DeclarationError as error:
        _fail("The declarative file has mistakes; nothing was applied:\n" + "\n".join(f"  {m}" for m in error.mistakes))
    except (SettingsError, StartError) as error:
        _fail(str(error))
    except FeathersError as error:
        _fail(error.message)


def _fail(message: str) -> None:
    typer.echo(message, err=True)
    sys.exit(1)
