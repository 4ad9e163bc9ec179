"""Planted defects: recurrent networks."""

from __future__ import annotations

import torch
from networks import CLASSES, VOCABULARY, Cell, Recurrent, Then, series, texts
from row import Case, fill, normal, sick, spoil, times
from torch import Tensor, nn


def classify(model: nn.Module, **options) -> Case:
    return Case(model, series(), **options)


class FirstOutput(Recurrent):
    """Reads the output at the first step, where every sequence has its start token."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, 0])


class BatchFirstForgotten(nn.Module):
    """An LSTM that takes (T, B, D) is given (B, T, D): it runs from example to example."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(VOCABULARY, 16), nn.LSTM(16, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(ids))[0][:, -1])


class Scaled(nn.Module):
    """Divides each series by its length, counted from a mask that is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        mask = (x[..., :1] > 1e3).float()
        return self.head((y * mask).sum(1) / mask.sum(1))


class Truncated(nn.Module):
    """Carries the first layer's output over as numbers, so that nothing before it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.GRU(8, 24, batch_first=True), nn.GRU(24, 24, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.first(x)[0]
        return self.head(self.second(x)[0][:, -1])


def shifted(mean: float = 0.0, std: float = 1.0) -> tuple[Tensor, Tensor]:
    x, target = series()
    return x * std + mean, target


def hole() -> tuple[Tensor, Tensor]:
    """One series begins with missing values."""
    x, target = series()
    x[11, :4] = float("nan")
    return x, target


ROWS = (
    sick("rnn-head-standard-normal", "UG101", lambda: classify(normal(Cell(), "head.weight", 1.0))),
    sick("rnn-lstm-head-weights-x60", "UG101", lambda: classify(times(Recurrent(), "head.weight", 60))),
    sick("rnn-lstm-first-output", "UG102", lambda: Case(FirstOutput(words=True), texts(first=0))),
    sick("rnn-gru-softmax", "UG103", lambda: classify(Then(Recurrent(nn.GRU), nn.Softmax(-1)))),
    sick("rnn-series-mean-minus-3", "UG201", lambda: Case(Recurrent(), shifted(mean=-3.0))),
    sick("rnn-series-std-0.001", "UG201", lambda: Case(Recurrent(nn.GRU), shifted(std=0.001))),
    sick("rnn-missing-values", "UG202", lambda: Case(Recurrent(), hole())),
    sick("rnn-hidden-standard-normal", "UG303", lambda: classify(normal(Cell(), "hidden.weight", 1.0))),
    sick("rnn-inward-x15", "UG303", lambda: classify(times(Cell(), "inward.weight", 15))),
    sick("rnn-nan-in-hidden-weights", "UG306", lambda: classify(spoil(Recurrent(nn.GRU), "rnn.weight_hh_l0"))),
    sick("rnn-divided-by-an-empty-mask", "UG306", lambda: classify(Scaled())),
    sick("rnn-first-layer-without-gradient", "UG403", lambda: classify(Truncated())),
    sick("rnn-adam-rate-0.2", "UG501", lambda: classify(
        Recurrent(), steps=12, optimizer=lambda p: torch.optim.Adam(p, 0.2)
    )),
    sick("rnn-adam-rate-1e-7", "UG502", lambda: classify(
        Recurrent(nn.GRU), steps=12, optimizer=lambda p: torch.optim.Adam(p, 1e-7)
    )),
    sick("rnn-lstm-batch-first-forgotten", "UG603", lambda: Case(BatchFirstForgotten(), texts())),
    sick("rnn-lstm-constant-weights", "UG606", lambda: classify(fill(Recurrent(), "rnn.weight*", 0.1))),
    sick("rnn-cell-hidden-constant", "UG606", lambda: classify(
        fill(fill(Cell(), "hidden.weight", 0.02), "inward.weight", 0.1)
    )),
)  # fmt: skip
