"""Probe: watches a model (and its optimizer) train and fills a Record. There is nothing to call in the loop.

probe.py       arguments, life cycle, the record, what happens when measuring fails
steps.py       when a step begins and ends, which are measured, which hooks are on meanwhile
rounds.py      the ends of steps, told by the optimizers; passes.py: which forward passes belong to a step
forward.py     the forward pass: activations and their gradients
weights.py     parameters, their gradients and updates
loop.py        the loop around the model: what the optimizer holds, whether gradients are cleared, modes, clipping
writer.py      one step's sums to rows of the Record
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, RecordError, card, names_given, paragraph
from .._run import Run, run_of
from .._version import __version__
from ..graph import Graph, in_vmap
from ..record import Record
from .exits import write_at_exit
from .failing import never_raises, reason
from .latest import latest_numbers
from .left_behind import forget, remember, stop_left_behind
from .optimizer import holds_any, optimizer_facts
from .options import (
    SIGNALS,
    Options,
    check_every,
    check_model,
    check_number,
    check_optimizers,
    check_signals,
    holds_nothing,
)
from .parameters import model_facts
from .ranks import Ranks, record_of_rank
from .step import Step
from .steps import Steps
from .writer import StepWriter

_MOST_BREAKS = 20


class Probe:
    """Measures activations, their gradients, parameters, gradients and updates while a model trains.

        with ug.Probe(model, optimizer, to="run.sqlite") as probe:
            for x, y in loader: ...
        probe.record.frame("activation")

    model      any nn.Module; it is never changed, and training is bit for bit the same with and without a Probe
    optimizer  its steps are counted and its updates measured, also where they take a closure; of several, [opt_a,
               opt_b], a step is over when each has made one. One that holds no parameter of this model trains
               something else, which is warned of. In a wrapper (accelerate's) the optimizer inside is watched.
               Without one, every forward pass with gradients enabled is a step, and updates are not measured
    every      measure each every-th step (steps 0, every, 2 * every, ...); the others cost nothing
    to         path of a new SQLite record, or an open one; None keeps it in a temporary one. Of several processes
               (torchrun) rank 0 writes it, for all, or each its own where the path contains "{rank}"
    overwrite  whether a record that is already at `to` may be replaced (another kind of file never is)
    signals    which kinds to measure, out of SIGNALS
    include    fnmatch patterns of site and parameter names ("layer1.*"); exclude likewise
    histograms whether to keep the two histograms of each site
    sample     values per tensor that histograms are counted from
    limit      of a larger input or activation, measure only as many examples as hold about this many values (at
               least 2; other ones at each sampled step); of every gradient, parameter and update, 1,024 values
               whatever the number. Each site's cosine, and the histograms of parameters, their gradients and
               updates, then come at the first sampled step and at every 8th one; spread not at all. None measures
               everything, at every sampled step, but of each update at most 65,536 values
    examples   batch size, where it is not the first axis of the first input
    maps       whether to keep, of the first sampled step, which values of bounded activations were saturated
               (at most 64 examples x 256 units each), for `plots.saturation_map`
    merge_ranks  of several processes (DDP, FSDP2, tensor parallelism), where every rank has a Probe: bring what all
               have measured together on rank 0. None: if there is a process group when training begins, and no "{rank}"
               in the path. What the other ranks keep is their own
    strict     raise errors inside the Probe instead of warning and going on without it

    number     steps before the present one

    With an optimizer, a forward pass is measured if a gradient comes back through it, so validation is not, with or
    without torch.no_grad. Sampled steps run without torch.compile (whose graphs are kept and not touched), all others
    as they would without a Probe. Copies and pickles of the model carry no hooks. An error inside the Probe, or of its
    record (a full disk, a locked file), does not stop training: it warns and stops measuring.

    Raises InputError for arguments that cannot be right: a file that exists, something that is no optimizer.

    >>> model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Probe(model, optimizer) as probe:
    ...     model(torch.randn(32, 8)).square().mean().backward()
    ...     optimizer.step()
    >>> [site.name for site in probe.record.sites("activation")]
    ['0', '1', '2']
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        *,
        every: int = 10,
        to: str | os.PathLike[str] | Record | None = None,
        overwrite: bool = False,
        signals: Sequence[str] = SIGNALS,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        histograms: bool = True,
        sample: int = 1024,
        limit: int | None = 16_384,
        examples: int | None = None,
        maps: bool = False,
        merge_ranks: bool | None = None,
        strict: bool = False,
    ):
        self.model = check_model(model)
        self.optimizers = check_optimizers(optimizer)
        for one in self.optimizers:
            if not holds_any(one, self.model):
                warnings.warn(holds_nothing(one, self.model), stacklevel=2)
        self._options = options = Options(
            every=check_every(every), signals=check_signals(signals),
            include=names_given("Probe(include=...)", include), exclude=names_given("Probe(exclude=...)", exclude),
            sample=sample if histograms else 0, limit=limit, examples=examples, maps=maps,
        )  # fmt: skip
        self.strict = strict
        stop_left_behind(Probe, self.model, sys._getframe(1))  # first, as it may be writing to the same file
        self._record = to if isinstance(to, Record) else record_of_rank(to, overwrite=overwrite)
        apart = merge_ranks is None and isinstance(to, (str, os.PathLike)) and "{rank}" in os.fspath(to)
        self._ranks = Ranks(self.model, False if apart else merge_ranks, self._say)
        self._said: set[str] = set()
        self._unwritable = False  # the record failed: nothing is written any more
        self._warned = False  # of having given up
        self._refused: set[str] = set()  # metrics that were not numbers
        self._writer = StepWriter(self._record, options.sample, limited=limit is not None)
        self._describe()
        self._run: Run | None = None  # which it was started in
        self._ever_started, self._made_at = False, self._versions()
        around = (
            model if type(model).__name__ == "OptimizedModule" else self.model
        )  # hooks on it are not compiled
        self._steps = Steps(
            self.model, around, self.optimizers, options, self._guard, finished=self._keep,
            rate=lambda rate: self._store(lambda: self._record.log(self.number, lr=rate)), say=self._say,
        )  # fmt: skip

    @property
    def number(self) -> int:
        """Steps before the present one."""
        return self._steps.number

    @property
    def failed_in(self) -> str | None:
        """Path of the innermost module whose forward raised."""
        return self._steps.forward.failed_in

    @property
    def failed(self) -> bool:
        """Whether measuring has stopped after an error, which was warned of."""
        return self._warned

    @property
    def graph(self) -> Graph:
        """What has been understood of the model so far: what runs after what, where residual branches end."""
        return self._steps.forward.graph()

    @property
    def every(self) -> int:
        """Every how many steps it measures."""
        return self._options.every

    # ---- life cycle ----------------------------------------------------------------------------------------

    def __enter__(self) -> Probe:
        self.start()
        forget(self)  # __exit__ stops it
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop(failed=kind is not None)

    def start(self) -> Probe:
        """Adds the hooks; `with` does this."""
        if not self._steps.started:
            self._ever_started = True
            write_at_exit(self)
            self._run = run_of(self.model)
            if self._run is None:
                self._ranks.start()
            self._guard(self._steps.start)()
            remember(self, self.model)
        return self

    def _say_if_never_started(self) -> None:
        if not self._ever_started and self._versions() != self._made_at:
            self._say(
                "the model's parameters have changed, and this Probe was never started, so that nothing is measured: "
                "put the loop into `with probe:`, or call probe.start() before it"
            )

    def _versions(self) -> int:
        """Changes when the parameters do."""
        return sum(p._version for p in self.model.parameters() if not p.is_inference())

    def stop(self) -> None:
        """Removes every hook and writes what is pending. The record stays open for reading."""
        self._stop(failed=False)

    @never_raises
    def _stop(self, failed: bool) -> None:
        forget(self)
        started = self._steps.started
        self._steps.stop()  # first, or finishing would arm the next step
        if started:
            self._ranks.leave(self.number)  # a step that is not over on this rank may be none on the others
            self._steps.end_of_loop(failed)
            self._store(self._write_pending)
            self._store(self._state_facts)  # the learning rate may have moved on
            self._store(self._loop_facts)
            for sentence in self._options.unmatched(self.model):
                self._say(sentence)
        self._store(self._write_pending)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """What runs inside is one step, whatever forward and backward passes and optimizers' steps it is made of: for
        loops whose steps an optimizer does not end (a critic's five to a generator's one, an optimizer that is not
        torch's). Without an optimizer, updates are then measured too."""
        self._guard(self._steps.open)()
        try:
            yield
        except BaseException:
            self._guard(self._steps.close)(failed=True)
            raise
        self._guard(self._steps.close)()

    @never_raises
    def refresh(self) -> None:
        """Modules or parameters were added or replaced: measures them from now on. Without it, from the next sampled
        step on that begins afterwards."""
        self._steps.refresh()

    def __repr__(self) -> str:
        state = "watching" if self._steps.started else "stopped" if self._ever_started else "not started"
        seen = len(self._record.steps())
        return (
            f"<Probe of {type(self.model).__name__}, {state}: {seen} sampled step{'' if seen == 1 else 's'}>"
        )

    def _repr_html_(self) -> str:
        """A notebook's card: the state, and what to do with what was measured."""
        use = "ug.diagnose(probe.record) judges it, ug.plots.lecture(probe) draws it"
        return card(repr(self)[1:-1], "info", [paragraph(use if self._record.steps() else "")])

    @property
    def record(self) -> Record:
        """What has been measured so far."""
        self._say_if_never_started()
        self._drain()
        return self._record

    def latest(self) -> dict[str, float]:
        """The last sampled step as plain numbers, for a logger; empty before there is one. Waits for an accelerator.

        ug/step                  its number
        ug/update_ratio/<param>  log10 of std(update) / std(parameter); about -3 is usual
        ug/grad_norm/<param>     Euclidean norm of the gradient as the optimizer got it
        ug/act_std/<site>        standard deviation of the activation

        A layer that was not reached has no key.
        """
        self._say_if_never_started()
        found: dict[str, float] = {}
        self._look_up_latest(found)
        return found

    @never_raises
    def _look_up_latest(self, found: dict[str, float]) -> None:
        self._store(self._writer.drain)
        found.update(latest_numbers(self._record, self._writer.last))

    @never_raises
    def _drain(self) -> None:
        self._store(self._writer.drain)

    def go_to(self, step: int) -> None:
        """Counts on from this step: for a run that goes on where another one ended."""
        self._drain()
        self._steps.go_to(step)

    @never_raises
    def flush(self) -> None:
        """Ends the step that is being measured, as the next forward pass or optimizer step would, and writes it."""
        if not self._steps.empty:
            self._steps.finish()
        self._store(self._write_pending)

    def _write_pending(self) -> None:
        self._writer.drain()
        self._record.commit()

    @contextlib.contextmanager
    def one_pass(self) -> Iterator[Callable[[Tensor | None], None]]:
        """What runs inside is one pass, whichever modules of the model are called: its own forward once, several times
        or not at all. Gives a function that is told what the loss looks at, before backward."""
        steps = self._steps
        if self.optimizers and not steps.sampled:  # whose steps are counted by what the optimizers do
            yield _nothing
            return
        self._guard(lambda: steps.enter(None))()
        steps.inside = True
        try:
            yield self._guard(steps.forward.close)
        finally:
            steps.inside = False
            steps.forward.abandon()

    @contextlib.contextmanager
    def unmeasured(self) -> Iterator[None]:
        """Passes inside are not measured: those that an optimizer makes to look around, say."""
        steps = self._steps
        steps.idle = steps.forward.idle = True
        try:
            yield
        finally:
            steps.idle = steps.forward.idle = False

    @never_raises
    def log(self, *unnamed: object, **metrics: float | Tensor) -> None:
        """Stores named numbers with the step of the last forward pass, whether the optimizer's step has been made
        since or not: `probe.log(loss=loss)`. Waits for an accelerator. What is no single number is left out, with a
        warning."""
        self._say_if_never_started()
        if unnamed:
            self._refuse_metric(
                InputError("probe.log(...): give the number a name, as in probe.log(loss=loss)")
            )
        steps, rows = self._steps.step_of_log(tuple(metrics)), []
        for name, value in metrics.items():
            try:
                rows.append((steps[name], name, check_number(name, value)))
            except InputError as error:
                self._refuse_metric(error, name)
        self._store(lambda: self._log(rows))

    def _refuse_metric(self, error: InputError, name: str = "") -> None:
        if self.strict:
            raise error
        if name not in self._refused:
            self._refused.add(name)
            warnings.warn(f"{error}; it is left out", stacklevel=4)

    def _log(self, rows: list[tuple[int, str, float]]) -> None:
        self._record.add_metrics(rows)
        self._record.commit(every=0.5)

    def attach(self, tensor: Tensor, name: str) -> Tensor:
        """Measures a functional intermediate as a site called name; returns the tensor, so that it can be wrapped
        around an expression. Does nothing in steps that are not sampled."""
        forward = self._steps.forward
        forward.check_attached(name)
        if forward.armed:
            self._guard(forward.attach)(tensor, name)
        return tensor

    def _describe(self) -> None:
        options = self._options
        self._record.set_meta("model", type(self.model).__name__)
        self._record.set_meta("versions", {"unitgain": __version__, "torch": str(torch.__version__),
                                          "python": platform.python_version()})  # fmt: skip
        self._record.set_meta("every", options.every)
        self._record.set_meta("sampling", {"histogram_values": options.sample, "limit": options.limit})
        first = next(self.model.parameters(), None)
        self._state_facts()
        self._record.set_meta("device", str(first.device) if first is not None else "cpu")
        self._record.commit()

    def _state_facts(self) -> None:
        facts = replace(self._record.facts, mode="training", model=model_facts(self.model))
        if self.optimizers:
            facts = replace(facts, optimizer=optimizer_facts(self.optimizers, self.model))
        self._record.set_facts(facts)

    def _loop_facts(self) -> None:
        """What is known of the run as a whole: labels, units that died, the loop around the model."""
        facts = self._record.facts
        if (labels := self._steps.forward.labels.facts()).batches:
            facts = replace(facts, labels=labels)
        compared, again = self._steps.forward.squeezed.again()
        if again:
            facts = replace(facts, labels=replace(facts.labels, compared=compared, again=again))
        if died := self._writer.died():
            facts = replace(facts, died=died)
        if (loop := self._steps.loop) is not None:
            optimizer = replace(facts.optimizer, foreign=loop.count_foreign())
            facts = replace(facts, loop=loop.facts(), optimizer=optimizer)
        self._record.set_facts(facts)

    def _keep(self, step: Step, first: bool) -> None:
        """Takes a step that has been measured."""
        self._ranks.merge(step)
        self._store(lambda: self._write(step, first))

    def _write(self, step: Step, first: bool) -> None:
        forward, weights = self._steps.forward, self._steps.weights
        if first and forward.breaks:
            self._record.set_meta("breaks", forward.breaks[:_MOST_BREAKS])
        if first and forward.saturation:
            self._record.set_meta("saturation_maps", forward.saturation)
        self._writer.write(step, forward.places, forward.inputs, weights.listed(), forward.graph)
        self._record.commit(every=0.5)

    # ---- failing -------------------------------------------------------------------------------------------

    def _store(self, write: Callable[[], None]) -> None:
        """Writes, if that has not failed before. Where ranks are merged, a failure ends the writing and not the
        measuring: the other ranks' records would be without this one."""
        if self._unwritable:
            return
        try:
            write()
        except RecordError as error:
            if self.strict or not self._ranks.merging:
                raise
            self._warn(error)

    def _guard(self, hook: Callable[..., Any], *, passes: bool = False) -> Callable[..., Any]:
        """Measuring never stops training: after an error inside it, it warns once and takes its hooks away. passes: the
        hook is one of passes, and not for those in vmap, or of a thread that is not followed."""

        @functools.wraps(hook)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if run_of(self.model) is not self._run:  # a check of this model in the midst of its training, say
                return None
            forward = self._steps.forward
            enabled = torch.is_grad_enabled()
            if passes and (forward.threads.leaves_out(enabled) or self._is_mapped()):
                return None
            forward.gradients = enabled
            try:
                torch._C._set_grad_enabled(False)  # as torch.no_grad() does, at a third of its cost
                try:
                    if not forward.following:
                        return hook(*args, **kwargs)
                    with torch._C.DisableTorchFunction():
                        return hook(*args, **kwargs)
                finally:
                    torch._C._set_grad_enabled(enabled)
            except Exception as error:
                if self.strict:
                    raise
                self._give_up(error)
                return None

        return guarded

    def _is_mapped(self) -> bool:
        """Whether vmap runs now, which is said."""
        if not in_vmap():
            return False
        self._say(
            f"the {type(self.model).__name__} is run inside of vmap; what its modules compute there is not measured, "
            "while parameters, their gradients and updates are"
        )
        return True

    def _give_up(self, error: Exception) -> None:
        self._ranks.leave(self.number)
        self._steps.give_up()
        if not isinstance(error, RecordError):
            with contextlib.suppress(Exception):
                self._write_pending()
        self._warn(error)

    def _say(self, what: str) -> None:
        """Warns of something that the user should know, once."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"unitgain's Probe: {what}.", stacklevel=4)

    def _warn(self, error: Exception) -> None:
        if isinstance(error, RecordError):
            self._unwritable = True
        if self._warned:
            return
        self._warned = True
        why = reason(error)
        warnings.warn(
            f"unitgain's Probe stopped measuring at step {self.number}: {why} Training goes on.", stacklevel=4
        )


def _nothing(_: Tensor | None = None) -> None:
    """In place of the end of a pass that is not measured."""
