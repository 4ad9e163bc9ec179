"""Random values that have a signal's moments, or a gradient's: for calls whose expectation has no formula.

What attention makes of a signal hangs on how every query agrees with every key. With weights near 1/T it is the mean
over T tokens, which leaves of the values' variance v

    v (r + (1 - r) / T),      r the mean correlation of two tokens,

1/T of independent tokens, all of it where they are alike; with weights p it is v (r + (1 - r) sum p^2), 1 / sum p^2 the
effective number of tokens, T / exp(s^2) for normal scores of variance s^2; to which comes what keys and values share,
s^2 over the number of independent channels. A causal mask gives each position a T of its own. Windows, masks, biases,
rotations, norms of queries and keys all change it. So it is not put together from such terms: values of a joint normal
distribution with the covariance of channels and the correlation of positions that are predicted go through the very
calls of the pass (graph/stand_in.py), and what comes out is measured, as with the maximum of a pool (pools.py).

What the model leaves out: that channels differ in their correlation of positions; that a part of the values is the same
in all examples; anything that is not normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .gradient import Gradient
from .mixing import position_covariance
from .pools import random_fields
from .signal import Signal, mean_over_pairs
from .silent import Silent
from .step import positions_of

_MOST_PLACES = 1024  # with more, correlation beyond what all share is taken from maps on a torus
_JITTER = 1e-6


class Source:
    """Draws normal values with a signal's mean, covariance of channels and correlation of positions.

    shape, axis  of the values: channels at the axis. Raises Silent if it is not known how positions are correlated.
    """

    def __init__(self, signal: Signal, shape: tuple[int, ...], axis: int):
        if positions_of(shape, axis) != signal.size or (signal.lags is None and math.prod(signal.size) > 1):
            raise Silent("the correlation of its positions is not known")
        if signal.pads:
            raise Silent("zeros were put around its input")
        self._signal, self._axis = signal, axis
        self._examples = next(n for i, n in enumerate(shape) if i != axis)
        self._maps = _maps_of(signal, self._examples)
        total = torch.diag(signal.var.cpu()) if signal.cov is None else signal.cov.cpu()
        self._common: tuple[Tensor, Tensor] | None = None
        if (
            signal.common is not None and math.prod(signal.size) > 1
        ):  # what positions share, apart from the rest
            common = signal.common.cpu()
            values, vectors = torch.linalg.eigh(common.double())
            self._common, total = (values, vectors), total - common
        self._root = _root(total)

    def draw(self, seed: int) -> Tensor:
        signal, generator = self._signal, torch.Generator().manual_seed(seed)
        x = self._maps(generator)  # (N, *S, C)
        if self._common is not None:
            dims = list(range(1, 1 + len(signal.size)))
            x = x - x.mean(dims, keepdim=True)
            x = x / x.square().mean().clamp_min(1e-30).sqrt()
            values, vectors = self._common
            shared = _of_covariance(values, vectors, self._examples, generator)
            x = x @ self._root.T + shared.view(self._examples, *[1] * len(dims), -1)
        else:
            x = x @ self._root.T
        if signal.places is not None and tuple(signal.places.shape) == signal.size:
            x = x * signal.places.cpu().sqrt()[..., None]
        return (x + signal.mean.cpu()).to(signal.mean.device).movedim(-1, self._axis)


def draw_gradient(gradient: Gradient, shape: tuple[int, ...], axis: int, signal: Signal, seed: int) -> Tensor:
    """The same of a gradient at a tensor with this signal: channels are independent."""
    generator = torch.Generator().manual_seed(seed)
    held, ones = gradient.coherent, [1] * len(signal.size)
    examples = next(n for i, n in enumerate(shape) if i != axis)
    x = torch.randn(examples, *signal.size, signal.channels, generator=generator)
    shared = torch.randn(examples, *ones, signal.channels, generator=generator)
    x = math.sqrt(max(1 - held, 0.0)) * x + math.sqrt(held) * shared
    if gradient.profile is not None and gradient.profile.numel() == math.prod(signal.size):
        x = x * gradient.profile.cpu().reshape(signal.size).sqrt()[..., None]
    return (x * gradient.power.cpu().float().sqrt()).to(signal.mean.device).movedim(-1, axis)


def _of_covariance(values: Tensor, vectors: Tensor, examples: int, generator: torch.Generator) -> Tensor:
    """(N, C): normal values with the covariance of these eigenvalues; exactly, where N examples can have it, as those
    of a batch have theirs."""
    root = vectors * values.clamp_min(0).sqrt()  # (C, C)
    white = torch.randn(examples, len(values), generator=generator).double()
    rank = int((values > 1e-6 * values.max().clamp_min(1e-30)).sum())
    if 0 < rank < examples:
        white = white - white.mean(0)
        white[:, -rank:] = torch.linalg.qr(white[:, -rank:])[0] * math.sqrt(examples)
    return (white @ root.T).float()


def _root(cov: Tensor) -> Tensor:
    """A matrix whose product with its transpose is the covariance."""
    wide = cov.double()
    level = wide.diagonal().mean().clamp_min(1e-30)
    found, failed = torch.linalg.cholesky_ex(wide + _JITTER * level * torch.eye(len(wide), dtype=wide.dtype))
    if int(failed):
        values, vectors = torch.linalg.eigh(wide)
        found = vectors * values.clamp_min(0).sqrt()
    scale = (wide.diagonal().clamp_min(0) / found.square().sum(1).clamp_min(1e-30)).sqrt()
    return (found * scale[:, None]).float()


def _maps_of(signal: Signal, examples: int) -> Callable[[torch.Generator], Tensor]:
    """Makes (N, *S, C): independent channels of variance 1 with the signal's correlation of positions."""
    lags, size = signal.shared_lags(), signal.size
    shape, places = (examples, *size, signal.channels), math.prod(size)
    if lags is None or places <= 1:
        return lambda generator: torch.randn(shape, generator=generator)
    lags = lags.cpu()
    if places <= _MOST_PLACES:
        values, vectors = torch.linalg.eigh(position_covariance(lags, size).double())
        root = vectors * values.clamp_min(0).sqrt()
        root = (root / root.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt()).float()
        return lambda generator: (
            root @ torch.randn(examples, places, signal.channels, generator=generator)
        ).view(shape)
    shared = float(mean_over_pairs(lags, size).clamp(0, 1))
    own = ((lags - shared) / max(1 - shared, 1e-6)).clamp(-1, 1)

    def maps(generator: torch.Generator) -> Tensor:
        whole = torch.randn(examples, *(1 for _ in size), signal.channels, generator=generator)
        fields = random_fields(own, size, examples * signal.channels, generator)
        fields = fields.view(examples, signal.channels, *size).movedim(1, -1)
        return math.sqrt(shared) * whole + math.sqrt(1 - shared) * fields

    return maps
