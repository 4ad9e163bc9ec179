"""The constants of a network without normalization, measured on data in execution order.

Where the analytic value is not exact (pooling, concatenation, squeeze-and-excite, depthwise kernels, data that is no
noise) only measuring is right, so every standardized layer is measured: its scale is divided by the std of its output
(channel variance over examples and positions, averaged over channels), its bias takes the mean of each channel away,
and the pass goes on with the corrected output. Without the biases, layers pass on what all examples share, and where
maps are small it is most of the signal: in a RegNet-Y on maps of one pixel the mean square was 28 beside a variance of
1, and no learning rate was right for both. Biases from data: Salimans and Kingma 2016 (arXiv 1602.07868).

A residual stream is to have variance 1 too, at the ends of its blocks. Behind an activation that takes more than the
layers' variance of 1: the layers that begin a stream (the one before its first block; both sides of a transition) get
another target, found by repeating the pass. Within a stream each block adds a little. Where it would grow to more than
twice its start, because it is long or its branches agree with it, all its branches are made smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._batch import Batch
from ..graph import Graph, Node
from .measuring import channel_variance, variances
from .residual import residual_sums

_ROUNDS = 4  # of measuring the streams; each is a pass
_NEAR = 1.1  # a variance of 1/1.1 to 1.1 is near enough
_MOST = 1.8  # times its start, to which a stream may grow
_TINY = 1e-12


def calibrate(
    model: nn.Module, batch: Batch, steps: Mapping[str, nn.Module], targets: Mapping[str, float]
) -> list[str]:
    """Sets the `scale` of the parametrizations `steps`, by the layers' paths, and the layers' biases; in place. Returns
    notes.

    targets  {path: std that a layer's output is to have}, where it is not 1
    """
    wanted = {path: targets.get(path, 1.0) for path in steps}
    notes, graph = _pass(model, batch, steps, wanted)
    starts = _starts(graph, steps)
    for _ in range(_ROUNDS):
        seen = variances(model, batch, list(starts))
        off = {n: v for n, v in seen.items() if v > _TINY and not 1 / _NEAR < v < _NEAR}
        if not off:
            break
        for name, variance in off.items():
            for path in starts[name]:
                wanted[path] = min(max(wanted[path] * variance**-0.5, 0.02), 20.0)
        notes, graph = _pass(model, batch, steps, wanted)
    streams = _streams(graph, steps)
    for _ in range(_ROUNDS):
        seen = variances(model, batch, [name for stream in streams for name in stream])
        grown = {}
        for stream in streams:
            sizes = [seen[name] for name in stream if name in seen]
            if sizes and max(sizes) > _MOST * _NEAR:
                grown |= dict.fromkeys(
                    (path for paths in stream.values() for path in paths),
                    ((_MOST - 1) / (max(sizes) - 1)) ** 0.5,
                )
        if not grown:
            break
        for path, factor in grown.items():
            wanted[path] *= factor
        notes, graph = _pass(model, batch, steps, wanted)
    return notes


def _pass(
    model: nn.Module, batch: Batch, steps: Mapping[str, nn.Module], wanted: Mapping[str, float]
) -> tuple[list[str], Graph]:
    notes: list[str] = []
    scales: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    shifts: dict[str, Tensor] = {}  # what the new biases add, in the shape of the outputs

    def visit(node: Node, tensor: Tensor, given: object) -> Tensor | None:
        path = node.path
        if node.module is None or path not in steps or not node.leaf:
            return None
        if path in scales:  # called once more: it has the new scale, and is to have the new bias
            return tensor + shifts[path] if path in shifts else None
        scale = steps[path].get_buffer("scale")
        bias, axis = node.module._parameters.get("bias"), node.channel_axis
        assert bias is not None, "every standardized layer has been given one"
        assert axis is not None, "a linear layer and a convolution have channels"
        across = [i for i in range(tensor.dim()) if i != axis % tensor.dim()]
        mean = tensor.mean(across, keepdim=True)
        y = tensor - mean
        variance = channel_variance(y, axis)
        if not variance > _TINY or variance == float("inf"):
            notes.append(f"{path}: its output does not vary on this batch, so that it could not be scaled")
            scales[path] = scale.clone()
            return None
        factor = wanted[path] * variance**-0.5
        scale.mul_(factor)
        scales[path] = scale.clone()
        biases[path] = (bias - mean.flatten()) * factor
        shifts[path] = (biases[path] - bias).view(mean.shape)
        return y * factor

    with graphs.undisturbed(model, batch):
        graph = graphs.follow(model, batch, visit)
    with torch.no_grad():
        for path, scale in scales.items():
            steps[path].get_buffer("scale").copy_(scale)
        for path, values in biases.items():
            model.get_submodule(path).get_parameter("bias").copy_(values)
    return notes, graph


def _starts(graph: Graph, steps: Mapping[str, nn.Module]) -> dict[str, tuple[str, ...]]:
    """{node at which a stream begins: the layers whose scale sets its variance}: the start of a first block, the block
    of a transition, and sums of parallel layers that are no residual sums."""
    found: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()  # each layer has one place whose variance it sets

    def add(name: str, layers: Iterable[str]) -> None:
        own = tuple(dict.fromkeys(path for path in layers if path not in taken))
        if own and name not in found:
            found[name] = own
            taken.update(own)

    every = [b for branches in residual_sums(graph) for b in branches]
    sums = {b.sum for b in every}
    outer = [b for b in every if b.inside not in sums]
    ends = {b.block for b in outer} | sums
    for branch in outer:
        if branch.transition:
            sides = (branch.skip_end or _last(branch.skip), branch.end or _last(branch.nodes))
            add(branch.block, [path for side in sides for path in _layers_of(graph, side, steps, sums)])
        elif branch.start not in ends and branch.start in graph.nodes:
            # of a stream that an activation ends each block of, and that did not begin with one: the first block's end
            start = graph[branch.start]
            bent = start.role == "activation" or (
                start.transparent and graph.before(start).kind == "activation"
            )
            node = branch.block if branch.after and not bent else branch.start
            add(node, _layers_of(graph, branch.start, steps, sums))
    for node in graph:
        inner = any(taker.kind == "sum" for taker in graph.consumers(node))  # a sum of three is two sums
        if node.kind == "sum" and node.name not in sums and not inner:
            layers = _terms(graph, node, steps, sums)
            if len(layers) > 1 and not taken & set(
                layers
            ):  # behind the activation, say, it has been set already
                add(node.name, layers)
    return found


def _streams(graph: Graph, steps: Mapping[str, nn.Module]) -> list[dict[str, tuple[str, ...]]]:
    """Of each residual stream, from one transition to the next: {node at the end of a block: the layers that made what
    its branch adds}. Streams that an activation bends are not among them: it takes off what a block adds."""
    every = [b for branches in residual_sums(graph) for b in branches]
    sums = {b.sum for b in every}
    found: list[dict[str, tuple[str, ...]]] = [{}]
    for branch in every:
        if branch.inside in sums or branch.after:
            continue
        if branch.transition:
            found.append({branch.block: ()})  # its two sides begin the stream
        else:
            end = branch.end or _last(branch.nodes)
            found[-1][branch.block] = (*found[-1].get(branch.block, ()), *_layers_of(graph, end, steps, sums))
    return [stream for stream in found if any(stream.values())]


def _last(names: Sequence[str]) -> str | None:
    return names[-1] if names else None


def _terms(graph: Graph, node: Node, steps: Mapping[str, nn.Module], sums: set[str]) -> tuple[str, ...]:
    """The layers whose outputs are added in a sum."""
    found: list[str] = []
    for source in graph.producers(node):
        nested = source.kind == "sum" and source.name not in sums
        found += _terms(graph, source, steps, sums) if nested else _layers_of(graph, source.name, steps, sums)
    return tuple(dict.fromkeys(found))


def _layers_of(
    graph: Graph, name: str | None, steps: Mapping[str, nn.Module], sums: set[str]
) -> tuple[str, ...]:
    """The standardized layers that made a node, seen through activations, pools, concatenations and plain sums."""
    node = graph.nodes.get(name or "")
    if node is None:
        return ()
    if node.path in steps and node.module is not None:
        return (node.path,)
    if node.kind == "sum" and node.name not in sums:
        return _terms(graph, node, steps, sums)
    many = node.role == "concat"
    passes = node.transparent or node.role in ("activation", "pool")
    if not many and not (passes and len(node.sources) == 1):
        return ()
    found = [path for source in node.sources for path in _layers_of(graph, source, steps, sums)]
    return tuple(dict.fromkeys(found))
