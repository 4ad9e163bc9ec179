"""UG303 and UG304: what activation functions do to what flows forward."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .finding import Finding
from .flow import is_trained
from .recurrent import Recurrent, recurrent_layers
from .view import CannotJudge, Measured, View, plural, show


def saturated(view: View) -> Iterator[Finding]:
    """UG303: values in the flat tails of bounded functions."""
    entry = CATALOGUE["UG303"]
    judged = {m.name: m["saturated"] for m in view.activations if _can_saturate(view, m)}
    judged = {name: tail for name, tail in judged.items() if not math.isnan(tail)}
    recurrent = recurrent_layers(view)
    if not judged and not recurrent:
        raise CannotJudge("no bounded activation function")
    yield from _saturated_recurrent(view, recurrent)
    worst = max(judged.values(), default=0.0)
    least = entry.limit("warning" if worst > entry.limit("warning") else "info")
    high = {name: tail for name, tail in judged.items() if tail > least}
    if not high:
        return
    first = view.tensor(next(iter(high)))
    assert first is not None
    function = first.site.attributes.get("function", first.site.module)
    before = next(iter(view.fed_by(first)), None)
    also = (
        f"; {plural(len(high), 'layer')} of {len(judged)} in all, up to {worst:.0%}" if len(high) > 1 else ""
    )
    incoming = before["std"] if before else math.nan
    fed = f" (its input has std {show(incoming)})" if math.isfinite(incoming) else ""
    yield entry.finding(
        _level(view, worst > entry.limit("error")) if worst > entry.limit("warning") else "info",
        first.name,
        f"{high[first.name]:.0%} of {first.name}'s values lie in the flat tails of {function}{fed}{also}",
        evidence={
            "saturated": high[first.name],
            "worst": worst,
            "sites": high,
            "preactivation_site": before.name if before else None,
            "preactivation_std": incoming,
        },
        cause=f"What goes into {function} is too large"
        + (f": standard deviation {show(incoming)} where about 1 is right." if incoming > 1 else "."),
        remedy=_shrink(view, before, incoming) or entry.action,
    )


def _level(view: View, far: bool) -> str:
    """The severity of saturation: a trained model's units may be sure of what they have learnt."""
    if view.training or not is_trained(view):
        return "error" if far else "warning"
    return "warning" if far else "info"


def _saturated_recurrent(view: View, layers: list[Recurrent]) -> Iterator[Finding]:
    """One finding for all recurrent layers. An error only for what was measured, not for what was estimated."""
    entry = CATALOGUE["UG303"]
    high = {layer.site.name: layer for layer in layers if layer.worst > entry.limit("warning")}
    if not high:
        return
    first = next(iter(high.values()))
    name, module = first.site.name, first.site.site.module
    seen = []
    if first.outputs > entry.limit("warning"):
        seen.append(f"{first.outputs:.0%} of the outputs of {name} ({module}) lie within 3% of -1 or 1")
    if first.gates > entry.limit("warning"):
        seen.append(
            f"the weights of {name} ({module}) and what goes in give its gates pre-activations of std "
            f"{show(first.gate_std)}, where {first.gates:.0%} of a sigmoid's values are flat (an estimate: gates are "
            "not seen)"
        )
    also = f"; {plural(len(high), 'layer')} of {len(layers)} in all" if len(high) > 1 else ""
    error = max(layer.outputs for layer in high.values()) > entry.limit("error")
    yield entry.finding(
        _level(view, error),
        name,
        f"{'; '.join(seen)}{also}",
        evidence={
            "saturated": first.outputs,
            **(
                {"gate_std": first.gate_std, "gates_flat": first.gates}
                if math.isfinite(first.gate_std)
                else {}
            ),
            "sites": {key: layer.worst for key, layer in high.items()},
        },
        cause="What goes into its gates and functions is too large: its weights are too large for the number of "
        "inputs and hidden units, or its input is.",
        remedy=f"Initialize the weights of {name} as torch does (uniform within 1/sqrt(hidden_size)), or weight_ih "
        "by Glorot and weight_hh orthogonal, so that pre-activations have standard deviation about 1.",
    )


def dead_units(view: View) -> Iterator[Finding]:
    """UG304: units that are never active, beyond what chance explains."""
    entry = CATALOGUE["UG304"]
    steps = len(view.steps) if view.training else 1
    known = [m for m in view.activations if m["units"] > 0 and not math.isnan(m["dead"])]
    if not known:
        raise CannotJudge("no activation function with units was measured")
    judged = [
        m
        for m in known
        if m.examples * steps >= entry.limit("examples")
        and m["count"] / m["units"] * steps >= entry.limit("samples")
    ]
    if not judged:
        raise CannotJudge("too few examples to tell dead units from sparse ones; give 64 or more")
    found: dict[str, dict[str, float]] = {}
    for measured in judged:
        before = view.fed_by(measured)
        if any(m["absmax"] == 0 for m in before):
            continue  # zero-initialized: nothing arrives yet
        if measured.broken or any(m.broken for m in before):
            continue  # NaN is not dead
        units, fraction = measured["units"], measured["dead"] / measured["units"]
        chance = _off_by_chance(view, measured, steps)
        margin = (
            entry.limit("sigmas") * math.sqrt(chance * (1 - chance) / units) + entry.limit("formula") * chance
        )
        beyond = (fraction - chance) / (1 - chance) if chance < 1 else 0.0
        if beyond > entry.limit("warning") and fraction > chance + margin:
            row = {"units": units, "dead": measured["dead"], "fraction": fraction, "chance": chance}
            found[measured.name] = {**row, "beyond": beyond}
    if not found:
        return
    name, row = max(found.items(), key=lambda item: item[1]["beyond"])
    worst = row["beyond"]
    also = f"; {plural(len(found), 'layer')} of {len(judged)} in all" if len(found) > 1 else ""
    measured = view.tensor(name)
    before = next(iter(view.fed_by(measured)), None) if measured else None
    yield entry.finding(
        "error" if worst > entry.limit("error") else "warning",
        name,
        f"{row['dead']:g} of {row['units']:g} units of {name} ({row['fraction']:.0%}) were never active"
        f"{_by_chance(row['chance'])}{also}",
        evidence={
            "worst": worst,
            "sites": found,
            "preactivation_mean": before["mean"] if before else math.nan,
        },
        cause=_why_dead(before),
    )


def _can_saturate(view: View, measured: Measured) -> bool:
    bounds = measured.site.attributes.get("bounds")
    if measured.role != "activation" or not bounds or None in tuple(bounds) or measured.is_output:
        return False
    function = str(measured.site.attributes.get("function", "")).lower()
    if function in ("sigmoid", "hardsigmoid", "hard_sigmoid"):
        return bool(view.feeds(measured))  # otherwise a gate: it goes into arithmetic
    return True


def _shrink(view: View, before: Measured | None, std: float) -> str:
    """The prescription with its factor, where the layer before is a linear one and too large."""
    weights = [p.name for p in view.own_parameters(before) if p.site.attributes.get("role") == "weight"]
    if before is None or before.role != "linear" or not weights or not std > 1:
        return ""
    return (
        f"Multiply {weights[0]} by {show(1 / std)}, so that the pre-activation has standard deviation 1, "
        "and its bias likewise; or put a normalization layer in between."
    )


def _off_by_chance(view: View, measured: Measured, steps: int) -> float:
    """Probability that a healthy random unit is off for all samples, because the examples are alike.

    With a random weight vector, the pre-activations of two examples are correlated by the cosine of what goes
    into the layer; the spread of its biases, which all examples share, adds to that. For n equally correlated
    Gaussians with correlation c,

        P(all negative) = E over t ~ N(0, 1) of Phi(-sqrt(c / (1 - c)) t)^n,

    1/2 for c = 1 and 2^-n for c = 0. After a normalization per channel it is practically zero.
    """
    bounds = measured.site.attributes.get("bounds") or (None, None)
    if None not in tuple(bounds):
        return 0.0  # tanh and its kin are dead when saturated, which no correlation excuses
    if any(m.site.attributes.get("subtracts_mean") == "channel" for m in view.fed_by(measured)):
        return 0.0
    samples = max(1.0, measured["count"] / measured["units"] * steps)
    shared = _share_of_bias(view, measured)
    cosine = shared + (1 - shared) * max(_incoming_cosine(view, measured), 0.0)
    cosine = min(cosine, 0.9999)
    t = np.linspace(-6, 6, 481)
    weight = np.exp(-t * t / 2)
    off = np.array([0.5 * math.erfc(math.sqrt(cosine / (1 - cosine)) * v / math.sqrt(2)) for v in t])
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
        biases = [p for p in view.own_parameters(layer) if p.site.attributes.get("role") == "bias"]
        if biases and biases[0]["std"] > 0 and layer["rms"] > 0:
            scatter = min(biases[0]["std"], max(0.0, biases[0]["max"]))
            return min(1.0, (scatter / layer["rms"]) ** 2)
    return 0.0


def _by_chance(chance: float) -> str:
    if chance < 0.005:
        return ", which chance does not explain"
    return f", where chance explains {chance:.0%} (its examples are that much alike)"


def _why_dead(before: Measured | None) -> str:
    mean, std = (before["mean"], before["std"]) if before else (math.nan, math.nan)
    if mean < -std:
        return (
            f"What goes in is negative nearly everywhere (mean {show(mean)}, std {show(std)}): a large bias."
        )
    return "Their weights and bias keep what goes in on the flat side for every example."
