"""A check of a compiled model judges what it judges of the same model as it is written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug


class LastStep(nn.Module):
    """Reads the state behind the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32, padding_idx=0), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, -1])


class Copies(nn.Module):
    """A language model that is asked for the token which it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = (
            nn.Embedding(40, 32),
            nn.GRU(32, 32, batch_first=True),
            nn.Linear(32, 40),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0]).flatten(0, 1)


class AlwaysDrops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(F.relu(self.body(x)), 0.5))


class CentersOverTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(F.relu(x - x.mean(0)))


def padded() -> tuple[Tensor, Tensor]:
    lengths = torch.randint(5, 20, (64,))
    text = torch.where(torch.arange(20) < lengths[:, None], torch.randint(1, 40, (64, 20)), 0)
    return text, torch.randint(3, (64,))


def repeated() -> tuple[Tensor, Tensor]:
    text = torch.randint(40, (32, 16))
    return text, text.flatten()


def vectors() -> tuple[Tensor, Tensor]:
    return torch.randn(64, 20), torch.randint(3, (64,))


def as_it_is(model: nn.Module) -> nn.Module:
    return model


def whole(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def a_part(model: nn.Module) -> nn.Module:
    model.head.compile(backend="eager")  # type: ignore[operator, union-attr]
    return model


@pytest.mark.parametrize("compiled", [as_it_is, whole, in_place, a_part])
@pytest.mark.parametrize(
    ("code", "make", "data"),
    [
        ("UG805", LastStep, padded), ("UG116", Copies, repeated), ("UG706", AlwaysDrops, vectors),
        ("UG603", CentersOverTheBatch, vectors),
    ],
)  # fmt: skip
def test_what_ails_a_model_is_found_however_it_is_compiled(code, make, data, compiled) -> None:
    """Some measurements kept away from models compiled in place, and did not say so."""
    torch.manual_seed(0)
    model, batch = make(), data()
    report = ug.check(compiled(model), batch, F.cross_entropy, select=[code])
    assert [f.code for f in report.findings] == [code]
