"""One checkpoint is one safetensors file: tensors, and everything else as JSON in its header.

Written atomically, so that a name stands for a complete checkpoint or for none. A SHA-256 over all of it shows damage.
Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._base import InputError, write_atomically
from .._version import __version__
from .tree import pack, unpack

VERSION = 1
_FORMAT = "unitgain checkpoint"
_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")


def name_of(steps: int) -> str:
    """The file's name after so many optimizer steps.

    >>> name_of(1200)
    'checkpoint-00001200.safetensors'
    """
    return f"checkpoint-{steps:08d}.safetensors"


def write(path: str | os.PathLike[str], state: Any) -> None:
    """Writes a state atomically. Raises InputError for what cannot be stored, or a place that cannot be written."""
    from safetensors.torch import save_file

    body, tensors = pack(state)
    text = json.dumps(body, allow_nan=False)
    metadata = {"format": _FORMAT, "version": str(VERSION), "unitgain": __version__, "state": text,
                "sha256": _digest(text, tensors)}  # fmt: skip
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda beside: save_file(tensors, beside, metadata))
    except OSError as error:
        raise InputError(f"checkpoint {path}: cannot be written: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> Any:
    """The state in a checkpoint.

    Raises InputError for one that is missing, truncated, damaged, foreign or from a newer version, and names the
    last good one in the same folder.
    """
    path = Path(path)
    try:
        return _read(path)
    except _Refused as reason:
        good = next((p for p in reversed(list_folder(path.parent)) if p != path and is_good(p)), None)
        hint = (
            f"; the last good one is {good} (to continue from it, delete those after it)"
            if good is not None
            else ""
        )
        raise InputError(f"checkpoint {path}: {reason}{hint}") from reason.__cause__


def list_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints in a folder, by number of steps."""
    found = [
        (int(m[1]), p)
        for p in Path(folder).glob("checkpoint-*.safetensors")
        if (m := _NAME.fullmatch(p.name))
    ]
    return [path for _, path in sorted(found)]


def steps_of(path: Path) -> int:
    """The number in a checkpoint's name, -1 for another name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def is_good(path: Path) -> bool:
    try:
        _read(path)
    except _Refused:
        return False
    return True


class _Refused(Exception):
    """Why a file is no checkpoint."""


def _read(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise _Refused("there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise _Refused("a safetensors file, but not a checkpoint of unitgain")
            version = int(metadata["version"])
            if version > VERSION:
                raise _Refused(
                    f"written by a newer unitgain ({metadata.get('unitgain', 'unknown')}, format {version}; this one "
                    f"reads up to {VERSION}); upgrade unitgain to read it"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if _digest(metadata["state"], tensors) != metadata["sha256"]:
                raise _Refused("damaged: its content does not match its checksum")
            return unpack(json.loads(metadata["state"]), tensors)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _Refused(f"damaged, or not a checkpoint ({error})") from error
    except OSError as error:
        raise _Refused(f"cannot be read: {error.strerror or error}") from error


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
