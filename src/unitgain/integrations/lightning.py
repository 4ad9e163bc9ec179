"""UnitGain and AGC: callbacks for Lightning.

Source of the hooks and their order: Lightning, pytorch/callbacks/callback.py and pytorch/loops.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .._base import not_installed
from ..optim import AGC as _AGC
from ..optim import above_zero
from ..probe import Probe
from ..record import Record
from ..report import Report
from .guarding import never_raises_in_training, refuses_only
from .watching import Layers, Watch, continued, ended_by, failure, layers_of, refuse_wrong, tell_end

try:
    from lightning.pytorch.callbacks import Callback
except ImportError as missing:
    raise not_installed("unitgain.integrations.lightning", "lightning", "lightning") from missing


class UnitGain(Callback):
    """Measures a LightningModule while a Trainer trains it, and says what is wrong with it.

        trainer = Trainer(callbacks=[UnitGain(every=50, to="run.sqlite", fail_on="error")])

    every    measure each every-th optimizer step
    to       path of a new SQLite record; None keeps it in a temporary one
    log      what the Trainer's loggers get: "summary" a handful of numbers, "layers" also one curve for each layer,
             None nothing
    fail_on  "error" or "warning": training ends when such a finding appears, on all ranks, with a FindingsError;
             "never"
    select, ignore   codes ("UG303"), prefixes ("UG3") or names ("saturated") of rules
    options  further arguments of `unitgain.Probe`

    Automatic and manual optimization, any number of optimizers, accumulation and all precisions. The model need not
    call its own forward. Findings are printed when they appear, and the verdict or, if there are any, the report at the
    end; `report` is the diagnosis and `record` everything that was measured. A run that is resumed from a checkpoint
    goes on counting, in the same record.
    """

    def __init__(
        self,
        every: int = 50,
        to: str | os.PathLike[str] | None = None,
        *,
        log: str | None = "summary",
        fail_on: str = "never",
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        **options: Any,
    ):
        refuse_wrong(every, fail_on, options, select, ignore)
        self.every, self.to, self.log, self.fail_on = every, to, log, fail_on
        self._layers: Layers = layers_of(log or "summary")
        self._select, self._ignore, self._options = select, ignore, options
        self.watch: Watch | None = None
        self.report: Report | None = None
        self._step = 0  # of the batch that is being worked on
        self._resumed_at = 0  # where a further fit goes on counting
        self._pass = contextlib.ExitStack()
        self._close_pass: Any = None
        self._failed: tuple[Any, ...] = ()

    @property
    def record(self) -> Record | None:
        """What has been measured; None before the training."""
        if self.watch is not None:
            return self.watch.record
        return None if self.report is None else self.report.record

    @refuses_only
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        optimizers = trainer.optimizers
        given = optimizers if len(optimizers) > 1 else optimizers[0]
        probe = Probe(
            pl_module, given, every=self.every, to=continued(self.to, self._resumed_at), **self._options
        )
        if self._resumed_at:
            probe.go_to(self._resumed_at)
        loggers = trainer.loggers if self.log is not None else None
        self.watch = Watch(
            probe, optimizers, loggers, layers=self._layers, select=self._select, ignore=self._ignore
        ).start()
        self._failed = ()

    @never_raises_in_training
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.watch is None:
            return
        self._step = self.watch.probe.number
        if (
            pl_module.automatic_optimization
        ):  # one training_step, whichever modules it calls, is one forward pass
            self._close_pass = self._pass.enter_context(self.watch.probe.one_pass())

    @never_raises_in_training
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        self._end_pass()

    def _end_pass(self) -> None:
        close, self._close_pass = self._close_pass, None
        if close is not None:
            close(None)
        self._pass.close()

    @never_raises_in_training
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._end_pass()  # of a training_step that returned nothing
        if self.watch is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self.watch.add_loss(self._step, loss * parts)  # Lightning has divided it
        if self.fail_on != "never" and not self._failed:
            self._failed = tuple(ended_by(self.watch.findings, self.fail_on))
            if trainer.strategy.reduce_boolean_decision(bool(self._failed), all=False):
                trainer.should_stop = True

    @never_raises_in_training
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        watch = self._end()
        if watch is None or self.report is None:
            return
        if trainer.is_global_zero:
            tell_end(self.report)
        if found := ended_by(watch.findings, self.fail_on):
            raise failure(trainer.global_step, found)

    @never_raises_in_training
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end()

    def _end(self) -> Watch | None:
        self._end_pass()
        watch = self.watch
        if watch is not None:
            self.report = watch.end()
            self._resumed_at, self.watch = watch.probe.number, None
        return watch

    def drop(self) -> None:
        """Lets go of the model after an error."""
        watch, self.watch, self._close_pass = self.watch, None, None
        self._pass.close()
        if watch is not None:
            watch.abandon()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._resumed_at if self.watch is None else self.watch.probe.number}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_at = int(state_dict.get("step", 0))


class AGC(Callback):
    """Adaptive gradient clipping of every optimizer of a Trainer: `Trainer(callbacks=[AGC(0.01)])`.

    clipping, options   as for `unitgain.optim.AGC`, `exclude=` for a model whose output layer cannot be seen from its
        forward; `parts` are those objects, one for each optimizer
    """

    def __init__(self, clipping: float = 0.01, **options: Any):
        above_zero("clipping", clipping)
        self.clipping, self.options = clipping, options
        self.parts: list[_AGC] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.parts = [_AGC(o, pl_module, self.clipping, **self.options) for o in trainer.optimizers]

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        for part in self.parts:
            part.remove()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
