"""Why a parameter has no gradient: good reasons, and where the way back ends. For rule UG403."""

from __future__ import annotations

from ._flow import followers
from ._view import Measured, View


def has_no_choice(view: View, parameter: Measured) -> bool:
    """It goes into a softmax over a single value: in this batch, attention has one key. Where that is so in every
    batch, UG112 says it."""
    owner = view.tensor(parameter.owner)
    later = followers(view, owner) if owner is not None else ()
    return any(m.role == "softmax" and m["min"] == m["max"] == 1 for m in later)


def cancels(view: View, parameter: Measured, missing: set[str]) -> bool:
    """A bias alone without a gradient, beside a weight that has one: of attention's keys, before a norm, or of an
    energy whose derivative is the output."""
    if parameter.role != "bias":
        return False
    beside = [p for p in view.parameters if p.path == parameter.path and p.role != "bias"]
    return bool(beside) and all(p.name not in missing for p in beside)


def killer_of(view: View, owner: Measured) -> str:
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


def reason_of(view: View, parameter: Measured) -> tuple[str, str]:
    """(reason, name of the site where the way back ends)."""
    if parameter.name in view.facts.gradients.left_out:
        return "left_out", ""
    has_gradient = any(m.name == parameter.name for m in view.parameter_gradients)
    owner = view.tensor(parameter.owner)
    if not has_gradient:
        return ("unused", "") if owner is None else ("detached", "")
    if owner is None:
        return "zero", ""
    if owner.role == "recurrent" and "weight_hh" in parameter.name and parameter.name.endswith("_reverse"):
        return "reverse", ""
    if killer := killer_of(view, owner):
        return "killed", killer
    fed = view.fed_by(owner)
    if fed and parameter.role == "weight" and all(m["absmax"] == 0 for m in fed):
        return "starved", fed[0].name
    return "zero", ""
