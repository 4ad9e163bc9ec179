"""What a Record keeps of a node: its site's attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import stats
from ..graph import Branch, Graph, Node

_MOST_CHANNELS = 64
_MOST_EXAMPLES = 20  # whose numbers are noted


@dataclass
class Place:
    """A node that is measured: its order among them, whether the Probe's patterns select it, and what is known of it
    beyond the graph."""

    node: Node
    position: int
    selected: bool
    facts: dict[str, Any] = field(default_factory=dict)


class Attributes:
    """The attributes of the sites of one graph; keys in docs/reference/record.md."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._ends: dict[str, Branch] = {}  # sites whose tensors are added to a skip connection
        for branch in graph.branches:
            if branch.site is not None:
                self._ends.setdefault(branch.site, branch)

    def of(self, place: Place) -> dict[str, Any]:
        node, graph = place.node, self._graph
        if node.kind == "input":
            return place.facts
        found: dict[str, Any] = {"path": node.path, "call": node.call, "role": node.role, "leaf": node.leaf}
        found["inputs"] = [n for n in node.given_inputs if graph.is_measured(n)]
        found["sources"] = list(graph.measured(node.given_sources))
        if node.activation is not None:
            found["function"] = node.activation.name
            if node.activation.bounds != (None, None):
                found["bounds"] = list(node.activation.bounds)
        if node.subtracts_mean is not None:
            found["subtracts_mean"] = node.subtracts_mean
        if node.module is not None:
            found["parameters"] = list(node.parameters)
        if node.batch_axis is not None:
            found["batch_axis"] = node.batch_axis
        if graph.output is not None and graph.output.name == node.name:
            found["output"] = True
        branch = self._ends.get(node.name)
        if node.name in graph.block_ends:
            found["block"] = "block"
        elif branch is not None:
            found["block"] = "branch"
            if branch.scaled:  # x + 0.1 * branch(x): what was added is not what was measured
                found["scaled"] = True
        return found


def describe_input(tensor: Tensor, channel_axis: int | None) -> dict[str, Any]:
    """What a prescription for an input needs: its channels' scales, whether it is a mask, which examples are bad."""
    integer = not tensor.is_floating_point()
    found: dict[str, Any] = {"integer": integer}
    if tensor.grad_fn is not None:  # another network made it
        found["computed"] = True
    if integer:
        return found
    if not stats.is_plain(tensor):
        values = stats.stored(tensor)
        return found | {"binary": bool(((values == 0) | (values == 1)).all()), "sparse": not tensor.is_nested}
    bad = ~torch.isfinite(tensor)
    asked = {"binary": ((tensor == 0) | (tensor == 1)).all(), "bad": bad.any()}
    if channel_axis is not None and tensor.shape[channel_axis] <= _MOST_CHANNELS:
        by_channel = torch.where(bad, 0.0, tensor).movedim(channel_axis, 0).flatten(1)
        by_channel = by_channel if tensor.device.type == "mps" else by_channel.double()
        asked |= {"channel_mean": by_channel.mean(1), "channel_std": by_channel.std(1, correction=0)}
    fetched = dict(zip(asked, stats.fetch(list(asked.values()))))
    found["binary"] = bool(fetched["binary"])
    if fetched["bad"] and tensor.dim():
        of_example = bad.reshape(tensor.shape[0], -1).any(1).cpu()
        found["bad_examples"] = of_example.nonzero().flatten()[:_MOST_EXAMPLES].tolist()
        found["bad_count"] = int(of_example.sum())
        found["minus_infinity"] = bool((tensor[bad] == -torch.inf).all())
    for name in ("channel_mean", "channel_std"):
        if name in fetched:
            found[name] = [round(v, 6) for v in fetched[name].tolist()]
    return found
