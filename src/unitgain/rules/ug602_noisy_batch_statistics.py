"""UG602 noisy-batch-statistics: BatchNorm with too few values, or averages over too few batches.

Source: Wu and He, Group normalization (2018), for small batches; Ioffe, Batch renormalization (2017). What a
momentum remembers is the effective length of an exponential average.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import Measured, View
from ._words import as_layer, listed, plural, show

ABOUT = About(
    code="UG602",
    name="noisy-batch-statistics",
    rank=680,
    seen="BatchNorm takes statistics over very few values, or its running ones over very few batches.",
    matters=(
        "Means over n values are off by 1/sqrt(n) of a standard deviation: noise in training, and running "
        "statistics that depend on the last batches in evaluation."
    ),
    source=(
        "Wu and He, Group normalization, 2018: a ResNet-50's error rises from 8 examples per batch downwards; "
        "Ioffe, Batch renormalization, 2017."
    ),
    measured=(
        "Values per channel: examples times positions at the norm's output. Batches remembered: (2 - "
        "momentum) / momentum, the effective length of the running average. Synchronized norms see more than "
        "this process does, and are left out."
    ),
    action=(
        "Use a larger batch, GroupNorm or LayerNorm, or convert the network to a normalizer-free one; where "
        "momentum is at fault, lower it."
    ),
    effect="The same output in training and evaluation, and less noise.",
    verify="Check again with the batch size of training.",
    silent=(
        "feature maps of small batches: every position counts",
        "momentum=None (plain averages)",
    ),
)

VALUES = Threshold(16, "per channel: means off by a quarter of a standard deviation")
WARNING = Threshold(
    8,
    "per channel: off by more than a third. From 8 to 15 it is only mentioned: a check is often run on "
    "fewer examples than training has",
)
BATCHES = Threshold(3, "remembered: momentum 0.5; the default of 0.1 remembers 19")
REMEMBERED = Threshold(256, "examples in those batches: as many make even a short memory exact enough")
SWAPPED = Threshold(0.8, "a momentum above it was probably meant as the weight of the old average")


@dataclass(frozen=True)
class FewValues(BaseEvidence):
    """values: per channel, of the norms below the limit; layers: norms in all."""

    values: Mapping[str, int]
    fewest: int
    layers: int


@dataclass(frozen=True)
class ShortMemory(BaseEvidence):
    """momentum: of the norms that remember too little; batches_remembered: by the first; examples: in a batch."""

    momentum: Mapping[str, float]
    batches_remembered: float
    examples: int


Evidence = FewValues | ShortMemory


def judge(view: View) -> Iterator[Found[Evidence]]:
    norms = [m for m in view.activations if _is_batch_norm(m)]
    if not norms:
        raise CannotJudge("no BatchNorm in training mode")
    yield from _few_values(norms)
    yield from _short_memory(view, norms)


def _is_batch_norm(measured: Measured) -> bool:
    kind = measured.site.module.lower().replace("_", "")
    return (
        measured.role == "norm"
        and "batchnorm" in kind
        and "sync" not in kind
        and measured.subtracts_channel_mean
        and measured.site.attributes.get("batch_axis") is not None
    )


def _few_values(norms: list[Measured]) -> Iterator[Found[FewValues]]:
    values = {m.name: m.examples * m.positions for m in norms}
    few = {name: n for name, n in values.items() if n < VALUES}
    if not few:
        return
    fewest = min(few.values())
    first = next(iter(few))
    yield ABOUT.found(
        "warning" if fewest < WARNING else "info",
        first,
        f"{plural(len(few), 'BatchNorm layer')} of {len(norms)} {'sees' if len(few) == 1 else 'see'} fewer than "
        f"{VALUES:g} values per channel ({as_layer(first)}: {few[first]}): means are off by "
        f"{1 / math.sqrt(fewest):.0%} of a standard deviation from batch to batch",
        evidence=FewValues(few, fewest, len(norms)),
        cause="The batch is small, and nothing but its examples is averaged over.",
        remedy=f"Use a larger batch, GroupNorm or LayerNorm at {listed(map(as_layer, few))}, or convert the network to "
        "a normalizer-free one.",
    )


def _short_memory(view: View, norms: list[Measured]) -> Iterator[Found[ShortMemory]]:
    examples = max(m.examples for m in norms)
    short = {}
    for row in view.facts.batch_norms or ():
        if row.momentum is None or not 0 < row.momentum <= 1:
            continue
        batches = _remembered(row.momentum)
        if batches <= BATCHES and batches * examples < REMEMBERED:
            short[row.site] = row.momentum
    if not short:
        return
    first = next(iter(short))
    batches = _remembered(short[first])
    yield ABOUT.found(
        "warning",
        first,
        f"momentum {show(short[first])} in {listed(short)}: running statistics remember about "
        f"{show(batches)} batches of {examples}, so that evaluation depends on the last ones",
        evidence=ShortMemory(short, batches, examples),
        cause="PyTorch's momentum is the weight of the newest batch (0.1 by default); other libraries give the "
        "weight of the old average (0.9).",
        remedy=f"Set momentum of {listed(map(as_layer, short))} to 0.1 or less"
        + (", 1 - momentum was probably meant." if short[first] > SWAPPED else "."),
    )


def _remembered(momentum: float) -> float:
    """Effective number of batches in an exponential average."""
    return (2 - momentum) / momentum


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(4, 20), torch.randint(10, (4,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.GroupNorm(8, 64), nn.ReLU(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(4, 20), torch.randint(10, (4,))))
"""
