"""A Learner on a GPU: learns in half precision, does not wait in its loop, and resumes to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from shared import Mean, no_waiting
from torch import Tensor, nn

import unitgain as ug
from unitgain.train import (
    EMA,
    ActivationStats,
    Callback,
    CancelFit,
    Checkpoint,
    Clip,
    Device,
    InMemoryLoader,
    Learner,
    Metrics,
    MixedPrecision,
    Normalize,
    Recorder,
    accuracy,
)


def data(device: torch.device | None = None) -> tuple[InMemoryLoader, InMemoryLoader]:
    """Four classes of 8x8 images: which quarter is bright."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(512, 1, 8, 8, generator=generator), torch.randint(0, 4, (512,), generator=generator)
    for k in range(4):
        rows, columns = slice(4 * (k // 2), 4 * (k // 2) + 4), slice(4 * (k % 2), 4 * (k % 2) + 4)
        x[y == k, :, rows, columns] += 1.5
    x = x * 20 + 100
    return (
        InMemoryLoader((x[:384], y[:384]), 32, shuffle=True, device=device),
        InMemoryLoader((x[384:], y[384:]), 64, device=device),
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(512, 4),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kept", [True, False], ids=["data on the device", "data on the host"])
def test_a_small_net_learns(device: torch.device, dtype: torch.dtype | None, kept: bool) -> None:
    extra: list[Callback] = [] if dtype is None else [MixedPrecision(dtype)]
    callbacks = [
        Device(device), Normalize(), Metrics(accuracy), Recorder(), ActivationStats(5), Clip(agc=0.1), EMA(0.9), *extra,
    ]  # fmt: skip
    make = lambda p: torch.optim.AdamW(p, lr=1e-3)  # noqa: E731
    learn = Learner(network(), data(device if kept else None), "auto", make, callbacks)
    learn.fit_one_cycle(3, 5e-3)
    assert learn.metrics["accuracy"] > 0.9
    assert next(learn.model.parameters()).device.type == device.type
    record = learn.record
    assert len(record.metric("loss")[0]) == learn.steps
    assert record.values("update", record.steps()[0])


class Watch(Callback):
    """From the second epoch on nothing may wait between a batch's beginning and its end."""

    order = -1000
    essential = False

    def before_batch(self, learn: Learner) -> None:
        self.context: Any = no_waiting(learn.training and learn.epoch > 0)
        self.context.__enter__()

    def cleanup_batch(self, learn: Learner) -> None:
        self.context.__exit__(None, None, None)


@pytest.mark.parametrize("kept", [True, False], ids=["data on the device", "data on the host"])
def test_the_loop_does_not_wait(
    device: torch.device, kept: bool, copies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unitgain.train.callbacks import recorder

    monkeypatch.setattr(
        recorder, "_LONGEST_WAIT", 1e9
    )  # losses are fetched 64 at a time, or at an epoch's end
    (train, _), pinned = data(device if kept else None), []
    if not kept and device.type == "cuda":  # as a DataLoader with pin_memory=True gives them
        pinned = [tuple(t.pin_memory() for t in batch) for batch in train]
    callbacks = [Device(device), Normalize(mean=100.0, std=20.0), Metrics(), Recorder(), ActivationStats(2), Watch(),
                 EMA(0.9), Clip(norm=1.0), MixedPrecision(torch.bfloat16)]  # fmt: skip
    learn = Learner(
        network(), pinned or train, F.cross_entropy, lambda p: ug.optim.Adam(p, lr=1e-3), callbacks
    )
    learn.fit(3)
    assert learn.steps == 36
    assert copies


class StopAt(Callback):
    order = 200
    essential = False

    def __init__(self, steps: int):
        self.at = steps

    def after_batch(self, learn: Learner) -> None:
        if learn.steps == self.at:
            raise CancelFit


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("fused", [False, True])
def test_a_resumed_run_is_the_one_that_was_not_stopped(
    device: torch.device, deterministic: None, tmp_path: Path, dtype: torch.dtype | None, fused: bool
) -> None:
    def make(folder: Path | None, *extra: Callback) -> Learner:
        torch.manual_seed(5)
        callbacks: list[Callback] = [Device(device), Normalize(), Metrics(), EMA(0.9), *extra]
        callbacks += [] if dtype is None else [MixedPrecision(dtype)]
        callbacks += [] if folder is None else [Checkpoint(folder, every=3)]
        optimizer = lambda p: torch.optim.AdamW(p, lr=1e-3, fused=fused)  # noqa: E731
        return Learner(network().to(device), data(device), "auto", optimizer, callbacks)

    def bits(learn: Learner) -> list[Tensor]:
        average = next(c for c in learn.callbacks if isinstance(c, EMA)).average
        state = [t for s in learn.optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
        return [*learn.model.state_dict().values(), *average.values(), *state]

    whole = make(None)
    whole.fit(2)
    stopped = make(tmp_path, StopAt(16))
    stopped.fit(2)
    torch.rand(7, device=device)
    resumed = make(tmp_path)
    resumed.resume(tmp_path)
    resumed.fit(2)
    assert resumed.steps == whole.steps
    for a, b in zip(bits(whole), bits(resumed), strict=True):
        assert a.device == b.device
        assert torch.equal(a, b)


def test_lr_find_leaves_the_run_as_it_was(device: torch.device, deterministic: None) -> None:
    def run(find: bool) -> list[Tensor]:
        torch.manual_seed(5)
        make = lambda p: torch.optim.AdamW(p, lr=1e-3)  # noqa: E731
        learn = Learner(network().to(device), data(device), "auto", make, [Device(device), Normalize()])
        learn.fit(1)
        if find:
            assert len(learn.lr_find(steps=30).rates) > 5
        learn.fit(1)
        return list(learn.model.state_dict().values())

    assert all(map(torch.equal, run(False), run(True)))


def test_random_states_of_the_device_are_taken_and_put_back(device: torch.device) -> None:
    from unitgain._run import random_states

    torch.rand(2, device=device)
    with random_states.kept():
        first = torch.rand(5, device=device)
    state = random_states.take()
    again = torch.rand(5, device=device)
    random_states.put(state)
    assert torch.equal(first, again)
    assert torch.equal(again, torch.rand(5, device=device))


def test_stop_on_non_finite_names_the_place(device: torch.device) -> None:
    from unitgain.train import StopOnNonFinite

    x, y = torch.randn(8, 3, 8, 8), torch.randint(0, 4, (8,))
    x[2] = float("nan")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Mean(), nn.Linear(8, 4)).to(device)
    stop = StopOnNonFinite()
    learn = Learner(model, [(x, y)], "auto", lambda p: torch.optim.SGD(p, lr=0.1), [Device(device), stop])
    with pytest.warns(UserWarning, match="training stopped: the loss is nan"):
        learn.fit(1)
    assert stop.reason is not None
    assert "input" in stop.reason
