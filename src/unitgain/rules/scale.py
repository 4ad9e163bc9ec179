"""UG301 and UG302: the scale of the activations over depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from .catalogue import CATALOGUE
from .entry import Entry
from .finding import Finding
from .trend import Block, comparable, fit, has_default_weights, residual_blocks, severity
from .view import CannotJudge, View, show


def vanishing_activations(view: View) -> Iterator[Finding]:
    """UG301: the scale falls steadily over depth."""
    yield from _scale_trend(view, "UG301", direction=-1)


def exploding_activations(view: View) -> Iterator[Finding]:
    """UG302: the scale grows steadily over depth."""
    yield from _scale_trend(view, "UG302", direction=1)


def _scale_trend(view: View, code: str, direction: int) -> Iterator[Finding]:
    entry = CATALOGUE[code]
    least = int(entry.limit("sites"))
    layers, blocks = comparable(view.activations, least), residual_blocks(view)
    streams = [b.stream for b in blocks] if direction > 0 and len(blocks) >= least else []
    if not layers and not streams:
        raise CannotJudge("fewer than three comparable layers")
    for sites in (streams, layers):  # where the stream itself grows, that is what to speak of
        if not sites:
            continue
        trend = fit([m["rms"] for m in sites])
        level = severity(
            trend, direction, entry, default_weights=direction < 0 and has_default_weights(view, layers)
        )
        without_pools = fit([m["rms"] / _pooled_away(view, m.position) for m in sites])
        if level is None or direction * without_pools.change <= math.log10(entry.limit("warning")):
            continue
        change, per_layer = 10 ** min(abs(trend.ends), 300.0), 10 ** (trend.ends / (len(sites) - 1))
        if sites is streams:
            cause, remedy = why_stream_grows(blocks)
        else:
            cause, remedy = _why_layers(view, entry, direction, per_layer, level)
        first, last, what = sites[0], sites[-1], "block" if sites is streams else "layer"
        yield entry.finding(
            level,
            first.name,
            f"the scale {'grows' if direction > 0 else 'falls'} {show(change)}-fold over {len(sites)} {what}s "
            f"(times {show(per_layer)} per {what}): rms {show(first['rms'])} at {first.name}, "
            f"{show(last['rms'])} at {last.name}",
            evidence={
                "change": change,
                f"per_{what}": per_layer,
                "steadiness": trend.tau,
                f"{what}s": len(sites),
                "first_site": first.name,
                "first_rms": first["rms"],
                "last_site": last.name,
                "last_rms": last["rms"],
            },
            cause=cause,
            remedy=remedy,
        )
        return


def _why_layers(view: View, entry: Entry, direction: int, per_layer: float, level: str) -> tuple[str, str]:
    """(cause, remedy) where each layer multiplies the scale."""
    times = f"Each layer multiplies the scale by about {show(per_layer)}"
    if level == "info":
        return (
            f"{times}: torch's default initialization of linear and convolution layers has a gain below one. "
            "Networks of a few layers train so all the same, if more slowly.",
            entry.action,
        )
    cause = (
        f"{times}: the weights are too {'large' if direction > 0 else 'small'} for their fan-in and "
        "activation function."
    )
    branches = sum(m.site.attributes.get("block") == "branch" for m in view.activations)
    action, _, for_residual = entry.action.rstrip(".").partition("; in a residual network ")
    if not branches:
        factor = show(1 / per_layer)
        return cause, f"{action}. (Multiplying each layer's weights by {factor} gives a gain of one.)"
    if for_residual:  # a branch's gain is not the stream's, so that no factor for each layer is right
        times = f"multiply each branch's output by about 1/sqrt({branches}) = {show(1 / math.sqrt(branches))}"
        return cause, f"{action}; {times}, or start its last layer at zero."
    return cause, f"{action}."


def why_stream_grows(blocks: Sequence[Block]) -> tuple[str, str]:
    """(cause, remedy) where a residual stream grows from block to block: through its skips or its branches.

    What leaves a block is skip times what enters it, plus what the branches add; taken for independent,
    skip^2 = (out^2 - added^2) / in^2.
    """
    pairs = list(pairwise(blocks))
    entering = [before.stream["rms"] for before, _ in pairs]
    squares = [
        (block.stream["rms"] ** 2 - block.added**2) / rms**2 for rms, (_, block) in zip(entering, pairs)
    ]
    if not np.isfinite(squares).all():
        factor = f"1/sqrt({len(blocks)}) = {show(1 / math.sqrt(len(blocks)))}"
        return (
            "Each block multiplies the stream: through what its branch adds, or through a factor on its skip path.",
            f"Multiply each branch's output by a further {factor}, or start its last layer at zero; and "
            "see that the block's input is added as it is.",
        )
    skip = math.sqrt(max(0.0, float(np.median(squares))))
    if skip > 1.5:
        return (
            f"The skip path itself multiplies the stream by about {show(skip)} in each block; the branches add "
            "little to that.",
            f"Add the block's input as it is: x + branch(x), without the factor of about {show(skip)}.",
        )
    relative = float(np.median([block.added / rms for rms, (_, block) in zip(entering, pairs)]))
    scale = min(1.0, 1 / (relative * math.sqrt(len(blocks)))) if relative > 0 else 1.0
    return (
        f"What each block adds is about {show(relative)} times the stream that enters it, so that the stream "
        "multiplies from block to block.",
        f"Multiply each branch's output by about {show(scale)}, which keeps the whole growth below two over "
        f"these {len(blocks)} blocks; or start its last layer at zero, or normalize what goes into the branch.",
    )


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
