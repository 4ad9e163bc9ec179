"""Residual blocks with any normalization: basic, bottleneck, pre-activation, and fast.ai's.

    letters: B examples, C and O input and output channels, H, W positions, s the stride

State-dict keys are timm's (and torchvision's, for basic and bottleneck). A `norm` is a function of a number of
channels to a module; `None` stands for none, and convolutions then have a bias.

Sources: He et al. 2015 (arXiv 1512.03385); He et al. 2016 (arXiv 1603.05027) for pre-activation; He et al. 2018
(arXiv 1812.01187) for the pooled "d" shortcut and the stride in the 3x3 convolution; J. Howard, "Practical Deep
Learning for Coders" part 2, lesson 18 (fast.ai), for PooledResBlock.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .residual import StochasticDepth

Norm = Callable[[int], nn.Module] | None


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.Identity() if norm is None else norm(channels)


def _shortcut(channels: int, out: int, stride: int, norm: Norm, pooled: bool) -> nn.Module | None:
    """timm's and torchvision's keys: "0" and "1", or "1" and "2" where "0" pools."""
    if stride == 1 and channels == out:
        return None
    layers: list[nn.Module] = []
    if pooled:
        layers.append(
            nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            if stride > 1
            else nn.Identity()
        )
    conv = nn.Conv2d(channels, out, 1, 1 if pooled else stride, bias=norm is None)
    return nn.Sequential(*layers, conv, _norm(norm, out))


def _zero(norm: nn.Module) -> None:
    weight = getattr(norm, "weight", None)
    if isinstance(weight, Tensor):
        nn.init.zeros_(weight)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

    pooled     mean over s x s pixels and a 1x1 convolution in the shortcut; otherwise a strided 1x1 convolution
    drop       stochastic depth
    zero_last  the last norm's gain starts at 0, so that the block starts as its shortcut

    >>> import torch
    >>> BasicBlock(8, 16, stride=2)(torch.randn(2, 8, 7, 7)).shape
    torch.Size([2, 16, 4, 4])
    """

    expansion = 1

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        norm: Norm = nn.BatchNorm2d,
        pooled: bool = False,
        drop: float = 0.0,
        zero_last: bool = True,
    ):
        super().__init__()
        bias = norm is None
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=bias)
        self.bn1 = _norm(norm, out)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=bias)
        self.bn2 = _norm(norm, out)
        self.downsample = _shortcut(channels, out, stride, norm, pooled)
        self.drop_path = StochasticDepth(drop) if drop else nn.Identity()
        self.act2 = nn.ReLU(inplace=True)
        if zero_last:
            _zero(self.bn2)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        return self.act2(self.drop_path(branch) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolution, out / 4 channels inside: (B, C, H, W) -> (B, O, H/s, W/s).

    Arguments as BasicBlock.
    """

    expansion = 4

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        norm: Norm = nn.BatchNorm2d,
        pooled: bool = False,
        drop: float = 0.0,
        zero_last: bool = True,
    ):
        super().__init__()
        width, bias = out // self.expansion, norm is None
        self.conv1 = nn.Conv2d(channels, width, 1, bias=bias)
        self.bn1 = _norm(norm, width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=bias)
        self.bn2 = _norm(norm, width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, out, 1, bias=bias)
        self.bn3 = _norm(norm, out)
        self.downsample = _shortcut(channels, out, stride, norm, pooled)
        self.drop_path = StochasticDepth(drop) if drop else nn.Identity()
        self.act3 = nn.ReLU(inplace=True)
        if zero_last:
            _zero(self.bn3)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.act1(self.bn1(self.conv1(x)))
        branch = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(branch)))))
        return self.act3(self.drop_path(branch) + (x if self.downsample is None else self.downsample(x)))


class _PreActShortcut(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, pooled: bool, bias: bool):
        super().__init__()
        self.pool = (
            nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
            if pooled and stride > 1
            else None
        )
        self.conv = nn.Conv2d(channels, out, 1, 1 if pooled else stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.pool is None else self.pool(x))


class PreActBlock(nn.Module):
    """Norm and ReLU before each convolution, nothing after the sum: (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)).

    bottleneck  three convolutions with out / 4 channels inside; otherwise two 3x3
    The shortcut of a transition reads what the first norm and ReLU put out. Other arguments as BasicBlock.

    >>> import torch
    >>> PreActBlock(8, 16, stride=2)(torch.randn(2, 8, 7, 7)).shape
    torch.Size([2, 16, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        norm: Norm = nn.BatchNorm2d,
        pooled: bool = False,
        drop: float = 0.0,
        bottleneck: bool = True,
    ):
        super().__init__()
        bias = norm is None
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = _PreActShortcut(channels, out, stride, pooled, bias)
        width = out // 4 if bottleneck else out
        self.norm1 = _norm(norm, channels)
        self.act1 = nn.ReLU()  # the sum before it is still needed: as the shortcut
        self.conv1 = nn.Conv2d(channels, width, 1, bias=bias) if bottleneck else nn.Conv2d(
            channels, width, 3, stride, 1, bias=bias
        )  # fmt: skip
        self.norm2 = _norm(norm, width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, stride if bottleneck else 1, 1, bias=bias)
        self.norm3 = _norm(norm, width) if bottleneck else None
        self.act3 = nn.ReLU(inplace=True) if bottleneck else None
        self.conv3 = nn.Conv2d(width, out, 1, bias=bias) if bottleneck else None
        self.drop_path = StochasticDepth(drop) if drop else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        pre = self.act1(self.norm1(x))
        shortcut = x if self.downsample is None else self.downsample(pre)
        branch = self.conv2(self.act2(self.norm2(self.conv1(pre))))
        if self.norm3 is not None and self.act3 is not None and self.conv3 is not None:
            branch = self.conv3(self.act3(self.norm3(branch)))
        return self.drop_path(branch) + shortcut


class PooledResBlock(nn.Module):
    """fast.ai's: two k x k convolutions, the second strided; the shortcut pools and then takes a 1x1 convolution.

    (B, C, H, W) -> (B, O, ceil(H/s), ceil(W/s)). The activation comes after the sum. The shortcut's convolution has
    no norm.

    zero_last  the second norm's gain starts at 0, as in the fast.ai book; the lesson's networks were worse with it

    >>> import torch
    >>> PooledResBlock(8, 16, stride=2)(torch.randn(2, 8, 7, 7)).shape
    torch.Size([2, 16, 4, 4])
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        kernel_size: int = 3,
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
        zero_last: bool = True,
    ):
        super().__init__()
        bias, padding = norm is None, kernel_size // 2
        self.conv1 = nn.Conv2d(channels, out, kernel_size, 1, padding, bias=bias)
        self.norm1 = _norm(norm, out)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(out, out, kernel_size, stride, padding, bias=bias)
        self.norm2 = _norm(norm, out)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.act2 = activation()
        if zero_last:
            _zero(self.norm2)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(branch + self.shortcut(self.pool(x)))
