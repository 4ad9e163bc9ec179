"""UG304 dead-units: units of an activation layer that were never active for any example.

Source: Lu et al., Dying ReLU and initialization (2020); Karpathy, makemore part 3 (2022). That units which chance
explains are subtracted, and how, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._causes import at_one_site, comes_before, weights_come_before
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import plural, show

if TYPE_CHECKING:
    from . import ug302_exploding_activations as ug302
    from . import ug303_saturated as ug303

ABOUT = About(
    code="UG304",
    name="dead-units",
    rank=46,
    seen="Units of an activation layer were never active for any example.",
    matters=(
        "A dead unit passes no gradient, so its weights cannot learn their way back; the layer is narrower than "
        "it was built."
    ),
    source="Lu et al., Dying ReLU and initialization, 2020; Karpathy, makemore part 3, 2022.",
    measured=(
        "Units (channels, or features) whose function was never active for any example since measuring began. "
        "What chance explains is subtracted: among n examples whose incoming vectors have mean cosine c, a "
        "random unit without bias is off for all with the probability that n equally correlated Gaussians are "
        "all negative (half of the units if all examples are almost the same). The spread of the layer's biases, as "
        "far as they lie on both sides of zero, counts as something the examples share."
    ),
    action=(
        "Re-initialize the layer before (weights for the function, bias zero); if the units died during "
        "training, lower the learning rate or use a function with a slope on both sides."
    ),
    effect="Every unit is active for some examples.",
    verify="Check again with at least 64 examples: dead units below 10%.",
    remedies=("lsuv", "init", "init-lsuv"),
    silent=(
        "sparse units: zero for most examples but not for all",
        "small batches",
        "units off for all examples because the examples are nearly the same",
        "functions fed with exact zeros",
    ),
)

WARNING = Threshold(0.1, "of the units, beyond chance: a tenth of the layer's width is lost")
ERROR = Threshold(0.5, "of the units, beyond chance: most of the layer cannot learn")
SAMPLES = Threshold(
    32,
    "values seen per unit: a unit active one time in ten is missed by 3% of such samples",
)
EXAMPLES = Threshold(5, "different examples: fewer cannot tell dead from sparse")
SIGMAS = Threshold(4.0, "standard errors above what chance gives: a network has many layers")
FORMULA = Threshold(
    0.1,
    "of the chance itself, by which the formula fell short of default MLPs (37% where 41% were dead)",
)
WORTH_SAYING = Threshold(0.005, "of the units: what chance explains is named from there on")
NEARLY_ONE = Threshold(0.9999, "largest correlation that the formula is used for: at 1 it divides by zero")


@dataclass(frozen=True)
class DeadUnits:
    """Of one layer: fraction of its units that are dead, the fraction that chance explains, and what is beyond it."""

    units: float
    dead: float
    fraction: float
    chance: float
    beyond: float


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """worst: beyond chance, of the layer named; preactivation_mean: of what goes into it."""

    worst: float
    sites: Mapping[str, DeadUnits]
    preactivation_mean: float

    @property
    def size(self) -> float:
        """The largest share of dead units beyond chance."""
        return self.worst


def judge(view: View) -> Iterator[Found[Evidence]]:
    steps = len(view.steps) if view.training else 1
    known = [m for m in view.activations if m["units"] > 0 and not math.isnan(m["dead"])]
    if not known:
        raise CannotJudge("no activation function with units was measured")
    judged = [
        m for m in known if m.examples * steps >= EXAMPLES and m["count"] / m["units"] * steps >= SAMPLES
    ]
    if not judged:
        raise CannotJudge("too few examples to tell dead units from sparse ones; give 64 or more")
    counted = {m.name: _beyond_chance(view, m, steps) for m in judged}
    found = {name: row for name, row in counted.items() if row is not None}
    if not found:
        return
    name, row = max(found.items(), key=lambda item: item[1].beyond)
    also = f"; {plural(len(found), 'layer')} of {len(judged)} in all" if len(found) > 1 else ""
    measured = view.tensor(name)
    before = next(iter(view.fed_by(measured)), None) if measured else None
    yield ABOUT.found(
        "error" if row.beyond > ERROR else "warning",
        name,
        f"{row.dead:g} of {row.units:g} units of {name} ({row.fraction:.0%}) were never active"
        f"{_by_chance(row.chance)}{also}",
        evidence=Evidence(row.beyond, found, before["mean"] if before else math.nan),
        cause=_why(before),
    )


def _beyond_chance(view: View, measured: Measured, steps: int) -> DeadUnits | None:
    """The dead units of a layer, or None where chance explains them, or nothing or NaN goes in."""
    before = view.fed_by(measured)
    if any(m["absmax"] == 0 for m in before):
        return None  # zero-initialized: nothing arrives yet
    if measured.broken or any(m.broken for m in before):
        return None  # NaN is not dead
    units, fraction = measured["units"], measured["dead"] / measured["units"]
    chance = off_by_chance(view, measured, steps)
    margin = SIGMAS * math.sqrt(chance * (1 - chance) / units) + FORMULA * chance
    beyond = (fraction - chance) / (1 - chance) if chance < 1 else 0.0
    if beyond <= WARNING or fraction <= chance + margin:
        return None
    return DeadUnits(units, measured["dead"], fraction, chance, beyond)


def off_by_chance(view: View, measured: Measured, steps: int) -> float:
    """Probability that a healthy random unit is off for all samples, because the examples are similar.

    With a random weight vector, the pre-activations of two examples are correlated by the cosine of what goes
    into the layer; the spread of its biases, which all examples share, adds to that. For n equally correlated
    Gaussians with correlation c,

        P(all negative) = E over t ~ N(0, 1) of Phi(-sqrt(c / (1 - c)) t)^n,

    1/2 for c = 1 and 2^-n for c = 0. After a normalization per channel it is practically zero.
    """
    if None not in measured.bounds:
        return 0.0  # bounded on both sides, as tanh: its units are dead when saturated, which no correlation excuses
    if any(m.subtracts_channel_mean for m in view.fed_by(measured)):
        return 0.0
    samples = max(1.0, measured["count"] / measured["units"] * steps)
    shared = _share_of_bias(view, measured)
    cosine = min(shared + (1 - shared) * max(_incoming_cosine(view, measured), 0.0), NEARLY_ONE)
    t = np.linspace(-6, 6, 481)
    weight = np.exp(-t * t / 2)
    off = np.array([math.erfc(math.sqrt(cosine / (1 - cosine)) * v / math.sqrt(2)) / 2 for v in t])
    return float(np.sum(weight * off**samples) / np.sum(weight))


def _incoming_cosine(view: View, measured: Measured) -> float:
    """Cosine between examples of what went into the layer before this function, not of the layer's output:
    that one would be near one in a layer killed by its bias, and excuse it."""
    for layer in view.fed_by(measured):
        for source in view.fed_by(layer):
            if not math.isnan(source["cosine"]):
                return source["cosine"]
    earlier = [
        m for m in [*view.inputs, *view.activations]
        if m.position < measured.position and not math.isnan(m["cosine"]) and m not in view.fed_by(measured)
    ]  # fmt: skip
    return earlier[-1]["cosine"] if earlier else 0.0


def _share_of_bias(view: View, measured: Measured) -> float:
    """Share of the pre-activation's variance that comes from differences between the layer's biases. Their std, not
    their rms, and no more than the largest: biases that hold all units or some of them down are what the rule looks
    for, and those that scatter by chance lie on both sides of zero."""
    for layer in view.fed_by(measured):
        biases = view.own_parameters(layer, "bias")
        if biases and biases[0]["std"] > 0 and layer["rms"] > 0:
            scatter = min(biases[0]["std"], max(0.0, biases[0]["max"]))
            return min(1.0, (scatter / layer["rms"]) ** 2)
    return 0.0


def _by_chance(chance: float) -> str:
    if chance < WORTH_SAYING:
        return ", which chance does not explain"
    return f", where chance explains {chance:.0%} (its examples are that similar)"


def _why(before: Measured | None) -> str:
    mean, std = (before["mean"], before["std"]) if before else (math.nan, math.nan)
    if mean < -std:
        return (
            f"What goes in is negative nearly everywhere (mean {show(mean)}, std {show(std)}): a large bias."
        )
    return "Their weights and bias keep what goes in on the flat side for every example."


# ---- what explains it ----------------------------------------------------------------------------------------


def _same_sites(cause: Found[ug303.Evidence], effect: Found[Evidence], view: View) -> bool:
    """All dead layers are among the saturated ones."""
    return set(effect.evidence.sites) <= set(cause.evidence.sites)


def _in_a_growing_stream(cause: Found[ug302.Evidence], effect: Found[Evidence], view: View) -> bool:
    """Units that die where a residual stream has grown: what is common to all examples grows with it."""
    return cause.evidence.per_block is not None and comes_before(cause, effect, view)


EXPLAINED_BY = (
    Cause("UG108", at_one_site),
    Cause("UG115", at_one_site),
    Cause("UG303", _same_sites),
    Cause("UG302", _in_a_growing_stream),
    Cause("UG606", weights_come_before),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.constant_(model[0].bias[:16], -5.0)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.zeros_(model[0].bias)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
