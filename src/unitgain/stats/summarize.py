"""summarize: one tensor to a Partial."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .partial import Partial, Range
from .reduce import as_float, layout, reduce, reduce_without_waiting
from .sample import some_examples, take_sample
from .similarity import measure_cosine, measure_spread
from .stored import is_plain, stored


def summarize(
    x: Tensor,
    *,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    function: Range | None = None,
    cosine: bool = False,
    spread: bool = False,
    count_zeros: bool = True,
    sample: int = 0,
    limit: int | None = None,
    turn: int = 0,
) -> Partial:
    """Reduces a tensor of any shape and dtype to a Partial; of a sparse or nested one, the values that it stores.

    channel_axis  axis of the channels; None takes the whole tensor as one channel
    batch_axis    axis of the examples, for `cosine`, `spread` and `limit`
    function      set for outputs of an activation function: counts zeros, saturated values and live units
    count_zeros   whether to count zeros exactly there (otherwise the sample gives an estimate)
    cosine        also measures how similar the examples are; needs at least two of them
    spread        also measures how far examples are from the mean example
    sample        how many values to keep for histograms (rounded to whole runs); 0 keeps none
    limit         measure only as many examples as hold about this many values (at least 2); None all.
                  Which ones: neighbouring examples, moving on with `turn`, so that in time all are seen
    """
    x = x.detach()
    if not is_plain(x):
        x, channel_axis, batch_axis = stored(x), None, None
        x = x if limit is None else take_sample(x, limit)
    if limit is not None and x.numel() > limit and x.dim() > 1:
        x = some_examples(x, batch_axis or 0, limit, turn)
    if x.dtype is not torch.float32:
        x = as_float(x)
    matrix = layout(x, channel_axis)  # (P, C, S)
    if x.numel() == 0:
        nothing = x.new_full((max(matrix.shape[1], 1),), math.nan)
        return Partial(0, nothing, nothing, nothing, nothing, scalars={"nonfinite": 0.0})

    partial = reduce(matrix) if x.device.type == "cpu" else reduce_without_waiting(matrix)
    if function is not None:
        _measure_function(matrix, function, partial, count_zeros)
    if (cosine or spread) and batch_axis is not None and x.dim() > 1 and x.shape[batch_axis] > 1:
        rows = (x.movedim(batch_axis, 0) if batch_axis else x).reshape(x.shape[batch_axis], -1)  # (B, D)
        if cosine:
            measure_cosine(rows, partial)
        if spread:
            measure_spread(rows, partial)
    if sample:
        partial.sample = take_sample(matrix, sample)
    return partial


def _measure_function(m: Tensor, function: Range, partial: Partial, count_zeros: bool) -> None:
    """Zeros, saturated values and live units of an activation function's output (P, C, S)."""
    scalar = float if m.device.type == "cpu" else (lambda value: value)
    if count_zeros:
        partial.scalars["zeros"] = scalar(m.numel() - torch.count_nonzero(m))
    if function.saturated != (None, None):
        partial.scalars["saturated"] = scalar(torch.count_nonzero(saturated(m, function)))
    partial.alive = dead_or_alive(m, function, partial)


def dead_or_alive(m: Tensor, function: Range, partial: Partial) -> Tensor | None:
    """Which units of an activation function's output (P, C, S) were active for any value; None where there are no units
    or none can be dead."""
    if function.dead is None or m.shape[1] == 1:
        return None
    low, high = function.dead
    if function.dead_tails:
        centre, half = (low + high) / 2, (high - low) / 2
        return ~((m - centre).abs_().amin((0, 2)) >= half)  # NaN is no proof: not dead
    # lowest > highest: no finite value in the channel, which is no proof
    if m.device.type == "cpu":
        lowest, highest = partial.low.numpy(), partial.high.numpy()
        return torch.from_numpy((lowest < low) | (highest > high) | (lowest > highest))
    return (partial.low < low) | (partial.high > high) | (partial.low > partial.high)


def saturated(x: Tensor, function: Range) -> Tensor:
    """Which values of a bounded function's output lie in its flat tails; bool, of x's shape."""
    low, high = function.saturated
    if low is not None and high is not None and not function.at_bound:
        centre, half = (low + high) / 2, (high - low) / 2
        return (x - centre if centre else x).abs() > half
    above = (
        (x >= high if function.at_bound else x > high)
        if high is not None
        else torch.zeros_like(x, dtype=torch.bool)
    )
    if low is None:
        return above
    return above | (x <= low if function.at_bound else x < low)
