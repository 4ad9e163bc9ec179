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

from ._causes import all_examples_are_one, at_one_site, comes_before, weights_come_before
from ._dead_units import renewed, slower
from ._flow import columns, leaders
from ._loss_curve import is_sudden, loss_falls
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import plural, show

if TYPE_CHECKING:
    from . import ug302_exploding_activations as ug302
    from . import ug303_saturated as ug303
    from . import ug501_updates_too_large as ug501

ABOUT = About(
    code="UG304",
    name="dead-units",
    rank=460,
    seen="Units of an activation layer are never active for any example, from the start or since they died.",
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
        "far as they lie on both sides of zero, counts as something the examples share. Where the network is narrow "
        "before the layer (one column of numbers goes in, say), the examples lie on a curve or a surface, and count as "
        "five for each of its dimensions. Where what goes in was not measured (it comes from arithmetic), the means of "
        "the layer's own units show how similar examples are, if they lie on both sides of zero. In a run, units died "
        "that were active in at least half of the sampled steps up to their last activity, and in none of the steps at "
        "the end (at least five, with 128 values per unit in them)."
    ),
    action=(
        "Re-initialize the layer before (weights for the function, bias zero); if the units died during "
        "training, lower the learning rate or use a function with a slope on both sides."
    ),
    effect="Every unit is active for some examples.",
    verify="Measure again, on at least 64 examples or with a Probe from the first step on: dead units below 10%.",
    remedies=("center-units", "lsuv", "init", "init-lsuv"),
    silent=(
        "sparse units: zero for most examples but not for all",
        "small batches",
        "units off for all examples because the examples are nearly the same",
        "functions fed with exact zeros",
        "less than half of the units in a run whose loss falls, or 40% that died in its course (for information)",
        "networks of one or two input columns, graphs whose features are small beside the biases",
    ),
)

WARNING = Threshold(0.1, "of the units, beyond chance: a tenth of the layer's width is lost")
ERROR = Threshold(0.5, "of the units, beyond chance: most of the layer cannot learn")
FEW = Threshold(0.4, "of the units: fewer that die in a run whose loss falls are for information")
SAMPLES = Threshold(32, "values seen per unit: a unit active one time in ten is missed by 3% of such samples")
EXAMPLES = Threshold(5, "different examples: fewer cannot tell dead from sparse")
SIGMAS = Threshold(4.0, "standard errors above what chance gives: a network has many layers")
FORMULA = Threshold(
    0.1,
    "of the chance itself, by which the formula fell short of default MLPs (37% where 41% were dead)",
)
WORTH_SAYING = Threshold(0.005, "of the units: what chance explains is named from there on")
LARGE = Threshold(-2.0, "log10(update:data), as for UG501: such steps replace weights rather than tune them")
NARROW = Threshold(
    8, "inputs of the narrowest layer before, up to which they limit how different examples can be"
)
CORNERS = Threshold(
    5, "different examples for each dimension: gives the 15% of torch's default layer on one column"
)
BALANCED = Threshold(
    0.35,
    "of the rms of the units' means, which their own mean stays below where they lie on both sides of zero: of few "
    "units with a random mean, or with biases drawn about zero",
)
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
class AtOnce(BaseEvidence):
    """worst: beyond chance, of the layer named; preactivation_mean: of what goes into it."""

    worst: float
    sites: Mapping[str, DeadUnits]
    preactivation_mean: float | None = None

    @property
    def size(self) -> float:
        """The largest share of dead units beyond chance."""
        return self.worst


@dataclass(frozen=True)
class DiedUnits:
    """Of one layer: how many units died, and the fraction of its units that is dead now; between which sampled steps
    nine tenths of those that died were active for the last time."""

    units: int
    died: int
    fraction: float
    first: int
    last: int


@dataclass(frozen=True)
class Died(BaseEvidence):
    """worst: fraction of units that died, of the layer named; updates: the largest log10(update:data) of the weights
    up to then."""

    worst: float
    sites: Mapping[str, DiedUnits]
    updates: float | None = None


Evidence = AtOnce | Died


def judge(view: View) -> Iterator[Found[Evidence]]:
    run = view.training and len(view.steps) > 1 and not is_sudden(*view.losses)  # what is NaN has not died
    died = list(_died(view)) if run else []
    yield from died
    steps = len(view.steps) if view.training else 1
    known = [m for m in view.activations if m["units"] > 0 and not math.isnan(m["dead"])]
    if not known:
        raise CannotJudge("no activation function with units was measured")
    judged = [
        m for m in known if m.examples * steps >= EXAMPLES and m["count"] / m["units"] * steps >= SAMPLES
    ]
    if not judged:
        raise CannotJudge(
            "too few examples to tell dead units from sparse ones; give 64 or more", lacks="dead units"
        )
    # what died before the second sampled step is the same fault as what died later
    judged = [m for m in judged if not died or _were_dead(view, m)]
    counted = {m.name: _beyond_chance(view, m, steps) for m in judged}
    found = {name: row for name, row in counted.items() if row is not None}
    if not found:
        return
    name, row = max(found.items(), key=lambda item: item[1].beyond)
    also = f"; {plural(len(found), 'layer')} of {len(judged)} in all" if len(found) > 1 else ""
    measured = view.tensor(name)
    before = next(iter(view.fed_by(measured)), None) if measured else None
    level = "error" if row.beyond > ERROR else "warning"
    if level == "warning" and view.training and loss_falls(view):
        level = "info"  # a share of the units died, and the others learn
    yield ABOUT.found(
        level,
        name,
        f"{row.dead:g} of {row.units:g} units of {name} ({row.fraction:.0%}) were never active"
        f"{_by_chance(row.chance)}{also}",
        evidence=AtOnce(row.beyond, found, _mean_of(before)),
        cause=_why(before),
        remedy=renewed(view, sorted(found, key=lambda name: -found[name].beyond)),
    )


def _mean_of(before: Measured | None) -> float | None:
    return None if before is None or math.isnan(before["mean"]) else before["mean"]


def _were_dead(view: View, measured: Measured) -> bool:
    """Whether most of the units that were never active were not at the first sampled step either."""
    first = view.record.value("activation", measured.name, "dead", view.steps[0])
    return first >= measured["dead"] / 2


def _died(view: View) -> Iterator[Found[Died]]:
    """Units that were active at first and died in the course of a run."""
    never = {m.name: m["dead"] for m in view.activations}
    rows = {}
    for name, d in (view.facts.died or {}).items():
        if d.units and d.died > WARNING * d.units and not _is_last(view, name):
            now = (d.died + max(0.0, never.get(name, 0.0))) / d.units
            rows[name] = DiedUnits(d.units, d.died, min(1.0, now), d.first, d.last)
    if not rows:
        return
    name = max(rows, key=lambda n: rows[n].died / rows[n].units)
    row, updates = rows[name], _updates_until(view, rows[name])
    when = f"at step {row.last}" if row.first == row.last else f"at steps {row.first} to {row.last}"
    after = "" if updates is None else f", after updates of up to 10^{updates:.1f} of the weights per step"
    also = f"; {plural(len(rows), 'layer')} in all" if len(rows) > 1 else ""
    share = row.died / row.units
    level = "error" if share > ERROR else "info" if share < FEW and loss_falls(view) else "warning"
    yield ABOUT.found(
        level,
        name,
        f"{row.died} of {row.units} units of {name} died {when}{after}{also}",
        evidence=Died(row.died / row.units, rows, updates),
        cause="They were active before: large steps moved their weights to where they are off for every example."
        if updates is None or updates > LARGE
        else "They were active before, and have gone off for every example since.",
        remedy=slower(
            view, row.first, row.last, sorted(rows, key=lambda name: -rows[name].died / rows[name].units)
        ),
    )


def _is_last(view: View, name: str) -> bool:
    """Whether it is the output, between two bounds: what is the same for all examples is answered so."""
    return (found := view.tensor(name)) is not None and found.is_output and None not in found.bounds


def _updates_until(view: View, row: DiedUnits) -> float | None:
    """The largest log10(update:data), median over the weights, of the sampled steps up to the last unit's death."""
    frame, found = view.record.frame("update"), {}
    roles = {s.name for s in view.record.sites("update") if s.attributes.get("role") == "weight"}
    for name, step, ratio in zip(frame["site"], frame["step"], frame["ratio"]):
        if name in roles and step <= row.last and math.isfinite(ratio):
            found.setdefault(step, []).append(ratio)
    return max((float(np.median(ratios)) for ratios in found.values()), default=None)


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
    narrowest = _narrowest(view, measured)
    if narrowest <= NARROW:
        samples = min(samples, CORNERS * narrowest)
    shared = _share_of_bias(view, measured)
    known = _incoming_cosine(view, measured)
    if known is None:
        cosine = _likeness_of_units(view, measured)
    else:
        cosine = shared + (1 - shared) * max(known, 0.0)
    cosine = min(cosine, NEARLY_ONE)
    t = np.linspace(-6, 6, 481)
    weight = np.exp(-t * t / 2)
    off = np.array([math.erfc(math.sqrt(cosine / (1 - cosine)) * v / math.sqrt(2)) / 2 for v in t])
    return float(np.sum(weight * off**samples) / np.sum(weight))


def _incoming_cosine(view: View, measured: Measured) -> float | None:
    """Cosine between examples of what went into the layer before this function, not of the layer's output:
    that one would be near one in a layer killed by its bias, and excuse it. None where that was not measured."""
    for layer in view.fed_by(measured):
        for source in view.fed_by(layer):
            if not math.isnan(source["cosine"]):
                return source["cosine"]
    return None


def _likeness_of_units(view: View, measured: Measured) -> float:
    """Share of the pre-activations' mean square that the units' own means make: for weights and biases drawn about zero
    it is the correlation between two examples. Held down where the means lie to one side."""
    for layer in view.fed_by(measured):
        shared, varying = layer["sq_channel_mean"], layer["channel_var"]
        if shared > 0 and varying >= 0 and abs(layer["mean"]) < BALANCED * math.sqrt(shared):
            return shared / (shared + varying)
    earlier = [
        m for m in [*view.inputs, *view.activations]
        if m.position < measured.position and not math.isnan(m["cosine"]) and m not in view.fed_by(measured)
    ]  # fmt: skip
    share = _share_of_bias(view, measured)
    return share + (1 - share) * max(earlier[-1]["cosine"], 0.0) if earlier else share


def _narrowest(view: View, measured: Measured) -> float:
    """The smallest number of inputs of a layer from which this function's input is computed: so many dimensions, its
    values have at most."""
    found = math.inf
    for layer in leaders(view, measured):
        if layer.role == "linear":
            widths = [p.site.attributes.get("fan_in") for p in view.own_parameters(layer, "weight")]
            found = min([found, *(width for width in widths if width)])
    return columns(view) if math.isinf(found) else found


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


def _died_of_it(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """Why units died that had been active."""
    return isinstance(effect.evidence, Died) and cause.severity != "info"


def _killed(cause: Found[ug501.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The updates that the cause judges are those after which these units were dead."""
    return isinstance(effect.evidence, Died) and hasattr(cause.evidence, "until")


def _same_sites(cause: Found[ug303.Evidence], effect: Found[Evidence], view: View) -> bool:
    """All dead layers are among the saturated ones."""
    return set(effect.evidence.sites) <= set(cause.evidence.sites)


def _in_a_growing_stream(cause: Found[ug302.Evidence], effect: Found[Evidence], view: View) -> bool:
    """Units that die where a residual stream has grown: what is common to all examples grows with it."""
    return cause.evidence.per_block is not None and comes_before(cause, effect, view)


EXPLAINED_BY = (
    Cause("UG203", all_examples_are_one),
    Cause("UG407", _died_of_it),
    Cause("UG506", _died_of_it),
    Cause("UG507", _died_of_it),
    Cause("UG113", _died_of_it),
    Cause("UG705", _died_of_it),
    Cause("UG108", at_one_site),
    Cause("UG115", at_one_site),
    Cause("UG501", _killed),
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
