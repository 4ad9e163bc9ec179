"""Cards in notebooks: they say what the text says, are small, and no name of a module becomes markup."""

from __future__ import annotations

import pickle
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

import unitgain as ug
from unitgain._base import console
from unitgain.record import Record
from unitgain.report import FixReport, Report
from unitgain.rules import Diagnosis, Finding
from unitgain.train import LRFound

HOSTILE = "</div><script>alert(1)</script>\x1b[31m"
VOID = {"br", "hr", "img"}


class Balanced(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_report_is_a_small_card_without_script() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 5))
    with torch.no_grad():
        model[0].weight.normal_(0, 3)
    report = ug.check(model, (torch.randn(64, 20), torch.randint(0, 5, (64,))))
    text = report._repr_html_()
    assert Balanced(text).tags <= {"div", "b", "details", "summary", "span"}
    assert len(text) < 20_000
    for finding in report.findings:
        assert finding.code in text
    assert "UG303" in text
    assert "Do this first:" in text
    assert text.count("<details open>") == 1, "the first finding is open, the others unfold"
    Balanced(report.record._repr_html_())
    Balanced(report.findings[0]._repr_html_())


def test_no_name_becomes_markup() -> None:
    finding = Finding("UG303", "saturated", "error", HOSTILE, HOSTILE, cause=HOSTILE, consequences=(HOSTILE,))
    report = Report(Record(), Diagnosis((finding,), HOSTILE, "sick", HOSTILE))
    for text in (finding._repr_html_(), report._repr_html_(), FixReport(report, report)._repr_html_()):
        assert "script" not in Balanced(text).tags
        assert "\x1b" not in text


def test_what_fix_did_and_what_lr_find_found_are_cards() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 5))
    with torch.no_grad():
        model[2].weight.mul_(30)
    text = ug.fix(model, (torch.randn(64, 20), torch.randint(0, 5, (64,))))._repr_html_()
    Balanced(text)
    assert "kept: UG101" in text
    found = LRFound(
        np.ones(2), np.ones(2), np.ones(2), 0.01, 0.1, 0.1, "because", (0.01, 0.2), 0.4, (), "high"
    )
    Balanced(found._repr_html_())
    assert "Learning rate 0.1" in found._repr_html_()
    nothing = LRFound(np.ones(2), np.ones(2), np.ones(2), None, None, None, "the loss never falls")
    assert "No learning rate can be named" in nothing._repr_html_()


def test_a_figure_is_a_picture_where_pyplot_was_never_imported() -> None:
    """A notebook showed `<Figure size 1500x1140 with 3 Axes>`."""
    found = ug.plots.activation(torch.tanh)
    assert found._repr_png_()[:4] == b"\x89PNG"
    assert pickle.loads(pickle.dumps(found))._repr_png_()[:4] == b"\x89PNG"


def test_a_long_call_tells_below_a_notebooks_cell_what_it_does(monkeypatch) -> None:
    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    shown: list[str] = []
    display = SimpleNamespace(display=lambda *_, **__: Handle())
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("unitgain._base.telling._PATIENCE", 0.0)
    monkeypatch.setattr("unitgain._base.telling._EVERY", 0.0)
    model, batch = nn.Linear(4, 3), (torch.randn(16, 4), torch.arange(16) % 3)
    ug.check(model, batch, steps=2)
    assert shown == ["rehearsing step 1 of 2", "rehearsing step 2 of 2", ""]
    shown.clear()
    ug.whatif(model, batch, vary={"lr": [0.1, 1]}, steps=3, seeds=1)
    assert "setting 2 of 2, lr=1: training step 3 of 3" in shown
    assert shown[-1] == ""


def test_in_a_notebook_rich_shows_no_empty_box(monkeypatch) -> None:
    """Every line that was printed left an empty HTML box below the cell, and a live table escape sequences, since a
    kernel asks for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not console().is_jupyter
    assert not console().is_terminal


def test_results_in_a_notebook_are_short() -> None:
    audit = ug.normfree.audit(
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(8, 4), batches=()
    )
    for one in (audit, ug.check(nn.Linear(4, 3), torch.randn(8, 4)).diagnosis, ug.Probe(nn.Linear(4, 3))):
        assert len(repr(one)) < 250
        Balanced(one._repr_html_())
