"""The constants of a network without normalization, measured on data in execution order.

Where the analytic value is not exact (pooling, concatenation, squeeze-and-excite, depthwise kernels, data that is no
noise) only measuring is right, so every standardized layer is measured: its scale is divided by the std of its output
(channel variance over examples and positions, averaged over channels), and the pass goes on with the corrected output.

A residual stream is to have variance 1 too, at the ends of its blocks. Behind an activation that takes more than the
layers' variance of 1: the layers that begin a stream (the one before its first block; both sides of a transition) get
another target, found by repeating the pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._batch import Batch
from ..graph import Branch, Graph, Node
from .measuring import channel_variance, variances

_ROUNDS = 4  # of measuring the streams; each is a pass
_NEAR = 1.1  # a variance of 1/1.1 to 1.1 is near enough
_TINY = 1e-12


def calibrate(
    model: nn.Module, batch: Batch, steps: Mapping[str, nn.Module], targets: Mapping[str, float]
) -> list[str]:
    """Sets the `scale` of the parametrizations `steps`, by the layers' paths; in place. Returns notes.

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
    return notes


def _pass(
    model: nn.Module, batch: Batch, steps: Mapping[str, nn.Module], wanted: Mapping[str, float]
) -> tuple[list[str], Graph]:
    notes: list[str] = []
    scales: dict[str, Tensor] = {}

    def visit(node: Node, tensor: Tensor, given: object) -> Tensor | None:
        path = node.path
        if node.module is None or path not in steps or path in scales or not node.leaf:
            return None
        scale = steps[path].get_buffer("scale")
        bias = node.module._parameters.get("bias")
        axis = node.channel_axis
        shift: Tensor | float = 0.0
        if bias is not None and axis is not None:
            shift = bias.detach().view(*[-1 if i == axis else 1 for i in range(tensor.dim())])
        y = tensor - shift
        variance = channel_variance(y, axis)
        if not variance > _TINY or variance == float("inf"):
            notes.append(f"{path}: its output does not vary on this batch, so that it could not be scaled")
            scales[path] = scale.clone()
            return None
        factor = wanted[path] * variance**-0.5
        scale.mul_(factor)
        scales[path] = scale.clone()
        return y * factor + shift

    with graphs.undisturbed(model, batch):
        graph = graphs.follow(model, batch, visit)
    with torch.no_grad():
        for path, scale in scales.items():
            steps[path].get_buffer("scale").copy_(scale)
    return notes, graph


def _starts(graph: Graph, steps: Mapping[str, nn.Module]) -> dict[str, tuple[str, ...]]:
    """{node at which a residual stream begins: the layers whose scale sets its variance}."""
    found: dict[str, tuple[str, ...]] = {}
    outer = [b for b in graph.branches if b.inside is None]
    ends = {b.block for b in outer} | {b.sum for b in outer}
    for branch in outer:
        if branch.transition:
            layers = _layer_of(graph, branch.skip_end, steps) + _ends(graph, branch, steps)
            found[branch.block] = tuple(dict.fromkeys((*found.get(branch.block, ()), *layers)))
        elif branch.start not in ends and branch.start in graph.nodes and branch.start not in found:
            layers = _layer_of(graph, branch.start, steps)
            if layers:
                found[branch.start] = layers
    return {name: layers for name, layers in found.items() if layers}


def _ends(graph: Graph, branch: Branch, steps: Mapping[str, nn.Module]) -> tuple[str, ...]:
    return _layer_of(graph, branch.end, steps)


def _layer_of(graph: Graph, name: str | None, steps: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The standardized layer that made a node, seen through activations, pools and the like."""
    node = graph.nodes.get(name or "")
    while node is not None:
        if node.path in steps and node.module is not None:
            return (node.path,)
        passes = node.transparent or node.role in ("activation", "pool")
        if not passes or len(node.sources) != 1:
            return ()
        node = graph.nodes.get(node.sources[0])
    return ()
