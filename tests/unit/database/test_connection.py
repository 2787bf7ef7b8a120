from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from services.database.connection import Connection, NotSent
from services.database.handover import Opened
from tests.unit.database.test_op_msg import reply


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def resume_reading(self) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Ends:
    """A connection on a wire, and what it told its pool."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.idle: list[Connection] = []
        self.lost: list[Connection] = []
        opened = Opened(self.wire, ("127.0.0.1", 1), 0, 17, 1 << 24, 48_000_000, None)
        self.connection = Connection(opened, self.idle.append, self.lost.append)


MESSAGE = reply(1, {"ok": 1, "text": "x" * 50})


async def test_it_takes_the_transport_over_and_answers_with_the_reply() -> None:
    ends = Ends()
    assert ends.wire.protocol is ends.connection
    answer = ends.connection.exchange(b"ask")
    assert ends.wire.written == [b"ask"]
    assert ends.connection.busy
    ends.connection.data_received(MESSAGE)
    assert await answer == MESSAGE
    assert ends.idle == [ends.connection]
    assert ends.connection.usable


@given(st.lists(st.integers(1, len(MESSAGE) - 1), unique=True))
def test_a_reply_may_come_in_any_pieces(cuts: list[int]) -> None:
    async def exchange() -> None:
        ends = Ends()
        for _ in range(2):
            answer = ends.connection.exchange(b"ask")
            for start, end in pairwise([0, *sorted(cuts), len(MESSAGE)]):
                ends.connection.data_received(MESSAGE[start:end])
            assert await answer == MESSAGE

    asyncio.run(exchange())


@pytest.mark.parametrize(
    "data",
    [
        MESSAGE + b"\0",
        MESSAGE + MESSAGE,
        (0).to_bytes(4, "little") + bytes(40),
        (-1).to_bytes(4, "little", signed=True) + bytes(40),
        (33 * 1024 * 1024).to_bytes(4, "little") + bytes(40),
    ],
    ids=["too much", "two", "empty", "negative", "huge"],
)
async def test_what_is_not_one_reply_of_bounded_size_ends_the_connection(data: bytes) -> None:
    ends = Ends()
    answer = ends.connection.exchange(b"ask")
    ends.connection.data_received(data)
    assert ends.wire.aborted
    assert not ends.idle
    with pytest.raises(AutoReconnect):
        await answer


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    ends = Ends()
    ends.connection.data_received(MESSAGE)
    assert ends.wire.aborted


async def test_a_lost_connection_tells_who_waits_and_sends_no_more() -> None:
    ends = Ends()
    answer = ends.connection.exchange(b"ask")
    ends.connection.connection_lost(None)
    with pytest.raises(AutoReconnect):
        await answer
    assert ends.lost == [ends.connection]
    with pytest.raises(NotSent):
        ends.connection.exchange(b"ask")
    assert ends.wire.written == [b"ask"]


async def test_the_reply_to_a_cancelled_call_is_dropped_and_the_connection_comes_back() -> None:
    ends = Ends()
    ends.connection.exchange(b"ask").cancel()
    with pytest.raises(NotSent):
        ends.connection.exchange(b"too early")
    ends.connection.data_received(MESSAGE)
    assert ends.idle == [ends.connection]
    answer = ends.connection.exchange(b"again")
    ends.connection.data_received(reply(2, {"ok": 2}))
    assert await answer == reply(2, {"ok": 2})
