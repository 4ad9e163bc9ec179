"""Training does not wait for an accelerator: shown on a pretended one, since there is none here.

A wait costs little on the CPU and everything on a GPU, whose queue runs dry; no test on the CPU would notice it.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pretended import Pretended, here, moved, there, watched
from torch import nn

import unitgain as ug
from unitgain import Probe, stats
from unitgain.stats.sample import _runs


@pytest.fixture(autouse=True)
def fresh_places() -> None:
    _runs.cache_clear()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x + self.gain * torch.tanh(self.norm(self.conv(x)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), Block(), nn.GELU(), nn.MaxPool2d(2),
        ug.nn.ScaledStdConv2d(8, 16, 3, padding=1, gamma="relu"), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16 * 16, 32),
        nn.Sigmoid(), nn.Linear(32, 5),
    )  # fmt: skip


def batch() -> tuple[Pretended, Pretended]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(16, 3, 32, 32, generator=generator)
    return there(x), there(torch.randint(0, 5, (16,), generator=generator))


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=True)


def test_the_pretended_accelerator_sees_waits_and_refuses_mixtures() -> None:
    x = there(torch.randn(4, 3))
    with watched() as watch:
        assert torch.zeros(3, device=x.device).device == x.device
        float(x.sum())
        assert len(x[x > 0]) > 0
        x.cpu()
        torch.ones(4, 3).to(x.device)
        torch.tensor([1.0], device=x.device)
        with pytest.raises(RuntimeError, match="on the CPU"):
            torch.add(x, torch.ones(3))
    assert [w.split(" ")[0] for w in watch.waits] == [
        "_local_scalar_dense", "index", "_to_copy", "_to_copy", "tensor(...,",
    ]  # fmt: skip


@pytest.mark.parametrize(("limit", "every"), [(None, 1), (16_384, 1), (16_384, 2)])
def test_a_probe_waits_once_when_it_writes_and_never_before(limit: int | None, every: int) -> None:
    model, (x, y) = moved(network()), batch()
    optimizer = make_optimizer(model)
    with watched() as watch, Probe(model, optimizer, every=every, limit=limit, strict=True) as probe:
        for step in range(4):
            watch.forget()
            F.cross_entropy(model(x), y).backward()
            before_step = list(watch.waits)
            optimizer.step()
            waits = watch.waits[len(before_step) :]
            optimizer.zero_grad()
            if step == 0:
                continue  # finds out what there is to measure, and looks at the input
            assert before_step == [], step
            assert all(w.startswith("_to_copy at stats/host.py") for w in waits), waits
            assert len(waits) <= (step % every == 0), waits
            if step % every == 0 and limit is None:
                assert len(waits) == 1, "every sampled step is written at once"
        watch.forget()
        record = probe.record  # what waits is written now
        assert len(watch.waits) <= 1
    assert record.steps() == list(range(0, 4, every))


@pytest.mark.parametrize("limit", [None, 16_384])
def test_a_record_made_there_is_the_one_made_here(limit: int | None) -> None:
    plain, (x, y) = network(), batch()
    model = moved(plain)
    records = []
    for net, inputs, target in ((plain, here(x), here(y)), (model, x, y)):
        optimizer = make_optimizer(net)
        with watched(), Probe(net, optimizer, limit=limit, strict=True, every=1) as probe:
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(net(inputs), target).backward()
                optimizer.step()
        records.append(probe.record)
    want, got = records
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        for step in range(2):
            expected, found = want.values(kind, step), got.values(kind, step)
            assert expected.keys() == found.keys()
            for name, values in expected.items():
                assert values.keys() == found[name].keys(), (kind, name)
                for statistic, value in values.items():
                    if value is not None:
                        close = pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True)
                        assert found[name][statistic] == close, (kind, name, statistic)


def test_gradient_accumulation_merges_without_waiting() -> None:
    model, (x, y) = moved(network()), batch()
    optimizer = make_optimizer(model)
    with watched() as watch, Probe(model, optimizer, strict=True, every=1):
        for step in range(3):
            watch.forget()
            for _ in range(2):
                F.cross_entropy(model(x), y).backward()
            if step:
                assert watch.waits == []
            optimizer.step()
            optimizer.zero_grad()


def test_a_learning_rate_on_the_accelerator_is_recorded_without_waiting() -> None:
    model, (x, y) = moved(network()), batch()
    with watched() as watch:
        optimizer = ug.optim.SGD(model.parameters(), lr=there(torch.tensor(0.25)))
        with Probe(model, optimizer, strict=True, every=1) as probe:
            for _ in range(2):
                watch.forget()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
            assert len(watch.waits) <= 1, watch.waits
    assert [column.tolist() for column in probe.record.metric("lr")] == [[0, 1], [0.25, 0.25]]


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_the_verdict_of_a_scaler_on_a_fused_step_is_read_with_everything_else(found: float) -> None:
    class Fused(ug.optim.SGD):
        """Takes the scaler's verdict into its step, as torch's fused optimizers do."""

        _step_supports_amp_scaling = True

    model, (x, y) = moved(network()), batch()
    optimizer = Fused(model.parameters(), lr=0.01)
    with watched() as watch, Probe(model, optimizer, strict=True, every=1) as probe:
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
            optimizer.found_inf = there(torch.tensor([found]))  # type: ignore[attr-defined]  # as a GradScaler does
            watch.forget()
            optimizer.step()
            optimizer.zero_grad()
        assert len(watch.waits) <= 1, watch.waits
    assert bool(probe.record.values("update", 1)) == (found == 0)


OPTIMIZERS = {
    "sgd": lambda p: ug.optim.SGD(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: ug.optim.Momentum(p, lr=0.1),
    "rmsprop": lambda p: ug.optim.RMSProp(p, lr=0.1),
    "adam": lambda p: ug.optim.Adam(p, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_our_optimizers_step_without_waiting_and_do_what_they_do_here(name: str) -> None:
    model, (x, y) = moved(network()), batch()
    optimizer = OPTIMIZERS[name](model.parameters())
    plain = network()
    same = OPTIMIZERS[name](plain.parameters())
    with watched() as watch:
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
            for p, q in zip(model.parameters(), plain.parameters()):
                q.grad = here(p.grad).clone()
            optimizer.step()
            same.step()
        assert watch.waits == []
    for p, q in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(here(p), q.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("groups", [1, 2])
def test_agc_clips_without_waiting_and_as_it_does_here(groups: int) -> None:
    model, (x, y) = moved(network()), batch()
    plain = network()
    cut = [None, 3][groups - 1]
    agcs, nets = [], (model, plain)
    for net in nets:
        parameters = list(net.parameters())
        parts = [{"params": parameters[:cut]}] + (
            [{"params": parameters[cut:], "clipping": 0.5}] if cut else []
        )
        optimizer = torch.optim.SGD(parts, lr=0.1, foreach=True)
        agcs.append(ug.optim.AGC(optimizer, net, clipping=0.01, exclude=["10.weight"]))
    with watched() as watch:
        (100 * F.cross_entropy(model(x), y)).backward()
        for p, q in zip(model.parameters(), plain.parameters()):
            q.grad = here(p.grad).clone()
        watch.forget()
        agcs[0].optimizer.step()
        assert watch.waits == []
    agcs[1].optimizer.step()
    for p, q in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(here(p.grad), q.grad, rtol=1e-5)
    rates = [{n: r.tolist() for n, r in agc.rates().items()} for agc in agcs]
    assert rates[0] == rates[1]
    assert any(any(r) for r in rates[0].values())


@pytest.mark.parametrize("eps_mode", ["clamp", "additive"])
@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (6, 32)])
def test_standardizing_weights_waits_neither_forward_nor_backward(
    eps_mode: str, shape: tuple[int, ...]
) -> None:
    from unitgain.nn.scaled_std import standardized

    weight, gain = torch.randn(shape), torch.randn(shape[0])
    weight[1] = 0.5  # no variance: the guard counts
    results = []
    with watched() as watch:
        for move in (lambda t: t.clone().double(), there):
            w, g = move(weight).requires_grad_(), move(gain).requires_grad_()
            out = standardized(w, g, 1e-4, eps_mode)
            (out * out.detach().cos()).sum().backward()
            results.append([here(t).double() for t in (out, w.grad, g.grad)])
        assert watch.waits == []
    for want, got in zip(*results):
        assert torch.allclose(want, got, rtol=1e-3, atol=1e-4)


NORMS = {
    "BatchNorm": lambda: ug.nn.BatchNorm(8),
    "BatchNorm, plain average": lambda: ug.nn.BatchNorm(8, momentum=None),
    "LayerNorm": lambda: ug.nn.LayerNorm(6),
    "GroupNorm": lambda: ug.nn.GroupNorm(2, 8),
    "InstanceNorm": lambda: ug.nn.InstanceNorm(8, affine=True, track_running_stats=True),
}


@pytest.mark.parametrize("name", list(NORMS))
def test_norms_wait_neither_forward_nor_backward(name: str) -> None:
    plain, x = NORMS[name](), torch.randn(4, 8, 6, 6)
    norm = moved(plain)
    with watched() as watch:
        for _ in range(2):
            out = norm(there(x))
            out.square().sum().backward()
            want = plain(x)
        assert watch.waits == []
    assert torch.allclose(here(out), want, atol=1e-5)
    for mine, theirs in zip(norm.buffers(), plain.buffers()):
        assert torch.allclose(here(mine), theirs, atol=1e-6)


@pytest.mark.parametrize("name", ["nf_resnet_tiny", "nfnet_tiny"])
def test_normalizer_free_networks_run_without_waiting(name: str) -> None:
    if name not in ug.models.names():
        pytest.skip(f"there is no {name}")
    torch.manual_seed(0)
    plain = ug.models.create(name, num_classes=5)
    model, x = moved(plain), torch.randn(2, 3, 32, 32)
    with watched() as watch:
        out = model(there(x))
        out.square().sum().backward()
        assert watch.waits == []
    assert torch.allclose(here(out), plain(x), atol=1e-4)


def test_a_recorder_fetches_losses_in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    from unitgain.train import Learner, Metrics, Recorder
    from unitgain.train.callbacks import recorder

    monkeypatch.setattr(recorder, "_LONGEST_WAIT", 1e9)  # not on a slow machine's whim
    torch.manual_seed(0)
    model = moved(nn.Linear(3, 2))
    x, y = there(torch.randn(8, 3)), there(torch.randint(0, 2, (8,)))
    learn = Learner(model, [(x, y)] * 70, F.cross_entropy, make_optimizer(model), [Metrics(), Recorder()])
    with watched() as watch:
        learn.fit(1)
    # what the loss is about at the first batch, one copy for every 64 losses and one for the rest, the epoch's mean
    assert len(watch.waits) <= 6, watch.waits


def test_many_types_come_to_the_host_in_one_copy() -> None:
    tensors = [
        torch.arange(3), torch.tensor([True, False]), torch.randn(2, 2), torch.tensor(math.pi, dtype=torch.float64),
        torch.randn(5).half(), torch.empty(0), torch.randn(3).bfloat16(), torch.tensor(7, dtype=torch.uint8),
    ]  # fmt: skip
    with watched() as watch:
        found = stats.fetch([there(t) for t in tensors])
    assert len(watch.waits) == 1
    for t, got in zip(tensors, found):
        assert type(got) is torch.Tensor
        assert got.dtype == t.dtype
        assert got.shape == t.shape
        assert torch.equal(got, t)
