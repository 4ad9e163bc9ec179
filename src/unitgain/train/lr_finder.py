"""lr_find: one sweep over learning rates, two rates read off it, and short trials that find where the network dies.

Source of the sweep: L. Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3. A sweep passes
quickly over rates that kill a network after a hundred steps, so the rate that it gives is tried out (lr_trials.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._base import InputError, card, paragraph
from .._batch import tensors_in
from .._run import Snapshot, in_place, loader_state, set_loader_state
from . import resume
from .callback import Callback, CancelBatch, CancelFit
from .callbacks.progress import Progress, Sweep
from .lr_trials import Cliff, Trial, find_cliff

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .learner import Learner

_WIDTH = 0.2  # decades: the Gaussian over which losses are averaged
_FALL = 0.02  # of the first loss: a smaller fall does not count
_NOISE = 7.0  # standard errors of the smoothed loss: nor does a smaller one than this
_PART = 0.25  # of the whole sweep's fall: a rise after less than this does not end the valley
_RISE = 0.1  # of the fall: the valley ends where the loss has risen by that
_IDLE_EPOCHS = 3  # epochs without a step, after which a callback that cancels all of them ends the sweep
STEP_MODES = ("exp", "linear")


@dataclass(frozen=True)
class LRFound:
    """The result of a sweep and of the trials after it.

    rates, losses  (steps,) each, in the order of the sweep; losses of the validation data if it was asked for
    smooth         the losses without single spikes, averaged over neighbouring rates
    steepest       rate at which the smoothed loss falls fastest per decade: the cautious choice. None if it never falls
    valley         rate at which the smoothed loss is lowest before it rises for the first time: beyond it such
                   steps do harm, and the losses after them do not apply to a well-trained network. Or None
    suggestion     the valley, or the highest half, quarter, ... of it at which the network survived the trials. On the
                   two ladders it trains each network about as well as the rate chosen by hand (docs/training.md), and
                   the point of steepest descent lies 2 to 30 times lower. None where no rate can be named
    range          (lowest, highest) rate that is worth a training: from the point of steepest descent, or half of the
                   suggestion where that is lower, to the suggestion, or the highest rate at whose double the trials
                   survived too. Or None
    cliff          the lowest rate at which a trial died. None if none did
    trials         what was tried, in that order
    confidence     "high": every trial learned, and none died at up to four times the rate. "medium": the network dies
                   within four times the rate, or nothing was tried. "low": it had not begun to learn when the trials
                   ended, or the sweep ended before its loss rose. "" where there is no suggestion
    reason         why, in a sentence
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    steepest: float | None
    valley: float | None
    suggestion: float | None
    reason: str
    range: tuple[float, float] | None = None
    cliff: float | None = None
    trials: tuple[Trial, ...] = ()
    confidence: str = ""

    def __repr__(self) -> str:
        rate = "none" if self.suggestion is None else f"{self.suggestion:.2g}"
        sure = f", confidence {self.confidence}" if self.confidence else ""
        return f"<LRFound {rate}{sure}: {len(self.rates)} rates, {len(self.trials)} trials>"

    def _repr_html_(self) -> str:
        """A notebook's card: the rate, its range, how sure it is and why."""
        if self.suggestion is None:
            return card("No learning rate can be named", "warning", [paragraph(self.reason)])
        span = f"{self.range[0]:.2g} to {self.range[1]:.2g}" if self.range is not None else ""
        cliff = f"{self.cliff:.2g}" if self.cliff is not None else ""
        parts = [paragraph(span, "Worth a training:"), paragraph(cliff, "A trial died at:"),
                 paragraph(self.confidence, "Confidence:"), paragraph(self.reason)]  # fmt: skip
        status = {"high": "healthy", "low": "warning"}.get(self.confidence, "info")
        return card(f"Learning rate {self.suggestion:.2g}", status, parts)

    def plot(self, ax: Axes | None = None, *, skip_start: int = 0, skip_end: int = 0) -> Figure:
        """Loss over learning rate with the rates that were read off, and where the network died.

        ax                    draws into these axes instead of a new figure
        skip_start, skip_end  so many steps are left out at either end of the sweep

        Raises InputError if nothing would be left.
        """
        from ..report import plots

        left = len(self.rates) - skip_start - skip_end
        if skip_start < 0 or skip_end < 0 or left < min(2, len(self.rates)):
            raise InputError(
                f"plot(skip_start={skip_start}, skip_end={skip_end}): the sweep has {len(self.rates)} steps; "
                "both must be at least 0 and leave two steps"
            )
        part = slice(skip_start, len(self.rates) - skip_end)
        return plots.lr_sweep(
            self.rates[part], self.losses[part], self.smooth[part], self.steepest, self.valley,
            suggestion=self.suggestion, cliff=self.cliff, ax=ax,
        )  # fmt: skip

    def __str__(self) -> str:
        return self.reason


class _Rate(Callback):
    """Sets the rate before each step and keeps the loss that was measured at it, until it has enough of them."""

    order = 1000

    def __init__(
        self, rates: Sequence[float], stop_at: float = math.inf, order: int = 0, valid: bool = False
    ):
        self.planned, self.stop_at, self.data_order, self.valid = rates, stop_at, order, valid
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.not_finite = False
        self.constant = False  # whether the last outputs are the same for every example
        self.done = False
        self._parts: list[float] = []
        self._group: list[torch.Tensor] = []
        self._batch: Snapshot | None = None
        self._seen = self._idle = 0
        self._skip: int | None = None

    def before_fit(self, learn: Learner) -> None:
        if not self._parts:
            groups = learn.optimizer.param_groups
            highest = max(float(g["lr"]) for g in groups)
            self._parts = [float(g["lr"]) / highest if highest > 0 else 1.0 for g in groups]

    def before_epoch(self, learn: Learner) -> None:
        self._idle = self._idle + 1 if len(self.rates) == self._seen else 0
        self._seen = len(self.rates)
        if self._idle > _IDLE_EPOCHS:
            self._end()

    def before_batch(self, learn: Learner) -> None:
        if self._skip is None:
            self._skip = 3 * self.data_order % max(1, learn.batches or 1)
        if self._skip:  # data in a fixed order begin elsewhere
            self._skip -= 1
            raise CancelBatch
        rate = self.planned[len(self.rates)]
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
        if len(self.rates) == len(self.planned) - 1:
            self.constant = _constant(learn.outputs)

    def before_step(self, learn: Learner) -> None:  # after Accumulate, which cancels steps
        mean = learn.over_ranks(torch.stack(self._group).mean()) / learn.world
        self._group, loss = [], float(mean)
        if self.valid:
            loss = _validation_loss(learn)
        self.not_finite = not math.isfinite(loss)
        if self.not_finite and self.losses:
            self._end()
        self.rates.append(self._rate)
        self.losses.append(loss)
        exploded = len(self.losses) > 5 and loss > self.stop_at * abs(min(self.losses)) + 1e-12
        if not math.isfinite(loss) or exploded or len(self.rates) >= len(self.planned):
            self._end()

    def _end(self) -> None:
        self.done = True
        raise CancelFit


def find(
    learn: Learner,
    start: float,
    end: float,
    steps: int,
    *,
    stop_at: float = 4.0,
    step_mode: str = "exp",
    valid: bool = False,
    trials: int = 3,
    check: bool = True,
) -> LRFound:
    """See Learner.lr_find."""
    if not 0 < start < end < math.inf:
        raise InputError(f"lr_find(start={start!r}, end={end!r}): expected 0 < start < end")
    if not isinstance(steps, int) or steps < 10:
        raise InputError(f"lr_find(steps={steps!r}): expected a whole number of at least 10")
    if not stop_at > 1:
        raise InputError(f"lr_find(stop_at={stop_at!r}): expected a number above 1")
    if step_mode not in STEP_MODES:
        raise InputError(f'lr_find(step_mode={step_mode!r}): expected "exp" or "linear"')
    if not isinstance(trials, int) or trials < 0:
        raise InputError(f"lr_find(trials={trials!r}): expected a whole number of at least 0")
    if valid and learn.data.valid is None:
        raise InputError("lr_find(valid=True): the Learner has no validation data")
    if learn.resuming:
        raise InputError("lr_find: the Learner is about to resume a run; look for the rate before `resume`")
    first, further = _sick(learn) if check else ("", "")
    planned = np.geomspace(start, end, steps) if step_mode == "exp" else np.linspace(start, end, steps)
    sweep = _train(learn, _Rate(planned.tolist(), stop_at, valid=valid))
    if not sweep.rates:
        raise InputError("lr_find: a callback cancels every batch or step: not one step was made")
    found = read(np.array(sweep.rates), np.array(sweep.losses), whole=len(sweep.rates) == steps)
    if first:
        reason = (
            f"no rate is suggested for a sick network: cure {first} first, since the rate changes with that"
        )
        return replace(found, suggestion=None, reason=reason)
    if found.suggestion is not None and trials:
        found = _tried(learn, found, trials, max(20, steps // 4))
    elif found.suggestion is not None:
        found = replace(found, confidence="medium")
    return replace(found, reason=f"{found.reason}; first see to {further}") if further else found


def _train(learn: Learner, run: _Rate) -> _Rate:
    """Trains with the rates of `run` and puts everything back."""
    essential = [c for c in learn.callbacks if c.essential]
    shown = [Sweep(c.console, run.planned, run.rates) for c in learn.callbacks if isinstance(c, Progress)]
    given = learn.criterion.given
    kept = in_place(
        learn.model,
        optimizer=learn.optimizer,
        loss=given if callable(given) else None,
        extra=(learn, learn.clock, learn.position, *essential),
    )
    with resume.untouched(learn), kept, learn._with([*essential, run, *shown[:1]], instead=True):
        if run.data_order:
            _reorder(learn.data.train, run.data_order)
        taken = -1
        while not run.done and len(run.rates) > taken:  # a callback of the user's may end a fit
            taken = len(run.rates)
            learn.fit(10**9, valid=False)
    return run


def _reorder(loader: Any, order: int) -> None:
    """Another order of the data, where a generator draws it, and other random numbers (dropout, augmentation)."""
    torch.manual_seed(order)
    state = loader_state(loader)
    generators = state.get("generators") or [state.get("state", {}).get("generator")]
    seeded = [
        torch.Generator().manual_seed(order).get_state() for g in generators if isinstance(g, torch.Tensor)
    ]
    if "generators" in state:
        set_loader_state(loader, {"generators": seeded})
    elif seeded:
        set_loader_state(loader, {"state": {**state["state"], "generator": seeded[0]}})


def _constant(outputs: Any) -> bool:
    """Whether the first output is the same for every example, to a millionth of its size."""
    first = next(
        (t for t in tensors_in(outputs) if t.is_floating_point() and t.dim() > 1 and len(t) > 1), None
    )
    if first is None:
        return False
    values = first.detach().float().flatten(1)
    return bool((values - values[:1]).abs().max() <= 1e-6 * values.abs().max())


def _tried(learn: Learner, found: LRFound, trials: int, steps: int) -> LRFound:
    """The suggestion tried out from the untrained network, in several orders of the data."""

    def trial(rate: float, order: int) -> tuple[list[float], bool]:
        run = _train(learn, _Rate([rate] * steps, order=order))
        cut = [math.nan] if run.not_finite else []  # which ends the run
        return [*run.losses, *cut], run.constant

    assert found.valley is not None
    begin = found.losses[: max(3, len(found.losses) // 20)]
    cliff = find_cliff(trial, found.valley, begin, trials)
    return _with_cliff(found, cliff)


def _with_cliff(found: LRFound, cliff: Cliff) -> LRFound:
    found = replace(found, trials=cliff.trials, cliff=cliff.lowest_deadly)
    if cliff.suggestion is None or cliff.highest_safe is None:
        return replace(
            found,
            suggestion=None,
            reason=f"no rate can be suggested: {cliff.describe(None)}; look at it with ug.check",
        )
    rate = cliff.suggestion
    assert found.steepest is not None
    assert found.valley is not None
    near = cliff.lowest_deadly is not None and cliff.lowest_deadly <= 4 * rate
    learned = all(t.outcome == "learned" for t in cliff.trials if t.rate == rate)
    rising = "still falling at the end" not in found.reason
    confidence = "low" if not (learned and rising) else "medium" if near else "high"
    reason = found.reason
    if rate != found.valley:
        why = (
            "such a training does not last"
            if rate < found.valley
            else "a short training at this rate gets lower"
        )
        reason = f"{rate:.1e}: the sweep's lowest loss is at {found.valley:.1e}, but {why}"
    return replace(
        found,
        suggestion=rate,
        range=(min(found.steepest, rate / 2), cliff.highest_safe),
        confidence=confidence,
        reason=f"{reason}; {cliff.describe(rate)}; confidence {confidence}",
    )


def _sick(learn: Learner) -> tuple[str, str]:
    """(the first finding that stands in the way of any rate, the first one that should be seen to): what a check of the
    model on the first batch finds, both "" where there is none or where it cannot be checked."""
    from .._check import check

    try:
        with in_place(learn.model, extra=(learn, *learn.callbacks)):
            batch = learn.first_batch()
        report = check(learn.model, batch, loss=learn.criterion.given)
    except InputError:
        return "", ""
    named = [(f.severity, f"{f.code} {f.name}") for f in report.findings if not f.code.startswith("UG5")]
    errors = [name for severity, name in named if severity == "error"]
    warnings = [name for severity, name in named if severity == "warning"]
    return next(iter(errors), ""), next(iter(warnings), "")


def _validation_loss(learn: Learner) -> float:
    """Of the whole validation data, in eval mode; the training batch is in place again afterwards."""
    with _aside(learn), torch.no_grad():
        total, examples = torch.zeros(()), 0
        assert learn.data.valid is not None
        prepare = [c for c in learn.callbacks if getattr(c, "prepares", False)]
        for batch in learn.data.valid:
            learn.batch = batch
            for callback in prepare:
                callback.before_batch(learn)  # type: ignore[attr-defined]
            learn._read_batch()
            learn._predict()
            learn._compute_loss()
            total += learn.loss.detach().float().cpu() * learn.examples
            examples += learn.examples
    if not examples:
        raise InputError("lr_find(valid=True): the validation data gave no batch")
    both = learn.over_ranks(torch.stack([total, torch.tensor(float(examples))]))
    return float(both[0] / both[1])


@contextmanager
def _aside(learn: Learner) -> Iterator[None]:
    names = ("batch", "inputs", "kwargs", "target", "_passed", "outputs", "loss", "training")
    kept = {name: getattr(learn, name) for name in names}
    modes = [(module, module.training) for module in learn.model.modules()]
    learn.training = False
    learn.model.eval()
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(learn, name, value)
        for module, mode in modes:
            module.training = mode


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
        reason = f"the loss exploded within {len(losses)} steps, at rates of {rates[-1]:.1e} already"
        return replace(nothing, reason=reason)
    bottom = int(np.argmin(smooth[: _first_rise(smooth, error)]))
    begin = int(np.argmax(smooth[: bottom + 1]))
    fall = smooth[begin] - smooth[bottom]
    if fall < max(_FALL * abs(smooth[begin]), _NOISE * error) or bottom - begin < 2:
        reason = "the loss never fell by more than its noise: no rate can be suggested"
        return replace(nothing, reason=reason)
    slope = np.gradient(smooth, logs)
    at = begin + int(np.argmin(slope[begin : bottom + 1]))
    steepest, valley = float(rates[at]), float(rates[bottom])
    reason = (
        f"{valley:.1e}: the smoothed loss is lowest there, before higher rates undo the training at lower ones; it "
        f"falls fastest at {steepest:.1e}, the cautious choice"
    )
    if bottom == len(smooth) - 1 and whole:
        reason += "; it was still falling at the end of the sweep, so higher rates may work too"
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


def _smooth(logs: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """(means over neighbours with Gaussian weights in log rate, their standard error). Before that a running median of
    five removes single spikes, and losses far above the first one are limited, since they would hide a valley beside
    them."""
    padded = np.pad(losses, 2, mode="edge")
    limited = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    limited = np.minimum(limited, losses[0] + 0.1 * abs(losses[0]))
    weights = np.exp(-0.5 * ((logs[:, None] - logs[None, :]) / _WIDTH) ** 2)
    weights /= weights.sum(1, keepdims=True)
    # from differences of neighbours, on which a trend has little effect
    noise = float(np.median(np.abs(np.diff(losses)))) / 0.6745 / math.sqrt(2) if len(losses) > 1 else 0.0
    middle = weights[len(weights) // 2]
    return weights @ limited, 1.2 * noise * math.sqrt(float(np.square(middle).sum()))
