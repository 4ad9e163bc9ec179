"""Units of a layer that compute the same: rows of a weight (with their biases) that are equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

_TOLERANCE = 1e-6  # of the largest magnitude: a few units in the last place of float32
_GRADIENT_TOLERANCE = 1e-4  # sums over a batch round more


@torch.no_grad()
def same_units(model: nn.Module) -> dict[str, dict[str, Any]]:
    """{weight's name: {units, copies, learn_alike}} of the layers that have units which are copies of another.

    copies       units whose incoming weights and bias another unit of the layer has too (all-zero ones left out)
    learn_alike  of these, copies whose gradient is that of the other unit too: nothing tells them apart, ever

    Linear layers, convolutions (units of one group see the same inputs, units of different groups do not),
    recurrent cells and attention's input projection are looked at. Call it after backward.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, module in model.named_modules():
        for name, parts, groups in _layers(module):
            rows = _side_by_side([_by_unit(p, p, transposed) for p, transposed in parts])
            if rows.shape[0] < 2 * groups or not bool(torch.isfinite(rows).all()):
                continue
            gradients = [p.grad for p, _ in parts]
            ways = None
            if not any(g is None or g.is_sparse for g in gradients):
                ways = _side_by_side([_by_unit(p, p.grad, transposed) for p, transposed in parts])
            copies, alike = 0, 0
            for start in range(0, rows.shape[0], rows.shape[0] // groups):
                group = slice(start, start + rows.shape[0] // groups)
                c, a = _count(rows[group], None if ways is None else ways[group])
                copies, alike = copies + c, alike + a
            if copies:
                full = f"{path}.{name}" if path else name
                found[full] = {"units": rows.shape[0], "copies": copies, "learn_alike": alike}
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
    elif isinstance(module, nn.RNNBase):
        for name, _ in module.named_parameters(recurse=False):
            if name.startswith("weight_ih"):
                rest = [name.replace("weight_ih", part) for part in ("weight_hh", "bias_ih", "bias_hh")]
                yield name, _parts(module, name, *rest), 1
    elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        yield "in_proj_weight", _parts(module, "in_proj_weight", "in_proj_bias"), 1


def _parts(module: nn.Module, *names: str, transposed: bool = False) -> list[Part]:
    tensors = [getattr(module, name, None) for name in names]
    return [(t, transposed and t.dim() > 1) for t in tensors if isinstance(t, Tensor)]


def _by_unit(parameter: Tensor, values: Any, transposed: bool) -> Tensor:
    assert values.shape == parameter.shape
    moved = values.detach().transpose(0, 1) if transposed else values.detach()
    return moved.reshape(moved.shape[0], -1)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.double() for part in parts], 1)  # (U, D)


def _count(rows: Tensor, gradients: Tensor | None) -> tuple[int, int]:
    """(copies, copies that get the same gradient too) among rows (U, D).

    Rows are sorted by their product with a random vector; only neighbours there are compared. One pass over the
    weights, where comparing all pairs would take U of them.
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64).to(rows.device)
    order = (rows @ direction).argsort()
    some = rows[order]
    scale = rows.abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    same = ((some[1:] - some[:-1]).abs().amax(1) <= _TOLERANCE * scale) & (some[1:].abs().amax(1) > 0)
    copies = int(same.sum())
    if not copies or gradients is None:
        return copies, 0
    ways = gradients[order]
    largest = ways.abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    alike = (ways[1:] - ways[:-1]).abs().amax(1) <= _GRADIENT_TOLERANCE * largest
    return copies, int((same & alike).sum())
