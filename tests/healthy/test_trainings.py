"""Trainings that go well, and whose losses, classes or bounded functions look like trouble: no error, no warning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from trainings import HELD_OUT, SEEN

import unitgain as ug


def alarms(build) -> list[str]:
    parts = build()
    if isinstance(parts[2], dict):
        model, batch, arguments = parts
        findings = ug.check(model, batch, **arguments).findings
    else:
        model, optimizer, loop = parts
        with ug.Probe(model, optimizer, every=10) as probe:
            loop(lambda loss: probe.log(loss=loss))
        findings = ug.diagnose(probe.record).findings
    return [f"{f.code}: {f.message}" for f in findings if f.severity != "info"]


@pytest.mark.parametrize("name", [*SEEN, *HELD_OUT])
def test_no_alarm_on_a_training_that_goes_well(name: str) -> None:
    assert alarms({**SEEN, **HELD_OUT}[name]) == []


# ---- and what is sick beside them ----------------------------------------------------------------------------------


def watched(model: nn.Module, optimizer: torch.optim.Optimizer, loss_at, steps: int = 120) -> list[str]:
    with ug.Probe(model, optimizer, every=10) as probe:
        for step in range(steps):
            loss = loss_at(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss.detach())
    return [f.code for f in ug.diagnose(probe.record).findings if f.severity != "info"]


def test_a_rare_class_does_not_excuse_large_logits() -> None:
    model, batch, _ = SEEN["rare_defaults_in_credit"]()
    with torch.no_grad():
        model[-1].weight.mul_(30)
    assert "UG101" in [f.code for f in ug.check(model, batch).findings]


def test_a_likelihood_below_zero_that_explodes_has_diverged() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    x = torch.randn(64, 4)
    y = 0.05 * x[:, 0]

    def loss_at(step: int) -> torch.Tensor:
        if step == 80:
            optimizer.param_groups[0]["lr"] = 3.0
        mean, log_deviation = model(x).unbind(1)
        return (
            log_deviation.clamp(-3, 3) + 0.5 * ((y - mean) / log_deviation.clamp(-3, 3).exp()).square()
        ).mean()

    assert "UG504" in watched(model, optimizer, loss_at)


def test_a_record_tells_a_gan_from_accumulated_gradients() -> None:
    def given_up(clear_between: bool) -> int | None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with ug.Probe(model, optimizer, every=1) as probe:
            for _ in range(6):
                optimizer.zero_grad()
                F.softplus(model(torch.randn(8, 4))).mean().backward()
                if clear_between:
                    optimizer.zero_grad(set_to_none=False)
                F.softplus(-model(torch.randn(8, 4))).mean().backward()
                optimizer.step()
        return probe.record.facts.loop.given_up

    assert given_up(clear_between=False) == 0
    assert given_up(clear_between=True) == 6
