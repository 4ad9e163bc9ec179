"""Inputs that change nothing: of a model that takes several, one is exchanged at a time. For rule UG205.

Each example gets the next one's value, or, of an input that has no axis of examples, such as the weights of a graph's
edges, every value the next one. An input that the model looks at gives other outputs; one that it does not look at
gives the same but for rounding, in evaluation mode, in train mode, and once what begins at zero has moved: a condition
may come in through a layer of zeros.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import Batch, axis_of_examples, named_tensors
from .._run import Run, random_states
from ..stats import is_plain
from .gradients import move_zeros
from .steps import given

_MOST = 8  # inputs that are tried: each costs a forward pass
_ROWS = 4  # examples of each pass, where the batch can be taken apart
_ROUNDING = 16  # times the last digit of a usual output: libraries sum in another order now and then


@dataclass(frozen=True)
class _Way:
    """How the model is run: in which mode, and whether parameters that are zero are moved before."""

    training: bool
    moved: bool = False


_WAYS = (_Way(False), _Way(True), _Way(True, moved=True))


def unused_inputs(model: nn.Module, batch: Batch, run: Run) -> tuple[str, ...] | None:
    """Names of the inputs that change nothing; None where there are not several, or it could not be tried. `run` is
    rewound."""
    inputs = given(batch)
    if not 2 <= len(inputs) <= _MOST or not all(is_plain(x) for x in inputs.values()):
        return None
    few = _few(batch)
    if given(few).keys() != inputs.keys():
        return None  # pictures in a list are examples, not inputs
    examples = few.examples
    exchanged = {name: _exchanged(few.inputs()[name], examples) for name in inputs}
    unused = [name for name, other in exchanged.items() if other is not None]
    for way in _WAYS:
        if not unused:
            break
        try:
            before = _outputs(model, few, run, way)
        except Exception:  # the caller's own model, in evaluation mode or on part of the batch
            return None
        unused = [name for name in unused if _without(model, few, run, way, before, name, exchanged[name])]
    return tuple(unused)


def _without(
    model: nn.Module, batch: Batch, run: Run, way: _Way, before: list[Tensor], name: str, other: Any
) -> bool:
    """Whether outputs are the same with other values of this input."""
    try:
        return _same(before, _outputs(model, batch.with_inputs({name: other}), run, way))
    except Exception:  # what it refuses it has looked at
        return False


def _few(batch: Batch) -> Batch:
    return batch if batch.examples is None or batch.examples <= _ROWS else batch.few(_ROWS)


def _exchanged(x: Tensor, examples: int | None) -> Tensor | None:
    """Other values of the same kind; None where there are none. They are no other order of the same ones, nor the same
    ones scaled or moved: a sum over all, or a standardization, would not show that."""
    axis = None if examples is None else axis_of_examples(x, examples)
    if axis is None and not x.is_floating_point():
        return None  # indices into something: others may not exist
    other = _next(x, axis) if axis is not None else _next(x.flatten(), 0).reshape(x.shape)
    return None if torch.equal(other, x) else other


def _next(x: Tensor, axis: int) -> Tensor:
    """Each one replaced by the one after it, the first thus lost and the last there twice."""
    places = torch.arange(1, x.shape[axis] + 1, device=x.device).clamp(max=x.shape[axis] - 1)
    return x.index_select(axis, places)


def _outputs(model: nn.Module, batch: Batch, run: Run, way: _Way) -> list[Tensor]:
    """Every tensor that comes out, with the same random numbers each time."""
    fresh = batch.clone()
    try:
        model.train(way.training)
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if way.moved:
                move_zeros(model)
            found: Any = model(*fresh.args, **fresh.kwargs)
            return [
                tensor.clone() for _, tensor in named_tensors(found)
            ]  # also in an object of a class of one's own
    finally:
        run.rewind(quick=True)


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return bool(one) and len(one) == len(other) and all(map(_equal, one, other))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    if not one.numel():
        return True
    sizes = one.abs().flatten()
    usual = sizes.kthvalue(1 + len(sizes) // 4).values  # a masked score is -1e9
    small = torch.finfo(one.dtype).eps * (_ROUNDING if one.element_size() >= 4 else 1)
    return bool(((one - other).abs() <= small * torch.maximum(one.abs(), usual)).all())
