"""Matrices of booleans as JSON: which example drives which unit into a flat tail."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._base import InputError, RecordError


def pack_map(flags: np.ndarray) -> dict[str, Any]:
    """A matrix of booleans (rows, columns) as JSON, one bit each: {"rows", "cols", "bits"}.

    >>> unpack_map(pack_map(np.array([[True, False], [False, True]])))
    array([[ True, False],
           [False,  True]])
    """
    flags = np.asarray(flags, dtype=bool)
    if flags.ndim != 2:
        raise InputError(f"map: a matrix (examples, units) is needed, not shape {flags.shape}")
    bits = base64.b64encode(np.packbits(flags).tobytes()).decode("ascii")
    return {"rows": flags.shape[0], "cols": flags.shape[1], "bits": bits}


def unpack_map(packed: Mapping[str, Any]) -> np.ndarray:
    """The matrix of booleans (rows, columns) that pack_map packed."""
    rows, cols = int(packed["rows"]), int(packed["cols"])
    bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
    if len(bits) * 8 < rows * cols:
        raise RecordError(
            f"map: {len(bits)} bytes are too few for {rows} x {cols} bits; the record is damaged"
        )
    return np.unpackbits(bits, count=rows * cols).reshape(rows, cols).astype(bool)
