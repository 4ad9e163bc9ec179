"""The last sampled step as a flat dictionary of numbers."""

from __future__ import annotations

import math

import numpy as np

from ..record import Record

_NUMBERS = (  # kind of site, statistic, key
    ("update", "ratio", "ug/update_ratio"),
    ("parameter_gradient", "rms", "ug/grad_norm"),  # times the root of the number of values
    ("activation", "std", "ug/act_std"),
)


def latest_numbers(record: Record, step: int | None) -> dict[str, float]:
    """The numbers of `Probe.latest` of this step; {} for None."""
    if step is None:
        return {}
    found: dict[str, float] = {"ug/step": step}
    frame = record.frame(step=step)
    for kind, statistic, key in _NUMBERS:
        here = (frame["kind"] == kind) & ~np.isnan(frame[statistic])
        for name, value in zip(frame["site"][here], frame[statistic][here].tolist()):
            site = record.site(kind, name)
            whole = math.sqrt(math.prod(site.shape)) if site is not None and statistic == "rms" else 1.0
            found[f"{key}/{name}"] = value * whole
    return found
