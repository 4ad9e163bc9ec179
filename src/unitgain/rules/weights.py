"""UG605 and UG606: weights as they were initialized."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

from ..record import UnitFacts
from ..theory import NAMES, gain
from .catalogue import CATALOGUE
from .finding import Finding
from .flow import followers, is_trained, leaders, next_functions, norm_follows, previous
from .view import CannotJudge, Measured, View, listed, plural, show

# whose weight is used as it is stored: standardized or otherwise computed weights have no scale of their own
_PLAIN = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Conv1D",
          "Conv2dSame")  # fmt: skip


def wrong_gain(view: View) -> Iterator[Finding]:
    """UG605: weights too large or too small for their fan-in and the functions around them."""
    entry = CATALOGUE["UG605"]
    trained = is_trained(view)
    if trained:
        raise CannotJudge(trained)
    found: dict[str, dict[str, float]] = {}
    judged = 0
    suffering = []
    for layer in view.activations:
        needed = _needed_gain(view, layer)
        weight = _weight(view, layer)
        if needed is None or weight is None or not weight["rms"] > 0:
            continue
        judged += 1
        has = weight["rms"] * math.sqrt(weight.site.attributes["fan_in"])
        ratio = has / min(max(has, needed[0]), needed[1])  # 1 between the two
        off = ratio < entry.limit("low") or ratio > entry.limit("high")
        rms, small = layer["rms"], ratio < 1
        moved = rms < entry.limit("small") if small else rms > 1 / entry.limit("small")
        if not off or not moved:
            continue
        found[weight.name] = {"gain": has, "needed": needed[0] if small else needed[1], "rms": rms}
        severe = max(ratio, 1 / ratio) > entry.limit("severe")
        if severe and (rms < entry.limit("suffers") if small else rms > 1 / entry.limit("suffers")):
            suffering.append(weight.name)
    if not judged:
        raise CannotJudge("no layer without a normalization after it whose activation is known")
    if not found:
        return
    name = suffering[0] if suffering else next(iter(found))
    row = found[name]
    factor = row["needed"] / row["gain"]
    yield entry.finding(
        "warning" if suffering else "info",
        name,
        f"{name} has gain {show(row['gain'])} (std times the root of fan-in) where {show(row['needed'])} keeps the "
        f"scale, and nothing normalizes it later; its output has rms {show(row['rms'])}"
        + (
            f" ({plural(len(found), 'such weight')} of {judged}: {listed(list(found))})"
            if len(found) > 1
            else ""
        ),
        evidence={
            "weights": found,
            "layers": judged,
            "suffering": suffering,
            "per_layer": max(found[w]["gain"] / found[w]["needed"] for w in suffering or found),
        },
        cause="The weights were not initialized for their fan-in and activation function.",
        remedy=f"{entry.action} (Multiply {name} by {show(factor)}.)",
    )


def _weight(view: View, layer: Measured) -> Measured | None:
    own = [p for p in view.own_parameters(layer) if p.site.attributes.get("role") == "weight"]
    if len(own) != 1 or not own[0].site.attributes.get("fan_in") or own[0].broken or layer.broken:
        return None
    return own[0]


def _needed_gain(view: View, layer: Measured) -> tuple[float, float] | None:
    """(smallest, largest) gain that theory may ask for: that of the function before, which keeps the scale, and that
    of the function after, which most recipes use. None for a layer that is not judged."""
    if layer.role != "linear" or layer.is_output or layer.site.module not in _PLAIN:
        return None
    after = next_functions(view, layer)
    if not after or any(m.role != "activation" for m in after) or norm_follows(view, layer):
        return None
    before = previous(view, layer)
    functions = [m.site.attributes.get("function") for m in after]
    functions.append(
        before.site.attributes.get("function") if before and before.role == "activation" else "linear"
    )
    if any(f not in NAMES or f in ("sigmoid", "hardsigmoid") for f in functions):
        return None  # sigmoids are gates, or saturate by another rule; unknown functions have no known gain
    gains = [_gain(str(f)) for f in functions]
    return min(gains), max(gains)


_gain = cache(gain)  # by quadrature: a few milliseconds


def symmetric_units(view: View) -> Iterator[Finding]:
    """UG606: units that are copies of one another, and zero weights that nothing sets in motion."""
    if view.training:
        raise CannotJudge("units are compared by check")
    compared = view.facts.same_units
    if compared is None or not view.parameters:
        raise CannotJudge("units were not compared")
    yield from _copies(view, compared)
    yield from _stuck_at_zero(view)


def _copies(view: View, compared: Mapping[str, UnitFacts]) -> Iterator[Finding]:
    entry = CATALOGUE["UG606"]
    found: dict[str, dict[str, float]] = {}
    worst = 0.0
    for name, row in compared.items():
        parameter = view.parameter(name)
        owner = view.tensor(parameter.site.attributes.get("site")) if parameter else None
        if parameter is None or owner is None or _is_last(view, owner):
            continue
        share, for_good = row.copies / row.units, row.same_gradient / row.units
        if share < entry.limit("share"):
            continue
        found[name] = {"share": share, "for_good": for_good}
        worst = max(worst, for_good)
    if not found:
        return
    first = max(found, key=lambda name: (found[name]["for_good"], found[name]["share"]))
    row = compared[first]
    also = f"; {plural(len(found), 'layer')} in all" if len(found) > 1 else ""
    yield entry.finding(
        "error" if worst > entry.limit("error") else "warning",
        first,
        f"{row.copies} of {row.units} units of {first} have the same weights as another unit"
        + (", and the same gradient" if row.same_gradient else "")
        + also,
        evidence={"weights": found, "worst": worst},
        cause="They compute the same and learn the same: the layer is as wide as its different units."
        if worst
        else "They compute the same now, up to a bias; only that and what comes after tells them apart, slowly.",
    )


def _stuck_at_zero(view: View) -> Iterator[Finding]:
    """Weights of zero without a gradient, where no other zero parameter before or after is about to move."""
    entry = CATALOGUE["UG606"]
    gradient = {m.name: m["absmax"] for m in view.parameter_gradients}
    zero = [p for p in view.parameters if p["absmax"] == 0 and p.site.attributes.get("trainable", True)]
    stuck = []
    for weight in zero:
        owner = view.tensor(weight.site.attributes.get("site"))
        if weight.site.attributes.get("role") != "weight" or owner is None or gradient.get(weight.name) != 0:
            continue
        if len(weight.site.shape) < 2 or _is_last(view, owner):
            continue
        near = {owner.name, *(m.name for m in followers(view, owner))}
        near |= {m.name for m in leaders(view, owner)}
        opening = any(
            gradient.get(p.name, 0.0) > 0 and p.site.attributes.get("site") in near and _matters(p)
            for p in zero
        )
        if not opening:
            stuck.append(weight.name)
    if stuck:
        yield entry.finding(
            "error",
            stuck[0],
            f"{plural(len(stuck), 'weight')} ({listed(stuck)}) all zero, with a gradient of exactly zero that no "
            "step will change",
            evidence={"weights": stuck},
            cause="What goes in or comes back is zero because of other zero weights: they hold one another.",
        )


def _matters(parameter: Measured) -> bool:
    """A bias that moves off zero opens nothing that weights of zero close."""
    return parameter.site.attributes.get("role") != "bias"


def _is_last(view: View, owner: Measured) -> bool:
    """The layer that makes the output: classes that the batch lacks get the same gradient, and zero is fine."""
    return (
        owner.is_output or owner.name == view.facts.output.site or next(followers(view, owner), None) is None
    )
