"""A healthy verdict is earned: it names what could not be judged, and is given to no rehearsal that goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unitgain import check

N = 64


def batch(seed: int = 0, n: int = N) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(20, 10, generator=torch.Generator().manual_seed(7))
    x = torch.randn(n, 20, generator=g)
    return x, (x @ weights).argmax(1)


def mlp(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10), *last)


def sgd(lr: float, **options: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **options)


# ---- what could not be judged ---------------------------------------------------------------------------------


def own_step(model: nn.Module, given: Any) -> Tensor:
    """The labels are compared by hand, so that nothing is known of what the loss makes of other answers."""
    return -model(given[0]).log_softmax(1)[torch.arange(len(given[1])), given[1]].mean()


NAMED: dict[str, tuple[Callable[[], Any], str]] = {
    "no loss": (lambda: check(mlp(), batch()[0]), "loss and targets not judged: no loss was measured"),
    "two examples": (lambda: check(mlp(), batch(n=2)), "dead units not judged: too few examples"),
    "one example": (lambda: check(mlp(), batch(n=1)), "whether outputs depend on the input not judged"),
    "no mates": (lambda: check(mlp(), batch(n=1)), "batch independence not judged: a batch of one example"),
    "a step": (lambda: check(mlp(), batch(), step=own_step), "what the loss compares not judged: the loss could not"),
    "one batch": (
        lambda: check(mlp(), batch(), steps=20, optimizer=sgd(0.1)),
        "rehearsed on one batch, which can be memorized at rates at which training fails",
    ),
    "few steps": (lambda: check(mlp(), batch(), steps=5, optimizer=sgd(0.03)), "the rehearsed loss not judged"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_healthy_verdict_names_what_it_could_not_judge(name: str) -> None:
    run, words = NAMED[name]
    diagnosis = run().diagnosis
    assert diagnosis.status == "healthy"
    assert words in diagnosis.verdict
    what = words.partition(" not judged")[0]
    assert what in diagnosis.left_out or name == "one batch"


def test_what_was_judged_is_not_named() -> None:
    data = [batch(seed) for seed in range(1, 8)]
    diagnosis = check(mlp(), batch(), steps=20, optimizer=sgd(0.1), data=data).diagnosis
    assert diagnosis.status == "healthy"
    assert diagnosis.left_out == {"scale over depth": "fewer than three comparable layers"}
    assert "rehearsed on one batch" not in diagnosis.verdict


# ---- rehearsals that go wrong ---------------------------------------------------------------------------------


def deep_linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(20, 20) for _ in range(30)], nn.Linear(20, 10))


def poisoned() -> list[tuple[Tensor, Tensor]]:
    """The seventh batch holds a NaN."""
    given = [batch(seed) for seed in range(1, 20)]
    given[6][0][0, 0] = float("nan")
    return given


WRONG: dict[str, Callable[[], Any]] = {
    "a rate of 300": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(300.0)),
    "a rate of three million": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(3e6)),
    "300 on fresh batches": lambda: check(
        mlp(), batch(), steps=20, optimizer=sgd(300.0), data=[batch(s) for s in range(1, 20)]
    ),
    "uphill": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(0.1, maximize=True)),
    "uphill in five steps": lambda: check(mlp(), batch(), steps=5, optimizer=sgd(0.1, maximize=True)),
    "no step at all": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(0.0)),
    "a rate of 1e-9": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(1e-9)),
    "a deep linear stack": lambda: check(deep_linear(), batch(), steps=20, optimizer=sgd(30.0)),
    "a batch with a NaN": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(0.1), data=poisoned()),
    "weight decay of 5": lambda: check(mlp(), batch(), steps=20, optimizer=sgd(0.1, weight_decay=5.0)),
    "momentum of 1.1": lambda: check(mlp(), batch(), steps=40, optimizer=sgd(0.3, momentum=1.1)),
    "LBFGS that leaps": lambda: check(
        mlp(), batch(), steps=20, optimizer=lambda p: torch.optim.LBFGS(p, lr=1e4, max_iter=2)
    ),
    "two optimizers, one far too fast": lambda: check(
        mlp(), batch(), steps=20,
        optimizer=lambda p: [torch.optim.SGD([*p][:2], lr=0.1), torch.optim.SGD([*p][2:], lr=1e4)],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # losses that overflow on purpose
@pytest.mark.parametrize("name", WRONG)
def test_a_rehearsal_that_goes_wrong_is_never_healthy(name: str) -> None:
    report = WRONG[name]()
    assert report.diagnosis.status != "healthy", report.verdict


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rate", [1e3, 1e6])
def test_nor_is_it_after_a_proof(rate: float) -> None:
    data = [batch(seed) for seed in range(1, 30)]
    report = check(mlp(), batch(), optimizer=sgd(rate), data=data, prove=True)
    assert report.diagnosis.status == "sick"
    assert "learning rate" in report.diagnosis.first_action.lower()
