"""Report: text, JSON and saving."""

from __future__ import annotations

import html
import json
import os
import re
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from unitgain import InputError
from unitgain.record import Record, RecordError, pack_map, unpack_map
from unitgain.report import Report
from unitgain.report.layers import Peers, layers_of, reported_step
from unitgain.report.terminal import choose, heading_parts, tails
from unitgain.rules import Diagnosis, Finding, diagnose

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "report.schema.json"


@pytest.fixture(params=["mlp", "large", "training", "hostile", "empty"])
def report(request, make, large):
    return {
        "mlp": lambda: Report(make.tanh_mlp(), make.sick()),
        "large": lambda: Report(large, make.healthy()),
        "training": lambda: Report(make.training(6), make.sick("relu2")),
        "hostile": lambda: Report(make.hostile(), make.hostile_diagnosis()),
        "empty": lambda: Report(Record(), Diagnosis((), "cannot tell: nothing was measured", "unknown", "")),
    }[request.param]()


# ---- text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(report, width):
    assert max(cell_len(line) for line in report.to_text(width).splitlines()) <= width


def test_plain_text_has_no_escape_codes_whatever_a_module_is_called(report):
    assert "\x1b" not in str(report)
    assert all(c.isprintable() or c == "\n" for c in str(report))


@pytest.mark.parametrize("width", [80, 120])
def test_rules_that_could_not_judge_take_few_lines_and_are_all_named(make, width):
    """They used to fill the screen below the table, a paragraph each."""
    for record in (make.tanh_mlp(), Record()):
        diagnosis = diagnose(record)
        assert len(diagnosis.abstained) >= 6
        report = Report(record, diagnosis)
        folded = report.to_text(width).partition("Not judged")[2]
        assert all(code[2:] in folded for code in diagnosis.abstained)
        assert len(folded.strip().splitlines()) <= (5 if width < 100 else 3)
        for full in (html.unescape(report.to_html()), report.to_json()):
            assert all(reason in full for reason in diagnosis.abstained.values())


def test_the_text_points_to_the_html_page_only_if_there_is_one(make, tmp_path):
    """It said "(see .html)" of a page that nobody had written."""
    report = Report(Record(), diagnose(Record()))
    assert "(why: --html or report.save)" in " ".join(str(report).split())
    report.save(tmp_path / "report.json")
    assert "(see" not in str(report)
    report.save(tmp_path / "why.html")
    assert "(see why.html)" in " ".join(str(report).split())


@pytest.mark.parametrize(
    ("measured", "losses", "words"),
    [
        (3, 2000, "3 of 2,000 steps measured"),
        (1, 9, "1 of 9 steps measured"),
        (6, 6, "6 steps"),
        (6, 0, "6 steps measured"),
    ],
)
def test_the_heading_says_how_many_steps_of_a_run_were_measured(measured, losses, words):
    """It said "3 steps" of a run of 2,000."""
    record = Record()
    site = record.add_site("activation", "fc")
    for step in range(measured):
        record.add_scalars(step, {site.id: {"rms": 1.0}})
    for step in range(losses):
        record.log(step, loss=2.3)
    assert words in heading_parts(record)


# ---- a report of a saved record --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
def test_a_saved_record_gives_the_same_report_as_the_live_one(make, tmp_path, steps):
    live = make.tanh_mlp(steps=steps, mode="training" if steps > 1 else "check")
    live.save(tmp_path / "run.sqlite")
    loaded = Record.load(tmp_path / "run.sqlite")
    assert diagnose(loaded) == diagnose(live)
    now, later = Report(live, diagnose(live)), Report(loaded, diagnose(loaded))
    assert str(later) == str(now)
    assert later.to_json() == now.to_json()
    assert later.ok == now.ok
    later.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    loaded.close()


def test_markup_in_names_is_printed_and_not_obeyed(make):
    text = str(Report(make.hostile(), make.hostile_diagnosis()))
    assert "[red]a…[/red]" in text or "[red]alarm[/red]" in text
    assert make.HOSTILE in text
    assert "[bold]do" in text


def test_text_says_everything_of_a_finding(make):
    diagnosis = make.sick()
    text = " ".join(str(Report(make.tanh_mlp(), diagnosis)).replace("\u00a0", " ").split())
    for finding in diagnosis.findings:
        told = (finding.message, finding.cause, finding.remedy, finding.effect, finding.verify)
        for part in (finding.code, finding.severity, *told, *finding.consequences):
            assert part in text
    assert text.index(diagnosis.verdict) < text.index(diagnosis.first_action) < text.index("UG101")
    assert "UG501: no optimizer step was rehearsed" in text


def test_a_type_is_not_cut_where_short_names_leave_room_for_it() -> None:
    record = Record()
    for place, module in enumerate(("Conv2d", "BatchNorm2d", "AdaptiveAvgPool2d")):
        site = record.add_site("activation", str(place), position=place, module=module, shape=(8, 4))
        record.add_scalars(0, {site.id: {"mean": 0.0, "std": 1.0}})
    text = Report(record, diagnose(record)).to_text(80)
    assert "AdaptiveAvgPool2d" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_severity_can_be_read_without_colour(make):
    lines = str(Report(make.tanh_mlp(), make.sick())).splitlines()
    row = next(line for line in lines if re.search(r"\blayers\.1 +Tanh", line))
    assert row.startswith("✗")
    assert "sat" in row


def test_bar_moves_with_the_scale(make):
    build = make.Builder()
    for name, scale in (("small", 1e-3), ("one", 1.0), ("large", 1e3)):
        build.layer(name, "Linear", scale, 1e-3)
    lines = str(Report(build.record, make.healthy())).splitlines()
    places = [
        next(line for line in lines if f" {name} " in line).index("●") for name in ("small", "one", "large")
    ]
    assert places == sorted(set(places))


def test_an_ascii_terminal_gets_ascii(make):
    import io

    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=file, width=80).print(Report(make.tanh_mlp(), make.sick()))
    file.seek(0)
    assert "UG303" in file.read()


def test_a_large_model_is_condensed_but_keeps_the_sick_layer_and_both_ends(make, large):
    finding = Finding("UG304", "dead-units", "error", large.sites("activation")[136].name, "dead")
    layers = layers_of(large, [finding])
    shown = choose(layers, Peers.of(layers), 40)
    numbers = [layer.number for layer in shown]
    assert len(shown) == 40
    assert numbers == sorted(set(numbers))
    assert {1, 138, 300} <= set(numbers)
    assert max(b - a for a, b in pairwise(numbers)) < 40  # no part of the depth is left out
    assert "260 of 300 layers are not shown" in str(Report(large, make.healthy()))


def test_a_zero_residual_end_is_not_alarming():
    record = Record()
    site = record.add_site("activation", "block.bn3", module="BatchNorm2d")
    record.add_scalars(0, {site.id: {"mean": 0.0, "std": 0.0, "rms": 0.0, "zero": 1.0}})
    layer = layers_of(record)[0]
    assert max(layer.concerns(Peers.of([layer])).values()) == 0


def test_a_layer_of_zeros_does_not_show_the_few_units_that_were_never_active():
    record = Record()
    site = record.add_site("activation", "relu", module="ReLU", shape=(64, 64), channel_axis=1)
    record.add_scalars(0, {site.id: {"units": 64.0, "dead": 2.0, "zero": 1.0}})
    assert tails(layers_of(record)[0]) == "zero 100%"


def test_a_finding_about_a_parameter_marks_the_layer_that_uses_it(make):
    record = make.tanh_mlp()
    layers = layers_of(record, [Finding("UG403", "no-gradient", "warning", "layers.2.weight", "")])
    assert [layer.name for layer in layers if layer.severity] == ["layers.2"]


def test_a_check_reports_the_first_step_and_a_training_the_last(make):
    assert reported_step(make.tanh_mlp(steps=4)) == 0
    assert reported_step(make.training(4)) == 3


@pytest.mark.parametrize(("severity", "ok"), [("info", True), ("warning", False), ("error", False)])
def test_ok_means_no_error_and_no_warning(severity, ok):
    assert Report(Record(), Diagnosis((Finding("U", "n", severity, None, ""),), "", "sick", "")).ok is ok


# ---- JSON ------------------------------------------------------------------------------------------------


def test_json_is_strict_and_follows_its_schema(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(report.to_json(), parse_constant=refuse)
    validate(data, json.loads(SCHEMA.read_text(encoding="utf-8")), "report")
    assert len(data["sites"]) == len(report.record.sites())
    assert [f["code"] for f in data["findings"]] == [f.code for f in report.findings]


def test_json_has_a_history_only_where_there_are_several_steps(make):
    once = json.loads(Report(make.tanh_mlp(), make.healthy()).to_json())
    assert not any("history" in site for site in once["sites"])
    often = json.loads(Report(make.training(100, 1), make.healthy()).to_json())
    history = next(s for s in often["sites"] if s["kind"] == "activation")["history"]
    assert len(history["step"]) == len(history["std"]) == 64
    assert (history["step"][0], history["step"][-1]) == (0, 99)
    assert "saturated" not in history


def validate(value, schema, where):
    """The keywords that report.schema.json uses; an unknown one fails, so that none is passed over."""
    known = {"$schema", "title", "description", "type", "required", "additionalProperties"}
    known |= {"properties", "const", "enum", "items"}
    assert set(schema) <= known, where
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}

    def has_type(name):
        if name in ("number", "integer"):
            return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(
                value, bool
            )
        return isinstance(value, types[name])

    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(has_type(name) for name in names), f"{where}: {value!r} is not {names}"
    assert "const" not in schema or value == schema["const"], where
    assert "enum" not in schema or value in schema["enum"], where
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), where
        more = schema.get("additionalProperties", True)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, more)
            assert inner is not False, f"{where}: {key} is not in the schema"
            if inner is not True:
                validate(item, inner, f"{where}.{key}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            validate(item, schema.get("items", {}), f"{where}[{i}]")


# ---- saving ----------------------------------------------------------------------------------------------


def test_save_writes_by_suffix_and_leaves_nothing_else(make, tmp_path):
    report = Report(make.tanh_mlp(1), make.sick())
    for name in ("r.html", "r.json", "r.txt"):
        report.save(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["r.html", "r.json", "r.txt"]
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == str(report)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["schema_version"] == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("r.pdf", "must end in .html, .json, .md, .txt, .sarif or .xml"),
        ("report", "must end in"),
        ("no/such/r.html", "no folder"),
        ("dir.txt", "is a folder"),
    ],
)
def test_save_says_what_is_wrong_with_a_path(make, tmp_path, path, message):
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(InputError, match=message):
        Report(Record(), make.healthy()).save(tmp_path / path)
    assert os.listdir(tmp_path) == ["dir.txt"]


def test_a_failed_save_keeps_the_old_file_and_no_rest(make, tmp_path, monkeypatch):
    (tmp_path / "r.txt").write_text("old")
    monkeypatch.setattr(
        os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(InputError, match="cannot be written: No space left"):
        Report(Record(), make.healthy()).save(tmp_path / "r.txt")
    assert (tmp_path / "r.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["r.txt"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_save_into_a_read_only_folder_is_one_clear_error(make, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(InputError, match="cannot be written"):
        Report(Record(), make.healthy()).save(tmp_path / "r.txt")


# ---- maps in the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 7), (64, 256)])
def test_a_packed_map_comes_back_bit_for_bit(shape):
    import numpy as np

    flags = np.random.default_rng(0).random(shape) > 0.5
    packed = json.loads(json.dumps(pack_map(flags)))
    assert np.array_equal(unpack_map(packed), flags)


def test_a_damaged_map_is_refused():
    with pytest.raises(RecordError, match="too few"):
        unpack_map({"rows": 100, "cols": 100, "bits": "AAAA"})
