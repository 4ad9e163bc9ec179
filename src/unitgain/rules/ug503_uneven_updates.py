"""UG503 uneven-updates: weights that are updated at a rate far from the others'.

Source: Karpathy, makemore part 3 (2022), who plots the ratios over steps; You et al., LARS (2017). The limits are
ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ._causes import is_error
from ._flow import gates
from ._loss_curve import QUARTER
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._updates import is_normalized, update_ratios
from ._view import View
from ._words import listed, plural, show

ABOUT = About(
    code="UG503",
    name="uneven-updates",
    rank=640,
    seen="Some weights are updated at a rate that is more than two decades away from the rest.",
    matters="No single learning rate fits: some weights move too far, or others hardly move.",
    source=(
        "Karpathy, makemore part 3, 2022; You et al., Large batch training of convolutional networks, 2017."
    ),
    measured=(
        "log10(std(update)/std(weight)) per weight against the median of all weights, at three quarters of the sampled "
        "steps, the last ones among them. The last layer, embeddings and weights that began at zero are left out: "
        "they differ for good reasons. So are tables, scales and temperatures that are no weights of a layer. A weight "
        "that a norm follows and that is faster than the others is for information: each step makes it longer, and so "
        "slower; so is one that is slower and belongs to a gate computed from pooled features (squeeze-and-excite), "
        "which gets little gradient in networks that train well. All weights count where a parameter group has a "
        "learning rate ten thousand times below or above that of every other group."
    ),
    action=(
        "Look at the scale of the named weights (initialization for their fan-in), or use an optimizer that "
        "adapts the step per parameter."
    ),
    effect="All weights learn at comparable speed.",
    verify="Check again with steps.",
    needs="steps",
)

DECADES = Threshold(
    2.0,
    "from the median: a hundred times another weight's rate leaves no learning rate that fits both",
)
STEPS = Threshold(3, "sampled steps: fewer are not sustained, one step may be an outlier")
SUSTAINED = Threshold(0.75, "of the sampled steps on the same side: a warm-up's first steps may differ")
WEIGHTS = Threshold(4, "weights: fewer have no median that one of them could not move")


GROUPS = Threshold(
    1e4, "times another group's learning rate: layer-wise decay over 24 layers ends at about a thousandth"
)
STILL = Threshold(-6.0, "log10(update:data): a weight that changes by a millionth of its size does not learn")
WILD = Threshold(-1.0, "log10(update:data): a tenth of a weight's size per step, the error of UG501")


@dataclass(frozen=True)
class OfGroup(BaseEvidence):
    """A parameter group with a rate of its own: its learning rate and the others', log10(update:data) of its weights,
    median, and how many parameters it holds."""

    lr: float
    others: float
    updates: float
    parameters: int


@dataclass(frozen=True)
class OfWeights(BaseEvidence):
    """decades: log10(update:data) over the median of all weights, of those beyond the limit; std: of the worst."""

    decades: Mapping[str, float]
    steps: int
    weights: int
    std: float


Evidence = OfGroup | OfWeights


def judge(view: View) -> Iterator[Found[Evidence]]:
    groups = list(_of_groups(view))
    yield from groups
    if groups:
        return
    series = {
        name: values
        for name, values in update_ratios(view, peers_only=True).items()
        if _is_weight(view, name)
    }
    if len(series) < WEIGHTS:
        raise CannotJudge("fewer than four weights with an update ratio")
    steps = min(len(values) for values in series.values())
    if steps < STEPS:
        raise CannotJudge("fewer than three steps: nothing is sustained yet")
    table = np.array([values[-steps:] for values in series.values()])  # (weights, steps)
    table = table[
        :, np.isfinite(table).any(axis=0)
    ]  # at a step that overflowed nothing is known of any weight
    steps = table.shape[1]
    if steps < STEPS:
        raise CannotJudge("fewer than three steps with an update ratio that is finite")
    with np.errstate(
        invalid="ignore"
    ):  # minus infinity, where nothing changes: then none is far from the others
        away = table - np.nanmedian(table, axis=0)
    last = max(1, steps // int(QUARTER))
    found = {
        name: float(np.nanmedian(row))
        for name, row in zip(series, away)
        if max(np.mean(row > DECADES), np.mean(row < -DECADES)) >= SUSTAINED
        and abs(np.nanmedian(row[-last:])) > DECADES  # and has not come back by the end
    }
    if not found:
        return
    worst = max(found, key=lambda name: abs(found[name]))
    faster = found[worst] > 0
    parameter = view.parameter(worst)
    std = parameter["std"] if parameter else math.nan
    of_gates = {p.name for gate in gates(view.activations) for p in view.own_parameters(gate)}
    usual = all(
        is_normalized(view, name) if decades > 0 else name in of_gates for name, decades in found.items()
    )
    yield ABOUT.found(
        "info" if usual else "warning",
        worst,
        f"{plural(len(found), 'weight')} of {len(series)} updated at another rate than the rest "
        f"({listed(found)}): {worst} by a factor of {show(10 ** found[worst])}, all {steps} steps long",
        evidence=OfWeights(found, steps, len(series), std),
        cause=f"{worst} is {'small' if faster else 'large'} for the gradient it gets (std {show(std)}), or "
        f"its gradient is {'larger' if faster else 'smaller'} than its peers'.",
        remedy=f"Look at the scale of {listed(found)} (initialization for the fan-in), or use an optimizer that adapts "
        "the step per parameter.",
    )


def _of_groups(view: View) -> Iterator[Found[OfGroup]]:
    """Groups whose learning rate is far from all others', and whose weights move accordingly. All weights count."""
    groups = [g for g in view.facts.optimizer.groups or () if g.parameters and g.lr > 0]
    if len(groups) < 2:
        return
    series = update_ratios(view)
    for i, group in enumerate(groups):
        others = [g.lr for j, g in enumerate(groups) if j != i]
        ratios = [float(np.nanmedian(series[name])) for name in group.parameters if name in series]
        updates = float(np.median(ratios)) if ratios else math.nan
        if updates == -math.inf:
            continue  # no update at all: UG508
        slow = group.lr * GROUPS <= min(others) and not updates > STILL
        fast = group.lr >= GROUPS * max(others) and updates > WILD
        if not slow and not fast:
            continue
        moves = (
            f", and changes its weights by 10^{updates:.1f} of their size per step"
            if math.isfinite(updates)
            else ""
        )
        yield ABOUT.found(
            "warning",
            group.parameters[0],
            f"the parameter group of {listed(group.parameters)} has a learning rate of {show(group.lr)}, the others "
            f"{show(min(others) if slow else max(others))}{moves}",
            evidence=OfGroup(group.lr, float(np.median(others)), updates, len(group.parameters)),
            cause=f"Its learning rate is {'far below' if slow else 'far above'} that of all other groups.",
            remedy=f"Give this group a learning rate near the others' ({show(float(np.median(others)))})"
            + ("; if it is to stay as it is, freeze it by requires_grad_(False)." if slow else "."),
        )


def _is_weight(view: View, name: str) -> bool:
    """Whether a layer multiplies by it, so that it may be compared with others: more than one input, and no table of
    positions, temperature or scale that a module without a site of its own holds."""
    site = view.record.site("parameter", name) or view.record.site("update", name)
    if site is None:
        return True
    return sum(size > 1 for size in site.shape) >= min(2, len(site.shape))


EXPLAINED_BY = tuple(Cause(code, is_error) for code in ("UG301", "UG302", "UG401", "UG402"))

BAD = """
layers = [m for _ in range(5) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
ug.init_(model)
batch = torch.randn(256, 64), torch.randint(10, (256,))
first, *others = model.parameters()
optimizer = torch.optim.SGD([{"params": [first], "lr": 1e-5}, {"params": others}], lr=0.03)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""

GOOD = """
layers = [m for _ in range(5) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
ug.init_(model)
batch = torch.randn(256, 64), torch.randint(10, (256,))
first, *others = model.parameters()
optimizer = torch.optim.SGD([{"params": [first]}, {"params": others}], lr=0.03)
report = ug.check(model, batch, steps=10, optimizer=optimizer)
"""
