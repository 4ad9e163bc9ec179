"""How many trials, and of how many steps, a model of this size gets: decided once, from what a step computes, so that
the result does not depend on the machine's speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..record import Record

_TOTAL = (
    4e10  # multiplications forward, of all steps of all trials: some 20 s of one core, in narrow convolutions
)
_MOST_TRIALS, _FEWEST_TRIALS = 16, 2
_FEWEST_STEPS = 40


@dataclass(frozen=True)
class Effort:
    """steps: of each trial; trials: at most, beside the training as it is."""

    steps: int
    trials: int


def effort_for(record: Record, steps: int) -> Effort:
    """steps: of a trial of a small model."""
    cost = max(_multiplications(record), 1.0)
    fitting = int(_TOTAL / (cost * _MOST_TRIALS))
    each = max(min(steps, _FEWEST_STEPS), min(steps, fitting))
    return Effort(each, max(_FEWEST_TRIALS, min(_MOST_TRIALS, int(_TOTAL / (cost * each)))))


def _multiplications(record: Record) -> float:
    """Of one forward pass: every weight is used once for each position of its layer's output."""
    made = {site.name: site for site in record.sites("activation")}
    total = 0.0
    for weight in record.sites("parameter"):
        layer = made.get(str(weight.attributes.get("site", "")))
        if layer is None or len(weight.shape) < 2 or weight.attributes.get("role") == "embedding":
            continue
        axis = layer.channel_axis
        channels = layer.shape[axis] if axis is not None and axis < len(layer.shape) else 1
        total += math.prod(weight.shape) * math.prod(layer.shape) / max(1, channels)
    return total
