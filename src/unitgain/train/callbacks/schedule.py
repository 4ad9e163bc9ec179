"""Learning rates over time: any of torch's schedulers, and one cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..._base import InputError
from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner


class Schedule(Callback):
    """A scheduler of torch, stepped after every optimizer step or every epoch.

    make     a function from the optimizer to a scheduler; it is called when a fit begins
    each     "step" or "epoch"
    monitor  the metric that ReduceLROnPlateau is given

    >>> from torch.optim.lr_scheduler import CosineAnnealingLR
    >>> schedule = Schedule(lambda optimizer: CosineAnnealingLR(optimizer, T_max=1000), each="step")
    """

    order = 30
    essential = False
    trains = True

    def __init__(self, make: Callable[[Optimizer], Any], *, each: str = "step", monitor: str = "valid_loss"):
        if not callable(make):
            raise InputError("Schedule(make=...): expected a function from the optimizer to a scheduler")
        if each not in ("step", "epoch"):
            raise InputError(f"Schedule(each={each!r}): expected 'step' or 'epoch'")
        self.make, self.each, self.monitor = make, each, monitor
        self.scheduler: Any = None

    def before_fit(self, learn: Learner) -> None:
        self.scheduler = self.make(learn.optimizer)
        if not isinstance(self.scheduler, (LRScheduler, ReduceLROnPlateau)):
            got = type(self.scheduler).__name__
            raise InputError(f"Schedule(make=...): the function gave {got}, not a scheduler of torch")

    def after_step(self, learn: Learner) -> None:
        if self.each == "step":
            self.scheduler.step()

    def after_epoch(self, learn: Learner) -> None:
        if self.each != "epoch":
            return
        if not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()
        elif self.monitor in learn.metrics:
            self.scheduler.step(learn.metrics[self.monitor])
        else:
            raise InputError(
                f"Schedule(monitor={self.monitor!r}): not among the metrics ({', '.join(learn.metrics) or 'none'}); "
                "add Metrics() to the callbacks"
            )

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scheduler is not None:
            self.scheduler.load_state_dict(dict(state))


class OneCycle(Callback):
    """The learning rate rises from max_lr/start_div to max_lr and falls to max_lr/start_div/end_div, each along half a
    cosine; momentum (or Adam's first beta) falls and rises between momentum[0] and momentum[1] meanwhile. One value
    per batch, the same as torch's OneCycleLR gives; since they depend on the position in training alone, it has no
    state.

    max_lr    for all parameter groups, or one for each
    warm_up   fraction of all batches in which it rises
    momentum  (highest, lowest); None: unchanged

    Source: L. Smith and N. Topin, "Super-convergence", 2018; the cosine is fast.ai's.
    """

    order = 30
    essential = False
    trains = True
    plans_epochs = True  # a resumed run must have as many as the first one

    def __init__(
        self,
        max_lr: float | Sequence[float],
        *,
        warm_up: float = 0.3,
        start_div: float = 25.0,
        end_div: float = 1e4,
        momentum: tuple[float, float] | None = (0.95, 0.85),
    ):
        rates = [max_lr] if isinstance(max_lr, (int, float)) else list(max_lr)
        if not rates or not all(math.isfinite(r) and r > 0 for r in rates):
            raise InputError(
                f"OneCycle(max_lr={max_lr!r}): expected a number above 0, or one per parameter group"
            )
        if not 0 <= warm_up <= 1:
            raise InputError(f"OneCycle(warm_up={warm_up!r}): expected a fraction from 0 to 1")
        self.rates, self.warm_up, self.momentum = rates, warm_up, momentum
        self.start_div, self.end_div = start_div, end_div

    def before_fit(self, learn: Learner) -> None:
        groups = learn.optimizer.param_groups
        if len(self.rates) not in (1, len(groups)):
            raise InputError(
                f"OneCycle(max_lr=...): {len(self.rates)} rates for {len(groups)} parameter groups"
            )
        if learn.batches is None:
            raise InputError("OneCycle: the training data does not say how many batches it has (no __len__)")
        self._total, self._per_epoch = learn.epochs * learn.batches, learn.batches

    def before_batch(self, learn: Learner) -> None:
        if not learn.training:
            return
        at = learn.epoch * self._per_epoch + learn.batch_index
        groups = learn.optimizer.param_groups
        rates = self.rates * len(groups) if len(self.rates) == 1 else self.rates
        for group, rate in zip(groups, rates):
            low = rate / self.start_div
            group["lr"] = self._value(at, low, rate, low / self.end_div)
            if self.momentum is not None:
                high, least = self.momentum
                value = self._value(at, high, least, high)
                if "betas" in group:
                    group["betas"] = (value, *group["betas"][1:])
                elif "momentum" in group:
                    group["momentum"] = value

    def _value(self, at: int, start: float, top: float, end: float) -> float:
        turn, last = self.warm_up * self._total - 1, self._total - 1
        if at <= turn:
            return _cosine(start, top, at / turn if turn > 0 else 1.0)
        return _cosine(top, end, (at - turn) / (last - turn) if last > turn else 1.0)


def _cosine(start: float, end: float, part: float) -> float:
    """From start (part 0) to end (part 1)."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
