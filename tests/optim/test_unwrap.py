"""Optimizers in wrappers: what watches or clips a step must be hooked to the optimizer that makes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError, Probe, check
from unitgain.optim import AGC, unwrapped


class Accelerated(torch.optim.Optimizer):
    """The interface of accelerate's AcceleratedOptimizer: an Optimizer by inheritance alone."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        self.optimizer.zero_grad()

    def step(self, closure: Any = None) -> None:
        self.optimizer.step(closure)


class DeepSpeedLike:
    """No Optimizer at all, with one inside."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["optimizer"], name)


def accelerate(optimizer: torch.optim.Optimizer) -> Any:
    return pytest.importorskip("accelerate").Accelerator(cpu=True).prepare_optimizer(optimizer)


WRAPPERS = {
    "inherits": Accelerated,
    "has": DeepSpeedLike,
    "both": lambda o: DeepSpeedLike(Accelerated(Accelerated(o))),
    "accelerate": accelerate,
}
X, Y = torch.randn(32, 6), torch.arange(32) % 3


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def train(model: nn.Module, optimizer: Any, steps: int = 3) -> list[Tensor]:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_probe_counts_and_measures_the_steps_of_the_optimizer_inside(wrap) -> None:
    model = mlp()
    optimizer = wrap(torch.optim.SGD(model.parameters(), lr=0.1))
    with Probe(model, optimizer, strict=True, every=1) as probe:
        train(model, optimizer)
    assert probe.record.steps() == [0, 1, 2]
    assert probe.record.value("update", "0.weight", "std") > 0
    assert probe.record.metric("lr")[1].tolist() == [0.1] * 3
    assert (probe.record.facts.optimizer.name, probe.record.facts.optimizer.lr) == ("SGD", (0.1,))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_agc_clips_before_the_step_of_the_optimizer_inside(wrap) -> None:
    trained = []
    for wrapper in (lambda o: o, wrap):
        model = mlp()
        optimizer = wrapper(torch.optim.SGD(model.parameters(), lr=10.0))
        with AGC(optimizer, model, clipping=0.01) as agc:
            trained.append(train(model, optimizer))
        assert agc.rates()
    assert all(torch.equal(a, b) for a, b in zip(*trained))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_rehearsal_takes_a_wrapped_optimizer_and_leaves_it_alone(wrap) -> None:
    model = mlp()
    optimizer = wrap(torch.optim.AdamW(model.parameters(), lr=1e-3))
    record = check(model, (X, Y), steps=2, optimizer=optimizer).record
    assert (record.facts.optimizer.name, record.facts.optimizer.lr) == ("AdamW", (1e-3,))
    assert not unwrapped(optimizer, "optimizer").state


class Subclass(torch.optim.SGD):
    """A real optimizer that keeps another one besides, as SAM does: its own step is the step."""

    def __init__(self, parameters: Any) -> None:
        parameters = list(parameters)
        super().__init__(parameters, lr=0.1)
        self.optimizer = torch.optim.Adam(parameters)


class Closed(torch.optim.Optimizer):
    """A wrapper that hides what it wraps."""

    def __init__(self, optimizer: Any) -> None:
        self._hidden = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        self._hidden.step(closure)


def test_a_real_optimizer_is_taken_as_it_is() -> None:
    optimizer = Subclass(mlp().parameters())
    assert unwrapped(optimizer, "optimizer") is optimizer


@pytest.mark.parametrize(
    "use", [lambda o, m: Probe(m, o, every=1), lambda o, m: AGC(o, m)], ids=["Probe", "AGC"]
)
def test_what_wraps_nothing_known_is_refused_by_name(use) -> None:
    model = mlp()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    loop = DeepSpeedLike(None)
    loop.optimizer = loop
    for wrong, words in (
        (Closed(sgd), "Closed is a wrapper whose steps cannot be observed.*give the optimizer inside it"),
        (torch.optim.lr_scheduler.StepLR(sgd, 1), "StepLR is a schedule of learning rates"),
        (loop, "expected a torch optimizer, got DeepSpeedLike"),
        ("adam", "expected a torch optimizer, got str"),
    ):
        with pytest.raises(InputError, match=words):
            use(wrong, model)


def test_a_wrapped_optimizer_trains_in_a_learner_that_measures() -> None:
    model = mlp()
    optimizer: Any = Accelerated(torch.optim.SGD(model.parameters(), lr=0.1))
    learn = ug.train.Learner(model, [(X, Y)], "auto", optimizer, [ug.train.ActivationStats(every=1)])
    learn.fit(2)
    assert learn.record.steps() == [0, 1]
