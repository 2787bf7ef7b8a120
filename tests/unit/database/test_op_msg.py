from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Int64, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.database.op_msg import CODEC, PREFIX, SurprisingReply, decode, encode

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))
keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
documents = st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=5)


def reply(request_id: int, document: dict[str, Any]) -> bytes:
    """A reply as a server sends it."""
    body = bson.encode(document)
    return PREFIX.pack(PREFIX.size + len(body), 77, request_id, 2013, 0, 0) + body


@given(documents, st.integers(1, 2**31 - 1))
def test_a_reply_is_read_as_it_was_sent(document: dict[str, Any], request_id: int) -> None:
    assert decode(reply(request_id, document), request_id) == document
    assert decode(bytearray(reply(request_id, document)), request_id) == document


@given(documents, st.lists(documents, max_size=4))
def test_a_message_holds_the_command_and_the_run_of_documents(
    command: dict[str, Any], run: list[dict[str, Any]]
) -> None:
    message = encode(5, command, [bson.encode(each) for each in run])
    length, request_id, answers, op_code, flags, kind = PREFIX.unpack_from(message)
    assert (length, request_id, answers, op_code, flags, kind) == (len(message), 5, 0, 2013, 0, 0)
    body_size = int.from_bytes(message[PREFIX.size : PREFIX.size + 4], "little")
    body_end = PREFIX.size + body_size
    assert bson.decode(message[PREFIX.size : body_end], CODEC) == command
    if run:
        assert message[body_end] == 1
        assert int.from_bytes(message[body_end + 1 : body_end + 5], "little") == len(message) - body_end - 1
        assert message[body_end + 5 : body_end + 15] == b"documents\0"
        assert bson.decode_all(message[body_end + 15 :], CODEC) == run
    else:
        assert body_end == len(message)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, 9999), (8, 6), (12, 1), (12, 2012), (16, 1), (16, 2)],
    ids=["length", "request id", "old reply", "compressed", "checksum", "more to come"],
)
def test_any_other_reply_is_a_surprise(offset: int, value: int) -> None:
    message = bytearray(reply(5, {"ok": 1}))
    message[offset : offset + 4] = value.to_bytes(4, "little")
    with pytest.raises(SurprisingReply):
        decode(message, 5)


def test_another_kind_of_section_is_a_surprise() -> None:
    message = bytearray(reply(5, {"ok": 1}))
    message[20] = 1
    with pytest.raises(SurprisingReply):
        decode(message, 5)


CLOCK = {"clusterTime": Timestamp(7, 1), "signature": {"hash": bytes(20), "keyId": Int64(2**62)}}
TIMES = {"$clusterTime": CLOCK, "operationTime": Timestamp(7, 1)}


@given(documents)
def test_the_times_of_a_replica_set_are_left_out(document: dict[str, Any]) -> None:
    whole = {"cursor": document, "ok": 1.0}
    assert decode(reply(5, {**whole, **TIMES}), 5) == whole
    assert decode(bytearray(reply(5, {**whole, **TIMES})), 5) == whole


@pytest.mark.parametrize(
    "times",
    [
        {"operationTime": Timestamp(7, 1)},
        {"$clusterTime": CLOCK},
        {"$clusterTime": {**CLOCK, "more": 1}, "operationTime": Timestamp(7, 1)},
        {"$clusterTime": CLOCK, "more": 1, "operationTime": Timestamp(7, 1)},
        {**TIMES, "more": 1},
    ],
)
def test_times_of_another_form_are_read(times: dict[str, Any]) -> None:
    assert decode(reply(5, {"ok": 1.0, **times}), 5) == {"ok": 1.0, **times}


def test_data_that_looks_like_times_stays_data() -> None:
    """What a client wrote stands before the server's own last fields, wherever it ends."""
    mimicry = bson.encode(TIMES)[4:-1]
    for value in ({"text": mimicry.decode("latin-1")}, {"bytes": mimicry}, TIMES):
        for last in ({}, {"operationTime": Timestamp(7, 1)}, TIMES):
            document = {"value": value, "ok": 1.0}
            assert decode(reply(5, {**document, **last}), 5)["value"] == value
