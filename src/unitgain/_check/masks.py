"""Masks that a model draws and multiplies with in training mode, and that change the size of what they keep. For rule
UG703.

torch's dropout divides by the share that it keeps, so that means are the same in both modes. A mask that is drawn by
hand may forget that, or divide by the wrong number. One forward pass in training mode is followed: masks of zeros and
one other value that come from random numbers, the activations that they are multiplied with, and the numbers that these
are multiplied with or divided by right afterwards. Where the mean factor is not one, the module that does it is run
alone on what it was given, in both modes (a network may scale in evaluation mode instead): the mean of its outputs in
training has to be a multiple of those in evaluation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import Batch, map_tensors, tensors_in
from .._run import Run, random_states
from ..record import MaskFacts
from .drawing import calling_module
from .kept import Kept
from .where import calling_line

_RANDOM = {"rand", "rand_like", "bernoulli", "uniform", "dropout"}
_OF_VALUES = {"bernoulli", "dropout"}  # of those, what they draw may depend on what they are given
_ASKS = {
    "lt",
    "gt",
    "le",
    "ge",
    "less",
    "greater",
    "less_equal",
    "greater_equal",
    "logical_not",
    "invert",
    "bernoulli",
}
_SAME = {"float", "double", "half", "bfloat16", "to", "type", "type_as", "int", "long", "bool", "clone", "contiguous",
         "expand", "expand_as", "view", "reshape", "unsqueeze", "squeeze", "detach", "requires_grad", "floor",
         "logical_not", "invert"}  # fmt: skip
_TIMES, _OVER = (
    {"mul", "rmul", "imul", "multiply"},
    {"div", "truediv", "idiv", "itruediv", "divide", "true_divide"},
)
_FEWEST = 200  # values of a mask: the share that it keeps is known to some percent
_FACTOR = 1.25  # fold, that the mean is off in training
_LEAST, _ERRORS = 0.02, 4.0  # by which outputs are off; of standard errors
_DRAWS = 16  # of the module that draws
_MOST = 20


@dataclass
class _Use:
    """A mask that was multiplied with an activation: by what the activation's mean is multiplied since."""

    where: str | None
    module: nn.Module | None
    scale: float


def mask_facts(model: nn.Module, masks: Masks, batch: Batch, run: Run) -> MaskFacts | None:
    """The first such mask of those that were seen; None where there is none. `run` is rewound."""
    off = [use for use in masks.found if not 1 / _FACTOR < use.scale < _FACTOR and use.module is not None]
    paths = {id(module): path for path, module in model.named_modules()}
    for use in off[:_MOST]:
        assert use.module is not None
        found, error = _between_modes(model, use.module, batch, run)
        if not abs(found - 1) > max(_LEAST, _ERRORS * error) or (found > 1) != (use.scale > 1):
            continue
        return MaskFacts(use.where, paths.get(id(use.module), ""), use.scale)
    return None


def _between_modes(model: nn.Module, module: nn.Module, batch: Batch, run: Run) -> tuple[float, float]:
    """(of the module's outputs, the mean in training mode over those in evaluation mode, fitted; its standard error);
    NaN where it does not run so."""
    given, calls = batch.clone(), []

    def keep(_: nn.Module, args: Any, kwargs: Any) -> None:
        if not calls:
            calls.append(map_tensors((args, kwargs), lambda t: t.detach().clone()))

    try:
        model.train()
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings(), _hooked(module, keep):
            warnings.simplefilter("ignore")
            model(*given.args, **given.kwargs)
        args, kwargs = calls[0]

        def outputs() -> Tensor:
            fresh = map_tensors((args, kwargs), lambda t: t.clone())
            return next(
                t for t in tensors_in(module(*fresh[0], **fresh[1])) if t.is_floating_point()
            ).double()

        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained = torch.stack([outputs().reshape(-1) for _ in range(_DRAWS)])
            module.eval()
            evaluated = outputs().reshape(-1)
        each = trained @ evaluated / evaluated.square().sum()
        return float(each.mean()), float(each.std()) / _DRAWS**0.5
    except Exception:  # the caller's own code, called in its own way
        return math.nan, math.nan
    finally:
        run.rewind(quick=True)


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class Masks:
    """Finds masks among all calls of functions of one pass in training mode."""

    def __init__(self, model: nn.Module) -> None:
        self.found: list[_Use] = []
        self._modules = {id(module): path for path, module in model.named_modules()}
        self._weights = {id(p) for p in model.parameters()}
        self._learnt: Kept[bool] = Kept()
        self._random: Kept[bool] = Kept()
        self._uses: Kept[_Use] = Kept()

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        for tensor in tensors_in(out):
            self._see(name, args, kwargs, tensor)

    def _see(self, name: str, args: Any, kwargs: Any, out: Tensor) -> None:
        given = [t for t in tensors_in((args, kwargs)) if isinstance(t, Tensor)]
        learnt = any(id(t) in self._weights or self._learnt[t] for t in given)
        if name in _RANDOM:
            self._random[out] = not (learnt and name in _OF_VALUES)
            return
        if learnt and not name.endswith("_like") and not name.startswith("new_"):
            self._learnt[out] = True
        random = [t for t in given if self._random[t]]
        number = _number(args[1:2])
        if random and len(given) == 1:
            moved = name in _TIMES | _OVER | {"add", "rsub", "sub", "radd"} and number is not None
            self._random[out] = moved or name in _ASKS | _SAME
        elif name in _TIMES | {"where", "masked_fill"} and random and learnt:
            self._look_at_use(name, args, random[0], out)
        use = self._uses[given[0]] if len(given) == 1 else None
        if use is not None and number and name in _TIMES | _OVER:
            use.scale *= number if name in _TIMES else 1 / number
            self._uses[out] = use

    def _look_at_use(self, name: str, args: Any, mask: Tensor, out: Tensor) -> None:
        x = next((a for a in args if isinstance(a, Tensor) and self._learnt[a]), None)
        if x is None or not out.is_floating_point() or x.shape != out.shape or len(self.found) >= _MOST:
            return
        kept = _share_kept(name, args, mask)
        if kept is None:
            return
        _, module = calling_module(known=self._modules)
        use = _Use(calling_line(), module, kept)
        self.found.append(use)
        self._uses[out] = use


def _share_kept(name: str, args: Any, mask: Tensor) -> float | None:
    """The mean of the mask, of zeros and one other value; None where it is no such mask, or what it drops is not
    zero."""
    values = mask.detach().double()
    if values.numel() < _FEWEST or (name == "where" and not _is_zero(args[2:3])):
        return None
    top = float(values.max())
    if top <= 0 or not bool(((values == 0) | (values == top)).all()) or not bool((values == 0).any()):
        return None
    if name == "masked_fill":
        return 1 - float(values.mean()) if _is_zero(args[2:3]) else None
    return float(values.mean())


def _is_zero(rest: Any) -> bool:
    value = rest[0] if rest else None
    if isinstance(value, Tensor):
        return not bool((value != 0).any())
    return isinstance(value, (int, float)) and value == 0


def _number(rest: Any) -> float | None:
    value = rest[0] if rest else None
    if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
        return float(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
