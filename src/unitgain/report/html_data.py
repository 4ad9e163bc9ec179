"""The numbers behind the page's charts: small enough for 1,000 layers and many steps, strict JSON.

Everything over depth shares one x: the layer's number in execution order. Numbers are rounded to three significant
digits; histograms are texts, a letter for a bin; of many layers fewer steps are kept, of long trainings too.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._base import printable
from ..record import Histogram, Record
from .html_blocks import blocks_of
from .html_flags import Flags
from .html_network import title_of
from .layers import Layer, layers_of, main_parameters, parameter_owner, reported_step, thin, values_near
from .text import shape_text

DEPTH_VALUES = 3_000  # layers times steps that the charts over depth can be switched between
TIME_VALUES = 30_000  # numbers per statistic in the charts over time: fewer steps for more layers
MAX_MAPS = 24
TRACE = 0.005  # of a layer's values: a power of two at the edge that holds less is not drawn
STATISTICS = ("mean", "std", "rms", "zero", "saturated", "nonfinite")
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
"""Sixty-four heights, low to high."""
DETAIL_BINS = 64  # of the histogram of one layer


def chart_data(
    record: Record, layers: Sequence[Layer], flags: Sequence[Flags], before: Record | None = None
) -> dict[str, Any]:
    """What page/charts.js draws; see the keys there. before: of a repair, the record of the model before it."""
    now = reported_step(record)
    most = max(2, min(12, DEPTH_VALUES // max(1, len(layers))))
    steps = sorted({*thin(record.steps(), most), now})
    return {
        "layers": [_layer(layer, flag) for layer, flag in zip(layers, flags)],
        "blocks": [[b.layers[0].number, printable(b.title)] for b in blocks_of(layers)],
        "steps": steps,
        "now": steps.index(now),
        "depth": [_depth(record, step) for step in steps],
        "magnitudes": [_magnitudes(record, step, layers) for step in steps],
        "signed": {kind: _signed(record, kind, now, layers) for kind in ("activation", "gradient")},
        "parameters": _parameters(record, layers, steps),
        "before": _before(before, layers) if before is not None else None,
        "time": _time(record, layers),
        "start": _expected_start(record),
        "maps": dict(list(record.meta.get("saturation_maps", {}).items())[:MAX_MAPS]),
    }


def _layer(layer: Layer, flags: Flags) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": printable(layer.name),
        "title": title_of(layer, 60),
        "key": layer.name if layer.site.kind == "activation" else "",  # as the saturation maps call it
        "module": printable(layer.site.module),
        "shape": shape_text(layer.site.shape),
    }
    if flags.codes:
        row["codes"] = [printable(code) for code in flags.codes]
    if flags.level:
        row |= {"level": flags.level, "columns": flags.columns}
    return row


def _depth(record: Record, step: int) -> dict[str, Any]:
    layers = layers_of(record, step=step)
    columns: dict[str, Any] = {s: [short(layer.values.get(s)) for layer in layers] for s in STATISTICS}
    columns["dead"] = [short(layer.dead_fraction) for layer in layers]
    columns["gradient"] = [short(layer.gradient.get("rms")) for layer in layers]
    columns["gradient_ratio"] = [short(layer.ratios.get("gradient")) for layer in layers]
    columns["update_ratio"] = [short(layer.ratios.get("update")) for layer in layers]
    return columns


def _before(record: Record, layers: Sequence[Layer]) -> dict[str, Any]:
    """Scale over depth of the model as it came, at the places of the layers as they are now."""
    old = {layer.key: layer for layer in layers_of(record)}
    found = [old.get(layer.key) for layer in layers]
    return {
        "std": [short(layer.values.get("std")) if layer else None for layer in found],
        "gradient": [short(layer.gradient.get("rms")) if layer else None for layer in found],
    }


def _expected_start(record: Record) -> float | None:
    """The loss of a classifier that knows nothing, ln(C); None where that is not known."""
    facts = record.facts
    classes = facts.target.classes
    known = facts.loss.kind == "cross_entropy" and facts.target.kind == "class_index" and classes
    return short(math.log(classes)) if known and classes and classes > 1 else None


def _magnitudes(record: Record, step: int, layers: Sequence[Layer]) -> dict[str, Any]:
    """{kind: {"low": first power of two, "top": the largest share, "rows": a text per layer, a letter per bin}}."""
    numbers = _numbers(layers)
    found: dict[str, Any] = {}
    for kind in ("activation", "gradient"):
        kept = [
            h
            for h in record.histograms(kind, scale="log2", step=step)
            if h.site in numbers and h.counts.sum()
        ]
        if kept:
            shares = np.stack([h.counts / h.counts.sum() for h in kept])  # (layers, bins)
            used = np.flatnonzero((shares >= TRACE).any(axis=0))
            low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            top = float(shares.max())
            rows = [""] * len(layers)
            for h, share in zip(kept, shares):
                rows[numbers[h.site] - 1] = letters(share[low:high] / top)
            found[kind] = {"low": int(kept[0].low) + low, "top": short(top), "rows": rows}
    return found


def _signed(record: Record, kind: str, step: int, layers: Sequence[Layer]) -> list[Any]:
    """[low, high, heights, shares of exactly -1, 0 and 1 in per cent] per layer, None where there is no histogram."""
    numbers = _numbers(layers)
    rows: list[Any] = [None] * len(layers)
    for h in record.histograms(kind, step=step):
        if h.site in numbers and h.total and h.scale == "signed":
            rows[numbers[h.site] - 1] = _detail(h)
    return rows


def _detail(h: Histogram) -> list[Any]:
    bins = h.counts.reshape(DETAIL_BINS, -1).sum(axis=1)
    return [
        short(h.low), short(h.high), letters(bins / max(1, bins.max())),
        [round(100 * n / h.total) for n in h.atoms] if sum(h.atoms) else 0,
    ]  # fmt: skip


def letters(heights: np.ndarray) -> str:
    """Heights from 0 to 1 as a text, a letter each.

    >>> letters(np.array([0.0, 0.5, 1.0]))
    'Ag_'
    """
    return "".join(LETTERS[i] for i in np.clip(np.rint(63 * heights), 0, 63).astype(int).tolist())


def _numbers(layers: Sequence[Layer]) -> dict[str, int]:
    """{activation's name: the layer's number}."""
    return {layer.name: layer.number for layer in layers if layer.site.kind == "activation"}


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
            metrics[printable(name)] = [[int(x[i]) for i in rows], [short(float(y[i]), 5) for i in rows]]
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
            empty = np.empty(0)  # an input has no gradient
            steps, values = record.series(kind, name, statistic) if name else (empty, empty)
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


def short(value: float | None, digits: int = 3) -> float | int | None:
    """As few significant digits as a chart needs; None for what is not finite.

    >>> short(1.23456789), short(float("inf")), short(None)
    (1.23, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    number = float(f"{value:.{digits}g}")
    return int(number) if number == int(number) and abs(number) < 1e6 else number
