"""E-mail addresses: what is accepted as one. Whether it works only a mail to it can tell."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST = 254
LONGEST_LOCAL = 64
_LOCAL = re.compile(r'[^\s@<>()\[\],;:\\"]{1,64}')
_LABEL = re.compile(r"[^\W_](([^\W_]|-){0,61}[^\W_])?")


def is_address(value: object) -> bool:
    """Whether it is `local@domain` as people have them: no display name, no quotes, a domain with a dot in it.

    Letters of any script are fine, but no invisible characters and no compatibility forms, which only look like others.
    """
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        return False
    if unicodedata.normalize("NFKC", value) != value:
        return False
    local, _, domain = value.rpartition("@")
    labels = domain.split(".")
    if not _LOCAL.fullmatch(local) or len(labels) < 2 or labels[-1].isdecimal():
        return False
    return all(_LABEL.fullmatch(label) for label in labels) and _is_host(domain)


def tenant_address(platform: str, app_id: str) -> str:
    """An app's own address below the platform's, such as `no-reply+acme@example.com`; it is never the platform's itself."""
    local, _, domain = platform.rpartition("@")
    own = f"{local}+{app_id}"
    if len(own) > LONGEST_LOCAL:
        own = f"{local[: LONGEST_LOCAL - 17]}+{hashlib.sha256(app_id.encode()).hexdigest()[:16]}"
    return f"{own}@{domain}"


def domain_of(address: str) -> str:
    """The domain in one form."""
    return address.rpartition("@")[2].lower().rstrip(".")


def _is_host(domain: str) -> bool:
    try:
        return len(domain.encode("idna")) <= 253
    except UnicodeError:
        return False
