"""UG504 and UG505: what the recorded loss says, on synthetic curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from build import Net
from torch import Tensor, nn

import unitgain as ug

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
    losses[140:150] = losses[0] * 1.4 ** np.arange(10)
    losses[150:] = np.nan
    finding = only(run(losses), "UG504")
    assert finding.severity == "error"
    assert 138 <= finding.evidence["began"] <= 149
    assert "not finite" in finding.message


def test_a_loss_that_is_nan_after_the_first_step_is_dated() -> None:
    """No learning rate was recorded before it."""
    losses = np.full(100, np.nan)
    losses[0] = 2.3
    finding = only(run(losses, lr=np.full(100, 10.0)), "UG504")
    assert finding.evidence["began"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("good", [1, 2, 3, 6])
def test_a_short_run_whose_loss_becomes_nan_is_judged(bad: float, good: int) -> None:
    """It used to be "cannot tell: nothing was measured" up to 40 recorded losses. Of eight or more that fall until
    then, UG104 says what it is."""
    finding = only(run([*np.linspace(2.3, 1.5, good), bad, bad]), "UG504")
    assert (finding.severity, finding.evidence["began"]) == ("error", good - 1)
    assert finding.evidence["lowest"] == pytest.approx(1.5 if good > 1 else 2.3)


@pytest.mark.parametrize("scatter", [0.0, 1.0])
@pytest.mark.parametrize("good", [1, 2, 3, 12])
def test_a_short_run_that_ends_far_above_its_start_is_judged(good: int, scatter: float) -> None:
    wild = 4e5 * np.exp(scatter * np.random.default_rng(good).normal(size=20))
    finding = only(run([*np.linspace(1.5, 1.2, good), *wild]), "UG504")
    assert (finding.severity, finding.evidence["began"]) == ("error", good - 1)
    assert finding.evidence["last"] > 1e4


def test_a_short_run_with_a_spike_or_a_lucky_first_batch_is_not_judged() -> None:
    spike = run([1.1, 50, 20, *np.linspace(9, 2.1, 12)])
    hard = run([*np.linspace(2.3, 1.5, 14), 40])  # one hard batch at the end
    lucky = run([0.05, *np.random.default_rng(0).lognormal(-1, 1.5, 30)])
    for net in (spike, hard, lucky):
        assert "too few steps" in net.diagnose(select=["UG504"]).abstained["UG504"]


def test_nothing_was_measured_is_not_said_of_recorded_losses() -> None:
    def verdict(losses) -> str:
        record = ug.Record()
        record.set_meta("facts", {"mode": "training"})
        record.add_metrics((i, "loss", float(v)) for i, v in enumerate(losses))
        return ug.diagnose(record).verdict

    assert verdict(np.linspace(2.3, 2, 15)) == (
        "cannot tell: too few steps were recorded: needs 40 losses, there are 15"
    )
    assert verdict(falling(200)) == "cannot tell: only the loss was judged"
    assert verdict([]) == "cannot tell: nothing was measured"


@pytest.mark.parametrize("after", [[2.6e19, 1.5e30, math.nan], [2.6e19, 1.5e30, 1e31]])
def test_the_rate_of_the_step_that_destroyed_the_loss_is_not_called_good(after) -> None:
    """A warm-up from 4e4 to 1e6: "4e+04 still worked"."""
    losses = [2.3, *after, *[after[-1]] * 231]
    finding = only(run(losses, lr=np.geomspace(4e4, 1e6, 235)), "UG504")
    assert "worked" not in finding.remedy
    assert "well below 4e+04" in finding.remedy
    assert "went from" not in finding.message


def test_a_rate_that_kept_the_loss_for_a_step_worked() -> None:
    losses = [2.3, 2.2, 2.1, *[math.nan] * 50]
    finding = only(run(losses, lr=[0.1, 0.1, 10, *[10] * 50]), "UG504")
    assert finding.evidence["began"] == 2
    assert "below 10: 0.1 still worked" in finding.remedy


def test_the_first_steps_of_a_warm_up_that_kept_the_loss_worked() -> None:
    losses = [*[2.3] * 5, *[1e4] * 200]
    finding = only(run(losses, lr=np.geomspace(1e-4, 1e20, 205)), "UG504")
    assert finding.evidence["began"] == 4
    assert finding.evidence["lr_before"] == 1e-4


@pytest.mark.parametrize("end", [1e7, math.nan])
def test_a_wrecked_network_prescribes_no_learning_rate(end: float) -> None:
    """Its saturated layers made the updates, and UG501 gave a rate that was too large by four decades."""
    losses = [*[2.3] * 30, *[end] * 100]
    net = run(losses, lr=[1e3] * 130, optimizer={"name": "SGD", "lr": [1e3]})
    net.parameter("w", ratio=[1.0] * 30 + [-0.7] * 100)
    finding = net.diagnose(select=["UG501"]).findings[0]
    assert finding.evidence["median"] == 1.0
    assert "from 1e+03 to about 0.1" in finding.remedy
    assert net.diagnose(select=["UG50"]).findings[0].code == "UG504"


def test_updates_measured_only_after_the_loss_was_lost_are_not_judged() -> None:
    net = run([math.nan] * 5, optimizer={"name": "SGD", "lr": [1.0]})
    net.parameter("w", ratio=[-0.7] * 5)
    assert "the loss had diverged" in net.diagnose().abstained["UG501"]
    adam = run([2.3, *[math.nan] * 50], optimizer={"name": "Adam", "lr": [1.0]})
    adam.parameter("w", ratio=[-0.7] * 51)
    assert "full-sized" in adam.diagnose().abstained["UG501"]


def test_one_loss_that_was_not_finite_takes_no_later_step_away() -> None:
    losses = [2.3] * 30 + [math.inf] + [2.0] * 100
    net = run(losses, lr=[1.0] * 131, optimizer={"name": "SGD", "lr": [1.0]})
    net.parameter("w", ratio=[-3.0] * 31 + [0.0] * 100)
    assert net.diagnose(select=["UG501"]).findings[0].evidence["median"] == 0.0
    assert "the loss is inf at 1 of 131 recorded steps" in net.diagnose(select=["UG104"]).findings[0].message
    assert net.diagnose(select=["UG504"]).findings == ()  # it came back, so that it is no divergence


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


def test_losses_that_are_not_finite_between_finite_ones_are_no_divergence() -> None:
    """Batches all of whose labels are ignored: the mean over nothing is NaN, and no weight is spoilt."""
    losses = [2.0 - 0.01 * step if step % 8 != 5 else math.nan for step in range(120)]
    (finding,) = run(losses).diagnose(select=["UG104", "UG504"]).findings
    assert finding.code == "UG104"
    assert "15 of 120" in finding.message


def test_a_loss_that_stays_not_finite_after_a_rise_is_a_divergence() -> None:
    losses = [2.0 - 0.01 * step if step < 70 else 1.3 * 1.5 ** (step - 70) for step in range(80)] + [
        math.nan
    ] * 40
    assert [f.code for f in run(losses).diagnose(select=["UG104", "UG504"]).findings] == ["UG504"]


def test_a_loss_at_its_lowest_that_is_nan_in_the_next_step_is_no_divergence() -> None:
    """A logarithm of zero: a lower learning rate would only put it off."""
    losses = [2.0 - 0.01 * step if step < 80 else math.nan for step in range(120)]
    (finding,) = run(losses).diagnose(select=["UG104", "UG504"]).findings
    assert finding.code == "UG104"
    assert "from step 80 on" in finding.message
    assert "logarithm" in finding.remedy


def test_a_loss_that_becomes_nan_names_the_step_and_the_first_site_that_did() -> None:
    """Everything is NaN by then; without the site there was nothing to look at."""

    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Softplus(), Log(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=300.0)
    with ug.Probe(model, optimizer, every=1) as probe:
        for _ in range(20):
            loss = F.cross_entropy(model(torch.randn(64, 16)), torch.arange(64) % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    steps = probe.record.steps()
    broken = [s for s in steps if probe.record.values("activation", s)["2"]["nonfinite"] > 0]
    found = next(f for f in ug.diagnose(probe.record).findings if f.code == "UG504")
    assert f"the first activations with NaN or infinity are those of 2 at step {broken[0]}" in found.message


def guessing(losses, guess: float = 1.1) -> Net:
    """A classifier whose weights move by a hundredth at every step."""
    net = run(losses, labels={"batches": 20, "of_one_class": 0, "different": 0, "guess": guess})
    return net.parameter("fc.weight", site="fc", ratio=-2.0)


def test_a_loss_at_that_of_a_guess_is_named_and_one_that_passes_by_is_not() -> None:
    """With class weights the loss of a guess is another one, and that of a network that learns may pass by this one."""
    noise = 0.02 * np.random.default_rng(0).normal(size=300)
    assert only(guessing(1.1 + noise), "UG510") is not None
    assert only(guessing(np.where(np.arange(300) < 20, 2.5, 1.1) + noise), "UG510") is not None
    assert only(guessing(np.linspace(1.9, 1.05, 300) + noise), "UG510") is None
    assert only(guessing(0.95 + noise), "UG510") is None
    assert only(guessing(1.1 + noise[:90]), "UG510") is None
