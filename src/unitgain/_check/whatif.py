"""whatif(): one network in several settings, each trained for a few steps and put back."""

from __future__ import annotations

import contextlib
import itertools
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, headed, no_module, opens_compiled, tell, told_in_cell
from .._batch import IGNORED_TARGET, Batch, Judged, Loss, class_axis, is_loader
from .._run import (
    AfterFirst,
    OptimizerLike,
    Replayed,
    first_batch,
    in_place,
    loaders_kept,
    optimizers_for,
    random_states,
    seed_loader,
)
from .._version import __version__
from ..probe import Probe, holds_any
from ..record import Record
from ..report import Report, Setting, WhatIf
from ..rules import SEVERITIES, Finding, diagnose
from .batch_norms import normalize_by_batch
from .check import check
from .job import Job, Step
from .knobs import KNOBS, Value, change_model, optimizer_of, read_values, shuffle_weights
from .passes import Passes
from .regroup import regrouped
from .rehearsal import Clip, Plan, Rehearsal, Schedule
from .trials import halves
from .untrained import looks_untrained

_MOST = 36  # settings
_LOOKS = 20  # how often a training is measured
_SAMPLE = 8192  # values of a tensor that histograms are counted from
_LOSSES = ("UG1",)  # rules that a trained network cannot be judged by


@told_in_cell
@opens_compiled
def whatif(
    model: nn.Module,
    batch: Any,
    loss: str | Loss | None = "auto",
    *,
    vary: Mapping[str, Any],
    step: Step | None = None,
    steps: int = 200,
    seeds: int = 3,
    optimizer: OptimizerLike | str | None = None,
    lr: float | None = None,
    data: Iterable[Any] | None = None,
    valid: Any = None,
    clip: Clip | None = None,
    schedule: Schedule | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> WhatIf:
    """Trains one network in several settings, side by side, and puts everything back, bit for bit.

    model, batch, loss, step   as for `check`; of a DataLoader the first batch is measured, the others train
    vary       {knob: values}; several knobs give every combination. A value "as-is" (or None) changes nothing
        gain        rms of every hidden layer's weight times sqrt(fan_in): numbers, fractions as text ("5/3"), "auto"
        fan_in      "on" or "off": whether weights are divided by sqrt(fan_in); the gain is 1 unless it is varied too
        activation  names ("relu", "tanh", "gelu", "none", ...) or modules, in the place of every hidden activation
        norm        "none", "batch", "layer", "group", "instance" or "scaled-ws"
        lr          learning rates; of several parameter groups the largest, the others in proportion
        optimizer   "sgd", "momentum", "adam", "adamw" or "rmsprop"
        batch       examples in a batch; needs data=
    steps      of each training
    seeds      trainings of each setting. The first has the weights as they are. Of a network that looks untrained, the
               others have every weight's entries shuffled, which is another draw from the same distribution; all read
               their batches in another order, if the loader shuffles
    optimizer  an optimizer over the model's parameters, a function from parameters to one, or a name of those above;
               Adam with learning rate 0.001 if none is given
    lr         its learning rate where `optimizer` is a name, and where lr is not varied
    data       batches to train on. Without it half of the batch trains, and the other half judges
    valid      a batch, or a list of them, that judges; with data= and without this, `batch` does
    clip, schedule   as for `check`
    progress   called before each training with (how many are done, how many there are, the setting's name)

    What judges is measured in evaluation mode, but BatchNorm takes the statistics of the batch: after a short training
    its running averages are not there yet. Before each first training the network is checked; findings of its training
    are added. Settings are compared on the same weights, the same batches and the same random numbers.

    Raises InputError for values that a knob does not take and, naming the place, where one does not apply to this
    model: before anything is trained.

    >>> model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
    >>> x = torch.randn(64, 8)
    >>> result = whatif(model, (x, x[:, :3].argmax(1)), vary={"gain": [0.1, 1, "5/3"]}, steps=20, seeds=1)
    >>> [setting.name for setting in result.settings]
    ['gain=0.1', 'gain=1', 'gain=5/3']
    """
    if not isinstance(model, nn.Module):
        raise no_module("model", model)
    for name, count in (("steps", steps), ("seeds", seeds)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InputError(f"{name}: expected a whole number of at least 1, got {count!r}")
    rest = None
    if is_loader(batch):
        loader, batch = batch, first_batch(batch)
        if data is None:
            data = rest = loader
    if data is not None and hasattr(data, "__next__"):
        data = Replayed(data)  # type: ignore[arg-type]
    settings = combinations(vary)
    if lr is not None and not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise InputError(f"lr: expected a learning rate above 0, got {lr!r}")
    if isinstance(optimizer, str) or (optimizer is None and lr is not None):
        optimizer = optimizer_of(optimizer or "adam", lr)
    elif lr is not None:
        raise InputError("lr: the optimizer that is given has a rate; vary={'lr': [...]} changes it")
    plan = Plan(steps, optimizer or optimizer_of("adam"), data, clip, schedule)
    work = _WhatIf(model, batch, loss, step, plan, valid, rest, lr)
    for values in settings:
        work.refuse(values)
    work.look()
    found, total = [], len(settings) * seeds
    for number, values in enumerate(settings):
        before_each = (
            (lambda seed, n=number, v=values: progress(n * seeds + seed, total, _name(v)))
            if progress
            else None
        )
        with headed(f"setting {number + 1} of {len(settings)}, {_name(values)}"):
            found.append(work.setting(values, seeds, before_each))
    if progress is not None:
        progress(total, total, "")
    shuffled = seeds > 1 and work.untrained
    conditions = [
        *([f"batches of {work.examples}"] if work.examples and "batch" not in settings[0] else []),
        *(["further seeds have shuffled weights"] if shuffled else []),
    ]
    return WhatIf(
        model=type(model).__name__,
        vary={name: tuple(dict.fromkeys(v[name].shown for v in settings)) for name in settings[0]},
        settings=tuple(found),
        steps=steps,
        seeds=seeds,
        optimizer="" if "optimizer" in settings[0] else work.optimizer_words(rate="lr" not in settings[0]),
        judged_on=work.judged_on,
        conditions=tuple(conditions),
        versions={
            "unitgain": __version__,
            "torch": str(torch.__version__),
            "Python": platform.python_version(),
        },
    )


def combinations(vary: Mapping[str, Any]) -> list[dict[str, Value]]:
    """Every setting: the last knob's values change fastest. Raises InputError for what cannot be varied."""
    if not isinstance(vary, Mapping) or not vary:
        raise InputError(
            f"vary: expected a mapping like {{'gain': [0.5, 1, 3]}}; there are {', '.join(KNOBS)}"
        )
    read = {knob: read_values(knob, given) for knob, given in vary.items()}
    count = math.prod(map(len, read.values()))
    if count > _MOST:
        raise InputError(f"vary: {count} settings; at most {_MOST} can be looked at side by side")
    return [dict(zip(read, row)) for row in itertools.product(*read.values())]


def _told(values: Mapping[str, Value], error: InputError) -> InputError:
    """The error with the setting that it is about."""
    return InputError(str(error) if str(error).startswith(_name(values)) else f"{_name(values)}: {error}")


def _name(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{knob}={value.shown}" for knob, value in values.items())


class _WhatIf:
    """One network with its batch, its loss, and how it is trained."""

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        loss: str | Loss | None,
        step: Step | None,
        plan: Plan,
        valid: Any,
        rest: Iterable[Any] | None,
        lr: float | None,
    ):
        self.lr = lr  # of an optimizer by name, where it is given
        self.rest = rest  # the loader whose first batch judges: the others train
        self.model, self.batch, self.loss, self.step, self.plan = model, batch, loss, step, plan
        job = Job.of(model, batch, loss, step)
        self.examples: int | None = None  # of a batch that is trained on
        self.untrained = False
        self.sites: tuple[str, ...] = ()
        self.job = job
        self.trains, judge = (job.batch, None) if plan.data is not None else halves(job)
        several = valid if isinstance(valid, list) else [valid]
        if valid is not None:
            self.judges = [job.read(one) for one in several]
            self.judged_on = "what was held out"
        elif plan.data is not None:
            self.judges = [job.batch]
            self.judged_on = (
                "the batch that was given"
                if rest is None
                else "the first batch, which trains only in further epochs"
            )
        else:
            self.judges = [job.batch if judge is None else judge]
            held = "the half of the batch that is held out"
            self.judged_on = "the batch that is trained on" if judge is None else held

    def optimizer_words(self, rate: bool) -> str:
        made = self.plan.given or optimizers_for(nn.Linear(1, 1), self.plan.optimizer)
        rates = dict.fromkeys(f"{g['lr']:g}" for one in made for g in one.param_groups if "lr" in g)
        names = " and ".join(dict.fromkeys(type(one).__name__ for one in made))
        return names + (f" at {', '.join(rates)}" if rates and rate else "")

    def look(self) -> None:
        """Whether the network is untrained, so that its weights may be shuffled for further seeds."""
        report = check(self.model, self.batch, "auto" if self.step else self.loss, step=self.step)
        if report.record.facts.loss.value is None:
            raise InputError("there is no loss to train on; give targets, or a loss")
        self.untrained = looks_untrained(self.model, report)
        sites = report.record.sites("activation")
        self.sites = tuple(s.name for s in sites if s.attributes.get("role") == "activation")

    def refuse(self, values: Mapping[str, Value]) -> None:
        """Raises InputError where a setting does not apply to this model; nothing is trained."""
        meant = {knob: value.meaning for knob, value in values.items()}
        if meant.get("batch") is not None and self.plan.data is None:
            raise InputError("vary: batch needs fresh batches to make batches of that size of; give data=")
        try:
            with in_place(self.model, batch=self.batch, loss=self.loss, extra=self._extra()):
                change_model(self.model, self.batch, meant)
        except InputError as error:
            raise _told(values, error) from error

    def _extra(self) -> list[Any]:
        plan = self.plan
        own = (one for one in (self.step, plan.clip) if callable(one))
        return [*plan.given[1:], *plan.schedules, *own]

    # ---- one setting ---------------------------------------------------------------------------------------

    def setting(self, values: Mapping[str, Value], seeds: int, tell: Callable[[int], None] | None) -> Setting:
        meant = {knob: value.meaning for knob, value in values.items()}
        runs = []
        for seed in range(seeds):
            if tell is not None:
                tell(seed)
            try:
                runs.append(self._trained(meant, seed))
            except InputError as error:
                raise _told(values, error) from error
        first = runs[0]
        assert first.start is not None
        assert first.record is not None
        stopped = [len(run.losses) - 1 for run in runs if not run.finite]
        accuracy = [run.accuracy for run in runs if run.accuracy is not None]
        return Setting(
            values={knob: value.shown for knob, value in values.items()},
            changes=tuple(first.changes),
            notes=tuple(first.notes),
            start=first.start,
            training=first.record,
            findings=_findings(first.start, first.record),
            losses=tuple(tuple(run.losses) for run in runs),
            before=tuple(run.before for run in runs),
            after=tuple(run.after for run in runs),
            accuracy=tuple(accuracy) if len(accuracy) == len(runs) else (),
            stopped=min(stopped, default=None),
            sites=self.sites,
        )

    def _trained(self, meant: Mapping[str, Any], seed: int) -> _Trained:
        plan = replace(self.plan, data=self._batches(meant.get("batch"), seed))
        if meant.get("optimizer") is not None:
            plan = replace(plan, optimizer=optimizer_of(meant["optimizer"], self.lr))
        given = plan.given
        kept = () if self.plan.data is None else (self.plan.data,)
        with (
            loaders_kept(*kept),
            in_place(
                self.model,
                optimizer=next(iter(given), None),
                batch=self.batch,
                loss=self.loss,
                extra=self._extra(),
            ) as run,
        ):
            if seed:
                torch.manual_seed(seed)
                if self.plan.data is not None:
                    seed_loader(self.plan.data, seed)
                if self.untrained:
                    shuffle_weights(self.model, seed)
            random = random_states.take()
            done = _Trained(*change_model(self.model, self.batch, meant))
            random_states.put(random)
            if not seed:
                done.start = check(self.model, self.batch, "auto" if self.step else self.loss, step=self.step)
            rehearsal = Rehearsal(plan, self.model, run)
            if given:
                _hold(self.model, rehearsal)
            if meant.get("lr") is not None:
                _set_rate(rehearsal, meant["lr"])
            passes = Passes(self.model, Job.of(self.model, self.batch, self.loss, self.step), run)
            passes.train()
            done.before, _ = self._judged(passes)
            self._train(plan, passes, rehearsal, done, measured=not seed)
            if done.finite:
                done.after, done.accuracy = self._judged(passes)
        return done

    def _train(
        self, plan: Plan, passes: Passes, rehearsal: Rehearsal, done: _Trained, measured: bool
    ) -> None:
        watched = [one for one in rehearsal.optimizers if holds_any(one, self.model)] or None
        every = max(1, plan.steps // _LOOKS)
        probe = None
        if measured:
            probe = Probe(self.model, watched, every=every, sample=_SAMPLE, examples=None, strict=True)
            passes.probe = probe
            done.record = probe.record
        batches = self._stream(plan)
        with probe or contextlib.nullcontext(), contextlib.closing(batches):
            for number, batch in enumerate(itertools.islice(batches, plan.steps)):
                tell(number, plan.steps, "training step")
                self.examples = None if self.step is not None else batch.examples
                judged = passes.run(batch)
                if judged.loss is None:
                    raise InputError("there is no loss to train on; give targets, or a loss")
                done.losses.append(float(judged.loss.detach()))
                if probe is not None:
                    probe.record.log(probe.number, loss=done.losses[-1])
                if not done.finite:
                    break
                again = _unmeasured(probe, passes, batch)
                rehearsal.step(judged, again)
            if probe is not None:
                probe.flush()
        passes.probe = None

    def _stream(self, plan: Plan) -> Any:
        """Batches of data alone, if there are such: the one that was given judges."""
        if plan.data is None:

            def same() -> Iterator[Batch]:
                while True:
                    yield self.trains

            return same()
        batches = plan.batches(self.job, self.model)
        next(batches)
        return batches

    def _batches(self, size: int | None, seed: int) -> Iterable[Any] | None:
        """data, in batches of this size, and where it can be had in the order of this seed."""
        data = self.plan.data if self.rest is None else AfterFirst(self.rest)
        again = getattr(data, "again", None)
        if callable(again):
            return again(count=size, seed=seed)  # type: ignore[no-any-return]
        return data if size is None or data is None else regrouped(data, self.job, size)

    # ---- judging -------------------------------------------------------------------------------------------

    def _judged(self, passes: Passes) -> tuple[float, float | None]:
        """(mean loss, share of right classes) on what judges; nothing is changed by it."""
        modes = [(m, m.training) for m in self.model.modules()]
        buffers = [(b, b.clone()) for b in self.model.buffers()]
        losses, right, count = [], 0, 0
        with random_states.kept():
            try:
                normalize_by_batch(self.model)
                for batch in self.judges:
                    judged = passes.run(batch, backward=False)
                    if judged.loss is None:
                        raise InputError("there is no loss to train on; give targets, or a loss")
                    losses.append(float(judged.loss.detach()))
                    hits = _hits(judged)
                    if hits is not None:
                        right, count = right + hits[0], count + hits[1]
            finally:
                for module, mode in modes:
                    module.training = mode
                with torch.no_grad():
                    for buffer, before in buffers:
                        buffer.copy_(before)
        mean = sum(losses) / len(losses)
        return (mean if math.isfinite(mean) else math.inf), (right / count if count else None)


class _Trained:
    """What came of one training."""

    def __init__(self, changes: Sequence[str], notes: Sequence[str]):
        self.changes, self.notes = changes, notes
        self.start: Report | None = None
        self.record: Record | None = None
        self.losses: list[float] = []
        self.before = self.after = math.inf
        self.accuracy: float | None = None

    @property
    def finite(self) -> bool:
        return all(map(math.isfinite, self.losses[-1:]))


def _unmeasured(probe: Probe | None, passes: Passes, batch: Batch) -> Callable[[], Judged]:
    def again() -> Judged:
        with probe.unmeasured() if probe is not None else contextlib.nullcontext():
            return passes.run(batch)

    return again


def _hits(judged: Judged) -> tuple[int, int] | None:
    """(right, all) where classes are predicted."""
    logits, target = judged.logits, judged.target
    if judged.kind != "cross_entropy" or logits is None or not isinstance(target, Tensor):
        return None
    if target.is_floating_point() or logits.dim() < 2:
        return None
    guess = logits.detach().argmax(class_axis(logits, target))
    if guess.numel() != target.numel():
        return None
    seen = target.reshape(-1) != IGNORED_TARGET
    return int((guess.reshape(-1) == target.reshape(-1))[seen].sum()), int(seen.sum())


def _hold(model: nn.Module, rehearsal: Rehearsal) -> None:
    """Parameters that a setting has added are trained by an optimizer that was there before."""
    held = {id(p) for one in rehearsal.optimizers for group in one.param_groups for p in group["params"]}
    new = [p for p in model.parameters() if p.requires_grad and id(p) not in held]
    if new and len(new) < sum(1 for _ in model.parameters()):
        rehearsal.hold(new)


def _set_rate(rehearsal: Rehearsal, rate: float) -> None:
    groups = [group for one in rehearsal.optimizers for group in one.param_groups if "lr" in group]
    if not groups:
        raise InputError(f"vary: lr={rate:g}: {type(rehearsal.optimizers[0]).__name__} has no learning rate")
    largest = max(float(group["lr"]) for group in groups) or 1.0
    for group in groups:
        for key in ("lr", "initial_lr", "max_lr", "min_lr"):
            if key in group:
                group[key] = group[key] * (rate / largest)
    for schedule in rehearsal.schedules:
        bases = getattr(schedule, "base_lrs", None)
        if bases is not None:
            schedule.base_lrs = [base * (rate / largest) for base in bases]


def _findings(start: Report, record: Record) -> tuple[Finding, ...]:
    """Those before the training, then what its record adds: of updates, the loss's course, units that died."""
    facts = start.record.facts
    record.set_facts(replace(record.facts, mode="training", loss=facts.loss, target=facts.target))
    record.commit()
    known = {finding.code for finding in start.findings}
    later = [f for f in diagnose(record, ignore=_LOSSES).findings if f.code not in known]
    order = {severity: -place for place, severity in enumerate(SEVERITIES)}
    return (*start.findings, *sorted(later, key=lambda f: order[f.severity]))
