"""UnitGainCallback for Hugging Face's Trainer.

Source of the events and of what is passed: transformers, trainer_callback.py and trainer.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .._base import not_installed
from ..probe import Probe
from ..report import Report
from .guarding import never_raises_in_training, refuses_only
from .loggers import NAMED, check_name
from .watching import Layers, Watch, continued, ended_by, failure, is_main, layers_of, refuse_wrong, tell_end

try:
    from transformers import TrainerCallback
except ImportError as missing:
    raise not_installed("unitgain.integrations.transformers", "transformers", "transformers") from missing


class UnitGainCallback(TrainerCallback):
    """Measures a model that Trainer trains, and says what is wrong with it.

        trainer = Trainer(model, args, train_dataset=data, callbacks=[UnitGainCallback()])

    every    measure each every-th optimizer step
    record   path of a new SQLite record; None keeps it in a temporary one
    to       where numbers go, as for `unitgain.watch`; "auto": to what `report_to` names among wandb, mlflow and
             trackio; None: nowhere
    log      "summary" a handful of numbers, "layers" also one curve for each layer
    fail_on  "error" or "warning": training ends when such a finding appears, with a FindingsError; "never"
    select, ignore   codes, prefixes or names of rules
    options  further arguments of `unitgain.Probe`

    The optimizer inside accelerate's wrapper is watched, and the model inside data-parallel wrappers. Losses are those
    that Trainer logs, each an average over `logging_steps`. A resumed run goes on counting where it stopped. Of several
    processes rank 0 measures into `record`. Findings are printed when they appear, and the verdict or, if there
    are any, the report at the end; `report` is the diagnosis.
    """

    def __init__(
        self,
        every: int = 50,
        record: str | os.PathLike[str] | None = None,
        *,
        to: Any = "auto",
        log: str = "summary",
        fail_on: str = "never",
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        **options: Any,
    ):
        refuse_wrong(every, fail_on, options, select, ignore)
        check_name(None if isinstance(to, str) and to == "auto" else to)
        self.every, self.path, self.to, self.fail_on = every, record, to, fail_on
        self._layers: Layers = layers_of(log)
        self._select, self._ignore, self._options = select, ignore, options
        self.watch: Watch | None = None
        self._report: Report | None = None

    @property
    def report(self) -> Report | None:
        """The diagnosis; while a training runs, or after one that was interrupted, of what has been measured so far."""
        return self._report if self.watch is None or self.watch.failed else self.watch.report()

    @refuses_only
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.drop()  # of a training that was interrupted
        probe = Probe(
            kwargs["model"],
            kwargs["optimizer"],
            every=self.every,
            to=continued(self.path, state.global_step),
            **self._options,
        )
        if state.global_step:
            probe.go_to(state.global_step)
        to = self.to
        if isinstance(to, str) and to == "auto":
            names = [args.report_to] if isinstance(args.report_to, str) else list(args.report_to or ())
            to = [name for name in names if name in NAMED]
        self.watch = Watch(
            probe, kwargs["optimizer"], to, layers=self._layers, select=self._select, ignore=self._ignore
        ).start()

    @never_raises_in_training
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.watch is not None and logs and "loss" in logs and state.global_step:
            loss = float(logs["loss"])
            self.watch.record.add_metrics([(state.global_step - 1, "loss", loss)])

    @never_raises_in_training
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.watch is not None and self.fail_on != "never" and ended_by(self.watch.findings, self.fail_on):
            control.should_training_stop = True
        return control

    @never_raises_in_training
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.watch is None:
            return
        watch = self.watch
        self._report, self.watch = watch.end(), None
        if self.report is not None and is_main():
            tell_end(self.report)
            if found := ended_by(watch.findings, self.fail_on):
                raise failure(state.global_step, found)

    def drop(self) -> None:
        """Lets go of the model after an error."""
        watch, self.watch = self.watch, None
        if watch is not None:
            watch.abandon()
