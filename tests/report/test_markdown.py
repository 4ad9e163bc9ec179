"""Markdown reports: all that is needed to act on, and nothing that a module's name could turn into markup."""

from __future__ import annotations

import json

import torch
from torch import nn

import unitgain as ug
from unitgain.rules import CATALOGUE, as_data


def sick() -> ug.Report:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 10))
    nn.init.normal_(model[2].weight, std=3.0)
    batch = torch.randn(64, 8), torch.arange(64) % 10
    return ug.check(model, batch, optimizer=lambda p: torch.optim.SGD(p, 0.1), prove=True)


def test_a_report_names_what_was_measured_tried_and_ruled_out() -> None:
    report = sick()
    text = report.to_markdown()
    assert text.startswith("# unitgain: sick")
    assert "**Do this first:**" in text
    assert "UG101 confident-at-init at `2`" in text
    assert "## Ruled out" in text
    assert "UG202 input-not-finite" in text.split("## Ruled out")[1]
    assert "UG101" not in text.split("## Ruled out")[1].split("##")[0]
    assert "Tried:" in text


def test_names_of_modules_are_no_markup(tmp_path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<b>`#[x](y)", nn.Linear(8, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 30 * next(iter(self.children()))(x)

    torch.manual_seed(0)
    report = ug.check(Net(), (torch.randn(64, 8), torch.arange(64) % 10))
    text = report.to_markdown()
    assert "<b>" not in text.replace("`<b>'#[x](y)`", "").replace("\\<b\\>", "")
    path = tmp_path / "report.md"
    report.save(str(path))
    assert path.read_text(encoding="utf-8") == text


def test_rules_are_data() -> None:
    rows = json.loads(json.dumps(as_data()))
    assert [row["code"] for row in rows] == list(CATALOGUE)
    assert all(
        {"seen", "matters", "action", "thresholds", "examples", "remedies"} <= row.keys() for row in rows
    )
    assert ug.rules.as_data() == as_data()
