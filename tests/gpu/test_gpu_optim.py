"""Optimizers and adaptive gradient clipping on a GPU: the CPU's float64 results, and no waiting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shared import close, cnn, images, no_waiting, on
from torch import nn

import unitgain as ug

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p, **o: ug.optim.SGD(p, lr=0.05, weight_decay=0.1, **o),
    "Momentum": lambda p, **o: ug.optim.Momentum(p, lr=0.05, momentum=0.8, weight_decay=0.1, **o),
    "RMSProp": lambda p, **o: ug.optim.RMSProp(p, lr=0.01, weight_decay=0.1, **o),
    "Adam": lambda p, **o: ug.optim.Adam(p, lr=0.01, weight_decay=0.1, **o),
}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(32, 16, 3, 3), (32,), (), (10, 32), (5, 1, 1, 1), (0, 3), (7, 3, 5)]
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def gradients(step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(p.shape, generator=generator) for p in parameters()]


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_steps_are_those_of_float64_and_do_not_wait(
    device: torch.device, name: str, foreach: bool | None
) -> None:
    here = [nn.Parameter(p.detach().double()) for p in parameters()]
    there = [nn.Parameter(p.detach().to(device)) for p in parameters()]
    want, got = OPTIMIZERS[name](here, foreach=False), OPTIMIZERS[name](there, foreach=foreach)
    for step in range(4):
        for p, q, g in zip(here, there, gradients(step)):
            p.grad, q.grad = g.double(), g.to(device)
        want.step()
        with no_waiting():
            got.step()
    for p, q in zip(here, there):
        if p.numel():
            close(q, p, 1e-5)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_half_precision_and_channels_last_parameters_step_too(device: torch.device, name: str) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        p = nn.Parameter(torch.randn(8, 4, 3, 3).to(device, dtype, memory_format=torch.channels_last))
        p.grad = torch.randn(8, 4, 3, 3).to(device, dtype)
        before = p.detach().clone()
        OPTIMIZERS[name]([p]).step()
        assert bool(torch.isfinite(p).all())
        assert not torch.equal(p, before)


def test_a_learning_rate_in_a_tensor_is_used_where_it_lies(device: torch.device) -> None:
    for place in (device, torch.device("cpu")):
        p, q = nn.Parameter(torch.ones(4, device=device)), nn.Parameter(torch.ones(4, device=device))
        p.grad = q.grad = torch.full((4,), 0.5, device=device)
        ug.optim.SGD([p], lr=torch.tensor(0.25, device=place)).step()
        ug.optim.SGD([q], lr=0.25).step()
        assert torch.equal(p, q)


# ---- adaptive gradient clipping ----------------------------------------------------------------------------


@pytest.mark.parametrize("gains", ["vector", "channel"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=str)
def test_agc_is_that_of_float64_and_does_not_wait(
    device: torch.device, form: torch.memory_format, gains: str
) -> None:
    here = [nn.Parameter(p.detach().double()) for p in parameters()]
    there = []
    for p, g in zip(here, gradients(0)):
        p.grad = g.double() * 0.02
        shaped = form if p.dim() == 4 else torch.preserve_format
        q = nn.Parameter(p.detach().float().to(device, memory_format=shaped))
        q.grad = p.grad.float().to(device, memory_format=shaped)
        there.append(q)
    want = ug.optim.agc_(here, 0.02, gains=gains)
    ug.optim.agc_([copy.deepcopy(q) for q in there], 0.02, gains=gains)
    with no_waiting():
        got = ug.optim.agc_(there, 0.02, gains=gains)
    assert got.device.type == device.type
    assert int(got) == int(want) > 0
    for p, q in zip(here, there):
        assert p.grad is not None
        assert q.grad is not None
        if p.numel():
            close(q.grad, p.grad, 1e-5)


def test_groups_with_factors_of_their_own_do_not_wait(device: torch.device) -> None:
    results = []
    for place in (torch.device("cpu"), device):
        ps = [nn.Parameter(p.detach().to(place)) for p in parameters()]
        for p, g in zip(ps, gradients(1)):
            p.grad = g.to(place)
        groups: list[dict[str, Any]] = [
            {"params": ps[:2]}, {"params": ps[2:4], "clipping": 0.3}, {"params": ps[4:6], "clipping": None},
            {"params": ps[6:], "clipping": 1e-3},
        ]  # fmt: skip
        with no_waiting():
            ug.optim.agc_(groups, 0.02)
        results.append([p.grad for p in ps])
    for want, got in zip(*results):
        torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-7)


def test_agc_beside_an_optimizer_clips_and_counts_as_on_the_cpu(device: torch.device) -> None:
    plain, (x, y) = cnn(), images()
    rates, weights = [], []
    for place in (torch.device("cpu"), device):
        model, inputs, target = on(place, plain), x.to(place), y.to(place)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ug.optim.AGC(optimizer, model, clipping=0.005) as agc:
            for step in range(3):
                optimizer.zero_grad()
                (50 * F.cross_entropy(model(inputs), target)).backward()
                with no_waiting(step > 0):
                    optimizer.step()
            rates.append({name: rate.mean().item() for name, rate in agc.rates().items()})
            assert agc.excluded == ["10.weight"]
        weights.append([p.detach() for p in model.parameters()])
    assert rates[1] == pytest.approx(rates[0], abs=0.05)
    assert sum(rates[1].values()) > 0
    for want, got in zip(*weights):
        close(got, want, 1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_agc_under_a_scaler_clips_unscaled_gradients(device: torch.device, fused: bool) -> None:
    plain, (x, y) = cnn(), (t.to(device) for t in images())
    models = [on(device, plain) for _ in range(2)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, fused=fused) for m in models]
    for model, optimizer in zip(models, optimizers):
        ug.optim.AGC(optimizer, model)
    scaler = torch.amp.GradScaler(device.type, init_scale=256.0)
    scaler.scale(F.cross_entropy(models[0](x), y)).backward()
    scaler.step(optimizers[0])
    scaler.update()
    F.cross_entropy(models[1](x), y).backward()
    optimizers[1].step()
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        close(a, b, 1e-5)


def test_sparse_gradients_of_an_embedding_are_clipped(device: torch.device) -> None:
    results = []
    for place in (torch.device("cpu"), device):
        torch.manual_seed(0)
        table = nn.Embedding(20, 4, sparse=True).to(place)
        (table(torch.tensor([1, 3, 3], device=place)) * 10).square().sum().backward()
        ug.optim.agc_(table.weight, 0.01)
        assert table.weight.grad is not None
        results.append(table.weight.grad.to_dense().cpu())
    torch.testing.assert_close(*results)
