"""Probe.latest(): the last sampled step as plain numbers; and what is measured when nobody says how often."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unitgain import Probe


def train(steps: int, **options):
    """A Probe that has watched this many steps, and per step (gradients, updates, outputs) by hand."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    by_hand = []
    with Probe(model, optimizer, strict=True, **options) as probe:
        for _ in range(steps):
            x = torch.randn(4, 6)
            before = {n: p.detach().clone() for n, p in model.named_parameters()}
            out = model(x)
            out.square().mean().backward()
            gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            ratios = {
                n: math.log10((p.detach() - before[n]).std(correction=0) / before[n].std(correction=0))
                for n, p in model.named_parameters()
            }
            by_hand.append((gradients, ratios, out.detach()))
    return probe, by_hand


def test_every_tenth_step_is_measured_by_default_and_the_first_one_always() -> None:
    assert train(3)[0].record.steps() == [0]
    assert train(21)[0].record.steps() == [0, 10, 20]


@pytest.mark.parametrize("limit", [16_384, None])
def test_latest_has_the_numbers_of_the_last_sampled_step(limit: int | None) -> None:
    probe, by_hand = train(12, limit=limit)
    gradients, ratios, out = by_hand[10]
    latest = probe.latest()
    assert latest["ug/step"] == 10
    assert latest["ug/act_std/2"] == pytest.approx(out.std(correction=0).item(), rel=1e-4)
    for name in gradients:
        assert latest[f"ug/grad_norm/{name}"] == pytest.approx(gradients[name].norm().item(), rel=1e-4)
        assert latest[f"ug/update_ratio/{name}"] == pytest.approx(ratios[name], abs=1e-4)


def test_latest_is_empty_before_a_step_was_made_and_never_raises() -> None:
    model = nn.Linear(2, 2)
    probe = Probe(model, torch.optim.SGD(model.parameters(), 0.1))
    assert probe.latest() == {}
    probe.record.close()
    probe._writer.last = 0
    with pytest.warns(UserWarning, match="stopped measuring"):
        assert probe.latest() == {}
