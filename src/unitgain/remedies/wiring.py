"""What runs after what: the places where a model uses its weights, with the activation or norm around each.

The graph that tracer.py draws while one real forward pass runs, and the questions that remedies ask of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from .. import theory
from .._base import InputError
from ..graph import activations as functions
from ..graph import modules

_WEIGHTED = ("linear", "embedding", "recurrent", "attention")
# What leaves the scale of a signal as it is, or nearly so.
_TRANSPARENT = ("dropout", "reshape", "pool")

Elementwise = Callable[[Tensor], Tensor]


@dataclass(eq=False)
class Node:
    """One step of the forward pass that matters.

    name        unique: the module's path ("fc1", "fc1#2" for its second call) or "path:function"
    role        of a module (probe.modules.role), or input, sum, concat, product
    function    of an activation: itself, callable on a tensor, slopes and all
    inputs      names of the nodes whose tensors came in, in order
    unchanged   whether the first of them came in as it was, but for its shape
    parameters  names of the parameters used
    """

    name: str
    path: str
    role: str
    label: str
    position: int
    call: int = 1
    module: nn.Module | None = None
    function: Elementwise | None = None
    inputs: tuple[str, ...] = ()
    unchanged: bool = True
    parameters: tuple[str, ...] = ()
    subtracts_mean: str | None = None
    shape: tuple[int, ...] = ()
    is_output: bool = False


@dataclass(frozen=True)
class Neighbour:
    """What stands before or after a weight: kind is data, activation, norm, linear, sum, product, output or other."""

    kind: str
    label: str
    function: Elementwise | None = None
    node: Node | None = None


@dataclass(frozen=True)
class Branch:
    """A residual branch: `join` is the sum, `start` the last node that branch and skip have in common."""

    join: Node
    start: str
    nodes: tuple[Node, ...]  # of the branch alone, in execution order


class Wiring:
    """The graph of one forward pass: `nodes` by name, in execution order."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._consumers: dict[str, list[Node]] = {}

    def add(self, node: Node) -> None:
        self.nodes[node.name] = node
        for name in node.inputs:
            self._consumers.setdefault(name, []).append(node)

    def weights(self) -> list[Node]:
        """Every use of a weight in execution order: modules, and products with bare parameters."""
        return [
            n for n in self.nodes.values() if n.role in _WEIGHTED and (n.module is not None or n.parameters)
        ]

    def consumers(self, node: Node) -> list[Node]:
        return self._consumers.get(node.name, [])

    def before(self, node: Node) -> Neighbour:
        """What made the (first) input of a node, seen through dropout, reshapes and pools."""
        seen: set[str] = set()
        while node.inputs and node.name not in seen:
            seen.add(node.name)
            source = self.nodes.get(node.inputs[0])
            if source is None:
                break
            if source.role == "concat":
                return self._before_concat(source)
            if source.role not in _TRANSPARENT:
                return _as_neighbour(source)
            node = source
        return Neighbour("other", "an unknown source")

    def _before_concat(self, node: Node) -> Neighbour:
        found = [_as_neighbour(self.nodes[n]) for n in node.inputs if n in self.nodes]
        same = {f.label for f in found}
        return found[0] if len(same) == 1 else Neighbour("concat", " and ".join(sorted(same)), node=node)

    def after(self, node: Node) -> Neighbour:
        """What takes a node's output first, seen through dropout and reshapes; output if nothing does."""
        for _ in range(len(self.nodes)):
            takers = self.consumers(node)
            if not takers:
                return Neighbour("output", "the model's output" if node.is_output else "nothing", node=node)
            for role in ("norm", "activation"):  # a skip connection may take the same tensor
                for taker in takers:
                    if taker.role == role and taker.inputs[0] == node.name:
                        return _as_neighbour(taker)
            if takers[0].role not in _TRANSPARENT or len(takers) > 1:
                return _as_neighbour(takers[0])
            node = takers[0]
        return Neighbour("other", "a loop")

    def norm_after(self, node: Node) -> Node | None:
        """The norm that takes a node's output (alone, whole), which makes the output's scale moot."""
        found = self.after(node)
        return found.node if found.kind == "norm" and len(self.consumers(node)) == 1 else None

    def branches(self) -> list[Branch]:
        """Residual branches in execution order: of two tensors with a common past that are added, the one with
        more steps behind it, provided that it has a weight."""
        past: dict[str, frozenset[str]] = {}
        depth: dict[str, int] = {}
        found: list[Branch] = []
        for name, node in self.nodes.items():
            past[name] = frozenset((name,)).union(*(past.get(s, frozenset()) for s in node.inputs))
            depth[name] = 1 + max((depth.get(s, 0) for s in node.inputs), default=0)
            if node.role != "sum" or len(node.inputs) != 2 or not all(i in past for i in node.inputs):
                continue
            end, skip = sorted(node.inputs, key=lambda n: -depth[n])
            common = past[end] & past[skip]
            own = [n for n in self.nodes.values() if n.name in past[end] - past[skip]]
            if common and any(n.role in ("linear", "attention", "recurrent") for n in own):
                start = max(common, key=lambda n: self.nodes[n].position)
                found.append(Branch(node, start, tuple(own)))
        return found

    def layers(self) -> list[theory.Layer]:
        """The model as a stack for `theory.predict`: each Linear or convolution with what it is now and what follows.

        Raises InputError, naming the place, where the model is no plain stack of such layers and activations.
        """
        stack: list[theory.Layer] = []
        for node in self.nodes.values():
            if node.role in ("input", "activation", *_TRANSPARENT):
                continue
            weight = getattr(node.module, "weight", None)
            if node.role != "linear" or not isinstance(weight, Tensor) or len(self.consumers(node)) > 1:
                raise InputError(
                    f"model: {node.name} ({node.label}) makes it more than a stack that theory predicts"
                )
            bias = getattr(node.module, "bias", None)
            after = self.after(node)
            bias_std = (
                float(bias.detach().float().square().mean().sqrt()) if isinstance(bias, Tensor) else 0.0
            )
            weight_std = float(weight.detach().float().square().mean().sqrt())
            stack.append(theory.Layer(fan_in_of(node), weight_std, bias_std, after.function))
        return stack


def fan_in_of(node: Node) -> int:
    weight = node.module.weight if node.module is not None else None
    assert isinstance(weight, Tensor)
    module = node.module
    if getattr(module, "transposed", False):
        return weight.shape[0] // int(module.groups) * math.prod(weight.shape[2:])  # type: ignore[union-attr, arg-type]
    if isinstance(module, nn.Linear) or weight.dim() > 2:
        return math.prod(weight.shape[1:])
    return weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]


def _as_neighbour(node: Node) -> Neighbour:
    kind = {"input": "data", "embedding": "linear", "recurrent": "other", "attention": "linear"}.get(
        node.role, node.role
    )
    if kind not in ("data", "activation", "norm", "linear", "sum", "product", "concat"):
        kind = "other"
    return Neighbour(kind, node.label, node.function, node)


def activation_of(module: nn.Module) -> Elementwise | None:
    """The module itself if it is an elementwise function, known by its class or found by trying."""
    if functions.of_module(module) is not None:
        return module
    if next(module.parameters(), None) is not None or modules.role_of(module) != "other":
        return None
    try:
        theory.moments(module)
    except InputError:
        return None
    return module
