"""Socket.IO packets: what is read, what is refused, and what is written."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
import socketio.packet
from hypothesis import given
from hypothesis import strategies as st

from server.engine import packets
from server.engine.packets import BadPacket, Frame, Malformed

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(
    arguments=st.lists(json_values, max_size=4),
    ack=st.none() | st.integers(0, 10**18),
    name=st.text("abc/", max_size=9),
)
def test_an_event_of_the_reference_encoder_is_read(arguments: list[Any], ack: int | None, name: str) -> None:
    library: Any = socketio.packet
    encoded = library.Packet(library.EVENT, data=[name, *arguments], id=ack).encode()
    read = packets.read_event(bytearray(f"4{encoded}".encode()))
    assert read == (name, arguments, b"" if ack is None else str(ack).encode())


@pytest.mark.parametrize(
    "packet",
    [
        b"42",
        b"4212",
        b"42x[]",
        b"42[]",
        b"42[1]",
        b"42[null]",
        b"42[{}]",
        b'42{"a":1}',
        b'42"find"',
        b'42/admin,["find"]',
        b'42-1["find"]',
        b'42 1["find"]',
        '42\u0663["find"]'.encode(),
        b"42" + b"9" * 40 + b'["find"]',
        b'42["find"',
        b'42["\xff"]',
        b'\xef\xbb\xbf42["find"]',
        b"42" + b"[" * 200_000,
    ],
)
def test_what_is_no_event(packet: bytes) -> None:
    with pytest.raises(BadPacket):
        packets.read_event(packet)


@pytest.mark.parametrize("json", [b"[", b'["find", NaN]', b'["find", "\\ud800"]', b"[" * 200_000, b'["find"],[]'])
def test_broken_json_is_told_to_the_one_who_waits_for_an_answer(json: bytes) -> None:
    with pytest.raises(Malformed) as fault:
        packets.read_event(b"4217" + json)
    assert fault.value.ack == b"17"
    assert len(str(fault.value)) < 300


@given(st.binary(max_size=60))
def test_nothing_else_is_ever_raised(tail: bytes) -> None:
    for start in (b"42", b"421[", b'420["', b"4", b"40", b"451-", b"40/"):
        for read in (packets.read_event, packets.read_other):
            with suppress(BadPacket, Malformed):
                read(bytearray(start + tail))


def test_other_packets() -> None:
    assert packets.read_other(b"40") == (packets.CONNECT, "/", None, 0, None)
    assert packets.read_other(b'40{"appId":"acme"}') == (packets.CONNECT, "/", {"appId": "acme"}, 0, None)
    assert packets.read_other(b"40/admin,{}")[:2] == (packets.CONNECT, "/admin")
    assert packets.read_other(b'452-7["a",{"_placeholder":true,"num":0}]')[3:] == (2, 7)


def test_answers() -> None:
    assert packets.answer(b"12", (None, {"a": "\u00e9"})) == b'4312[null,{"a":"\xc3\xa9"}]'
    assert packets.accepted("abc") == b'40{"sid":"abc"}'
    assert packets.refused("No", {"code": 403}) == b'44{"message":"No","data":{"code":403}}'
    assert packets.refused("No", namespace="/x") == b'44/x,{"message":"No"}'


@given(json_values)
def test_a_frame_is_an_event_in_both_forms(data: Any) -> None:
    frame = Frame("messages created", data)
    assert orjson.loads(frame.packet[2:]) == ["messages created", data]
    assert frame.framed.endswith(frame.packet)
    assert frame.framed is frame.framed
