"""The numbers behind the page's charts: small enough for 300 layers and many steps, strict JSON.

Everything over depth shares one x: the layer's number in execution order. Numbers are rounded to four
significant digits, histograms to a thousandth of their values, long trainings are thinned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._base import printable
from ..record import Histogram, Record
from .layers import (
    MEASURES,
    Layer,
    Peers,
    layers_of,
    main_parameters,
    parameter_owner,
    reported_step,
    thin,
    values_near,
)
from .text import shape_text

DEPTH_STEPS = 12  # steps that the charts over depth can be switched between
TIME_VALUES = 30_000  # numbers per statistic in the charts over time: fewer steps for more layers
MAX_MAPS = 24
TRACE = 5  # thousandths of a layer's values below which a power of two at the edge is not drawn
STATISTICS = ("mean", "std", "rms", "zero", "saturated", "nonfinite", "cosine")


def chart_data(record: Record, layers: Sequence[Layer], before: Record | None = None) -> dict[str, Any]:
    """What page/charts.js draws; see the keys there. before: of a repair, the record of the model before it."""
    now = reported_step(record)
    steps = sorted({*thin(record.steps(), DEPTH_STEPS), now})
    return {
        "layers": [_layer(layer) for layer in layers],
        "steps": steps,
        "now": steps.index(now),
        "depth": [_depth(record, step) for step in steps],
        "histograms": [_histograms(record, step, layers) for step in steps],
        "parameters": _parameters(record, layers, steps),
        "before": _before(before, layers) if before is not None else None,
        "measures": MEASURES,
        "time": _time(record, layers),
        "maps": dict(list(record.meta.get("saturation_maps", {}).items())[:MAX_MAPS]),
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": printable(layer.name),
        "key": layer.name if layer.site.kind == "activation" else "",  # as the saturation maps call it
        "module": printable(layer.site.module),
        "shape": shape_text(layer.site.shape),
        "severity": layer.severity,
        "codes": [printable(code) for code in layer.codes],
    }


def _depth(record: Record, step: int) -> dict[str, Any]:
    layers = layers_of(record, step=step)
    peers = Peers.of(layers)
    columns: dict[str, Any] = {s: [short(layer.values.get(s)) for layer in layers] for s in STATISTICS}
    columns["dead"] = [short(layer.dead_fraction) for layer in layers]
    columns["gradient"] = [short(layer.gradient.get("rms")) for layer in layers]
    columns["gradient_ratio"] = [short(layer.ratios.get("gradient")) for layer in layers]
    columns["update_ratio"] = [short(layer.ratios.get("update")) for layer in layers]
    concerns = [layer.concerns(peers) for layer in layers]
    columns["concerns"] = [[short(c.get(measure)) for c in concerns] for measure in MEASURES]
    return columns


def _before(record: Record, layers: Sequence[Layer]) -> dict[str, Any]:
    """Scale over depth of the model as it came, at the places of the layers as they are now."""
    old = {layer.key: layer for layer in layers_of(record)}
    found = [old.get(layer.key) for layer in layers]
    return {
        "std": [short(layer.values.get("std")) if layer else None for layer in found],
        "gradient": [short(layer.gradient.get("rms")) if layer else None for layer in found],
    }


def _histograms(record: Record, step: int, layers: Sequence[Layer]) -> dict[str, Any]:
    """{kind: {"low": first power of two, "share": per bin, per layer, in thousandths}}."""
    numbers = _numbers(layers)
    found: dict[str, Any] = {}
    for kind in ("activation", "gradient"):
        kept = [
            h
            for h in record.histograms(kind, scale="log2", step=step)
            if h.site in numbers and h.counts.sum()
        ]
        if kept:
            found[kind] = _share(kept, numbers, len(layers))
    return found


def _numbers(layers: Sequence[Layer]) -> dict[str, int]:
    """{activation's name: the layer's number}."""
    return {layer.name: layer.number for layer in layers if layer.site.kind == "activation"}


def _share(kept: Sequence[Histogram], numbers: dict[str, int], columns: int) -> dict[str, Any]:
    bins = len(kept[0].counts)
    share: list[list[int | None]] = [
        [None] * columns for _ in range(bins)
    ]  # (bins, layers), None: no histogram
    used = set()
    for h in kept:
        for i, thousandths in enumerate(np.rint(1000 * h.counts / h.counts.sum()).astype(int).tolist()):
            share[i][numbers[h.site] - 1] = thousandths
            used |= {i} if thousandths >= TRACE else set()
    low, high = min(used, default=0), max(used, default=bins - 1) + 1
    return {"low": int(kept[0].low) + low, "share": share[low:high]}


def _parameters(record: Record, layers: Sequence[Layer], steps: Sequence[int]) -> dict[str, Any]:
    """Weights (tensors of two axes and more) with the number of the layer that uses them."""
    numbers = _numbers(layers)
    weights = [s for s in record.sites("parameter") if len(s.shape) > 1]
    places = sorted((layer.site.position, layer.number) for layer in layers)
    rows = []
    for site in weights:
        later = [number for position, number in places if position >= site.position]
        number = numbers.get(parameter_owner(site)) or next(iter(later), len(layers) or 1)
        rows.append((site.name, number))
    result: dict[str, Any] = {"names": [printable(n) for n, _ in rows], "x": [x for _, x in rows]}
    for key, kind in (("gradient", "parameter_gradient"), ("update", "update")):
        values = [values_near(record, kind, step) for step in steps]
        result[key] = [[short(v.get(name, {}).get("ratio")) for name, _ in rows] for v in values]
    return result


def _time(record: Record, layers: Sequence[Layer]) -> dict[str, Any]:
    """Metrics as {name: [steps, values]}, and per layer and step: std, mean, gradient, update."""
    metrics = {}
    for name in record.metric_names():
        x, y = record.metric(name)
        rows = thin(range(len(x)), 2000)
        if len(rows) > 1:
            metrics[printable(name)] = [[int(x[i]) for i in rows], [short(float(y[i])) for i in rows]]
    steps = record.steps()
    result: dict[str, Any] = {"metrics": metrics, "steps": []}
    if len(steps) < 2:
        return result
    chosen = thin(steps, max(2, min(200, TIME_VALUES // max(1, len(layers)))))
    column = {step: i for i, step in enumerate(chosen)}

    def table(pairs: Sequence[tuple[str, str]], statistic: str) -> list[list[float | None]]:
        out = []
        for kind, name in pairs:
            row: list[float | None] = [None] * len(chosen)
            steps, values = record.series(kind, name, statistic)
            for step, value in zip(steps.tolist(), values.tolist()):
                if step in column:
                    row[column[step]] = short(value)
            out.append(row)
        return out

    main = main_parameters(record)
    weights = [(main[name], number) for name, number in _numbers(layers).items() if name in main]
    weights = [
        (name, n) for name, n in weights if (site := record.site("update", name)) and len(site.shape) > 1
    ]
    result["steps"] = chosen
    sites = [layer.key for layer in layers]
    result["std"], result["mean"] = table(sites, "std"), table(sites, "mean")
    names = [layer.name if layer.site.kind == "activation" else "" for layer in layers]
    result["gradient"] = table([("gradient", name) for name in names], "rms")
    result["update"] = table([("update", name) for name, _ in weights], "ratio")
    result["update_layers"] = [number for _, number in weights]
    return result


def short(value: float | None) -> float | None:
    """Four significant digits; None for what is not finite.

    >>> short(1.23456789), short(float("inf")), short(None)
    (1.235, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")
