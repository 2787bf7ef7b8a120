"""Websocket frames, however they are cut by the sender and the network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine import frames
from server.engine.frames import FrameReader, Violation
from tests.support.raw_socket import BINARY, CLOSE, PING, PONG, TEXT, frame

LIMIT = 1000


class Reader(FrameReader):
    def __init__(self, hold_after: int = -1) -> None:
        super().__init__(LIMIT)
        self.got: list[tuple[str, bytes]] = []
        self.hold_after = hold_after

    def on_text(self, payload: bytearray) -> None:
        self.got.append(("text", bytes(payload)))
        self.held = len(self.got) == self.hold_after

    def on_binary(self, payload: bytearray) -> None:
        self.got.append(("binary", bytes(payload)))

    def on_ping(self, payload: bytearray) -> None:
        self.got.append(("ping", bytes(payload)))

    def on_close(self) -> None:
        self.got.append(("close", b""))


def read(data: bytes) -> list[tuple[str, bytes]]:
    reader = Reader()
    reader.feed(data)
    return reader.got


messages = st.lists(st.binary(max_size=400), max_size=5)


@given(messages=messages, cuts=st.lists(st.integers(1, 50), min_size=1, max_size=30), pieces=st.integers(1, 4))
def test_any_cutting_gives_the_same_messages(messages: list[bytes], cuts: list[int], pieces: int) -> None:
    stream = b""
    for message in messages:
        step = len(message) // pieces + 1
        parts = [message[at : at + step] for at in range(0, len(message), step)] or [b""]
        for number, part in enumerate(parts):
            stream += frame(b"?", PING)
            stream += frame(part, TEXT if number == 0 else 0, final=number == len(parts) - 1)
    reader = Reader()
    at = 0
    while at < len(stream):
        for cut in cuts:
            reader.feed(stream[at : at + cut])
            at += cut
    assert [payload for kind, payload in reader.got if kind == "text"] == messages


@given(st.binary(max_size=70_000))
def test_what_a_server_sends_has_the_right_length(payload: bytes) -> None:
    sent = frames.encode(TEXT, payload)
    masked = bytes([sent[0], sent[1] | 0x80]) + sent[2 : len(sent) - len(payload)] + bytes(4) + payload
    reader = Reader()
    reader.max_message = 70_000
    reader.feed(masked)
    assert reader.got == [("text", payload)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(b"hello", mask=None), 1002, id="not masked"),
        pytest.param(frame(b"x" * (LIMIT + 1)), 1009, id="too long"),
        pytest.param(frame(b"x" * 70_000)[:14], 1009, id="too long, by its header alone"),
        pytest.param(frame(b"x" * 600, final=False) + frame(b"x" * 600, 0), 1009, id="too long in pieces"),
        pytest.param(frame(b"x", 0), 1002, id="nothing to continue"),
        pytest.param(frame(b"x", final=False) + frame(b"y"), 1002, id="a message within another"),
        pytest.param(frame(b"x", PING, final=False), 1002, id="a cut ping"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="a long ping"),
        pytest.param(frame(b"x", 11), 1002, id="an unknown control frame"),
        pytest.param(frame(b"x", 3), 1002, id="an unknown frame"),
        pytest.param(b"\xc1" + frame(b"x")[1:], 1002, id="compressed, which was never agreed"),
    ],
)
def test_violations_have_their_close_code(data: bytes, code: int) -> None:
    with pytest.raises(Violation) as violation:
        read(data)
    assert violation.value.code == code


def test_kinds() -> None:
    stream = frame(b"a", BINARY) + frame(b"p", PING) + frame(b"q", PONG) + frame(b"", CLOSE) + frame(b"t")
    assert read(stream) == [("binary", b"a"), ("ping", b"p"), ("close", b""), ("text", b"t")]


def test_a_message_of_exactly_the_limit_passes() -> None:
    assert read(frame(b"x" * LIMIT)) == [("text", b"x" * LIMIT)]


def test_while_it_is_held_nothing_is_read_and_nothing_is_lost() -> None:
    reader = Reader(hold_after=2)
    reader.feed(b"".join(frame(b"%d" % number) for number in range(4)))
    assert [payload for _, payload in reader.got] == [b"0", b"1"]
    reader.feed(frame(b"4"))
    assert len(reader.got) == 2
    reader.held = False
    reader.feed(b"")
    assert [payload for _, payload in reader.got] == [b"0", b"1", b"2", b"3", b"4"]
