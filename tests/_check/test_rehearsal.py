"""check(steps=...): the batches, the clipping, the schedule and the closures of the caller's own loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from unitgain import InputError, check
from unitgain.record import ClipFacts

N = 32


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(count: int, first: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(noise(N, 4, seed=i), torch.arange(N) % 3) for i in range(first, first + count)]


def loop(
    data: list[Any],
    make: Callable[[Any], torch.optim.Optimizer],
    *,
    clip: float | None = None,
    schedule: Callable[[Any], Any] | None = None,
) -> list[float]:
    """A training loop as people write it."""
    model, losses = mlp(), []
    optimizer = make(model.parameters())
    scheduler = None if schedule is None else schedule(optimizer)
    for x, y in data:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            on_plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            scheduler.step(loss.item()) if on_plateau else scheduler.step()
        losses.append(loss.item())
    return losses


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9)


def losses_of(report: Any) -> list[float]:
    """Of the steps, without that after the last one."""
    steps = report.record.facts.rehearsed_steps
    return report.record.metric("loss")[1].tolist()[:steps]


def test_the_first_step_is_on_the_batch_and_the_others_on_those_of_data() -> None:
    fresh = batches(3, first=5)
    report = check(mlp(), batches(1)[0], steps=6, optimizer=sgd, data=fresh)
    assert losses_of(report) == pytest.approx(loop([*batches(1), *fresh, *fresh[:2]], sgd), rel=1e-5)


def test_a_loader_s_order_is_afterwards_what_it_was() -> None:
    data = TensorDataset(noise(128, 4), torch.arange(128) % 3)
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(data, batch_size=N, shuffle=True, generator=generator)
    model = mlp()
    before, globally = generator.get_state(), torch.get_rng_state()
    first = losses_of(check(model, batches(1)[0], steps=8, data=loader))
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), globally)
    assert losses_of(check(mlp(), batches(1)[0], steps=8, data=loader)) == first
    assert len(set(first)) == 8


@pytest.mark.parametrize("clip", [0.01, 1000.0])
def test_gradients_are_clipped_as_in_a_loop(clip: float) -> None:
    data = batches(1) * 5
    report = check(mlp(), data[0], steps=5, optimizer=sgd, clip=clip)
    assert losses_of(report) == pytest.approx(loop(data, sgd, clip=clip), rel=1e-5)
    assert report.record.facts.clip == ClipFacts(clip, 5 if clip < 1 else 0)
    norms = [
        row["rms"] * row["count"] ** 0.5 for row in report.record.values("parameter_gradient", 0).values()
    ]
    total = sum(norm**2 for norm in norms) ** 0.5
    assert total == pytest.approx(clip, rel=1e-4) if clip < 1 else total < clip


SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=10),
    "chained": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.5)], [2]
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=1.0),
}


@pytest.mark.filterwarnings(
    "ignore:The epoch parameter in:UserWarning"
)  # of SequentialLR itself, in older torch
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("given", ["a function", "a scheduler"])
def test_the_learning_rate_moves_as_in_a_loop_and_the_caller_s_schedule_stays(name: str, given: str) -> None:
    data, schedule = batches(1) * 6, SCHEDULES[name]
    model = mlp()
    optimizer = sgd(model.parameters())
    mine = schedule(optimizer) if given == "a scheduler" else schedule
    states = [copy.deepcopy(x.state_dict()) for x in (optimizer, mine) if not callable(mine)]
    report = check(model, data[0], steps=6, optimizer=optimizer if not callable(mine) else sgd, schedule=mine)
    assert losses_of(report) == pytest.approx(loop(data, sgd, schedule=schedule), rel=1e-5)
    assert len(set(report.record.metric("lr")[1].tolist())) > 1
    assert [x.state_dict() for x in (optimizer, mine) if not callable(mine)] == states
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), mlp().parameters()))


def lbfgs(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.5, max_iter=4)


def test_lbfgs_gets_its_closure_and_does_what_it_does_in_a_loop() -> None:
    x, y = batches(1)[0]
    calls = [0]

    class Counts(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            calls[0] += 1
            return z

    report = check(nn.Sequential(*mlp(), Counts()), (x, y), steps=3, optimizer=lbfgs, select=["UG501"])
    used = calls[0]
    model, losses = mlp(), []
    optimizer = lbfgs(model.parameters())
    passes = [0]

    def closure() -> Tensor:
        passes[0] += 1
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        losses.append(optimizer.step(closure).item())  # type: ignore[arg-type]
    assert losses_of(report) == pytest.approx(losses, rel=1e-4)
    assert used - passes[0] <= 7  # those of the look at batch independence
    record = report.record
    assert [record.value("activation", "0", "count", step) for step in range(3)] == [N * 16] * 3
    assert all(row["rms"] > 0 for row in record.values("update", 2).values())


def test_an_lbfgs_of_the_caller_s_own_is_left_alone() -> None:
    model = mlp()
    optimizer = lbfgs(model.parameters())
    check(model, batches(1)[0], steps=2, optimizer=optimizer)
    assert not optimizer.state
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), mlp().parameters()))


MODEL = mlp()
OPTIMIZER = sgd(MODEL.parameters())
WRONG = {
    "data without steps": ({"data": batches(1)}, "data: it matters only when steps are rehearsed; add steps=20"),
    "clip without steps": ({"clip": 1.0}, "clip: it matters only"),
    "schedule without steps": ({"schedule": SCHEDULES["step"]}, "schedule: it matters only"),
    "a tensor as data": ({"steps": 2, "data": noise(3, 4)}, "data: Tensor gives no batches; give a DataLoader"),
    "a number as data": ({"steps": 2, "data": 3}, "data: int gives no batches"),
    "empty data": ({"steps": 2, "data": []}, "data: it gave no batch; is it empty?"),
    "data that ends": ({"steps": 5, "data": iter(batches(2))}, "ended before all steps were rehearsed"),
    "data of another form": ({"steps": 2, "data": [noise(N, 4)]}, r"data: batch 1 is \(32, 4\) float32, the batch"),
    "data that is none": ({"steps": 2, "data": ["a"]}, "data: batch 1: batch: cannot use a str"),
    "negative clip": ({"steps": 2, "clip": -1}, "clip: expected the largest norm"),
    "clip by name": ({"steps": 2, "clip": "norm"}, "clip: expected the largest norm"),
    "schedule by name": ({"steps": 2, "schedule": "cosine"}, "schedule: expected a learning-rate scheduler"),
    "schedule that gives none": ({"steps": 2, "schedule": lambda o: 3}, "schedule: the function gave int"),
    "schedule of another optimizer": (
        {"steps": 2, "schedule": lr_scheduler.StepLR(OPTIMIZER, 1)}, "schedule: it is for another optimizer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_of_a_rehearsal_is_named_in_one_line(name: str) -> None:
    options, message = WRONG[name]
    with pytest.raises(InputError, match=message) as caught:
        check(mlp(), batches(1)[0], **options)
    assert "\n" not in str(caught.value)


def test_a_scheduled_optimizer_of_the_caller_s_own_is_not_stepped() -> None:
    """Schedulers put a wrapper in the place of optimizer.step, which a copy of the optimizer would share."""
    model = mlp()
    optimizer = sgd(model.parameters())
    lr_scheduler.StepLR(optimizer, 1)
    check(model, batches(1)[0], steps=3, optimizer=optimizer)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), mlp().parameters()))
    assert not optimizer.state


def test_lbfgs_gets_its_closure_also_with_a_step_and_a_schedule() -> None:
    def step(model: Any, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1])

    data = batches(4)
    plain, stepped = (
        check(mlp(), data[0], steps=4, optimizer=lbfgs, data=data[1:], schedule=SCHEDULES["step"], **options)
        for options in ({}, {"step": step})
    )
    assert losses_of(plain) == losses_of(stepped)
    for number in range(4):
        assert plain.record.values("activation", number) == stepped.record.values("activation", number)


def test_an_optimizer_that_raises_is_named() -> None:
    """A rate beyond float32 was reported as a defect of unitgain."""
    with pytest.raises(InputError, match=r"optimizer: SGD raised .* in its step"):
        check(mlp(), batches(1)[0], steps=2, optimizer=lambda p: torch.optim.SGD(p, lr=1e300))


class Stream(IterableDataset):
    """Without a length."""

    def __iter__(self):
        return iter(list(zip(*batches(1)[0])) * 3)


@pytest.mark.parametrize("data", [TensorDataset(*batches(1)[0]), Stream()], ids=["one batch", "a stream"])
def test_a_loader_of_one_batch_or_without_a_length_is_rehearsed(data) -> None:
    """The first was refused as empty, as its only batch is the one that is checked."""
    report = check(mlp(), DataLoader(data, batch_size=N), steps=4)
    assert len(losses_of(report)) == 4
    assert report.record.facts.batches.repeated == (None if isinstance(data, TensorDataset) else True)
