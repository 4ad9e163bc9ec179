"""lr_find: one sweep over learning rates, and two ways to read a good one off it.

Source of the sweep: L. Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .._base import InputError
from .._run import Snapshot, in_place
from . import resume
from .callback import Callback, CancelFit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .learner import Learner

_WIDTH = 0.2  # decades: the Gaussian over which losses are averaged
_FALL = 0.02  # of the first loss: less than this is no fall
_NOISE = 7.0  # standard errors of the smoothed loss: neither is less than this
_PART = 0.25  # of the whole sweep's fall: what falls by less before it rises is no valley yet
_RISE = 0.1  # of the fall: the valley ends where the loss has risen by that


@dataclass(frozen=True)
class LRFound:
    """What a sweep saw.

    rates, losses  (steps,) each, in the order of the sweep
    smooth         the losses, single spikes left out, averaged over neighbouring rates
    steepest       rate at which the smoothed loss falls fastest per decade: the cautious choice. None if it never falls
    valley         rate at which the smoothed loss is lowest before it rises for the first time: beyond it steps of
                   this size do harm, and what a network does after them says nothing about a sound one. None too
    suggestion     the valley: on the two ladders it trains each network about as well as the rate picked by hand
                   (docs/training.md), and the point of steepest descent lies 2 to 30 times lower
    reason         why, in a sentence
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    steepest: float | None
    valley: float | None
    suggestion: float | None
    reason: str

    def plot(self) -> Figure:
        """Loss over learning rate with the two points."""
        from ..report.plots._training import lr_sweep

        return lr_sweep(self.rates, self.losses, self.smooth, self.steepest, self.valley)

    def __str__(self) -> str:
        return self.reason


class _Sweep(Callback):
    """Sets the rate before each step and keeps the loss that it was found at."""

    order = 1000

    def __init__(self, start: float, end: float, steps: int, stop_at: float):
        self.start, self.factor, self.steps = start, (end / start) ** (1 / max(1, steps - 1)), steps
        self.stop_at = stop_at
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._group: list[torch.Tensor] = []
        self._batch: Snapshot | None = None

    def before_fit(self, learn: Learner) -> None:
        groups = learn.optimizer.param_groups
        highest = max(float(g["lr"]) for g in groups)
        self._parts = [float(g["lr"]) / highest if highest > 0 else 1.0 for g in groups]

    def before_batch(self, learn: Learner) -> None:
        rate = self.start * self.factor ** len(self.rates)
        for group, part in zip(learn.optimizer.param_groups, self._parts):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate * part)
            else:
                group["lr"] = rate * part
        self._rate = rate
        self._batch = Snapshot(
            learn.batch, names=["batch"]
        )  # a model may work in place, and data may be a list
        self._batch.set_gradients_aside()

    def cleanup_batch(self, learn: Learner) -> None:
        if self._batch is not None:
            self._batch.restore()
            self._batch = None

    def after_loss(self, learn: Learner) -> None:
        self._group.append(learn.loss.detach())

    def before_step(self, learn: Learner) -> None:  # after Accumulate, which cancels the steps that are none
        mean = learn.over_ranks(torch.stack(self._group).mean()) / learn.world
        self._group, loss = [], float(mean)
        if not math.isfinite(loss) and self.losses:
            raise CancelFit
        self.rates.append(self._rate)
        self.losses.append(loss)
        exploded = len(self.losses) > 5 and loss > self.stop_at * abs(min(self.losses)) + 1e-12
        if not math.isfinite(loss) or exploded or len(self.rates) >= self.steps:
            raise CancelFit


def find(learn: Learner, start: float, end: float, steps: int, stop_at: float) -> LRFound:
    """See Learner.lr_find."""
    if not 0 < start < end < math.inf:
        raise InputError(f"lr_find(start={start!r}, end={end!r}): expected 0 < start < end")
    if not isinstance(steps, int) or steps < 10:
        raise InputError(f"lr_find(steps={steps!r}): expected a whole number of at least 10")
    if not stop_at > 1:
        raise InputError(f"lr_find(stop_at={stop_at!r}): expected a number above 1")
    if learn.resuming:
        raise InputError("lr_find: the Learner is about to resume a run; look for the rate before `resume`")
    sweep = _Sweep(start, end, steps, stop_at)
    essential = [c for c in learn.callbacks if c.essential]
    whole = (learn, learn.clock, learn.position, *essential)
    kept = in_place(
        learn.model,
        optimizer=learn.optimizer,
        loss=learn.criterion.given if callable(learn.criterion.given) else None,
        extra=whole,
    )
    with resume.untouched(learn), kept, learn._with([*essential, sweep], instead=True):
        learn.fit(10**9, valid=False)
    return read(np.array(sweep.rates), np.array(sweep.losses), whole=len(sweep.rates) == steps)


def read(rates: np.ndarray, losses: np.ndarray, whole: bool = True) -> LRFound:
    """The suggestions that a sweep's losses give. whole: it did not end before its highest rate, in an explosion.

    Raises InputError if there are none: the first loss is not finite.

    >>> rates = np.logspace(-5, 0, 101)
    >>> found = read(rates, 2 - 1 / (1 + (3e-3 / rates) ** 2) + np.maximum(0, rates - 0.1) * 50)
    >>> round(found.steepest, 4), round(found.valley, 3)
    (0.0032, 0.032)
    """
    if not len(losses) or not np.isfinite(losses[0]):
        raise InputError(
            "lr_find: the loss is not finite at the lowest rate; look at the model with ug.check first"
        )
    logs = np.log10(rates)
    smooth, error = _smooth(logs, losses)
    nothing = LRFound(rates, losses, smooth, None, None, None, "")
    if len(losses) < 5:
        return _with_reason(
            nothing, f"the loss exploded within {len(losses)} steps, at rates of {rates[-1]:.1e} already"
        )
    bottom = int(np.argmin(smooth[: _first_rise(smooth, error)]))
    begin = int(np.argmax(smooth[: bottom + 1]))
    fall = smooth[begin] - smooth[bottom]
    if fall < max(_FALL * abs(smooth[begin]), _NOISE * error) or bottom - begin < 2:
        return _with_reason(nothing, "the loss never fell by more than its noise: no rate can be suggested")
    slope = np.gradient(smooth, logs)
    at = begin + int(np.argmin(slope[begin : bottom + 1]))
    steepest, valley = float(rates[at]), float(rates[bottom])
    reason = (
        f"{valley:.1e}: the loss, smoothed, is lowest there before higher rates undo what lower ones did; it falls "
        f"fastest at {steepest:.1e}, the cautious choice"
    )
    if bottom == len(smooth) - 1 and whole:
        reason += "; it was still falling at the end of the sweep, so higher rates may do too"
    return LRFound(rates, losses, smooth, steepest, valley, valley, reason)


def _first_rise(smooth: np.ndarray, error: float) -> int:
    """Where the smoothed loss has, after a fall, risen for the first time by more than its noise; else its length."""
    top = low = smooth[0]
    fall, whole = 0.0, float(smooth.max() - smooth.min())
    for i, loss in enumerate(smooth):
        if loss < low:
            low, fall = loss, top - loss
        top = max(top, loss)
        if fall > max(_FALL * abs(top), _NOISE * error, _PART * whole) and loss - low > max(
            _RISE * fall, _NOISE * error
        ):
            return i
    return len(smooth)


def _with_reason(found: LRFound, reason: str) -> LRFound:
    from dataclasses import replace

    return replace(found, reason=reason)


def _smooth(logs: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """(means over neighbours with weights that fall off as a Gaussian in log rate, their standard error). A running
    median of five first: a single spike says nothing. Losses that explode are cut off, or they would drown the valley
    beside them."""
    padded = np.pad(losses, 2, mode="edge")
    calm = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    calm = np.minimum(calm, losses[0] + 0.1 * abs(losses[0]))
    weights = np.exp(-0.5 * ((logs[:, None] - logs[None, :]) / _WIDTH) ** 2)
    weights /= weights.sum(1, keepdims=True)
    # from differences of neighbours, which a trend hardly touches
    noise = float(np.median(np.abs(np.diff(losses)))) / 0.6745 / math.sqrt(2) if len(losses) > 1 else 0.0
    middle = weights[len(weights) // 2]
    return weights @ calm, 1.2 * noise * math.sqrt(float(np.square(middle).sum()))
