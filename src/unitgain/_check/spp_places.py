"""Where a signal propagation plot looks: the ends of residual blocks and of their branches; without any, of layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..graph import Branch, Graph, Node


@dataclass(frozen=True)
class Place:
    """A tensor that is measured: its number in the pass, the axis of its channels (None: the tensor's own), its site's
    attributes."""

    name: str
    number: int
    axis: int | None
    shape: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def places_of(graph: Graph, numbers: Mapping[str, int]) -> list[Place]:
    """numbers: of the tensors that nodes made, by the nodes' names."""
    return _of_blocks(graph) if graph.branches else _of_layers(graph, numbers)


def _of_blocks(graph: Graph) -> list[Place]:
    """The stem; then for each residual sum the ends of its branches, and of its block."""
    sums = graph.residual_sums()
    first = sums[0][0]
    found: list[Place] = []
    if first.places[0] is not None:
        found.append(Place("stem", first.places[0], None, (), {"block": "stem", "path": first.path}))
    repeats: Counter[str] = Counter()
    for number, branches in enumerate(sums, start=1):
        branch = branches[0]
        base = branch.path if branch.last else f"{branch.path}:add"
        repeats[base] += 1
        name = base if repeats[base] == 1 else f"{base}#{repeats[base]}"
        ends = [f"{name}:branch" + (f"#{i}" if i > 1 else "") for i in range(1, len(branches) + 1)]
        shared = {"path": branch.path, "call": branch.call, "number": number}
        for end, each in zip(ends, branches):
            what = {**shared, "block": "branch", "of": name, **_alpha(each)}
            found.append(Place(end, each.places[1], each.axis, each.shape, what))
        what = {"block": "block", "branch": ends[0], "transition": branch.transition, "after": branch.after}
        alpha = _alpha(branch) if len({b.scale for b in branches}) == 1 else {}
        found.append(Place(name, branch.places[2], branch.axis, branch.shape, {**shared, **what, **alpha}))
    return found


def _of_layers(graph: Graph, numbers: Mapping[str, int]) -> list[Place]:
    """For each layer with weights what goes on from it to the next one: behind its norm, activation, pool. A stage
    begins where the number of positions changes."""
    found: list[Place] = []
    size: tuple[int, ...] = ()
    for node in graph:
        if not node.weighted or node.role != "linear" or node.name not in numbers:
            continue
        end = _end(graph, node, numbers)
        positions = _positions(end)
        what = {
            "block": "block", "path": node.path, "call": node.call, "number": len(found) + 1,
            "transition": bool(found) and positions != size,
        }  # fmt: skip
        found.append(Place(node.name, numbers[end.name], end.channel_axis, end.shape, what))
        size = positions
    return found


def _end(graph: Graph, node: Node, numbers: Mapping[str, int]) -> Node:
    while True:
        takers = [taker for taker in graph.consumers(node) if taker.kind != "block"]
        if len(takers) != 1 or takers[0].name not in numbers:
            return node
        taker = takers[0]
        if taker.weighted and taker.role == "linear":
            return node
        if (taker.role not in ("norm", "activation") and not taker.transparent) or _channels(
            taker
        ) != _channels(node):
            return node
        node = taker


def _channels(node: Node) -> int | None:
    return None if node.channel_axis is None else node.shape[node.channel_axis]


def _positions(node: Node) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(node.shape) if i not in (0, node.channel_axis))


def _alpha(branch: Branch) -> dict[str, float]:
    return {} if branch.scale is None else {"alpha": branch.scale}


__all__ = ["Place", "places_of"]
