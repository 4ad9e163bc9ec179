"""fix() repairs what lies outside of the weights: the last function, the outputs' units, the optimizer's parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.remedies import AppliesLast, ScalesOutput, hold_parameters_, log_softmax_last_, scale_outputs_


def vectors(n: int = 128) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, 32, generator=g)
    return x, (x @ torch.randn(32, 10, generator=g)).argmax(1)


def mlp(*last: nn.Module, outputs: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, outputs), *last)


class Called(nn.Module):
    """The same with its last function called in forward."""

    def __init__(self, last: Any = None, outputs: int = 10) -> None:
        super().__init__()
        self.body, self.last = mlp(outputs=outputs), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return x if self.last is None else self.last(x)


def trained(model: nn.Module, batch: Any, loss: Any, optimizer: Any = None, steps: int = 150) -> float:
    optimizer = torch.optim.Adam(model.parameters(), 1e-2) if optimizer is None else optimizer
    for _ in range(steps):
        found = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    return float(found.detach())


# ---- log-probabilities ------------------------------------------------------------------------------------------

ENDS = {
    "scores": lambda: mlp(),
    "scores of a module": lambda: Called(),
    "softmax": lambda: mlp(nn.Softmax(dim=1)),
    "softmax that is called": lambda: Called(lambda t: t.softmax(1)),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_goes_into_nll_becomes_log_probabilities(name: str) -> None:
    model, batch = ENDS[name](), vectors()
    result = ug.fix(model, batch, F.nll_loss)
    assert "UG106" in result.fixed, str(result)
    with torch.no_grad():
        assert torch.allclose(model(batch[0]).exp().sum(1), torch.ones(128), atol=1e-5)
    assert 0 <= trained(model, batch, F.nll_loss) < 0.5


def test_a_divergence_of_scores_gets_log_probabilities() -> None:
    model, (x, y) = mlp(), vectors()
    targets = 0.9 * F.one_hot(y, 10).float() + 0.01
    result = ug.fix(model, (x, targets), lambda p, t: -(t * p).sum(1).mean())
    assert "UG111" in result.fixed, str(result)
    assert isinstance(model[-1], nn.LogSoftmax)


def test_a_bounded_last_function_is_not_made_a_log_softmax() -> None:
    with pytest.raises(InputError, match="ends with Tanh"):
        log_softmax_last_(mlp(nn.Tanh()), vectors()[0])


def test_targets_out_of_range_are_the_users_to_bring_into_it() -> None:
    model = mlp(outputs=1)
    x, y = vectors()
    before = copy.deepcopy(model.state_dict())
    result = ug.fix(model, (x, 255.0 * (y > 4)[:, None]), F.binary_cross_entropy_with_logits)
    assert not result.changed
    assert any("Divide the targets by 255" in line for line in result.advice)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


# ---- outputs and targets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", [False, True])
def test_a_last_function_that_cannot_reach_the_targets_is_dropped(called: bool) -> None:
    x, _ = vectors()
    y = 3 * x[:, :1] + 1
    model = Called(torch.tanh, 1) if called else mlp(nn.Tanh(), outputs=1)
    result = ug.fix(model, (x, y), F.mse_loss)
    assert "UG108" in result.fixed, str(result)
    assert trained(model, (x, y), F.mse_loss) < 0.5


def test_outputs_are_brought_to_targets_in_their_own_units() -> None:
    x, _ = vectors()
    y = 300 + 80 * torch.tanh(x[:, :1])
    model, untouched = mlp(outputs=1), mlp(outputs=1)
    result = ug.fix(model, (x, y), F.mse_loss)
    assert "UG109" in result.fixed, str(result)
    assert isinstance(model[-1], ScalesOutput)
    assert trained(model, (x, y), F.mse_loss) < 0.1 * trained(untouched, (x, y), F.mse_loss)


def test_functions_behind_a_model_that_is_no_sequential_can_be_taken_away_again() -> None:
    model, (x, _) = Called(), vectors()
    plain = model(x)
    hook = AppliesLast(model, ScalesOutput(1.0, 2.0))
    assert torch.equal(model(x), 2 * plain + 1)
    hook.remove()
    assert torch.equal(model(x), plain)
    with pytest.raises(InputError, match="std above 0"):
        scale_outputs_(model, 0.0, 0.0)


# ---- the optimizer's parameters ---------------------------------------------------------------------------------


def test_parameters_that_the_optimizer_does_not_hold_are_taken_into_it() -> None:
    model, batch = mlp(), vectors()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1, momentum=0.9)
    result = ug.fix(model, batch, optimizer=optimizer)
    assert "UG701" in result.fixed, str(result)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert not optimizer.state
    before = model[0].weight.detach().clone()
    trained(model, batch, F.cross_entropy, optimizer, steps=3)
    assert not torch.equal(before, model[0].weight)


def test_a_dry_run_leaves_the_optimizer_alone() -> None:
    model, batch = mlp(), vectors()
    optimizer = torch.optim.Adam(model[2].parameters(), lr=0.01)
    result = ug.fix(model, batch, optimizer=optimizer, dry_run=True)
    assert "UG701" in result.fixed
    assert len(optimizer.param_groups) == 1
    assert len(optimizer.param_groups[0]["params"]) == 2
    assert not optimizer.state


def test_each_parameter_goes_to_the_group_of_its_like() -> None:
    """Weight decay is for matrices and not for biases, and a schedule knows the groups by their number."""
    model = mlp()
    decays = {"params": [model[2].weight], "weight_decay": 0.1}
    optimizer = torch.optim.AdamW([decays, {"params": [model[2].bias], "weight_decay": 0.0}], lr=0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    report = hold_parameters_(model, optimizer)
    assert [change.name for change in report.changes] == ["0.weight", "0.bias"]
    ids = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert ids == [[id(model[2].weight), id(model[0].weight)], [id(model[2].bias), id(model[0].bias)]]
    trained(model, vectors(), F.cross_entropy, optimizer, steps=2)
    schedule.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.005}
    model[0].weight.requires_grad_(False)
    assert not hold_parameters_(
        model, torch.optim.SGD(model[2].parameters(), lr=1.0), only=["0.weight"]
    ).changes
    with pytest.raises(InputError, match="optimizers"):
        hold_parameters_(model, [])


def test_what_a_function_leaves_out_of_the_optimizer_is_advice() -> None:
    result = ug.fix(mlp(), vectors(), optimizer=lambda p: torch.optim.SGD([*p][2:], lr=0.1))
    assert not result.changed


def test_what_was_tried_in_vain_on_a_network_that_learns_is_not_advised_again() -> None:
    """A head somewhat too large: scaled down it trains more slowly, and the advice was to scale it down by hand."""
    g = torch.Generator().manual_seed(2)
    weights = torch.randn(32, 10, generator=torch.Generator().manual_seed(3))
    inputs = [torch.randn(64, 32, generator=g) for _ in range(60)]
    batches = [(x, (x @ weights).argmax(1)) for x in inputs]
    model = mlp()
    with torch.no_grad():
        model[2].weight.mul_(6)
    result = ug.fix(model, batches[0], optimizer=lambda p: torch.optim.SGD(p, 0.2), data=batches[1:])
    assert not result.changed
    assert "does not train better" in result.actions[0].outcome
    (line,) = [line for line in result.advice if line.startswith("UG101")]
    assert "was tried" in line
    assert "Multiply" not in line


# ---- other examples ---------------------------------------------------------------------------------------------


def test_a_change_that_helps_only_on_the_examples_that_chose_it_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fix raised the loss of longer trainings: the best of several tries on one set of examples looks too good."""
    from unitgain._fix import loop

    outcomes = iter(["better", "worse"])
    real = loop.compare

    def compare(before: Any, after: Any) -> Any:
        found = real(before, after)
        outcome = next(outcomes, "worse")
        sign = {"better": -1.0, "worse": 1.5}[outcome]
        return type(found)(outcome, 2.0, 2.0 + sign, 0.01, found.held, 2.0)

    monkeypatch.setattr(loop, "compare", compare)
    model = mlp()
    nn.init.normal_(model[2].weight)
    before = copy.deepcopy(model.state_dict())
    result = ug.fix(model, vectors())
    assert "does not train better" in result.actions[0].outcome
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
