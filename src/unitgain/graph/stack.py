"""A plain stack of layers as `theory.predict` takes it, and the fan-in of a layer."""

from __future__ import annotations

import math

from torch import Tensor, nn

from .. import theory
from .._base import InputError
from .graph import Graph
from .node import TRANSPARENT, Node


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
