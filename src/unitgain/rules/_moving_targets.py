"""Losses that rise while the network learns: targets that move with the model, adversaries, losses without a floor."""

from __future__ import annotations

import math

import numpy as np

from ._rule import Threshold
from ._view import View

BESIDE_OUTPUT = Threshold(
    0.5,
    "of the outputs' rms, below which the error lies (the loss, or a larger root): diverging outputs are the error",
)
ADVERSARIAL = Threshold(
    0.5, "of the sampled steps, in which the parameters take part in the loss of another model's optimizer"
)
WITHOUT_FLOOR = Threshold(
    10.0, "times the largest magnitude before, up to which a loss that has been below zero only moves"
)
SMALL_STEPS = Threshold(
    -2.0, "log10(update:data), which the steps of a run stay below that are too small to lead the loss astray"
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


def why_no_objective(view: View) -> str | None:
    """Why a loss that rises does not show that training fails, in words; None where it would."""
    loop, losses = view.facts.loop, view.losses[1]
    if loop.given_up and loop.given_up >= ADVERSARIAL * len(view.steps):
        return "the model also takes part in another model's loss, as in a GAN, where either rises when the other falls"
    if loop.sampled and loop.bare == loop.sampled:
        return "the optimizer never had a gradient, so that none of its steps moved it"
    known = losses[np.isfinite(losses)]
    if len(known) < len(losses) or len(known) < 2 or not known.min() < 0:
        return None
    half = len(known) // 2
    if np.median(np.abs(known[-max(1, half // 2) :])) > WITHOUT_FLOOR * np.abs(known[: half + 1]).max():
        return None
    return "the loss has been below zero: that of a policy gradient or a critic does not fall while the model learns"


def steps_are_small(view: View) -> bool:
    """Whether the weights of a run were never moved far by a step: what the loss does then, the data or another model
    do."""
    found: dict[int, list[float]] = {}
    frame = view.record.frame("update")
    roles = {s.name for s in view.record.sites("update") if s.attributes.get("role") == "weight"}
    for name, step, ratio in zip(frame["site"], frame["step"], frame["ratio"]):
        if name in roles and math.isfinite(ratio):
            found.setdefault(step, []).append(ratio)
    return view.training and bool(found) and bool(max(map(np.median, found.values())) < SMALL_STEPS)
