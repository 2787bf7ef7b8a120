"""`tenants`: the apps that are hosted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from server.backend import StartError, open_backend
from server.cli.command import BY_OPERATOR, App, Data, assembled, run, tenant_of
from server.control import Control
from server.main import Roost
from server.settings import Settings
from server.wire import encode
from services import declaration
from services.control.operations import SUCCEEDED, Operation
from services.declaration import TenantDeclaration

tenants = typer.Typer(help="Create, list, suspend and delete the apps that are hosted.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
PATIENCE = 600.0
"""Seconds for which a command watches an operation, which goes on without it."""


@tenants.command("create")
def create_tenant(
    id: Annotated[str, typer.Argument(help="The appId: 3 to 63 lower case letters, digits and inner hyphens.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    origin: Annotated[list[str] | None, typer.Option(help="Allowed origin; may be given again.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Create an app without data services."""
    run(lambda settings: _create(settings, _declare(id, name, origin or []), as_json=as_json), data=data)


@tenants.command("list")
def list_tenants(data: Data = None, as_json: AsJson = False) -> None:
    """List all apps."""
    run(lambda settings: _list(settings, as_json=as_json), data=data)


@tenants.command("show")
def show_tenant(
    id: Annotated[str, typer.Argument(help="The appId.")], data: Data = None, as_json: AsJson = False
) -> None:
    """Show an app with its services."""
    run(lambda settings: _show(settings, id, as_json=as_json), data=data)


@tenants.command("suspend")
def suspend_tenant(app: App, data: Data = None, as_json: AsJson = False) -> None:
    """Take an app out of service: its clients are refused, its data stays."""
    run(lambda settings: _operate(settings, lambda control: control.lifecycle.suspend(app), as_json), data=data)


@tenants.command("resume")
def resume_tenant(app: App, data: Data = None, as_json: AsJson = False) -> None:
    """Take a suspended app into service again."""
    run(lambda settings: _operate(settings, lambda control: control.lifecycle.resume(app), as_json), data=data)


@tenants.command("delete")
def delete_tenant(
    app: App,
    confirm: Annotated[str | None, typer.Option(metavar="APP", help="The appId once more.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Delete an app with all its users and data, for good; its id is never used again."""
    run(lambda settings: _delete(settings, app, confirm, as_json), data=data)


@tenants.command("operations")
def list_operations(
    app: Annotated[str | None, typer.Argument(help="The appId; without it those of all apps.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try the app's last operation again, if it failed.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List what was done to apps, the newest first, with the steps that failed."""
    run(lambda settings: _operations(settings, app, retry=retry, as_json=as_json), data=data)


async def _create(settings: Settings, declared: TenantDeclaration, *, as_json: bool) -> None:
    async with assembled(settings) as roost:
        control = roost.backend.control
        if not as_json:
            control.runner.on_progress(_Progress())
        operation = await control.lifecycle.create(declared)
        if operation.state == SUCCEEDED:
            # Before that it has no log; the control plane's knows in any case.
            tenant = await tenant_of(roost.backend, declared.id)
            roost.backend.audit.add(tenant, "app-created", subject=tenant.id, details=BY_OPERATOR)
    _conclude(operation, "created", as_json=as_json)


async def _list(settings: Settings, *, as_json: bool) -> None:
    async with open_backend(settings) as backend:
        async for tenant in backend.tenants.all():
            kind = "control plane" if tenant.is_control_plane else f"{len(tenant.services)} services"
            if as_json:
                _print_json({"_id": tenant.id, "name": tenant.name, "status": tenant.status, "epoch": tenant.epoch})
            else:
                typer.echo(f"{tenant.id}\t{tenant.status}\t{tenant.name}\t{kind}")


async def _show(settings: Settings, id: str, *, as_json: bool) -> None:
    async with open_backend(settings) as backend:
        tenant = await tenant_of(backend, id)
    if as_json:
        origins, services = sorted(tenant.allowed_origins), sorted(tenant.services)
        plain = {"_id": tenant.id, "name": tenant.name, "status": tenant.status, "epoch": tenant.epoch}
        _print_json({**plain, "plan": tenant.plan, "allowed_origins": origins, "services": services})
        return
    typer.echo(f"id:       {tenant.id}\nname:     {tenant.name}\nstatus:   {tenant.status}\nepoch:    {tenant.epoch}")
    typer.echo(f"login by: {tenant.auth.username_field}\norigins:  {', '.join(sorted(tenant.allowed_origins)) or '-'}")
    for path, service in tenant.services.items():
        rules = ", ".join(f"{method}: {rule}" for method, rule in service.rules.items()) or "nobody"
        typer.echo(f"service:  {path} ({rules})")


async def _delete(settings: Settings, app: str, confirm: str | None, as_json: bool) -> None:
    if confirm != app:
        raise StartError(f"This deletes '{app}' with all its users and data. To do so: --confirm {app}")
    await _operate(settings, lambda control: control.lifecycle.delete(app), as_json)


async def _operate(settings: Settings, begin: Callable[[Control], Awaitable[Operation]], as_json: bool) -> None:
    async with assembled(settings) as roost:
        operation = await _finish(roost, begin, as_json)
    _conclude(
        operation, {"suspend": "suspended", "resume": "resumed", "delete": "deleted"}[operation.kind], as_json=as_json
    )


async def _finish(roost: Roost, begin: Callable[[Control], Awaitable[Operation]], as_json: bool) -> Operation:
    control = roost.backend.control
    if not as_json:
        control.runner.on_progress(_Progress())
    operation = await begin(control)
    return await control.lifecycle.settle(operation.id, PATIENCE)


async def _operations(settings: Settings, app: str | None, *, retry: bool, as_json: bool) -> None:
    async with assembled(settings) as roost:
        operations = roost.backend.control.operations
        if retry:
            latest = None if app is None else await operations.latest(app)
            if latest is None:
                raise StartError("There is nothing to try again: name an app that something was done to")
            again = latest
            done = await _finish(roost, lambda control: control.lifecycle.retry(again.app_id, again.kind), as_json)
            _conclude(done, "done", as_json=as_json)
            return
        chosen = {} if app is None else {"app_id": app}
        _, found = await operations.find(chosen, sort=[("created_at", -1), ("_id", 1)], skip=0, limit=100)
    for operation in found:
        if as_json:
            _print_json(operation.shown())
        else:
            error = "" if operation.error is None else f"\t{operation.error['step']}: {operation.error['message']}"
            began = f"{operation.created_at:%Y-%m-%d %H:%M:%S} UTC"
            typer.echo(f"{operation.id}\t{operation.app_id}\t{operation.kind}\t{operation.state}\t{began}{error}")


class _Progress:
    """Prints each step once when it is done, on standard error: the outcome alone is for programs."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str]] = set()

    def __call__(self, operation: Operation) -> None:
        for step in operation.steps:
            key = (operation.id, step["name"], step["state"])
            if step["state"] in (SUCCEEDED, "failed") and key not in self._told:
                self._told.add(key)
                error = f": {step['error']}" if step["state"] == "failed" else ""
                typer.echo(f"  {operation.app_id}  {step['name']}  {step['state']}{error}", err=True)


def _conclude(operation: Operation, outcome: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(operation.shown())
    elif operation.state == SUCCEEDED:
        typer.echo(f"{operation.app_id}: {outcome}")
    if operation.state != SUCCEEDED:
        error = operation.error or {"step": "-", "message": "it still goes on"}
        raise StartError(
            f"{operation.app_id}: {operation.kind} is {operation.state} at {error['step']}: {error['message']}. "
            f"Running servers try again by themselves; or use: tenants operations {operation.app_id} --retry"
        )


def _print_json(record: Any) -> None:
    typer.echo(json.dumps(json.loads(encode(record)), ensure_ascii=False))


def _declare(id: str, name: str | None, origins: list[str]) -> TenantDeclaration:
    return declaration.check({"tenants": [{"id": id, "name": name, "allowed_origins": origins}]}).tenants[0]
