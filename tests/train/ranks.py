"""What one rank of a data-parallel run does; imported by the processes that test_distributed.py starts."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

import unitgain as ug
from unitgain.train import (
    ActivationStats,
    Checkpoint,
    Distributed,
    InMemoryLoader,
    Learner,
    Metrics,
    Recorder,
    accuracy,
)


def learner(kind: str, folder: Path) -> Learner:
    torch.manual_seed(1)
    norm = nn.BatchNorm1d(24) if kind == "batchnorm" else nn.Identity()
    model = nn.Sequential(nn.Linear(6, 24), norm, nn.Tanh(), nn.Linear(24, 4))
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(403, 6, generator=generator)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    if kind == "loader":
        dataset = torch.utils.data.TensorDataset(x[:400], y[:400])
        train = torch.utils.data.DataLoader(dataset, batch_size=16, shuffle=True)
    elif kind == "list":
        train = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 400, 16)]
    else:
        train = InMemoryLoader((x[:400], y[:400]), 16, shuffle=True)
    callbacks = [
        Distributed(),
        Metrics(accuracy),
        Recorder(),
        ActivationStats(every=10, limit=None),
        Checkpoint(folder / "checkpoints"),
    ]
    valid = InMemoryLoader((x, y), 100)  # its last batch has 3 examples
    return Learner(model, (train, valid), "auto", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), callbacks,
                   record=folder / "run.sqlite")  # fmt: skip


def run(
    kind: str, rank: int, world: int, port: int, folder: Path, epochs: int = 2, resume: bool = False
) -> None:
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                          MASTER_PORT=str(port))  # fmt: skip
    learn = learner(kind, folder)
    if resume:
        learn.resume(folder / "checkpoints")
    learn.fit(epochs)
    if world > 1:
        (folder / f"rank{rank}.txt").write_text(
            repr((learn.metrics, [p.sum().item() for p in learn.model.parameters()]))
        )
        torch.distributed.destroy_process_group()


def losses(folder: Path) -> list[float]:
    return ug.Record.load(folder / "run.sqlite").metric("loss")[1].tolist()
