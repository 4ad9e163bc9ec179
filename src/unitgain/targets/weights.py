"""--weights and --out: a model's parameters and buffers in a .safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import nn

from .._base import InputError, write_atomically


def load_weights(model: nn.Module, path: str) -> None:
    """Puts the tensors of a .safetensors file into the model; tied tensors may be stored once.

    Raises InputError for a file that is missing, damaged or of another kind, and for one whose names or shapes
    are not the model's: the first few that differ are named.
    """
    from safetensors import SafetensorError, safe_open

    if not path.endswith(".safetensors"):
        raise InputError(
            f"--weights {path}: only .safetensors is read (a pickle runs code when it is opened); "
            "safetensors.torch.save_model(model, path) writes one"
        )
    if not os.path.isfile(path):
        raise InputError(f"--weights {path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"--weights {path}: damaged, or not a .safetensors file: {error}") from error
    own = model.state_dict()
    stored = {t.data_ptr() for name, t in own.items() if name in given and t.numel()}
    missing = [n for n, t in own.items() if n not in given and not (t.numel() and t.data_ptr() in stored)]
    unknown = [name for name in given if name not in own]
    shapes = [
        f"{name} {tuple(t.shape)} (here {tuple(own[name].shape)})"
        for name, t in given.items()
        if name in own and t.shape != own[name].shape
    ]
    for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InputError(f"--weights {path}: not of this model: {what}: {', '.join(names[:3])}{more}")
    model.load_state_dict(given, strict=False)


def save_weights(model: nn.Module, path: str, notes: Mapping[str, str] | None = None) -> None:
    """Writes parameters and buffers, tied tensors once; the whole file or, on an error, nothing.

    Raises InputError if it cannot be written.
    """
    from safetensors.torch import save_model

    metadata = {"format": "pt", **(notes or {})}
    try:
        write_atomically(path, lambda beside: save_model(model, str(beside), metadata=metadata))
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written: {error.strerror or error}") from error
