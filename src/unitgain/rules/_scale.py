"""The scale of the activations over depth: what UG301 (it falls) and UG302 (it grows) have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ._residual import Block, residual_blocks
from ._rule import BaseEvidence, CannotJudge
from ._trend import Limits, comparable, fit, has_default_weights, severity
from ._view import View
from ._words import as_layer, fold, show


@dataclass(frozen=True, kw_only=True)
class ScaleEvidence(BaseEvidence):
    """change: fold between the first and the last site; per_block or per_layer: its root; steadiness: Kendall's tau."""

    change: float
    per_block: float | None = None
    per_layer: float | None = None
    steadiness: float
    blocks: int | None = None
    layers: int | None = None
    first_site: str
    first_rms: float
    last_site: str
    last_rms: float

    @property
    def size(self) -> float:
        """Decades over the whole depth."""
        return abs(math.log10(self.change)) if 0 < self.change < math.inf else math.inf


@dataclass(frozen=True)
class ScaleTrend:
    """A change of scale that is worth a finding; blocks: those of the residual stream, where it is what changes;
    default: whether all weights have torch's default scale."""

    level: str
    evidence: ScaleEvidence
    blocks: Sequence[Block]
    default: bool = False

    def __str__(self) -> str:
        e, what = self.evidence, "block" if self.blocks else "layer"
        return (
            f"{show(e.change)}-fold over {e.blocks or e.layers} {what}s (times {show(self.per_site)} per {what}): "
            f"rms {show(e.first_rms)} at {as_layer(e.first_site)}, {show(e.last_rms)} at {as_layer(e.last_site)}"
        )

    @property
    def per_site(self) -> float:
        return self.evidence.per_block or self.evidence.per_layer or math.nan


def scale_trend(view: View, direction: int, limits: Limits) -> ScaleTrend | None:
    """The trend in one direction, 1 (growing: of the residual stream first, since all else is added to it) or -1.

    The change must exceed the limit also after what pooling layers multiplied the scale by is taken out.
    """
    layers, blocks = comparable(view.activations, limits.sites), residual_blocks(view)
    blocks = blocks if direction > 0 and len(blocks) >= limits.sites else []
    if not layers and not blocks:
        raise CannotJudge("fewer than three comparable layers")
    default = direction < 0 and has_default_weights(view, layers)
    if default:  # a head that nobody scaled down is a layer like the others
        last = [m for m in view.activations if m.role == "linear" and m.position > layers[-1].position]
        layers = layers + [m for m in last[-1:] if m["rms"] > 0 and has_default_weights(view, [m])]
    for of_stream, sites in ((True, [b.stream for b in blocks]), (False, layers)):
        if not sites:
            continue
        trend = fit([m["rms"] for m in sites])
        # growth towards unit scale, from a small first layer, is none that rates suffer from
        judged = limits if sites[-1]["rms"] > limits.large else replace(limits, steep=None)
        level = severity(trend, direction, judged, sites=len(sites))
        without_pools = fit([m["rms"] / _pooled_away(view, m.position) for m in sites])
        least = limits.steep.change if limits.steep and not of_stream else limits.warning
        if level is None or direction * without_pools.change <= math.log10(least):
            continue
        per_site, number, first, last = 10 ** (trend.ends / (len(sites) - 1)), len(sites), sites[0], sites[-1]
        evidence = ScaleEvidence(
            change=fold(trend.ends),
            steadiness=trend.tau,
            first_site=first.name,
            first_rms=first["rms"],
            last_site=last.name,
            last_rms=last["rms"],
            per_block=per_site if of_stream else None,
            per_layer=None if of_stream else per_site,
            blocks=number if of_stream else None,
            layers=None if of_stream else number,
        )
        return ScaleTrend(level, evidence, blocks if of_stream else (), default)
    return None


def _pooled_away(view: View, position: int) -> float:
    """What all pooling layers up to a position multiplied the scale by.

    Average pooling shrinks noise and keeps smooth images, max pooling raises both: that says something about the
    input and nothing about the weights.
    """
    factor = 1.0
    for pool in view.activations:
        if pool.role == "pool" and pool.position < position:
            before = [m["rms"] for m in view.fed_by(pool) if m["rms"] > 0]
            if before and pool["rms"] > 0:
                factor *= pool["rms"] / before[0]
    return factor
