"""check(): one batch through a model, or a few rehearsed training steps, measured and judged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from .._base import InputError, no_module, opens_compiled, tell, told_in_cell
from .._batch import Batch, Judged, Loss, find_logits, is_loader, without_broadcast_warning
from .._run import (
    AfterFirst,
    OptimizerLike,
    Replayed,
    Run,
    first_batch,
    in_place,
    loaders_kept,
    random_states,
)
from ..probe import Probe, count_foreign, holds_any, model_facts, optimizer_facts, without_optimizer
from ..record import (
    BatchNormFacts,
    ClipFacts,
    CouplingFacts,
    EndFacts,
    Facts,
    GradientFacts,
    LeafFacts,
    LossFacts,
    OptimizerFacts,
    Record,
    UnitFacts,
)
from ..report import Report
from ..rules import CATALOGUE, diagnose
from .batch_norms import batch_norm_facts, snapshot
from .broadcast import broadcast_shape
from .called import called_in_step
from .comparison import Part, comparison_facts
from .coupling import coupling_facts
from .cuts import term_facts
from .ending import end_facts
from .facts import output_facts, target_facts
from .function import Known, function_facts
from .given import GivenBatches
from .gradients import explained, gradient_facts
from .job import Job, Step
from .leaves import leaf_facts
from .masks import Masks
from .passes import Passes
from .proof import prove as tried_out
from .rehearsal import Clip, Plan, Rehearsal, Schedule
from .symmetry import same_units
from .where import place_of

_STEPS_TO_PROVE = 20
_HISTOGRAM_SAMPLE = 16_384  # one look may cost more than a Probe in training


@told_in_cell
@opens_compiled
def check(
    model: nn.Module,
    batch: Any,
    loss: str | Loss | None = "auto",
    *,
    step: Step | None = None,
    steps: int = 0,
    optimizer: OptimizerLike | None = None,
    data: Iterable[Any] | None = None,
    clip: Clip | None = None,
    schedule: Schedule | None = None,
    prove: bool = False,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Report:
    """Measures a model on one batch and names what is wrong, why, and what to do. Changes nothing.

    model      any nn.Module, as it is about to be trained; a model in eval mode is checked in training mode
    batch      a tensor, an (inputs, targets) pair, a tuple of several inputs and a target, a mapping of keyword
               arguments, and more; docs/reference/batch.md lists the forms. Of a DataLoader, or another loader, the
               first batch is checked, and further ones are data; its order is afterwards what it was
    loss       "auto" (the loss that the model returns; else cross entropy for integer targets, mean squared error for
               float ones), a name, or a callable (outputs, targets) -> scalar. None: the model returns its loss, and
               takes all of the batch
    step       in place of loss, for GANs, diffusion, penalties, modules without a forward of their own: a function
               (model, batch) -> loss, or -> a mapping with "loss" and, where there are such, "outputs" and "targets".
               backward and the optimizer's step are check's. A LightningModule's training_step is found by itself
    steps      how many optimizer steps to rehearse and take back, so that update ratios can be judged
    optimizer  for the rehearsal: an optimizer over the model's parameters, which makes the steps itself, hooks and all,
               or a function from parameters to one; SGD with learning rate 0.01 if none is given. Of several (Muon for
               the matrices, AdamW for the rest) a list, or a function to one; each makes its step after every backward
               pass. One that needs a closure (LBFGS, SAM) gets it. An optimizer is looked at without steps, too: which
               parameters does it hold?
    data       batches for the rehearsal's steps after the first: an iterable of batches of the same form, read again
               from its beginning when it ends. Without it, every step takes the one batch
    clip       largest norm of all gradients together, as clip_grad_norm_ has it, or a function of the parameters that
               changes their gradients in place. Hooks on parameters and optimizers clip without being named here
    schedule   a learning-rate scheduler of that optimizer, or a function from an optimizer to one; it moves on after
               every step. Of several, a list; a function is called with each optimizer
    prove      whether to try what findings prescribe: the model is trained for 100 steps (fewer if it is large) as it
               is and with each remedy, from the same state, on data's batches or on the one, and all is put back. What
               helps is reported with both losses, what does not is not advised, and a finding that training does not
               suffer from is lowered; exact comparisons, and trials in which nothing was learnt, refute nothing. The
               optimizer as for steps (20 are rehearsed if one is given and steps are not); Adam with learning rate
               0.001 where neither is given
    select, ignore   codes ("UG303"), prefixes ("UG3") or names ("saturated") of rules

    Model, optimizer, batch, random states and whatever module runs in the loss are afterwards what they were, bit for
    bit, also when anything raises (docs/limitations.md says what cannot be taken back). Without a loss (no targets, and
    none that the model returns), gradients are measured with a random direction in place of the loss's, and rules about
    the loss stay silent; steps are refused, since there is nothing to train on. A loss that is given and cannot be used
    is refused too.

    Raises InputError, naming the input, for a batch or a loss that does not fit, and when the model raises
    (with the model's own exception as its cause).

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    >>> report = check(model, (torch.randn(64, 8), torch.randint(0, 4, (64,))))
    >>> report.ok
    True
    """
    if not isinstance(model, nn.Module):
        raise no_module("model", model)
    if any(type(p).__name__ == "DTensor" for p in model.parameters()):
        raise InputError(
            "model: its parameters are cut up over ranks (DTensor), which check cannot judge; check it before that, "
            "and watch its training with a Probe"
        )
    if not isinstance(prove, bool):
        raise InputError(f"prove: expected True or False, got {prove!r}")
    if prove and not steps and (optimizer is not None or data is not None):
        steps = _STEPS_TO_PROVE
    if prove and data is not None and hasattr(data, "__next__"):
        data = Replayed(data)  # type: ignore[arg-type]
    loader = None
    if is_loader(batch):
        loader, batch = batch, first_batch(batch)
        if data is None and (steps or prove):
            data = AfterFirst(loader)
    plan = Plan(steps, optimizer, data, clip, schedule, prove)
    job = Job.of(model, batch, loss, step)
    kept = loaders_kept(*(one for one in (loader, data) if one is not None))
    given = plan.given if steps else ()
    extra = [*given[1:], *plan.schedules, *(one for one in (step, clip) if callable(one))]
    kept_whole = in_place(model, optimizer=next(iter(given), None), batch=batch, loss=loss, extra=extra)
    with kept, kept_whole as run, without_broadcast_warning():
        record = _measure(model, job, plan, run)
    report = Report(record, diagnose(record, select=select, ignore=ignore))
    if prove:
        with without_broadcast_warning():
            report = tried_out(report, model, batch, loss, step, plan, select=select, ignore=ignore)
    placed = [
        replace(finding, where=place_of(model, finding.site, code=finding.code, loss=loss))
        for finding in report.findings
    ]
    for finding in placed:
        record.add_finding(finding.code, finding.severity, finding.site, finding.to_dict())
    record.commit()
    return Report(record, replace(report.diagnosis, findings=tuple(placed)))


@dataclass(frozen=True)
class _FirstPass:
    """What is read off the model right after its first pass; silent: trainable parameters with a gradient that is there
    but exactly zero; missing: those with none; outside: those with a gradient that the given optimizer does not hold;
    foreign: how many of its tensors are not the model's."""

    done: Judged
    gradients: GradientFacts
    silent: list[str]
    missing: list[str]
    outside: tuple[str, ...] | None
    foreign: int | None
    batch_norms: tuple[BatchNormFacts, ...]
    same_units: dict[str, UnitFacts]
    leaves: tuple[LeafFacts, ...] | None


def _measure(model: nn.Module, job: Job, plan: Plan, run: Run) -> Record:
    """The measured passes of one check, inside of a run."""
    described = model_facts(model)
    called = None if job.step is None else called_in_step(model, job, run)
    if job.step is None:
        coupling = coupling_facts(model, job.batch, find_logits, run)
    elif called is not None:
        coupling = coupling_facts(model, called.batch, find_logits, run, called.module)
    else:
        coupling = CouplingFacts(reason=f"step {job.step_name} runs the model in its own way")
    rehearsal = Rehearsal(plan, model, run) if plan.steps else None  # from here on nothing is rewound
    optimizers = plan.given if rehearsal is None else rehearsal.optimizers
    passes = Passes(model, job, run)
    passes.train()
    running = snapshot(model)
    probe = Probe(
        model,
        None if rehearsal is None else ([o for o in optimizers if holds_any(o, model)] or None),
        every=1,
        sample=_HISTOGRAM_SAMPLE,
        limit=None,
        examples=job.batch.examples,
        maps=True,
        strict=True,
    )
    passes.probe = probe
    first: _FirstPass | None = None
    end: EndFacts | None = None
    random = random_states.take()
    given = GivenBatches(plan.data)

    def again(batch: Batch) -> Judged:
        with probe.unmeasured():
            return passes.run(batch)

    with probe, contextlib.closing(plan.batches(job, model)) as batches:
        for number, batch in zip(range(max(plan.steps, 1)), batches):
            if plan.steps:
                tell(number, plan.steps, "rehearsing step")
            done = passes.run(batch)
            given.see(batch, None if done.loss is None else float(done.loss.detach()), from_data=number > 0)
            if plan.steps and done.loss is None:  # there would be a step along a random direction
                raise InputError(
                    f"steps={plan.steps}: a rehearsal needs a loss: pass (inputs, targets) and loss=, or a batch for "
                    "which the model returns its own loss"
                )
            if done.loss is not None:
                probe.record.log(number, loss=float(done.loss.detach()))
            if first is None:
                norms, units = batch_norm_facts(model, running), same_units(model)
                leaves = leaf_facts(model, job, plan, done)
                held = (
                    (without_optimizer(optimizers, model), count_foreign(optimizers, model))
                    if optimizers
                    else (None, None)
                )
                first = _FirstPass(done, *gradient_facts(model), *held, norms, units, leaves)
            if rehearsal is not None:
                rehearsal.step(done, functools.partial(again, batch))
        if rehearsal is not None and plan.data is None:
            _log_what_the_last_step_gave(probe, passes, plan.steps)
            if plan.steps >= CATALOGUE["UG110"].limit("steps"):
                with probe.unmeasured():
                    end = end_facts(passes, random)
        probe.flush()
    assert first is not None
    done = first.done
    loss = LossFacts() if done.loss is None else LossFacts(done.name, done.kind, float(done.loss.detach()))
    masks = Masks(model)
    comparison, compared, stretched, parts = comparison_facts(model, job, done, masks)
    stretched = stretched or broadcast_shape(compared)
    target = target_facts(done.target, done.logits, done.kind or "other", stretched)
    output = output_facts(done.logits, done.target, probe.record)
    watched = probe.record.facts
    loop = replace(watched.loop, missing=first.outside)
    trained = optimizer_facts(optimizers, model, first.foreign) if optimizers else OptimizerFacts()
    passes = Passes(model, job, run)
    gradients, opened = first.gradients, ()
    if first.silent or first.missing:
        gradients, opened = explained(passes, gradients, first.silent, first.missing)
    terms, swapped = term_facts(done)
    gradients, comparison = replace(gradients, terms=terms), replace(comparison, swapped=swapped)
    facts = Facts(loss=loss, target=target)
    known = Known(
        done,
        facts.loss_of_a_constant,
        first.leaves,
        first.batch_norms,
        end,
        random,
        coupling.random,
        called,
        compared,
        masks,
    )
    function = function_facts(model, passes, probe.graph, run, known)
    probe.record.set_facts(
        Facts(
            mode="check",
            model=described,
            rehearsed_steps=plan.steps,
            fresh_batches=plan.data is not None if plan.steps else None,
            loss=loss,
            target=target,
            output=output,
            gradients=gradients,
            gradient_source="loss" if done.loss is not None else "random",
            unblocked=opened,
            optimizer=trained,
            clip=ClipFacts() if rehearsal is None else rehearsal.facts(),
            coupling=coupling,
            batch_norms=first.batch_norms,
            same_units=first.same_units,
            labels=watched.labels,
            batches=given.facts(),
            loop=loop,
            comparison=comparison,
            function=function,
            not_rewound=tuple(run.not_rewound) or None,
        )
    )
    _look_at_parts(probe.record, parts)
    return probe.record


_OF_A_LOSS = ("UG105", "UG106", "UG108", "UG109", "UG111", "UG115", "UG120")


def _look_at_parts(record: Record, parts: Sequence[Part]) -> None:
    """Of a loss that is none of the kinds that are known as a whole: the first of the loss functions that it calls in
    which a rule finds something takes its place in the record."""
    whole = record.facts
    for part in parts:
        done = part.compared
        output = replace(output_facts(done.logits, done.target, record), site=whole.output.site)
        facts = replace(
            whole,
            loss=replace(whole.loss, name=done.name),
            target=target_facts(done.target, done.logits, done.kind or "other", None),
            output=output,
            comparison=part.facts,
        )
        record.set_facts(facts)
        if any(finding.severity != "info" for finding in diagnose(record, select=_OF_A_LOSS).findings):
            return
    record.set_facts(whole)


def _log_what_the_last_step_gave(probe: Probe, passes: Passes, steps: int) -> None:
    try:
        with probe.unmeasured():
            done = passes.run(backward=False)
    except InputError:
        return  # the model does not bear what the step made of its weights; the losses before say it
    if done.loss is not None:
        probe.record.log(steps, loss=float(done.loss.detach()))
