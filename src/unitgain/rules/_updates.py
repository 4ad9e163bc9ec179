"""What the optimizer really did to the weights, as UG501 to UG503 judge it: log10(std(update)/std(weight))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._flow import next_functions
from ._loss_curve import diverged_from
from ._rule import BaseEvidence, CannotJudge, Threshold
from ._view import View

TARGET = Threshold(-3.0, "the rule of thumb that the prescribed learning rate aims at")
ADAPTIVE_GRANTED = Threshold(
    0.6,
    "decades: a rehearsal repeats one batch, and without noise in the gradient Adam's steps are "
    "sqrt((1 + beta1)/(1 - beta1)) = 4.4 times those of training",
)
ADAPTIVE_STEPS = Threshold(10, "sampled steps before an Adam-like optimizer is judged")

# their update is the learning rate times something near one, whatever the gradient's size
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "lion", "lamb", "adafactor", "nadam", "radam")
_STANDARDIZED = ("ScaledStd", "StdConv")  # their weights are normalized whenever they are used


@dataclass(frozen=True)
class UpdateEvidence(BaseEvidence):
    """log10(update:data) of the weights, and the groups' learning rates."""

    median: float
    lowest: float
    highest: float
    lr: Sequence[float]


@dataclass(frozen=True)
class Updates:
    """What was measured, and what is aimed at.

    ratios     each weight's median log10(update:data) over the later half of the steps
    granted    decades granted to an adaptive optimizer that is rehearsed on one repeated batch
    target     log10(update:data) to aim at
    rates      learning rate of each parameter group
    optimizer  its name
    """

    ratios: Mapping[str, float]
    granted: float
    target: float
    rates: Sequence[float]
    optimizer: str

    @property
    def median(self) -> float:
        return float(np.median(list(self.ratios.values())))

    @property
    def judged(self) -> float:
        return self.median - self.granted

    @property
    def factor(self) -> float:
        """What to multiply the learning rates by."""
        return 10 ** (self.target - self.median)

    def evidence(self) -> UpdateEvidence:
        ratios = self.ratios.values()
        return UpdateEvidence(self.median, min(ratios), max(ratios), self.rates)


def settled_updates(
    view: View, target: float, adaptive_granted: float, adaptive_steps: float, *, full_sized_too: bool = False
) -> Updates:
    """The updates of the later half of the steps, less those after the loss diverged.

    full_sized_too  judge an Adam-like optimizer by its first steps where there are no others
    """
    series, name = update_ratios(view), view.facts.optimizer.name or ""
    adaptive = any(kind in name.lower() for kind in _ADAPTIVE)
    repeated = adaptive and not view.training
    few = adaptive and max(len(values) for values in series.values()) < adaptive_steps
    if few and diverged_from(view) is not None:
        raise CannotJudge(f"the first steps of {name} are full-sized, and the loss diverged within them")
    if few and not full_sized_too and repeated:
        raise CannotJudge(f"the first steps of {name} are full-sized; give {adaptive_steps:g} steps or more")
    late = {name: values[len(values) // 2 :] for name, values in series.items()}
    medians = {name: float(np.nanmedian(v)) for name, v in late.items() if np.isfinite(v).any()}
    if not medians:
        raise CannotJudge("no weight has an update ratio")
    granted = float(adaptive_granted) if repeated else 0.0
    return Updates(medians, granted, target + granted, _rates(view), name or "the optimizer")


def update_ratios(view: View, peers_only: bool = False) -> dict[str, np.ndarray]:
    """{weight: log10(update:data) at every sampled step}. Matrices, kernels and embeddings that did not begin
    at zero; with peers_only neither embeddings (most rows rest) nor the last layer (often scaled down)."""
    diverged = diverged_from(view)
    series = view.over_steps("update", "ratio", before=diverged)
    if not series and diverged is not None:
        raise CannotJudge("the loss had diverged before an update was measured")
    if not series:
        raise CannotJudge("no optimizer step was measured; give steps=20 or --steps 20")
    rates = view.facts.optimizer.lr
    if rates and not any(rates):
        raise CannotJudge("the learning rate is zero")
    first = view.over_steps("parameter", "absmax")
    head = {p.name for p in view.own_parameters(view.output)}
    chosen = {}
    for name, values in series.items():
        site = view.record.site("parameter", name) or view.record.site("update", name)
        if site is None or len(site.shape) < 2 or (name in first and first[name][0] == 0):
            continue
        role = site.attributes.get("role", "weight")
        if role not in ("weight", "embedding") or (peers_only and (role == "embedding" or name in head)):
            continue
        if np.isfinite(values).any():
            chosen[name] = np.where(np.isfinite(values), values, np.nan)
    if not chosen:
        raise CannotJudge("no weight has an update ratio")
    return chosen


def free_of_norms(view: View, updates: Updates) -> Updates:
    """Without the weights that a normalization follows: what they give does not depend on their scale, so that a large
    update:data says that they are small, not that the rate is too large. Raises CannotJudge if no other is left."""
    ratios = {name: ratio for name, ratio in updates.ratios.items() if not _is_normalized(view, name)}
    if not ratios:
        raise CannotJudge(
            "every weight is normalized, so that its scale does not matter; prove=True tries rates"
        )
    return replace(updates, ratios=ratios)


def _is_normalized(view: View, name: str) -> bool:
    site = view.parameter(name)
    owner = view.tensor(site.owner) if site is not None else None
    if owner is None:
        return False
    after = next_functions(view, owner)
    return owner.site.module.startswith(_STANDARDIZED) or (
        bool(after) and all(m.role == "norm" for m in after)
    )


def _rates(view: View) -> list[float]:
    """Each group's learning rate; where a schedule moved the first one, its median over the steps judged."""
    rates = list(view.facts.optimizer.lr)
    steps, recorded = view.record.metric("lr") if view.training else (np.empty(0), np.empty(0))
    end = diverged_from(view)
    recorded = recorded if end is None else recorded[steps < end]
    if len(recorded) and rates and rates[0] > 0:
        typical = float(np.median(recorded[len(recorded) // 2 :]))
        rates = [typical * rate / rates[0] for rate in rates]
    return rates
