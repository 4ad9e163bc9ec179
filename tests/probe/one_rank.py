"""What one process of a data-parallel job does; imported by the processes that test_ranks.py starts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch import nn

import unitgain as ug


def run(rank: int, port: int, folder: Path, **options) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.chdir(folder)
    dist.init_process_group("gloo")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampled = train(rank, **options)
    Path(f"warnings{rank}.txt").write_text("\n".join(str(w.message) for w in caught))
    Path(f"sampled{rank}.txt").write_text(str(sampled))
    dist.barrier()
    dist.destroy_process_group()


def train(rank: int, full_at: int | None = None, **options) -> int:
    """The loop of the README. full_at: the step from which rank 0 can write nothing any more."""
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ug.Probe(model, optimizer, every=2, **options) as probe:
        for step in range(20):
            if step == full_at and rank == 0:
                probe.record._connection.execute("PRAGMA max_page_count = 1")
            loss = F.cross_entropy(model(torch.randn(12, 6)), torch.arange(12) % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    return len(probe.record.steps())
