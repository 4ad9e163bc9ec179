"""Theory's moments carried through a graph: what variances and means should be at initialization.

`layers` gives a plain stack to `theory.predict`. `block_moments` follows the residual stream from block to block. A
residual sum of independent signals adds their variances. What a branch brings is known when it ends in

- batch normalization: variance g^2 (its mean squared gain), mean 0;
- a convolution or Linear with standardized weights on an input of variance 1 (normalizer-free networks): 1, mean 0;
- a convolution or Linear of relu(batch_norm(.)): N s^2 (1/2 - 1/(2 pi)), and N s^2 / (2 pi) as squared channel mean,
  for fan-in N and mean squared weight s^2; a rectified normal variable has that variance and that squared mean.

A block without activation behind its sum then gives v <- v + alpha^2 b, with each of its parallel branches. At a
transition, where the skip path has weights of its own, v restarts at what that path brings: 1 + alpha^2 for
normalizer-free nets, 2 for BatchNorm ones. Where a block without a skip path stands between (MobileNet, EfficientNet),
it restarts at what is measured there. Standardized rows whose norm is none that keeps the variance (plain weight
standardization, made for a norm behind it: norm sqrt(N)) are not predicted.

With a ReLU behind the sum (ResNet v1) the whole distribution is followed:
x <- relu(x + alpha n), n normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from .. import theory
from .._base import InputError
from .branch import Branch
from .graph import Graph
from .node import TRANSPARENT, Node

Moments = tuple[float, float]  # average channel variance, average squared channel mean
_POINTS = 1024  # by which a distribution is followed
_NAMES = ("batch_norm", "BatchNorm")
_KEEPS = (0.5, 5.0)  # squared norms of standardized rows that keep the variance: 1, or gamma^2, over beta^2


@dataclass(frozen=True)
class Scale:
    """What a layer or a norm multiplies a variance by: of a batch norm the mean squared gain, of a layer fan_in times
    the mean squared weight. standardized: its rows have mean 0 and one norm."""

    power: float
    standardized: bool = False

    @classmethod
    def of_weight(cls, weight: Tensor) -> Scale:
        """(O, I, ...): whose rows are the units."""
        rows = weight.detach().flatten(1).float()  # (O, N)
        norms = rows.norm(dim=1)
        means = rows.mean(1).abs() * rows.shape[1] ** 0.5
        centred = bool((means <= 1e-3 * norms.amax().clamp_min(1e-30)).all())
        equal = bool(norms.amax() - norms.amin() <= 0.3 * norms.amax())
        return cls(float(norms.square().mean()), centred and equal and rows.shape[1] > 1)

    @classmethod
    def of_gain(cls, gain: Tensor | None) -> Scale:
        return cls(1.0 if gain is None else float(gain.detach().square().mean()))


@dataclass
class Expected:
    """Moments at one block's end and at its branches' ends, None where theory is silent."""

    block: Moments | None
    branches: list[Moments | None]


def block_moments(
    graph: Graph,
    scales: Mapping[str, Scale],
    start: Moments | None,
    starts: Mapping[str, Moments | None] | None = None,
) -> tuple[str, list[Expected]]:
    """(which law, one Expected per residual sum). The first block's input is `start` where no transition resets it.

    scales  of the nodes at which branches and transitions end
    starts  {residual sum: moments at its stream's start} where that is not the end of the block before; None: unknown
    """
    sums = graph.residual_sums()
    rectified = [s for s in sums if s[0].after == "relu"]
    if not all(s[0].after in ("", "relu") for s in sums) or (rectified and len(rectified) < len(sums)):
        return "", [Expected(None, [None] * len(s)) for s in sums]
    found = (_with_relu if rectified else _without)(graph, scales, sums, start, starts or {})
    if not any(e.block is not None for e in found):
        return "", found
    law = "x <- relu(x + alpha n)" if rectified else "var <- var + alpha^2 var(branch)"
    return law + ", restarts at transitions", found


def is_batch_norm(node: Node | None) -> bool:
    """Whether a node normalizes by the statistics of the batch, judged by the name of its type."""
    return node is not None and node.role == "norm" and any(name in node.type for name in _NAMES)


def _brought(graph: Graph, scales: Mapping[str, Scale], end: str | None) -> Moments | None:
    """What a path brings that ends in this node."""
    scale, node = scales.get(end or ""), graph.nodes.get(end or "")
    if scale is None or node is None:
        return None
    if is_batch_norm(node):
        return scale.power, 0.0
    if scale.standardized:  # gamma is in the activation or in the weight: with it the output's variance is 1
        keeps = _KEEPS[0] <= scale.power <= _KEEPS[1]
        return (float(scale.power > 0), 0.0) if keeps or scale.power == 0 else None
    rectifier = _only_source(graph, node)
    if rectifier is None or rectifier.activation is None or rectifier.activation.name != "relu":
        return None
    if not is_batch_norm(_only_source(graph, rectifier)):
        return None
    return scale.power * (0.5 - 0.5 / math.pi), scale.power * 0.5 / math.pi


def _only_source(graph: Graph, node: Node) -> Node | None:
    """The node whose tensor is this one's input as it is."""
    found = graph.producers(node, direct=True)
    return found[0] if len(found) == 1 else None


def _added(branches: Sequence[Branch], brought: Sequence[Moments | None]) -> Moments | None:
    """What branches add to the stream, taken for independent."""
    total = (0.0, 0.0)
    for branch, moments in zip(branches, brought):
        if moments is None or branch.scale is None:
            return None
        total = total[0] + branch.scale**2 * moments[0], total[1] + branch.scale**2 * moments[1]
    return total


def _restart(graph: Graph, scales: Mapping[str, Scale], branch: Branch) -> Moments | str | None:
    """What the skip path brings, "same" where it is the stream as it was."""
    normed = any(graph[name].role == "norm" for name in branch.skip)
    return _brought(graph, scales, branch.skip_end) if branch.transition or normed else "same"


def _without(
    graph: Graph,
    scales: Mapping[str, Scale],
    sums: Sequence[Sequence[Branch]],
    start: Moments | None,
    starts: Mapping[str, Moments | None],
) -> list[Expected]:
    state, found = start, []
    for branches in sums:
        brought = [_brought(graph, scales, b.end) for b in branches]
        added, skip = _added(branches, brought), _restart(graph, scales, branches[0])
        state = starts.get(branches[0].sum, state)
        before = state if isinstance(skip, str) else skip
        state = None if added is None or before is None else (before[0] + added[0], before[1] + added[1])
        found.append(Expected(state, brought))
    return found


def _with_relu(
    graph: Graph,
    scales: Mapping[str, Scale],
    sums: Sequence[Sequence[Branch]],
    start: Moments | None,
    starts: Mapping[str, Moments | None],
) -> list[Expected]:
    normal = _normal_points(201)
    state: np.ndarray | None = None
    if start is not None:
        state = np.maximum(start[1] ** 0.5 + start[0] ** 0.5 * _normal_points(_POINTS), 0)
    found = []
    for branches in sums:
        brought = [_brought(graph, scales, b.end) for b in branches]
        added, skip = _added(branches, brought), _restart(graph, scales, branches[0])
        if branches[0].sum in starts:  # the distribution there is not known
            state = None
        if not isinstance(skip, str):
            normal_skip = skip is not None and branches[0].transition  # a normalized relu is not normal
            state = skip[0] ** 0.5 * _normal_points(_POINTS) if normal_skip else None  # type: ignore[index]
        if not all(is_batch_norm(graph.nodes.get(b.end or "")) for b in branches):
            state = None
        if state is None or added is None:
            state = None
            found.append(Expected(None, brought))
            continue
        values = np.maximum(state[:, None] + added[0] ** 0.5 * normal[None, :], 0).ravel()
        found.append(Expected((float(values.var()), float(values.mean() ** 2)), brought))
        values.sort()
        state = values[: len(values) // _POINTS * _POINTS].reshape(_POINTS, -1).mean(1)
    return found


def _normal_points(count: int) -> np.ndarray:
    """Points of equal probability that stand for N(0, 1), with its variance."""
    from statistics import NormalDist

    points = np.array([NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)])
    return points / points.std()


def layers(graph: Graph) -> list[theory.Layer]:
    """The model as a stack for `theory.predict`: each Linear or convolution with what it is now and what follows.

    Raises InputError, naming the place, where the model is no plain stack of such layers and activations.
    """
    stack: list[theory.Layer] = []
    for node in graph:
        if node.role in ("input", "activation", *TRANSPARENT):
            continue
        weight = getattr(node.module, "weight", None)
        if node.role != "linear" or not isinstance(weight, Tensor) or len(graph.consumers(node)) > 1:
            raise InputError(
                f"model: {node.name} ({node.label}) makes it more than a stack that theory predicts"
            )
        bias = getattr(node.module, "bias", None)
        weight_std, bias_std = _rms(weight), _rms(bias) if isinstance(bias, Tensor) else 0.0
        stack.append(theory.Layer(fan_in_of(node), weight_std, bias_std, graph.after(node).function))
    return stack


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().mean().sqrt())


def fan_in_of(node: Node) -> int:
    """Inputs that one output value of a layer sums over."""
    module = node.module
    weight = module.weight if module is not None else None
    assert isinstance(weight, Tensor)
    if getattr(module, "transposed", False):
        return weight.shape[0] // int(module.groups) * math.prod(weight.shape[2:])  # type: ignore[union-attr, arg-type]
    if isinstance(module, nn.Linear) or weight.dim() > 2:
        return math.prod(weight.shape[1:])
    return weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]
