"""On a GPU: it runs, gives the CPU's numbers, and waits for the device only where a step ends."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from unitgain import Probe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def make() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(512, 40),
        nn.Tanh(), nn.Linear(40, 4),
    )  # fmt: skip


def train(model: nn.Module, x: torch.Tensor, steps: int = 3, **options) -> Probe:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with Probe(model, optimizer, strict=True, **options) as probe:
        for _ in range(steps):
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return probe


@pytest.mark.parametrize("limit", [None, 16_384])
def test_a_gpu_gives_the_statistics_of_the_cpu(limit: int | None) -> None:
    model, x = make(), torch.randn(16, 3, 8, 8)
    plain = train(copy.deepcopy(model), x, limit=limit).record
    moved = train(model.cuda(), x.cuda(), limit=limit).record
    assert plain.steps() == moved.steps()
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        for name, want in plain.values(kind, 0).items():
            got = moved.values(kind, 0)[name]
            assert got.keys() == want.keys(), (kind, name)
            for statistic in ("rms", "std", "absmax", "dead", "saturated"):
                if statistic in want:
                    expected = pytest.approx(want[statistic], rel=1e-2, abs=1e-6)
                    assert got[statistic] == expected, (kind, name, statistic)


def test_nothing_waits_for_the_gpu_in_the_middle_of_a_step() -> None:
    model, x = make().cuda(), torch.randn(16, 3, 8, 8).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with Probe(model, optimizer, strict=True) as probe:
        for _ in range(2):  # the first step finds out what there is to measure
            model(x).square().mean().backward()
            optimizer.step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss = model(x).square().mean()
            loss.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        optimizer.step()
    assert probe.record.steps() == [0, 1, 2]


def test_one_infinite_value_in_a_large_gradient_is_seen_on_a_gpu() -> None:
    net = nn.Linear(300, 400).cuda()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with Probe(net, optimizer, strict=True) as probe:
        net(torch.randn(16, 300).cuda()).square().mean().backward()
        assert net.weight.grad is not None
        net.weight.grad[123, 45] = math.inf
        optimizer.step()
    assert probe.record.value("parameter_gradient", "weight", "nonfinite") > 0
