"""What the optimizer really did to the weights, as UG501 to UG503 judge it: log10(std(update)/std(weight))."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ._flow import next_functions
from ._loss_curve import QUARTER, diverged_from
from ._rule import BaseEvidence, CannotJudge, Threshold
from ._view import View

TARGET = Threshold(-3.0, "the rule of thumb that the prescribed learning rate aims at")
ADAPTIVE_GRANTED = Threshold(
    0.6,
    "decades: a rehearsal repeats one batch, and without noise in the gradient Adam's steps are "
    "sqrt((1 + beta1)/(1 - beta1)) = 4.4 times those of training",
)
FULL_SIZED = Threshold(
    1.3,
    "decades above the rule of thumb, at which Adam's first steps lie in recipes that train well: they are as long as "
    "the rate, a thirtieth to a fiftieth of the weights (GPT-2: 6e-4 of 0.02; a residual network: 1e-3 of 0.05), and "
    "later ones a fifth of that and less",
)
CONVERGED = Threshold(
    0.1, "of the first loss, or of what a constant gives: most of what could be learnt has been"
)
FALLEN = Threshold(
    0.1, "of the first gradients, at a rate that was not lowered: small updates are those of small gradients"
)
FAR_LOWER = Threshold(
    1e-6,
    "of the learning rate: where less would fit, it is the network's scale that is wrong, and no rate mends it",
)
KEPT = Threshold(0.5, "of the highest learning rate of the run: less was lowered by a schedule")
ADAPTIVE_STEPS = Threshold(10, "sampled steps before an Adam-like optimizer is judged")

# in lower case; "adam" is also in AdamW, NAdam and RAdam
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "lion", "lamb", "adafactor")
_STANDARDIZED = ("ScaledStd", "StdConv")  # their weights are normalized whenever they are used

# of the adaptive ones those without momentum, whose steps repeating one batch does not lengthen
_WITHOUT_MOMENTUM = ("rmsprop", "adagrad", "adadelta", "adafactor")


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
    least      the smallest ratio of any weight at any step
    early      median over the weights of their median over the first quarter of the steps
    """

    ratios: Mapping[str, float]
    granted: float
    target: float
    rates: Sequence[float]
    optimizer: str
    least: float
    early: float

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
    series, name = _ready(view, update_ratios(view)), view.facts.optimizer.name or ""
    adaptive = is_adaptive(view)
    repeated = adaptive and not view.training
    few = adaptive and max(len(values) for values in series.values()) < adaptive_steps
    if few and diverged_from(view) is not None:
        raise CannotJudge(f"the first steps of {name} are full-sized, and the loss diverged within them")
    if few and not full_sized_too and repeated:
        raise CannotJudge(f"the first steps of {name} are full-sized; give {adaptive_steps:g} steps or more")
    late = {name: values[len(values) // 2 :] for name, values in series.items()}
    medians = {name: float(np.nanmedian(v)) for name, v in late.items() if not np.isnan(v).all()}
    if not medians:
        raise CannotJudge("no weight has an update ratio")
    granted = float(adaptive_granted) if repeated and not has_long_first_steps(view) else 0.0
    finite = [values[np.isfinite(values)] for values in series.values()]
    least = min((float(values.min()) for values in finite if len(values)), default=-np.inf)
    first = [v[: max(1, len(v) // int(QUARTER))] for v in finite if len(v)]
    early = float(np.median([np.median(v) for v in first])) if first else -np.inf
    return Updates(medians, granted, target + granted, _rates(view), name or "the optimizer", least, early)


def _ready(view: View, series: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the weights that a rehearsal begins without a gradient, since something after them is zero at first, as
    the branches of a residual network may be; all where there are no others."""
    late = () if view.training else view.facts.unblocked or ()
    return {name: values for name, values in series.items() if name not in late} or series


def update_ratios(view: View, peers_only: bool = False) -> dict[str, np.ndarray]:
    """{weight: log10(update:data) at every sampled step}; minus infinity where a gradient led to no update at all.
    Matrices, kernels and embeddings that the optimizer holds and that did not begin at zero; with peers_only neither
    embeddings (most rows rest) nor the last layer (often scaled down)."""
    diverged = diverged_from(view)
    series = view.over_steps("update", "ratio", before=diverged)
    if not series and diverged is not None:
        raise CannotJudge("the loss had diverged before an update was measured")
    if not series:
        raise CannotJudge("no optimizer step was measured; give steps=20 or --steps 20")
    rates = view.facts.optimizer.lr
    if rates and not any(rates):
        raise CannotJudge("the learning rate is zero")
    first, none = view.over_steps("parameter", "absmax"), no_update(view, diverged)
    held = view.facts.optimizer.held
    head = {p.name for p in view.own_parameters(view.output)}
    chosen = {}
    for name, values in series.items():
        site = view.record.site("parameter", name) or view.record.site("update", name)
        if site is None or len(site.shape) < 2 or (name in first and first[name][0] == 0):
            continue
        if held is not None and name not in held:
            continue  # what another optimizer does, or none (UG701)
        role = site.attributes.get("role", "weight")
        if role not in ("weight", "embedding") or (peers_only and (role == "embedding" or name in head)):
            continue
        known = np.where(np.isfinite(values), values, np.nan)
        # (of an embedding the sampled rows may not have occurred in the batch)
        if role != "embedding" and name in none:
            known = np.where(none[name], -np.inf, known)
        if not np.isnan(known).all():
            chosen[name] = known
    if not chosen:
        raise CannotJudge("no weight has an update ratio")
    return chosen


def way_of_the_weights(view: View, steps: int) -> float:
    """update:data added up over so many steps, of the median weight; NaN where there are no updates."""
    finite = [values[np.isfinite(values)] for values in update_ratios(view).values()]
    per_step = [float(np.mean(10.0**values)) for values in finite if len(values)]
    return steps * float(np.median(per_step)) if per_step else float("nan")


def no_update(view: View, before: int | None = None) -> dict[str, np.ndarray]:
    """{parameter: whether its update was exactly zero although its gradient was not, at every step with an update}."""
    frame, found = view.record.frame("parameter_gradient"), {}
    gradients = {(n, s): g for n, s, g in zip(frame["site"], frame["step"], frame["absmax"])}
    frame = view.record.frame("update")
    for name, step, change in zip(frame["site"], frame["step"], frame["absmax"]):
        if before is None or step < before:
            found.setdefault(name, []).append(change == 0 and gradients.get((name, step), 0) > 0)
    return {name: np.array(values) for name, values in found.items()}


def has_converged(view: View, names: Collection[str]) -> bool:
    """Whether small updates of these weights are those of a run that has learnt what there was: the loss is a tenth of
    the first one, or the gradients are, at a learning rate that was not lowered."""
    losses = view.losses[1]
    losses = losses[np.isfinite(losses)]
    if len(losses) > 1 and losses[0] > 0 and np.median(losses[len(losses) // 2 :]) <= CONVERGED * losses[0]:
        return True
    if not view.training:
        return view.loss <= CONVERGED * view.facts.loss_of_a_constant
    rates = view.record.metric("lr", optional=True)[1]
    if len(rates) and not np.median(rates[len(rates) // 2 :]) >= KEPT * rates.max():
        return False
    fallen = [
        np.nanmedian(v[len(v) // 2 :]) / v[0]
        for name, v in view.over_steps("parameter_gradient", "rms").items()
        if name in names and len(v) > 1 and v[0] > 0
    ]
    return bool(fallen) and float(np.median(fallen)) <= FALLEN


def rate_that_fits(view: View, before: int, now: float) -> float | None:
    """The learning rate that the first updates suggest which were measured up to a step: where a run diverged, later
    ones are of a network that is wrecked already. None where it is not below the rate of now, or so far below it that
    the rate is not at fault, or nothing was measured.

    The first steps of Adam-like optimizers are full-sized whatever the gradient, and are measured by what such steps
    are where training goes well."""
    frame = view.record.frame("update")
    roles = {
        s.name for s in view.record.sites("update") if s.attributes.get("role") in ("weight", "embedding")
    }
    known = [
        (step, ratio)
        for name, step, ratio in zip(frame["site"], frame["step"], frame["ratio"])
        if name in roles and np.isfinite(ratio) and step <= before
    ]
    if not known:
        return None
    first = known[0][0]
    rates = dict(zip(*view.record.metric("lr", optional=True)))
    granted = FULL_SIZED if is_adaptive(view) else 0.0
    median = float(np.median([ratio for step, ratio in known if step == first]))
    rate = float(rates.get(first, np.nan)) * 10 ** (TARGET + granted - median)
    return rate if FAR_LOWER * now < rate < now else None


def is_adaptive(view: View) -> bool:
    """Whether the optimizer's update is the learning rate times something near one, whatever the gradient's size."""
    name = (view.facts.optimizer.name or "").lower()
    return any(kind in name for kind in _ADAPTIVE)


def has_long_first_steps(view: View) -> bool:
    """Whether the optimizer is adaptive without momentum: its average of squared gradients begins at zero, so that its
    first steps are up to ten times as long as later ones, whatever the rate."""
    name = (view.facts.optimizer.name or "").lower()
    return any(kind in name for kind in _WITHOUT_MOMENTUM)


def free_of_norms(view: View, updates: Updates) -> Updates:
    """Without the weights that a normalization follows: what they give does not depend on their scale, so that a large
    update:data says that they are small, not that the rate is too large. Raises CannotJudge if no other is left."""
    ratios = {name: ratio for name, ratio in updates.ratios.items() if not is_normalized(view, name)}
    if not ratios:
        raise CannotJudge(
            "every weight is normalized, so that its scale does not matter; prove=True tries rates"
        )
    return replace(updates, ratios=ratios)


def is_normalized(view: View, name: str) -> bool:
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
    steps, recorded = view.record.metric("lr", optional=True) if view.training else (np.empty(0), np.empty(0))
    end = diverged_from(view)
    recorded = recorded if end is None else recorded[steps < end]
    if len(recorded) and rates and rates[0] > 0:
        typical = float(np.median(recorded[len(recorded) // 2 :]))
        rates = [typical * rate / rates[0] for rate in rates]
    return rates
