"""UG501 to UG503: what the optimizer does to the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .curves import lost
from .finding import Finding
from .view import CannotJudge, View, listed, plural, show

# their update is the learning rate times something near one, whatever the gradient's size
_ADAPTIVE = ("adam", "rmsprop", "adagrad", "lion", "lamb", "adafactor", "nadam", "radam")


def updates_too_large(view: View) -> Iterator[Finding]:
    """UG501: more than a hundredth of the weights per step."""
    entry = CATALOGUE["UG501"]
    ratios, median, granted = _settled(view, "UG501")
    if median - granted <= entry.limit("warning"):
        return
    severity = "error" if median - granted > entry.limit("error") else "warning"
    yield _finding(view, "UG501", severity, ratios, median, granted)


def updates_too_small(view: View) -> Iterator[Finding]:
    """UG502: less than a ten-thousandth of the weights per step."""
    entry = CATALOGUE["UG502"]
    ratios, median, granted = _settled(view, "UG502")
    if median - granted < entry.limit("warning"):
        yield _finding(view, "UG502", "warning", ratios, median, granted)


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
        f"{plural(len(found), 'weight')} of {len(series)} updated at another rate than the rest "
        f"({listed(list(found))}): {worst} by a factor of {show(10 ** found[worst])}, all {steps} steps long",
        evidence={"decades": found, "steps": steps, "weights": len(series), "std": std},
        cause=f"{worst} is {'small' if faster else 'large'} for the gradient it gets (std {show(std)}), or "
        f"its gradient is {'larger' if faster else 'smaller'} than its peers'.",
    )


def _ratios(view: View, peers_only: bool = False) -> dict[str, np.ndarray]:
    """{weight: log10(update:data) at every sampled step}. Matrices, kernels and embeddings that did not begin
    at zero; with peers_only neither embeddings (most rows rest) nor the last layer (often scaled down)."""
    series = view.over_steps("update", "ratio", before=lost(view))
    if not series and lost(view) is not None:
        raise CannotJudge("the loss had left before a step was measured")
    if not series:
        raise CannotJudge("no optimizer step was measured; give steps=20 or --steps 20")
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


def _settled(view: View, code: str) -> tuple[dict[str, float], float, float]:
    """Each weight's median ratio over the later half of the steps, the median of those, and the decades granted
    to an adaptive optimizer that is rehearsed on one repeated batch. Steps after the loss was lost do not count."""
    entry, series = CATALOGUE[code], _ratios(view)
    name = str(view.fact("optimizer", "name") or "")
    adaptive = any(kind in name.lower() for kind in _ADAPTIVE)
    repeated = adaptive and not view.training
    least = entry.limit("adaptive_steps")
    few = adaptive and max(len(values) for values in series.values()) < least
    if few and lost(view) is not None:
        raise CannotJudge(f"the first steps of {name} are full-sized, and the loss left within them")
    if few and repeated:
        raise CannotJudge(f"the first steps of {name} are full-sized; give {least:g} steps or more")
    late = {name: values[len(values) // 2 :] for name, values in series.items()}
    medians = {name: float(np.nanmedian(v)) for name, v in late.items() if np.isfinite(v).any()}
    if not medians:
        raise CannotJudge("no weight has an update ratio")
    granted = entry.limit("adaptive_granted") if repeated else 0.0
    return medians, float(np.median(list(medians.values()))), granted


def _rates(view: View) -> list[float]:
    """Each group's learning rate; where a schedule moved the first one, its median over the steps judged."""
    rates = [float(rate) for rate in view.fact("optimizer", "lr") or ()]
    steps, recorded = view.record.metric("lr") if view.training else (np.empty(0), np.empty(0))
    end = lost(view)
    recorded = recorded if end is None else recorded[steps < end]
    if len(recorded) and rates and rates[0] > 0:
        typical = float(np.median(recorded[len(recorded) // 2 :]))
        rates = [typical * rate / rates[0] for rate in rates]
    return rates


def _finding(
    view: View, code: str, severity: str, ratios: dict[str, float], median: float, granted: float
) -> Finding:
    entry = CATALOGUE[code]
    rates = _rates(view)
    target = entry.limit("target") + granted
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
        f"{name} changes the weights by 10^{median:.1f} of their size per step (median of "
        f"{plural(len(ratios), 'weight')}); about 10^{target:.1f} is right",
        evidence={
            "median": median,
            "lowest": min(ratios.values()),
            "highest": max(ratios.values()),
            "lr": rates,
        },
        cause=f"The learning rate is too {'large' if factor < 1 else 'small'} for these weights and gradients.",
        remedy=remedy,
    )
