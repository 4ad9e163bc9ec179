"""What the loss compares, as typed facts: the outputs' reach, what the loss is, the targets' values, the inputs'
features.

For the rules that are exact comparisons: UG103, UG105, UG106, UG108, UG109, UG111 to UG113, UG115, UG118, UG120 and
UG203; and for UG303 and UG707, which look at calls of functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import IGNORED_TARGET, Batch, Judged, find_logits, tensors_in
from .._run import random_states
from ..record import AskedFacts, ComparisonFacts, FeatureFacts, ReachFacts, TargetValueFacts
from ..stats import is_plain
from .asking import SMALL, Question, asked_facts, power_of_one_hot, question
from .boxes import not_corners
from .broadcast import Stretched
from .critics import is_that_of_a_critic
from .entropy import entropy_facts
from .floor import falls_for_ever
from .floored import out_of_reach
from .future import is_target
from .inner import InnerLoss, InnerLosses
from .job import Job
from .latents import Latents, latent_facts
from .masks import Masks
from .places import misplaced
from .reach import reach_facts
from .scrambled import scrambled_from
from .signs import costs_most
from .slopes import class_slopes
from .terms import wrong_term

_MOST_DIFFERENT = 1000  # values that are told apart
_EDGE = 1e-3  # relative: a target of 1.0001 is not beyond the reach of a sigmoid


def comparison_facts(
    model: nn.Module, job: Job, done: Judged, masks: Masks
) -> tuple[ComparisonFacts, Judged, Stretched | None, list[Part]]:
    """Runs the model once more, forward, and calls the loss; of a loss that the model or the step computes itself, also
    what it compares, as if that loss had been given, and over which shape it stretches that. done: the first pass.
    A loss of several targets is looked into as well, and each loss function of torch that it calls is asked by itself
    where the whole is none of the kinds that are known. masks: those that the model draws are kept there."""
    reach, calls = ReachFacts(), None
    batch, step = job.batch.clone(), job.step
    own = done.loss is not None and not (done.function is not None and isinstance(done.target, Tensor))
    latents = Latents()
    passed = batch.kwargs.get(batch.passed) if batch.passed is not None else None
    labels = list(tensors_in((batch.labels, passed, job.batch.labels)))  # those of a closure, too
    if step is not None:
        labels = list(tensors_in(batch.args))
    losses = InnerLosses([*tensors_in((batch.args, batch.kwargs)), *labels], labels)
    if step is not None:
        reach, calls = reach_facts(
            model, lambda: step(model, *batch.args), lambda _: None, slopes=True, inner=losses
        )
    else:
        reach, calls = reach_facts(
            model,
            lambda: model(*batch.args, **batch.kwargs),
            lambda outputs: _compute_loss(done, job, outputs, batch),
            batch.examples,
            inputs=frozenset(x.data_ptr() for x in batch.inputs().values() if is_plain(x)),
            targets=[t for t in tensors_in(batch.labels) if is_plain(t)],
            inner=losses,
            latents=latents,
            masks=masks,
        )
    latent = latent_facts(done, latents.found)
    inner = losses.found(done.loss) if own and done.loss is not None else None
    whole, stretched = done, losses.stretched
    if inner is not None:
        done, known = inner.of(done), inner.reach
        rectified, behind = known.rectified or (None, None)
        reach = replace(
            reach, function=known.function, low=known.low, high=known.high, rectified=rectified, behind=behind
        )
    if step is None:
        reach = replace(reach, further=out_of_reach(done, reach.further or ()))
    logits = find_logits(done.compared) if done.function is not None else done.logits
    if logits is not None and not is_plain(logits):
        return ComparisonFacts(reach, calls=calls), done, stretched, []
    if logits is not None:
        reach = replace(reach, log_probabilities=_are_log_probabilities(logits.detach()))
    ask = None
    if done.function is not None and isinstance(done.target, Tensor) and is_plain(done.target):
        ask = question(done.function, done.compared, logits, done.target)
    asked = asked_facts(ask, reach) if ask is not None else AskedFacts()
    asked = replace(asked, falls=falls_for_ever(done, reach))
    if ask is not None:
        asked = replace(
            asked, highest=costs_most(ask), critic=is_that_of_a_critic(ask), not_corners=not_corners(ask)
        )
        asked = _with_slopes(asked, ask, job)
        if asked.critic and asked.takes == "overlap":  # which grows with the outputs too
            asked = replace(asked, takes=None)
    ignored = int(getattr(done.function, "ignore_index", IGNORED_TARGET))
    place = None if ask is None else misplaced(ask, reach.reshaped, ignored)
    inputs = {n: x for n, x in job.batch.inputs().items() if is_plain(x)} if job.step is None else {}
    targets = None
    if isinstance(done.target, Tensor) and is_plain(done.target):
        beside = [x for name, x in inputs.items() if not is_target(name, batch)]
        targets = _target_values(logits, done.target, beside, ignored, asked)
    if targets is None:
        targets = TargetValueFacts()
    elif ask is not None:
        targets = replace(targets, beyond=_beyond(ask, reach))
        if targets.one_for_all and not _is_even_handed(ask):
            targets = replace(targets, one_for_all=None)
        if asked.takes is None and (power := power_of_one_hot(ask)) is not None:
            asked, targets = replace(asked, takes="values", power=power), replace(targets, one_hot=1.0)
    features = tuple(found for site, x in inputs.items() if (found := _features(site, x)) is not None)
    entropy = entropy_facts(done)
    term = None if ask is None or asked.highest or entropy is not None else wrong_term(ask)
    facts = ComparisonFacts(
        reach, asked, targets, features, calls, place=place, entropy=entropy, term=term, latent=latent
    )
    known = asked.takes is not None or inner is not None
    parts = [] if known else [_part(one, whole, facts, job) for one in losses.each()]
    return facts, done, stretched, parts


@dataclass(frozen=True)
class Part:
    """One loss function that the loss calls, as if it had been given: what it compares, and the facts of that."""

    compared: Judged
    facts: ComparisonFacts


def _with_slopes(asked: AskedFacts, ask: Question, job: Job) -> AskedFacts:
    """Of class numbers, one for each example: of places in a text some are padding, which weighs nothing by right."""
    inputs = [x for x in job.batch.inputs().values() if is_plain(x) and x.dim()] if job.step is None else []
    if inputs and all(len(x) != len(ask.logits) for x in inputs):
        return asked
    slopes = class_slopes(ask)
    asked = replace(asked, repels=slopes.repels)
    return asked if math.isnan(slopes.silent) else replace(asked, silent_label=slopes.silent)


def _part(one: InnerLoss, whole: Judged, facts: ComparisonFacts, job: Job) -> Part:
    done, reach = one.of(whole), one.reach
    rectified, behind = reach.rectified or (None, None)
    limits = replace(
        facts.reach, function=reach.function, low=reach.low, high=reach.high, rectified=rectified, behind=behind,
        log_probabilities=_are_log_probabilities(one.given),
    )  # fmt: skip
    ask = question(one.function, one.given, one.given, one.target)
    if ask is None:
        return Part(done, facts)
    asked = asked_facts(ask, limits)
    asked = _with_slopes(replace(asked, highest=costs_most(ask), not_corners=not_corners(ask)), ask, job)
    values = _target_values(one.given, one.target, [], IGNORED_TARGET, asked)
    values = TargetValueFacts() if values is None else replace(values, beyond=_beyond(ask, limits))
    return Part(
        done, replace(facts, reach=limits, asked=asked, targets=values, place=None, entropy=None, term=None)
    )


def _compute_loss(done: Judged, job: Job, outputs: Any, batch: Batch) -> None:
    """Calls the loss, if it is not the model's own, and nothing else."""
    if done.function is not None:
        by_name = isinstance(job.objective.given, str)
        with random_states.kept():
            done.function(find_logits(outputs) if by_name else outputs, batch.labels)


_SUM = 1e-3  # rounding of bfloat16 stays below it


def _are_log_probabilities(x: Tensor) -> bool:
    """Whether the exponentials sum to one along some axis."""
    sums = (x.double().exp().sum(axis) for axis in range(x.dim()) if x.shape[axis] > 1)
    return any(bool(((total - 1).abs() < _SUM).all()) for total in sums)


def _are_distributions(target: Tensor) -> bool:
    """Whether no target is negative and the rows along axis 1, or the last one, sum to one."""
    if target.dim() < 2 or not target.is_floating_point() or bool((target < 0).any()):
        return False
    sums = (target.double().sum(axis) for axis in {1, target.dim() - 1} if target.shape[axis] > 1)
    return any(bool(((total - 1).abs() < _SUM).all()) for total in sums)


# ---- targets ---------------------------------------------------------------------------------------------------


def _target_values(
    logits: Tensor | None, target: Tensor, inputs: list[Tensor], ignored: int, asked: AskedFacts
) -> TargetValueFacts | None:
    values = target.detach()
    if values.is_complex() or values.dtype == torch.bool:
        values = values.to(torch.uint8) if values.dtype == torch.bool else values.abs()
    real = values[values != ignored] if not values.is_floating_point() else values[values.isfinite()]
    if not real.numel():
        return None
    x = real.double()
    different = counts = None
    whole = bool((x == x.round()).all())
    if whole:
        _, counts = x.unique(return_counts=True)
        different = min(len(counts), _MOST_DIFFERENT)
    rarest = commonest = math.nan
    if counts is not None:
        average = len(x) / len(counts)
        rarest, commonest = float(counts.min()) / average, float(counts.max()) / average
    rows, one_hot, several, blank = _rows(logits, values, _axis_of_rows(asked))
    labels, same, own_place = _labels(logits, values, one_hot)
    return TargetValueFacts(
        count=real.numel(),
        min=float(x.min()),
        max=float(x.max()),
        mean=float(x.mean()),
        std=float(x.std(correction=0)),
        rms=float(x.square().mean().sqrt()),
        whole=whole,
        different=different,
        rarest=rarest,
        commonest=commonest,
        rows=rows,
        one_hot=one_hot,
        several=several,
        blank=blank,
        distributions=_are_distributions(values),
        is_input=any(_equal(x, target) for x in inputs),
        one_for_all=_one_for_all(logits, values),
        labels=labels,
        same_label=same,
        own_place=own_place,
    )


def _one_for_all(logits: Tensor | None, target: Tensor) -> bool | None:
    if logits is None or target.shape != logits.shape or target.dim() != 2 or target.shape[1] < 2:
        return None
    return bool((target == target[:, :1]).all()) and not bool((target == target[:1]).all())


def _is_even_handed(ask: Question) -> bool:
    """Whether outputs above their targets cost what those below do, in the first column and in the last: quantiles of
    one number do not."""
    right = ask.target.to(ask.logits.dtype)
    for column in (0, -1):
        step = torch.zeros_like(right)
        step[:, column] = 1
        above, below = ask(right + step), ask(right - step)
        if not math.isclose(above, below, rel_tol=1e-3):
            return False
    return True


def _equal(x: Tensor, target: Tensor) -> bool:
    return x.numel() == target.numel() and bool((x.reshape(-1) == target.reshape(-1).to(x.device)).all())


def _axis_of_rows(asked: AskedFacts) -> int:
    """Where the targets have their classes, the loss its softmax, or torch its classes."""
    return next((axis for axis in (asked.classes, asked.over) if axis is not None), 1)


def _rows(logits: Tensor | None, target: Tensor, axis: int) -> tuple[int | None, float, float, float]:
    """(rows of classes, share with a single 1, with several, with none) along the classes' axis."""
    if logits is None or target.shape != logits.shape or target.dim() < 2 or target.shape[axis] < 2:
        return None, math.nan, math.nan, math.nan
    rows = target.movedim(axis, -1).reshape(-1, target.shape[axis])
    binary = ((rows == 0) | (rows == 1)).all(1)
    ones = (rows == 1).sum(1)
    one, several, blank = (
        float((binary & which).double().mean()) for which in (ones == 1, ones > 1, ones == 0)
    )
    return len(rows), one, several, blank


def _labels(
    logits: Tensor | None, target: Tensor, one_hot: float
) -> tuple[int | None, int | None, bool | None]:
    """(examples that have one label each, the label if it is the same for all, whether it is each one's place)."""
    if logits is None or not target.dim() or len(target) != len(logits):
        return None, None, None
    if one_hot == 1 and target.dim() == 2:
        labels = target.argmax(1)
    elif target.numel() == len(target):
        labels = target.reshape(-1)
    else:
        return None, None, None
    first = float(labels[0])
    same = bool((labels == labels[0]).all()) and first == round(first) and first != IGNORED_TARGET
    own_place = len(labels) > 1 and bool((labels == torch.arange(len(labels), device=labels.device)).all())
    return len(labels), int(first) if same else None, own_place


def _beyond(ask: Question, reach: ReachFacts) -> float:
    """Share of the targets that no output can reach, if the loss would be lower there."""
    target, shape = ask.target, ask.logits.shape
    if target.numel() != ask.logits.numel() or math.isnan(reach.low) or target.dtype == torch.bool:
        return math.nan
    values = target.double().reshape(shape)
    span = reach.high - reach.low
    edge = _EDGE * (span if math.isfinite(span) else 1.0)
    outside = values.isfinite() & ((values < reach.low - edge) | (values > reach.high + edge))
    share = float(outside.double().sum() / values.isfinite().sum().clamp(min=1))
    if not share:
        return 0.0
    there = torch.where(values.isfinite(), values, ask.logits.detach().double().to(values.device))
    nearest = there.clamp(reach.low, reach.high)
    step = (there - nearest).abs().max() / 2
    at, near, above, below = (ask(o) for o in (there, nearest, there + step, there - step))
    # else the loss does not ask for outputs that equal the targets
    right = at < min(above, below) - SMALL * abs(at)
    return share if right and at < near - SMALL * abs(near) else 0.0


# ---- inputs ----------------------------------------------------------------------------------------------------


def _features(site: str, x: Tensor) -> FeatureFacts | None:
    if not is_plain(x) or not x.is_floating_point() or x.dim() < 2 or not x.numel():
        return None
    x = x.detach()
    same = len(x) > 1 and bool((x == x[:1]).all())
    one_value = bool((x == x.reshape(-1)[0]).all())
    axis = 1
    for candidate in dict.fromkeys((1, x.dim() - 1)):
        if any(_empty(x, candidate)):
            axis = candidate
            break
    per = x.movedim(axis, 0).reshape(x.shape[axis], -1)
    constant = [
        int(i)
        for i in ((per == per[:, :1]).all(1) & (per[:, 0] != 0)).nonzero().reshape(-1)[:_MOST_DIFFERENT]
    ]
    order, smoother = scrambled_from(x) or (None, math.nan)
    return FeatureFacts(site, len(x), int(x.shape[axis]), tuple(_empty(x, axis)), tuple(constant), same, one_value,
                        x.dim() == 2, order, smoother)  # fmt: skip


def _empty(x: Tensor, axis: int) -> Iterator[int]:
    """Features that hold no finite number in any example, while all others do."""
    finite = x.isfinite().movedim(axis, 0).reshape(x.shape[axis], -1)
    none, every = ~finite.any(1), finite.all(1)
    if bool(none.any()) and bool((none | every).all()) and bool(every.any()):
        yield from (int(i) for i in none.nonzero().reshape(-1))
