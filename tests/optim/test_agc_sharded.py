"""Sharded parameters: two processes clip what one process would."""

from __future__ import annotations

import copy
import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from unitgain.optim import AGC, agc_

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


def parallel(rank: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        alone = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
        model = copy.deepcopy(alone)
        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        model = parallelize_module(model, init_device_mesh("cpu", (2,)), plan)
        x = torch.randn(5, 6)
        found = []
        for one in (alone, model):
            optimizer = torch.optim.SGD(one.parameters(), 0.1)
            agc = AGC(optimizer, one)
            (1e3 * one(x)).square().mean().backward()
            optimizer.step()
            assert agc.excluded == ["4.weight"]
            found.append((agc.metrics(), agc.metrics(reduce=dist.get_world_size() > 1)))
        for (name, a), b in zip(alone.named_parameters(), model.parameters()):
            full = b.full_tensor() if hasattr(b, "full_tensor") else b
            torch.testing.assert_close(full, a, msg=name)
        (whole, _), (_, together) = found
        assert together["agc/0.weight"] == pytest.approx(whole["agc/0.weight"])
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
def test_the_output_layer_is_found_and_clipping_right_under_tensor_parallelism() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(parallel, args=(port,), nprocs=2, start_method="fork")
