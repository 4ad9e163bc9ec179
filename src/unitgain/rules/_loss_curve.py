"""The recorded losses of a run: their course, and the step from which they have diverged."""

from __future__ import annotations

import numpy as np

from ._rule import CannotJudge, Threshold
from ._view import View

FAR = Threshold(
    10.0, "times the first loss, above which all losses of the last fifth lie: diverged, however short"
)
FIFTH = Threshold(5, "the run's end is the last of so many equal parts")
ENDING = Threshold(3, "losses at least, that this last fifth has: one may be a hard batch")


def loss_curve(view: View, least: float) -> tuple[np.ndarray, np.ndarray]:
    """(steps, losses) of a training run with at least so many recorded losses."""
    steps, losses = view.losses
    if not view.training:
        raise CannotJudge("only training runs have a loss curve")
    if len(losses) < least:
        raise CannotJudge(f"too few steps were recorded: needs {least:g} losses, there are {len(losses)}")
    return steps, losses


def finite_until(losses: np.ndarray) -> int:
    """How many losses there are before the first that is not finite."""
    broken = ~np.isfinite(losses)
    return int(np.argmax(broken)) if broken.any() else len(losses)


def first_diverged(view: View) -> int | None:
    """Index of the first loss of a training run from which all are not finite, or from which all are far above the
    first loss. A loss that was not finite counts, even if later ones are. None: there is none."""
    losses = view.losses[1]
    if not view.training or not len(losses):
        return None
    end = finite_until(losses)
    if end == 0:
        return 0
    far = losses[:end] > FAR * losses[0] if losses[0] > 0 else np.zeros(end, dtype=bool)
    ending = max(int(ENDING), end // int(FIFTH))
    if end < len(losses) or (end > ending and far[-ending:].all()):
        return int(np.nonzero(~far)[0][-1]) + 1
    return None


def diverged_from(view: View) -> int | None:
    """The step of that loss, unless the run recovered: what was measured from there on is of a network whose training
    has failed, and says nothing about the learning rate or the layers."""
    index, (steps, losses) = first_diverged(view), view.losses
    recovered = len(losses) and np.isfinite(losses[-1]) and not np.isfinite(losses).all()
    return None if index is None or recovered else int(steps[index])
