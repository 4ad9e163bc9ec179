"""Sharded parameters: two processes clip what one process would."""

from __future__ import annotations

import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from unitgain.optim import agc_

SHAPES = {"matrix": (5, 6), "vector": (7,), "gain": (3, 1, 1, 1), "filters": (3, 2, 3, 3), "columns": (4, 6)}


def tensors() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(shape, generator=generator)  # noqa: E731
    return {name: (draw(shape), draw(shape)) for name, shape in SHAPES.items()}


def expected() -> dict[str, torch.Tensor]:
    found = {}
    for name, (w, g) in tensors().items():
        p = nn.Parameter(w)
        p.grad = g.clone()
        agc_(p, 0.05)
        found[name] = p.grad
    return found


def work(rank: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Replicate, Shard, distribute_tensor

        warnings.filterwarnings("ignore", "DTensor random operators may not")  # torch 2.6; none is used here
        mesh = init_device_mesh("cpu", (2,))
        ps = {}
        for name, (w, g) in tensors().items():
            # uneven shards along the outputs; one along the inputs, which cuts every unit; one replicated
            place = [Shard(1)] if name == "columns" else [Replicate()] if name == "filters" else [Shard(0)]
            ps[name] = nn.Parameter(distribute_tensor(w, mesh, place))
            ps[name].grad = distribute_tensor(g, mesh, place)
        agc_(ps.values(), 0.05)
        for name, gradient in expected().items():
            torch.testing.assert_close(ps[name].grad.full_tensor(), gradient, msg=name)
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
def test_units_cut_by_a_shard_are_measured_whole() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(work, args=(port,), nprocs=2, start_method="fork")
