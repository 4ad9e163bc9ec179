"""lr_find: leaves no trace, reads a sweep as a person would, and says why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from runs import xy
from torch import nn

from unitgain import InputError
from unitgain.train import (
    EMA,
    Accumulate,
    Callback,
    CancelBatch,
    CancelEpoch,
    CancelFit,
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
from unitgain.train.lr_finder import LRFound, read
from unitgain.train.lr_trials import find_cliff


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
    x, y = xy(256)
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
            InMemoryLoader(xy(256), 16, shuffle=True),
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
        Net(),
        InMemoryLoader(xy(256), 16, shuffle=True),
        "auto",
        lambda p: torch.optim.SGD(p, lr=0.1),
        [Fails()],
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
    learn = Learner(model, InMemoryLoader(xy(256), 16), "auto", torch.optim.SGD(groups), [Rates()])
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
        Net(), InMemoryLoader(xy(256), 16), "auto", lambda p: torch.optim.SGD(p, lr=0.1), [StopOnNonFinite()]
    )
    for wrong in (
        {"start": 0.0},
        {"start": 1.0, "end": 0.1},
        {"steps": 3},
        {"stop_at": 1.0},
        {"step_mode": "log"},
        {"trials": -1},
    ):
        with pytest.raises(InputError, match="lr_find"):
            learn.lr_find(**wrong)


class Deep(nn.Module):
    """Ten narrow layers without a norm: a rate some times too high kills its ReLUs for good."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for i in range(6):
            linear = nn.Linear(6 if i == 0 else 24, 24)
            nn.init.kaiming_normal_(linear.weight)
            layers += [linear, nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(24, 4))

    def forward(self, x):
        return self.body(x)


def deep(rate: float = 0.1, callbacks: Any = (), data: Any = None) -> Learner:
    data = InMemoryLoader(xy(2048), 64, shuffle=True) if data is None else data
    return Learner(Deep(), data, "auto", lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9), callbacks)


def test_the_rate_survives_where_the_sweeps_own_would_kill_the_network() -> None:
    found = deep().lr_find(steps=200)
    assert found.suggestion is not None
    assert found.range is not None
    assert found.range[0] <= found.suggestion <= found.range[1]
    survivors = [t for t in found.trials if t.rate == found.suggestion]
    assert len(survivors) in (3, 6), "six near the cliff"
    assert all(t.outcome != "died" for t in survivors)
    if found.cliff is not None:
        assert found.suggestion < found.cliff
        assert "died" in found.reason
    for seed in range(3):
        learn = deep(found.suggestion, [Metrics()], InMemoryLoader(xy(2048), 64, shuffle=True, seed=seed))
        learn.fit(6)
        assert learn.metrics["train_loss"] < 0.9 * math.log(4), "the network died at the suggested rate"


def curve(*ends: tuple[float, float, float]) -> Any:
    """A network that ends at a loss by its rate: (up to this rate, lowest, last)."""

    def train(rate: float, order: int) -> tuple[list[float], bool]:
        low, last = next((low, last) for most, low, last in ends if rate <= most)
        half = np.linspace(2.3, low, 50)
        return [*half, *np.linspace(low, last, 10), *[last] * 40], False

    return train


@pytest.mark.parametrize(
    ("ends", "safe", "word"),
    [
        (((0.02, 1.0, 1.0), (9, 1.9, 2.3)), 0.02, "went back"),
        (((0.02, 1.0, 1.0), (9, 2.3, 2.31)), 0.02, "stayed where it began"),
        (((0.02, 1.0, 1.0), (9, 2.0, 9.0)), 0.02, "above"),
        (((0.02, 1.0, 1.0), (9, 2.0, math.nan)), 0.02, "NaN"),
        (((9, 1.0, 1.0),), 0.08, ""),
    ],
)
def test_each_way_to_die_is_seen(ends: Any, safe: float, word: str) -> None:
    found = find_cliff(curve(*ends), 0.08, np.full(20, 2.3), 2)
    assert found.suggestion == pytest.approx(safe)
    assert (found.lowest_deadly is None) is (not word)
    assert word in found.describe(found.suggestion)
    died = {t.rate for t in found.trials if t.outcome == "died"}
    assert all(rate > safe for rate in died)


def test_a_higher_rate_that_learns_more_is_taken_if_it_survives_as_often() -> None:
    def train(rate: float, order: int) -> tuple[list[float], bool]:
        end = 2.0 - 10 * rate if order == 0 or rate < 0.07 else math.nan
        return np.linspace(2.3, end, 100).tolist(), False

    found = find_cliff(train, 0.02, np.full(20, 2.3), 3)
    assert found.suggestion == pytest.approx(0.02)
    assert found.lowest_deadly == pytest.approx(0.08)
    assert find_cliff(train, 0.01, np.full(20, 2.3), 3).suggestion == pytest.approx(0.04)


@pytest.mark.parametrize(("cliff", "top"), [(0.03, 0.02), (0.05, 0.02), (0.09, 0.04), (9, 0.04)])
def test_the_range_ends_below_rates_that_were_tried_for_a_part_of_a_training(
    cliff: float, top: float
) -> None:
    """A whole training died at the top of the range: one trial of a hundred steps had survived there."""

    def train(rate: float, order: int) -> tuple[list[float], bool]:
        return np.linspace(2.3, 1.0 if rate < cliff else math.nan, 100).tolist(), False

    found = find_cliff(train, 0.02, np.full(20, 2.3), 2)
    assert found.suggestion == pytest.approx(0.02)
    assert found.highest_safe == pytest.approx(top)


def test_a_network_that_dies_at_every_rate_gets_no_suggestion() -> None:
    def train(rate: float, order: int) -> tuple[list[float], bool]:
        return [2.3, 2.2, 1.0, *[2.3] * 97], True

    found = find_cliff(train, 0.1, np.full(20, 2.3), 2)
    assert found.suggestion is None
    assert found.lowest_deadly == pytest.approx(0.1 / 2**7)


def test_a_rate_that_dies_only_in_later_orders_is_halved_until_one_survives() -> None:
    """It ended in an AssertionError where the half died too."""

    def train(rate: float, order: int) -> tuple[list[float], bool]:
        dies = rate > 0.15 or (rate > 0.03 and order >= 3)
        return [*np.linspace(2.3, 1.0, 50), *[math.nan if dies else 1.0] * 50], False

    found = find_cliff(train, 0.1, np.full(20, 2.3), 3)
    assert found.suggestion == pytest.approx(0.05) or found.suggestion == pytest.approx(0.025)
    assert found.suggestion is not None
    assert found.suggestion < (found.lowest_deadly or 0)
    assert found.highest_safe is not None
    assert found.highest_safe < (found.lowest_deadly or 0)

    def fatal(rate: float, order: int) -> tuple[list[float], bool]:
        return [2.3, *[math.nan if order >= 3 or rate < 0.09 or rate > 0.15 else 1.0] * 99], False

    nowhere = find_cliff(fatal, 0.1, np.full(20, 2.3), 3)
    assert nowhere.suggestion is None
    assert nowhere.highest_safe is None


def test_trials_on_data_in_a_fixed_order_begin_at_other_batches() -> None:
    seen: list[float] = []

    class First(Callback):
        def before_loss(self, learn):
            if not seen or learn.steps == 0:
                seen.append(float(learn.inputs[0][0, 0]))

    x, y = xy(512)
    data = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 512, 32)]
    deep(callbacks=[First()], data=data).lr_find(steps=200, check=False)
    assert len(set(seen)) > 1, "three trials of the same batches are one trial"


def test_a_loss_that_becomes_nan_in_a_trial_is_a_death() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(6, 4)

        def forward(self, x):
            return self.layer(x) / (
                self.layer.weight.detach().norm() < 4
            )  # beyond this size: a division by zero

    learn = Learner(Breaks(), InMemoryLoader(xy(2048), 64), "auto", lambda p: torch.optim.SGD(p, lr=0.1))
    found = learn.lr_find(steps=100, check=False)
    died = [t for t in found.trials if t.outcome == "died"]
    assert died
    assert all("NaN" in t.detail for t in died)
    assert found.cliff == min(t.rate for t in died)


def test_a_sick_network_gets_the_finding_to_cure_instead_of_a_rate() -> None:
    learn = deep()
    with torch.no_grad():
        for p in learn.model.parameters():
            p.mul_(100)
    found = learn.lr_find(steps=20)
    assert found.suggestion is None
    assert "UG" in found.reason
    assert "first" in found.reason
    assert learn.lr_find(steps=20, check=False, trials=0).reason != found.reason


def test_lists_in_callbacks_are_as_long_as_before() -> None:
    class Keeps(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.nested = {"seen": [[0]]}

        def after_loss(self, learn):
            self.losses.append(learn.loss.item())
            self.nested["seen"][0].append(1)

    keeps = Keeps()
    deep(callbacks=[keeps]).lr_find(steps=20)
    assert keeps.losses == []
    assert keeps.nested == {"seen": [[0]]}


@pytest.mark.parametrize("cancels", ["fit", "epoch", "every batch"])
def test_a_callback_that_ends_its_own_fits_does_not_end_the_sweep(cancels: str) -> None:
    class Stops(Callback):
        def before_batch(self, learn):
            if cancels == "every batch":
                raise CancelBatch
            if learn.batch_index == 4:
                raise (CancelFit if cancels == "fit" else CancelEpoch)

    learn = deep(callbacks=[Stops()])
    if cancels == "every batch":
        with pytest.raises(InputError, match="not one step"):
            learn.lr_find(steps=30)
    else:
        assert len(learn.lr_find(end=0.01, steps=30, trials=0).rates) == 30


def test_validation_loss_and_linear_steps() -> None:
    x, y = xy(512)
    learn = Learner(
        Deep(), (InMemoryLoader((x[:256], y[:256]), 32), InMemoryLoader((x[256:], y[256:]), 64)), "auto",
        lambda p: torch.optim.SGD(p, lr=0.1),
    )  # fmt: skip
    with torch.no_grad():
        expected = float(F.cross_entropy(learn.model(x[256:]), y[256:]))
    found = learn.lr_find(1e-3, 1.0, steps=20, valid=True, step_mode="linear", trials=0)
    assert found.losses[0] == pytest.approx(expected, rel=1e-5)
    assert np.allclose(np.diff(found.rates), 0.999 / 19)
    assert learn.model.training
    with pytest.raises(InputError, match="no validation data"):
        deep().lr_find(valid=True)


def test_the_plot_shows_the_lowest_loss_and_takes_axes() -> None:
    from matplotlib.figure import Figure

    rates = np.geomspace(1e-6, 1, 100)
    losses = 2.3 - 2.0 * np.exp(-(((np.log10(rates) + 1) / 0.02) ** 2))
    found = LRFound(rates, losses, np.full(100, 2.3), None, None, 0.01, "", cliff=0.2)
    figure = found.plot()
    assert figure.axes[0].get_ylim()[0] < losses.min()
    own = Figure()
    axes = own.subplots()
    assert found.plot(axes, skip_start=10, skip_end=5) is own
    assert len(axes.lines[0].get_xdata()) == 85  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="skip_start=99"):
        found.plot(skip_start=99)
