"""Units of a layer that compute the same, but for their bias: rows of a weight that are equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..record import UnitFacts

_TOLERANCE = 1e-6  # of the largest magnitude: a few units in the last place of float32
_NEAR = 1e-5  # of the largest product: float32 sums of equal terms in another order
_CHUNK = 256  # pairs compared at once
_GRADIENT_TOLERANCE = 1e-4  # sums over a batch round more


@torch.no_grad()
def same_units(model: nn.Module) -> dict[str, UnitFacts]:
    """{weight's name: its facts} of the layers that have units which are copies of another.

    copies         units whose incoming weights another unit of the layer has too (all-zero ones left out); where
                   their biases differ, both are functions of one number
    same_gradient  of these, copies whose gradient is that of the other unit too: nothing tells them apart, ever

    Linear layers, convolutions (units of one group see the same inputs, units of different groups do not; transposed
    ones without groups),
    recurrent cells and attention's input projection are looked at. Call it after backward.
    """
    found: dict[str, UnitFacts] = {}
    for path, module in model.named_modules():
        for name, parts, groups in _layers(module):
            rows = [_by_unit(p, transposed) for p, transposed in parts]
            units = rows[0].shape[0]
            if units < 2 * groups or any(r.shape[0] != units for r in rows):
                continue
            gradients = [p.grad for p, _ in parts]
            ways = [
                _by_unit(g, t) for g, (_, t) in zip(gradients, parts) if g is not None and not g.is_sparse
            ]
            copies, same_gradient = 0, 0
            for start in range(0, units, units // groups):
                group = slice(start, start + units // groups)
                pairs = _pairs([r[group] for r, (p, _) in zip(rows, parts) if p.dim() > 1])
                copies += len(pairs)
                if len(ways) == len(rows):
                    same_gradient += int(_equal([w[group] for w in ways], pairs, _GRADIENT_TOLERANCE).sum())
            if copies:
                full = f"{path}.{name}" if path else name
                found[full] = UnitFacts(units, copies, same_gradient)
    return found


Part = tuple[Tensor, bool]  # a parameter with one row per unit; True: units are on its second axis


def _layers(module: Any) -> Iterator[tuple[str, list[Part], int]]:
    """(name of the weight, its parts, groups of units that see the same inputs)."""
    if isinstance(module, nn.Linear):
        yield "weight", _parts(module, "weight", "bias"), 1
    elif type(module).__name__ == "Conv1D":  # GPT-2's linear layer
        yield "weight", _parts(module, "weight", "bias", transposed=True), 1
    elif isinstance(module, _ConvNd):
        if not module.transposed:
            yield "weight", _parts(module, "weight", "bias"), module.groups
        elif module.groups == 1:
            yield "weight", _parts(module, "weight", "bias", transposed=True), 1
    elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        for name, _ in module.named_parameters(recurse=False):
            if name.startswith("weight_ih"):
                rest = [name.replace("weight_ih", part) for part in ("weight_hh", "bias_ih", "bias_hh")]
                yield name, _parts(module, name, *rest), 1
    elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        yield "in_proj_weight", _parts(module, "in_proj_weight", "in_proj_bias"), 1


def _parts(module: nn.Module, *names: str, transposed: bool = False) -> list[Part]:
    tensors = [getattr(module, name, None) for name in names]
    return [(t, transposed and t.dim() > 1) for t in tensors if isinstance(t, Tensor)]


def _by_unit(values: Tensor, transposed: bool) -> Tensor:
    """(units, weights of one unit)."""
    moved = values.detach().transpose(0, 1) if transposed else values.detach()
    return moved.reshape(moved.shape[0], -1)


def _pairs(rows: list[Tensor]) -> Tensor:
    """(P, 2): each unit that is a copy, with the unit that it is a copy of, among parts of rows (U, D).

    Rows are sorted by their product with a random vector, and only neighbours with nearly equal products are
    compared: one pass over the weights, where all pairs would take U of them.
    """
    generator = torch.Generator().manual_seed(0)
    product = torch.zeros(rows[0].shape[0], dtype=torch.float64)
    for part in rows:
        direction = torch.randn(part.shape[1], generator=generator).to(part.device)
        product += (part.float() @ direction).cpu().double()
    if not bool(torch.isfinite(product).all()):
        return torch.empty(0, 2, dtype=torch.long)
    product, order = product.sort()
    near = (product[1:] - product[:-1]) <= _NEAR * product.abs().max()
    candidates = torch.stack([order[1:], order[:-1]], 1)[near]
    return candidates[_equal(rows, candidates, _TOLERANCE, zero_counts=False)]


def _equal(parts: list[Tensor], pairs: Tensor, tolerance: float, zero_counts: bool = True) -> Tensor:
    """Which pairs of rows are equal up to a share of the part's largest magnitude; (P,) bool.

    zero_counts  whether two rows of zeros are equal
    """
    same = torch.ones(len(pairs), dtype=torch.bool)
    zero = torch.ones(len(pairs), dtype=torch.bool)
    for part in parts if len(pairs) else []:
        some = pairs.to(part.device)
        scale = torch.maximum(part.amax(), -part.amin())  # without a copy of the part
        for at in range(0, len(pairs), _CHUNK):
            one, other = part[some[at : at + _CHUNK, 0]], part[some[at : at + _CHUNK, 1]]
            same[at : at + _CHUNK] &= ((one - other).abs().amax(1) <= tolerance * scale).cpu()
            zero[at : at + _CHUNK] &= (one.abs().amax(1) == 0).cpu()
    return same if zero_counts else same & ~zero
