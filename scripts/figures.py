"""What the scripts that draw share: a figure carries a digest of what it was drawn from; a stale one is seen."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from pathlib import Path

LENGTH = 16


def digest(*sources: str) -> str:
    """Of program texts, whatever their line ends are.

    >>> digest("a\\r\\nb") == digest("a\\nb") != digest("a", "b")
    True
    """
    text = "\0".join(source.replace("\r\n", "\n") for source in sources)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def stamp_of(path: Path) -> str | None:
    """The digest in a figure, which its script has put there; None where there is no file, or no digest in it."""
    if not path.exists():
        return None
    found = re.search(rb"drawn from\W{1,3}([0-9a-f]{%d})" % LENGTH, path.read_bytes())
    return found[1].decode() if found else None


def stamped(png: bytes, stamp: str) -> bytes:
    """A PNG with the digest in a text chunk, behind its header (of 8 + 25 bytes)."""
    chunk = b"tEXt" + b"drawn from\0" + stamp.encode()
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + whole + png[33:]
