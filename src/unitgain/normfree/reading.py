"""What normalization stands where in a model: one pass followed, and what each norm's input was computed from.

The graph says what feeds what. To fold a norm more has to be certain: that the layer before it feeds nothing else, and
that nothing but a change of shape lies between them. For that every value of the pass is kept (see `graph.Value`;
numbers and names, no tensors), with how often it was used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from .. import graph as graphs
from .._batch import Batch
from .._run import in_place
from ..graph import Call, Graph, Listener, Node, Tracer, Value
from ..nn import BatchNorm, BranchScale, ChannelAffine, SkipInit

# views that leave channels whole and in their order
_VIEWS = frozenset("""view reshape flatten permute transpose swapaxes swapdims squeeze unsqueeze contiguous view_as
    reshape_as clone to type type_as float double half bfloat16 unflatten positive alias""".split())  # noqa: SIM905  # fmt: skip
_FROZEN = (
    "FrozenBatchNorm2d",
    "FrozenBatchNormAct2d",
)  # of torchvision and timm: all four tensors are buffers


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it normalizes by the statistics of the batch in training: torch's kinds, subclasses of them, and ours."""
    return isinstance(module, (_BatchNorm, BatchNorm)) and type(module).__name__ not in _FROZEN


NORMS = ("group", "instance")
"""Norms that treat each example by itself: converted where they are asked for."""


def is_converted(module: nn.Module, norms: Collection[str] = ()) -> bool:
    """Whether convert is to take this norm out: BatchNorms, and the other kinds that were asked for."""
    if is_batch_norm(module):
        return True
    names = {cls.__name__ for cls in type(module).__mro__}
    return ("group" in norms and "GroupNorm" in names) or (
        "instance" in norms and bool(names & {"_InstanceNorm", "InstanceNorm"})
    )


def is_affine(module: nn.Module) -> bool:
    """Whether it multiplies and shifts channels by fixed numbers: frozen BatchNorms, and what convert put in."""
    return type(module).__name__ in _FROZEN or isinstance(module, (ChannelAffine, BranchScale, SkipInit))


_FUNCTIONS = ("batch_norm", "group_norm", "instance_norm")


class Values(Listener):
    """Listener: every value of a pass, by the node whose output it is, and the axis of concatenations."""

    def __init__(self) -> None:
        self.of_node: dict[str, Value] = {}
        self.all: list[Value] = []
        self.concat_axis: dict[int, int] = {}

    def value(self, value: Value, tensor: Tensor, call: Call) -> None:
        self.all.append(value)
        if value.node is not None:
            self.of_node[value.node] = value
        if value.kind == "concat" and tensor.dim():
            axis = call.get(1, "dim", call.kwargs.get("axis", 0))
            if isinstance(axis, int):
                self.concat_axis[value.number] = axis % tensor.dim()


@dataclass(frozen=True)
class Producer:
    """A layer whose output channels are the norm's channels start ... start + count, and which feeds nothing else."""

    node: Node
    start: int
    count: int


@dataclass(frozen=True)
class Place:
    """One call of a norm.

    path       of the module
    node       the norm's; of a module that calls F.batch_norm itself (timm's BatchNormAct2d) that function's
    channels   C
    rank       number of axes of its input
    producers  layers that its scale can go into; () where there are none, and then `why` says why
    following  the layer without padding that alone takes its output, if there is one
    alone      whether nothing but the norm takes its input
    """

    path: str
    node: Node
    channels: int
    rank: int
    producers: tuple[Producer, ...] = ()
    why: str = ""
    following: Node | None = None
    alone: bool = True


@dataclass
class Reading:
    """A pass of a model: its graph, the calls of each norm by path, and the functions that no module stands for."""

    graph: Graph
    values: Values
    places: dict[str, list[Place]] = field(default_factory=dict)
    functional: list[str] = field(default_factory=list)


def read(model: nn.Module, batch: Batch, *, training: bool, norms: Collection[str] = ()) -> Reading:
    """One pass, followed, without gradients; the model is left as it was.

    training  as in training (auxiliary heads run) but for dropout and the norms, which stay in evaluation mode
    norms     kinds of NORMS that are looked for beside BatchNorm
    """
    values = Values()
    with in_place(model, batch=batch), torch.no_grad():
        model.train(training)
        for module in model.modules():
            if is_converted(module, norms) or graphs.role_of(module) == "dropout":
                module.eval()
        tracer = Tracer(model, values, theory=True)
        graphs.run(tracer, batch)
    graph = tracer.graph()
    found = Reading(graph, values)
    owners = dict(model.named_modules())
    children: dict[int, list[Value]] = {}
    for value in values.all:
        for parent in value.parents:
            children.setdefault(parent.number, []).append(value)
    for node in graph:
        if node.name not in values.of_node:
            continue
        owner = node.module if node.module is not None else owners.get(node.path)
        if owner is None:
            continue
        functional = node.type in _FUNCTIONS and node.kind == "function"
        if functional and not is_converted(owner, norms):
            if node.type == "batch_norm" and values.of_node[node.name].signal and node.sources:
                found.functional.append(node.name)
            continue
        if not functional and (node.module is None or not (is_converted(owner, norms) or is_affine(owner))):
            continue
        if not functional and node.kind == "block" and any(True for _ in owner.children()):
            continue  # its F.batch_norm is a node of its own
        place = _place(graph, values, children, node, owner)
        found.places.setdefault(node.path, []).append(place)
    return found


def channels_of(module: nn.Module) -> int | None:
    """C of a norm or an affine module; None for one number for all channels."""
    for name in ("num_features", "num_channels", "channels"):
        if isinstance(size := getattr(module, name, None), int):
            return size
    weight = getattr(module, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.dim() else None


def _place(
    graph: Graph, values: Values, children: dict[int, list[Value]], node: Node, owner: nn.Module
) -> Place:
    value = values.of_node[node.name]
    own = channels_of(owner)
    given = next((p for p in value.parents if p.signal), None)
    if (
        own is None and given is not None and given.axis is not None
    ):  # one number for all channels, on whichever axis
        producers, why = _producers(graph, values, given, given.shape[given.axis], axis=given.axis)
        return Place(node.path, node, given.shape[given.axis], len(value.shape), producers, why)
    channels = own or (value.shape[1] if len(value.shape) > 1 else 0)
    if given is None or len(value.shape) < 2 or value.shape[1] != channels:
        return Place(node.path, node, channels, len(value.shape), (), "its input is not (N, C, ...)")
    producers, why = _producers(graph, values, given, channels)
    following = _following(graph, children, value)
    alone = bool(producers) or _back(graph, given)[1] == ""
    return Place(node.path, node, channels, len(value.shape), producers, why, following, alone)


def _producers(
    graph: Graph, values: Values, given: Value, channels: int, axis: int = 1
) -> tuple[tuple[Producer, ...], str]:
    start, why = _back(graph, given)
    if why:
        return (), why
    if start.kind == "concat" and start.node is not None:
        if values.concat_axis.get(start.number) != 1 or sum(p.shape[1] for p in start.parents) != channels:
            return (), "its input is a concatenation along another axis than the channels"
        found: list[Producer] = []
        for parent in start.parents:
            layer, why = _back(graph, parent)
            if why or layer.axis != 1 or not _is_layer(graph, layer):
                return (), "its input is a concatenation of more than layers that feed it alone"
            found.append(Producer(graph[layer.node or ""], sum(p.count for p in found), parent.shape[1]))
        return tuple(found), ""
    if not _is_layer(graph, start):
        made = graph.nodes.get(start.node or "")
        return (
            (),
            f"its input is made by {made.label if made is not None else start.name or start.kind}, not by a layer",
        )
    if given.axis != axis or start.axis is None or start.shape[start.axis] != channels:
        return (), "its channels are not those of the layer before it"
    return (Producer(graph[start.node or ""], 0, channels),), ""


def _back(graph: Graph, value: Value) -> tuple[Value, str]:
    """(the value that this one is a view of, why it cannot be said to feed nothing else)."""
    while True:
        if value.uses != 1:
            return value, "what it is given is used elsewhere too"
        if value.node is not None and value.node in graph.outputs:
            return value, "what it is given is an output of the model too"
        node = graph.nodes.get(value.node or "")
        view = value.kind == "view" and value.name in _VIEWS
        block = (
            value.kind == "node" and node is not None and node.kind == "block" and not _is_layer(graph, value)
        )
        if not (view or (block and len(value.parents) == 1)):
            return value, ""
        value = value.parents[0]


def _is_layer(graph: Graph, value: Value) -> bool:
    node = graph.nodes.get(value.node or "")
    return node is not None and node.role == "linear" and node.module is not None and node.leaf


def _following(graph: Graph, children: dict[int, list[Value]], value: Value) -> Node | None:
    """The torch Linear or convolution without padding that takes the norm's output, if nothing else does."""
    while True:
        after = children.get(value.number, [])
        if len(after) != 1 or value.node in graph.outputs:
            return None
        value = after[0]
        node = graph.nodes.get(value.node or "")
        if value.kind == "view" and value.name in _VIEWS and value.axis == 1:
            continue
        layer = None if node is None else node.module
        if node is None or type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
            return None
        padded = any(map(bool, layer.padding)) if not isinstance(layer, nn.Linear) else len(value.shape) != 2  # type: ignore[union-attr]
        return None if padded or isinstance(getattr(layer, "padding", None), str) else node


def count_batch_norms(model: nn.Module, batch: Batch, *, training: bool) -> int:
    """How often batch normalization ran in one pass, counted where torch computes it, whoever asked for it.

    Independent of the graph. Weights that are standardized by torch's batch norm go by as one example of shape
    (1, rows, weights) and are not counted, so that the batch needs two examples.
    """
    counter = _Counter()
    with in_place(model, batch=batch), torch.no_grad():
        model.train(training)
        given = batch.clone()
        with counter:
            model(*given.args, **given.kwargs)
    return counter.count


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        if "batch_norm" in name and "backward" not in name and "_stats" not in name:
            shape = tuple(args[0].shape)
            self.count += not (len(shape) == 3 and shape[0] == 1)
        return function(*args, **(kwargs or {}))


def other_norms(model: nn.Module) -> Iterator[tuple[str, str]]:
    """(path, class) of the norms that are left alone: they treat each example by itself."""
    for path, module in model.named_modules():
        alone = graphs.role_of(module) == "norm" and not is_batch_norm(module) and not is_affine(module)
        if alone and (graphs.subtracts_mean(module) is not None or not any(True for _ in module.children())):
            yield path, type(module).__name__
