"""lr_find: leaves no trace, reads a sweep as a person would, and says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain import InputError
from unitgain.train import (
    EMA,
    Accumulate,
    Callback,
    Checkpoint,
    Clip,
    InMemoryLoader,
    Learner,
    Metrics,
    MixedPrecision,
    Normalize,
    Progress,
    Recorder,
    StopOnNonFinite,
)
from unitgain.train.lr_finder import read


def xy(n: int = 256):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(
            nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Dropout(0.1), nn.ReLU(), nn.Linear(32, 4)
        )
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x, labels=None):
        self.calls += 1
        logits = self.body(x)
        return logits if labels is None else {"loss": F.cross_entropy(logits, labels)}


def trace(learn: Learner) -> list[bytes]:
    """Everything that a sweep could change."""
    tensors = [*learn.model.parameters(), *learn.model.buffers(), torch.get_rng_state()]
    tensors += [p.grad for p in learn.model.parameters() if p.grad is not None]
    tensors += [v for s in learn.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    if isinstance(learn.data.train, InMemoryLoader):
        tensors.append(learn.data.train.state_dict()["generator"])
    bits = [t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for t in tensors]
    groups = [{k: v for k, v in g.items() if k != "params"} for g in learn.optimizer.param_groups]
    return [
        *bits,
        repr(groups).encode(),
        repr((learn.steps, learn.fits, learn.history, learn.model.training)).encode(),
    ]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("kind", ["memory", "loader", "dicts"])
def test_a_sweep_leaves_no_bit_changed(trained: bool, kind: str, tmp_path) -> None:
    x, y = xy()
    if kind == "memory":
        data = InMemoryLoader((x, y), 16, shuffle=True)
    elif kind == "loader":
        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16, shuffle=True)
    else:
        data = [{"x": x[i : i + 16], "labels": y[i : i + 16]} for i in range(0, 256, 16)]
    model = Net()
    callbacks = [Metrics(), Recorder(), Progress(), EMA(), Normalize(), Accumulate(2), Clip(1.0),
                 MixedPrecision(torch.float16), Checkpoint(tmp_path)]  # fmt: skip
    learn = Learner(
        model, data, "auto" if kind != "dicts" else None, lambda p: torch.optim.AdamW(p, lr=0.01), callbacks
    )
    if trained:
        learn.fit(1)
    else:
        model.body[0].weight.grad = torch.ones(32, 6)
    before, record = trace(learn), learn.record.metric("loss")[1].tolist()
    found = learn.lr_find(steps=40)
    assert trace(learn) == before
    assert learn.record.metric("loss")[1].tolist() == record, "what only watches is left out"
    assert learn.callbacks == callbacks
    assert len(found.rates) <= 40
    assert (callbacks[4].mean is None) is (not trained)
    if not trained:
        assert callbacks[7].scaler is None
        fresh = Learner(Net(), data, learn.criterion.given, lambda p: torch.optim.AdamW(p, lr=0.01))
        fresh.fit(1)


def test_training_after_a_sweep_is_training_without_one() -> None:
    def run(sweep: bool) -> list:
        learn = Learner(
            Net(),
            InMemoryLoader(xy(), 16, shuffle=True),
            "auto",
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        )
        torch.manual_seed(4)
        if sweep:
            learn.lr_find(steps=20)
        learn.fit(2)
        return trace(learn)

    assert run(True) == run(False)


def test_a_sweep_that_raises_leaves_no_bit_changed_either() -> None:
    class Fails(Callback):
        def before_step(self, learn):
            if learn.steps == 5:
                raise ZeroDivisionError

    learn = Learner(
        Net(), InMemoryLoader(xy(), 16, shuffle=True), "auto", lambda p: torch.optim.SGD(p, lr=0.1), [Fails()]
    )
    before = trace(learn)
    with pytest.raises(ZeroDivisionError):
        learn.lr_find()
    assert trace(learn) == before


def test_the_suggestion_trains_the_model() -> None:
    def fit(rate: float) -> Any:
        learn = Learner(Net(), InMemoryLoader(xy(2048), 64, shuffle=True), "auto",
                        lambda p: torch.optim.SGD(p, lr=rate), [Metrics()])  # fmt: skip
        if rate == 0.0:
            found = learn.lr_find()
            assert found.valley == found.suggestion > found.steepest  # pyright: ignore
            assert "the cautious choice" in str(found)
            return found.suggestion
        learn.fit(2)
        return learn.metrics["train_loss"]

    suggestion = fit(0.0)
    assert 0.1 < suggestion < 3
    best = min(fit(rate) for rate in (0.03, 0.1, 0.3, 1.0))
    assert fit(suggestion) < best + 0.1


def test_groups_keep_their_proportion() -> None:
    model, rates = Net(), []

    class Rates(Callback):
        def before_step(self, learn):
            rates.append([g["lr"] for g in learn.optimizer.param_groups])

    groups = [
        {"params": model.body[0].parameters(), "lr": 0.01},
        {"params": model.body[4].parameters(), "lr": 0.1},
    ]
    learn = Learner(model, InMemoryLoader(xy(), 16), "auto", torch.optim.SGD(groups), [Rates()])
    found = learn.lr_find(1e-4, 1.0, steps=21)
    assert np.allclose([a / b for a, b in rates], 0.1)
    assert np.allclose([b for _, b in rates], found.rates)
    assert found.rates[[0, 5]] == pytest.approx([1e-4, 1e-3])


def test_pure_noise_and_explosions_give_no_suggestion() -> None:
    rates = np.logspace(-6, 1, 100)
    noise = 2.3 + 0.1 * np.random.default_rng(0).normal(size=100)
    for losses in (noise, 2.3 + np.maximum(0, rates - 0.1)):
        found = read(rates, losses)
        assert found.suggestion is None
        assert "no rate can be suggested" in found.reason
        found.plot()
    assert read(rates[:3], np.array([2.3, 5.0, 50.0])).suggestion is None
    with pytest.raises(InputError, match="not finite at the lowest rate"):
        read(rates, np.full(100, np.nan))


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_the_valley_of_a_known_curve(noise: float) -> None:
    rates = np.logspace(-6, 1, 100)
    losses = 0.5 + 1.8 / (1 + rates / 3e-2) + np.where(rates > 1, (rates - 1) * 3, 0)
    found = read(rates, losses + noise * np.random.default_rng(1).normal(size=100))
    assert found.steepest == pytest.approx(0.03, rel=0.8)
    assert found.valley == pytest.approx(0.4, rel=0.3)  # smoothing flattens the wall at 1


def test_the_valley_ends_where_the_loss_first_rises() -> None:
    rates = np.logspace(-6, 1, 100)
    logs = np.log10(rates)
    one = 2.5 - 1.5 * np.exp(-0.5 * ((logs + 1.5) / 0.3) ** 2)
    deeper = one - 1.7 * np.exp(-0.5 * ((logs + 0.3) / 0.2) ** 2)  # of a network that went through the rise
    assert np.argmin(deeper) > np.argmin(one)
    assert read(rates, deeper).valley == pytest.approx(10**-1.5, rel=0.2)
    bump = one + 0.3 * np.exp(-0.5 * ((logs + 4) / 0.3) ** 2)  # before the fall: nothing has been won yet
    assert read(rates, bump).valley == pytest.approx(10**-1.5, rel=0.2)


def test_wrong_arguments() -> None:
    learn = Learner(
        Net(), InMemoryLoader(xy(), 16), "auto", lambda p: torch.optim.SGD(p, lr=0.1), [StopOnNonFinite()]
    )
    for wrong in ({"start": 0.0}, {"start": 1.0, "end": 0.1}, {"steps": 3}, {"stop_at": 1.0}):
        with pytest.raises(InputError, match="lr_find"):
            learn.lr_find(**wrong)
