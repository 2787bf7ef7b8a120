"""Drivers: how clients of services elsewhere are made, by kind and name, such as `mail` and `smtp`.

Code asks for "a mail client of this app" and never sees addresses or passwords. Plug-ins add drivers, and kinds of their own,
with `app.drivers.register(...)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from hooks.context import Record
from hooks.errors import BadRequest
from hooks.schema import Schema
from hooks.tenant import Tenant

OWN_WORDS: Final = frozenset({"driver", "secret", "secret_ref", "secret_hint", "shareable", "share_with"})
"""Beside a driver's options, in what is configured."""


class ProbeFailed(Exception):
    """A connection test failed; the sentence may be shown to whoever configures."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a client is made of."""

    app_id: str
    """For whom."""
    options: Mapping[str, Any]
    secret: str | None = field(default=None, repr=False)
    is_trusted: bool = False
    """Whether operators of the server have named the addresses in the options; else they may lead to public hosts alone."""


class Driver:
    """Makes clients of one kind. What is not overridden is nothing to do."""

    schema: Mapping[str, Any] = {}
    """The options, as a schema declares fields."""
    bound: frozenset[str] = frozenset()
    """Options that say to whom the secret is shown: whoever changes one has to know the secret."""

    def check(self, options: Mapping[str, Any]) -> None:
        """Looks at options that fit the schema. Raises ValueError with a sentence that goes on "the provider ..."."""

    def shared(self, options: Mapping[str, Any], app_id: str) -> Mapping[str, Any]:
        """The options with which an app uses what another one shares."""
        return options

    async def open(self, plan: Plan) -> Any:
        """A client.

        Raises:
            FeathersError: it cannot be made now.
        """
        raise NotImplementedError

    async def probe(self, client: Any) -> None:
        """Tests whether a client reaches what it is for. Raises ProbeFailed."""

    async def close(self, client: Any) -> None:
        """Gives back what a client holds. It is not in use any more."""


class Clients(Protocol):
    """Gives out clients: `services.control.providers.ProviderFactory`."""

    def client(self, kind: str, tenant: Tenant) -> AbstractAsyncContextManager[Any]:
        """A client of a kind for an app, which stays as it is until the block ends. Raises Unavailable."""
        ...


class Drivers:
    """The drivers of this server."""

    def __init__(self) -> None:
        self._drivers: dict[tuple[str, str], tuple[Driver, Schema]] = {}

    def register(self, kind: str, name: str, driver: Driver) -> None:
        """Adds a driver.

        Raises:
            ValueError: there is one of the name, or an option has a word of Roost's own.
        """
        if (kind, name) in self._drivers or OWN_WORDS & driver.schema.keys():
            raise ValueError(f"There cannot be a driver '{name}' for '{kind}' like this")
        self._drivers[kind, name] = driver, Schema({**driver.schema, "additionalProperties": False})

    def get(self, kind: str, name: object) -> Driver | None:
        """The driver of a name."""
        found = self._drivers.get((kind, name)) if isinstance(name, str) else None
        return None if found is None else found[0]

    @property
    def kinds(self) -> list[str]:
        """Those of which there is a driver."""
        return sorted({kind for kind, _ in self._drivers})

    def check(self, kind: str, provider: Mapping[str, Any]) -> None:
        """Lets a provider through that a driver can make a client of.

        Raises:
            BadRequest: there is no such driver, or the options are not what it takes; `errors` names each mistake.
        """
        faults = [*self._faults(kind, provider)]
        if faults:
            raise BadRequest("The configuration has mistakes", errors=faults)

    def _faults(self, kind: str, provider: Mapping[str, Any]) -> Iterator[Record]:
        place, name = f"providers.{kind}", provider.get("driver")
        found = self._drivers.get((kind, name)) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(driver for own, driver in sorted(self._drivers) if own == kind)
            yield {
                "path": f"{place}.driver",
                "message": f"must be one of {known}" if known else "there is no such kind",
            }
            return
        driver, schema = found
        options = options_of(provider)
        faults = schema.check(options, whole=True)
        if not faults:
            try:
                driver.check(options)
            except ValueError as error:
                yield {"path": place, "message": str(error)}
        for fault in faults:
            yield {**fault, "path": f"{place}{str(fault['path']).rstrip('/').replace('/', '.')}"}


def options_of(provider: Mapping[str, Any]) -> Record:
    """The driver's part of what is configured."""
    return {name: value for name, value in provider.items() if name not in OWN_WORDS}
