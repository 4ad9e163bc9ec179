"""--data FILE: arrays of one batch from .safetensors or .npz. Never pickle."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .._base import InputError

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
_READS = "--data reads .safetensors, .npz and directories of images"


def read_arrays(path: str, limit: int | None = None) -> dict[str, Tensor]:
    """{name: tensor}; with a limit, only that many first rows of each (of .safetensors no more is read).

    Raises InputError if the file is missing, of another kind, damaged, or holds pickled objects.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _PICKLES:
        raise InputError(
            f"--data {path}: a {suffix} file may hold a pickle, which runs code when it is read, so "
            "unitgain does not open it; save the batch with "
            "safetensors.torch.save_file({'x': x, 'y': y}, 'batch.safetensors')"
        )
    if suffix not in (".safetensors", ".npz"):
        hint = (
            "; save the array with its name: numpy.savez('batch.npz', x=x, y=y)" if suffix == ".npy" else ""
        )
        raise InputError(
            f"--data {path}: {suffix or 'a file without a suffix'} is not a known format; {_READS}{hint}"
        )
    try:
        arrays = _read_safetensors(path, limit) if suffix == ".safetensors" else _read_npz(path, limit)
    except OSError as error:
        raise InputError(f"--data {path}: cannot be read: {error.strerror or error}") from error
    if not arrays:
        raise InputError(f"--data {path}: it holds no arrays; save x (inputs) and y (targets) in it")
    return arrays


def _read_safetensors(path: str, limit: int | None) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if limit is None:
                return {name: file.get_tensor(name) for name in names}
            slices = {name: file.get_slice(name) for name in names}
            return {n: s[:limit] if s.get_shape() else file.get_tensor(n) for n, s in slices.items()}
    except SafetensorError as error:
        raise InputError(f"--data {path}: damaged, or not a .safetensors file: {error}") from error


def _read_npz(path: str, limit: int | None) -> dict[str, Tensor]:
    try:
        # opened here, because numpy leaves a damaged file open
        with open(path, "rb") as raw, np.load(_checked(path, raw), allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(
                    f"--data {path}: a single array, not an .npz archive; use numpy.savez(path, x=x, y=y)"
                )
            return {name: _to_tensor(path, name, file[name], limit) for name in file.files}
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        if "pickle" in str(error).lower():
            raise InputError(
                f"--data {path}: it holds pickled Python objects, which run code when they are read, so "
                "unitgain does not open them; save plain arrays of numbers"
            ) from error
        raise InputError(f"--data {path}: damaged: {error}") from error
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, zlib.error) as error:
        raise InputError(f"--data {path}: damaged, or not an .npz file: {error}") from error


def _checked(path: str, raw: BinaryIO) -> BinaryIO:
    """The file, if it begins like an archive or an array; numpy calls anything else pickled data."""
    start = raw.read(8)
    raw.seek(0)
    if start.startswith(b"\x80"):
        raise InputError(f"--data {path}: it is a pickle, which runs code when it is read; {_READS}")
    if not start.startswith((b"PK", b"\x93NUMPY")):
        what = "it is empty" if not start else "it is not an .npz archive, in spite of its name"
        raise InputError(f"--data {path}: {what}; numpy.savez(path, x=x, y=y) makes one")
    return raw


def _to_tensor(path: str, name: str, array: Any, limit: int | None) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise InputError(f"--data {path}: {name!r} is not an array; numpy.savez makes such files")
    if array.dtype.kind not in "fiub":
        raise InputError(f"--data {path}: {name!r} holds {array.dtype}, not numbers that a model can take")
    if limit is not None and array.ndim:
        array = array[:limit]
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype in (np.uint16, np.uint32, np.uint64):  # torch computes with few of these
        array = array.astype(np.int64)
    if array.dtype == np.longdouble and array.dtype != np.float64:
        array = array.astype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(array) if array.ndim else array.reshape(()))
