"""From several devices to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_host(tensors: Sequence[Tensor]) -> Tensor:
    """All values of the tensors one after the other, in one tensor on the CPU: one copy per device.

    The layers of one model may lie on several devices. Types that differ are promoted as torch does.

    >>> to_host([torch.ones(2, 1), torch.zeros(1)])
    tensor([1., 1., 0.])
    """
    first = tensors[0].device
    if all(t.device == first for t in tensors):
        return torch.cat([t if t.dim() == 1 else t.reshape(-1) for t in tensors]).cpu()
    by_device: dict[torch.device, list[int]] = {}
    for i, t in enumerate(tensors):
        by_device.setdefault(t.device, []).append(i)
    pieces: dict[int, Tensor] = {}
    for members in by_device.values():
        host = torch.cat([tensors[i].reshape(-1) for i in members]).cpu()
        pieces.update(zip(members, host.split([tensors[i].numel() for i in members])))
    return torch.cat([pieces[i] for i in range(len(tensors))])


def fetch(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors on the CPU, each in its own type and shape: one copy per device, also of different types.

    What lies on the CPU already is returned as it is.

    >>> fetch([torch.ones(2, dtype=torch.float64), torch.tensor(True)])
    [tensor([1., 1.], dtype=torch.float64), tensor(True)]
    """
    found = list(tensors)
    by_device: dict[torch.device, dict[torch.dtype, list[int]]] = {}
    for i, t in enumerate(tensors):
        if t.device.type != "cpu":
            by_device.setdefault(t.device, {}).setdefault(t.dtype, []).append(i)
    for by_type in by_device.values():
        # wide types first, so that each begins at a multiple of its size among the bytes
        types = sorted(by_type, key=lambda dtype: -dtype.itemsize)
        flat = [torch.cat([tensors[i].reshape(-1) for i in by_type[dtype]]) for dtype in types]
        host = torch.cat([values.view(torch.uint8) for values in flat]).cpu()
        parts = host.split([values.numel() * values.element_size() for values in flat])
        for dtype, part in zip(types, parts):
            pieces = part.view(dtype).split([tensors[i].numel() for i in by_type[dtype]])
            for i, piece in zip(by_type[dtype], pieces):
                found[i] = piece.view(tensors[i].shape)
    return found
