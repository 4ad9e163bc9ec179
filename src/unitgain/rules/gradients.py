"""UG401 to UG403 and UG405: what flows back."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .finding import Finding
from .trend import comparable, fit, has_default_weights, residual_blocks, severity
from .view import CannotJudge, Measured, View, listed, plural, show


def vanishing_gradient(view: View) -> Iterator[Finding]:
    """UG401: the gradient falls steadily on its way back."""
    yield from _gradient_trend(view, "UG401", direction=-1)


def exploding_gradient(view: View) -> Iterator[Finding]:
    """UG402: the gradient grows steadily on its way back."""
    yield from _gradient_trend(view, "UG402", direction=1)


def _gradient_trend(view: View, code: str, direction: int) -> Iterator[Finding]:
    entry = CATALOGUE[code]
    if not view.gradients:
        raise CannotJudge("no gradient was measured")
    least = int(entry.limit("sites"))
    streams = {b.stream.name for b in residual_blocks(view)} if direction > 0 else set()
    arriving = [m for m in view.gradients if m.name in streams and not m.broken and m["rms"] > 0]
    what = "block" if len(arriving) >= least else "layer"  # inside a block the scales alternate
    sites = arriving if what == "block" else comparable(view.gradients, least)
    if not sites:
        raise CannotJudge("fewer than three comparable layers with a gradient that is not zero")
    norms = [m["rms"] * math.sqrt(math.prod(m.site.shape) / m.examples) for m in sites]
    trend = fit(norms[::-1])
    level = severity(
        trend, direction, entry, default_weights=direction < 0 and has_default_weights(view, sites)
    )
    if level is None:
        return
    change, per_layer = 10 ** min(abs(trend.ends), 300.0), 10 ** (trend.ends / (len(sites) - 1))
    first, last = sites[0], sites[-1]
    verb = "grows" if direction > 0 else "falls"
    yield entry.finding(
        level,
        first.name,
        f"the gradient {verb} {show(change)}-fold on its way back over {len(sites)} {what}s (times "
        f"{show(per_layer)} per {what}): norm per example {show(norms[-1])} at {last.name}, "
        f"{show(norms[0])} at {first.name}",
        evidence={
            "change": change,
            f"per_{what}": per_layer,
            "steadiness": trend.tau,
            f"{what}s": len(sites),
            "first_site": first.name,
            "first_norm": norms[0],
            "last_site": last.name,
            "last_norm": norms[-1],
        },
        cause=f"Each {what} multiplies the gradient by about {show(per_layer)}."
        + (" So does torch's default initialization in a few layers." if level == "info" else ""),
        remedy=_RESIDUAL[direction] if _is_residual(view) else "",
    )


def _is_residual(view: View) -> bool:
    return any(m.site.attributes.get("block") == "branch" for m in view.activations)


_RESIDUAL = {
    1: "Keep the skip paths free of factors, scale the residual branches down or start their last layers at zero, "
    "and clip the gradient's norm (1.0 is a common limit) meanwhile.",
    -1: "Initialize so that every layer's gain is one, and see that nothing but the block's input goes through the "
    "skip paths: a factor below one, or a function on them, multiplies from block to block.",
}  # the catalogue's advice, to add residual connections, has been followed there already


def no_gradient(view: View) -> Iterator[Finding]:
    """UG403: trainable parameters that the loss does not reach, grouped by the reason."""
    entry = CATALOGUE["UG403"]
    trainable = [p for p in view.parameters if p.site.attributes.get("trainable", True)]
    if not trainable:
        raise CannotJudge("no trainable parameter was measured")
    if view.number("gradients", "of") > 0 and view.number("gradients", "reached") == 0:
        finding = _nothing_reached(view, trainable)
        if finding is not None:
            yield finding
            return
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    silent = _without_gradient(view, trainable)
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for parameter in silent:
        groups[_reason(view, parameter)].append(parameter)
    for (reason, killer), members in groups.items():
        names = [p.name for p in members]
        share = sum(map(_size, members)) / sum(map(_size, trainable))
        what = "no gradient" if reason in ("unused", "detached") else "a gradient of exactly zero"
        yield entry.finding(
            "error" if share > entry.limit("error") else "warning",
            members[0].name,
            f"{plural(len(members), 'trainable parameter')} of {len(trainable)} get"
            f"{'s' * (len(members) == 1)} {what} ({listed(names)})"
            + f", {_percent(share)} of the numbers to be learnt"
            + (f": the way back ends at {killer}" if killer else ""),
            evidence={
                "parameters": names[:50],
                "number": len(members),
                "of": len(trainable),
                "share": share,
                "reason": reason,
                "killed_by": killer or None,
            },
            cause=_CAUSES[reason].format(killer=killer),
            remedy=_REMEDIES[reason].format(killer=killer),
        )


def _nothing_reached(view: View, trainable: list[Measured]) -> Finding | None:
    """Not one parameter gets a gradient, because of the loss or of what comes between it and the model."""
    if not view.parameter_gradients:
        what, reason = "a gradient", "detached"
        cause = (
            "The loss does not depend on the parameters in a way that can be differentiated: the outputs were "
            "detached, computed under torch.no_grad(), or turned into something without a slope (argmax, .item())."
        )
    elif view.number("loss", "value") == 0:
        what, reason = "a gradient that is not zero: the loss is exactly zero", "zero"
        cause = (
            "The loss is zero whatever the model gives: it is multiplied by zero, no target counts, or every example "
            "is beyond its margin already."
        )
    else:
        return None
    return CATALOGUE["UG403"].finding(
        "error",
        None,
        f"none of the {plural(len(trainable), 'trainable parameter')} gets {what}",
        evidence={"parameters": [p.name for p in trainable][:50], "number": len(trainable), "of": len(trainable),
                  "share": 1.0, "reason": reason, "killed_by": None},
        cause=cause,
        remedy="Compute the loss from the model's own outputs, and see that nothing on the way cuts the gradient.",
    )  # fmt: skip


def _size(parameter: Measured) -> int:
    return math.prod(parameter.site.shape)


def _percent(share: float) -> str:
    return "less than 1%" if share < 0.005 else f"{share:.0%}"


_CAUSES = {
    "unused": "The module that owns it did not run in this pass, or its result is not used.",
    "detached": "It ran, but its output does not lead to the loss: unused, or computed without grad.",
    "killed": "The gradient that comes back is exactly zero from {killer} on.",
    "zero": "The gradient that arrives is exactly zero.",
    "reverse": "The output at the last position alone is used, where the reverse direction has seen one element "
    "and its state is still zero.",
}
_REMEDIES = {
    "unused": "Use it in the forward pass, remove it, or freeze it (requires_grad=False).",
    "detached": "Look for .detach(), .data, torch.no_grad() or argmax after it, or "
    "add its output to the loss; if that is meant, freeze it (requires_grad=False).",
    "killed": "Repair {killer}: a function on its flat side, or weights that are zero.",
    "zero": "Look at what its output is multiplied with, and at functions on their flat side.",
    "reverse": "Take the last state of both directions (the second thing that the layer returns), or the mean over "
    "all positions.",
}


def gradient_not_finite(view: View) -> Iterator[Finding]:
    """UG405: NaN or infinity that arises on the way back."""
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    bad = [m for m in view.parameter_gradients if m.broken]
    if not bad or (view.training and not _broken_twice(view)):
        return
    parameter = max(bad, key=lambda m: m.position)
    site = max((m for m in view.gradients if m.broken), key=lambda m: m.position, default=None)
    where = f", first (in backward order) at {site.name}" if site else ""
    yield CATALOGUE["UG405"].finding(
        "error",
        site.name if site else parameter.name,
        f"NaN or infinity in the gradients of {plural(len(bad), 'parameter')}{where}; the last one in the "
        f"model is {parameter.name}",
        evidence={"parameters": [m.name for m in bad][:50], "number": len(bad), "first": parameter.name},
        cause="It arises between the output of the named site and the loss."
        if site
        else f"It arises in the backward of the module that owns {parameter.name}.",
    )


def _without_gradient(view: View, trainable: list[Measured]) -> list[Measured]:
    """Trainable parameters whose gradient is absent or exactly zero at every sampled step, less those that
    have a good reason: NaN or infinity beside zeros, unblocked after one step, before a zero head, or a bias that
    cancels."""
    largest = {
        name: float(np.max(np.nan_to_num(values, nan=np.inf)))
        for name, values in view.over_steps("parameter_gradient", "absmax").items()
    }
    broken = view.over_steps("parameter_gradient", "nonfinite")
    excused = set(view.fact("unblocked") or ()) | {
        name for name, share in broken.items() if np.any(share > 0)
    }
    head_is_zero = bool(view.fact("output", "zero_head"))
    found = []
    for parameter in trainable:
        aliases = [parameter.name, *parameter.site.attributes.get("aliases", ())]
        values = [largest[name] for name in aliases if name in largest]
        if any(v > 0 for v in values) or excused.intersection(aliases) or (values and head_is_zero):
            continue
        found.append(parameter)
    missing = {p.name for p in found}
    return [p for p in found if not (p.name in largest and _cancels(view, p, missing))]


def _cancels(view: View, parameter: Measured, missing: set[str]) -> bool:
    """A bias alone with a gradient of zero, beside a weight that has one."""
    if parameter.site.attributes.get("role") != "bias":
        return False
    path = parameter.site.attributes.get("path")
    beside = [
        p for p in view.parameters
        if p.site.attributes.get("path") == path and p.site.attributes.get("role") != "bias"
    ]  # fmt: skip
    return bool(beside) and all(p.name not in missing for p in beside)


def _reason(view: View, parameter: Measured) -> tuple[str, str]:
    """(reason, name of the site where the way back ends)."""
    has_gradient = any(m.name == parameter.name for m in view.parameter_gradients)
    owner = view.tensor(parameter.site.attributes.get("site"))
    if not has_gradient:
        return ("unused", "") if owner is None else ("detached", "")
    if owner is None:
        return "zero", ""
    if owner.role == "recurrent" and "weight_hh" in parameter.name and parameter.name.endswith("_reverse"):
        return "reverse", ""
    killer = _killer(view, owner)
    return ("killed", killer) if killer else ("zero", "")


def _killer(view: View, owner: Measured) -> str:
    """The last site after the owner at whose output the gradient is not zero but at whose input it is."""
    gradient = {m.name: m["absmax"] for m in view.gradients}
    if gradient.get(owner.name, 0.0) > 0:
        return ""  # a gradient arrives, and the parameter's is zero all the same
    seen, frontier = {owner.name}, [owner]
    while frontier:
        site = frontier.pop(0)
        for consumer in view.feeds(site):
            if consumer.name in seen:
                continue
            seen.add(consumer.name)
            if gradient.get(consumer.name, 0.0) > 0:
                return consumer.name
            frontier.append(consumer)
    return ""


def _broken_twice(view: View) -> bool:
    steps = view.over_steps("parameter_gradient", "nonfinite")
    return any(len(values) >= 2 and values[-1] > 0 and values[-2] > 0 for values in steps.values())
