"""check(steps=...): the optimizers that people have, one or several, and clipping in each way in which it is written.

Every rehearsal is compared with a loop that is written out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

import unitgain as ug
from unitgain import InputError, check

N = 32


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.randn(N, 4, generator=torch.Generator().manual_seed(seed)), torch.arange(N) % 3


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))


def losses_of(report: ug.Report) -> list[float]:
    """Of the steps, without that after the last one."""
    return report.record.metric("loss")[1].tolist()[: report.record.facts.rehearsed_steps]


def plain_loop(
    model: nn.Module, optimizers: list[Optimizer], steps: int, after_backward: Callable[[], Any] = lambda: None,
    schedulers: tuple[Any, ...] = (),
) -> list[float]:  # fmt: skip
    (x, y), losses = batch(), []
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        after_backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for scheduler in schedulers:
            scheduler.step()
        losses.append(loss.item())
    return losses


def two(parameters: Any) -> list[Optimizer]:
    parameters = list(parameters)
    matrices, rest = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() < 2]
    return [torch.optim.SGD(matrices, lr=0.3, momentum=0.9), torch.optim.AdamW(rest, lr=0.05)]


# ---- several optimizers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a list", "a function"])
def test_each_of_several_optimizers_makes_its_step(given: str) -> None:
    model = mlp()
    mine = two(model.parameters())
    states = [copy.deepcopy(one.state_dict()) for one in mine]
    report = check(model, batch(), steps=8, optimizer=mine if given == "a list" else two)
    other = mlp()
    assert losses_of(report) == pytest.approx(plain_loop(other, two(other.parameters()), 8), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), mlp().parameters()))
    assert [one.state_dict() for one in mine] == states
    trained = report.record.facts.optimizer
    assert trained.name == "SGD and AdamW"
    assert trained.lr == (0.3, 0.05)
    assert all(row["rms"] > 0 for row in report.record.values("update", 7).values())


def test_what_none_of_several_optimizers_holds_is_named() -> None:
    model = mlp()
    half = [torch.optim.SGD([model[0].weight], lr=0.1), torch.optim.Adam([model[2].weight, model[2].bias])]
    report = check(model, batch(), optimizer=half)
    finding = next(f for f in report.findings if f.code == "UG701")
    assert "0.bias" in str(finding.evidence)
    assert "2.weight" not in str(finding.evidence)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_for_matrices_beside_adamw_for_the_rest() -> None:
    def muon(parameters: Any) -> list[Optimizer]:
        parameters = list(parameters)
        matrices, rest = [p for p in parameters if p.dim() == 2], [p for p in parameters if p.dim() != 2]
        return [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]

    report = check(mlp(), batch(), steps=6, optimizer=muon)
    other = mlp()
    assert losses_of(report) == pytest.approx(plain_loop(other, muon(other.parameters()), 6), rel=1e-3)


def test_each_of_several_optimizers_has_its_schedule() -> None:
    model, other = mlp(), mlp()
    mine, theirs = two(model.parameters()), two(other.parameters())

    def schedules(of: list[Optimizer]) -> list[Any]:
        return [lr_scheduler.StepLR(of[0], 2, gamma=0.1), lr_scheduler.LambdaLR(of[1], lambda n: 1 / (1 + n))]

    report = check(model, batch(), steps=6, optimizer=mine, schedule=schedules(mine))
    expected = plain_loop(other, theirs, 6, schedulers=tuple(schedules(theirs)))
    assert losses_of(report) == pytest.approx(expected, rel=1e-5)
    by_function = check(
        mlp(), batch(), steps=6, optimizer=two, schedule=lambda o: lr_scheduler.ExponentialLR(o, 0.5)
    )
    other = mlp()
    theirs = two(other.parameters())
    halved = tuple(lr_scheduler.ExponentialLR(o, 0.5) for o in theirs)
    assert losses_of(by_function) == pytest.approx(plain_loop(other, theirs, 6, schedulers=halved), rel=1e-5)


def test_advice_is_tried_with_several_optimizers() -> None:
    """The rates of all are changed together: their proportion is the user's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
    x = torch.randn(128, 20)
    data = x, (x @ torch.randn(20, 10)).argmax(1)
    fast = [torch.optim.SGD(model[0].parameters(), lr=30.0), torch.optim.SGD(model[2].parameters(), lr=15.0)]
    report = check(model, data, optimizer=fast, prove=True)
    finding = next(f for f in report.findings if f.proof is not None and f.proof.outcome == "better")
    assert finding.prescription is not None
    assert finding.prescription.rate < 1
    assert [group["lr"] for one in fast for group in one.param_groups] == [30.0, 15.0]


# ---- optimizers with a closure or a mode -----------------------------------------------------------------------


class SAM(Optimizer):
    """Sharpness-aware minimization as it is usually written (Foret et al. 2021): climb, look, come back, descend."""

    def __init__(self, parameters: Any, rho: float = 0.1, **options: Any) -> None:
        super().__init__(parameters, {"rho": rho, **options})
        self.base_optimizer = torch.optim.SGD(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        with_grad = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in with_grad]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["before"] = p.clone()
                p.add_(p.grad * group["rho"] / (norm + 1e-12))
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["before"])
        self.base_optimizer.step()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is not None, "SAM needs a closure"
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()


def sam(parameters: Any) -> Optimizer:
    return SAM(parameters, lr=0.3)


def sam_loop(clip: float | None, steps: int) -> list[float]:
    model, (x, y), losses = mlp(), batch(), []
    optimizer = SAM(model.parameters(), lr=0.3)
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.first_step()
        F.cross_entropy(model(x), y).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.second_step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("clip", [None, 0.1])
def test_sharpness_aware_steps_are_those_of_a_loop(clip: float | None) -> None:
    report = check(mlp(), batch(), steps=8, optimizer=sam, clip=clip)
    assert losses_of(report) == pytest.approx(sam_loop(clip, 8), rel=1e-5)
    assert report.record.facts.clip.clipped == (8 if clip else None)
    assert all(row["rms"] > 0 for row in report.record.values("update", 7).values())


class Asks(torch.optim.SGD):
    """Its step has a default for the closure and asks for one all the same."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        if closure is None:
            raise RuntimeError("provide a closure that evaluates the model")
        return super().step(closure)


def test_an_optimizer_that_asks_for_a_closure_gets_one() -> None:
    report = check(mlp(), batch(), steps=5, optimizer=lambda p: Asks(p, lr=0.5))
    other = mlp()
    assert losses_of(report) == pytest.approx(
        plain_loop(other, [torch.optim.SGD(other.parameters(), lr=0.5)], 5), rel=1e-5
    )


class ScheduleFree(torch.optim.SGD):
    """Holds two sets of weights and refuses to step with those of evaluation, as schedule-free optimizers do."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr=lr)
        self.trains = False

    def train(self) -> None:
        self.trains = True

    def eval(self) -> None:
        self.trains = False

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        if not self.trains:
            raise RuntimeError("call .train() before the steps")
        return super().step(closure)


def test_an_optimizer_with_a_training_mode_is_put_into_it_and_out_of_it_again() -> None:
    model = mlp()
    optimizer = ScheduleFree(model.parameters(), 0.5)
    report = check(model, batch(), steps=5, optimizer=optimizer)
    other = mlp()
    assert losses_of(report) == pytest.approx(
        plain_loop(other, [torch.optim.SGD(other.parameters(), lr=0.5)], 5), rel=1e-5
    )
    assert not optimizer.trains


def test_schedule_free_adamw_itself() -> None:
    schedulefree = pytest.importorskip("schedulefree")

    def make(parameters: Any) -> Optimizer:
        return schedulefree.AdamWScheduleFree(parameters, lr=0.05)

    model = mlp()
    mine = make(model.parameters())
    report = check(model, batch(), steps=10, optimizer=mine)
    other = mlp()
    theirs = make(other.parameters())
    theirs.train()  # type: ignore[attr-defined]
    assert losses_of(report) == pytest.approx(plain_loop(other, [theirs], 10), rel=1e-4)
    assert report.diagnosis.status == "healthy"
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), mlp().parameters()))


def test_lbfgs_beside_another_optimizer_evaluates_for_itself() -> None:
    def make(parameters: Any) -> list[Optimizer]:
        parameters = list(parameters)
        return [
            torch.optim.SGD(parameters[:2], lr=0.1),
            torch.optim.LBFGS(parameters[2:], lr=0.5, max_iter=3),
        ]

    losses = losses_of(check(mlp(), batch(), steps=6, optimizer=make))
    assert losses[-1] < losses[0]


# ---- clipping --------------------------------------------------------------------------------------------------


def sgd(parameters: Any) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9)


def by_value(parameters: Any) -> None:
    nn.utils.clip_grad_value_(parameters, 0.01)


def test_clipping_by_a_function_is_clipping_in_the_loop() -> None:
    report = check(mlp(), batch(), steps=6, optimizer=sgd, clip=by_value)
    other = mlp()
    expected = plain_loop(other, [sgd(other.parameters())], 6, lambda: by_value(other.parameters()))
    assert losses_of(report) == pytest.approx(expected, rel=1e-5)
    assert report.record.facts.clip.clipped == 6
    idle = check(mlp(), batch(), steps=6, optimizer=sgd, clip=lambda p: nn.utils.clip_grad_value_(p, 1e3))
    assert idle.record.facts.clip.clipped == 0
    adaptive = check(mlp(), batch(), steps=6, optimizer=sgd, clip=lambda p: ug.optim.agc_(p, 0.01))
    assert losses_of(adaptive) != losses_of(idle)


@pytest.mark.parametrize("where", ["parameters", "optimizer"])
def test_clipping_by_hooks_works_without_being_named(where: str) -> None:
    model, other = mlp(), mlp()
    optimizer = sgd(model.parameters())
    if where == "parameters":
        for p in model.parameters():
            p.register_hook(lambda g: g.clamp(-0.01, 0.01))
    else:
        optimizer.register_step_pre_hook(lambda *_: by_value(model.parameters()))
    report = check(model, batch(), steps=6, optimizer=optimizer)
    expected = plain_loop(other, [sgd(other.parameters())], 6, lambda: by_value(other.parameters()))
    assert losses_of(report) == pytest.approx(expected, rel=1e-5)


# ---- what is wrong is named ------------------------------------------------------------------------------------


def fails(parameters: Any) -> None:
    raise ZeroDivisionError("no norm")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an empty list": ({"optimizer": []}, "optimizer: the list is empty"),
    "a list of something else": ({"optimizer": [3]}, "optimizer: expected a torch optimizer, got int"),
    "a function to something else": ({"optimizer": lambda p: [3]}, "optimizer: .* to them, got int"),
    "a function to nothing": ({"optimizer": lambda p: []}, "optimizer: .* to them, got none"),
    "a function that fails": ({"clip": fails}, "clip: the function raised ZeroDivisionError: no norm"),
    "a list of no schedules": ({"schedule": ["cosine"]}, "schedule: expected a learning-rate scheduler"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_rehearsed_is_named_in_one_line(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(InputError, match=message) as caught:
        check(mlp(), batch(), steps=2, **options)
    assert "\n" not in str(caught.value)
