"""Ends of residual branches: a learnable scalar, and branches dropped at random."""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn

from .._base import InputError


class SkipInit(nn.Module):
    """gain * x with one learnable scalar, at first 0, so that a residual block starts as its shortcut.

    >>> SkipInit()(torch.ones(2))
    tensor([0., 0.], grad_fn=<MulBackward0>)

    Source: De and Smith 2020 (arXiv 2002.10444).
    """

    def __init__(self, initial: float = 0.0):
        super().__init__()
        self.initial = initial
        self.gain = nn.Parameter(torch.tensor(float(initial)))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.gain, self.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def _drop_examples(x: Tensor, keep: float, rescale: bool) -> Tensor:
    mask = x.new_empty([x.shape[0]] + [1] * (x.dim() - 1)).bernoulli_(keep)
    return x * (mask / keep if rescale else mask)


torch.fx.wrap("_drop_examples")  # one step of a traced graph, which does not know the number of axes


class StochasticDepth(nn.Module):
    """Drops whole examples of a residual branch in training: (B, *) in and out, drawn for each example by itself.

    rate     probability of dropping, in [0, 1)
    rescale  divide what is kept by 1 - rate, so that the mean stays (timm); DeepMind's code does not

    >>> layer = StochasticDepth(0.5)
    >>> kept = layer(torch.ones(1000, 3))
    >>> kept.unique(), bool(torch.equal(kept[:, 0], kept[:, 1])), layer.eval()(torch.ones(2))
    (tensor([0., 2.]), True, tensor([1., 1.]))

    Source: Huang et al. 2016 (arXiv 1603.09382).
    """

    def __init__(self, rate: float, rescale: bool = True):
        super().__init__()
        if not 0 <= rate < 1:
            raise InputError(f"StochasticDepth: rate is {rate}; expected a probability below 1")
        self.rate, self.rescale = rate, rescale

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return _drop_examples(x, 1 - self.rate, self.rescale)

    def extra_repr(self) -> str:
        return f"{self.rate:.4g}, rescale={self.rescale}"
