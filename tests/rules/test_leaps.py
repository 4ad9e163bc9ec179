"""A rehearsal repeats one batch: where its loss leaps up, steps of an adaptive optimizer were too large (UG501)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unitgain as ug


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(x)).mean(1))


@pytest.mark.parametrize(
    ("lr", "sick"), [(1e-3, False), (3e-3, False), (0.1, True), (0.3, True)], ids=lambda value: str(value)
)
def test_a_leap_of_the_repeated_loss_ends_the_grant(lr: float, sick: bool) -> None:
    torch.manual_seed(0)
    x = torch.randint(30, (32, 12))
    report = ug.check(Encoder(), (x, x[:, 2] % 6), steps=20, optimizer=lambda p: torch.optim.AdamW(p, lr=lr))
    alarms = {f.code for f in report.findings if f.severity != "info"}
    assert bool(alarms & {"UG501", "UG504"}) is sick, report
    assert alarms <= {"UG501", "UG504"}
