"""The file that wandb writes for an offline run: LevelDB's log format with protobuf records.

https://github.com/google/leveldb/blob/main/doc/log_format.md. A file is cut into blocks of 32 KiB; a record is a header
(checksum, length, kind) and its bytes; one that does not fit is cut into a first, middle and last piece. wandb puts
seven bytes of its own before everything. The records' schema comes with the package wandb.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from .._base import InputError, not_installed

_BLOCK, _HEADER = 32_768, struct.Struct("<IHB")
_MAGIC = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_NAMED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def history(path: str) -> Iterator[tuple[int, str, float]]:
    """(step, name, value) of every number that was logged. A file whose end is missing is read as far as it goes.

    Raises InputError for another kind of file, and without wandb.
    """
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise not_installed(f"log {path}", "wandb", "wandb") from error
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"log {path}: cannot be read: {error.strerror or error}") from error
    if data[: len(_MAGIC)] != _MAGIC:
        raise InputError(f"log {path}: not a file of wandb (it does not begin with {_MAGIC.decode()})")
    for body in _records(data):
        record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        try:
            record.ParseFromString(body)
        except Exception as error:  # DecodeError, whose module depends on protobuf's version
            raise InputError(
                f"log {path}: damaged, or written by another version of wandb: {error}"
            ) from error
        if record.WhichOneof("record_type") == "history":
            yield from _row(record.history)


def _records(data: bytes) -> Iterator[bytes]:
    at, pieces = _HEADER.size, b""
    while at + _HEADER.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        body = data[at : at + length]
        at += length
        if len(body) < length or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return  # it was being written
        pieces = body if kind in (_FULL, _FIRST) else pieces + body
        if kind in (_FULL, _LAST):
            yield pieces
            pieces = b""


def _row(row: Any) -> Iterator[tuple[int, str, float]]:
    cells: dict[str, Any] = {}
    for item in row.item:
        name = ".".join(item.nested_key) or item.key
        cells[name] = json.loads(item.value_json) if item.value_json else _typed(item)
    step = int(cells.get("_step", row.step.num))
    for name, value in cells.items():
        if name.startswith("_") or isinstance(value, bool):
            continue
        value = _NAMED.get(value) if isinstance(value, str) else value
        if isinstance(value, (int, float)):
            yield step, name, float(value)


def _typed(item: Any) -> Any:
    """Newer versions have a field for each type."""
    for name in ("integer", "number", "text"):
        if name in item.DESCRIPTOR.fields_by_name and item.HasField(name):
            return getattr(item, name)
    return None
