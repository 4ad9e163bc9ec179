"""A run in which a GradScaler (or the loop) leaves out every step was called healthy, or "step() is not called"."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain.rules import Diagnosis

Broken = Callable[[int], bool]


def undefined_slope(out: Tensor) -> Tensor:
    """Zero, with the slope of a root at zero."""
    return (out.sum() * 0).sqrt()


def train(broken: Broken, every: int = 10, *, by_hand: bool = False, stop: bool = False) -> Diagnosis:
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", enabled=not by_hand)
    x, y = torch.randn(64, 12), torch.randint(4, (64,))
    with ug.Probe(model, optimizer, every=every) as probe:
        for number in range(40):
            out = model(x)
            loss = F.cross_entropy(out, y)
            optimizer.zero_grad()
            scaler.scale(loss + undefined_slope(out) if broken(number) else loss).backward()
            if by_hand and not all(
                bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None
            ):
                probe.log(loss=loss.item())
                if stop:
                    break
                continue
            scaler.step(optimizer)
            scaler.update()
            probe.log(loss=loss.item())
    return ug.diagnose(probe.record)


@pytest.mark.parametrize(("broken", "every", "by_hand", "steps"), [
    (lambda number: True, 10, False, 0),
    (lambda number: True, 1, True, 0),
    (lambda number: number >= 15, 10, False, 15),
    (lambda number: number >= 20, 10, False, 20),
    (lambda number: number >= 7, 1, True, 7),
])  # fmt: skip
def test_steps_that_are_left_out_for_good_are_named(
    broken: Broken, every: int, by_hand: bool, steps: int
) -> None:
    torch.manual_seed(0)
    first = train(broken, every, by_hand=by_hand).findings[0]
    assert (first.code, first.evidence["broken"]) == ("UG702", True)
    assert (f"after {steps} steps" in first.message) == (steps > 0)
    assert abs(first.evidence["passes"] - (40 - steps)) <= 1


@pytest.mark.parametrize(("broken", "every", "by_hand", "stop"), [
    (lambda number: False, 10, False, False),
    (lambda number: number < 6, 10, False, False),  # a scale that begins too high
    (lambda number: number % 9 == 8, 10, True, False),  # a bad batch now and then
    (lambda number: number >= 36, 10, False, False),
    (lambda number: number >= 15, 10, True, True),  # training is broken off at once
])  # fmt: skip
def test_steps_that_are_left_out_now_and_then_are_not(
    broken: Broken, every: int, by_hand: bool, stop: bool
) -> None:
    torch.manual_seed(0)
    assert "UG702" not in {f.code for f in train(broken, every, by_hand=by_hand, stop=stop).findings}


def test_the_steps_of_another_optimizer_count_whatever_the_last_gradient_is() -> None:
    model, x, y = nn.Linear(12, 4), torch.randn(64, 12), torch.randint(4, (64,))
    watched, stepped = (torch.optim.SGD(model.parameters(), 0.01) for _ in range(2))
    said = pytest.warns(
        UserWarning, match=r"after 0 steps of the SGD .* another optimizer \(SGD\) makes steps"
    )
    with said, ug.Probe(model, watched, every=10) as probe:
        for number in range(40):
            out = model(x)
            loss = F.cross_entropy(out, y) + (undefined_slope(out) if number == 39 else 0)
            stepped.zero_grad()
            loss.backward()
            stepped.step()
            probe.log(loss=loss.item())
    assert "UG702" not in {f.code for f in ug.diagnose(probe.record).findings}
