"""The clipping itself: which units of which gradients are too large, and what they are multiplied by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._base import InputError
from .units import Layout, all_reduce_norms, groups_to_sum_over, is_sharded, norms, scale_

_SMALLEST = 1e-6  # of a gradient's norm that is divided by
_FEW = 0.25  # up to this share of clipped units, only their memory is touched


@dataclass
class Entry:
    """A parameter with a gradient, and where its units lie."""

    parameter: Tensor
    layout: Layout
    clipping: float


def above_zero(name: str, value: Any) -> Any:
    """The value of an argument of adaptive gradient clipping. Raises InputError unless it is above 0, or is
    clipping=None, which clips nothing."""
    if value is None and name == "clipping":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InputError(f"agc: {name}={value!r}; expected a number above 0, like 0.01")
    return value


def clip(entries: Sequence[Entry], eps: float, grad_scale: float | Tensor) -> list[Tensor | None]:
    """Clips, and gives for every entry which of its units were: (units,) booleans, None where there are none.

    One read of weights and gradients gives the norms; all decisions are then taken on one vector of norms per
    device, and on a CPU only gradients with clipped units are written at all.
    """
    above_zero("eps", eps)
    masks: list[Tensor | None] = [None] * len(entries)
    dense: dict[Any, list[int]] = {}
    for number, entry in enumerate(entries):
        gradient = entry.parameter.grad
        assert gradient is not None
        if gradient.layout is not torch.strided:
            masks[number] = _clip_sparse(entry, eps, grad_scale)
        elif is_sharded(gradient) or gradient.numel():
            key = (gradient.device, entry.parameter.dtype, gradient.dtype)
            dense.setdefault(key, []).append(number)
    for numbers in dense.values():
        for number, mask in zip(numbers, _clip_dense([entries[n] for n in numbers], eps, grad_scale)):
            masks[number] = mask
    return masks


def _clip_dense(entries: Sequence[Entry], eps: float, grad_scale: float | Tensor) -> list[Tensor]:
    weights, gradients = _local_norms(entries)
    sizes = [len(g) for g in gradients]
    total = sum(sizes)
    if not total:
        return [g.bool() for g in gradients]
    norm_w, norm_g = torch.cat(weights), torch.cat(gradients)
    if isinstance(grad_scale, Tensor):
        grad_scale = grad_scale.to(norm_g.device, norm_g.dtype, non_blocking=True)
    limit = norm_w.clamp_(min=eps).to(norm_g.dtype)
    factors = {entry.clipping for entry in entries}
    if len(factors) == 1:
        limit.mul_(factors.pop())
    else:
        torch._foreach_mul_(list(limit.split(sizes)), [entry.clipping for entry in entries])
    limit.mul_(grad_scale)
    clipped = norm_g > limit
    scale = torch.where(clipped, limit / norm_g.clamp(min=_SMALLEST * grad_scale), 1.0)
    masks, scales = list(clipped.split(sizes)), scale.split(sizes)
    locals_ = [_local(entry.parameter.grad) for entry in entries]
    if norm_g.device.type != "cpu":  # finding out which ones need it would mean waiting for the device
        for entry, gradient, s in zip(entries, locals_, scales):
            if gradient.numel():
                scale_(gradient, entry.layout, s)
        return masks
    ends = torch.tensor(sizes).cumsum(0)
    upto = torch.cat([torch.zeros(1, dtype=torch.long), clipped.cumsum(0)])
    counts = (upto[ends] - upto[ends - torch.tensor(sizes)]).tolist()
    for entry, gradient, s, mask, count in zip(entries, locals_, scales, masks, counts):
        if count and gradient.numel():
            few = mask.nonzero().flatten() if count < _FEW * len(mask) else None
            scale_(gradient, entry.layout, s, few)
    return masks


def _local_norms(entries: Sequence[Entry]) -> tuple[list[Tensor], list[Tensor]]:
    """Norms of weights and of gradients for every entry; those of cut units added up over the ranks."""
    weights, gradients = [], []
    cut: dict[Any, list[int]] = {}
    for number, entry in enumerate(entries):
        gradient = entry.parameter.grad
        weights.append(norms(_local(entry.parameter), entry.layout))
        gradients.append(norms(_local(gradient), entry.layout))
        if is_sharded(entry.parameter):
            for group in groups_to_sum_over(entry.parameter, entry.layout):
                cut.setdefault(group, []).append(number)
    for group, numbers in cut.items():
        summed = all_reduce_norms(group, [weights[n] for n in numbers] + [gradients[n] for n in numbers])
        for place, number in enumerate(numbers):
            weights[number], gradients[number] = summed[place], summed[len(numbers) + place]
    return weights, gradients


def _local(tensor: Any) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor


WITHOUT_UNITS = (
    "has a sparse gradient without separate units; only row-sparse ones, as of nn.Embedding(..., sparse=True), are "
    "supported"
)


def has_units(entry: Entry) -> bool:
    gradient = entry.parameter.grad
    return (
        gradient is None
        or gradient.layout is torch.strided
        or (
            gradient.layout is torch.sparse_coo
            and gradient.sparse_dim() == 1
            and entry.layout.axis in (0, None)
        )
    )


def _clip_sparse(entry: Entry, eps: float, grad_scale: float | Tensor) -> Tensor:
    """Rows of an embedding that were looked up; the others have no gradient to clip."""
    p = entry.parameter
    gradient = p.grad
    assert gradient is not None
    if not has_units(entry):
        raise InputError(f"agc_: a parameter of shape {tuple(p.shape)} {WITHOUT_UNITS}")
    gradient = p.grad = gradient.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    mask = torch.zeros(entry.layout.units(p.shape), dtype=torch.bool, device=p.device)
    if not values.numel():
        return mask
    weights = p.detach()
    whole = entry.layout.axis is None
    norm_w = norms(weights if whole else weights[rows], entry.layout).clamp(min=eps)
    norm_g = norms(values, entry.layout)
    limit = norm_w.to(norm_g.dtype) * entry.clipping * grad_scale
    clipped = norm_g > limit
    scale_(values, entry.layout, torch.where(clipped, limit / norm_g.clamp(min=1e-6 * grad_scale), 1.0))
    mask[slice(None) if whole else rows] = clipped
    return mask
