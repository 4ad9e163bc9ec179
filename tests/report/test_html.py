"""The page: safe whatever a module is called, and it works in a browser."""

from __future__ import annotations

import json
import os
import re
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Elements, in_browser, use
from torch import nn

import unitgain as ug
from unitgain.record import Record
from unitgain.report import Report
from unitgain.report.html_blocks import LANES, blocks_of, flow_of
from unitgain.report.html_code import code_of
from unitgain.report.layers import layers_of
from unitgain.rules import Diagnosis, Finding, Prescription, diagnose


def test_hostile_names_make_no_element_and_end_no_script(make):
    text = Report(make.hostile(), make.hostile_diagnosis()).to_html()
    elements = Elements(text)
    assert elements.tags.count("script") == 3  # early, data, page
    assert "alert(1)" not in "".join(elements.scripts[i] for i in (0, 2))
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
    assert data["magnitudes"][0]["activation"]["rows"][0] == ""
    assert data["magnitudes"][0]["activation"]["rows"][1]


def test_the_page_asks_the_network_for_nothing(make):
    elements = Elements(Report(make.tanh_mlp(1), make.sick()).to_html())
    urls = [v for k, v in elements.attributes if k in ("src", "srcset", "href")]
    assert all(url.startswith("#") or url == "data:," for url in urls)
    policy = next(v for k, v in elements.attributes if k == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_findings_come_before_charts_and_link_to_their_layer(make):
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    assert text.index('id="findings"') < text.index('id="network"') < text.index('id="charts"')
    assert re.search(r'<a class="site" href="#layer-3" data-layer="3"[^>]*>layers\.1 · Tanh</a>', text)
    assert '<tr id="layer-3" class=sick>' in text


@pytest.mark.parametrize(("sites", "most"), [(10, 120_000), (300, 500_000), (1000, 1_500_000)])
def test_the_page_stays_small(make, sites, most):
    """It had 4.9 MB of a charting library before the first number."""
    assert len(Report(make.resnet(sites, steps=3), make.healthy()).to_html().encode()) < most


# ---- what a reader sees ------------------------------------------------------------------------------------


def test_a_healthy_network_has_no_colour(torchvision_operators) -> None:
    """ConvNeXt was called healthy above thirty dark red cells."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("convnext_atto", num_classes=10)
    report = ug.check(model, (torch.randn(4, 3, 64, 64), torch.arange(4)))
    assert report.ok
    text = report.to_html()
    data = json.loads(Elements(text).scripts[1])
    assert not [layer for layer in data["layers"] if "level" in layer]
    body = text[text.index("<main>") : text.index("</main>")]
    assert not re.findall(r'class="?[^">]*\b(?:sick|watch|error|warning)\b', body)


def test_only_what_a_finding_names_is_coloured_and_in_its_column(make) -> None:
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    data = json.loads(Elements(text).scripts[1])
    named = {layer["name"]: layer["columns"] for layer in data["layers"] if "level" in layer}
    assert named == {f"layers.{i}": {"saturated": "sick"} for i in range(1, 10, 2)}


def test_a_layer_that_is_named_by_a_number_is_called_by_its_type_too(make) -> None:
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    assert ">layers.1 · Tanh</a>" in text
    names = [layer["title"] for layer in json.loads(Elements(text).scripts[1])["layers"]]
    assert names[:2] == ["input", "layers.0 · Linear"]
    assert names[-1] == "head"


def test_what_is_said_first_is_the_verdict_and_the_action_with_its_code(make) -> None:
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    opening = text[text.index('<div class="verdict') : text.index("<main>")]
    assert "it starts confidently wrong" in opening
    assert "Multiply the last layer" in opening
    assert "only=[&quot;UG101&quot;]" in opening
    assert 'href="#finding-1"' in opening


def test_a_finding_leads_to_its_rule_and_to_the_layers_that_it_names(make) -> None:
    text = Report(make.tanh_mlp(), make.sick()).to_html()
    for code in ("UG101", "UG303", "UG601"):
        assert f'href="#rule-{code}"' in text
        assert f'<details id="rule-{code}"' in text
    finding = text[text.index('id="finding-2"') : text.index('id="finding-3"')]
    assert re.findall(r'data-layer="(\d+)"', finding) == ["3", "5", "7", "9", "11"]


def test_warnings_alone_are_no_red_page(make) -> None:
    finding = Finding("UG303", "saturated", "warning", "layers.1", "20% saturated")
    report = Report(make.tanh_mlp(), Diagnosis((finding,), "sick: 1 warning", "sick", ""))
    assert '<div class="verdict watch">' in report.to_html()


IN_GROUPS = "for group in optimizer.param_groups:\n    "
CODES = [
    (Prescription(rate=0.1), IN_GROUPS + 'group["lr"] *= 0.1'),
    (Prescription(options={"weight_decay": 0.01}), IN_GROUPS + "group['weight_decay'] = 0.01"),
    (
        Prescription(scale={"head.weight": 0.25}),
        "import torch\nwith torch.no_grad():\n    model.get_parameter('head.weight').mul_(0.25)",
    ),
]


@pytest.mark.parametrize(("prescription", "code"), CODES)
def test_code_to_copy_says_what_the_prescription_says(prescription: Prescription, code: str) -> None:
    assert code_of(Finding("UG501", "x", "error", None, "", prescription=prescription)) == code


def test_code_to_copy_of_many_parameters_runs_and_no_name_is_more_than_a_name() -> None:
    model = nn.ParameterDict({f"p{i}": torch.ones(1) for i in range(6)})
    code = code_of(
        Finding(
            "UG501", "x", "error", None, "", prescription=Prescription(shift={f"p{i}": i for i in range(6)})
        )
    )
    exec(code, {"model": model})
    assert [p.item() for p in model.values()] == [1, 2, 3, 4, 5, 6]
    hostile = "a'); import os; ('"
    code = code_of(Finding("UG501", "x", "error", None, "", prescription=Prescription(scale={hostile: 2})))
    assert f"get_parameter({hostile!r})" in code


# ---- the network -------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, shortcut: bool):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)
        self.shortcut = nn.Linear(8, 8) if shortcut else nn.Identity()

    def forward(self, x):
        return self.last(self.act(self.first(x))) + self.shortcut(x)


def test_residual_sums_are_drawn_where_they_are() -> None:
    model = nn.Sequential(
        OrderedDict(stem=nn.Linear(8, 8), a=Residual(False), b=Residual(True), head=nn.Linear(8, 3))
    )
    report = ug.check(model, (torch.randn(32, 8), torch.arange(32) % 3))
    layers = layers_of(report.record)
    flow = {layer.name: cell for layer, cell in zip(layers, flow_of(layers))}
    assert flow["a.first"].through
    assert [name for name, cell in flow.items() if cell.joins] == ["a", "b"]
    assert flow["b.shortcut"].dot > 0
    assert flow["a.last"].dot == 0
    titles = [block.title for block in blocks_of(layers)]
    assert "a" in titles
    assert "b" in titles
    text = report.to_html()
    assert text.count("1 residual sum") == 4  # each block's row, and its place in the overview


def test_more_skips_than_lanes_leave_the_longest_out() -> None:
    record = Record()
    for i in range(12):
        record.add_site("activation", f"l{i}", position=i, module="Linear", shape=(1,),
                        attributes={"sources": [f"l{k}" for k in range(i)]})  # fmt: skip
    cells = flow_of(layers_of(record))
    assert max(lane for cell in cells for lane in cell.through) == LANES


# ---- in a browser ----------------------------------------------------------------------------------------

TRY_EVERYTHING = """
  const shown = $$("figure:not([hidden])");
  out.charts = Object.fromEntries(shown.map(f => [f.dataset.chart, f.querySelectorAll("svg").length]));
  const link = document.querySelector(".finding a[data-layer]");
  const chosen = () => $$(".chosen[visibility=visible]").length;
  if (link) {
    link.click();
    out.selected = document.getElementById("selected-name").textContent;
    out.row = document.querySelector("tr.selected")?.id;
    out.marks = chosen();
  }
  const filter = document.getElementById("filter");
  filter.value = "zzz"; filter.dispatchEvent(new Event("input"));
  out.none = $$("#network tbody tr[id]:not([hidden])").length;
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  const head = $$("#network thead th").find(th => th.textContent === "Std");
  if (head) {
    head.querySelector("button").click();
    const std = row => data.depth[data.now].std[Number(row.id.slice(6)) - 1];
    out.sorted = $$("#network tbody:not([hidden]) tr[id]").map(std).filter(v => v !== null);
    document.getElementById("order").click();
    out.order = $$("#network tbody tr[id]").map(r => Number(r.id.slice(6)));
  }
  const step = document.getElementById("step");
  step.value = step.max; step.dispatchEvent(new Event("input"));
  const before = document.documentElement.dataset.theme;
  document.getElementById("theme").click();
  out.themes = [before, document.documentElement.dataset.theme];
  out.sideways = document.documentElement.scrollWidth > innerWidth;
  out.width = innerWidth;
"""


def opened(report, folder, script=TRY_EVERYTHING, width=1400):
    return use(report.to_html(), folder, script, width)


class TestInChromium:
    pytestmark = in_browser

    def test_charts_are_drawn_and_a_finding_marks_its_layer(self, make, tmp_path):
        result, _, _ = opened(Report(make.tanh_mlp(5, steps=4), make.sick()), tmp_path)
        drawn = result["charts"]
        assert " ".join(sorted(drawn)) == "fractions magnitudes metrics ratios saturation scale time updates"
        assert all(count > 0 for count in drawn.values())
        assert (result["selected"], result["row"], result["marks"]) == ("3: layers.1 · Tanh", "layer-3", 4)
        assert result["none"] == 0
        assert result["sorted"] == sorted(result["sorted"])
        assert result["order"] == list(range(1, 13))
        assert set(result["themes"]) == {"light", "dark"}

    @pytest.mark.parametrize("width", [390, 1400])
    def test_a_hostile_name_is_text_and_makes_no_page_wider(self, make, tmp_path, width):
        result, dom, _ = opened(Report(make.hostile(), make.hostile_diagnosis()), tmp_path, width=width)
        assert result["selected"] == f"2: {make.HOSTILE}"
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
        assert "<script>alert(1)" not in dom
        assert not result["sideways"]
        assert result["width"] == width

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "input", 'it\'s "q"', "x" * 300])
    def test_a_layer_of_any_name_is_drawn_marked_and_found(self, tmp_path, name):
        model = nn.Sequential(
            OrderedDict([("a", nn.Linear(4, 8)), (name, nn.Tanh()), ("head", nn.Linear(8, 3))])
        )
        report = ug.check(model, (torch.randn(32, 4), torch.arange(32) % 3))
        script = (
            TRY_EVERYTHING
            + """
          const at = layers.findIndex(l => l.module === "Tanh") + 1;
          document.querySelector(`a[data-layer="${at}"]`).click();
          out.name = document.getElementById("selected-name").textContent;
          out.map = document.getElementById("map").value;"""
        )
        result, _, _ = opened(report, tmp_path, script, width=390)
        assert result["name"].startswith("3: " + name[:20])
        assert result["map"] == name
        assert not result["sideways"]

    def test_300_layers_are_drawn_quickly(self, make, large, tmp_path):
        report = Report(large, make.healthy())
        started = time.monotonic()
        result, _, root = opened(report, tmp_path)
        assert len(result["charts"]) >= 4
        assert result["none"] == 0
        assert float(root["data-first"]) < 20_000  # virtual time; the bound below is the real one
        assert time.monotonic() - started < 60  # 2 s on two quiet cores, most of it the browser's own start

    def test_an_empty_record_is_a_page_without_charts(self, make, tmp_path):
        result, _, _ = opened(Report(Record(), make.healthy()), tmp_path)
        assert result["charts"] == {}

    def test_blocks_open_and_close_by_a_button_and_their_overview(self, make, large, tmp_path):
        script = """
          const body = document.querySelector("tbody.block"), button = body.querySelector("button");
          const seen = () => $$("#network tbody tr[id]").filter(r => r.offsetParent).length;
          out.shut = [seen(), button.getAttribute("aria-expanded")];
          button.click();
          out.open = [seen(), button.getAttribute("aria-expanded")];
          document.getElementById("all").click();
          out.all = seen();
          document.getElementById("all").click();
          document.querySelectorAll(".flow a")[3].click();
          out.focus = document.activeElement.closest("tbody").id;"""
        result, _, _ = opened(Report(large, make.healthy()), tmp_path, script)
        assert result == {"shut": [1, "false"], "open": [10, "true"], "all": 300, "focus": "block-4"}

    def test_the_keyboard_reaches_layers_zooms_and_marks(self, make, tmp_path):
        script = """
          const chart = () => document.querySelector('[data-chart="scale"] svg');
          const all = $$("a, button, input, select, summary, pre, svg[role=img], .scroll");
          out.reachable = all.filter(n => n.offsetParent || n.ownerSVGElement === null).every(n => n.tabIndex >= 0);
          chart().focus();
          press(chart(), "Home"); press(chart(), "ArrowRight"); press(chart(), "ArrowRight");
          out.tip = document.querySelector(".tip").textContent;
          press(chart(), "Enter");
          out.selected = document.getElementById("selected-name").textContent;
          press(chart(), "+");
          out.zoomed = [...zooms.keys()];
          out.focused = document.activeElement === chart();
          press(chart(), "0");
          out.all = [...zooms.keys()];
          press(document.body, "Escape");
          out.cleared = document.getElementById("selected").hidden;"""
        result, _, _ = opened(Report(make.tanh_mlp(5), make.sick()), tmp_path, script)
        assert result["reachable"]
        assert result["tip"].startswith("3: layers.1 · Tanh")
        assert result["selected"] == "3: layers.1 · Tanh"
        assert (result["zoomed"], result["all"]) == (["depth"], [])
        assert result["focused"]
        assert result["cleared"]

    def test_a_drag_zooms_all_charts_over_depth_and_a_double_click_ends_it(self, make, tmp_path):
        script = """
          const chart = () => document.querySelector('[data-chart="scale"] svg');
          const box = chart().getBoundingClientRect();
          const at = (kind, share) => chart().dispatchEvent(new PointerEvent(kind, {
            clientX: box.left + share * box.width, clientY: box.top + 50, button: 0, bubbles: true }));
          at("pointerdown", 0.4); at("pointermove", 0.6); at("pointerup", 0.6);
          out.zoom = zooms.get("depth");
          const over = [...placed.values()].filter(c => c.spec.axis === "depth" && c.root.isConnected);
          out.same = over.every(c => c.from === out.zoom[0]);
          chart().dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
          out.after = zooms.size;
          at("pointerdown", 0.5); at("pointerup", 0.5);
          out.clicked = document.getElementById("selected").hidden;"""
        result, _, _ = opened(Report(make.tanh_mlp(5), make.sick()), tmp_path, script)
        low, high = result["zoom"]
        assert 4 < low < high < 9
        assert result["same"]
        assert result["after"] == 0
        assert result["clicked"] is False

    def test_code_is_copied_and_a_rule_s_code_opens_its_text(self, make, tmp_path):
        script = """
          out.commands = [];
          document.execCommand = name => { out.commands.push([name, String(getSelection())]); return true; };
          Object.defineProperty(navigator, "clipboard", { value: undefined });
          document.querySelector(".verdict .copy").click();
          const link = document.querySelector('.finding a[href="#rule-UG303"]');
          location.hash = link.hash;
          openTarget();
          out.open = document.getElementById("rule-UG303").open;"""
        result, _, _ = opened(Report(make.tanh_mlp(5), make.sick()), tmp_path, script)
        assert result["commands"] == [
            ["copy", 'repair = ug.fix(model, batch, loss=loss, only=["UG101"])\nprint(repair)']
        ]
        assert result["open"]


def test_layers_that_a_finding_links_to_stand_once_in_it():
    record = Record()
    for place, name in enumerate(("0", "2")):
        record.add_site("activation", name, position=place, module="Linear")
    finding = Finding(
        "UG301", "vanishing-activations", "error", "0", "m", evidence={"layers": ["0", "2"], "fold": 9.0}
    )
    page = Report(record, Diagnosis((finding,), "sick: 1 error", "sick", "")).to_html()
    evidence = page.partition('<ul class="evidence">')[2].partition("</ul>")[0]
    assert "fold" in evidence
    assert "layers" not in evidence


def test_evidence_with_lists_in_lists_is_shown_and_shapes_as_python_writes_them():
    """The page of UG801 could not be made: a shape is a list, and lists have no hash."""
    finding = Finding(
        "UG801",
        "unregistered-weights",
        "error",
        None,
        "m",
        evidence={"shapes": [[64, 64], [64]], "target_shape": [8]},
    )
    page = Report(Record(), Diagnosis((finding,), "sick: 1 error", "sick", "")).to_html()
    assert "(64, 64), (64)" in page
    assert "(8,)" in page
