"""The one place where what went wrong in MongoDB becomes one of our errors.

No text of the server reaches a client: it can name values of documents. It stays in the chained cause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from hooks.errors import BadRequest, Conflict, FeathersError, GeneralError, PayloadTooLarge, Timeout, Unavailable

_log = logging.getLogger(__name__)

#: What encoding or running a command may raise, by either path.
DRIVER_ERRORS = (PyMongoError, BSONError, ValueError, OverflowError, RecursionError)

#: The server is not, or no longer, the writable primary, or is going down.
NOT_PRIMARY_CODES = frozenset({91, 189, 10058, 10107, 11600, 11602, 13435, 13436})
#: Asking again may help: the above, lost hosts and sockets, limits of time inside the cluster.
RETRYABLE_CODES = NOT_PRIMARY_CODES | frozenset({6, 7, 89, 134, 262, 9001})

_BAD_VALUE = 2
_HOST_UNREACHABLE = 6
_OBJECT_TOO_LARGE = 10334
_DUPLICATE_KEY = frozenset({11000, 11001, 12582})
_MAX_TIME_EXPIRED = 50
_VALIDATION_FAILED = 121
_TOO_LARGE = frozenset({_OBJECT_TOO_LARGE, 17280, 17419, 17420})
# No majority in time, a write conflict, a full disk, a read-only server, an overloaded server.
_UNAVAILABLE = RETRYABLE_CODES | frozenset({64, 79, 100, 112, 325, 462, 14031})
# Bad value, failed to parse, type mismatch, path not viable, conflicting update, bad, empty, immutable or
# dollar-prefixed fields: the arguments are at fault. So they are with the codes without a name, from 10000 on.
_BAD_ARGUMENTS = frozenset((2, 4, 9, 14, 15, 16, 28, 34, 40, 52, 54, 55, 56, 57, 66, 73))
_FIRST_UNNAMED_CODE = 10_000

_Made = Callable[[], FeathersError]
_BY_CODE: Mapping[int, _Made] = {
    **dict.fromkeys(_BAD_ARGUMENTS, lambda: BadRequest("The database does not accept these arguments.")),
    **dict.fromkeys(_UNAVAILABLE, lambda: Unavailable("The database is not available at the moment: try again.")),
    **dict.fromkeys(_TOO_LARGE, lambda: PayloadTooLarge("The record is too large to be kept.")),
    _MAX_TIME_EXPIRED: lambda: Timeout("The database took too long and the call was ended."),
}


def from_code(code: int | None, details: Mapping[str, Any]) -> FeathersError:
    """The error for a server's code; `details` is the reply or the write error that bears the code."""
    if code in _DUPLICATE_KEY:
        return Conflict(_duplicate_message(details))
    if code is not None and code in _BY_CODE:
        return _BY_CODE[code]()
    if code == _VALIDATION_FAILED:
        _log.error("the database's validator refused a document: a guard above it let it through")
        return GeneralError()
    _log.error("the database answered with code %s", code)
    return _BY_CODE[_BAD_VALUE]() if code is not None and code >= _FIRST_UNNAMED_CODE else GeneralError()


def from_driver(error: Exception) -> FeathersError:
    """The error for anything of `DRIVER_ERRORS`."""
    if isinstance(error, BulkWriteError):
        return _from_bulk(error)
    # Of a write with a WriteConcernError it is not known whether it is kept: no majority has confirmed it.
    if isinstance(error, (ConnectionFailure, WriteConcernError)):
        return _BY_CODE[_HOST_UNREACHABLE]()
    if isinstance(error, OperationFailure):
        return from_code(error.code, error.details or {})
    if isinstance(error, DocumentTooLarge):
        return _BY_CODE[_OBJECT_TOO_LARGE]()
    if isinstance(error, (BSONError, ValueError, OverflowError, RecursionError)):
        return BadRequest("The record or query has a value that the database cannot keep.")
    _log.error("the database driver failed: %s", type(error).__name__)
    return GeneralError()


def _from_bulk(error: BulkWriteError) -> FeathersError:
    details: Mapping[str, Any] = error.details or {}
    for failure in details.get("writeErrors", ()):
        return from_code(failure["code"], failure)
    return _BY_CODE[_HOST_UNREACHABLE]()


def _duplicate_message(details: Mapping[str, Any]) -> str:
    names = [_public_name(field) for field in _fields(details) if field != "app_id"]
    return f"A record with this {' and '.join(names)} exists already." if names else Conflict().message


def _fields(details: Mapping[str, Any]) -> Iterable[str]:
    pattern = details.get("keyPattern")
    return pattern if isinstance(pattern, Mapping) else ()


def _public_name(field: str) -> str:
    return field.removesuffix("_key")
