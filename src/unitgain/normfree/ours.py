"""The constants of our own residual blocks, worked into their weights."""

from __future__ import annotations

import torch
from torch import nn

from ..nn import NFBlock


@torch.no_grad()
def merge_branch_ends(model: nn.Module) -> int:
    """alpha and the skip gain of every NFBlock go into its last layer; how many there were.

    What comes behind the last convolution is a gate with a gain of its own (squeeze-and-excite, ECA), which takes the
    factor, or stochastic depth, which is linear.
    """
    count = 0
    for block in model.modules():
        if not isinstance(block, NFBlock) or (block.alpha == 1 and block.skipinit_gain is None):
            continue
        gain = 1.0 if block.skipinit_gain is None else float(block.skipinit_gain)
        factor = block.alpha * gain
        if block.attn_last is not None:
            block.attn_last.gain = block.attn_last.gain * factor  # type: ignore[assignment, operator]
        else:
            block.conv3.weight.mul_(factor)  # type: ignore[union-attr, operator]
            if block.conv3.bias is not None:
                block.conv3.bias.mul_(factor)  # type: ignore[union-attr, operator]
        block.alpha, block.skipinit_gain = 1.0, None
        count += 1
    return count
