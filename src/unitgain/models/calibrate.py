"""Measures the constants of the `calibrated` wiring, on the data that the network will see.

Brock et al. 2021 predict the variance at every block: 1 + k alpha^2 after k blocks of a stage, back to 1 at a
transition. What the prediction leaves out is small on noise with a strided shortcut, but not elsewhere: a mean
over 2x2 pixels keeps (1 + 3 rho) / 4 of the variance, with rho the correlation of neighbours; zero padding takes
a share on small maps; a gate is not exactly 1/2. Here every such factor is measured instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import read_batch
from ..nn.attention import ECA, SqueezeExcite
from ..nn.nf_block import NFBlock
from ..nn.scaled_std import ScaledStdConv2d
from .normfree import NormFreeNet

NOISE_EXAMPLES = 8


@torch.no_grad()
def calibrate_(model: NormFreeNet, batch: Any = None) -> NormFreeNet:
    """Sets beta, the shortcuts' scales and every other constant of a network in `calibrated` wiring; in place.

    batch   images (B, C, H, W), or an (images, targets) pair: a few dozen, normalized as in training, of the size
            to be used. None: white noise of the variant's training size

    One forward pass in evaluation mode; layers in the order in which they run. At each convolution the channel
    variance of the output is measured (over examples and positions, biased, averaged over channels) and the
    layer's `input_scale` divided by its root; at each squeeze-and-excite or ECA the same is done to its gain. So
    every branch, every shortcut and the stem put out variance 1. Skip gains count as 1 meanwhile, which is what
    the predicted growth within a stage assumes. For untrained networks: it changes what the network computes.
    No cost afterwards: the constants are in the standardized weights, and folded with them.

    Returns the model. Raises InputError if it is not in `calibrated` wiring, or an output does not vary.

    >>> from unitgain.models import create
    >>> model = create("nf_resnet_tiny", wiring="calibrated")
    >>> float(calibrate_(model).stages[1][0].downsample.conv.input_scale) != 1
    True
    """
    if getattr(model, "wiring", None) != "calibrated":
        raise InputError(
            f"calibrate_: the model is {_what(model)}; make it with create(name, wiring='calibrated')"
        )
    with ExitStack() as stack:
        stack.enter_context(_as_at_full_gain(model))
        for name, module in model.named_modules():
            if isinstance(module, ScaledStdConv2d | SqueezeExcite | ECA):
                handle = module.register_forward_hook(_Rescale(name))
                stack.callback(handle.remove)
        model(_images(model, batch))
    return model


class _Rescale:
    """A forward hook: divides a layer's constant by what its output's std is, and the output with it."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        variance = output.float().var((0, 2, 3), correction=0).mean()
        if not (variance.isfinite() and variance > 1e-12):
            raise InputError(
                f"calibrate_: {self.name} puts out a channel variance of {float(variance):.3g}; a batch whose "
                "images differ, large enough for several pixels at this depth, is right"
            )
        factor = variance.rsqrt()
        constant = module.input_scale if isinstance(module, ScaledStdConv2d) else module.gain
        assert isinstance(constant, Tensor)
        constant.mul_(factor)
        bias = module.bias if isinstance(module, ScaledStdConv2d) else None
        if bias is None:
            return output * factor
        bias = bias[:, None, None]
        return (output - bias) * factor + bias


@contextmanager
def _as_at_full_gain(model: NormFreeNet) -> Iterator[None]:
    """Evaluation mode, and every skip gain 1; both come back."""
    flags = {module: module.training for module in model.modules()}
    gains = [
        m.skipinit_gain for m in model.modules() if isinstance(m, NFBlock) and m.skipinit_gain is not None
    ]
    values = [gain.clone() for gain in gains]
    model.eval()
    for gain in gains:
        gain.fill_(1)
    try:
        yield
    finally:
        for gain, value in zip(gains, values):
            gain.copy_(value)
        for module, training in flags.items():
            module.training = training


def _images(model: NormFreeNet, batch: Any) -> Tensor:
    parameter = next(model.parameters())
    if batch is None:
        size = model.config.train_size
        noise = torch.randn(
            NOISE_EXAMPLES, model.in_channels, size, size, generator=torch.Generator().manual_seed(0)
        )
        return noise.to(parameter)
    images = next(iter(read_batch(batch, model).inputs().values()))
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != model.in_channels:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"calibrate_: the batch is {shape}; images (B, {model.in_channels}, H, W) are right")
    return images.to(parameter)


def _what(model: nn.Module) -> str:
    return f"in {model.wiring!r} wiring" if isinstance(model, NormFreeNet) else f"a {type(model).__name__}"
