"""Inputs that change nothing: of a model that takes several, one is exchanged at a time. For rule UG205.

Each example gets another one's value, or, of an input that has no axis of examples, such as the weights of a graph's
edges, every value another one. An input that the model looks at gives other outputs; one that it does not look at gives
the same, bit for bit, in evaluation mode and in train mode.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import Batch, axis_of_examples, tensors_in
from .._run import Run, random_states
from ..stats import is_plain
from .steps import given

_MOST = 8  # inputs that are tried: each costs a forward pass
_ROWS = 4  # examples of each pass, where the batch can be taken apart


def unused_inputs(model: nn.Module, batch: Batch, run: Run) -> tuple[str, ...] | None:
    """Names of the inputs that change nothing; None where there are not several, or it could not be tried. `run` is
    rewound."""
    inputs = given(batch)
    if not 2 <= len(inputs) <= _MOST or not all(is_plain(x) for x in inputs.values()):
        return None
    few = _few(batch)
    examples = few.examples
    outputs: dict[bool, list[Tensor]] = {}
    try:
        for mode in (False, True):
            outputs[mode] = _outputs(model, few, run, mode)
    except Exception:  # the caller's own model, in evaluation mode or on part of the batch
        return None
    unused = []
    for name in inputs:
        other = _exchanged(few.inputs()[name], examples)
        if other is None:
            continue
        try:
            changed = few.with_inputs({name: other})
            if all(_same(outputs[mode], _outputs(model, changed, run, mode)) for mode in (False, True)):
                unused.append(name)
        except Exception:  # what it refuses it has looked at
            continue
    return tuple(unused)


def _few(batch: Batch) -> Batch:
    return batch if batch.examples is None or batch.examples <= _ROWS else batch.few(_ROWS)


def _exchanged(x: Tensor, examples: int | None) -> Tensor | None:
    """Other values of the same kind; None where there are none."""
    axis = None if examples is None else axis_of_examples(x, examples)
    if axis is not None:
        other = x.roll(1, axis)
    elif x.is_floating_point():
        other = 0.5 * x + 0.25
    else:
        return None  # indices into something: others may not exist
    return None if torch.equal(other, x) else other


def _outputs(model: nn.Module, batch: Batch, run: Run, training: bool) -> list[Tensor]:
    """Every tensor that comes out, with the same random numbers each time."""
    fresh = batch.clone()
    try:
        model.train(training)
        with torch.no_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Any = model(*fresh.args, **fresh.kwargs)
            return [tensor.clone() for tensor in tensors_in(found)]
    finally:
        run.rewind(quick=True)


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return bool(one) and len(one) == len(other) and all(map(torch.equal, one, other))
