"""FEATHERS.md 2.4: names, codes, and what of an error travels."""

from __future__ import annotations

import pytest

from hooks import errors
from hooks.errors import BadRequest, FeathersError, GeneralError, to_feathers_error

FEATHERS = {
    "BadRequest": (400, "bad-request"),
    "NotAuthenticated": (401, "not-authenticated"),
    "PaymentError": (402, "payment-error"),
    "Forbidden": (403, "forbidden"),
    "NotFound": (404, "not-found"),
    "MethodNotAllowed": (405, "method-not-allowed"),
    "NotAcceptable": (406, "not-acceptable"),
    "Timeout": (408, "timeout"),
    "Conflict": (409, "conflict"),
    "Gone": (410, "gone"),
    "LengthRequired": (411, "length-required"),
    "Unprocessable": (422, "unprocessable"),
    "TooManyRequests": (429, "too-many-requests"),
    "GeneralError": (500, "general-error"),
    "NotImplemented": (501, "not-implemented"),
    "BadGateway": (502, "bad-gateway"),
    "Unavailable": (503, "unavailable"),
}


@pytest.mark.parametrize("name", FEATHERS)
def test_each_error_has_its_name_and_code(name: str) -> None:
    error: FeathersError = getattr(errors, name)("why")
    code, class_name = FEATHERS[name]
    assert error.to_json() == {"name": name, "message": "why", "code": code, "className": class_name}
    assert getattr(errors, name)().message.strip(), "a default sentence"


def test_data_and_errors_travel_only_when_set() -> None:
    assert BadRequest("x", data={"a": 1}, errors=[{"path": "/a"}]).to_json() == {
        "name": "BadRequest",
        "message": "x",
        "code": 400,
        "className": "bad-request",
        "data": {"a": 1},
        "errors": [{"path": "/a"}],
    }
    assert "data" not in BadRequest("x").to_json()
    assert BadRequest("x", data=[]).to_json()["data"] == []


def test_other_exceptions_tell_nothing() -> None:
    ours = BadRequest("x")
    assert to_feathers_error(ours) is ours
    for error in (ValueError("secret"), KeyError("secret"), RecursionError("secret")):
        hidden = to_feathers_error(error)
        assert isinstance(hidden, GeneralError)
        assert "secret" not in str(hidden.to_json())
