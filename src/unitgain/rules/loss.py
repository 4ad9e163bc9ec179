"""UG101 to UG104 and UG107: the loss and what goes into it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .catalogue import CATALOGUE
from .finding import Finding
from .flow import made_of
from .view import CannotJudge, Measured, View, show


def confident_at_init(view: View) -> Iterator[Finding]:
    """UG101: the loss of the first batch is well above ln(C)."""
    entry = CATALOGUE["UG101"]
    classes, loss = view.number("target", "classes"), view.number("loss", "value")
    if view.fact("loss", "kind") != "cross_entropy" or not classes >= 2:
        raise CannotJudge("not a classifier with cross entropy")
    if not math.isfinite(loss):
        raise CannotJudge("the loss is not known or not finite")
    if _rows_sum_to_one(view):
        raise CannotJudge("the outputs are probabilities already")
    expected = math.log(classes)
    if loss <= entry.limit("warning") * expected:
        return
    rms = view.number("output", "rms")
    count = view.number("target", "count")
    count = count if count > 0 else max(view.number("output", "examples"), 1.0)
    noise = entry.limit("noise") * rms / math.sqrt(count) if math.isfinite(rms) else 0.0
    if loss - noise <= expected:
        return
    head = _last_layer(view)
    entering = (
        max((m["rms"] for m in view.fed_by(head) if m["rms"] > 0), default=math.nan) if head else math.nan
    )
    much = entry.limit("own_gain")
    cause, first = "The logits are too large: the last layer's weights, its bias, or what goes into it.", ""
    size = rms
    if head is not None and entering > much:  # scaling the head alone would only hide it
        size = rms / entering
        cause = (
            f"What goes into {head.name} is too large already: its rms is {show(entering)} where about 1 is right, "
            "so the cause lies before it"
            + (f"; it multiplies that by {show(size)} more." if size > much else ".")
        )
        first = (
            f"First bring what goes into {head.name} to an rms of about 1: initialize the layers before it for "
            "their fan-in and activation function (Kaiming for ReLU). "
        )
    elif entering > 0 and rms > much * entering:
        cause = (
            f"The last layer's weights are too large: it multiplies what goes in (rms {show(entering)}) by "
            f"{show(rms / entering)}."
        )
    factor = min(0.1, 0.1 / size) if size > 0 else 0.1
    yield entry.finding(
        "error" if loss > entry.limit("error") * expected else "warning",
        head.name if head else view.fact("output", "site"),
        f"loss {loss:.2f} at initialization, expected ln({classes:g}) = {expected:.2f}: the model is sure, "
        f"and wrong" + (f" (logits rms {show(rms)})" if math.isfinite(rms) else ""),
        evidence={
            "loss": loss,
            "expected": expected,
            "classes": int(classes),
            "logits_rms": rms,
            **({"head_input_rms": entering} if math.isfinite(entering) else {}),
        },
        cause=f"{cause} (If the model is trained, its classes or its preprocessing do not match this batch.)",
        remedy=f"{first}{'M' if not first else 'Then m'}ultiply the weights of {_layer(view, head)} by "
        f"{show(factor)} and set its bias to zero.",
    )


def constant_output(view: View) -> Iterator[Finding]:
    """UG102: the same output for every example."""
    entry = CATALOGUE["UG102"]
    limit = entry.limit("spread")
    spread, examples = view.number("output", "spread"), view.number("output", "examples")
    if math.isnan(spread) or not examples > 1:
        raise CannotJudge("needs the outputs of at least two examples")
    inputs = [m["spread"] for m in view.inputs if not math.isnan(m["spread"])]
    if inputs and max(inputs) < limit:
        raise CannotJudge("all examples of the batch are the same")
    noise = _rounding_alone(view) if spread >= limit else None
    if (spread >= limit and noise is None) or view.fact("output", "zero_head"):
        return
    if view.output is not None and view.output.broken:
        raise CannotJudge("the output is not finite")
    before, site = _where_examples_became_one(view, limit)
    if noise is not None:
        before, site = next(iter(view.fed_by(noise)), None), noise
    where = f"; they become indistinguishable at {site.name} ({site.site.module})" if site else ""
    yield entry.finding(
        "error",
        site.name if site else view.fact("output", "site"),
        f"the output is the same for all {examples:g} examples (spread {show(spread)}){where}",
        evidence={
            "spread": spread,
            "examples": int(examples),
            "last_distinct_site": before.name if before else None,
            "spread_before": before["spread"] if before else math.nan,
        },
        cause=_why_constant(view, site),
    )


def double_softmax(view: View) -> Iterator[Finding]:
    """UG103: probabilities into cross entropy."""
    if view.fact("loss", "kind") != "cross_entropy" or not view.fact("output"):
        raise CannotJudge("the loss is not cross entropy")
    if not _rows_sum_to_one(view):
        return
    entry = CATALOGUE["UG103"]
    softmax = next((m for m in reversed(view.activations) if m.role == "softmax"), None)
    site = softmax.name if softmax else view.fact("output", "site")
    classes = view.number("target", "classes")
    floor = f"; the loss cannot fall below {math.log(classes - 1 + math.e) - 1:.2f}" if classes >= 2 else ""
    yield entry.finding(
        "error",
        site,
        f"the outputs are probabilities already (not negative, rows sum to one), and cross entropy takes "
        f"their softmax again{floor}",
        evidence={
            "row_sum_error": view.number("output", "row_sum_error"),
            "min": view.number("output", "min"),
            "max": view.number("output", "max"),
        },
        cause="Cross entropy expects logits and applies log-softmax itself.",
        remedy=f"Drop module {site} ({softmax.site.module}) and return its input." if softmax else "",
    )


def loss_not_finite(view: View) -> Iterator[Finding]:
    """UG104: NaN or infinity as loss."""
    if view.fact("loss", "value") is None:
        raise CannotJudge("no loss was measured")
    loss = view.number("loss", "value")
    if math.isfinite(loss):
        return
    first = next((m for m in view.activations if m.broken), None)
    highest = view.number("output", "absmax")
    where = f"; first at {first.name}" if first else ", although every activation is finite"
    yield CATALOGUE["UG104"].finding(
        "error",
        first.name if first else view.fact("output", "site"),
        f"the loss is {loss}{where}",
        evidence={"loss": loss, "output_absmax": highest, "first_site": first.name if first else None},
        cause=f"{first.name} is the first tensor that is not finite."
        if first
        else "The loss function itself makes it, from finite outputs and the targets.",
    )


def target_broadcast(view: View) -> Iterator[Finding]:
    """UG107: outputs and targets of different shapes are broadcast, and all compared with all."""
    compared, target, output = (
        view.fact(*keys) for keys in (("target", "broadcast"), ("target", "shape"), ("output", "shape"))
    )
    if view.fact("loss", "value") is None or not view.fact("target"):
        raise CannotJudge("no loss of outputs and targets was measured")
    if not (compared and target and output):
        return
    shapes = [tuple(int(n) for n in shape) for shape in (output, target, compared)]
    same = math.prod(shapes[0]) == math.prod(shapes[1])
    yield CATALOGUE["UG107"].finding(
        "error",
        view.fact("output", "site"),
        f"outputs of shape {shapes[0]} and targets of shape {shapes[1]} are broadcast to {shapes[2]}: the loss "
        f"compares {math.prod(shapes[2]):,} pairs where there are {math.prod(shapes[0]):,} outputs",
        evidence={
            "output_shape": list(shapes[0]),
            "target_shape": list(shapes[1]),
            "compared": list(shapes[2]),
        },
        cause="Two shapes that differ only by axes of one are stretched over each other by the rules of broadcasting.",
        remedy="" if same else "Give targets of the outputs' shape.",
    )


def _rows_sum_to_one(view: View) -> bool:
    """True if the output holds probabilities (log-probabilities are negative)."""
    error, lowest = view.number("output", "row_sum_error"), view.number("output", "min")
    return error < CATALOGUE["UG103"].limit("row_sum") and not lowest < 0


def _last_layer(view: View) -> Measured | None:
    """The layer that makes the logits: the output's own, or the last one with weights before it."""
    output = view.output
    end = output.position if output else math.inf
    with_weights = [
        m for m in view.activations if m.position <= end and m.role in ("linear", "norm", "embedding")
    ]
    return with_weights[-1] if with_weights else output


def _layer(view: View, head: Measured | None) -> str:
    names = [p.name for p in view.own_parameters(head) if p.site.attributes.get("role") == "weight"]
    if names:
        return f"the last layer ({names[0]})"
    return f"the last layer ({head.name})" if head else "the last layer"


def _where_examples_became_one(view: View, limit: float) -> tuple[Measured | None, Measured | None]:
    """The last site where examples differ, and the next one. Sites that never depend on the input (position
    embeddings) are constant from the start, hence the search from the end."""
    known = [m for m in view.activations if not math.isnan(m["spread"])]
    last = max((i for i, m in enumerate(known) if m["spread"] >= limit), default=-1)
    after = known[last + 1] if last + 1 < len(known) else None
    return (known[last] if last >= 0 else None), after


def _rounding_alone(view: View) -> Measured | None:
    """The norm through which all of the output comes and that passes on rounding errors only, or None.

    A norm over values that are all equal (groups of one value, say) divides what rounding leaves of them by the root
    of its eps: errors of 1e-7 come out as 1e-5 of what went in, unlike for each example.
    """
    if view.output is None:
        return None
    names, seen, ahead = {m.name for m in view.activations}, set(), [view.output.name]
    found: list[Measured] = []
    while ahead:
        site = view.tensor(ahead.pop())
        if site is None or site.name in seen:
            continue
        seen.add(site.name)
        if _erases(view, site):
            found.append(site)
            continue
        made_from = made_of(site, names)
        if not made_from:
            return None  # an input, or a tensor whose origin is not known
        ahead += made_from
    return min(found, key=lambda m: m.position, default=None)


def _erases(view: View, norm: Measured) -> bool:
    if norm.role != "norm" or not norm["rms"] > 0:
        return False
    gain = next(
        (p["rms"] for p in view.own_parameters(norm) if p.site.attributes.get("role") == "weight"), 1.0
    )
    entering = max((m["rms"] for m in view.fed_by(norm)), default=0.0)
    return norm["rms"] < CATALOGUE["UG102"].limit("rounding") * gain * entering


def _why_constant(view: View, site: Measured | None) -> str:
    if site is None:
        return "What goes into the last layer differs between examples, what comes out does not."
    weights = [p for p in view.own_parameters(site) if p.site.attributes.get("role") == "weight"]
    if any(p["absmax"] == 0 for p in weights):
        return f"The weights of {site.name} are all zero, so its input does not matter."
    if site["rms"] == 0:
        return f"{site.name} is zero for every example."
    if site.role == "norm":
        return f"{site.name} normalizes away what differs: are there enough values to take statistics over?"
    return f"At {site.name} the part that depends on the example is lost in what is common to all (its bias)."
