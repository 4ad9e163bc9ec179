"""The last sampled step as a flat dictionary of numbers."""

from __future__ import annotations

import math

from ..record import Record


def latest_numbers(record: Record, step: int | None) -> dict[str, float]:
    """The numbers of `Probe.latest` of this step; {} for None."""
    if step is None:
        return {}
    found: dict[str, float] = {"ug/step": step}
    for name, row in record.values("update", step).items():
        if "ratio" in row:
            found[f"ug/update_ratio/{name}"] = row["ratio"]
    for name, row in record.values("parameter_gradient", step).items():
        site = record.site("parameter_gradient", name)
        if site is not None and "rms" in row:
            found[f"ug/grad_norm/{name}"] = row["rms"] * math.sqrt(math.prod(site.shape))
    for name, row in record.values("activation", step).items():
        if "std" in row:
            found[f"ug/act_std/{name}"] = row["std"]
    return found
