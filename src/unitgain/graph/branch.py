"""Branch: a residual branch, as branches.py finds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Branch:
    """One residual branch.

    sum         name of the node that adds it to the skip; parallel branches share it
    path, call  of the module in whose forward the sum stands
    start       the node whose output skip and branch part from
    nodes       of the branch alone, in execution order, those of nested branches too
    end         the node that made what the branch brings, before gates, factors and dropout; None if that is no node's
    site        the site whose tensor is added; scaled: it goes through arithmetic (a factor, a gate) before
    skip        nodes on the skip path: () where it is the start itself
    transition  whether the skip path has weights
    skip_end    the node that made what the skip path brings, where that is no identity
    scale, skip_scale  what branch and skip are multiplied by; None if that is not one number
    order       "pre": norm or activation come before the first weight; "post": right behind the sum; "" neither
    after       what is between the sum and the block's end: "", "relu" or "other"
    last        whether it is the last residual sum in that call of the module
    block       name of the node at which the block ends: what the module that adds returns, for the last sum in it
    axis        of the channels of the sum
    places      numbers of the tensors in the pass: the block's input (None: not known), the branch's end, the block's
                end
    inside      the sum of the smallest branch that this one is nested in, or None
    """

    sum: str
    path: str
    call: int
    start: str
    nodes: tuple[str, ...]
    end: str | None
    site: str | None
    scaled: bool
    skip: tuple[str, ...]
    transition: bool
    skip_end: str | None
    scale: float | None
    skip_scale: float | None
    order: str
    after: str
    last: bool
    block: str
    shape: tuple[int, ...]
    axis: int | None
    places: tuple[int | None, int, int] = field(compare=False, repr=False)
    inside: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; see docs/reference/graph.md."""
        return {
            "sum": self.sum, "start": self.start, "nodes": list(self.nodes), "end": self.end, "skip": list(self.skip),
            "transition": self.transition, "scale": self.scale, "skip_scale": self.skip_scale, "order": self.order,
            "block": self.block, "inside": self.inside,
        }  # fmt: skip
