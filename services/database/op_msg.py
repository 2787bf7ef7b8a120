"""MongoDB's wire message (OP_MSG): one command out, one reply back.

Layout, little endian: length, request id, id that a reply answers, op code 2013, flags; then sections. Section kind 0
is the command or reply itself, kind 1 a named run of documents that belong to it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

import bson
from bson.codec_options import CodecOptions

from services.store import Document

CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)

OP_MSG = 2013
#: Header, flags and the kind of the first section.
PREFIX = struct.Struct("<iiiiIB")
_RUN = struct.Struct("<i")
_RUN_NAME = b"documents\0"


# With what a replica set ends each of its replies: its times, which nobody here asks for and which take as long to decode
# as a small document. Behind a client's data there is always more, so that no data can be taken for them.
_CLUSTER_TIME = b"\x03$clusterTime\0\x58\0\0\0\x11clusterTime\0"
_OPERATION_TIME = b"\x11operationTime\0"
_LAST = 9
_TIME_SIZE = len(_OPERATION_TIME) + _LAST
_TIMES_SIZE = 14 + 0x58 + _TIME_SIZE


class SurprisingReply(Exception):
    """The server answered with something that the lean path does not speak."""


def encode(request_id: int, command: Mapping[str, Any], documents: Sequence[bytes] = ()) -> bytes:
    """The message for a command; `documents` are encoded already and become its field `documents`.

    Raises:
        BSONError, ValueError, OverflowError, RecursionError: A value cannot be kept.
    """
    body = bson.encode(command, codec_options=CODEC)
    if not documents:
        return PREFIX.pack(PREFIX.size + len(body), request_id, 0, OP_MSG, 0, 0) + body
    run = b"".join(documents)
    run_size = _RUN.size + len(_RUN_NAME) + len(run)
    head = PREFIX.pack(PREFIX.size + len(body) + 1 + run_size, request_id, 0, OP_MSG, 0, 0)
    return b"".join((head, body, b"\x01", _RUN.pack(run_size), _RUN_NAME, run))


def decode(message: bytes | bytearray, request_id: int) -> Document:
    """The reply in a whole message.

    Raises:
        SurprisingReply: It is no plain reply to this request.
    """
    length, _, answers, op_code, flags, kind = PREFIX.unpack_from(message)
    if length != len(message) or answers != request_id or op_code != OP_MSG or flags or kind:
        raise SurprisingReply(f"op code {op_code}, flags {flags}, section kind {kind}")
    if message.endswith(_OPERATION_TIME, -_TIME_SIZE, -_LAST) and message.startswith(_CLUSTER_TIME, -_TIMES_SIZE):
        size = length - PREFIX.size - _TIMES_SIZE + 1
        body = b"".join((size.to_bytes(4, "little"), message[PREFIX.size + 4 : -_TIMES_SIZE], b"\0"))
        return bson.decode(body, codec_options=CODEC)
    return bson.decode(memoryview(message)[PREFIX.size :], codec_options=CODEC)
