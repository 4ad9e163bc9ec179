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
        return torch.cat([t.reshape(-1) for t in tensors]).cpu()
    by_device: dict[torch.device, list[int]] = {}
    for i, t in enumerate(tensors):
        by_device.setdefault(t.device, []).append(i)
    pieces: dict[int, Tensor] = {}
    for members in by_device.values():
        host = torch.cat([tensors[i].reshape(-1) for i in members]).cpu()
        pieces.update(zip(members, host.split([tensors[i].numel() for i in members])))
    return torch.cat([pieces[i] for i in range(len(tensors))])
