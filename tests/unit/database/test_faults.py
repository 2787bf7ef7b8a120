from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DocumentTooLarge,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteError,
    WTimeoutError,
)

from hooks.errors import (
    BadRequest,
    Conflict,
    FeathersError,
    GeneralError,
    PayloadTooLarge,
    Timeout,
    Unavailable,
)
from services.database.faults import from_code, from_driver

TEXT = "E11000 duplicate key error dup key: { app_id: 'acme', mail: 'ann@example.org' }"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AutoReconnect(TEXT), Unavailable),
        (NetworkTimeout(TEXT), Unavailable),
        (NotPrimaryError(TEXT, {"code": 10107}), Unavailable),
        (ServerSelectionTimeoutError(TEXT), Unavailable),
        (WaitQueueTimeoutError(TEXT), Unavailable),
        (ExecutionTimeout(TEXT, 50), Timeout),
        (WTimeoutError(TEXT, 64), Unavailable),
        (WTimeoutError(TEXT, 50), Unavailable),
        (DocumentTooLarge(TEXT), PayloadTooLarge),
        (OperationFailure(TEXT, 2), BadRequest),
        (OperationFailure(TEXT, 51024), BadRequest),
        (OperationFailure(TEXT, 14031), Unavailable),
        (OperationFailure(TEXT, 11602), Unavailable),
        (OperationFailure(TEXT, 10334), PayloadTooLarge),
        (OperationFailure(TEXT, 13), GeneralError),
        (OperationFailure(TEXT, None), GeneralError),
        (WriteError(TEXT, 11000), Conflict),
        (WriteError(TEXT, 121), GeneralError),
        (BulkWriteError({"writeErrors": [{"code": 11000, "errmsg": TEXT}]}), Conflict),
        (BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 50}]}), Unavailable),
        (InvalidOperation(TEXT), GeneralError),
        (ValueError(TEXT), BadRequest),
        (OverflowError(TEXT), BadRequest),
        (RecursionError(TEXT), BadRequest),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, Exception) else value.__name__,
)
def test_each_has_its_class_and_tells_no_value(error: Exception, expected: type[FeathersError]) -> None:
    made = from_driver(error)
    assert type(made) is expected
    assert made.data is None
    assert made.errors is None
    assert made.message
    assert "ann@" not in str(made.to_json())
    assert "acme" not in str(made.to_json())


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ({"app_id": 1, "username_key": 1}, "A record with this username exists already."),
        ({"app_id": 1, "room": 1, "seat": 1}, "A record with this room and seat exists already."),
        ({"_id": 1}, "A record with this _id exists already."),
        ({"app_id": 1}, "A record with the same unique value exists."),
        (None, "A record with the same unique value exists."),
    ],
)
def test_a_conflict_names_the_fields_without_the_tenant(pattern: Any, message: str) -> None:
    assert from_code(11000, {"keyPattern": pattern, "keyValue": {"mail": "ann@example.org"}}).message == message


def test_a_document_that_the_validator_refused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert type(from_code(121, {"errInfo": {"secret": 1}})) is GeneralError
    assert "validator" in caplog.text
    assert "secret" not in caplog.text
