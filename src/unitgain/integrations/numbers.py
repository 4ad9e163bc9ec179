"""One sampled step of a record as the numbers that a logger is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..record import Record


@dataclass(frozen=True)
class Numbers:
    """What was measured at one step.

    step          the optimizer's
    update_ratio  {weight: log10(std of its update / std of its values)}
    grad_norm     {parameter: norm of its gradient}
    act_std       {site: standard deviation of its output}
    dead          share of the units that have never been active; NaN where there are none to judge
    broken        sites that hold NaN or infinity
    """

    step: int
    update_ratio: Mapping[str, float]
    grad_norm: Mapping[str, float]
    act_std: Mapping[str, float]
    dead: float
    broken: int

    def few(self) -> dict[str, float]:
        """The handful that says how the whole network is doing; what was not measured is left out."""
        ratios, stds = list(self.update_ratio.values()), list(self.act_std.values())
        found = {
            "ug/update_ratio_median": float(np.median(ratios)) if ratios else math.nan,
            "ug/update_ratio_min": min(ratios, default=math.nan),
            "ug/update_ratio_max": max(ratios, default=math.nan),
            "ug/grad_norm_all": math.hypot(*self.grad_norm.values()) if self.grad_norm else math.nan,
            "ug/act_std_min": min(stds, default=math.nan),
            "ug/act_std_max": max(stds, default=math.nan),
            "ug/dead_units": self.dead,
            "ug/nonfinite_sites": float(self.broken),
        }
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def layers(self) -> dict[str, Mapping[str, float]]:
        """{"ug/update_ratio": {weight: value}, ...}: the values behind the handful."""
        found = {
            "ug/update_ratio": self.update_ratio, "ug/grad_norm": self.grad_norm, "ug/act_std": self.act_std
        }  # fmt: skip
        return {name: values for name, values in found.items() if values}

    def each(self) -> dict[str, float]:
        """One number for each layer: "ug/update_ratio/fc1.weight", ..."""
        return {f"{key}/{name}": v for key, values in self.layers().items() for name, v in values.items()}

    def table(self) -> list[tuple[str, str, float | None]]:
        """Rows of (what, where, value)."""
        return [
            (key.removeprefix("ug/"), name, v)
            for key, values in self.layers().items()
            for name, v in values.items()
        ]


def numbers_of(record: Record, step: int) -> Numbers:
    """What a record holds of one step."""
    frame = record.frame(step=step)
    sizes = {s.name: math.prod(s.shape) for s in record.sites("parameter_gradient")}
    matrices = {s.name for s in record.sites("update") if len(s.shape) > 1}
    ratios: dict[str, float] = {}
    norms: dict[str, float] = {}
    stds: dict[str, float] = {}
    dead = units = 0.0
    for row, (kind, name) in enumerate(zip(frame["kind"], frame["site"])):
        if kind == "update" and name in matrices and np.isfinite(frame["ratio"][row]):
            ratios[name] = float(frame["ratio"][row])
        elif kind == "parameter_gradient" and np.isfinite(frame["rms"][row]):
            norms[name] = float(frame["rms"][row]) * math.sqrt(sizes[name])
        elif kind == "activation":
            if np.isfinite(frame["std"][row]):
                stds[name] = float(frame["std"][row])
            if np.isfinite(frame["units"][row]):
                units, dead = units + float(frame["units"][row]), dead + float(frame["dead"][row])
    broken = int((frame["nonfinite"] > 0).sum())
    return Numbers(step, ratios, norms, stds, dead / units if units else math.nan, broken)
