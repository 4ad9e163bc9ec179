"""Scaled weight standardization: layers whose weights have rows of mean zero and a stated norm.

Paper: Brock, De and Smith 2021 (arXiv 2101.08692). Reference code: DeepMind's nfnets and timm's std_conv.

    W'_o = gain_o * gamma * input_scale / sqrt(N) * (W_o - mean_o) / std_o

Row o is what feeds one output channel; N is its number of weights, C_in/groups times the kernel's; mean and the
biased standard deviation are over these N. So every row sums to 0, which removes the mean that a ReLU adds,
and has norm |gain_o| gamma: inputs of variance v that do not correlate give outputs of variance (gain_o gamma)^2 v.

std is kept above zero in one of two ways; published weights need the one that they were trained with:

    "clamp"     sqrt(max(N var, eps) / N), eps 1e-4   DeepMind's; norms are exact until N var < eps
    "additive"  sqrt(var + eps), eps 1e-5             timm's; shrinks rows as the weights get smaller: 1% for
                                                      N = 1536 at initialization, 37% at a tenth of that

Precision: standardized in float32 (float64 for float64) also for half-precision parameters and under autocast,
and cast last. What is left in pure bfloat16 is the rounding of the result, 0.4% of each weight, so that row sums
are zero to about 1e-2 and not to 1e-7.

A transposed convolution of stride s gives each output only one in s^d taps; rows are scaled for that, and the
output variance is as stated on average over positions. Known deviation from torch: default weights are N(0, 1/N).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError
from .activations import gamma_of
from .fan_in import fan_in
from .padding import Conv2dSame, Padding, padded, set_padding
from .standardize_rows import standardize_rows

EpsMode = Literal["clamp", "additive"]
DEFAULT_EPS = {"clamp": 1e-4, "additive": 1e-5}


def check_standardization(layer: str, fan_in: int, eps_mode: str, eps: float | None) -> float:
    """The eps to use. Raises InputError if these rows cannot be standardized."""
    if fan_in < 2:
        raise InputError(
            f"{layer}: each output sees a single weight, and one number minus its mean is 0; use a plain layer "
            "here (a 1x1 depthwise convolution is a scale per channel)"
        )
    if eps_mode not in DEFAULT_EPS:
        raise InputError(f"{layer}: eps_mode is {eps_mode!r}; expected 'clamp' or 'additive'")
    eps = DEFAULT_EPS[eps_mode] if eps is None else eps
    if not eps >= 0:
        raise InputError(f"{layer}: eps is {eps}; expected a number of at least 0")
    return eps


def standardized(
    weight: Tensor,
    scale: Tensor | float,
    eps: float,
    eps_mode: str = "clamp",
    groups: int = 0,
    constant: float | Tensor = 1.0,
) -> Tensor:
    """constant * scale * (W - mean) / (sqrt(N) std) over all axes but the first, in weight's shape, type and memory
    format.

    weight    (O, ...); or, with groups >= 1, a transposed convolution's (C_in, O/groups, ...)
    scale     a number, or a tensor of one or O numbers, of any shape
    constant  a further number, which costs nothing; or a 0-dim tensor

    >>> w = standardized(torch.randn(4, 8, 3, 3), scale=2.0, eps=1e-4)
    >>> w.sum((1, 2, 3)).abs().max().item() < 1e-5, w.flatten(1).norm(dim=1).round(decimals=4)
    (True, tensor([2., 2., 2., 2.]))
    """
    clamp = eps_mode == "clamp"
    if groups > 0:  # (g, C/g, O/g, ...) -> (g, O/g, C/g, ...)
        weight = weight.unflatten(0, [groups, -1]).transpose(1, 2).flatten(0, 1)
    if torch.jit.is_scripting():
        result = _composed(weight, scale, eps, clamp, constant)
    else:  # which torch.jit.script does not read
        result = _standardized(weight, scale, eps, clamp, constant)
    if groups > 0:
        result = result.unflatten(0, [groups, -1]).transpose(1, 2).flatten(0, 1)
    return result


def _standardized(
    weight: Tensor, scale: Tensor | float, eps: float, clamp: bool, constant: float | Tensor
) -> Tensor:
    if torch.jit.is_tracing():
        return _composed(weight, scale, eps, clamp, constant)
    # rows as they lie in memory: statistics do not depend on the order, and a view is free
    channels_last = not weight.is_contiguous() and weight.dim() > 2 and weight.movedim(1, -1).is_contiguous()
    rows = weight.movedim(1, -1) if channels_last else weight
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    count = rows.shape[0]
    constant = constant.to(rows.dtype) if isinstance(constant, Tensor) else constant
    constant = constant / math.sqrt(rows.numel() / max(count, 1))  # of a row of norm 1 the standard deviation
    if isinstance(scale, Tensor):
        scale = scale if scale.dtype == rows.dtype else scale.to(rows.dtype)
        factor = scale.flatten() * constant
        factor = factor if len(factor) == count else factor.expand(count).contiguous()
    else:
        constant = scale * constant
        plain = not isinstance(constant, Tensor)
        factor = rows.new_full((count,), constant) if plain else constant.expand(count).contiguous()
    result = standardize_rows(rows, factor, eps, clamp)
    result = result if result.dtype == weight.dtype else result.to(weight.dtype)
    return result.movedim(-1, 1) if channels_last else result


def _composed(
    weight: Tensor, scale: Tensor | float, eps: float, clamp: bool, constant: float | Tensor
) -> Tensor:
    """The same for torch.jit: where it traces, sizes are tensors that Python must not look at, and its script knows no
    number that may be a tensor."""
    rows = weight.flatten(1)
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    centred = rows - rows.mean(1, keepdim=True)
    squares = centred.square().sum(1, keepdim=True)  # N var
    inverse = (squares.clamp_min(eps) if clamp else squares + eps * rows.shape[1]).rsqrt()
    factor = _times(_times(inverse, scale), constant)
    return (centred * factor).to(weight.dtype).view_as(weight)


def _times(x: Tensor, number: Tensor | float) -> Tensor:
    if isinstance(number, Tensor):
        return x * number.to(x.dtype).reshape(-1, 1)
    return x * number


torch.fx.wrap("standardized")  # one node of a symbolic trace: what is inside depends on shapes and types


class ScaledStd(nn.Module):
    """What the layers below share: gain, gamma, input_scale, eps and the standardized weight.

    gain          learnable, one per output channel, shape (O, 1, ...); None if the layer was built without
    gamma         constant factor on the weight, for the activation before the layer
    input_scale   constant by which the input would have to be multiplied, put into the weight where it is free
    """

    weight: Tensor
    bias: Tensor | None
    gain: Tensor | None
    input_scale: float | Tensor
    kernel_size: tuple[int, ...]
    transposed_groups = 0

    def _scaled_std(
        self, gamma: float | str, eps: float | None, eps_mode: EpsMode, gain: float | None, input_scale: float
    ) -> None:
        self.gamma = gamma_of(gamma) if isinstance(gamma, str) else float(gamma)
        self.eps_mode = eps_mode
        self.input_scale = input_scale
        self.gain_init = gain
        self.fan_in = fan_in(self, self.weight)
        self.eps = check_standardization(type(self).__name__, self.fan_in, eps_mode, eps)
        shape = (self._units(), *[1] * (self.weight.dim() - 1))
        like = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.register_parameter(
            "gain", None if gain is None else nn.Parameter(torch.full(shape, float(gain), **like))
        )
        self.reset_parameters()

    def _units(self) -> int:
        return len(self.weight)

    def reset_parameters(self) -> None:
        """weight N(0, 1/N), bias 0, gain as given."""
        if not hasattr(self, "fan_in"):
            return  # torch's constructor calls this too early
        with torch.no_grad():
            nn.init.normal_(self.weight, std=self.fan_in**-0.5)
            if self.bias is not None:
                nn.init.zeros_(self.bias)
            if self.gain is not None and self.gain_init is not None:
                nn.init.constant_(self.gain, self.gain_init)

    def standardized_weight(self) -> Tensor:
        """The weight that the layer works with, in the shape and type of `weight`."""
        gain = 1.0 if self.gain is None else self.gain
        constant = self.input_scale * (self.gamma * self._row_norm())
        return standardized(self.weight, gain, self.eps, self.eps_mode, self.transposed_groups, constant)

    def _row_norm(self) -> float:
        return 1.0

    def input_scale_as_buffer(self) -> None:
        """input_scale becomes a persistent 0-dim buffer: measured values are then saved with the weights."""
        if not isinstance(self.input_scale, Tensor):
            value = torch.tensor(self.input_scale, device=self.weight.device)
            del self.input_scale
            self.register_buffer("input_scale", value)

    def folded(self) -> nn.Module:
        """A plain torch layer that computes the same, with the standardized weight as its weight."""
        raise NotImplementedError

    def _copied_into(self, layer: nn.Module) -> nn.Module:
        with torch.no_grad():
            layer.get_parameter("weight").copy_(self.standardized_weight())
            if self.bias is not None:
                layer.get_parameter("bias").copy_(self.bias)
        return layer.train(self.training)

    def extra_repr(self) -> str:
        scale = (
            ""
            if isinstance(self.input_scale, Tensor) or self.input_scale == 1
            else f", input_scale={self.input_scale:.6g}"
        )
        return f"{super().extra_repr()}, gamma={self.gamma:.6g}, {self.eps_mode} eps={self.eps:g}{scale}"


class _ScaledStdConv(ScaledStd):
    same: bool

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Padding = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        gamma: float | str = 1.0,
        eps: float | None = None,
        eps_mode: EpsMode = "clamp",
        gain: float | None = 1.0,
        input_scale: float = 1.0,
        **options: Any,
    ):
        super().__init__(  # pyright: ignore[reportCallIssue]: torch's constructor comes next in line
            in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias, **options
        )
        set_padding(self, padding)
        self._scaled_std(gamma, eps, eps_mode, gain, input_scale)

    def forward(self, input: Tensor) -> Tensor:
        layer: Any = self
        if self.same:
            input = padded(self, input)
        return layer._conv_forward(input, self.standardized_weight(), self.bias)

    def folded(self) -> nn.Module:
        layer: Any = self
        arguments = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
        rest = (layer.dilation, layer.groups, self.bias is not None)
        like = {"device": self.weight.device, "dtype": self.weight.dtype}
        if self.same and self.weight.dim() == 4:
            return self._copied_into(nn.utils.skip_init(Conv2dSame, *arguments, *rest, **like))
        if self.same:
            raise InputError(
                f"{type(self).__name__}: only 2-D layers with 'same' padding and a stride can be folded"
            )
        cls = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[self.weight.dim()]
        like["padding_mode"] = layer.padding_mode
        return self._copied_into(nn.utils.skip_init(cls, *arguments, layer.padding, *rest, **like))


class ScaledStdConv1d(_ScaledStdConv, nn.Conv1d):
    """(B, C, L) -> (B, O, L'); arguments as ScaledStdConv2d."""


class ScaledStdConv2d(_ScaledStdConv, nn.Conv2d):
    """A convolution with scaled weight standardization: (B, C, H, W) -> (B, O, H', W').

    padding      as torch, or "symmetric", "same" (TensorFlow's) or "valid"
    gamma        a number, or the name of the activation before the layer, whose gain is taken: "relu"
    eps, eps_mode   see above; eps None is 1e-4 for "clamp" and 1e-5 for "additive"
    gain         where the learnable gains start; None for no gains
    input_scale  a constant for the input, put into the weight
    all others as torch.nn.Conv2d, which it can replace

    >>> layer = ScaledStdConv2d(16, 32, 3, padding="same", gamma="relu")
    >>> x = torch.relu(torch.randn(8, 16, 32, 32, generator=torch.manual_seed(0)))
    >>> 0.85 < layer(x)[..., 1:-1, 1:-1].std().item() < 1.15
    True
    >>> sorted(layer.state_dict())
    ['bias', 'gain', 'weight']

    Raises InputError if each output sees a single weight (1x1 depthwise).
    """


class ScaledStdConv3d(_ScaledStdConv, nn.Conv3d):
    """(B, C, D, H, W) -> (B, O, D', H', W'); arguments as ScaledStdConv2d."""


class _ScaledStdConvTranspose(ScaledStd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        gamma: float | str = 1.0,
        eps: float | None = None,
        eps_mode: EpsMode = "clamp",
        gain: float | None = 1.0,
        input_scale: float = 1.0,
        **options: Any,
    ):
        super().__init__(  # pyright: ignore[reportCallIssue]: torch's constructor comes next in line
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            **options,
        )
        self.transposed_groups = groups
        self._scaled_std(gamma, eps, eps_mode, gain, input_scale)

    def _units(self) -> int:
        return self.weight.shape[1] * self.transposed_groups

    def _row_norm(self) -> float:
        layer: Any = self
        return math.prod(layer.stride) ** 0.5

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        layer: Any = self
        dims = self.weight.dim() - 2
        output_padding = layer._output_padding(
            input, output_size, layer.stride, layer.padding, layer.kernel_size, dims, layer.dilation
        )
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
        return function(
            input, self.standardized_weight(), self.bias, layer.stride, layer.padding, output_padding,
            layer.groups, layer.dilation,
        )  # fmt: skip

    def folded(self) -> nn.Module:
        layer: Any = self
        cls = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[self.weight.dim() - 3]
        return self._copied_into(nn.utils.skip_init(
            cls, layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
            layer.output_padding, layer.groups, self.bias is not None, layer.dilation,
            device=self.weight.device, dtype=self.weight.dtype,
        ))  # fmt: skip


class ScaledStdConvTranspose1d(_ScaledStdConvTranspose, nn.ConvTranspose1d):
    """(B, C, L) -> (B, O, L'); see ScaledStdConvTranspose2d."""


class ScaledStdConvTranspose2d(_ScaledStdConvTranspose, nn.ConvTranspose2d):
    """A transposed convolution with scaled weight standardization: (B, C, H, W) -> (B, O, H', W').

    Arguments as torch.nn.ConvTranspose2d, and gamma, eps, eps_mode, gain, input_scale as ScaledStdConv2d. Rows,
    over input channels of the group and kernel, have norm |gain| gamma sqrt(stride_h stride_w).
    """


class ScaledStdConvTranspose3d(_ScaledStdConvTranspose, nn.ConvTranspose3d):
    """(B, C, D, H, W) -> (B, O, D', H', W'); see ScaledStdConvTranspose2d."""


class ScaledStdLinear(ScaledStd, nn.Linear):
    """A linear layer with scaled weight standardization: (*, in_features) -> (*, out_features).

    gamma, eps, eps_mode, gain, input_scale as in ScaledStdConv2d.

    >>> layer = ScaledStdLinear(64, 8, gamma="relu")
    >>> [round(norm, 4) for norm in layer.standardized_weight().norm(dim=1).tolist()[:3]]
    [1.7129, 1.7129, 1.7129]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        gamma: float | str = 1.0,
        eps: float | None = None,
        eps_mode: EpsMode = "clamp",
        gain: float | None = 1.0,
        input_scale: float = 1.0,
        **options: Any,
    ):
        nn.Linear.__init__(self, in_features, out_features, bias, **options)
        self._scaled_std(gamma, eps, eps_mode, gain, input_scale)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.standardized_weight(), self.bias)

    def folded(self) -> nn.Module:
        return self._copied_into(nn.utils.skip_init(
            nn.Linear, self.in_features, self.out_features, self.bias is not None,
            device=self.weight.device, dtype=self.weight.dtype,
        ))  # fmt: skip
