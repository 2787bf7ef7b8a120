"""The domains service: hosts of an app's own, claimed, proved by a TXT record, and given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import idna
from bson import ObjectId

from hooks.context import Params, Record
from hooks.errors import BadRequest, MethodNotAllowed
from hooks.rules import Rule
from services.base import Page, Service
from services.control.domains import Domains, challenge
from services.control.verification import Verification
from services.predicate import compile_filter, sort_documents
from services.query import Paginate, QueryOptions, parse

PATH = "domains"
DOMAINS_RULES: Mapping[str, Rule] = {
    "find": {"permission": "read:domains"},
    "get": {"permission": "read:domains"},
    "create": {"permission": "create:domains"},
    "verify": {"permission": "update:domains"},
    "remove": {"permission": "delete:domains"},
}
_QUERIES = QueryOptions(paginate=Paginate(default=10, max=50))
_SHOWN = ("host", "state", "created_at", "verified_at", "checked_at")


class DomainsService(Service):
    """An app's domains: `{_id, host, state, challenge: {type, name, value}, created_at, verified_at, checked_at}`."""

    schema: Mapping[str, Any] = {
        "_id": {"type": "string", "required": True},
        "host": {"type": "string", "required": True, "description": "The host name, such as chat.example.com."},
        "state": {"type": "string", "enum": ["pending", "verified", "active", "failed", "removed"]},
        "challenge": {"type": "object", "description": "The DNS record that proves the claim."},
        "created_at": {"type": "string"},
        "verified_at": {"type": ["string", "null"]},
        "checked_at": {"type": ["string", "null"]},
    }

    def __init__(
        self, domains: Domains, verification: Verification, *, is_own: Callable[[str], bool] = lambda host: False
    ) -> None:
        """`is_own` tells whether a host is the server's own, which no app can claim."""
        self._domains = domains
        self._verification = verification
        self._is_own = is_own

    async def find(self, params: Params) -> Page:
        """The app's domains by host."""
        query = parse(params.query, _QUERIES)
        matches = compile_filter(query.filter)
        records = [_shown(found) for found in await self._domains.find(params.tenant.id, {})]
        found = [record for record in records if matches({**record, "app_id": params.tenant.id})]
        if query.sort:
            sort_documents(found, query.sort)
        limit = 10 if query.limit is None else query.limit
        return {
            "total": len(found),
            "limit": limit,
            "skip": query.skip,
            "data": found[query.skip : query.skip + limit],
        }

    async def get(self, id: Any, params: Params) -> Record:
        """One of the app's domains.

        Raises:
            NotFound: it has none with this id.
        """
        return _shown(await self._domains.get(params.tenant.id, _one(id)))

    async def create(self, data: Any, params: Params) -> Record:
        """Claims a host. Its challenge is to be published in its DNS before `verify`.

        Raises:
            BadRequest: no host name, or one of the server's own. Conflict: claimed already. TooManyRequests: too many.
        """
        if not isinstance(data, Mapping) or set(data) - {"app_id"} != {"host"}:
            raise BadRequest("A domain is created by its host alone")
        host = check_host(data["host"])
        if self._is_own(host):
            raise BadRequest(f"'{host}' belongs to the server itself")
        return _shown(await self._domains.claim(params.tenant.id, host))

    async def verify(self, data: Any, params: Params) -> Record:
        """Looks for the challenge of the domain that `_id` names; the domain as it is then.

        Raises:
            NotFound: the app has no such domain. Conflict: another app has proved the host. Unavailable: no DNS.
        """
        id = data.get("_id") if isinstance(data, Mapping) else None
        record = await self._domains.get(params.tenant.id, _one(id))
        return _shown(await self._verification.verify(record))

    async def remove(self, id: Any, params: Params) -> Record:
        """Gives a domain back; it is served no more.

        Raises:
            NotFound: the app has no such domain.
        """
        return _shown(await self._domains.remove(params.tenant.id, _one(id)))


def check_host(value: object) -> str:
    """A host name in canonical form: lower case, IDNA-encoded, with two labels at least.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, str):
        raise BadRequest("The host must be a host name such as chat.example.com")
    try:
        host = idna.encode(value.removesuffix("."), uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise BadRequest("The host must be a host name such as chat.example.com") from error
    labels = host.split(".")
    if len(labels) < 2 or len(host) > 253 or labels[-1].isdigit() or labels[-1] in ("localhost", "local", "internal"):
        raise BadRequest("The host must be a host name such as chat.example.com")
    return host


def _one(id: Any) -> str:
    if id is None:
        raise MethodNotAllowed("Domains are named one by one")
    if not isinstance(id, (str, ObjectId)):
        raise BadRequest("The id of a domain is a text")
    return str(id)


def _shown(record: Record) -> Record:
    name, value = challenge(record)
    proof = {"type": "TXT", "name": name, "value": value}
    return {"_id": str(record["_id"]), **{field: record.get(field) for field in _SHOWN}, "challenge": proof}
