"""Targets that move with the model: in Q-learning the loss grows while the network learns."""

from __future__ import annotations

import math

import numpy as np

from ._rule import Threshold
from ._view import View

BESIDE_OUTPUT = Threshold(
    0.5,
    "of the outputs' rms, below which the error lies (the loss, or a larger root): diverging outputs are the error",
)
OUTPUT_GROWN = Threshold(2.0, "fold, by which the outputs grew at least where their targets moved")


def targets_move(view: View, last: float) -> bool:
    """Whether the outputs grew and the loss fell beside them, so that they follow targets that grow with them."""
    if view.facts.loss.kind in ("cross_entropy", "mse") or view.output is None:
        return False
    sizes = view.record.series("activation", view.output.name, "rms")[1]
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if len(sizes) < 2 or last < 0:
        return False
    return sizes[-1] > OUTPUT_GROWN * sizes[0] and max(last, math.sqrt(last)) < BESIDE_OUTPUT * sizes[-1]
