"""UG607: residual streams."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .catalogue import CATALOGUE
from .finding import Finding
from .flow import block_ends, has_residual_branches
from .scale import why_stream_grows
from .trend import residual_blocks
from .view import CannotJudge, View, show


def residual_growth(view: View) -> Iterator[Finding]:
    """UG607: the stream's variance multiplies from block to block instead of adding up."""
    entry = CATALOGUE["UG607"]
    ends = [m for m in block_ends(view) if m["rms"] > 0 and math.isfinite(m["rms"])]
    if not has_residual_branches(view) or len(ends) < entry.limit("blocks"):
        raise CannotJudge("fewer than four residual blocks")
    log = 2 * np.log10([m["rms"] for m in ends])
    steps = np.array(
        [
            after - before
            for (a, before), (b, after) in zip(zip(ends, log), zip(ends[1:], log[1:]))
            if a.site.shape == b.site.shape
        ]
    )
    if len(steps) < entry.limit("blocks") - 1:
        raise CannotJudge("too few neighbouring blocks of one shape")
    later = float(np.median(steps[len(steps) // 2 :]))
    total = min(
        float(log[-1] - log[0]), later * (len(ends) - 1)
    )  # without a first jump from a small embedding
    if later <= math.log10(entry.limit("per_block")) or total <= math.log10(entry.limit("total")):
        return
    per_block, change = 10**later, 10 ** min(total, 300.0)
    first, last = ends[0], ends[-1]
    cause, remedy = _why(view, len(ends), per_block)
    yield entry.finding(
        "error" if total > math.log10(entry.limit("error")) else "warning",
        first.name,
        f"the residual stream's variance multiplies by {show(per_block)} per block and grows {show(change)}-fold "
        f"over {len(ends)} blocks: rms {show(first['rms'])} at {first.name}, {show(last['rms'])} at {last.name}",
        evidence={
            "per_block": per_block,
            "change": change,
            "blocks": len(ends),
            "first_site": first.name,
            "last_site": last.name,
        },
        cause=cause,
        remedy=remedy,
    )


def _why(view: View, blocks: int, per_block: float) -> tuple[str, str]:
    """(cause, remedy): through its branches or its skip paths, where what is added to the stream was measured."""
    found = residual_blocks(view)
    if len(found) >= CATALOGUE["UG302"].limit("sites"):
        return why_stream_grows(found)
    scale = show(1 / math.sqrt(blocks * max(per_block - 1, 0.1)))
    return (
        "Each branch adds a share of the stream's own variance, as branches do that nothing normalizes or scales down.",
        f"{CATALOGUE['UG607'].action} (Multiplying each branch by {scale} keeps the growth over all blocks below a "
        "factor of e.)",
    )
