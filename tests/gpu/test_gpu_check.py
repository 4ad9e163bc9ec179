"""check, fix, spp and the remedies on a model that lies on a GPU: what they say on the CPU, and no trace."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shared import cnn, images, on
from torch import Tensor, nn

import unitgain as ug


def healthy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * 49, 5),
    )  # fmt: skip


def sick() -> nn.Module:
    """Weights of N(0, 1), the classic mistake."""
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p)
    return model


def vectors(count: int = 128) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 32, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def randomness() -> list[Any]:
    states: list[Any] = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1]]  # noqa: NPY002
    return states + ([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b


def codes(report: ug.Report) -> set[str]:
    return {f.code for f in report.findings if f.severity != "info"}


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("make", [healthy, cnn], ids=["healthy", "cnn"])
def test_check_finds_what_it_finds_on_the_cpu_and_leaves_no_trace(
    device: torch.device, make: Any, steps: int
) -> None:
    plain, (x, y) = make(), images(32)
    want = ug.check(copy.deepcopy(plain), (x, y), F.cross_entropy, steps=steps)
    model, batch = on(device, plain), (x.to(device), y.to(device))
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model(batch[0]).square().mean().backward()
    optimizer.step()
    torch.rand(3, device=device)
    before, held = randomness(), copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    own = ug.check(model, batch, F.cross_entropy, steps=steps, optimizer=optimizer)
    assert all(map(same, before, randomness()))
    assert not any(m.training for m in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, held[0][name]), name
    for mine, theirs in zip(optimizer.state_dict()["state"].values(), held[1].values()):
        assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients))
    assert own.record.meta["device"] == str(next(model.parameters()).device)
    fresh = ug.check(on(device, plain), batch, F.cross_entropy, steps=steps)
    assert codes(fresh) == codes(want)
    assert fresh.record.facts.coupling.reason is None, fresh.record.facts.coupling
    assert fresh.record.facts.coupling.eval.differs is False


def test_check_without_targets_draws_its_direction_on_the_device(device: torch.device) -> None:
    x, _ = images(8)
    report = ug.check(on(device, healthy()), x.to(device))
    assert report.record.facts.gradient_source == "random"


def test_a_batch_on_another_device_is_named(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("there is one device")
    with pytest.raises(ug.InputError, match="is on cpu, the model on cuda:0"):
        ug.check(on(device, healthy()), images(8), F.cross_entropy)


def test_fix_repairs_on_the_device_and_dry_runs_change_nothing(device: torch.device) -> None:
    torch.manual_seed(0)
    plain, (x, y) = sick(), vectors()
    model, batch = on(device, plain), (x.to(device), y.to(device))
    held = copy.deepcopy(model.state_dict())
    ug.fix(model, batch, F.cross_entropy, dry_run=True)
    assert all(torch.equal(v, held[n]) for n, v in model.state_dict().items())
    result = ug.fix(model, batch, F.cross_entropy)
    assert not result.before.ok
    assert result.after.ok, result.after
    assert all(p.device.type == device.type for p in model.parameters())


def test_spp_draws_the_same_plot(device: torch.device) -> None:
    torch.manual_seed(0)
    model, (x, _) = ug.models.create("nf_resnet_tiny", num_classes=5), images(4, 32)
    want, got = ug.spp(model, x, open_gains=True), ug.spp(on(device, model), x.to(device), open_gains=True)
    for name, values in want.values("activation", 0).items():
        found = got.values("activation", 0)[name]
        for statistic in ("channel_var", "sq_channel_mean", "std"):
            if statistic in values:
                assert found[statistic] == pytest.approx(values[statistic], rel=1e-3, abs=1e-5), (
                    name,
                    statistic,
                )
    assert want.meta["spp"]["law"] == got.meta["spp"]["law"]


@pytest.mark.parametrize("scheme", ["kaiming", "glorot", "orthogonal"])
def test_init_and_lsuv_work_in_place(device: torch.device, scheme: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.PReLU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 10)).to(
        device
    )
    x = vectors()[0].to(device)
    ug.init_(model, scheme, batch=x)
    report = ug.lsuv_(model, x * 5)
    assert [m.status for m in report.measured] == ["reached"] * 3
    assert all(p.device.type == device.type for p in model.parameters())


def test_the_slope_of_a_functional_prelu_is_known_to_the_initialization(device: torch.device) -> None:
    """The slope lies on the device, theory asks on the CPU in float64: the gain fell back to 1."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(32, 4096), nn.Linear(4096, 10)
            self.slope = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(F.prelu(self.one(x), self.slope))

    model = Net().to(device)
    ug.init_(model, batch=vectors()[0].to(device), readout=1.0)
    assert float(model.two.weight.detach().std()) * 64 == pytest.approx(2**0.5, rel=0.02)


def test_calibration_of_batch_norm_is_that_of_the_cpu(device: torch.device) -> None:
    plain, (x, _) = cnn(), images()
    batches = [x[:8], x[8:]]
    want = ug.nn.calibrate_(copy.deepcopy(plain), batches)
    got = ug.nn.calibrate_(on(device, plain), [b.to(device) for b in batches])
    for a, b in zip(want.buffers(), got.buffers()):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-5)
