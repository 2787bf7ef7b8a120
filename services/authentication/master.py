"""The master key: what seals secrets at rest."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SIZE = 32
FILE = "master.key"

_VERSION = b"\x01"
_NONCE = 12


class BrokenSeal(Exception):
    """The sealed secret was changed, belongs elsewhere, or was sealed with another master key."""


class MasterKey:
    """An AES-256-GCM key. A secret is sealed for one place, named by a few words, and opens for that place alone."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        if len(key) != SIZE:
            raise ValueError(f"a master key has {SIZE} bytes")
        self._cipher = AESGCM(key)

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """The key in a text: 32 bytes as base64url, with or without padding.

        Raises:
            ValueError: it is none; the sentence says how to make one and does not repeat the text.
        """
        text = text.strip().rstrip("=")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != SIZE:
            raise ValueError(
                f"The master key must be {SIZE} random bytes in base64url (43 characters). "
                "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        return cls(key)

    @classmethod
    def in_directory(cls, directory: Path) -> MasterKey:
        """The key in the file `master.key` of a directory, made on first use and readable by its owner alone.

        Raises:
            ValueError: the file holds no key. OSError: it cannot be read or made.
        """
        file = directory / FILE
        if not file.exists():
            _write_once(file, secrets.token_urlsafe(SIZE))
        try:
            return cls.parse(file.read_text(encoding="ascii"))
        except ValueError as error:
            raise ValueError(f"{file} holds no master key: put the right file back") from error

    def seal(self, secret: bytes, *place: str) -> bytes:
        """The secret, encrypted and bound to its place."""
        nonce = secrets.token_bytes(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, _bound(place))

    def open(self, sealed: bytes, *place: str) -> bytes:
        """The secret that was sealed for this place.

        Raises:
            BrokenSeal: it was not, or not with this key.
        """
        if sealed[:1] != _VERSION:
            raise BrokenSeal
        nonce, encrypted = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, encrypted, _bound(place))
        except (InvalidTag, ValueError) as error:
            raise BrokenSeal from error


def _bound(place: tuple[str, ...]) -> bytes:
    return json.dumps(place).encode()


def _write_once(file: Path, text: str) -> None:
    """Writes the whole file or nothing; when two processes do so at once, the first one's text stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(text + "\n")
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()
