"""Callbacks for fastai: what `unitgain.watch` does, and adaptive gradient clipping.

fastai's own optimizers are none of torch's: they call no hooks. So for the time of a fit the Learner's `opt.step` goes
through a torch optimizer over the same parameters, whose step is fastai's; what is computed is the same.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch

from .._base import not_installed
from ..optim import AGC, above_zero
from ..probe import Probe
from ..report import Report
from .guarding import never_raises_in_training, refuses_only
from .loggers import check_name
from .watching import Layers, Watch, ended_by, failure, is_main, layers_of, refuse_wrong, tell_end

try:
    from fastai.callback.core import Callback, CancelFitException  # pyright: ignore[reportAttributeAccessIssue]
except ImportError as missing:
    raise not_installed("unitgain.integrations.fastai", "fastai", "fastai") from missing


class _Steps(torch.optim.Optimizer):
    """A torch optimizer whose step is that of a fastai optimizer, so that hooks on steps are called."""

    def __init__(self, given: Any):
        self._given, self._own_step = given, given.step
        groups = [{**group, "params": list(group["params"])} for group in given.param_groups]
        super().__init__(groups, {})
        self.users = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group, hyper in zip(self.param_groups, self._given.hypers):
            group.update(hyper)
        self._own_step() if closure is None else self._own_step(closure)


def _name_of(learn: Any) -> str:
    """Of the Learner's optimizer, as findings speak of it."""
    inside = getattr(learn.opt, "opt", None)  # of fastai's OptimWrapper
    if isinstance(inside, torch.optim.Optimizer):
        return type(inside).__name__
    made_by = learn.opt_func  # a function, perhaps with some of its arguments
    return getattr(getattr(made_by, "func", made_by), "__name__", "Optimizer")


def _lent(learn: Any) -> torch.optim.Optimizer:
    """The torch optimizer through which the Learner's steps go until `_give_back`; callbacks share one."""
    steps = getattr(learn.opt, "_unitgain", None)
    if steps is None:
        steps = learn.opt._unitgain = type(_name_of(learn), (_Steps,), {})(learn.opt)
        learn.opt.step = steps.step
    steps.users += 1
    return steps


def _give_back(learn: Any, steps: Any) -> None:
    steps.users -= 1
    if steps.users == 0 and getattr(learn.opt, "_unitgain", None) is steps:
        del learn.opt.step, learn.opt._unitgain  # its class has the step


class _Callback(Callback):
    """A callback of a few events: of the twenty of a batch, the others are not worth fastai's own checks."""

    learn: Any  # fastai sets it

    def __call__(self, event_name: str) -> Any:
        return super().__call__(event_name) if hasattr(type(self), event_name) else None


class UnitGainCallback(_Callback):
    """Measures a model that a fastai Learner trains, and says what is wrong with it.

        learn = Learner(dls, model, cbs=[UnitGainCallback()])

    every, record, to, fail_on, select, ignore, options   as for `unitgain.integrations.transformers.UnitGainCallback`;
        `to` is None by default
    log      "summary" a handful of numbers, "layers" also one curve for each layer

    Each call of fit makes a new record; with a path, the second one is refused. `lr_find` is not measured. After a fit
    `report` is the diagnosis.
    """

    order = 65  # after Recorder

    def __init__(
        self,
        every: int = 50,
        record: str | os.PathLike[str] | None = None,
        *,
        to: Any = None,
        log: str = "summary",
        fail_on: str = "never",
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        **options: Any,
    ):
        refuse_wrong(every, fail_on, options, select, ignore)
        check_name(to)
        super().__init__()
        self.every, self.path, self.to, self.fail_on = every, record, to, fail_on
        self.layers: Layers = layers_of(log)
        self.select, self.ignore, self.options = select, ignore, options
        self.watch: Watch | None = None
        self._report: Report | None = None
        self.steps: Any = None

    @property
    def report(self) -> Report | None:
        """The diagnosis; while a fit runs, or after one that was interrupted, of what has been measured so far."""
        return self._report if self.watch is None or self.watch.failed else self.watch.report()

    @refuses_only
    def before_fit(self) -> None:
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self.learn, "gather_preds")
        if not self.run:
            return
        self._end()  # of a fit that was interrupted
        self.steps = _lent(self.learn)
        probe = Probe(self.learn.model, self.steps, every=self.every, to=self.path, **self.options)
        self.watch = Watch(
            probe, self.steps, self.to, layers=self.layers, select=self.select, ignore=self.ignore
        ).start()

    @never_raises_in_training
    def after_loss(self) -> None:
        if self.watch is not None and self.learn.training:
            self.watch.add_loss(self.watch.probe.number, self.learn.loss.as_subclass(torch.Tensor))

    def after_batch(self) -> None:
        if self.watch is not None and self.fail_on != "never" and ended_by(self.watch.findings, self.fail_on):
            raise CancelFitException

    @never_raises_in_training
    def after_fit(self) -> None:
        if self.watch is None:
            return
        watch = self.watch
        self._end()
        if self.report is None:
            return
        if is_main():
            tell_end(self.report)
        if found := ended_by(watch.findings, self.fail_on):
            raise failure(watch.probe.number, found)

    def _end(self) -> None:
        if self.watch is not None:
            self._report = self.watch.end()
            self.drop()

    def drop(self) -> None:
        """Lets go of the model, also after an error."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.abandon()
        if self.steps is not None:
            _give_back(self.learn, self.steps)
            self.steps = None


class AGCCallback(_Callback):
    """Adaptive gradient clipping of every step of a fastai Learner: `Learner(..., cbs=[AGCCallback(0.01)])`.

    clipping, options   as for `unitgain.optim.AGC`; `agc` is that object while a fit runs and after it
    """

    order = 60
    agc: AGC | None

    def __init__(self, clipping: float = 0.01, **options: Any):
        super().__init__()
        self.clipping, self.options = clipping, options
        above_zero("clipping", clipping)
        # not self.agc: fastai warns of names that its Learner has too, and this callback itself is learn.agc
        self.__dict__["agc"] = None
        self.steps: Any = None

    def before_fit(self) -> None:
        self._end()
        self.steps = _lent(self.learn)
        self.__dict__["agc"] = AGC(self.steps, self.learn.model, self.clipping, **self.options)

    def after_fit(self) -> None:
        self._end()

    def _end(self) -> None:
        if self.steps is not None and self.agc is not None:
            self.agc.remove()
            _give_back(self.learn, self.steps)
            self.steps = None
