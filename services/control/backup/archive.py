"""The archive: a file of batches, each compressed by itself and with a checksum, so that what was interrupted can go on.

    batch 0    {"format": "roost-archive", "version": 1, "app_id": ..., "at": ..., "tenant": {...}}
    batch 1... {"collection": ..., "count": n}, then n lines with a document each, in extended JSON
    the last   {"end": true, "documents": ...}

Each batch is one gzip member, whose last line is {"sha256": ...} over the lines before. Nothing in it is a path or a program.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from bson import json_util
from bson.json_util import JSONMode, JSONOptions

from hooks.errors import BadRequest, Conflict
from services.store import Document

FORMAT = "roost-archive"
VERSION = 1
LARGEST = 128 * 1024 * 1024
"""Bytes of one batch when it is unpacked: more is no archive of ours, whatever it says. The largest document that MongoDB
keeps has up to 96 MB as a text.
"""
MOST = 10_000
"""Documents of one batch: small ones take much more memory than their text."""
_CHUNK = 64 * 1024
_OPTIONS = JSONOptions(json_mode=JSONMode.CANONICAL, tz_aware=True)


class BrokenArchive(BadRequest):
    """The file is no archive, or a part of it is damaged."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents of one collection, or the head or the end."""

    head: dict[str, Any]
    documents: Sequence[Document] = ()
    ends_at: int = field(default=0, compare=False)
    """Where in the file the next one begins."""


def write_batch(file: BinaryIO, head: dict[str, Any], documents: Sequence[Document] = ()) -> None:
    """Adds a batch to the file."""
    lines = [json.dumps(head), *(json_util.dumps(document, json_options=_OPTIONS) for document in documents)]
    text = "".join(f"{line}\n" for line in lines).encode()
    seal = json.dumps({"sha256": hashlib.sha256(text).hexdigest()}).encode()
    packer = zlib.compressobj(level=6, wbits=31)
    file.write(packer.compress(text + seal + b"\n") + packer.flush())
    file.flush()


def read_batches(path: Path) -> Iterator[Batch]:
    """The batches of a file, one at a time.

    Raises:
        BrokenArchive: at the first one that is damaged, cut short or too large. OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        rest = b""
        place = 0
        while rest or (rest := file.read(_CHUNK)):
            text, rest, size = _unpack(file, rest)
            place += size
            yield _parse(text, place)


def intact_end(path: Path) -> tuple[list[Batch], int]:
    """The heads of all intact batches from the beginning, without their documents, and where the last of them ends."""
    heads: list[Batch] = []
    end = 0
    try:
        for batch in read_batches(path):
            last = [{"_id": batch.documents[-1]["_id"]}] if batch.documents else []
            heads.append(Batch(batch.head, last, batch.ends_at))
            end = batch.ends_at
    except BrokenArchive:
        # What was being written when it was interrupted.
        pass
    return heads, end


def _unpack(file: BinaryIO, rest: bytes) -> tuple[bytes, bytes, int]:
    """The next member's text, the bytes that come after it, and how many bytes the member had."""
    unpacker = zlib.decompressobj(wbits=31)
    text = bytearray()
    size = 0
    try:
        while True:
            text += unpacker.decompress(rest, LARGEST + 1 - len(text))
            if len(text) > LARGEST:
                raise BrokenArchive("A part of the archive is larger than any that is written")
            size += len(rest)
            if unpacker.eof:
                return bytes(text), unpacker.unused_data, size - len(unpacker.unused_data)
            rest = unpacker.unconsumed_tail or file.read(_CHUNK)
            size -= len(unpacker.unconsumed_tail)
            if not rest:
                raise BrokenArchive("The archive ends in the middle")
    except zlib.error as error:
        raise BrokenArchive("The file is no archive, or it is damaged") from error


def _parse(text: bytes, ends_at: int) -> Batch:
    if text.count(b"\n") + text.count(b"\r") > MOST + 2:
        raise BrokenArchive("A part of the archive has more documents than any that is written")
    lines = text.splitlines(keepends=True)
    try:
        seal = json.loads(lines[-1])["sha256"] if lines else ""
        if hashlib.sha256(b"".join(lines[:-1])).hexdigest() != seal:
            raise BrokenArchive("A part of the archive is damaged: its checksum is another one")
        head = json.loads(lines[0])
        documents = [json_util.loads(line, json_options=_OPTIONS) for line in lines[1:-1]]
    except BrokenArchive:
        raise
    except Exception as error:
        # Extended JSON is read by others, who raise errors of many kinds.
        raise BrokenArchive("A part of the archive is not understood") from error
    if not isinstance(head, dict) or not all(isinstance(document, dict) for document in documents):
        raise BrokenArchive("A part of the archive is not understood")
    if head.get("count", 0) != len(documents):
        raise BrokenArchive("A part of the archive has not as many documents as it says")
    return Batch(head, documents, ends_at)


def read_head(batches: Iterator[Batch]) -> dict[str, Any]:
    """What an archive says of itself and its tenant.

    Raises:
        BrokenArchive: it is none, or of another version.
    """
    first = next(batches, None)
    head = {} if first is None else first.head
    if head.get("format") != FORMAT or not all(isinstance(head.get(name), str) for name in ("app_id", "at")):
        raise BrokenArchive("The file is no archive of a tenant")
    if head.get("version") != VERSION or not isinstance(head.get("tenant"), dict):
        raise BrokenArchive(f"The archive is of version {head.get('version')}, and this server reads version {VERSION}")
    return head


def open_archive(file: Path, *, is_new: bool) -> BinaryIO:
    """The file to write to: it has the hashes of passwords, and is for nobody else to read; it leads nowhere else.

    Raises:
        Conflict: there is something in the place of a new one.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.fdopen(os.open(file, flags | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o600), "r+b")
    except FileExistsError as error:
        raise Conflict(f"{file} exists: take another name") from error
