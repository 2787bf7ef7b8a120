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
    return bson.decode(memoryview(message)[PREFIX.size :], codec_options=CODEC)
