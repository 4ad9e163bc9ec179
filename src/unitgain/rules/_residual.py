"""Residual blocks as a record shows them: the stream at their ends, and what each adds to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ._view import Measured, View


@dataclass(frozen=True)
class Block:
    """A residual block: its output, and the ends of the branches that are added inside it."""

    path: str
    stream: Measured
    branches: tuple[Measured, ...]

    @property
    def added(self) -> float:
        """rms of all that its branches add, were they independent; NaN if that went through arithmetic unseen."""
        if any(m.site.attributes.get("scaled") for m in self.branches):
            return math.nan
        return math.sqrt(sum(m["rms"] ** 2 for m in self.branches if math.isfinite(m["rms"])))


def residual_blocks(view: View) -> list[Block]:
    """The blocks of a residual network, in execution order: repeated modules in which something is added to the
    stream. Empty if there are none."""
    ends = [m for m in view.activations if m.ends_branch and not m.broken]
    blocks = []
    for stream in view.activations:
        path = _path_of_block(stream)
        inside = [m for m in ends if path and m.path.startswith(f"{path}.")]
        if inside and not stream.broken and 0 < stream["rms"] < math.inf:
            blocks.append(Block(path, stream, tuple(inside)))
    return [b for b in blocks if not any(other.path.startswith(f"{b.path}.") for other in blocks)]


def _path_of_block(measured: Measured) -> str:
    """The block whose output this is, "" if it is none: its own site, or that of the last module inside it."""
    if measured.role == "block":
        return measured.path
    return measured.path.rpartition(".")[0] if measured.ends_block else ""


@dataclass(frozen=True)
class Growth:
    """What makes a stream grow from block to block.

    skip      what the skip path multiplies the stream by, in the typical block; NaN where the branches' ends went
              through arithmetic that was not measured
    relative  rms of what the branches add, over that of the stream that enters
    """

    skip: float
    relative: float


def growth_of_stream(blocks: Sequence[Block]) -> Growth:
    """What leaves a block is skip times what enters it, plus what the branches add; taken for independent,
    skip^2 = (out^2 - added^2) / in^2."""
    pairs = [(before.stream["rms"], block) for before, block in pairwise(blocks)]
    squares = [(block.stream["rms"] ** 2 - block.added**2) / rms**2 for rms, block in pairs]
    if not np.isfinite(squares).all():
        return Growth(math.nan, math.nan)
    skip = math.sqrt(max(0.0, float(np.median(squares))))
    return Growth(skip, float(np.median([block.added / rms for rms, block in pairs])))
