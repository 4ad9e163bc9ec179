"""A rate is no cure where the gradient fades or explodes over depth."""

from __future__ import annotations

import torch
from torch import nn

import unitgain as ug


def test_no_rate_is_advised_to_a_deep_network_of_sigmoids() -> None:
    """It was told to raise its learning rate from 0.01 to 69, beside the error that was the cause."""
    model = nn.Sequential(
        *(m for _ in range(10) for m in (nn.Linear(32, 32), nn.Sigmoid())), nn.Linear(32, 10)
    )
    report = ug.check(model, (torch.randn(64, 32), torch.randint(10, (64,))), steps=6)
    first, *others = report.findings
    assert (first.code, first.severity) == ("UG401", "error")
    assert not [f.code for f in others if f.code in ("UG502", "UG503")]
    assert {"UG502"} <= {line[:5] for line in first.consequences}
