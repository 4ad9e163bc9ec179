"""One sampled step as the numbers that a logger is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..probe import Probe
from ..record import Record

KEYS = ("ug/update_ratio", "ug/grad_norm", "ug/act_std")  # what there is of each layer, as in Probe.latest


@dataclass(frozen=True)
class Numbers:
    """What was measured at one step.

    step    the optimizer's
    each    {"ug/update_ratio/<parameter>": value, ...}: `Probe.latest`, but updates of weights alone (of two axes):
            biases, gains and the like begin at zero or one, and their ratios say little
    dead    share of the units that have never been active; NaN where there are none to judge
    broken  sites that hold NaN or infinity
    """

    step: int
    each: Mapping[str, float]
    dead: float
    broken: int

    def layers(self) -> dict[str, dict[str, float]]:
        """{"ug/update_ratio": {weight: value}, ...}"""
        found: dict[str, dict[str, float]] = {}
        for key in KEYS:
            start = f"{key}/"
            values = {n.removeprefix(start): v for n, v in self.each.items() if n.startswith(start)}
            if values:
                found[key] = values
        return found

    def few(self) -> dict[str, float]:
        """The handful that says how the whole network is doing; what was not measured is left out."""
        ratios, norms, stds = (list(self.layers().get(key, {}).values()) for key in KEYS)
        found = {
            "ug/update_ratio_median": float(np.median(ratios)) if ratios else math.nan,
            "ug/update_ratio_min": min(ratios, default=math.nan),
            "ug/update_ratio_max": max(ratios, default=math.nan),
            "ug/grad_norm_all": math.hypot(*norms) if norms else math.nan,
            "ug/act_std_min": min(stds, default=math.nan),
            "ug/act_std_max": max(stds, default=math.nan),
            "ug/dead_units": self.dead,
            "ug/nonfinite_sites": float(self.broken),
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def table(self) -> list[tuple[str, str, float | None]]:
        """Rows of (what, where, value)."""
        return [
            (key.removeprefix("ug/"), name, v)
            for key, values in self.layers().items()
            for name, v in values.items()
        ]


def numbers_of(probe: Probe) -> Numbers | None:
    """Of the last sampled step; None before there is one."""
    latest = probe.latest()
    if not latest:
        return None
    step = int(latest.pop("ug/step"))
    record: Record = probe.record
    weights = {f"ug/update_ratio/{s.name}" for s in record.sites("update") if len(s.shape) > 1}
    each = {
        k: v
        for k, v in latest.items()
        if not k.startswith("ug/update_ratio/") or (k in weights and math.isfinite(v))
    }
    frame = record.frame(step=step)
    units, dead = np.nansum(frame["units"]), np.nansum(frame["dead"])
    return Numbers(
        step, each, float(dead / units) if units else math.nan, int((frame["nonfinite"] > 0).sum())
    )
