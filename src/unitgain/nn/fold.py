"""Everything of ours that is computed from the weights in each pass, worked into the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from .frozen import FrozenScale, NormalizedRows
from .nf_block import NFBlock
from .parametrize import ScaledStandardization, without_parametrization
from .scaled_std import ScaledStd

_STEPS = (ScaledStandardization, FrozenScale, NormalizedRows)


def fold_(module: nn.Module) -> nn.Module:
    """Replaces every scaled-standardization layer inside by a plain one with the same outputs; in place.

    Parametrizations of ours (`scaled_std_`, and what `ug.normfree.convert` adds) become plain weights too, and alpha,
    beta and the skip gain of every NFBlock go into its weights, or into the gain of its gate.

    For inference, export and quantization: nothing is standardized any more. Gains are gone, so the result is not
    for training on. Hooks on the replaced layers are not carried over. A module that is itself such a layer cannot
    be replaced in place: its plain layer is returned, in every other case the module. `ug.normfree.fold` folds
    BatchNorm and other parametrizations too, and leaves no class of unitgain.

    >>> from unitgain.nn import ScaledStdLinear
    >>> net = nn.Sequential(ScaledStdLinear(4, 4), nn.ReLU())
    >>> x = torch.randn(2, 4); before = net(x)
    >>> bool(torch.equal(fold_(net)(x), before)), type(net[0]).__name__
    (True, 'Linear')
    """
    if isinstance(module, ScaledStd):
        return module.folded()
    plain: dict[ScaledStd, nn.Module] = {}  # a layer used twice stays one layer
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ScaledStd):
                if child not in plain:
                    plain[child] = child.folded()
                setattr(parent, name, plain[child])
    for layer in list(module.modules()):
        _without_our_steps(layer)
    merge_branch_ends(module)
    return module


def _without_our_steps(layer: nn.Module) -> None:
    stack: Any = getattr(layer, "parametrizations", None)
    if stack is None or not parametrize.is_parametrized(layer):
        return
    for name, steps in list(stack.items()):
        if all(isinstance(step, _STEPS) for step in steps):  # among others the order matters
            without_parametrization(layer, name)


@torch.no_grad()
def merge_branch_ends(model: nn.Module) -> int:
    """alpha and the skip gain of every NFBlock go into its last layer; how many there were. The layers are plain.

    What comes behind the last convolution is a gate with a gain of its own (squeeze-and-excite, ECA), which takes the
    factor (as a buffer, so that it is saved with the weights), or stochastic depth, which is linear.
    """
    count = 0
    for block in model.modules():
        if not isinstance(block, NFBlock) or (block.alpha == 1 and block.skipinit_gain is None):
            continue
        factor: Any = (
            block.alpha if block.skipinit_gain is None else block.alpha * block.skipinit_gain.detach()
        )
        if block.attn_last is not None:
            gate: Any = block.attn_last
            gate.gain_as_buffer()
            gate.gain.mul_(factor)
        else:
            layer: Any = block.conv3
            layer.weight.mul_(factor)
            if layer.bias is not None:
                layer.bias.mul_(factor)
        block.alpha, block.skipinit_gain = 1.0, None
        count += 1
    return count
