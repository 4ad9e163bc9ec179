"""A strict reader for IDX, the file format of MNIST and its relatives.

Layout: two zero bytes, one byte for the element type (0x08: unsigned bytes), one for the number of
dimensions, then each dimension as a big-endian 32-bit integer, then the elements, last dimension fastest.
Files may be gzipped, which their first bytes show, not their name.

Nothing is guessed: a file is read completely, or refused with one line.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .._base import InputError

_UNSIGNED_BYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str], shape: tuple[int | None, ...] | None = None) -> Tensor:
    """The array in an IDX file, as a uint8 tensor of the file's own shape.

    shape is what the file must hold, None standing for any size: `(None, 28, 28)` are images, `(None,)`
    labels.

    Raises InputError, naming the file and what would be right, if it cannot be read, is empty, damaged,
    truncated or too long, is not IDX, or has another shape.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return _read(raw, path, shape)
            with gzip.GzipFile(fileobj=raw) as unpacked:
                return _read(unpacked, path, shape)  # type: ignore[arg-type]
    except EOFError as error:
        raise InputError(
            f"{path}: the gzip stream ends early, so the file is truncated; fetch it again"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip stream is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(file: BinaryIO, path: Path, shape: tuple[int | None, ...] | None) -> Tensor:
    magic = file.read(4)
    if not magic:
        raise InputError(f"{path}: the file is empty; an IDX file was expected")
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise InputError(f"{path}: not an IDX file: it begins with {magic.hex(' ')}, not with 00 00 08")
    if magic[2] != _UNSIGNED_BYTE:
        raise InputError(
            f"{path}: IDX elements of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are read"
        )
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise InputError(f"{path}: the file is truncated inside its header; fetch it again")
    found = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
    _check_shape(path, found, shape)

    expected = math.prod(found)
    data = bytearray()
    # Reads one byte more than the header promises: this shows a file that is too long, and makes gzip check its
    # checksum. In chunks, because a damaged header may promise more than there is memory.
    while len(data) <= expected:
        chunk = file.read(min(_CHUNK, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) != expected:
        problem = f"only {len(data):,} follow" if len(data) < expected else "more follow"
        raise InputError(
            f"{path}: the header promises {_times(found)} = {expected:,} bytes, but {problem}; "
            "fetch the file again"
        )
    # frombuffer refuses an empty buffer
    return (
        torch.frombuffer(data, dtype=torch.uint8).view(found)
        if expected
        else torch.empty(found, dtype=torch.uint8)
    )


def _check_shape(path: Path, found: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> None:
    if not found:
        raise InputError(f"{path}: an IDX file without dimensions holds no data")
    if wanted is None:
        return
    if len(found) != len(wanted):
        hint = "; are the images and labels swapped?" if {len(found), len(wanted)} == {1, 3} else ""
        raise InputError(
            f"{path}: {_what(found)} ({_times(found)}) instead of {_what(wanted)} ({_times(wanted)}){hint}"
        )
    if any(w is not None and w != f for f, w in zip(found, wanted)):
        raise InputError(f"{path}: its shape is {_times(found)}; expected {_times(wanted)}")


def _what(shape: tuple[int | None, ...]) -> str:
    return {1: "labels", 3: "images"}.get(len(shape), f"{len(shape)}-dimensional data")


def _times(shape: tuple[int | None, ...]) -> str:
    return "x".join("N" if size is None else str(size) for size in shape)
