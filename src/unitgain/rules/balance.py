"""UG404 and UG406: gradients of unlike size, and gradients too small for their dtype."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .finding import Finding
from .view import CannotJudge, Measured, View, listed, plural, show

_UNLIKE = 3.0  # times its peers' scale, from which a weight is named as the odd one


def uneven_gradient(view: View) -> Iterator[Finding]:
    """UG404: a weight whose gradient:data ratio is far from that of its peers."""
    entry = CATALOGUE["UG404"]
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    groups = [g for g in _peers(view) if len(g) >= entry.limit("peers")]
    if not groups:
        raise CannotJudge("fewer than four weights of one kind with a gradient")
    away: dict[str, float] = {}
    odd: dict[str, float] = {}  # how far a weight's own scale is from its peers', in decades
    for group in groups:
        sizes = np.log10([size for _, size in group])
        ratios = np.array([m["ratio"] for m, _ in group])
        for (m, _), decades, size in zip(group, ratios - np.median(ratios), sizes - np.median(sizes)):
            odd[m.name] = float(abs(size))
            if abs(decades) > math.log10(entry.limit("fold")):
                away[m.name] = float(decades)
    if not away:
        return
    most = max(map(abs, away.values()))
    # a weight that is too large changes the gradient of its neighbours too: the one of unlike scale is named
    worst = max(away, key=lambda name: (odd[name] > math.log10(_UNLIKE), abs(away[name])))
    sure = most > math.log10(entry.limit("warning"))
    parameter = view.parameter(worst)
    std = parameter["std"] if parameter else math.nan
    more = away[worst] > 0
    yield entry.finding(
        "warning" if sure else "info",
        worst,
        f"{worst} gets {show(10 ** abs(away[worst]))} times {'more' if more else 'less'} gradient for its size than "
        f"the weights of its kind ({plural(len(away), 'weight')} beyond {entry.limit('fold'):g} times: "
        f"{listed(list(away))})",
        evidence={"decades": away, "std": std},
        cause=f"{worst} is {'small' if more else 'large'} for the gradient that it gets (std {show(std)}), or the "
        f"signal that reaches it is {'larger' if more else 'smaller'} than that of its peers.",
    )


def _peers(view: View) -> list[list[tuple[Measured, float]]]:
    """(gradient, std of the weight) of weights at the same place of repeated blocks: names that differ in numbers
    only.

    Kinds cannot be compared with one another: the weights of queries get a hundredth of the gradient that those of
    values get, and gates less than the layers that they gate. Embeddings, the head and what is zero are left out.
    """
    head = {p.name for p in view.own_parameters(view.output)}
    data = {p.name: p for p in view.parameters}
    groups: dict[tuple[str, int], list[tuple[Measured, float]]] = defaultdict(list)
    for m in view.parameter_gradients:
        parameter = data.get(m.name)
        if parameter is None or m.name in head or len(m.site.shape) < 2 or not math.isfinite(m["ratio"]):
            continue
        attributes = parameter.site.attributes
        if attributes.get("role") == "weight" and attributes.get("trainable", True) and parameter["std"] > 0:
            groups[re.sub(r"\d+", "#", m.name), len(m.site.shape)].append((m, parameter["std"]))
    return list(groups.values())


def gradient_underflow(view: View) -> Iterator[Finding]:
    """UG406: gradients below the smallest normal number of their dtype."""
    entry = CATALOGUE["UG406"]
    rows = [m for m in [*view.gradients, *view.parameter_gradients] if not math.isnan(m["underflow"])]
    if not rows:
        raise CannotJudge("no gradient was measured that is not zero")
    low = {f"{m.site.kind} {m.name}": m["underflow"] for m in rows if m["underflow"] > entry.limit("warning")}
    if not low:
        return
    weights = np.array([math.prod(m.site.shape) for m in rows], dtype=float)
    overall = float(np.average([m["underflow"] for m in rows], weights=weights))
    worst = max(rows, key=lambda m: m["underflow"])
    yield entry.finding(
        "error" if overall > entry.limit("error") else "warning",
        worst.name,
        f"{overall:.0%} of the non-zero gradient values in {worst.site.dtype} lie below its smallest normal number, "
        f"{worst['underflow']:.0%} at {worst.name} ({len(low)} of {plural(len(rows), 'tensor')} beyond "
        f"{entry.limit('warning'):.0%})",
        evidence={"overall": overall, "worst": worst["underflow"], "sites": dict(list(low.items())[:50])},
        cause=f"The gradients are too small for {worst.site.dtype}: such values lose digits, and smaller ones are "
        "zero.",
        remedy=""
        if worst.site.dtype in ("float16", "bfloat16")
        else "Look for a tiny factor on the loss or in the layers after the named one, and take it out.",
    )
