"""A Probe on a GPU: the CPU's record, no waiting but for one copy when it writes, and not a bit of training changed."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shared import cnn, images, no_waiting, on
from torch import Tensor, nn

from unitgain import Probe, Record

KINDS = ("input", "activation", "gradient", "parameter", "parameter_gradient", "update")


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, **options)


def train(model: nn.Module, x: Tensor, y: Tensor, steps: int = 3, **options: Any) -> Record:
    optimizer = sgd(model)
    with Probe(model, optimizer, strict=True, **{"every": 1, **options}) as probe:
        for _ in range(steps):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return probe.record


SAMPLED = ("zero", "underflow")  # read off a sample, whose places are those of the memory


def assert_alike(want: Record, got: Record, tolerance: float, ignored: tuple[str, ...] = ()) -> None:
    assert want.steps() == got.steps()
    for kind in KINDS:
        for step in want.steps():
            expected, found = want.values(kind, step), got.values(kind, step)
            assert expected.keys() == found.keys(), kind
            for name, values in expected.items():
                assert values.keys() == found[name].keys(), (kind, name)
                size = max(values.get("absmax") or 0.0, 1e-30)
                for statistic, value in values.items():
                    if statistic in ignored:
                        continue
                    if statistic in ("min", "max", "mean", "std", "rms", "absmax"):
                        right = pytest.approx(value, rel=tolerance, abs=tolerance * size)
                    elif statistic in ("count", "nonfinite", "units"):
                        right = value
                    else:
                        right = pytest.approx(value, rel=10 * tolerance, abs=10 * tolerance)
                    assert found[name][statistic] == right, (kind, name, statistic, step)


# ---- the same numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 16_384])
def test_the_record_is_that_of_the_cpu(device: torch.device, limit: int | None) -> None:
    model, (x, y) = cnn(), images()
    plain = train(copy.deepcopy(model), x, y, limit=limit)
    assert_alike(plain, train(on(device, model), x.to(device), y.to(device), limit=limit), 2e-3)


def test_the_record_of_a_channels_last_model_is_that_of_the_cpu(device: torch.device) -> None:
    model, (x, y) = cnn(), images()
    plain = train(copy.deepcopy(model), x, y, limit=None)
    there = on(device, model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = x.to(device, memory_format=torch.channels_last)
    assert_alike(plain, train(there, inputs, y.to(device), limit=None), 2e-3, SAMPLED)


def test_one_infinite_value_in_a_large_gradient_is_seen(device: torch.device) -> None:
    net = nn.Linear(300, 400).to(device)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    with Probe(net, optimizer, strict=True, every=1) as probe:
        net(torch.randn(16, 300, device=device)).square().mean().backward()
        assert net.weight.grad is not None
        net.weight.grad[123, 45] = math.inf
        optimizer.step()
    assert probe.record.value("parameter_gradient", "weight", "nonfinite") > 0


def test_nan_activations_are_named_and_crash_nothing(device: torch.device) -> None:
    model, (x, y) = on(device, cnn()), images()
    x[3, 1, 2] = math.nan
    record = train(model, x.to(device), y.to(device), steps=2, limit=None)
    assert record.value("input", "input", "nonfinite", 0) > 0
    assert record.value("activation", "0", "nonfinite", 0) > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_half_precision_is_measured(device: torch.device, dtype: torch.dtype) -> None:
    model, (x, y) = on(device, cnn()).to(dtype), images()
    record = train(model, x.to(device, dtype), y.to(device), steps=2)
    for kind in KINDS:
        for name, values in record.values(kind, 1).items():
            assert math.isfinite(values["rms"]), (kind, name)


# ---- no waiting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 16_384])
@pytest.mark.parametrize("every", [1, 2])
def test_only_the_one_copy_at_the_end_of_a_sampled_step_waits(
    device: torch.device, copies: list[int], limit: int | None, every: int
) -> None:
    model, (x, y) = on(device, cnn()), (t.to(device) for t in images())
    optimizer = sgd(model)
    with Probe(model, optimizer, every=every, limit=limit, strict=True) as probe:
        for step in range(12):
            copies.clear()
            with no_waiting(step > 0):  # the first step finds out what there is to measure
                F.cross_entropy(model(x), y).backward()
                assert not copies or not step, "before the step ends"
                optimizer.step()
                optimizer.zero_grad()
            if step:
                assert len(copies) <= (step % every == 0)
            if step and limit is None and step % every == 0 and device.type == "cuda":
                assert len(copies) == 1, "without a limit each sampled step is written at once"
    assert probe.record.steps() == list(range(0, 12, every))


def test_accumulated_gradients_and_a_learning_rate_on_the_gpu_do_not_wait(
    device: torch.device, copies: list[int]
) -> None:
    model, (x, y) = on(device, cnn()), (t.to(device) for t in images())
    options: dict[str, Any] = {"capturable": True} if device.type == "cuda" else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-3, device=device), **options)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for step in range(4):
            with no_waiting(step > 0):
                for _ in range(2):
                    F.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
    steps, rates = probe.record.metric("lr")
    assert steps.tolist() == [0, 1, 2, 3]
    assert rates.tolist() == pytest.approx([1e-3] * 4)


# ---- no trace ----------------------------------------------------------------------------------------------


def run(device: torch.device, probed: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Trains; returns every bit that a Probe could have disturbed."""
    torch.manual_seed(3)
    model, (x, y) = on(device, cnn(dropout=0.2)), (t.to(device) for t in images())
    if options.get("channels_last"):
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    make = options.get("optimizer", sgd)
    optimizer = make(model)
    dtype = options.get("autocast")
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10) if options.get("scaler") else None
    losses, moved = [], []
    context = Probe(model, optimizer, every=2, strict=True) if probed else contextlib.nullcontext()
    with context as probe:
        for step in range(6):
            inputs = x.clone()
            if scaler is not None and step == 2:
                inputs[0, 0, 0, 0] = math.inf  # the scaler finds it in the gradients and skips the step
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = F.cross_entropy(model(inputs).float(), y)
            before = model[0].weight.detach().clone()
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            optimizer.zero_grad()
            losses.append(loss.detach().clone())
            moved.append(not torch.equal(before, model[0].weight))
    if probe is not None:
        measured = {s for s in probe.record.steps() if probe.record.values("update", s)}
        assert 0 in measured
        if scaler is not None and optimizer.defaults.get("fused"):
            assert 2 not in measured, "a step that did nothing has no update"
    if scaler is not None:
        assert moved[2] is False
    state = [t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
    generator = torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()
    return {
        "weights": list(model.state_dict().values()), "losses": losses, "optimizer": state, "random": [generator],
    }  # fmt: skip


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


VARIANTS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "channels_last": {"channels_last": True},
    "foreach adam": {"optimizer": lambda m: torch.optim.Adam(m.parameters(), 1e-3, foreach=True)},
    "fused adamw": {"optimizer": adamw},
    "fused sgd": {"optimizer": lambda m: sgd(m, fused=True)},
    "bf16 autocast": {"autocast": torch.bfloat16, "optimizer": adamw, "channels_last": True},
    "fp16 scaler": {"autocast": torch.float16, "scaler": True},
    "fp16 scaler, fused": {"autocast": torch.float16, "scaler": True, "optimizer": adamw},
    "scaler, fused sgd": {"scaler": True, "optimizer": lambda m: sgd(m, fused=True)},
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_training_is_the_same_bit_for_bit(device: torch.device, deterministic: None, variant: str) -> None:
    options = VARIANTS[variant]
    plain, again, probed = (run(device, p, options) for p in (False, False, True))
    for name, tensors in plain.items():
        for a, b, c in zip(tensors, again[name], probed[name], strict=True):
            assert torch.equal(a.nan_to_num(), b.nan_to_num()), f"{name}: not even repeatable without a Probe"
            assert torch.equal(a.nan_to_num(), c.nan_to_num()), f"{name} differ with and without a Probe"


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_and_updates_under_a_scaler_are_those_without(device: torch.device, fused: bool) -> None:
    (x, y), records = (t.to(device) for t in images()), []
    for scale in (None, 1024.0):
        model = on(device, cnn())
        optimizer = sgd(model, fused=fused)
        scaler = torch.amp.GradScaler(device.type, init_scale=scale or 1.0, enabled=scale is not None)
        with Probe(model, optimizer, strict=True, every=1) as probe:
            scaler.scale(F.cross_entropy(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
        records.append(probe.record)
    plain, scaled = records
    for kind in ("parameter", "parameter_gradient", "update"):
        for name, want in plain.values(kind).items():
            assert scaled.value(kind, name, "rms") == pytest.approx(want["rms"], rel=1e-3, abs=1e-9), (
                kind,
                name,
            )


def test_memory_of_a_probe_is_given_back(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("of the GPU's memory")
    model, (x, y) = on(device, cnn()), (t.to(device) for t in images())
    optimizer = sgd(model)

    def steps(count: int) -> int:
        for _ in range(count):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    bare = steps(3)
    with Probe(model, optimizer, strict=True, every=1):
        early = steps(20)
        late = steps(60)
    assert late - early <= 4 * 2**20, "up to eight steps wait to be written, whatever the number of steps"
    assert steps(1) - bare <= 4 * 2**20
