"""Snapshot.restore puts a model back exactly."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from unitgain.remedies import Snapshot


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)
        self.tied = nn.Linear(4, 6, bias=False)
        self.tied.weight = self.a.weight
        self.shift = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.norm(self.a(x)) + self.tied(x)) + self.shift


def test_values_modules_attributes_and_hooks_come_back() -> None:
    torch.manual_seed(0)
    model, x = Net(), torch.randn(8, 4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parameters = [id(p) for p in model.parameters()]
    kept = Snapshot(model)

    model(x)  # moves the running statistics
    with torch.no_grad():
        model.a.weight.mul_(3)
    model.b.bias = None
    model.norm = nn.Identity()  # type: ignore[assignment]
    model.shift = 2.0
    model.a.register_forward_hook(lambda *_: None)
    model.b.weight.requires_grad_(False)
    kept.restore()

    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert [id(p) for p in model.parameters()] == parameters, "an optimizer holds these very tensors"
    assert model.tied.weight is model.a.weight
    assert model.shift == 0.0
    assert not model.a._forward_hooks
    assert model.b.weight.requires_grad


def test_a_parametrization_is_taken_off_again() -> None:
    class Double(nn.Module):
        def forward(self, w: torch.Tensor) -> torch.Tensor:
            return 2 * w

    model = nn.Sequential(nn.Linear(3, 3))
    kind, kept = type(model[0]), Snapshot(model)
    parametrize.register_parametrization(model[0], "weight", Double())
    kept.restore()
    assert type(model[0]) is kind
    assert list(model.state_dict()) == ["0.weight", "0.bias"]


def test_it_can_be_restored_twice() -> None:
    model = nn.Linear(2, 2)
    kept, before = Snapshot(model), model.weight.detach().clone()
    for _ in range(2):
        model.bias = None
        nn.init.zeros_(model.weight)
        kept.restore()
        assert torch.equal(model.weight, before)
        assert model.bias is not None
