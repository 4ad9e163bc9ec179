"""The output as logits: whether it holds probabilities, and what makes it large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._rule import Found, Threshold
from ._view import View

if TYPE_CHECKING:
    from . import ug201_input_not_normalized as ug201

ROW_SUM = Threshold(0.001, "rounding of bfloat16 stays below it, chance does not come near")
OWN_GAIN = Threshold(
    3.0,
    "rms of what comes out over rms of what went in: a layer below it is not at fault, and an earlier finding explains "
    "that its output is large",
)
LARGE_INPUT = Threshold(3.0, "rms from which the input explains large logits and saturated first layers")


def rows_sum_to_one(view: View) -> bool:
    """True if the output holds probabilities (log-probabilities are negative)."""
    output = view.facts.output
    return output.row_sum_error < ROW_SUM and not output.min < 0


def input_is_large(cause: Found[ug201.Evidence], size: float) -> bool:
    """Whether something of this size is large because the input is, with layers of moderate gain in between."""
    rms = cause.evidence.rms
    return rms >= LARGE_INPUT and size < OWN_GAIN * rms
