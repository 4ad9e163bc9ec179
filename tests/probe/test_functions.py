"""Functions between modules, in steps after the first: what of them is watched, and where."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug


class Attention(nn.Module):
    """Calls one function that is a site; so does a part of a part of it, which is another site."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(8, 8)
        self.inner = nn.Sequential(Gate(), nn.Linear(8, 8))
        self.broken = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.broken:
            raise RuntimeError("broken")
        return self.inner(F.softmax(self.keys(x), dim=-1) + x)


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.part(x))


class Plain(nn.Module):
    """Calls none, and notes how many torch function modes are on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(8, 8)
        self.modes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.append(torch._C._len_torch_function_stack())
        return self.part(x)


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Plain(), Attention(), Plain())


def train(model: nn.Module, steps: int) -> ug.Probe:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ug.Probe(model, optimizer, every=1) as probe:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
    return probe


def test_functions_of_a_part_of_a_part_keep_their_names_in_later_steps(model) -> None:
    frame = train(model, 3).record.frame("activation")
    names = [frame.where(step=step)["site"].tolist() for step in range(3)]
    assert names[0] == names[1] == names[2]
    assert {"1:softmax", "1.inner.0:tanh"} <= set(names[0])


def test_no_function_mode_is_on_in_modules_that_call_none(model) -> None:
    train(model, 3)
    plain = model[0]
    assert isinstance(plain, Plain)
    assert plain.modes == [1, 0, 0]  # the first step is followed


def test_a_forward_that_raises_leaves_no_function_mode_behind(model) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ug.Probe(model, optimizer, every=1):
        for step in range(3):
            model[1].broken = step == 1
            if step == 1:
                with pytest.raises(RuntimeError, match="broken"):
                    model(torch.randn(4, 8))
            else:
                model(torch.randn(4, 8)).square().mean().backward()
                optimizer.step()
            assert torch._C._len_torch_function_stack() == 0
