"""The scale of the gradient over depth: what UG401 (it falls on its way back) and UG402 (it grows) have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._residual import residual_blocks
from ._rule import BaseEvidence, CannotJudge
from ._trend import Limits, comparable, fit, has_default_weights, severity
from ._view import View
from ._words import fold, show


@dataclass(frozen=True, kw_only=True)
class GradientEvidence(BaseEvidence):
    """change: fold from the last site back to the first; per_block or per_layer: its root; steadiness: Kendall's tau;
    norms: per example, of the gradient at a site's output."""

    change: float
    per_block: float | None = None
    per_layer: float | None = None
    steadiness: float
    blocks: int | None = None
    layers: int | None = None
    first_site: str
    first_norm: float
    last_site: str
    last_norm: float

    @property
    def size(self) -> float:
        """Decades over the whole depth."""
        return abs(math.log10(self.change)) if 0 < self.change < math.inf else math.inf


@dataclass(frozen=True)
class GradientTrend:
    """A change of the gradient's norm that is worth a finding; what: "block" or "layer"."""

    level: str
    evidence: GradientEvidence
    what: str

    def __str__(self) -> str:
        e = self.evidence
        return (
            f"{show(e.change)}-fold on its way back over {e.blocks or e.layers} {self.what}s (times "
            f"{show(self.per_site)} per {self.what}): norm per example {show(e.last_norm)} at {e.last_site}, "
            f"{show(e.first_norm)} at {e.first_site}"
        )

    @property
    def per_site(self) -> float:
        return self.evidence.per_block or self.evidence.per_layer or math.nan


def gradient_trend(view: View, direction: int, limits: Limits) -> GradientTrend | None:
    """The trend in one direction, 1 (growing: in a residual network at its blocks, since inside them the scales
    alternate) or -1."""
    if not view.gradients:
        raise CannotJudge("no gradient was measured")
    streams = {b.stream.name for b in residual_blocks(view)} if direction > 0 else set()
    arriving = [m for m in view.gradients if m.name in streams and not m.broken and m["rms"] > 0]
    of_stream = len(arriving) >= limits.sites
    sites = arriving if of_stream else comparable(view.gradients, limits.sites)
    if not sites:
        raise CannotJudge("fewer than three comparable layers with a gradient that is not zero")
    norms = [m["rms"] * math.sqrt(math.prod(m.site.shape) / m.examples) for m in sites]
    trend = fit(norms[::-1])
    level = severity(
        trend, direction, limits, default_weights=direction < 0 and has_default_weights(view, sites)
    )
    if level is None:
        return None
    per_site, number = 10 ** (trend.ends / (len(sites) - 1)), len(sites)
    evidence = GradientEvidence(
        change=fold(trend.ends),
        per_block=per_site if of_stream else None,
        per_layer=None if of_stream else per_site,
        steadiness=trend.tau,
        blocks=number if of_stream else None,
        layers=None if of_stream else number,
        first_site=sites[0].name,
        first_norm=norms[0],
        last_site=sites[-1].name,
        last_norm=norms[-1],
    )
    return GradientTrend(level, evidence, "block" if of_stream else "layer")
