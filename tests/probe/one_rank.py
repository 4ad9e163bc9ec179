"""What one process of a distributed job does; imported by the processes that test_ranks.py starts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn

import unitgain as ug
from unitgain import stats

EXAMPLES = 16


def run(rank: int, port: int, folder: Path, how: str = "", **options) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.chdir(folder)
    dist.init_process_group("gloo")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampled = 0 if how else train(rank, **options)
        if how and "clipping" in options:
            clip_cut_up(how, rank, **options)
        elif how:
            train_cut_up(how, rank, **options)
    ours = [str(w.message) for w in caught if "unitgain" in str(w.message) or "defect" in str(w.message)]
    Path(f"warnings{rank}.txt").write_text("\n".join(ours))
    Path(f"sampled{rank}.txt").write_text(str(sampled))
    dist.barrier()
    dist.destroy_process_group()


def train(
    rank: int, full_at: int | None = None, only: int | None = None, failing_at: int | None = None, **options
) -> int:
    """The loop of the README. full_at: the step from which rank 0 can write nothing any more. only: the rank that has
    a Probe. failing_at: the step from which measuring fails on rank 1."""
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = ug.Probe(model, optimizer, every=2, **options) if only in (None, rank) else None
    if probe is not None:
        probe.start()
    for step in range(20):
        if step == full_at and rank == 0 and probe is not None:
            probe.record._connection.execute("PRAGMA max_page_count = 1")
        if step == failing_at and rank == 1:
            stats.take_examples = lambda *a, **k: 1 / 0
        loss = F.cross_entropy(model(torch.randn(12, 6)), torch.arange(12) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if probe is not None:
            probe.log(loss=loss)
    if probe is None:
        return 0
    probe.stop()
    return len(probe.record.steps())


def network(how: str) -> nn.Module:
    torch.manual_seed(0)
    inside = 41 if "uneven" in how else 48  # a matrix of more values than a sample takes, without limit=None
    return nn.Sequential(nn.Linear(30, inside), nn.Tanh(), nn.Linear(inside, 4))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(EXAMPLES, 30, generator=generator), torch.arange(EXAMPLES) % 4


def cut_up(how: str, model: Any) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    if how == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if how == "tensor":
        from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        return parallelize_module(model, init_device_mesh("cpu", (2,)), plan)
    from torch.distributed.fsdp import fully_shard

    shape, names = ((2, 1), ("copies", "parts")) if how == "hybrid" else ((2,), ("parts",))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train_cut_up(how: str, rank: int, **options) -> None:
    model = cut_up(how, network(how))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ug.Probe(model, optimizer, every=2, strict=True, **options):
        for step in range(5):
            x, y = batch(step)
            if how != "tensor":  # whose ranks have the same examples
                x, y = x.chunk(2)[rank], y.chunk(2)[rank]
            step_on(model, optimizer, x, y)


def clip_cut_up(how: str, rank: int, clipping: float) -> None:
    model = cut_up(how, network(how))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    agc = ug.optim.AGC(optimizer, model, clipping)
    for step in range(3):
        x, y = batch(step)
        if how != "tensor":
            x, y = x.chunk(2)[rank], y.chunk(2)[rank]
        step_on(model, optimizer, x, y)
    assert agc.excluded == ["2.weight"], agc.excluded
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    torch.save([p.detach() for p in whole], f"weights{rank}.pt")


def clip_alone(how: str, clipping: float) -> list[torch.Tensor]:
    model = network(how)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    agc = ug.optim.AGC(optimizer, model, clipping)
    for step in range(3):
        step_on(model, optimizer, *batch(step))
    assert max(float(r.max()) for r in agc.rates().values()) == 1
    return [p.detach() for p in model.parameters()]


def step_on(model: nn.Module, optimizer: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def alone(how: str) -> ug.Record:
    """The same training in one process."""
    model = network(how)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ug.Probe(model, optimizer, every=2, strict=True, limit=None) as probe:
        for step in range(5):
            step_on(model, optimizer, *batch(step))
    return probe.record


def gradient_norms(how: str) -> dict[str, float]:
    """Of the first step, by hand."""
    model = network(how)
    x, y = batch(0)
    F.cross_entropy(model(x), y).backward()
    return {name: float(p.grad.norm()) for name, p in model.named_parameters()}
