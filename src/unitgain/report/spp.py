"""A Record as a signal propagation curve: blocks in order, their branches, and what was predicted.

Records of `ug.spp` hold exactly these; in those of `check` and of a Probe the recognised block and branch ends are
taken.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._base import InputError
from ..record import Record, Site
from .layers import reported_step


@dataclass(frozen=True)
class Point:
    """A block: number (0: the stem), moments, its branch's variance (of parallel ones together) and factor; predictions
    (NaN: none); the variance that it adds over the stream's; why theory is silent on it, if it is."""

    number: int
    name: str
    sq_channel_mean: float
    channel_var: float
    branch_var: float = math.nan
    transition: bool = False
    alpha: float = math.nan
    predicted: Mapping[str, float] = field(default_factory=dict)
    branch_to_stream: float = math.nan
    silent: str = ""
    gradient: float = math.nan  # mean square, for independent standard normal values at the output

    @property
    def deviation(self) -> float:
        """Of the measured variance from the predicted one: 0.1 is 10% too large."""
        expected = self.predicted.get("channel_var", math.nan)
        return self.channel_var / expected - 1 if expected > 0 else math.nan


@dataclass(frozen=True)
class Curve:
    """All blocks of one network. law is "" where theory is silent; why: the steps at which the variance departs from
    one, the largest first, each with the factor that mends it."""

    model: str
    points: tuple[Point, ...]
    law: str = ""
    why: tuple[str, ...] = ()

    def column(self, name: str) -> np.ndarray:
        return np.array([getattr(p, name) for p in self.points], dtype=float)

    def predicted(self, name: str) -> np.ndarray:
        return np.array([p.predicted.get(name, math.nan) for p in self.points], dtype=float)

    @property
    def deviation(self) -> str:
        """ "variance 2% off prediction (median), 7% at most, at layer1.2"; "" without predictions."""
        off = self.column("deviation")
        if not np.isfinite(off).any():
            return ""
        worst = self.points[int(np.nanargmax(np.abs(off)))]
        median = np.nanmedian(np.abs(off))
        return f"variance {median:.1%} off prediction (median), {abs(worst.deviation):.1%} at most, at {worst.name}"

    @property
    def silence(self) -> str:
        """ "theory is silent on 3 of 12 blocks: its parts are correlated ..."; "" where it is not, or says nothing."""
        reasons = Counter(p.silent for p in self.points if p.silent)
        if not reasons:
            return ""
        most = reasons.most_common(1)[0][0]
        return f"theory is silent on {sum(reasons.values())} of {len(self.points)} blocks and begins anew there: {most}"

    @property
    def silent_branches(self) -> int:
        """The number of branches that add exactly zero, because a gain in or after them starts at zero."""
        return int(((self.column("branch_var") == 0) | (self.column("alpha") == 0)).sum())


def spp_curve(record: Record) -> Curve:
    """Reads the curve. Raises InputError for a record without residual blocks, or without channels."""
    sites = [s for s in record.sites("activation") if _place(s)]
    blocks = [s for s in sites if _place(s) == "block"]
    if not blocks:
        raise InputError(
            "spp: the record has no residual block; measure with ug.spp(model, batch), which finds residual sums"
        )
    values = record.values("activation", reported_step(record))
    meta = record.meta.get("spp", {})
    predicted, silent = meta.get("predicted", {}), meta.get("silent", {})
    ratios, back = meta.get("branch_to_stream", {}), meta.get("backward", {})
    branches: dict[Any, list[Site]] = {}
    for site in sites:
        if _place(site) == "branch":
            branches.setdefault(site.attributes.get("of"), []).append(site)
    points, waiting = [], None
    for site in sites:
        row = values.get(site.name, {})
        if _place(site) == "branch":
            waiting = site
            continue
        ends = branches.get(site.name) or ([waiting] if waiting is not None and None in branches else [])
        waiting = None
        expected = dict(predicted.get(site.name, {}))
        if site.name in back.get("predicted", {}):
            expected["gradient"] = back["predicted"][site.name]
        if ends and all(end.name in predicted for end in ends):
            expected["branch_var"] = sum(predicted[end.name]["channel_var"] for end in ends)
        measured = [values.get(end.name, {}).get("channel_var", math.nan) for end in ends]
        points.append(
            Point(
                number=0 if _place(site) == "stem" else sum(p.number > 0 for p in points) + 1,
                name=site.name,
                sq_channel_mean=row.get("sq_channel_mean", math.nan),
                channel_var=row.get("channel_var", math.nan),
                branch_var=sum(measured) if measured else math.nan,
                transition=_is_transition(site, points, blocks),
                alpha=float(site.attributes.get("alpha", math.nan)),
                predicted=expected,
                branch_to_stream=float(ratios.get(site.name, math.nan)),
                silent=str(silent.get(site.name, "")),
                gradient=float(back.get("measured", {}).get(site.name, math.nan)),
            )
        )
    if all(math.isnan(p.channel_var) for p in points):
        raise InputError("spp: the blocks' outputs have no channels, so there is no channel mean or variance")
    why = tuple(str(step["text"]) for step in meta.get("why", ()))
    return Curve(str(record.meta.get("model", "")), tuple(points), str(meta.get("law", "")), why)


def _place(site: Site) -> str:
    if site.attributes.get("block"):
        return str(site.attributes["block"])
    return "block" if site.attributes.get("role") == "block" else ""


def _is_transition(site: Site, before: list[Point], blocks: list[Site]) -> bool:
    """As measured; in other records a change of the shape."""
    if "transition" in site.attributes:
        return bool(site.attributes["transition"])
    number = next((i for i, s in enumerate(blocks) if s is site), 0)
    return number > 0 and blocks[number - 1].shape != site.shape
