"""Every sick case is named by its rule, and what only looks like it gets no alarm from any rule of this kind."""

from __future__ import annotations

import random
import warnings
from collections import Counter

import cases
import pytest
import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain import diagnose
from unitgain.report import Report

RULES = sorted({row.rule for row in cases.ROWS})
# healthy in what is asked here, and rightly told otherwise: 10 tanh(x) at its random start
ALSO = {
    "clipped_logits_of_both_signs": {"UG101"},
}


def checked(row: cases.Row) -> Report:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what the sick do
        return ug.check(*row.build())


def alarms(report: Report) -> set[str]:
    return {f.code for f in report.findings if f.severity != "info"}


@pytest.mark.parametrize("row", [r for r in cases.ROWS if r.sick], ids=lambda row: row.name)
def test_a_sick_case_is_named_and_nothing_else_is(row: cases.Row) -> None:
    report = checked(row)
    found = {f.code for f in report.findings} if row.rule == "UG113" else alarms(report)
    assert row.rule in found
    assert not alarms(report) - {row.rule}, report


@pytest.mark.parametrize("row", [r for r in cases.ROWS if not r.sick], ids=lambda row: row.name)
def test_a_healthy_look_alike_gets_no_alarm(row: cases.Row) -> None:
    assert alarms(checked(row)) <= ALSO.get(row.name, set())


def test_each_rule_has_at_least_six_of_either_kind_and_half_of_them_held_out() -> None:
    for rule in RULES:
        for is_sick in (True, False):
            names = [r.name for r in cases.ROWS if (r.rule, r.part, r.sick) == (rule, "", is_sick)]
            assert len(names) >= 6
            assert len(names) // 2 - 1 <= len(cases.HELD_OUT.intersection(names)) <= len(names) // 2
    assert max(Counter(r.name for r in cases.ROWS).values()) == 1


# ---- asking --------------------------------------------------------------------------------------------------


def test_asking_the_loss_leaves_its_random_numbers_and_its_state_alone() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.seen = nn.Buffer(torch.zeros(())), 0

        def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            outputs.mul_(1 + 1e-3 * random.random() * torch.rand(()))  # in place, too
            return (outputs - target).square().mean()

    torch.manual_seed(0)
    random.seed(0)
    model, loss, x = cases.chain(12, 16, 1), Noisy(), cases.vectors()
    target = cases.values(x)
    kept, state, python = target.clone(), torch.get_rng_state(), random.getstate()
    assert ug.check(model, (x, target), loss).record.facts.comparison.asked.takes == "values"
    assert torch.equal(target, kept)
    assert float(loss.calls) == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python


def test_a_loss_that_raises_on_made_up_outputs_is_not_judged_and_no_error() -> None:
    class Once(nn.Module):
        def forward(self, outputs: Tensor, target: Tensor) -> Tensor:
            assert outputs.requires_grad, "only what the model gave"
            return (outputs - target).square().mean()

    x = cases.vectors()
    report = ug.check(cases.chain(12, 16, 1), (x, cases.values(x) * 1000), Once())
    assert "UG109" in report.diagnosis.abstained
    assert not alarms(report)


def test_targets_so_large_that_rounding_hides_the_outputs_make_no_constant_loss() -> None:
    x = cases.vectors()
    report = ug.check(cases.chain(12, 16, 1), (x, cases.values(x) * 1e10), cases.MSE)
    assert alarms(report) == {"UG109"}


def test_outputs_in_a_structure_are_asked_in_their_place() -> None:
    def loss(outputs: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        return cases.BCE_LOGITS(outputs[0], target) + 0.1 * outputs[1].square().mean()

    torch.manual_seed(0)
    x = cases.vectors()
    model = cases.Net(lambda net, x: (net.a(x).sigmoid(), net.b(x)), a=nn.Linear(12, 1), b=nn.Linear(12, 3))
    assert "UG105" in alarms(ug.check(model, (x, cases.bits(x)), loss))


def test_many_outputs_are_asked_in_part() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 50, (600, 40))
    model = cases.Net(lambda net, x: net.head(net.embed(x)).softmax(-1).transpose(1, 2), embed=nn.Embedding(50, 8),
                      head=nn.Linear(8, 50))  # fmt: skip
    report = ug.check(model, (x, (x + 1) % 50), cases.CE)
    assert report.record.facts.comparison.asked.takes == "scores"
    assert "UG103" in alarms(report)


# ---- labels of a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "expected"), [("sorted", ["UG113"]), ("shuffled", []), ("one class", [])])
def test_a_probe_reads_sorted_labels_off_the_gradient(order: str, expected: list[str]) -> None:
    torch.manual_seed(0)
    x = torch.randn(480, 12)
    y = cases.labels(x, 6)
    places = y.argsort() if order == "sorted" else torch.randperm(480)
    if order == "one class":
        y = torch.full_like(y, 2)
    model = cases.chain(12, 32, 6)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with ug.Probe(model, optimizer, every=2) as probe:
        for part in places.split(16):
            cases.CE(model(x[part]), y[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert [f.code for f in diagnose(probe.record, select=["UG113"]).findings] == expected
    labels = probe.record.facts.labels
    assert labels.batches == 15
    assert labels.of_one_class == {"shuffled": 0, "one class": 15}.get(order, labels.of_one_class)


def test_a_regression_has_no_labels_for_a_probe() -> None:
    torch.manual_seed(0)
    x = cases.vectors(64)
    y, model = cases.values(x, 3), cases.chain(12, 32, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with ug.Probe(model, optimizer, every=1) as probe:
        for _ in range(6):
            cases.MSE(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert probe.record.facts.labels.batches is None
    assert "UG113" in diagnose(probe.record).abstained
