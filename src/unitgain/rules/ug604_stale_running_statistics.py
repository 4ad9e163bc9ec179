"""UG604 stale-running-statistics: BatchNorm's running statistics do not describe the data.

Source: Ioffe and Szegedy (2015), section 3.1; Wu and Johnson, Rethinking "Batch" in BatchNorm (2021). How the
noise of one batch is distinguished from staleness is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ..record import BatchNormFacts
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import as_layer, listed, plural, show

if TYPE_CHECKING:
    from . import ug703_eval_differs as ug703

ABOUT = About(
    code="UG604",
    name="stale-running-statistics",
    rank=540,
    seen="BatchNorm's running statistics do not describe what goes into it.",
    matters=(
        "In evaluation mode the model normalizes with them: its outputs differ from those it was trained "
        "with."
    ),
    source=(
        "Ioffe and Szegedy, Batch normalization, 2015, section 3.1; Wu and Johnson, Rethinking 'Batch' in "
        "BatchNorm, 2021."
    ),
    measured=(
        "Running mean and variance against those of this batch in training mode, the typical (median) "
        "channel, as they stand before the pass. Noise of the batch's own statistics is granted, as if "
        "positions of one image said nothing new. Statistics that are those of a new module are named where the "
        "momentum is 0 or 30 batches were seen."
    ),
    action=(
        "Recompute them over training data (unitgain.nn.calibrate_), and check that the batch is preprocessed "
        "as in training; if it recurs, raise the momentum."
    ),
    effect="Evaluation mode gives the outputs that the model was trained with.",
    verify="Check again with another batch.",
    remedies=("recalibrate",),
    silent=(
        "networks that are not trained yet",
        "small batches",
        "frozen BatchNorm, also by a momentum of 0 once the statistics are those of data",
    ),
)

MEAN = Threshold(0.5, "running standard deviations between the means, beyond noise")
VARIANCE = Threshold(
    2.0,
    "fold between the variances, beyond noise: outputs differ by the root of it from those in training",
)
SIGMAS = Threshold(3.0, "standard errors granted to a batch of this size")
APART = Threshold(
    4.0,
    "times what half of the other layers show: those see the same batch, and so its noise; a layer that "
    "far beyond them is granted no more noise than they have",
)
OTHERS = Threshold(3, "layers to compare with: fewer have no typical one")
BATCHES = Threshold(
    30,
    "seen before: with the default momentum the starting values 0 and 1 weigh 4% by then; fewer is an "
    "untrained network",
)


@dataclass(frozen=True)
class Gap:
    """mean_gap: in running standard deviations; variance_factor: the larger variance over the smaller one; both of the
    typical channel."""

    mean_gap: float
    variance_factor: float


@dataclass(frozen=True)
class Still(BaseEvidence):
    """momentum: of the norms whose statistics are those of a new module; tracked: batches that they have seen."""

    momentum: Mapping[str, float | None]
    tracked: int


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """sites: the norms beyond the limits; layers: norms in all."""

    sites: Mapping[str, Gap]
    layers: int


def judge(view: View) -> Iterator[Found[Evidence | Still]]:
    still = [row for row in view.facts.batch_norms or () if _never_moves(row)]
    if still:
        yield _never(still, len(view.facts.batch_norms or ()))
        return
    rows = [row for row in view.facts.batch_norms or () if not math.isnan(row.mean_gap)]
    if not rows:
        raise CannotJudge("no BatchNorm with running statistics was compared with its batch")
    seen = [row for row in rows if row.tracked >= BATCHES]
    if not seen:
        raise CannotJudge("running statistics have seen too few batches to judge: not trained yet")
    stale: dict[str, Gap] = {}
    for row in seen:
        site = view.tensor(row.site)
        noise = SIGMAS / math.sqrt(max(site.examples if site else 1, 2))
        others = [other for other in seen if other is not row]
        if (
            row.mean_gap > MEAN + noise
            or row.log_variance > math.log(VARIANCE) + math.sqrt(2) * noise
            or _stands_out(row.mean_gap, [r.mean_gap for r in others], MEAN)
            or _stands_out(row.log_variance, [r.log_variance for r in others], math.log(VARIANCE))
        ):
            stale[row.site] = Gap(row.mean_gap, math.exp(row.log_variance))
    if not stale:
        return
    first, gap = next(iter(stale.items()))
    yield ABOUT.found(
        "warning",
        first,
        f"running statistics of {plural(len(stale), 'BatchNorm layer')} of {len(rows)} do not fit this batch: at "
        f"{first} means are off by {show(gap.mean_gap)} standard deviations and variances by a factor "
        f"of {show(gap.variance_factor)} (typical channel)",
        evidence=Evidence(stale, len(rows)),
        cause="The weights moved on since the averages were taken, or this batch is not like the data that the "
        "model was trained on (other preprocessing, another domain).",
        remedy=f"Recompute the statistics of {listed(map(as_layer, stale))} over training data "
        "(unitgain.nn.calibrate_), and check that the batch is preprocessed as in training; if it recurs, raise "
        "the momentum.",
    )


def _never_moves(row: BatchNormFacts) -> bool:
    """Its statistics are a new module's, and stay so, or have stayed so. At momentum 0 with other statistics it is
    frozen on purpose."""
    return row.at_start and (row.momentum == 0 or row.tracked >= BATCHES)


def _never(rows: list[BatchNormFacts], layers: int) -> Found[Still]:
    first, tracked = rows[0], max(row.tracked for row in rows)
    none = first.momentum == 0
    return ABOUT.found(
        "warning",
        first.site,
        f"running statistics of {plural(len(rows), 'BatchNorm layer')} of {layers} are the 0 and 1 that they began with"
        + (f" after {plural(tracked, 'batch')}" if tracked else "")
        + (", and momentum 0 keeps them there" if none else ""),
        evidence=Still({row.site: row.momentum for row in rows}, tracked),
        cause="PyTorch's momentum is the weight of the newest batch: with 0 nothing is ever averaged."
        if none
        else "They were reset, or not loaded with the weights.",
        remedy=f"Set momentum of {listed(as_layer(row.site) for row in rows)} to 0.1 and train on, or recompute the "
        "statistics (unitgain.nn.calibrate_)."
        if none
        else "",
    )


def _makes_the_difference(cause: Found[ug703.Evidence], effect: Found[Evidence], view: View) -> bool:
    return "Norm" in (cause.evidence.module or "")


def _stands_out(value: float, others: list[float], limit: float) -> bool:
    """Beyond the limit, and far beyond what most other layers show of this batch's own noise."""
    return value > limit and len(others) >= OTHERS and value > APART * median(others)


EXPLAINED_BY = (Cause("UG703", _makes_the_difference),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
for _ in range(60):  # training, on data of another scale
    model(5 * torch.randn(256, 20))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
for _ in range(60):  # training, on data like that of the batch
    model(torch.randn(256, 20))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
