"""A loss that the model or a step computes itself is asked like one that was given; what only looks like it is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
BITS = (X[:, :1] + X[:, 1:2] > 0).float()  # (64, 1)
CLASSES = X[:, :4].argmax(1)
AMOUNTS = X[:, :1] - X[:, 1:2] * X[:, 2:3]  # (64, 1)
BCE = F.binary_cross_entropy_with_logits


class Own(nn.Module):
    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], width: int = 1):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, width))
        self.loss = loss

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        out = self.net(x)
        return {"loss": self.loss(out, labels), "scores": out}


def codes(model: nn.Module, *batch: Tensor, **how: Any) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of losses that broadcast
        findings = ug.check(model, batch, **{"loss": None, **how}).findings
    return {f.code for f in findings if f.severity != "info"}


MISTAKES = {
    "masks of 255": ("UG106", BCE, BITS * 255, BITS, 1),
    "a sum over masks of 255": ("UG106", lambda o, t: BCE(o, t, reduction="sum") / 64, BITS * 255, BITS, 1),
    "(64, 1) with (64,)": ("UG107", F.mse_loss, AMOUNTS[:, 0], AMOUNTS, 1),
    "the same by hand": ("UG107", lambda o, t: (o - t).pow(2).mean(), AMOUNTS[:, 0], AMOUNTS, 1),
    "a likelihood by hand": (
        "UG107", lambda o, t: -(t * F.logsigmoid(o) + (1 - t) * F.logsigmoid(-o)).mean(), BITS[:, 0], BITS, 1,
    ),
    "targets in their own units": ("UG109", F.l1_loss, 300 + 50 * AMOUNTS, AMOUNTS, 1),
    "the same, half the square": (
        "UG109", lambda o, t: 0.5 * (o - t).square().mean(), 300 + 50 * AMOUNTS, AMOUNTS, 1,
    ),
    "class numbers": ("UG111", F.mse_loss, CLASSES.float()[:, None], AMOUNTS, 1),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_inside_of_forward_is_named(mistake: str) -> None:
    code, loss, wrong, right, width = MISTAKES[mistake]
    assert codes(Own(loss, width), X, wrong) == {code}
    assert codes(Own(loss, width), X, right) == set()


def test_probabilities_into_logits_inside_of_forward_are_named() -> None:
    assert codes(Own(lambda o, t: BCE(o.sigmoid(), t)), X, BITS) == {"UG105"}
    assert codes(Own(lambda o, t: F.binary_cross_entropy(o.sigmoid(), t)), X, BITS) == set()


def test_a_step_is_asked_as_well() -> None:
    net = Own(BCE).net
    step = lambda model, batch: BCE(model(batch[0]), batch[1])  # noqa: E731
    sick = ug.check(net, (X, BITS * 255), step=step)
    assert [f.code for f in sick.findings if f.severity == "error"] == ["UG106"]
    assert ug.check(net, (X, BITS), step=step).ok


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: (
            F.mse_loss(o, t) + 0.1 * F.l1_loss(o, 0.001 * o.detach())
        ),  # which of the two is to blame?
        lambda o, t: F.mse_loss(o, 1e-3 * o.detach().roll(1, 0)) + 0 * t.sum(),  # a target of the model's own
        lambda o, t: (t[:, None] * o[None]).mean() + F.mse_loss(o, t),  # every pair on purpose: shapes say so
        lambda o, t: ((o - t) / 300).square().mean(),  # scaled back
    ],
)
def test_what_is_not_one_error_of_the_batchs_targets_is_left_alone(loss) -> None:
    assert codes(Own(loss), X, AMOUNTS) == set()


def test_one_hot_rows_that_a_loss_makes_of_indices_are_seen() -> None:
    net = Own(BCE, 4).net
    probabilities = nn.Sequential(net, nn.Softmax(1))
    squares = lambda o, t: (o - F.one_hot(t, 4)).square().sum(1).mean()  # noqa: E731
    assert codes(probabilities, X, CLASSES, loss=squares) == {"UG111"}
    assert codes(net, X, CLASSES, loss=squares) == set()  # squares of plain outputs train well
    assert codes(net, X, CLASSES, loss=F.cross_entropy) == set()


def test_a_loss_of_several_targets_is_asked_where_it_calls_one_of_torchs() -> None:
    net = Own(BCE).net
    loss = lambda o, t: BCE(o, t["mask"])  # noqa: E731
    assert codes(net, X, {"mask": BITS * 255}, loss=loss) == {"UG106"}  # pyright: ignore[reportArgumentType]
    assert codes(net, X, {"mask": BITS}, loss=loss) == set()  # pyright: ignore[reportArgumentType]
