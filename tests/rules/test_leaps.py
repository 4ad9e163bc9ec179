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


def test_the_rate_that_is_advised_does_not_depend_on_how_far_too_large_the_given_one_is() -> None:
    """It was read off a network that the rate had wrecked: 0.01 after 3, 0.41 after 0.0001."""
    data = ug.data.load_names().train.batches(64, torch.Generator().manual_seed(0))
    batch, *others = [next(data) for _ in range(21)]
    advised = {}
    for rate in (30.0, 3.0, 0.0001):
        model = ug.models.create("char_mlp_kaiming", generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        report = ug.check(model, batch, optimizer=optimizer, steps=20, data=others)
        found = next(f for f in report.findings if f.code in ("UG501", "UG502"))
        assert found.prescription is not None
        assert found.prescription.rate is not None
        advised[rate] = rate * found.prescription.rate
    assert max(advised.values()) < 1.3 * min(advised.values())


def test_momentum_lowers_the_rate_that_is_advised() -> None:
    """What the first step suggests lies ten times too high for momentum 0.9: a held-out network diverged at it."""
    data = ug.data.load_names().train.batches(64, torch.Generator().manual_seed(0))
    batch, *others = [next(data) for _ in range(21)]
    advised = {}
    for momentum in (0.0, 0.9):
        model = ug.models.create("char_mlp_kaiming", generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=momentum)
        report = ug.check(model, batch, optimizer=optimizer, steps=20, data=others)
        found = next(f for f in report.findings if f.code == "UG501")
        assert found.prescription is not None
        assert found.prescription.rate is not None
        advised[momentum] = found.prescription.rate
    assert advised[0.9] < 0.2 * advised[0.0]
