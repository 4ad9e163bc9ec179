"""Dropout that evaluation mode does not turn off: which call draws it, and in which module. For rule UG706.

Two examples go through the model in evaluation mode, and every call of a dropout function of torch is looked at. One
that a registered module makes which was left in training mode, or that is a dropout module itself, is meant: samples
of a Bayesian network are made so.
"""

from __future__ import annotations

import itertools
import linecache
import sys
import warnings
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from .._batch import Batch
from .._run import Run
from ..record import DrawFacts
from .where import calling_line

_EXAMPLES = 2
_MOST = 20
# The names of their arguments behind the input
DROPOUT = {
    "dropout": ("p", "training"),
    "dropout1d": ("p", "training"),
    "dropout2d": ("p", "training"),
    "dropout3d": ("p", "training"),
    "alpha_dropout": ("p", "training"),
    "feature_alpha_dropout": ("p", "training"),
    "feature_dropout": ("p", "training"),
}
ATTENTION = {"scaled_dot_product_attention": 4, "multi_head_attention_forward": 10}  # where dropout_p stands


def draw_facts(model: nn.Module, batch: Batch, run: Run) -> tuple[DrawFacts, ...] | None:
    """One forward pass of two examples, or of all where it does not run on two; then `run` is rewound. None where the
    model does not run so."""
    for part in (batch.few(_EXAMPLES), batch):  # a graph's nodes cannot be taken apart
        given, draws = part.clone(), _Draws(model)
        try:
            model.eval()
            with torch.no_grad(), warnings.catch_warnings(), draws:
                warnings.simplefilter("ignore")
                model(*given.args, **given.kwargs)
        except Exception:  # the caller's own code, on part of the batch and in evaluation mode
            continue
        finally:
            run.rewind(quick=True)
        return tuple(dict.fromkeys(draws.found))
    return None


class _Draws(TorchFunctionMode):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.found: list[DrawFacts] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if (name in DROPOUT or name in ATTENTION) and len(self.found) < _MOST:
            chance = probability(name, args, kwargs)
            if chance > 0:
                self._see(name, chance)
        return func(*args, **kwargs)

    def _see(self, name: str, probability: float) -> None:
        frame, module = calling_module()
        made = isinstance(module, nn.Module) and id(module) not in self.paths
        if made:
            frame, module = calling_module(frame, self.paths)
        elif isinstance(module, _DropoutNd):
            return
        if isinstance(module, nn.Module) and module.training:
            return
        site = self.paths.get(id(module), "")
        kind = type(module).__name__ if module is not None else ""
        self.found.append(
            DrawFacts(name, probability, calling_line(), site, kind, made, not made and _is_written(frame))
        )


def probability(name: str, args: Any, kwargs: Any) -> float:
    """With which a call of dropout or attention drops something now; 0 where it is switched off."""
    if name in ATTENTION:
        place = ATTENTION[name]
        training = name != "multi_head_attention_forward" or kwargs.get("training", True)
        return float(kwargs.get("dropout_p", args[place] if len(args) > place else 0.0)) if training else 0.0
    given = dict(zip(DROPOUT[name], args[1:]))
    training = given.get("training", kwargs.get("training", kwargs.get("train", True)))
    return float(given.get("p", kwargs.get("p", 0.5))) if training else 0.0


def calling_module(
    frame: FrameType | None = None, known: dict[int, str] | None = None
) -> tuple[FrameType | None, Any]:
    """The innermost frame that is a method of a module (one of the known, where these are given), and that module."""
    frame = sys._getframe(1) if frame is None else frame
    while frame is not None:
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        owner = frame.f_locals.get(names[0]) if names else None
        if isinstance(owner, nn.Module) and (known is None or id(owner) in known):
            return frame, owner
        frame = frame.f_back
    return None, None


def _is_written(frame: FrameType | None) -> bool:
    """Whether `training` is written in the call that this frame is making."""
    if frame is None:
        return False
    positions = getattr(frame.f_code, "co_positions", None)  # from Python 3.11 on
    if positions is None:
        return "training" in linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    place = next(itertools.islice(positions(), frame.f_lasti // 2, None), None)
    if place is None or None in place:
        return False
    first, last, start, end = (int(number or 0) for number in place)
    lines = [linecache.getline(frame.f_code.co_filename, n).encode() for n in range(first, last + 1)]
    lines[-1] = lines[-1][:end]
    lines[0] = lines[0][start:]
    return b"training" in b"".join(lines)
