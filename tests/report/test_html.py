"""The page: safe whatever a module is called, and it works in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections import OrderedDict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain.record import Record
from unitgain.report import Report
from unitgain.rules import diagnose

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
page = [pytest.mark.page, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


class Elements(HTMLParser):
    """Counts tags and collects scripts and attributes, as a browser's parser would find them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.attributes, self.root, self._script = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.root = self.root or attrs
        self.attributes += attrs
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._script = self._script and tag != "script"

    def handle_data(self, data):
        if self._script:
            self.scripts[-1] += data


def test_hostile_names_make_no_element_and_end_no_script(make):
    text = Report(make.hostile(), make.hostile_diagnosis()).to_html()
    elements = Elements(text)
    assert elements.tags.count("script") == 4  # early, data, plotly, page
    assert "alert(1)" not in "".join(elements.scripts[i] for i in (0, 2, 3))
    names = [layer["name"] for layer in json.loads(elements.scripts[1])["layers"]]
    assert make.HOSTILE in names
    assert "</script><!--" in names
    assert "{{x}}" in names  # a template mark in a name is a name
    assert not [name for name, _ in elements.attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "name", ["input", "output", "loss", "mean", "a/b", 'it\'s "q"', "<b>x</b>", "[/]", "$x^$"]
)
def test_a_report_in_every_form_of_a_model_with_a_module_of_any_name(name: str, tmp_path: Path) -> None:
    model = nn.Sequential(
        OrderedDict([("first", nn.Linear(4, 8)), (name, nn.ReLU()), ("head", nn.Linear(8, 3))])
    )
    report = ug.check(model, (torch.randn(32, 4), torch.arange(32) % 3), steps=2)
    for suffix in (".html", ".json", ".txt"):
        report.save(tmp_path / f"report{suffix}")
    layers = json.loads(Elements(report.to_html()).scripts[1])["layers"]
    assert [layer["name"] for layer in layers[1:]] == ["first", name, "head"]
    with Path(os.devnull).open("wb") as nowhere:
        for plot in (ug.plots.stats_over_depth, ug.plots.color_dim, ug.plots.histograms):
            plot(report.record).savefig(nowhere)


def test_an_input_and_a_module_of_one_name_in_a_record_of_an_earlier_version_are_two_layers() -> None:
    record = Record()
    sites = [record.add_site("input", "input", shape=(8, 4)), record.add_site("activation", "input", shape=(8, 5)),
             record.add_site("gradient", "input", shape=(8, 5))]  # fmt: skip
    record.add_scalars(0, {site.id: {"std": std, "rms": std} for site, std in zip(sites, (1.0, 2.0, 3.0))})
    counts = np.arange(48, dtype=np.uint32)
    record.add_histograms([(0, site.id, "log2", -24.0, 24.0, counts) for site in sites[1:]])
    report = Report(record, diagnose(record))
    data = json.loads(Elements(report.to_html()).scripts[1])
    assert data["depth"][0]["std"] == [1.0, 2.0]
    assert data["depth"][0]["gradient"] == [None, 3.0]
    assert all(row[0] is None for row in data["histograms"][0]["activation"]["share"])


def test_the_page_asks_the_network_for_nothing(make):
    elements = Elements(Report(make.tanh_mlp(1), make.sick()).to_html())
    urls = [v for k, v in elements.attributes if k in ("src", "srcset", "href")]
    assert all(url.startswith("#") or url == "data:," for url in urls)
    policy = next(v for k, v in elements.attributes if k == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_findings_come_before_charts_and_link_to_their_layer(make):
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    assert text.index('id="findings"') < text.index('id="charts"') < text.index('id="layers"')
    assert re.search(r'<a class="site" href="#layer-3" data-layer="3"[^>]*>layers\.1</a>', text)
    assert '<tr id="layer-3" class="error">' in text


def test_the_page_of_a_large_model_stays_small(make):
    import plotly.offline

    report = Report(make.resnet(300, steps=3), make.healthy())
    assert len(report.to_html()) - len(plotly.offline.get_plotlyjs()) < 1_000_000


# ---- in a browser ----------------------------------------------------------------------------------------

PROBE = """
<script>
const html = document.documentElement;
addEventListener("securitypolicyviolation", event => { html.dataset.blocked = event.violatedDirective; });
(function wait() {
  if (html.dataset.ready !== "true") return setTimeout(wait, 20);
  html.dataset.milliseconds = Math.round(performance.now());
  const shown = [...document.querySelectorAll("figure:not([hidden])")];
  const out = { charts: shown.map(f => [f.dataset.chart, f.querySelectorAll("svg.main-svg").length]) };
  const link = document.querySelector(".finding a[data-layer]");
  if (link) {
    link.click();
    out.selected = document.getElementById("selected-name").textContent;
    out.row = document.querySelector("tr.selected")?.id;
    const marked = f => f.querySelector(".plot").layout.shapes?.some(s => s.xref === "x");
    out.marks = shown.filter(marked).length;
  }
  const filter = document.getElementById("filter");
  filter.value = "zzz"; filter.dispatchEvent(new Event("input"));
  out.none = document.querySelectorAll("#layers tbody tr:not([hidden])").length;
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  document.querySelectorAll("#layers thead th")[5].querySelector("button").click();
  const stds = [...document.querySelectorAll("#layers tbody tr")].map(r => r.cells[5].dataset.v);
  out.sorted = stds.filter(v => v !== "").map(Number);
  const step = document.getElementById("step");
  step.value = step.max; step.dispatchEvent(new Event("input"));
  const before = html.dataset.theme;
  document.getElementById("theme").click();
  out.themes = [before, html.dataset.theme];
  html.dataset.result = JSON.stringify(out);
})();
</script></body>"""


def opened(report, folder):
    """What the page says of itself after it was drawn and used: its result, errors and console lines."""
    file = folder / "page.html"
    file.write_text(report.to_html().replace("</body>", PROBE), encoding="utf-8")
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=30000",
        "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    root = dict(Elements(done.stdout[:10_000]).root)
    assert "data-errors" not in root, root["data-errors"]
    assert "data-blocked" not in root, root["data-blocked"]
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(root["data-result"]), done.stdout, root


class TestInChromium:
    pytestmark = page

    def test_charts_are_drawn_and_a_finding_marks_its_layer(self, make, tmp_path):
        result, _, _ = opened(Report(make.tanh_mlp(5, steps=4), make.sick()), tmp_path)
        drawn = dict(result["charts"])
        assert " ".join(sorted(drawn)) == (
            "distribution fractions health metrics ratios saturation scale time updates"
        )
        assert all(count > 0 for count in drawn.values())
        assert (result["selected"], result["row"], result["marks"]) == ("layers.1", "layer-3", 5)
        assert result["none"] == 0
        assert result["sorted"] == sorted(result["sorted"])
        assert set(result["themes"]) == {"light", "dark"}

    def test_a_hostile_name_is_text(self, make, tmp_path):
        result, dom, _ = opened(Report(make.hostile(), make.hostile_diagnosis()), tmp_path)
        assert result["selected"] == make.HOSTILE
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
        assert "<script>alert(1)" not in dom

    def test_300_layers_are_drawn_quickly(self, make, large, tmp_path):
        report = Report(large, make.healthy())
        started = time.monotonic()
        result, _, root = opened(report, tmp_path)
        assert len(result["charts"]) >= 5
        assert result["none"] == 0
        assert float(root["data-milliseconds"]) < 20_000  # virtual time; the bound below is the real one
        assert time.monotonic() - started < 60  # 3 s on two quiet cores, most of it the browser's own start

    def test_an_empty_record_is_a_page_without_charts(self, make, tmp_path):
        from unitgain.record import Record

        result, _, _ = opened(Report(Record(), make.healthy()), tmp_path)
        assert result["charts"] == []
