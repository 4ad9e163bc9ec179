"""Graph: what has been understood of a model from one pass, and the questions that are asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from .branch import Branch
from .node import Neighbour, Node, Norm, Weight

_KINDS = ("data", "activation", "norm", "linear", "sum", "product", "concat")
_AS = {"input": "data", "embedding": "linear", "attention": "linear"}


class Graph:
    """The nodes of a pass in execution order, what goes into what, and the residual branches.

    model     the model's class
    nodes     {name: Node}
    branches  residual branches in execution order of their sums; see `Branch`
    outputs   names of the nodes that the model's outputs come from
    output    the node that is the model's first output; None if it has none

    Made by `unitgain.graph.trace(model, batch)`. Print it, or take `to_dict()`.

    >>> import torch
    >>> from torch import nn
    >>> from unitgain.graph import trace
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 4))
    >>> graph = trace(model, torch.randn(5, 8))
    >>> [(w.name, w.before.label, w.after.label) for w in graph.weights()]
    [('0', 'data', 'LeakyReLU(negative_slope=0.2)'), ('2', 'LeakyReLU(negative_slope=0.2)', "the model's output")]
    >>> [node.name for node in graph.consumers("0")], [node.name for node in graph.path("input", "2")]
    (['1'], ['0', '1'])
    """

    def __init__(
        self,
        model: str,
        nodes: Iterable[Node],
        branches: tuple[Branch, ...] = (),
        outputs: tuple[str, ...] = (),
        output: str | None = None,
        ends: Iterable[str] = (),
    ):
        self.model = model
        numbered = (n if n.position == i else replace(n, position=i) for i, n in enumerate(nodes))
        self.nodes: Mapping[str, Node] = {n.name: n for n in numbered}
        self.branches = branches
        self.outputs = outputs
        self.output = self.nodes.get(output) if output is not None else None
        self.block_ends = frozenset(ends)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __str__(self) -> str:
        from .text import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"<Graph of {self.model}: {len(self)} nodes, {len(self.branches)} residual branches>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, stable; see docs/reference/graph.md."""
        from .text import as_dict

        return as_dict(self)

    # ---- what goes into what -------------------------------------------------------------------------------

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self:
            for name in node.sources:
                found.setdefault(name, []).append(node)
        return found

    def _node(self, node: Node | str) -> Node:
        return self.nodes[node] if isinstance(node, str) else node

    def producers(self, node: Node | str, *, direct: bool = False) -> list[Node]:
        """The nodes whose tensors went into this one. direct: only those that came in unchanged but for their shape."""
        found = self._node(node)
        return [self.nodes[n] for n in (found.inputs if direct else found.sources) if n in self.nodes]

    def consumers(self, node: Node | str, *, direct: bool = False) -> list[Node]:
        """The nodes into which this one's tensor went."""
        name = self._node(node).name
        return [n for n in self._consumers.get(name, []) if not direct or name in n.inputs]

    def path(self, start: Node | str, end: Node | str) -> list[Node]:
        """Every node between two nodes, in execution order: the first leads to them, and they lead to the second."""
        first, last = self._node(start), self._node(end)
        after = {first.name}
        for node in self:
            if after.intersection(node.sources):
                after.add(node.name)
        wanted, found = {last.name}, []
        for node in reversed(list(self)):
            if node.name in wanted:
                wanted.update(node.sources)
                if node.name in after and node.name not in (first.name, last.name):
                    found.append(node)
        return found[::-1]

    def is_measured(self, name: str) -> bool:
        """Whether a node is an input or a site of a Probe."""
        node = self.nodes.get(name)
        return node is not None and (node.site or node.kind == "input")

    def measured(self, names: Iterable[str]) -> tuple[str, ...]:
        """The nearest inputs and sites that these nodes come from: themselves, or those before them."""
        found: dict[str, None] = {}
        for name in names:
            found.update(
                dict.fromkeys((name,) if self.is_measured(name) else self._measured_before.get(name, ()))
            )
        return tuple(found)

    @cached_property
    def _measured_before(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for node in self:  # sources come before
            if not self.is_measured(node.name):
                each = ((s,) if self.is_measured(s) else found.get(s, ()) for s in node.sources)
                found[node.name] = tuple(dict.fromkeys(name for names in each for name in names))
        return found

    def is_output(self, node: Node) -> bool:
        return node.name in self.outputs

    # ---- before and after ----------------------------------------------------------------------------------

    def before(self, node: Node | str) -> Neighbour:
        """What made the (first) input of a node, seen through dropout, reshapes, pools and arithmetic."""
        node = self._node(node)
        seen: set[str] = set()
        while node.sources and node.name not in seen:
            seen.add(node.name)
            source = self.nodes.get(node.sources[0])
            if source is None:
                break
            if source.role == "concat":
                return self._before_concat(source)
            if not source.transparent:
                return _neighbour(source)
            node = source
        return Neighbour("other", "an unknown source" if node.sources else "a constant")

    def _before_concat(self, node: Node) -> Neighbour:
        found = [self._made(name) for name in node.sources if name in self.nodes]
        same = {f.label for f in found}
        return found[0] if len(same) == 1 else Neighbour("concat", " and ".join(sorted(same)), node=node)

    def _made(self, name: str) -> Neighbour:
        """What made this tensor: the node itself, or what is before it if it leaves signals as they are."""
        node = self.nodes[name]
        return self.before(node) if node.transparent else _neighbour(node)

    def after(self, node: Node | str) -> Neighbour:
        """What takes a node's output first, seen through dropout, reshapes and pools; output if nothing does."""
        node = self._node(node)
        for _ in range(len(self.nodes)):
            takers = self.consumers(node)
            if not takers:
                last = self.is_output(node)
                return Neighbour("output", "the model's output" if last else "nothing", node=node)
            for role in ("norm", "activation"):  # a skip connection may take the same tensor
                for taker in takers:
                    if taker.role == role and taker.sources[0] == node.name:
                        return _neighbour(taker)
            if not takers[0].transparent or len(takers) > 1:
                return _neighbour(takers[0])
            node = takers[0]
        return Neighbour("other", "a loop")

    def norm_after(self, node: Node | str) -> Node | None:
        """The norm that takes a node's output (alone, whole), which makes the output's scale moot."""
        found = self.after(node)
        return found.node if found.kind == "norm" and len(self.consumers(node)) == 1 else None

    # ---- weights, norms, branches --------------------------------------------------------------------------

    def weights(self) -> list[Weight]:
        """Every use of a weight in execution order: layers, and products with bare parameters."""
        return [Weight(n, self.before(n), self.after(n), self.norm_after(n)) for n in self if n.weighted]

    def weight(self, node: Node | str) -> Weight:
        """One use of a weight."""
        found = self._node(node)
        return Weight(found, self.before(found), self.after(found), self.norm_after(found))

    def norms(self) -> list[Norm]:
        """Every norm, what feeds it, and the bias that it absorbs."""
        return [Norm(n, self.before(n), self._absorbed(n)) for n in self if n.role == "norm"]

    def _absorbed(self, norm: Node) -> str | None:
        """The bias of the layer right before a norm that subtracts each channel's mean, if nothing else sees it."""
        before = self.producers(norm, direct=True)
        if norm.subtracts_mean != "channel" or len(before) != 1 or before[0].role != "linear":
            return None
        layer = before[0]
        alone = self.consumers(layer) == [norm] and not self.is_output(layer)
        biases = [p for p in layer.parameters if p.rpartition(".")[2] == "bias"]
        once = sum(bool(set(biases) & set(n.parameters)) for n in self) == 1
        return biases[0] if alone and once and len(biases) == 1 else None

    def residual_sums(self) -> list[list[Branch]]:
        """The branches of each residual sum: more than one where they are parallel."""
        found: dict[str, list[Branch]] = {}
        for branch in self.branches:
            found.setdefault(branch.sum, []).append(branch)
        return list(found.values())

    def head(self) -> Node | None:
        """The last weight or norm with a gain in execution order whose output goes nowhere but out of the model."""
        for node in reversed(list(self)):
            gains = node.role == "norm" and node.module is not None and "weight" in node.module._parameters
            last = (node.weighted and node.role == "linear") or gains
            if last and self.after(node).kind == "output":
                return node
        return None

    def concatenations(self) -> list[Node]:
        """Where tensors are joined: DenseNet's features, a U-Net's skips."""
        return [n for n in self if n.kind == "concat"]


def _neighbour(node: Node) -> Neighbour:
    kind = _AS.get(node.role, node.role)
    return Neighbour(kind if kind in _KINDS else "other", node.label, node.function, node)
