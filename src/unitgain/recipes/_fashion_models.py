"""Networks of the recipe fashion-mnist: images (B, 1, 28, 28) -> logits (B, 10).

    plain      five 3x3 convolutions of stride 2, with any activation and norm: rungs 1 to 13
    deeper     the same with one more convolution, of stride 1, first, and BatchNorm: rung 14
    residual   fast.ai's residual blocks from 28x28 positions on: rung 15, and wider 16 and 17
    normfree   a few convolutions with scaled weight standardization: the default
    nf_resnet  residual blocks with scaled weight standardization: preset best

Sources: J. Howard, "Practical Deep Learning for Coders" part 2, lessons 17 and 18 (fast.ai), for the first three; Brock
et al. 2021 (arXiv 2101.08692) for the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..nn import (
    GeneralReLU,
    PooledResBlock,
    ScaledStdConv2d,
    ScaledStdLinear,
    WholeLayerNorm,
    expected_stds,
)

CLASSES = 10
LEAK = 0.1  # of general_relu

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "general_relu": partial(GeneralReLU, leak=LEAK, sub=0.4),
}
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "layer": lambda channels: WholeLayerNorm(),
    "batch": nn.BatchNorm2d,  # equal to unitgain.nn.BatchNorm, in one kernel
}


def plain(widths: Sequence[int], activation: str = "relu", norm: str = "none") -> nn.Sequential:
    """Convolution (without bias before a BatchNorm), norm, activation; a last convolution to the classes; flatten."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    make_norm = NORMS[norm]
    for i, (before, after) in enumerate(pairwise((1, *widths)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(before, after, 3, 2, 1, bias=norm != "batch")  # H -> H/2, rounded up
        if make_norm is not None:
            layers[f"norm{i}"] = make_norm(after)
        layers[f"act{i}"] = ACTIVATIONS[activation]()
    layers["head"] = nn.Conv2d(widths[-1], CLASSES, 3, 2, 1)  # (B, classes, 1, 1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)


def deeper(widths: Sequence[int], activation: str = "general_relu") -> nn.Sequential:
    """`plain` with BatchNorm after one more convolution, of stride 1: 28x28 positions first. As in the lesson, the
    logits are normalized too."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(pairwise((1, *widths)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(before, after, 3, 1 if i == 1 else 2, 1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(after)
        layers[f"act{i}"] = ACTIVATIONS[activation]()
    layers["head"] = nn.Conv2d(widths[-1], CLASSES, 3, 2, 1, bias=False)  # (B, classes, 1, 1)
    layers["logits"] = nn.BatchNorm2d(CLASSES)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)


def residual(widths: Sequence[int], activation: str = "general_relu", kernel_size: int = 3) -> nn.Sequential:
    """The lesson's: a PooledResBlock of stride 1 at 28x28, then one of stride 2 for each further width; the mean over
    the positions that are left (one, for six widths), a linear layer without bias, BatchNorm.

    kernel_size  of the first block. No gain starts at zero: the lesson found that worse for all of these networks.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(input=ChannelsLast())
    for i, (before, after) in enumerate(pairwise((1, *widths)), start=1):
        layers[f"block{i}"] = PooledResBlock(
            before, after, 1 if i == 1 else 2, kernel_size if i == 1 else 3, activation=ACTIVATIONS[activation],
            zero_last=False,
        )  # fmt: skip
    # the logits are normalized over the batch too, as in the lesson
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["head"] = nn.Linear(widths[-1], CLASSES, bias=False)
    layers["logits"] = nn.BatchNorm1d(CLASSES)
    return _channels_last(layers)


def normfree(widths: Sequence[int]) -> nn.Sequential:
    """Convolutions of stride 2 with scaled weight standardization (5x5 first, then 3x3), ReLU, a linear head.

    Rows of the weights have the norm that keeps the variance at one after a ReLU; the head's gains start at a quarter,
    so that the first loss is near ln(10).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(input=ChannelsLast())
    side = 28
    for i, (before, after) in enumerate(pairwise((1, *widths)), start=1):
        k = 5 if i == 1 else 3
        layers[f"conv{i}"] = ScaledStdConv2d(before, after, k, 2, k // 2, gamma=1.0 if i == 1 else "relu")
        layers[f"act{i}"] = nn.ReLU(inplace=True)
        side = (side + 1) // 2
    layers["flatten"] = FlattenPixels()
    layers["head"] = ScaledStdLinear(widths[-1] * side * side, CLASSES, gamma="relu", gain=0.25)
    return _channels_last(layers)


def _channels_last(layers: OrderedDict[str, nn.Module]) -> nn.Sequential:
    """Channels beside one another in memory: convolutions on CPUs are then faster by a half, in bfloat16 by two."""
    model = nn.Sequential(layers)
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: torch's overloads lack it
    for weight in model.parameters():
        if weight.dim() == 4 and weight.shape[1] == 1:
            # the same bytes in both layouts; gradients have the strides of the other one
            weight.data = torch.empty(weight.shape).copy_(weight.data)
    return model


class ChannelsLast(nn.Module):
    """Gives images the strides of channels_last, (B, C, H, W) in and out.

    One channel needs more than `contiguous`: both layouts are the same bytes then; torch takes the other, and later
    layers would keep it.
    """

    def forward(self, x: Tensor) -> Tensor:
        _, channels, _, width = x.shape
        if channels != 1 or not x.is_contiguous():
            return x.contiguous(memory_format=torch.channels_last)
        return x.as_strided(x.shape, (x.stride(0), 1, width, 1))


class FlattenPixels(nn.Module):
    """(B, C, H, W) -> (B, H W C), pixel by pixel.

    Of channels_last memory that is a view, and the gradient comes back in channels_last; nn.Flatten copies both ways
    and the layers below get a gradient of other strides than their outputs', which makes ReLU's ten times as slow.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class NFBasicBlock(nn.Module):
    """Two 3x3 convolutions without normalization, in pre-activation: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

        o = relu(h);    h' = shortcut + alpha * conv2(relu(conv1(o / beta)))

    beta is the std of h, put into the weights that read it; the shortcut is h, or in a transition a 1x1 convolution of
    the pooled o / beta. The last convolution's gains start at 0, so that the block starts as its shortcut. More in
    nn/nf_block.py.
    """

    def __init__(self, channels: int, out: int, stride: int, alpha: float, beta: float):
        super().__init__()
        self.alpha = alpha
        conv = partial(ScaledStdConv2d, gamma="relu")
        self.act1 = nn.ReLU()
        self.conv1 = conv(channels, out, 3, stride, 1, input_scale=1 / beta)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv(out, out, 3, 1, 1, gain=0.0)
        self.shortcut: nn.Module | None = None
        if stride > 1 or channels != out:
            pool = (
                nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity()
            )
            self.shortcut = nn.Sequential(pool, conv(channels, out, 1, input_scale=1 / beta))

    def forward(self, h: Tensor) -> Tensor:
        o = self.act1(h)
        shortcut = h if self.shortcut is None else self.shortcut(o)
        return torch.add(shortcut, self.conv2(self.act2(self.conv1(o))), alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"


def nf_resnet(
    widths: Sequence[int], depths: Sequence[int], drop: float = 0.0, alpha: float = 0.2
) -> nn.Sequential:
    """A 3x3 convolution on the image's 2x2 blocks gives (B, widths[0], 14, 14); then a stage of NFBasicBlocks for each
    width, mean, dropout, head.

    The first stage keeps 14x14, each further one halves. With a stem of two convolutions, the first on 28x28, a step
    takes 1.7 times as long.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(blocks=nn.PixelUnshuffle(2), input=ChannelsLast())
    layers["stem"] = ScaledStdConv2d(4, widths[0], 3, 1, 1)
    channels = widths[0]
    for s, (out, depth, betas) in enumerate(zip(widths, depths, expected_stds(depths, alpha))):
        stage = nn.Sequential()
        for b in range(depth):
            stage.append(NFBasicBlock(channels, out, 2 if s and b == 0 else 1, alpha, betas[b]))
            channels = out
        layers[f"stage{s + 1}"] = stage
    layers["last"] = nn.ReLU(inplace=True)
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["drop"] = nn.Dropout(drop)
    layers["head"] = nn.Linear(channels, CLASSES)
    nn.init.zeros_(layers["head"].bias)  # type: ignore[arg-type]
    nn.init.normal_(layers["head"].weight, std=0.01)  # type: ignore[arg-type]
    return _channels_last(layers)
