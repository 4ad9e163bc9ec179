"""UG501 to UG503: what the optimizer does to the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .finding import Finding
from .view import CannotJudge, View, listed, plural, show

_ADAPTIVE = ("adam", "rmsprop", "adagrad", "lion", "lamb", "adafactor", "nadam", "radam")


def updates_too_large(view: View) -> Iterator[Finding]:
    """UG501: more than a hundredth of the weights per step."""
    entry = CATALOGUE["UG501"]
    ratios, median = _settled(view, int(entry.limit("adaptive_steps")))
    if median <= entry.limit("warning"):
        return
    severity = "error" if median > entry.limit("error") else "warning"
    yield _finding(view, "UG501", severity, ratios, median, "large")


def updates_too_small(view: View) -> Iterator[Finding]:
    """UG502: less than a ten-thousandth of the weights per step."""
    entry = CATALOGUE["UG502"]
    ratios, median = _settled(view, int(entry.limit("adaptive_steps")))
    if median < entry.limit("warning"):
        yield _finding(view, "UG502", "warning", ratios, median, "small")


def uneven_updates(view: View) -> Iterator[Finding]:
    """UG503: weights that are updated at a rate far from the others'."""
    entry = CATALOGUE["UG503"]
    series = _ratios(view, peers_only=True)
    if len(series) < entry.limit("weights"):
        raise CannotJudge("fewer than four weights with an update ratio")
    steps = min(len(values) for values in series.values())
    if steps < entry.limit("steps"):
        raise CannotJudge("fewer than three steps: nothing is sustained yet")
    table = np.array([values[-steps:] for values in series.values()])  # (weights, steps)
    away = table - np.nanmedian(table, axis=0)
    decades, sustained = entry.limit("decades"), entry.limit("sustained")
    found = {
        name: float(np.nanmedian(row))
        for name, row in zip(series, away)
        if max(np.mean(row > decades), np.mean(row < -decades)) >= sustained
    }
    if not found:
        return
    worst = max(found, key=lambda name: abs(found[name]))
    faster = found[worst] > 0
    parameter = view.parameter(worst)
    std = parameter["std"] if parameter else float("nan")
    yield entry.finding(
        "warning",
        worst,
        f"{plural(len(found), 'weight')} of {len(series)} updated at another rate than the rest ({listed(list(found))}): "
        f"{worst} by a factor of {show(10 ** found[worst])}, all {steps} steps long",
        evidence={"decades": found, "steps": steps, "weights": len(series), "std": std},
        cause=f"{worst} is {'small' if faster else 'large'} for the gradient it gets (std {show(std)}), or its "
        f"gradient is {'larger' if faster else 'smaller'} than its peers'.",
    )


def _ratios(view: View, peers_only: bool = False) -> dict[str, np.ndarray]:
    """{weight: log10(update:data) at every sampled step}. Matrices, kernels and embeddings that did not begin at
    zero; with peers_only neither embeddings (most rows of which rest) nor the last layer (often scaled down)."""
    series = view.over_steps("update", "ratio")
    if not series:
        raise CannotJudge("no optimizer step was measured; give steps (--steps 20) or a training run")
    rates = view.fact("optimizer", "lr")
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


def _settled(view: View, adaptive_steps: int) -> tuple[dict[str, float], float]:
    """Each weight's median ratio over the later half of the steps, and the median of those."""
    series = _ratios(view)
    steps = max(len(values) for values in series.values())
    name = str(view.fact("optimizer", "name") or "").lower()
    if any(kind in name for kind in _ADAPTIVE) and steps < adaptive_steps and not view.training:
        raise CannotJudge(
            f"the first steps of {view.fact('optimizer', 'name')} are full-sized; give {adaptive_steps} steps or more"
        )
    late = {name: values[len(values) // 2 :] for name, values in series.items()}
    medians = {name: float(np.nanmedian(v)) for name, v in late.items() if np.isfinite(v).any()}
    if not medians:
        raise CannotJudge("no weight has an update ratio")
    return medians, float(np.median(list(medians.values())))


def _finding(
    view: View, code: str, severity: str, ratios: dict[str, float], median: float, size: str
) -> Finding:
    entry = CATALOGUE[code]
    rates = [float(rate) for rate in view.fact("optimizer", "lr") or ()]
    target = entry.limit("target")
    factor = 10 ** (target - median)
    word = "Lower" if factor < 1 else "Raise"
    if rates:
        wanted = ", ".join(show(rate * factor) for rate in rates)
        remedy = f"{word} the learning rate from {', '.join(show(r) for r in rates)} to about {wanted}."
    else:
        remedy = f"{word} the learning rate: multiply it by {show(factor)}."
    name = view.fact("optimizer", "name") or "the optimizer"
    return entry.finding(
        severity,
        None,
        f"{name} changes the weights by 10^{median:.1f} of their size per step (median of {plural(len(ratios), 'weight')}); "
        f"10^{target:g} is right",
        evidence={
            "median": median,
            "lowest": min(ratios.values()),
            "highest": max(ratios.values()),
            "lr": rates,
        },
        cause=f"The learning rate is too {size} for these weights and gradients.",
        remedy=remedy,
    )
