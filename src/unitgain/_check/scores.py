"""Softmaxes of attention scores that are nearly one-hot: products of two activations that were not scaled. For rule
UG303.

The scores are followed from the product of two activations to the softmax. Of each row with several keys, one minus the
sum of the squared weights is looked at: it is what the softmax passes on of a gradient, about. Cosines with a
temperature are sharp on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..record import ScoreFacts
from .axes import PAIRS, Axes, axis_of
from .axis_moves import EACH_VALUE
from .kept import Kept
from .where import calling_line

_MOST = 50  # calls that are kept
_ROWS = 4096  # of each that are looked at
_KEYS = 8  # that a row can see, at least
_MASKED = -1e4  # scores below it are masked out
_FLAT = 0.1  # of the largest weight, 1: what is left for all others to learn from
_SCALED = 0.7  # of the products' standard deviation: scores that have less were divided by something
_EVEN = 0.5  # of the keys' rms: queries that have less were divided before the product


@dataclass(frozen=True)
class _Product:
    """Of queries and keys: their width, its standard deviation, whether the queries were divided before, and whether
    both have length one."""

    width: int
    std: float
    divided: bool
    cosines: bool


class Scores:
    def __init__(self, axes: Axes):
        self.found: list[ScoreFacts] = []
        self._axes = axes
        self._products: Kept[_Product] = Kept()
        self._weights: Kept[bool] = Kept()

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        given = [a for a in args if isinstance(a, Tensor)]
        if not isinstance(out, Tensor) or not out.is_floating_point() or not given:
            return
        if name in PAIRS and len(given) > 1:
            self._see_product(given[-2], given[-1], given[-2].shape[-1], out)
        elif name == "einsum" and isinstance(args[0], str):
            operands = list(args[1] if isinstance(args[1], (list, tuple)) else args[1:])
            if len(operands) == 2 and "->" in args[0] and all(isinstance(o, Tensor) for o in operands):
                left, result = args[0].replace(" ", "").split("->")
                sizes = [s for x, s in zip(left.split(",")[0], operands[0].shape) if x not in result]
                self._see_product(operands[0], operands[1], sizes[0] if len(sizes) == 1 else 0, out)
        elif name == "softmax":
            if (product := self._products[given[0]]) is not None:
                self._weights[out] = True
                self._look(name, given[0], out, axis_of(args, kwargs, given[0]), product)
        elif name == "scaled_dot_product_attention" and len(given) > 2:
            self._see_whole(given[0], given[1], kwargs)
        elif name in EACH_VALUE:
            for a in given:
                if a.shape == out.shape and (product := self._products[a]) is not None:
                    self._products[out] = product
        elif out.numel() == given[0].numel() and (product := self._products[given[0]]) is not None:
            self._products[out] = product

    def _see_product(self, one: Tensor, two: Tensor, width: int, out: Tensor) -> None:
        if width < 2 or min(one.dim(), two.dim()) < 2 or self._weights[one] or self._weights[two]:
            return
        if not any(map(self._axes.is_parameter, (one, two))):
            self._products[out] = _product(one, two, width, out)

    def _see_whole(self, q: Tensor, k: Tensor, kwargs: Any) -> None:
        if min(q.dim(), k.dim()) < 3 or q.shape[:-2] != k.shape[:-2]:
            return
        q, k = (x.detach().flatten(0, -3)[:8].float() for x in (q, k))
        product = q @ k.transpose(-1, -2)
        scale = kwargs.get("scale")
        scores = product * (q.shape[-1] ** -0.5 if scale is None else scale)
        name = "scaled_dot_product_attention"
        if kwargs.get("is_causal"):
            scores = scores.masked_fill(torch.ones_like(scores[0], dtype=torch.bool).triu(1), -torch.inf)
        self._look(
            name, scores, scores.softmax(-1), 2, _product(q, k.transpose(-1, -2), q.shape[-1], product)
        )

    def _look(self, name: str, scores: Tensor, weights: Tensor, axis: int, product: _Product) -> None:
        if len(self.found) >= _MOST or product.cosines or not weights.numel():
            return
        keys = weights.shape[axis]
        rows, given = (
            x.detach().movedim(axis, -1).reshape(-1, keys)[:_ROWS].float() for x in (weights, scores)
        )
        seen = given > _MASKED
        several = seen.sum(1) >= _KEYS
        if not bool(several.any()):
            return
        rows, seen, given = rows[several], seen[several], given[several]
        flat = float((1 - rows.square().sum(1) < _FLAT).float().mean())
        std = float(given[seen].std())
        scaled = product.divided or std < _SCALED * product.std
        self.found.append(
            ScoreFacts(name, calling_line(), tuple(map(int, weights.shape)), flat, std, product.width, scaled)
        )


def _product(one: Tensor, two: Tensor, width: int, out: Tensor) -> _Product:
    a, b = one.detach().float(), two.detach().float()
    rms = [float(x.square().mean().sqrt()) for x in (a, b)]
    unit = 1 / width**0.5
    cosines = min(rms) > 0 and all(
        _are_unit(x, width) or abs(r - unit) < 1e-3 * unit for x, r in zip((a, b), rms)
    )
    return _Product(width, float(out.detach().float().std()), rms[0] < _EVEN * rms[1], cosines)


def _are_unit(x: Tensor, width: int) -> bool:
    """Whether all vectors along an axis of this size have the same length."""
    for axis in range(x.dim()):
        if x.shape[axis] == width:
            length = x.norm(dim=axis)
            if bool(((length - length.mean()).abs() <= 1e-3 * length.mean()).all()):
                return True
    return False
