"""Learner: the training loop, with places for callbacks to watch and to change what happens.

The loop is `fit`, `_epoch`, `_pass` and `_batch`, and computes the same bits as a loop written by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .._base import InputError, no_module
from .._batch import Batch, Objective, Reader, describe_output
from ..record import Record
from . import resume
from .callback import ACTIONS, EVENTS, Callback, Event, check_callbacks, clean_up, replaces
from .clock import Clock
from .data import Data, as_data, check_not_empty, length, no_batch
from .given import make_optimizer, set_rate
from .memory import clean_memory

if TYPE_CHECKING:
    from .lr_finder import LRFound
    from .summary import Summary

Optimizer = torch.optim.Optimizer


class Learner:
    """Trains a model.

    model      any nn.Module
    data       (train, valid), an object with .train and .valid, or training data alone: anything that gives batches
               when iterated over, in any of the shapes that `ug.check` takes
    loss       as for `ug.check`: (outputs, targets) -> scalar; or the name of one of ours; "auto": the loss that the
               model returns, else cross entropy for integer targets and mean squared error for float ones; None: the
               model returns its loss, and takes all of the batch
    optimizer  an optimizer over the model's parameters, or a function from the parameters to one
    callbacks  see `Callback`
    record     path of a new SQLite record for what callbacks measure; None keeps it in a temporary one

    While it trains, callbacks see and may change:

    batch, inputs, kwargs, target   the batch as the loader gave it, and its parts, set after `before_batch`; a target
                                    that forward takes itself is among kwargs too
    outputs, loss, objective        objective is what backward starts from: the loss, unless a callback scaled it
    training                        True in a training pass, False in a validation pass
    epoch, epochs, batch_index      numbers from 0; batch_index of this pass
    ends_pass                       set it to True for this batch to be the last one of its pass
    steps                           optimizer steps so far, over all fits
    metrics                         {name: value} of the last epoch, filled by Metrics

    Raises InputError for arguments that cannot be used.

    >>> data = [(torch.randn(8, 3), torch.randint(4, (8,))) for _ in range(5)]
    >>> learn = Learner(nn.Linear(3, 4), data, "auto", lambda p: torch.optim.SGD(p, lr=0.1))
    >>> learn.fit(2)
    >>> learn.steps
    10
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: str | Callable[[Any, Any], Tensor] | None = "auto",
        optimizer: Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        callbacks: Sequence[Callback] = (),
        *,
        record: str | os.PathLike[str] | Record | None = None,
    ):
        if not isinstance(model, nn.Module):
            raise no_module("Learner(model=...)", model)
        self.criterion = Objective(loss)
        self.model = model
        self._reader = Reader(model, self.criterion.pass_target)
        self.network = model  # what predict calls in training: the model, or a wrapper of it (Distributed)
        self.data: Data = as_data(data)
        self.optimizer = make_optimizer(optimizer, model)
        self.callbacks = list(callbacks)
        check_callbacks(self.callbacks)
        self.rank, self.world = 0, 1
        self.collective_device: torch.device | None = None  # where tensors must be to travel between ranks
        self.metrics: dict[str, float] = {}
        self.history: list[dict[str, float]] = []  # the metrics of every epoch
        self.fits = self.steps = self.epoch = self.epochs = self.batch_index = 0
        self.clock = Clock()
        self.training = self._train = True
        self.ends_pass = False
        self.stepped = False  # whether the last training batch ended in an optimizer step
        self.batch: Any = None
        self.inputs: tuple[Any, ...] = ()
        self.kwargs: Mapping[str, Any] = {}
        self.target: Any = None
        self._passed: str | None = None  # under which keyword the model takes the target itself
        self.outputs: Any = None
        self.loss: Tensor = torch.zeros(())
        self.objective: Tensor = self.loss
        self.position = resume.Position()
        self._given_record = record
        self._record: Record | None = None
        self._pending: resume.Resume | None = (
            None  # a checkpoint's state, until the fit in which it was taken
        )
        self._goes_on = False  # an existing record is continued
        self._bind()

    # ---- the loop ------------------------------------------------------------------------------------------

    def fit(
        self,
        epochs: int = 1,
        lr: float | None = None,
        *,
        train: bool = True,
        valid: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Trains for so many epochs, each followed by a validation pass if there is validation data.

        lr         the learning rate from here on, of several groups that of the highest; the others keep their
                   proportion. None: as it is
        train      False: validation passes alone
        callbacks  further ones, for this fit only
        """
        if lr is not None:
            set_rate(self.optimizer, lr)
        if not train and (not valid or self.data.valid is None):
            raise InputError("fit(train=False): there is no validation data, so nothing would be done")
        self._train = train
        if not isinstance(epochs, int) or epochs < 0:
            raise InputError(f"fit(epochs={epochs!r}): expected a whole number of at least 0")
        self._validate = valid and self.data.valid is not None
        if epochs:
            check_not_empty(self.data, self._validate, train=train)
        self.fits += 1
        if self._pending is not None and self.fits < self._pending.fit:
            return  # done before the run was interrupted
        given = (
            [*self.callbacks, *callbacks]
            if train
            else [c for c in (*self.callbacks, *callbacks) if not c.trains]
        )
        with self._with(given, instead=True), self.clock:
            self.epochs, self.epoch, self.batch_index = epochs, -1, 0
            try:
                self._do(self._events["fit"], self._fit)
            finally:
                self.position.inside = False

    def _fit(self) -> None:
        first = 0 if self._pending is None else self._pending.enter(self)
        self.epoch = first - 1
        for epoch in range(first, self.epochs):
            self.epoch = epoch
            self._do(self._events["epoch"], self._epoch)

    def _epoch(self) -> None:
        for training in [True] * self._train + [False] * self._validate:
            self.training = training
            self.model.train(self.training)
            with contextlib.nullcontext() if self.training else torch.no_grad():
                self._do(self._events["pass"], self._pass)
        self.position.inside = False  # a state taken from here on is one between two epochs

    def _pass(self) -> None:
        around, batch = self._events["batch"], self._batch
        with self.position.iterate(self) as batches:  # from the start, or from where a resumed run was
            self.ends_pass = False
            for self.batch in batches:
                self._do(around, batch)
                if self.ends_pass:
                    break
        if self.batch_index < 0 and self.world == 1:  # a rank's share of a few examples may be none
            raise no_batch(self.training)

    def _batch(self) -> None:
        events = self._events
        self._read_batch()
        self._do(events["predict"], self._predict)
        self._do(events["loss"], self._compute_loss)
        if self.training:
            self.objective = self.loss
            self._do(events["backward"], self._backward)
            self.take_step()

    def _read_batch(self) -> None:
        found = self._reader(self.batch)
        self.inputs, self.kwargs, self.target = found.args, found.kwargs, found.target
        self._passed = found.passed

    def take_step(self) -> None:
        """The optimizer's step with the events around it, and no gradients afterwards; unless it is cancelled."""
        self.stepped = self._do(self._events["step"], self._step)
        if self.stepped:
            self._zero_grad()

    def _do(self, event: Event, action: Callable[[], Any]) -> bool:
        """An action with the callbacks around it. False if one of them cancelled it."""
        try:
            for hook in event.before:
                hook(self)
            action()
            for hook in event.after:
                hook(self)
            return True
        except event.cancel:
            return False
        finally:
            if event.cleanup:
                clean_up(event.cleanup, self)

    # ---- actions, which a callback may replace -------------------------------------------------------------

    def _default_predict(self) -> None:
        network = self.network if self.training else self.model
        self.outputs = network(*self.inputs, **self.kwargs) if self.kwargs else network(*self.inputs)

    def _default_loss(self) -> None:
        loss = self._plain_loss
        for wrap in self._wraps:
            loss = wrap(self, loss)
        self.loss = loss(self.outputs, self.target)

    def _plain_loss(self, outputs: Any, target: Any) -> Tensor:
        batch = self.parsed if target is self.target else replace(self.parsed, target=target)
        found = self.criterion.compute(outputs, batch)
        if found is None:
            raise InputError(
                "data: the batch has no target and the model's output carries no loss: it is "
                f"{describe_output(outputs)}; give (inputs, target) pairs, or a model that returns its loss"
            )
        return found[1]

    def _default_backward(self) -> None:
        self.objective.backward()

    def _default_step(self) -> None:
        self.optimizer.step()

    def _default_zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def _bind(self) -> None:
        """Finds the methods of callbacks for each event once, so that no batch has to search for them."""
        ordered = sorted(self.callbacks, key=lambda c: c.order)
        self._events = {name: Event(name, ordered) for name in EVENTS}
        self._wraps = [c.wrap_loss for c in ordered if callable(getattr(type(c), "wrap_loss", None))]  # type: ignore[attr-defined]
        chosen: dict[str, Callable[[], Any]] = {}
        for name in ACTIONS:
            replaced = next((getattr(c, name) for c in ordered if replaces(c, name)), None)
            default = getattr(self, f"_default_{name}")
            chosen[name] = default if replaced is None else partial(self._replaced, name, replaced)
        self._predict, self._compute_loss, self._backward = (
            chosen[n] for n in ("predict", "loss", "backward")
        )
        step, self._zero_grad = chosen["step"], chosen["zero_grad"]

        def count_step() -> None:
            step()
            self.steps += 1

        self._step = count_step

    def _replaced(self, name: str, action: Callable[[Learner], Any]) -> None:
        attribute = {"predict": "outputs", "loss": "loss"}.get(name, "")
        before = getattr(self, attribute, None)
        if action(self) is not None and attribute and getattr(self, attribute) is before:
            raise InputError(
                f"the callback's {name} returned a value, which is not used; set learn.{attribute} instead"
            )

    @contextlib.contextmanager
    def _with(self, callbacks: Sequence[Callback], instead: bool = False) -> Iterator[None]:
        """The callbacks for a while, beside the Learner's own or instead of them."""
        own = self.callbacks
        everyone = [*callbacks] if instead else [*own, *callbacks]
        check_callbacks(everyone)
        self.callbacks = everyone
        self._bind()
        try:
            yield
        finally:
            self.callbacks = own
            self._bind()

    # ---- the state of training ---------------------------------------------------------------------------------

    @property
    def batches(self) -> int | None:
        """Training batches per epoch, None where the loader does not know."""
        return length(self.data.train)

    @property
    def seconds(self) -> float:
        """Of all fits until now, including those before the checkpoint of a resumed run, if the checkpoint has them."""
        return self.clock.seconds

    @property
    def parsed(self) -> Batch:
        """The current batch, from inputs, kwargs and target as they are now."""
        return Batch(self.inputs, self.kwargs, self.target, self._passed)

    @property
    def examples(self) -> int:
        """Examples in the current batch, 1 if nothing says how many."""
        return self.parsed.examples or 1

    @property
    def resuming(self) -> bool:
        """True from `resume` until the state is in place: callbacks that prepare a new model do nothing then."""
        return self._pending is not None

    @property
    def record(self) -> Record:
        """The record of what callbacks measure, made when it is first used."""
        if self._record is None:
            given = self._given_record
            if isinstance(given, Record):
                self._record = given
            elif given is None or self.rank:
                self._record = Record()
            elif self._goes_on and os.path.exists(given) and os.path.getsize(given):
                steps = self.steps if self._pending is None else self._pending.steps
                self._record = Record.reopen(given, before=steps)
            else:
                Path(given).parent.mkdir(parents=True, exist_ok=True)
                self._record = Record(given)
        return self._record

    def over_ranks(self, total: Tensor) -> Tensor:
        """The sum over all ranks of a data-parallel run; must be called by all of them."""
        if self.world == 1:
            return total
        sent = total.to(self.collective_device, copy=True) if self.collective_device else total.clone()
        torch.distributed.all_reduce(sent)
        return sent.to(total.device)

    def first_batch(self) -> Any:
        """The batch that the next training pass begins with, prepared by callbacks (device, transforms). Random
        states and the order of the data are as before. Raises InputError where the data give no batch."""
        with resume.untouched(self):
            given: list[Any] = list(itertools.islice(self.data.train, 1))
            if not given:
                raise no_batch(True)
            before, self.batch = self.batch, given[0]
            for callback in sorted(self.callbacks, key=lambda c: c.order):
                if getattr(callback, "prepares", False):
                    callback.before_batch(self)  # type: ignore[attr-defined]
            self.batch, batch = before, self.batch
        return batch

    # ---- further methods ----------------------------------------------------------------------------

    def fit_one_cycle(
        self,
        epochs: int,
        max_lr: float | Sequence[float],
        *,
        warm_up: float = 0.3,
        valid: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """fit with the learning rate rising to max_lr over the first part (warm_up) and then falling to almost 0,
        and the momentum changing the opposite way; see OneCycle."""
        from .callbacks import OneCycle

        self.fit(epochs, valid=valid, callbacks=[*callbacks, OneCycle(max_lr, warm_up=warm_up)])

    def validate(self, data: Any = None, *, callbacks: Sequence[Callback] = ()) -> dict[str, float]:
        """The metrics of one validation pass, which is no part of the training: with a Metrics callback
        {"valid_loss": ..., "accuracy": ...}. data: a loader in place of the Learner's validation data."""
        from .predicting import validate

        return validate(self, data, callbacks)

    def predict(
        self,
        data: Any = None,
        *,
        transforms: Sequence[Callable[[Tensor], Tensor]] = (),
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Any]:
        """(outputs, targets) of all examples in evaluation mode, on the CPU; targets is None where there are none.

        data        a loader or one batch; None: the validation data
        transforms  test-time augmentation: functions of the first input, such as `lambda x: x.flip(-1)`. Outputs are
                    then means over the input as it is and changed by each
        activation  applied to outputs before they are averaged: `lambda x: x.softmax(1)` averages probabilities

        Callbacks prepare the batches, and the weights are those of a validation pass (EMA's). Raises InputError for a
        model that returns no logits.
        """
        from .predicting import predict

        return predict(self, data, transforms, activation)

    def lr_find(
        self,
        start: float = 1e-6,
        end: float = 10.0,
        steps: int = 400,
        *,
        stop_at: float = 4.0,
        step_mode: str = "exp",
        valid: bool = False,
        trials: int = 3,
        check: bool = True,
    ) -> LRFound:
        """Trains with a learning rate that grows from step to step, to find the rate at which the loss is lowest, and
        tries out what that gives.

        The learning rate grows by the same factor at each of `steps` optimizer steps (step_mode="linear": by the same
        amount), and the sweep ends early when the loss exceeds stop_at times its lowest. Then the network is trained
        from where it is for steps / 4 steps at the rate that the sweep gives, `trials` times with the data in another
        order, and at half of the rate as long as one of these trainings dies; if none does, at twice and four times the
        rate, once each. A training dies when its loss becomes NaN or infinite, ends above where it began, returns to
        there, or stays there while a lower rate has learned. trials=0 leaves all that out. Before everything the model
        is checked on the first batch; if that gives an error, no rate is suggested, and the finding is named that
        should be cured first (check=False: no check).

        valid  reads the loss off the validation data, all of them at every step, instead of the training batch

        Afterwards weights, buffers, gradients, optimizer, random states, callbacks and the order of the data are the
        same as before, bit for bit. With several parameter groups, the rates are those of the group with the highest
        one; the others keep their proportion. Callbacks that are not `essential` are left out.

        With few steps the network has hardly been trained when the rates become high, and the rates that it can take
        then are not those of a trained one: with 100 steps instead of 400, two of four rungs of the Fashion-MNIST
        ladder get rates that cost them more than a point of accuracy.

        Raises InputError for arguments that cannot be used, and if the loss is not finite at the lowest rate.
        """
        from .lr_finder import find

        return find(
            self,
            start,
            end,
            steps,
            stop_at=stop_at,
            step_mode=step_mode,
            valid=valid,
            trials=trials,
            check=check,
        )

    def summary(self, batch: Any = None) -> Summary:
        """Modules, output shapes, parameters and FLOPs of one forward pass of the batch (None: the first one)."""
        from .summary import summarize

        return summarize(self.model, self.first_batch() if batch is None else batch)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything that a resumed run needs into one file, atomically."""
        resume.save(self, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes model, optimizer, callbacks and random states from a file of `save`; the next fit is a new one.

        Raises InputError for a file that is damaged, foreign or from a newer version, naming the last good one
        beside it.
        """
        resume.load(self, path)

    def resume(self, path: str | os.PathLike[str]) -> bool:
        """Makes the calls of fit that follow continue where a checkpoint was written. They must be the calls that the
        interrupted run made. path: a checkpoint, or the folder of Checkpoint (the last one is taken).

        Does nothing and returns False if the folder holds no checkpoint yet. Raises InputError as `load` does.
        """
        self._goes_on, self._pending = True, resume.find(path)
        return self._pending is not None

    def clean_memory(self) -> None:
        """For notebooks: releases the batch, outputs, loss and gradients, and the tensors that the last exception
        refers to."""
        self.batch = self.target = self.outputs = None
        self.inputs, self.kwargs, self._passed = (), {}, None
        self.loss = self.objective = torch.zeros(())
        self.optimizer.zero_grad()
        clean_memory()
