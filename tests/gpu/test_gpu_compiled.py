"""torch.compile with CUDA graphs: steps that a Probe does not measure replay them, the others run as the model is."""

from __future__ import annotations

import contextlib
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

from unitgain import Probe

STEPS, EVERY = 12, 4


def network(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4)).to(device)


def train(device: torch.device, probe: bool) -> tuple[list[Tensor], int, int, Probe | None]:
    """(weights, graphs, those that no CUDA graph was made for, the Probe); without one on the same schedule."""
    torch._dynamo.reset()
    counters.clear()
    model = network(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    compiled = torch.compile(model, mode="reduce-overhead", fullgraph=True)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(24, 16, generator=generator).to(device)
    y = torch.randint(0, 4, (24,), generator=generator).to(device)
    context = Probe(compiled, optimizer, every=EVERY, strict=True) if probe else contextlib.nullcontext()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about torch itself
        with context as watch:
            for number in range(STEPS):
                torch.compiler.cudagraph_mark_step_begin()
                eagerly = not probe and number % EVERY == 0
                with torch.compiler.set_stance("force_eager") if eagerly else contextlib.nullcontext():
                    F.cross_entropy(compiled(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
    graphs, skipped = counters["stats"]["unique_graphs"], counters["inductor"]["cudagraph_skips"]
    weights = [p.detach().clone() for p in model.parameters()]
    torch._dynamo.reset()
    return weights, graphs, skipped, watch


@pytest.mark.needs_cuda
def test_cuda_graphs_are_kept_and_not_a_bit_of_training_changes(
    device: torch.device, deterministic: None
) -> None:
    plain, graphs, skipped, _ = train(device, probe=False)
    probed, graphs_with, skipped_with, watch = train(device, probe=True)
    assert (graphs, skipped) == (graphs_with, skipped_with) == (1, 0)
    assert all(torch.equal(a, b) for a, b in zip(plain, probed))
    assert watch is not None
    assert watch.record.steps() == list(range(0, STEPS, EVERY))
    for step in watch.record.steps():
        assert list(watch.record.values("activation", step)) == ["0", "1", "2", "3"]
        assert len(watch.record.values("update", step)) == 6
