"""Channel attention: squeeze-and-excite and ECA, with the gain that compensates for their gates.

A gate that starts near sigmoid(0) = 0.5 halves the signal; networks without normalization multiply it by 2.
Deviation from the text of Brock et al. 2021 (arXiv 2102.06171), which names GELU: the hidden activation is ReLU,
as in DeepMind's code and timm. State-dict keys are timm's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._base import InputError


class _Gated(nn.Module):
    gain: float | Tensor

    def gain_as_buffer(self) -> None:
        """gain becomes a persistent 0-dim buffer: a measured value is then saved with the weights."""
        if not isinstance(self.gain, Tensor):
            value = torch.tensor(float(self.gain))
            del self.gain
            self.register_buffer("gain", value)

    def extra_repr(self) -> str:
        return f"gain={float(self.gain):.4g}"


def _check(layer: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise InputError(f"{layer}: {name} is {size!r}; expected a whole number of at least 1")


class SqueezeExcite(_Gated):
    """gain * sigmoid(fc2(relu(fc1(mean over positions of x)))) * x: (B, C, H, W) in and out.

    hidden  channels between fc1 and fc2
    gain    factor on the gate: 2 without normalization, 1 elsewhere

    >>> layer = SqueezeExcite(16, 4)
    >>> layer(torch.randn(2, 16, 5, 5)).shape, sorted(layer.state_dict())
    (torch.Size([2, 16, 5, 5]), ['fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight'])

    Source: Hu et al. 2018 (arXiv 1709.01507).
    """

    def __init__(self, channels: int, hidden: int, gain: float = 2.0):
        super().__init__()
        _check("SqueezeExcite", channels=channels, hidden=hidden)
        self.gain = gain
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu_())  # (B, C, 1, 1)
        return x * (gate.sigmoid() * self.gain)


class ECA(_Gated):
    """gain * sigmoid(conv over channels of the mean over positions) * x: (B, C, H, W) in and out.

    kernel_size  odd; None: int(|log2(channels) + 1| / 2) made odd, at least 3

    >>> [ECA(channels).conv.kernel_size[0] for channels in (64, 256, 512, 1024, 2048)]
    [3, 5, 5, 5, 7]

    Source: Wang et al. 2020 (arXiv 1910.03151).
    """

    def __init__(self, channels: int, kernel_size: int | None = None, gain: float = 2.0):
        super().__init__()
        _check("ECA", channels=channels)
        if kernel_size is None:
            t = int(abs(math.log2(channels) + 1) / 2)
            kernel_size = max(t if t % 2 else t + 1, 3)
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise InputError(f"ECA: kernel_size is {kernel_size}; expected an odd number, to stay centred")
        self.gain = gain
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1)  # (B, C)
        return x * (gate.sigmoid() * self.gain)[:, :, None, None]
