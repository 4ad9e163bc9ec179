"""Why a network's variance is off: the steps at which it departs from one, and the factor that mends each.

A step is what should leave the variance as it is: a layer together with the activation in front of it (whose loss the
layer's gain is to make good), a pool, a gate, attention together with the layers of its queries, keys and values (to
scale these would change the scores, too). Its ratio is the variance behind it over that in front, as measured.
Left out are layers, pools and gates with a norm right behind, which sets the variance; outputs that are all zero; what
stands behind the last residual sum (the head); pools to one value; layers that start from the data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .branch import Branch
from .graph import Graph
from .node import Node
from .propagate import Claim

_MOST = 64  # nodes that are looked through
_NOTEWORTHY = 1.25  # ratios closer to one are not listed
_THROUGH = ("activation", "dropout", "reshape", "pool")
_BETWEEN = (
    *_THROUGH,
    "norm",
    "concat",
    "sum",
    "scale",
    "other",
)  # of a layer and the attention that it is for
_MATRICES = ("matmul", "mm", "bmm", "baddbmm", "einsum", "tensordot")


@dataclass(frozen=True)
class Departure:
    """node, and what it is ("2x2 average pool"); ratio of the variances behind and in front; factor: what to multiply
    its output by, or the branch that it ends."""

    node: str
    what: str
    ratio: float
    factor: float
    ends_branch: bool = False

    def __str__(self) -> str:
        change = (
            f"divides the variance by {1 / self.ratio:.3g}"
            if self.ratio < 1
            else f"multiplies it by {self.ratio:.3g}"
        )
        mended = "its branch" if self.ends_branch else "its output"
        return f"{self.node} ({self.what}) {change}: multiply {mended} by {self.factor:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the sentence under "text"."""
        return {**asdict(self), "text": str(self)}


def departures(graph: Graph, claims: Mapping[str, Claim]) -> list[Departure]:
    """Every step whose variance ratio is not one, the largest departure first."""
    sums = [graph[b.sum].position for b in graph.branches if b.sum in graph.nodes]
    last = max(sums, default=len(graph))
    ends = {b.end for b in graph.branches}
    found = []
    for node in graph:
        ratio = _ratio(graph, node, claims) if node.position < last else None
        if ratio is not None and max(ratio, 1 / ratio) > _NOTEWORTHY:
            found.append(Departure(node.name, _what(graph, node), ratio, ratio**-0.5, node.name in ends))
    return sorted(found, key=lambda d: -abs(math.log(d.ratio)))


def branch_to_stream(
    branches: Sequence[Branch], by_number: Mapping[int, Claim], by_node: Mapping[str, Claim]
) -> float | None:
    """The variance that the branches of one sum add, over that of the stream that they are added to."""
    first = branches[0]
    start = by_node.get(first.skip_end or "") if first.skip else None
    if start is None and first.places[0] is not None:
        start = by_number.get(first.places[0])
    ends = [by_number.get(b.places[1]) for b in branches]
    if start is None or first.skip_scale is None:
        return None
    added = 0.0
    for branch, end in zip(branches, ends):
        if end is None or branch.scale is None:
            return None
        added += branch.scale**2 * end.measured[0]
    stream = first.skip_scale**2 * start.measured[0]
    return added / stream if stream > 0 else None


def _ratio(graph: Graph, node: Node, claims: Mapping[str, Claim]) -> float | None:
    layer = node.role == "linear" and node.kind != "block" and not _for_attention(graph, node)
    pool = node.role == "pool" and any(n > 1 for n in node.shape[2:])
    weighs = _is_attention(graph, node)
    gate = node.kind == "product" and not weighs and not _for_attention(graph, node)
    if not (layer or pool or gate or weighs) or graph.norm_after(node) is not None:
        return None
    if weighs:
        source, between = _in_front_of_attention(graph, node), []
    else:
        source, between = _in_front(graph, node) if layer else (_largest(graph, node), [])
    if source is None or source.kind == "input":
        return None
    found = _quotient(node, source, claims)
    for pool_between in between:  # has a ratio of its own
        other = _quotient(pool_between, _largest(graph, pool_between), claims)
        found = None if found is None or other is None else found / other
    return found


def _quotient(node: Node, source: Node | None, claims: Mapping[str, Claim]) -> float | None:
    behind, front = claims.get(node.name), claims.get(source.name) if source is not None else None
    if behind is None or front is None or behind.measured[0] <= 0 or front.measured[0] <= 0:
        return None
    return behind.measured[0] / front.measured[0]


def _in_front(graph: Graph, node: Node) -> tuple[Node | None, list[Node]]:
    """What stands in front of the activation in front of a layer, and the pools between."""
    pools: list[Node] = []
    while node.sources:
        source = graph.nodes.get(node.sources[0])
        if source is None or source.role not in _THROUGH:
            return source, pools
        if source.role == "pool":
            pools.append(source)
        node = source
    return None, pools


def _is_attention(graph: Graph, node: Node) -> bool:
    """A module or function that is, or the product of softmax's weights with values."""
    if node.role == "attention":
        return node.kind != "block"
    if node.kind != "product" or node.type not in _MATRICES:
        return False
    return any(n.role == "softmax" for n in _made_from(graph, node, ("dropout", "reshape")))


def _for_attention(graph: Graph, node: Node) -> bool:
    """Whether a layer makes queries, keys or values, or a product scores."""
    seen, stack = {node.name}, [node]
    while stack:
        for taker in graph.consumers(stack.pop()):
            if taker.role == "softmax" or _is_attention(graph, taker):
                return True
            wanted = taker.role in _BETWEEN or (taker.kind == "product" and taker.type in _MATRICES)
            if wanted and taker.name not in seen and len(seen) < _MOST:
                # a sum that a stream goes on from is not between
                if taker.role == "sum" and taker.name in {b.sum for b in graph.branches}:
                    continue
                seen.add(taker.name)
                stack.append(taker)
    return False


def _in_front_of_attention(graph: Graph, node: Node) -> Node | None:
    """What the layer of its values, the last one, is given; of a module, what that is given."""
    if node.module is not None:
        return next((graph.nodes[s] for s in node.sources if s in graph.nodes), None)
    layers = [n for n in _made_from(graph, node, _BETWEEN) if n.role == "linear"]
    return _in_front(graph, max(layers, key=lambda n: n.position))[0] if layers else None


def _made_from(graph: Graph, node: Node, through: Sequence[str]) -> list[Node]:
    """The nearest nodes that it was made from, looked at through those of these roles."""
    found: list[Node] = []
    seen, stack = set(), list(graph.producers(node))
    while stack and len(seen) < _MOST:
        source = stack.pop()
        if source.name in seen:
            continue
        seen.add(source.name)
        if source.role in through:
            stack += graph.producers(source)
        else:
            found.append(source)
    return found


def _largest(graph: Graph, node: Node) -> Node | None:
    return max(graph.producers(node), key=lambda n: math.prod(n.shape), default=None)


def _what(graph: Graph, node: Node) -> str:
    if _is_attention(graph, node):
        return "attention" if node.module is None else node.type
    if node.kind == "product":
        return "product" if node.type in _MATRICES else "gate"
    module = node.module
    window = getattr(module, "kernel_size", None)
    name = node.type
    if window is not None:
        sizes = window if isinstance(window, (list, tuple)) else (window,) * (len(node.shape) - 2)
        shape = "x".join(map(str, sizes))
        kind = "max pool" if "Max" in name else "average pool" if "Avg" in name else "pool"
        if node.role != "pool":
            groups = int(getattr(module, "groups", 1))
            deep = groups > 1 and groups == getattr(module, "in_channels", 0)
            kind = "depthwise convolution" if deep else "grouped convolution" if groups > 1 else "convolution"
        return f"{shape} {kind}"
    return name
