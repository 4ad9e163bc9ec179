"""watch: a Probe whose numbers go to a logger while training runs, and that says so when something is wrong."""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._base import InputError, UnitgainError, console, did_you_mean, note, one_line
from ..optim import unwrapped
from ..probe import Probe, check_every, forget, never_raises, reason, remember, stop_left_behind
from ..record import Record
from ..report import Report
from ..rules import Finding, diagnose, resolve
from .judging import Judge
from .loggers import Logger, loggers_for, title_of
from .numbers import Numbers, numbers_of

Layers = Literal["histogram", "each", "none"]
LAYERS = ("histogram", "each", "none")


class FindingsError(UnitgainError):
    """A run was ended because of what was found in it, as `fail_on=` asked. `findings` has them."""

    def __init__(self, message: str, findings: Sequence[Finding]):
        super().__init__(message)
        self.findings = tuple(findings)


class Watch:
    """What `watch` returns: a running Probe (`probe`), and what becomes of its numbers.

    probe.record  what was measured so far; `findings` the errors and warnings of the last time it was judged
    failed        whether watching, or the Probe, has stopped after an error, which was warned of

    Nothing in here raises while training runs, unless the Probe is strict.
    """

    def __init__(
        self,
        probe: Probe,
        optimizers: Any = None,
        to: Any = None,
        *,
        layers: Layers = "histogram",
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        announce: Callable[[str], None] | None = note,
    ):
        if layers not in LAYERS:
            raise InputError(f"watch(layers={layers!r}): expected one of {', '.join(map(repr, LAYERS))}")
        self.probe = probe
        given = optimizers if isinstance(optimizers, (list, tuple)) else [optimizers]
        self._optimizers = [unwrapped(one, "watch(optimizer=...)") for one in given if one is not None]
        self._main = is_main()
        self._loggers: list[Logger] = loggers_for(to) if self._main else []
        self._layers, self._announce = layers, announce if self._main else None
        self._select, self._ignore = select, ignore
        self._judge = Judge(probe.record, select, ignore)
        self._number, self._closed, self._gave_up = probe.number, False, False
        self._published: int | None = None  # the last step that was
        self._samples = 0  # how many have been
        self._broken = False  # whether NaN or infinity was in the last sampled step
        self._losses: list[tuple[int, Tensor]] = []
        self._handles: list[RemovableHandle] = []

    # ---- life cycle ----------------------------------------------------------------------------------------

    def start(self) -> Watch:
        """Adds the hooks; `watch` does this."""
        if self._handles:
            return self
        self.probe.start()
        forget(self.probe)
        remember(self, self.probe.model)
        for optimizer in self._optimizers:  # after the Probe's own hook, so that the step has been measured
            self._handles.append(optimizer.register_step_post_hook(lambda *_: self.look()))
        if not self._optimizers:
            self._handles.append(self.probe.model.register_forward_pre_hook(lambda *_: self.look()))
        return self

    def close(self) -> None:
        """Takes the hooks away, logs what is still to be logged, and the last findings. Twice is fine."""
        if not self._closed:
            self.abandon()
            if not self._gave_up:
                self._finish()

    stop = close  # as a Probe's

    def abandon(self) -> None:
        """Takes the hooks away, and nothing else."""
        self._closed = True
        forget(self)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.probe.stop()

    @never_raises
    def _finish(self) -> None:
        self._write_losses()
        self.record.commit()
        numbers = numbers_of(self.probe)
        if numbers is not None:
            if numbers.step != self._published:
                self._publish(numbers)
            self._judge_now(numbers.step, last=True)
            if self._layers != "none":
                self._tell(lambda logger: logger.table(numbers.step, numbers.table()))
        self._tell(lambda logger: logger.close())

    def __enter__(self) -> Watch:
        self.start()
        forget(self)  # __exit__ closes it
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- while training runs -------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        return self._gave_up or self.probe.failed

    @property
    def strict(self) -> bool:
        return self.probe.strict

    def _give_up(self, error: Exception) -> None:
        self._gave_up = True  # hooks stay until `close`: torch is going over them now
        if not self.probe.failed:  # which has said so
            warnings.warn(
                f"unitgain's watch stopped judging and logging at step {self.probe.number}: {reason(error)} "
                "Training goes on.",
                stacklevel=4,
            )

    @never_raises
    def look(self) -> None:
        """Logs the sampled step that has just been measured, if one has been since the last call. An optimizer's step
        calls this by itself."""
        if self._gave_up:
            return
        before, self._number = self._number, self.probe.number
        every = self.probe.every
        if -(-before // every) * every >= self._number:  # no step since then was to be measured
            return
        broken = self._write_losses()
        numbers = numbers_of(self.probe)
        if numbers is None or numbers.step == self._published:  # measuring has failed, or has been left out
            return
        self._publish(numbers)
        broken = broken or numbers.broken > 0
        if self._judge.due(self._samples) or (broken and not self._broken):
            self._judge_now(numbers.step)
        self._broken = broken

    def log(self, *unnamed: object, **metrics: float | Tensor) -> None:
        """Stores named numbers beside what is measured, for the rules about loss curves: `watching.log(loss=loss)`.
        They go to the record alone: loggers have them from you."""
        self.probe.log(*unnamed, **metrics)

    @never_raises
    def add_loss(self, step: int, loss: Tensor) -> None:
        """A step's loss, kept on its device until the next sampled step: nothing waits for an accelerator. Several of
        one step are averaged."""
        if not self._gave_up:
            self._losses.append((step, loss.detach().float().reshape(())))

    def _write_losses(self) -> bool:
        """Whether one of them is not finite."""
        waiting, self._losses = self._losses, []
        if not waiting:
            return False
        by_step: dict[int, list[float]] = {}
        for (step, _), value in zip(waiting, torch.stack([loss for _, loss in waiting]).tolist()):
            by_step.setdefault(step, []).append(value)
        means = {step: sum(values) / len(values) for step, values in by_step.items()}
        self.record.add_metrics((step, "loss", mean) for step, mean in means.items())
        return not all(map(math.isfinite, means.values()))

    def _publish(self, numbers: Numbers) -> None:
        self._published, self._samples = numbers.step, self._samples + 1
        values = numbers.few() | (dict(numbers.each) if self._layers == "each" else {})
        self._tell(lambda logger: logger.numbers(numbers.step, values))
        if self._layers == "histogram":
            for key, layers in numbers.layers().items():
                self._tell(lambda logger: logger.histogram(numbers.step, key, list(layers.values())))  # noqa: B023

    def _judge_now(self, step: int, *, last: bool = False) -> None:
        if not self._main:
            return
        news = self._judge.look(self._samples, last=last)
        for finding in news.findings:
            if self._announce is not None:
                self._announce(f"unitgain, step {step}: {title_of(finding)}: {finding.message}")
            self._tell(lambda logger: logger.finding(step, finding))  # noqa: B023
        for code in news.gone:
            self._tell(lambda logger: logger.gone(step, code))  # noqa: B023

    def _tell(self, say: Callable[[Logger], None]) -> None:
        """A logger that fails (a full disk, a connection that is gone) does not end training: it is told no more."""
        for logger in list(self._loggers):
            try:
                say(logger)
            except Exception as error:
                self._loggers.remove(logger)
                warnings.warn(
                    f"unitgain logs no more here: {type(logger).__name__.strip('_')} raised {type(error).__name__}: "
                    f"{one_line(error)}. Training goes on.",
                    stacklevel=2,
                )

    # ---- what came out -------------------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        return self.probe.record

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Errors and warnings of the last time the record was judged, most important first."""
        found = () if self._judge.diagnosis is None else self._judge.diagnosis.findings
        return tuple(f for f in found if f.severity != "info")

    def end(self) -> Report | None:
        """Closes, and judges the whole record; None where watching has failed."""
        self.close()
        return None if self._gave_up else self.report()

    def report(self) -> Report:
        """The record judged now."""
        if self._closed and self._judge.diagnosis is not None:  # nothing has come since
            return Report(self.record, self._judge.diagnosis)
        return Report(self.record, diagnose(self.record, select=self._select, ignore=self._ignore))


def watch(
    model: nn.Module,
    optimizer: Any = None,
    *,
    every: int = 100,
    to: Any = None,
    layers: Layers = "histogram",
    record: str | os.PathLike[str] | Record | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    **options: Any,
) -> Watch:
    """Watches a model train, logs a handful of numbers, and says when something goes wrong.

        watching = ug.watch(model, optimizer, to=wandb.run)

    every    measure and log each every-th step
    to       where numbers go: a run of wandb, a SummaryWriter, mlflow or trackio (the modules, or "wandb", "mlflow",
             "trackio" for their active run), anything with log_metrics(values, step), a function (values, step), or a
             list of these. None: nowhere
    layers   what is logged of each layer. "histogram": one histogram over all layers where the logger has histograms,
             and a table at the end; "each": also one curve for each layer (ug/update_ratio/<weight>,
             ug/grad_norm/<parameter>, ug/act_std/<site>); "none"
    record   path of a new SQLite record of everything that was measured; None keeps it in a temporary one
    select, ignore   codes ("UG303"), prefixes ("UG3") or names ("saturated") of rules
    options  further arguments of `Probe`

    Logged are of log10(update:data) of the weights the median and the extremes (ug/update_ratio_median, _min, _max),
    the norm of all gradients (ug/grad_norm_all), the smallest and the largest standard deviation of an activation
    (ug/act_std_min, _max), the share of dead units, and the number of sites with NaN or infinity.

    The record is judged at 1, 2, 4, 8, ... sampled steps, more often where that is cheap, when NaN or infinity appears,
    and at the end. A finding that appears is printed, becomes an alert where the logger has alerts, and is
    ug/finding/<code>: 2 for a warning, 3 for an error, 0 when it is gone. Give losses with `watching.log(loss=loss)` to
    have the loss curve judged too.

    Of several processes (torchrun) rank 0 logs. An error of a logger ends the logging, not the training.

    Raises InputError for arguments that cannot be right.

    >>> model = nn.Linear(8, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.0001)
    >>> with watch(model, optimizer, every=1, to=lambda values, step: print(step, sorted(values)[:2])):
    ...     model(torch.randn(32, 8)).square().mean().backward()
    ...     optimizer.step()
    0 ['ug/act_std_max', 'ug/act_std_min']
    """
    taken = {"probe"} & set(options)
    if taken:
        raise InputError(f"watch({min(taken)}=...): give the model and its optimizer; watch makes the Probe")
    refuse_unknown(options)
    stop_left_behind(Watch, model, sys._getframe(1))
    probe = Probe(model, optimizer, every=every, to=record, **options)
    return Watch(probe, optimizer, to, layers=layers, select=select, ignore=ignore).start()


def refuse_wrong(
    every: object,
    fail_on: str,
    options: Iterable[str],
    select: Sequence[str] | None,
    ignore: Sequence[str] | None,
) -> None:
    """What a callback is given wrong is said when it is made, not when training begins."""
    check_every(every)
    ended_by((), fail_on)
    refuse_unknown(options)
    for option, words in (("select", select), ("ignore", ignore)):
        resolve(words or (), option)


def refuse_unknown(options: Iterable[str]) -> None:
    """Raises InputError for arguments that Probe does not have."""
    known = inspect.signature(Probe).parameters
    for name in options:
        if name not in known:
            raise InputError(f"{name}=...: there is no such argument{did_you_mean(name, known)}")


def ended_by(findings: Sequence[Finding], fail_on: str) -> list[Finding]:
    """The findings that end a run: those at or above a severity, as on the command line."""
    levels: Mapping[str, tuple[str, ...]] = {
        "error": ("error",),
        "warning": ("error", "warning"),
        "never": (),
    }
    if fail_on not in levels:
        raise InputError(f"fail_on={fail_on!r}: expected one of {', '.join(map(repr, levels))}")
    return [f for f in findings if f.severity in levels[fail_on]]


def failure(step: int, findings: Sequence[Finding]) -> FindingsError:
    listed = "; ".join(f"{title_of(f)}: {f.message}" for f in findings[:3])
    more = f" and {len(findings) - 3} more" if len(findings) > 3 else ""
    return FindingsError(f"training was ended at step {step} by fail_on: {listed}{more}", findings)


def layers_of(log: str) -> Layers:
    """What `log=` of the callbacks means for `Watch(layers=...)`."""
    known: dict[str, Layers] = {"summary": "histogram", "layers": "each"}
    if log not in known:
        raise InputError(f"log={log!r}: expected 'summary' or 'layers'")
    return known[log]


def tell_end(report: Report) -> None:
    """What is printed when a training has ended: the report, or one line where there is nothing to say."""
    if report.ok:
        note(f"unitgain: {report.verdict}")
    else:
        console().print(report)


def continued(path: str | os.PathLike[str] | None, step: int) -> str | os.PathLike[str] | Record | None:
    """What a Probe gets as `to` in a run that was resumed after so many steps: its record, if it is there, goes on, as
    if it had been written up to then. Rank 0 writes it."""
    if not step or path is None or not os.path.exists(path):
        return path
    return Record.reopen(path, before=step) if is_main() else None


def is_main() -> bool:
    """Whether this is the process that prints and logs: the only one, or rank 0."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get("RANK", "0") == "0"
