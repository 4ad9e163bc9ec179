"""What the end of a run shows and its beginning did not, the rate to use, small updates, and what a Probe sees."""

from __future__ import annotations

import re

import loop_cases as cases
import pytest
import torch
import torch.nn.functional as F
from loop_cases import CE, MSE, adam, chain, conv_net, lstm_net, numbers, pictures, series, sgd, table, train
from torch import nn

import unitgain as ug
from unitgain.rules import Diagnosis


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def codes(diagnosis: Diagnosis) -> set[str]:
    return {f.code for f in diagnosis.findings if f.severity != "info"}


# ---- divergence -------------------------------------------------------------------------------

DIVERGED = {
    "regression": lambda: (chain(12, 64, 64, 64, 64, 1), lambda m: sgd(m, 0.6, momentum=0.9), numbers(), MSE),
    "classifier": lambda: (chain(12, 64, 64, 4), lambda m: adam(m, 300.0), table(), CE),
    "lstm": lambda: (lstm_net(), lambda m: sgd(m, 50.0), series(), MSE),
    "conv": lambda: (conv_net(), lambda m: sgd(m, 8.0, momentum=0.9), pictures(), CE),
}


@pytest.mark.parametrize("name", DIVERGED)
def test_what_came_with_a_divergence_does_not_stand_before_it(name: str) -> None:
    model, optimizer, data, loss = DIVERGED[name]()
    diagnosis = train(model, optimizer(model), data, loss, 150)
    first = diagnosis.findings[0]
    assert first.code in {"UG504", "UG304", "UG501"}
    assert codes(diagnosis) <= {"UG504", "UG501", "UG304"}
    rates = re.search(r"from (\S+) to about ([\d.e-]+\d)", first.remedy)
    assert rates is not None, first.remedy
    assert float(rates[2]) < 0.5 * float(rates[1])


def test_activations_that_explode_from_the_start_are_said_of_a_run_that_diverged() -> None:
    model = chain(12, 64, 64, 64, 64, 64, 64, 4)
    with torch.no_grad():
        for layer in model[::2]:  # type: ignore[attr-defined]
            layer.weight.mul_(12)
    diagnosis = train(model, sgd(model, 0.5), table(), CE)
    assert diagnosis.findings[0].code == "UG302"
    assert diagnosis.findings[0].message.startswith("at the first sampled step ")
    assert "UG504" in codes(diagnosis)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("steps", [3, 12, 20])
def test_adam_at_a_rate_of_300_gets_a_rate_to_use(kind, steps: int) -> None:
    model = chain(12, 64, 64, 4)
    report = ug.check(model, table(64), CE, steps=steps, optimizer=lambda p: kind(p, 300.0))
    rate = re.search(r"Lower the learning rate from 300 to about (\S+)\.", report.diagnosis.first_action)
    assert rate is not None, report.diagnosis.first_action
    assert 1e-5 < float(rate[1]) < 1e-2
    losses = ug.check(
        model, table(64), CE, steps=60, optimizer=lambda p: kind(p, float(rate[1]))
    ).record.metric("loss")[1]
    assert losses[-1] < 0.98 * losses[0]


def test_the_rate_to_use_is_that_of_the_first_updates_also_after_a_warm_up() -> None:
    model = chain(12, 96, 96, 4)
    optimizer = adam(model, 1e-3)

    def warm(i: int) -> None:
        optimizer.param_groups[0]["lr"] = 1e-3 * 1.12**i

    diagnosis = train(model, optimizer, table(), CE, 120, before=warm)
    rate = re.search(r"to about ([\d.e-]+\d)", diagnosis.first_action) or re.search(
        r": (\S+) still worked", diagnosis.first_action
    )
    assert rate is not None, diagnosis.first_action
    assert 1e-5 < float(rate[1]) < 0.05


def test_a_logarithm_of_zero_is_not_answered_by_a_lower_rate() -> None:
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
    x, _ = table(256)
    y = (x[:, :1] > 0).float()
    count = {"passes": 0}

    def loss(p, t):
        count["passes"] += 1
        if count["passes"] > 60:
            p = p.round()  # as a sigmoid that has become exactly one
        return -(t * p.log() + (1 - t) * (1 - p).log()).mean()

    diagnosis = train(model, adam(model, 5e-3), (x, y), loss)
    assert diagnosis.findings[0].code == "UG104"
    assert "logarithm" in diagnosis.first_action
    assert "learning rate" not in diagnosis.first_action


# ---- no gradient at any step ------------------------------------------------------------------


def test_an_optimizer_that_never_gets_a_gradient_is_told_though_another_model_trains() -> None:
    """A generator's loss of detached outputs: its discriminator learns, and its own steps do nothing."""
    generator, judge = chain(4, 24, 12), chain(12, 24, 1)
    mine, others = adam(generator, 1e-3), adam(judge, 1e-3)
    real, _ = table()
    with ug.Probe(generator, mine, every=4) as probe:
        for _ in range(60):
            fake = generator(torch.randn(32, 4))
            others.zero_grad()
            a, b = judge(real[:32]), judge(fake.detach())
            (F.softplus(-a) + F.softplus(b)).mean().backward()
            others.step()
            loss = F.softplus(-judge(fake.detach())).mean()
            mine.zero_grad()
            loss.backward()
            mine.step()
            probe.log(loss=loss)
    (finding,) = [f for f in ug.diagnose(probe.record).findings if f.severity != "info"]
    assert finding.code == "UG403"
    assert "at any of 15 sampled steps" in finding.message
    assert "detach" in finding.remedy


def test_embeddings_that_fall_on_one_point_in_training_are_told_and_apart_ones_are_not() -> None:
    torch.manual_seed(1)
    x = torch.randn(48, 12)
    labels = torch.arange(48) % 6
    same = labels[:, None] == labels

    def run(hardest: bool) -> list[str]:
        torch.manual_seed(2)
        model = chain(12, 32, 8)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        with ug.Probe(model, optimizer, every=5) as probe:
            for _ in range(160):
                codes = model(x)
                apart = (codes[:, None] - codes).square().sum(2)
                if hardest:
                    far, near = (
                        apart.masked_fill(~same, 0).amax(1),
                        apart.masked_fill(same, torch.inf).amin(1),
                    )
                    loss = F.relu(far - near + 1).mean()
                else:
                    gap = F.relu(apart[:, :, None] - apart[:, None] + 1)
                    loss = gap[same[:, :, None] & ~same[:, None]].mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                probe.log(loss=loss)
        return [f.code for f in ug.diagnose(probe.record, select=["UG114"]).findings]

    assert run(hardest=True) == ["UG114"]
    assert run(hardest=False) == []


# ---- the step that is judged ------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 5])
def test_a_forward_pass_after_training_hides_no_finding(every: int) -> None:
    model = chain(12, *[48] * 7, 4, act=nn.Sigmoid)
    optimizer, (x, y) = sgd(model), table()
    with ug.Probe(model, optimizer, every=every) as probe:
        for _ in range(30):
            optimizer.zero_grad()
            CE(model(x[:64]), y[:64]).backward()
            optimizer.step()
        model(x)
    assert "UG401" in codes(ug.diagnose(probe.record))


# ---- small updates ----------------------------------------------------------------------------


def test_no_update_at_all_is_minus_infinity_and_never_dropped() -> None:
    model = chain(12, 32, 32, 4)
    report = ug.check(model, table(64), CE, steps=10, optimizer=lambda p: torch.optim.SGD(p, 1e-30))
    finding = next(f for f in report.findings if f.code == "UG502")
    assert finding.message.startswith("SGD does not change the weights at all")
    assert "inf" not in finding.remedy


def test_a_run_that_has_converged_is_not_told_to_raise_its_rate() -> None:
    x = torch.randn(64, 4)
    for log in (True, False):
        model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
        diagnosis = train(model, sgd(model, 0.2), (x, 0.4 * x[:, :1]), MSE, 1500, every=25, size=64, log=log)
        assert not {"UG502", "UG508"} & codes(diagnosis)


def test_a_rate_that_was_too_small_from_the_start_is_still_found() -> None:
    model = chain(12, 32, 32, 4)
    assert codes(train(model, sgd(model, 1e-6), table(), CE)) == {"UG502"}


# ---- the optimizer ----------------------------------------------------------------------------


def test_an_optimizer_without_steps_is_looked_at_and_left_alone() -> None:
    model = chain(12, 32, 4)
    optimizer = torch.optim.Adam(model[2].parameters(), 1e-3)
    report = ug.check(model, table(64), CE, optimizer=optimizer)
    assert codes(report.diagnosis) == {"UG701"}
    assert not optimizer.state
    assert "UG701" in ug.check(model, table(64), CE).diagnosis.abstained


def test_an_optimizer_of_a_copy_says_whose_tensors_it_holds() -> None:
    old = chain(12, 32, 4)
    optimizer = sgd(old)
    model = chain(12, 32, 4)
    with pytest.warns(UserWarning, match="holds none of the 4 parameters"):
        probe = ug.Probe(model, optimizer, every=2)
    with probe:
        for _ in range(12):
            x, y = table(64)
            optimizer.zero_grad()
            CE(model(x), y).backward()
            optimizer.step()
    finding = next(f for f in ug.diagnose(probe.record).findings if f.code == "UG701")
    assert finding.severity == "error"
    assert "4 tensors that are not the model's" in finding.message
    assert finding.evidence["missing"] == ["0.weight", "0.bias", "2.weight", "2.bias"]


# ---- cost -------------------------------------------------------------------------------------


def test_parameters_have_hooks_in_sampled_steps_only_and_none_afterwards() -> None:
    model = chain(12, 32, 4)
    optimizer, seen = sgd(model), []
    with ug.Probe(model, optimizer, every=4) as probe:
        for _ in range(9):
            x, y = table(32)
            optimizer.zero_grad()
            loss = CE(model(x), y)
            seen.append(sum(bool(p._backward_hooks) for p in model.parameters()))
            loss.backward()
            optimizer.step()
    assert seen == [4, 0, 0, 0, 4, 0, 0, 0, 4]
    assert not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in model.parameters())
    assert probe.record.facts.loop.steps == 9


def test_a_gradient_that_was_cleared_costs_no_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    from unitgain.probe import loop

    asked = []
    monkeypatch.setattr(loop.Loop, "_is_nonzero", lambda self, w: asked.append(w))
    model = chain(12, 32, 4)
    train(model, sgd(model), table(), CE, 20, every=1)
    assert not asked


def test_cases_are_drawn_before_they_are_run() -> None:
    assert cases.CASES.held_out() == cases.HELD_OUT


def test_a_new_batch_norm_trained_in_eval_mode_from_the_start_is_named() -> None:
    model = chain(12, 32, 4, norm=True).eval()
    found = train(model, adam(model), table(), CE)
    (finding,) = (f for f in found.findings if f.code == "UG705")
    assert "never seen a batch" in finding.message
    assert finding.evidence["untouched"] == ["1"]


def test_batch_norm_with_statistics_of_data_may_be_trained_in_eval_mode_from_the_start() -> None:
    model = chain(12, 32, 4, norm=True)
    model(table()[0])
    found = train(model.eval(), adam(model), table(), CE)
    assert "UG705" not in {f.code for f in found.findings}


def test_no_rate_is_advised_for_a_scale_that_explodes() -> None:
    model = chain(12, *[64] * 16, 4)
    for layer in model[::2]:  # type: ignore[attr-defined]
        nn.init.normal_(layer.weight)
    x, y = table()
    report = ug.check(model, (x[:64], y[:64]), steps=20, optimizer=sgd(model))
    assert [f.code for f in report.findings if f.severity == "error"] == ["UG302"]


def test_weights_before_a_zero_do_not_make_the_first_steps_too_small() -> None:
    """A residual network's branches that begin at zero: their other weights have no gradient at the first step."""
    model = ug.models.create("resnet_tiny", num_classes=10)
    report = ug.check(model, (torch.randn(8, 3, 32, 32), torch.randint(10, (8,))), steps=4)
    assert "UG502" not in {f.code for f in report.findings}
