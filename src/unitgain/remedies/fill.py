"""Drawing weights: which slices of a tensor are one matrix, its fans, and the distributions.

Conventions (torch's layouts):

    Linear (out, in); GPT-2's Conv1D (in, out); ConvNd (out, in/groups, *k); ConvTransposeNd (in, out/groups, *k)
    LSTM weight_ih (4 h, in): gates input, forget, cell, output; GRU (3 h, in): reset, update, new
    MultiheadAttention in_proj_weight (3 e, e): query, key, value

Every gate and every projection is one matrix, drawn with its own fans: drawn as one (4 h, in) matrix, Glorot and
fan_out would come out too small by the number of gates, and an orthogonal matrix would not be orthogonal in any gate.

    fan_in   inputs that one output value sums over: (in/groups) * kernel for a convolution
    fan_out  outputs that one input value goes to: (out/groups) * kernel
    A transposed convolution of stride s uses 1/s of its kernel's taps along each axis for any one output, and
    a convolution of stride s any one input: the fans count those taps only.

Orthogonal draws scale Q so that its values have the wanted std, for whichever shape: rows (or columns, whichever are
fewer) are orthogonal. Source: Saxe et al. 2013 (arXiv 1312.6120).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .._base import InputError

Scheme = Literal["kaiming", "glorot", "orthogonal"]
Mode = Literal["fan_in", "fan_out"]
Distribution = Literal["normal", "uniform"]


@dataclass(frozen=True)
class Style:
    """How weights are drawn, checked."""

    scheme: Scheme = "kaiming"
    mode: Mode = "fan_in"
    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        for name, kind in (("scheme", Scheme), ("mode", Mode), ("distribution", Distribution)):
            value = getattr(self, name)
            if value not in get_args(kind):
                raise InputError(f"init_: {name} is {value!r}; it is one of {', '.join(get_args(kind))}")


@dataclass(frozen=True)
class Matrix:
    """A weight as one matrix: rows (out, fan_in) as a view, and its fans."""

    rows: Tensor
    fan_in: float
    fan_out: float


def matrices(module: nn.Module, weight: Tensor) -> list[Matrix]:
    """The independent matrices of a Linear, convolution or Conv1D weight, as views into it: one for each group."""
    if isinstance(module, _ConvNd):
        groups = module.groups
        taps = math.prod(module.kernel_size)
        met = math.prod(max(1.0, k / s) for k, s in zip(module.kernel_size, module.stride))
        if module.transposed:  # (in, out/groups, *k)
            parts = weight.flatten(2).chunk(groups, 0)
            rows = [p.permute(1, 0, 2) for p in parts]  # (out/groups, in/groups, taps)
            inputs, outputs = weight.shape[0] // groups, weight.shape[1]
            return [Matrix(r, inputs * met, outputs * taps) for r in rows]
        parts = weight.flatten(2).chunk(groups, 0)
        inputs, outputs = weight.shape[1], weight.shape[0] // groups
        return [Matrix(p, inputs * taps, outputs * met) for p in parts]
    if type(module).__name__ == "Conv1D" and weight.dim() == 2:
        return [Matrix(weight.t(), weight.shape[0], weight.shape[1])]
    taps = math.prod(weight.shape[2:])
    return [Matrix(weight, weight.shape[1] * taps, weight.shape[0] * taps)]


def std_of(style: Style, matrix: Matrix, forward: float, backward: float = 1.0) -> float:
    """The std of one weight: gain/sqrt(fan), or Glorot's compromise between both directions."""
    if style.scheme == "glorot":
        return forward * math.sqrt(2 / (matrix.fan_in + matrix.fan_out))
    if style.mode == "fan_out":
        return backward / math.sqrt(matrix.fan_out)
    return forward / math.sqrt(matrix.fan_in)


def gates(module: nn.Module) -> int:
    """How many matrices are stacked in a recurrent module's weights."""
    name = type(module).__name__
    return 4 if "LSTM" in name else 3 if "GRU" in name else 1


@torch.no_grad()
def draw_(rows: Tensor, std: float, style: Style, centring: float = 1.0) -> None:
    """Fills a (possibly strided) view, (out, ...), with values of this std.

    centring < 1 subtracts 1 - sqrt(centring) of each row's mean and puts the row's norm back.
    """
    shape = rows.shape
    flat = torch.empty(shape[0], math.prod(shape[1:]), dtype=torch.float32, device=rows.device)
    if style.scheme == "orthogonal":
        nn.init.orthogonal_(flat)
        flat *= std * math.sqrt(max(flat.shape))
    elif style.distribution == "uniform":
        flat.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std)
    else:
        flat.normal_(0, std)
    if centring < 1 and flat.shape[1] > 1:
        norm = flat.norm(dim=1, keepdim=True)
        flat -= (1 - math.sqrt(centring)) * flat.mean(1, keepdim=True)
        flat *= norm / flat.norm(dim=1, keepdim=True).clamp_min(1e-30)
    rows.copy_(flat.view(shape))
