"""UG504 and UG505: what the recorded loss says, on synthetic curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from build import Net

LN10 = math.log(10)


def run(losses, lr=None, **facts) -> Net:
    net = Net(mode="training").input().linear("fc", output=True)
    net.record.add_metrics((i, "loss", float(v)) for i, v in enumerate(losses))
    if lr is not None:
        net.record.add_metrics((i, "lr", float(v)) for i, v in enumerate(lr))
    return net.classifier(10, loss=float(losses[0])).fact(**facts)


def falling(n=1000, start=2.3, end=0.4, noise=0.1, seed=0):
    t = np.linspace(0, 1, n)
    return end + (start - end) * np.exp(-5 * t) + noise * np.random.default_rng(seed).normal(size=n)


def only(net: Net, code: str):
    return next((f for f in net.diagnose(select=[code]).findings), None)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(10))
def test_noise_of_small_batches_is_no_divergence(noise: float, seed: int) -> None:
    assert only(run(falling(noise=noise, seed=seed)), "UG504") is None
    flat = 2.3 + noise * np.random.default_rng(seed).normal(size=400)
    assert only(run(flat), "UG504") is None


def test_a_slow_wander_and_a_hump_are_no_divergence() -> None:
    t = np.linspace(0, 1, 1000)
    hump = falling() + 2 * np.exp(-(((t - 0.4) / 0.1) ** 2))
    assert only(run(hump), "UG504") is None
    walk = 1 + np.cumsum(np.random.default_rng(0).normal(size=1000)) * 0.002
    assert only(run(falling(noise=0.05) + 0.5 * (walk - 1)), "UG504") is None


def test_the_step_where_it_began_and_the_learning_rate_that_did_it() -> None:
    losses = falling(noise=0.05)
    losses[600:] += np.linspace(0, 8, 400)
    lr = np.where(np.arange(1000) < 600, 0.1, 1.0)
    finding = only(run(losses, lr), "UG504")
    assert finding.severity == "error"
    assert 575 <= finding.evidence["began"] <= 650
    assert (finding.evidence["lr_before"], finding.evidence["lr"]) == (0.1, 1.0)
    assert "learning rate" in finding.cause
    assert "0.1 still worked" in finding.remedy


def test_a_loss_that_rises_but_stays_below_its_beginning_is_a_warning() -> None:
    losses = falling(noise=0.02)
    losses[700:] += np.linspace(0, 1, 300)
    assert only(run(losses), "UG504").severity == "warning"


def test_the_site_that_grew_is_named() -> None:
    losses = falling(n=100, noise=0.02)
    losses[50:] += np.linspace(0, 10, 50)
    net = run(losses)
    site = net.record.add_site("gradient", "fc")
    quiet = net.record.add_site("gradient", "other")
    for step in range(100):
        rms = {site.id: {"rms": 0.01 if step < 48 else 5.0}, quiet.id: {"rms": 0.01}}
        net.record.add_scalars(step, rms)
    finding = only(net, "UG504")
    assert finding.site == "fc"
    assert "the gradient of fc grew from 0.01 to 5" in finding.message


def test_a_loss_that_becomes_nan_is_dated() -> None:
    losses = falling(n=200)
    losses[150:] = np.nan
    finding = only(run(losses), "UG504")
    assert (finding.severity, finding.evidence["began"]) == ("error", 149)
    assert "not finite" in finding.message


def test_a_loss_that_is_nan_after_the_first_step_is_dated() -> None:
    """No learning rate was recorded before it."""
    losses = np.full(100, np.nan)
    losses[0] = 2.3
    finding = only(run(losses, lr=np.full(100, 10.0)), "UG504")
    assert finding.evidence["began"] == 0


def test_a_hockey_stick_is_seen_and_a_healthy_fast_start_is_not() -> None:
    n = 2000
    stick = np.concatenate([np.linspace(27, 3, 15), falling(n - 15, start=2.6, end=2.1, noise=0.05)])
    finding = only(run(stick), "UG505")
    assert finding.severity == "warning"
    assert finding.evidence["part"] > 0.9
    healthy = np.concatenate([np.linspace(LN10, 1.0, 15), falling(n - 15, start=1.0, end=0.5)])
    assert only(run(healthy), "UG505") is None
    slow = falling(n, start=4.0, end=1.0, noise=0.02)  # begins too high, but not as a hockey stick
    assert only(run(slow), "UG505") is None


def test_the_head_explains_the_stick() -> None:
    stick = np.concatenate([np.linspace(27, 3, 15), falling(1985, start=2.6, end=2.1, noise=0.05)])
    codes = [f.code for f in run(stick).diagnose().findings]
    assert "UG101" in codes
    assert "UG505" not in codes


@pytest.mark.parametrize("code", ["UG504", "UG505"])
def test_a_short_run_or_none_is_not_judged(code: str) -> None:
    assert code in run([2.3, 2.2]).diagnose().abstained
    assert code in Net().input().linear("fc").diagnose().abstained


def test_the_rate_of_a_schedule_is_judged_by_what_it_was() -> None:
    net = run(falling(n=10), lr=[0.1] * 9 + [1e-6], optimizer={"name": "SGD", "lr": [1e-6]})
    net.parameter("w", ratio=[-1.5] * 10)
    finding = net.diagnose(select=["UG501"]).findings[0]
    assert "from 0.1 to about 0.00316" in finding.remedy


def test_loss_that_leaves_in_the_very_first_steps_has_diverged() -> None:
    generator = np.random.default_rng(0)
    losses = np.concatenate([[3.3], generator.lognormal(7, 0.4, 2000)])
    found = only(run(losses), "UG504")
    assert found.severity == "error"
    assert found.evidence["began"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_lucky_first_batch_is_no_divergence(seed: int) -> None:
    losses = np.random.default_rng(seed).lognormal(
        -1, 1.5, 1000
    )  # single examples of a model that knows a lot
    losses[0] = 0.05
    assert only(run(losses), "UG504") is None
