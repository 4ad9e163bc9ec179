"""What a step of the caller's own runs is asked for its graph too: its batch axis, its order in time, its functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug

WAVES = torch.randn(24, 10, 3, generator=torch.Generator().manual_seed(0))
LAST = WAVES[:, 2, :1] * WAVES[:, 3, :1]
TEXT = torch.randint(0, 20, (12, 9), generator=torch.Generator().manual_seed(1))


class Reader(nn.Module):
    def __init__(self, **how: Any):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.LSTM(3, 16, **how), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Language(nn.Module):
    def __init__(self, both: bool):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(20, 16), nn.Linear(32 if both else 16, 20)
        self.rnn = nn.GRU(16, 16, batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0])


def alarms(model: nn.Module, batch: Any, step: Any) -> set[str]:
    return {f.code for f in ug.check(model, batch, step=step).findings if f.severity != "info"}


def fits(model: Any, batch: Any) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


def predicts(model: Any, text: Tensor) -> Tensor:
    return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


def test_the_batch_that_a_recurrent_network_takes_for_time() -> None:
    assert alarms(Reader(), (WAVES, LAST), fits) == {"UG603"}
    assert alarms(Reader(batch_first=True), (WAVES, LAST), fits) == set()


def test_a_network_inside_of_the_model_is_found() -> None:
    """As Lightning modules keep theirs: the model itself is never called."""
    outer = nn.Module()
    outer.net = Reader()
    assert alarms(outer, (WAVES, LAST), lambda model, batch: fits(model.net, batch)) == {"UG603"}


def test_a_language_model_that_reads_on() -> None:
    assert alarms(Language(True), TEXT, predicts) == {"UG802"}
    assert alarms(Language(False), TEXT, predicts) == set()


def test_layers_without_a_function_between() -> None:
    layers = [nn.Flatten(), nn.Linear(30, 32), nn.Linear(32, 1)]
    findings = ug.check(nn.Sequential(*layers), (WAVES, LAST), step=fits).findings
    assert "UG803" in {f.code for f in findings}


@pytest.mark.parametrize("times", [0, 2])
def test_several_calls_are_not_judged(times: int) -> None:
    def step(model: Any, batch: Any) -> Tensor:
        parts = (model.rnn, lambda x: model.head(x[0][:, -1])) if not times else (model, lambda x: x)
        return F.mse_loss(parts[1](parts[0](batch[0])), batch[1]) + (fits(model, batch) if times else 0)

    report = ug.check(Reader(), (WAVES, LAST), step=step)
    assert "runs the model in its own way" in str(report.record.facts.coupling.reason)
