"""What one process of a distributed job does; imported by the processes that test_ranks.py starts."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn

import unitgain as ug
from unitgain import stats

EXAMPLES = 16


def run(rank: int, world: int, port: int, folder: Path, how: str = "", **options) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.chdir(folder)
    dist.init_process_group("gloo")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampled = 0 if how else train(rank, **options)
        if how == "flat":
            refuse_flat()
        elif how and "clipping" in options:
            clip_cut_up(how, **options)
        elif how and "checkpoint" in options:
            train_on(how, **options)
        elif how:
            train_cut_up(how, **options)
    ours = [str(w.message) for w in caught if "unitgain" in str(w.message) or "defect" in str(w.message)]
    Path(f"warnings{rank}.txt").write_text("\n".join(ours))
    Path(f"sampled{rank}.txt").write_text(str(sampled))
    dist.barrier()
    dist.destroy_process_group()


def train(
    rank: int,
    full_at: int | None = None,
    only: int | None = None,
    failing_at: int | None = None,
    dying_at: int | None = None,
    **options,
) -> int:
    """The loop of the README. full_at: the step from which rank 0 can write nothing any more. only: the rank that has
    a Probe. failing_at: the step from which measuring fails on rank 1. dying_at: the step in which its process ends."""
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    probe = ug.Probe(model, optimizer, every=2, **options) if only in (None, rank) else None
    with probe or contextlib.nullcontext():
        for step in range(20):
            if step == full_at and rank == 0 and probe is not None:
                probe.record._connection.execute("PRAGMA max_page_count = 1")
            if step == failing_at and rank == 1:
                stats.take_examples = lambda *a, **k: 1 / 0
            loss = F.cross_entropy(model(torch.randn(12, 6)), torch.arange(12) % 3)
            if step == dying_at and rank == 1:
                os._exit(3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if probe is not None:
                probe.log(loss=loss)
    return 0 if probe is None else len(probe.record.steps())


def network(how: str) -> nn.Module:
    torch.manual_seed(0)
    inside = 41 if "uneven" in how else 48  # a matrix of more values than a sample takes, without limit=None
    return nn.Sequential(nn.Linear(30, inside), nn.Tanh(), nn.Linear(inside, 4))


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(EXAMPLES, 30, generator=generator), torch.arange(EXAMPLES) % 4


def cut_up(how: str, model: Any) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    world = dist.get_world_size()
    if how == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if how == "2-d":
        whole = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("parts", "units"))
        units, mesh = whole["units"], whole["parts"]
    elif how == "hybrid":
        copies = 2 if world > 2 else world
        units, mesh = (
            None,
            init_device_mesh("cpu", (copies, world // copies), mesh_dim_names=("copies", "parts")),
        )
    else:
        units = mesh = init_device_mesh("cpu", (world,))
    if how in ("tensor", "2-d"):
        parallelize_module(model, units, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    if how == "tensor":
        return model
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def own_batch(how: str, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """This rank's examples. Ranks that have other units of one layer have the same ones."""
    rank, world = dist.get_rank(), dist.get_world_size()
    parts, part = {"tensor": (1, 0), "2-d": (world // 2, rank // 2)}.get(how, (world, rank))
    x, y = batch(step)
    return x.chunk(parts)[part], y.chunk(parts)[part]


def train_cut_up(how: str, **options) -> None:
    model = cut_up(how, network(how))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ug.Probe(model, optimizer, every=2, strict=True, **options):
        for step in range(5):
            step_on(model, optimizer, *own_batch(how, step))


def clip_cut_up(how: str, clipping: float) -> None:
    model = cut_up(how, network(how))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    agc = ug.optim.AGC(optimizer, model, clipping)
    for step in range(3):
        step_on(model, optimizer, *own_batch(how, step))
    assert agc.excluded == ["2.weight"], agc.excluded
    save_weights(model)


def save_weights(model: nn.Module) -> None:
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]  # type: ignore[operator]
    torch.save([p.detach() for p in whole], f"weights{dist.get_rank()}.pt")


def train_on(how: str, checkpoint: Path, steps: tuple[int, int]) -> None:
    """Trains, clips and measures some steps: from a checkpoint, unless they are the first ones, and to one."""
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    model: Any = cut_up(how, network(how))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    first, end = steps
    if first:
        weights, moments = get_state_dict(model, optimizer)
        dcp.load({"model": weights, "optimizer": moments}, checkpoint_id=checkpoint)
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments)
    ug.optim.AGC(optimizer, model, 0.02)
    to: Any = "run.sqlite"
    if first:
        to = ug.Record.reopen("run.sqlite", before=first) if not dist.get_rank() else None
    probe = ug.Probe(model, optimizer, every=1, to=to, strict=True, limit=None)
    probe.go_to(first)
    with probe:
        for step in range(first, end):
            step_on(model, optimizer, *own_batch(how, step))
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=checkpoint)
    probe.record.close()
    save_weights(model)


def train_on_alone(how: str, steps: int) -> tuple[list[torch.Tensor], ug.Record]:
    model = network(how)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    ug.optim.AGC(optimizer, model, 0.02)
    with ug.Probe(model, optimizer, every=1, strict=True, limit=None) as probe:
        for step in range(steps):
            step_on(model, optimizer, *batch(step))
    return [p.detach() for p in model.parameters()], probe.record


def refuse_flat() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FSDP1 is deprecated
        model = FullyShardedDataParallel(network(""), device_id=torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for make in (
        lambda: ug.Probe(model, optimizer),
        lambda: ug.watch(model, optimizer),
        lambda: ug.optim.AGC(optimizer, model),
    ):
        with pytest.raises(ug.InputError, match=r"FSDP1.*fully_shard"):
            make()


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
