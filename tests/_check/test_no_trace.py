"""check() leaves everything as it was, bit for bit: also when the model raises, also when it could not be copied.

The whole promise, over many models and functions, is tested in tests/_run.
"""

from __future__ import annotations

import copy
import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain import InputError, check
from unitgain.record import GradientFacts


class Explodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("backward exploded")


class Net(nn.Module):
    """Everything that a check could leave a trace in."""

    def __init__(self, fails: str = "", has_lock: bool = False):
        super().__init__()
        self.conv, self.bn, self.frozen_bn = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(3))
        self.fails = fails
        if has_lock:
            self.lock = threading.Lock()

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        random.random()
        np.random.rand()  # noqa: NPY002
        x = F.relu(self.frozen_bn(self.bn(self.conv(x))), inplace=True)
        if self.fails == "forward":
            raise RuntimeError("forward exploded")
        if self.fails == "backward":
            x = Explodes.apply(x)
        return self.head(self.drop(x).mean((2, 3)))


def prepared(fails: str = "", has_lock: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net(has_lock=has_lock)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(2):
        model(torch.randn(4, 2, 5, 5)).square().mean().backward()
        optimizer.step()
    model.head.bias.grad = None
    model.fails = fails
    model.frozen_bn.eval()
    model.conv.weight.requires_grad_(False)
    model.bn.register_forward_hook(lambda m, i, o: None)
    return model, optimizer


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "identities": {k: id(v) for k, v in (*model.named_parameters(), *model.named_buffers())},
        "gradients": {k: None if p.grad is None else p.grad.clone() for k, p in model.named_parameters()},
        "gradient identities": {k: id(p.grad) for k, p in model.named_parameters()},
        "trainable": {k: p.requires_grad for k, p in model.named_parameters()},
        "training": {k: m.training for k, m in model.named_modules()},
        "hooks": {
            (k, a): dict(getattr(m, a)) for k, m in model.named_modules() for a in vars(m) if "hooks" in a
        },
        "hooks of parameters": {
            k: [bool(p._backward_hooks), bool(p._post_accumulate_grad_hooks)] for k, p in model.named_parameters()
        },
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "hooks of optimizer": [
            dict(optimizer._optimizer_step_pre_hooks), dict(optimizer._optimizer_step_post_hooks)
        ],
        "torch": torch.get_rng_state(), "python": random.getstate(), "numpy": np.random.get_state(),  # noqa: NPY002
        "modes": [torch.is_grad_enabled(), torch._C._len_torch_function_stack()],
    }  # fmt: skip


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same(before: dict, after: dict) -> None:
    for name in before:
        assert same(before[name], after[name]), f"{name}: not as before"


BATCH = (torch.randn(8, 2, 5, 5), torch.randint(0, 3, (8,)))


@pytest.mark.parametrize("has_lock", [False, True], ids=["plain", "holds a lock"])
@pytest.mark.parametrize("fails", ["", "forward", "backward"])
@pytest.mark.parametrize("steps", [0, 2])
def test_everything_is_as_before(has_lock: bool, fails: str, steps: int) -> None:
    model, optimizer = prepared(fails, has_lock)
    batch = tuple(t.clone() for t in BATCH)
    before = snapshot(model, optimizer)
    if fails:
        with pytest.raises(InputError, match=f"{fails} exploded"):
            check(model, batch, steps=steps, optimizer=optimizer if steps else None)
    else:
        report = check(model, batch, steps=steps, optimizer=optimizer if steps else None)
        assert report.record.steps() == list(range(max(steps, 1)))
    assert_same(before, snapshot(model, optimizer))
    assert all(map(torch.equal, batch, BATCH))


def test_a_model_that_holds_a_tensor_of_a_graph_is_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    model.kept = model[0](torch.randn(2, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batch = torch.randn(16, 4), torch.randint(0, 3, (16,))
    before = snapshot(model, optimizer)
    report = check(model, batch)
    assert report.record.value("gradient", "0", "rms") > 0
    assert_same(before, snapshot(model, optimizer))


def test_a_batch_is_not_changed_by_a_model_that_works_in_place() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
    before = x.clone()
    check(model, (x, y), steps=2)
    assert torch.equal(x, before)


def test_no_gradient_is_left_in_the_batch_or_in_a_loss_with_parameters() -> None:
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, target):
            return F.cross_entropy(outputs * self.scale, target)

    x = torch.randn(8, 4, requires_grad=True)
    loss = Weighted()
    check(nn.Linear(4, 3), (x, torch.randint(0, 3, (8,))), loss=loss, steps=1)
    assert x.grad is None
    assert loss.scale.grad is None


def test_the_check_itself_is_reproducible() -> None:
    model, _ = prepared()
    first, second = check(model, BATCH), check(model, BATCH)
    assert first.record.facts.to_json() == second.record.facts.to_json()
    assert first.record.values("gradient") == second.record.values("gradient")


def test_a_model_in_eval_mode_is_checked_in_training_mode_and_comes_back_in_eval_mode() -> None:
    model, _ = prepared()
    model.eval()
    report = check(model, BATCH)
    assert not model.training
    assert report.record.site("activation", "bn").attributes["subtracts_mean"] == "channel"


def test_a_zero_head_is_tried_out_without_adding_to_what_was_measured() -> None:
    """Behind a zero-initialized head nothing gets a gradient at first; the trial that proves it harmless is not
    part of the record."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    for steps in (0, 2):
        report = check(model, (torch.randn(16, 4), torch.randint(0, 3, (16,))), steps=steps)
        record = report.record
        assert record.steps() == list(range(max(steps, 1)))
        assert record.value("activation", "0", "count", 0) == 16 * 8
        assert record.value("activation", "2", "absmax", 0) == 0
        assert record.value("gradient", "2", "count", 0) == 16 * 3
        assert set(record.facts.unblocked or ()) == {"0.weight", "0.bias"}
        assert record.facts.output.zero_head is True
        assert report.ok or steps, report.findings  # SGD with 0.01 is slow here, which is said


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_check_works_where_gradients_are_off(mode) -> None:
    model = nn.Linear(4, 3)
    with mode():
        report = check(model, (torch.randn(8, 4), torch.randint(0, 3, (8,))), steps=1)
        assert not torch.is_grad_enabled()
    assert report.record.facts.gradients == GradientFacts(reached=2, of=2)
