"""What a dead cell of a notebook leaves running on a model is stopped when the next cell makes its own.

A Probe that was started without `with` measures until it is stopped, and an error in the cell takes the line that would
have done so. Scripts have no such cells: there, several Probes of one model are meant.
"""

from __future__ import annotations

import os
import warnings
import weakref
from types import FrameType
from typing import Any

from torch import nn

_running: weakref.WeakKeyDictionary[Any, nn.Module] = (
    weakref.WeakKeyDictionary()
)  # Probes, and Watches: their models


def remember(one: Any, model: nn.Module) -> None:
    """It was started, and no `with` will stop it."""
    _running[one] = model


def forget(one: Any) -> None:
    """It was stopped, or a `with` will do so."""
    _running.pop(one, None)


def stop_left_behind(kind: type, model: nn.Module, caller: FrameType) -> None:
    """Stops with a warning what of this kind is still running on the model, if the caller is a cell's code."""
    if not _is_cell(caller):
        return
    for old in [one for one, its in list(_running.items()) if its is model and type(one) is kind]:
        old.stop()
        warnings.warn(
            f"unitgain's {kind.__name__}: another one was still measuring this {type(model).__name__}, left running by "
            "an earlier cell; it is stopped. Begin the loop with `with`, and it is stopped after an error too.",
            stacklevel=3,
        )


def _is_cell(frame: FrameType) -> bool:
    """Whether code is in no file: that of a notebook's cell and of a prompt is called <stdin> or ipykernel_7/8.py."""
    name = frame.f_code.co_filename
    ours = frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]
    return not ours and ("ipykernel" in name or not os.path.exists(name))
