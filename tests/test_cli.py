"""The command line: exit codes, one line for every mistake, and nothing lost by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

import unitgain._check
from unitgain._base import console, table_of
from unitgain.cli import app, main
from unitgain.record import Record
from unitgain.report import Report
from unitgain.rules import Diagnosis, Finding

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.layer = nn.Linear(4, width)
    def forward(self, x):
        print("forward was called")
        return self.layer(x)

class Table(nn.Embedding):
    def __init__(self):
        super().__init__(5, 3)

def raises(): raise RuntimeError("no weights")
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 4)).astype(np.float32)
    (tmp_path / "m.py").write_text(MODELS)
    np.savez(tmp_path / "good.npz", x=x, y=np.arange(8) % 3)
    np.savez(tmp_path / "classes.npz", x=x, y=np.arange(8))
    np.savez(tmp_path / "wide.npz", x=np.ones((8, 9), dtype=np.float32), y=np.arange(8) % 3)
    np.savez(tmp_path / "empty.npz", x=x[:0], y=np.arange(0))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, 1], dtype=object))
    np.savez(tmp_path / "tokens.npz", x=np.full((8, 2), 5))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    (tmp_path / "batch.pt").write_bytes(b"\x80\x02.")
    (tmp_path / "folder").mkdir()
    return tmp_path


def fake_report(*severities: str) -> Report:
    findings = tuple(
        Finding("UG303", "saturated", s, "tanh", f"a finding of severity {s}", remedy="scale it", auto=True)
        for s in severities
    )
    return Report(Record(), Diagnosis(findings, "a verdict", "sick" if findings else "healthy"))


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch):
    """finds("error") makes check() find an error, and keeps the arguments it was given."""
    given: dict = {}

    def arrange(*severities: str) -> dict:
        def check(model, batch, loss="auto", **options):
            given.update(model=model, batch=batch, loss=loss, **options)
            return fake_report(*severities)

        monkeypatch.setattr(unitgain._check, "check", check)
        return given

    return arrange


GOOD = ("check", "m.py:Net", "--data", "good.npz")


# ---- wrong input: exit 2, one line -------------------------------------------------------------------------

WRONG = [
    # TARGET
    ("check", "--data", "good.npz"),
    ("check", "m.py", "--data", "good.npz"),
    ("check", "m.py:Nett", "--data", "good.npz"),
    ("check", "nowhere.py:Net", "--data", "good.npz"),
    ("check", "nowhere:Net", "--data", "good.npz"),
    ("check", "m.py:number", "--data", "good.npz"),
    ("check", "m.py:raises", "--data", "good.npz"),
    ("check", "char_mlp", "--dataset", "names"),
    ("check", "", "--dataset", "names"),
    # the batch
    ("check", "m.py:Net"),
    ("check", "m.py:Net", "--data", "nowhere.npz"),
    ("check", "m.py:Net", "--data", "batch.pt"),
    ("check", "m.py:Net", "--data", "pickled.npz"),
    ("check", "m.py:Net", "--data", "cut.npz"),
    ("check", "m.py:Net", "--data", "empty.npz"),
    ("check", "m.py:Net", "--data", "folder"),
    ("check", "m.py:Net", "--data", "m.py"),
    ("check", "m.py:Net", "--data", ""),
    ("check", "m.py:Net", "--data"),
    ("check", "m.py:Net", "--dataset", "mnist"),
    ("check", "m.py:Net", "--dataset", "names", "--shape", "8,4"),
    ("check", "m.py:Net", "--shape", "8x4"),
    ("check", "m.py:Net", "--shape", "8,-4"),
    ("check", "m.py:Net", "--shape", "eight,4"),
    ("check", "m.py:Net", "--shape", "8,4", "--tokens", "many"),
    ("check", "m.py:Net", "--shape", "8,4", "--tokens", "-1"),
    (*GOOD, "--tokens", "10"),
    (*GOOD, "--batch", "0"),
    (*GOOD, "--batch", "-1"),
    (*GOOD, "--batch", "all"),
    (*GOOD, "--batch", "99999999999999999999"),
    (*GOOD, "--shape", "8,4"),
    ("check", "m.py:Net", "--shape", "8,4", "--tokens", "99999999999999999999"),
    # a batch that does not fit the model
    ("check", "m.py:Net", "--data", "wide.npz"),
    ("check", "m.py:Net", "--shape", "8,9"),
    ("check", "m.py:Net", "--shape", "8,9", "--loss", "mse"),
    ("check", "m.py:Net", "--data", "classes.npz"),
    ("check", "m.py:Table", "--data", "tokens.npz"),
    ("check", "m.py:Table", "--shape", "8,4", "--tokens", "6"),
    # the loss
    (*GOOD, "--loss", "crossentropy"),
    (*GOOD, "--loss", ""),
    (*GOOD, "--loss", "CE"),
    # steps
    (*GOOD, "--steps", "-1"),
    (*GOOD, "--steps", "2.5"),
    (*GOOD, "--steps", "ten"),
    (*GOOD, "--steps", "2", "--lr", "0"),
    (*GOOD, "--steps", "2", "--lr", "nan"),
    (*GOOD, "--steps", "2", "--lr", "fast"),
    (*GOOD, "--lr", "0.1"),
    (*GOOD, "--optimizer", "adam"),
    (*GOOD, "--steps", "2", "--optimizer", "adm"),
    ("check", "m.py:Net", "--shape", "8,4", "--loss", "cross_entropy", "--prove"),
    # outputs
    (*GOOD, "--html", "nowhere/report.html"),
    (*GOOD, "--html", "folder"),
    (*GOOD, "--html", "report.pdf"),
    (*GOOD, "--html", ""),
    (*GOOD, "--json", "nowhere/report.json"),
    (*GOOD, "--json", "report.html"),
    (*GOOD, "--json", "--html"),
    (*GOOD, "--json"),
    (*GOOD, "--record", "good.npz"),
    (*GOOD, "--record", "nowhere/run.sqlite"),
    (*GOOD, "--record", "folder"),
    (*GOOD, "--html", "m.py/report.html"),
    (*GOOD, "--baseline", "nowhere.json"),
    (*GOOD, "--baseline", "m.py"),
    (*GOOD, "--baseline", "good.npz"),
    (*GOOD, "--write-baseline", "nowhere/known.json"),
    # rules, severity, device, seed, settings
    (*GOOD, "--select", "UG9"),
    (*GOOD, "--select", ""),
    (*GOOD, "--ignore", "everything"),
    (*GOOD, "--fail-on", "errors"),
    (*GOOD, "--fail-on", "info"),
    (*GOOD, "--device", "gpu"),
    (*GOOD, "--device", "meta"),
    (*GOOD, "--device", "cpu:x"),
    (*GOOD, "--seed", "-1"),
    (*GOOD, "--seed", "lucky"),
    (*GOOD, "--set", "width"),
    (*GOOD, "--set", "widht=3"),
    (*GOOD, "--set", "width=many"),
    # usage
    ("chekc", "m.py:Net"),
    (*GOOD, "--hmtl", "report.html"),
    (*GOOD, "more"),
    ("rules", "UG999"),
    ("rules", "dead"),
    ("rules", ""),
    ("models", "resnext*"),
    ("data", "mnist"),
    ("data", "fetch"),
    ("data", "fetch", "mnist"),
    ("demo", "--out", "nowhere/report.html"),
    ("demo", "--out", "report"),
    ("demo", "--steps", "0"),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(here, capsys, arguments) -> None:
    before = sorted(p for p in here.rglob("*"))
    code = main(arguments)
    out, err = capsys.readouterr()
    assert code == 2, err
    lines = [line for line in err.splitlines() if line != "forward was called"]
    assert len(lines) == 1, err
    assert lines[0].startswith("unitgain: ")
    assert "Traceback" not in out + err
    assert len(lines[0]) > 30  # it says something
    assert sorted(p for p in here.rglob("*")) == before  # nothing half-written is left


def test_debug_shows_the_traceback_of_a_mistake(here, capsys) -> None:
    assert main(["check", "m.py:raises", "--data", "good.npz", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "no weights" in err
    assert err.splitlines()[-1].startswith("unitgain: ")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_is_refused_before_the_work(here, capsys, finds) -> None:
    given = finds()
    (here / "folder").chmod(0o500)
    assert main([*GOOD, "--html", "folder/report.html"]) == 2
    assert not given


def test_a_folder_for_pictures_is_refused_before_the_model_is_even_loaded(here, capsys, finds) -> None:
    """The report was printed, and then the pictures could not be written."""
    given = finds()
    (here / "file").write_text("")
    for wrong, says in (("file", "this is a file"), ("no/where", "there is no folder")):
        assert main([*GOOD, "--plots", wrong]) == 2
        assert says in capsys.readouterr().err
    assert not given


def test_an_output_is_refused_before_the_model_is_even_loaded(here, capsys, finds) -> None:
    given = finds()
    assert main([*GOOD, "--html", "nowhere/report.html"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not given


def test_an_input_or_another_output_is_not_overwritten(here, capsys, finds) -> None:
    finds()
    before = (here / "good.npz").read_bytes()
    assert main([*GOOD, "--write-baseline", "good.npz"]) == 2
    assert main([*GOOD, "--json", "a.json", "--write-baseline", "./a.json"]) == 2
    assert (here / "good.npz").read_bytes() == before
    assert not (here / "a.json").exists()


# ---- exit codes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severities", "fail_on", "code"),
    [
        ((), None, 0),
        (("warning", "info"), None, 0),
        (("error",), None, 1),
        (("error",), "error", 1),
        (("warning",), "error", 0),
        (("warning",), "warning", 1),
        (("info",), "warning", 0),
        (("error",), "warning", 1),
        (("error", "warning"), "never", 0),
    ],
)
def test_findings_at_or_above_fail_on_give_1(here, capsys, finds, severities, fail_on, code) -> None:
    finds(*severities)
    assert main([*GOOD, *(["--fail-on", fail_on] if fail_on else [])]) == code
    out, err = capsys.readouterr()
    assert all(f"severity {s}" in out for s in severities)
    if {"error", "warning"} & set(severities):
        assert "`unitgain fix " in err
    else:
        assert not err


def test_a_defect_is_one_line_that_asks_for_a_report(here, capsys, monkeypatch) -> None:
    def check(*_, **__):
        raise KeyError("one\ntwo")

    monkeypatch.setattr(unitgain._check, "check", check)
    assert main(GOOD) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "report" in line
    assert "--debug" in line
    assert main([*GOOD, "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (MemoryError, 2)])
def test_interruption_and_full_memory_are_no_defects(here, capsys, monkeypatch, error, code) -> None:
    def check(*_, **__):
        raise error

    monkeypatch.setattr(unitgain._check, "check", check)
    assert main(GOOD) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("interrupted; nothing was written" if code == 130 else line)


def test_sigterm_ends_a_command_as_ctrl_c_does(here, capsys, monkeypatch) -> None:
    monkeypatch.setattr(unitgain._check, "check", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert main(GOOD) == 143
    assert capsys.readouterr().err == "interrupted; nothing was written\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ---- what check is given, and what it writes ---------------------------------------------------------------


def test_options_reach_check(here, finds) -> None:
    given = finds()
    assert main([*GOOD, "--set", "width=5", "--loss", "cross_entropy", "--steps", "3", "--optimizer", "adamw",
                 "--lr", "3e-4", "--select", "UG3,UG101", "--ignore", "dead-units", "--batch", "2"]) == 0  # fmt: skip
    assert given["model"].layer.out_features == 5
    assert len(given["batch"][0]) == 2
    assert given["loss"] == "cross_entropy"
    assert given["steps"] == 3
    assert "UG303" in given["select"]
    assert given["ignore"] == ["UG304"]
    optimizer = given["optimizer"](given["model"].parameters())
    assert (type(optimizer).__name__, optimizer.defaults["lr"]) == ("AdamW", 3e-4)


def test_the_same_seed_gives_the_same_weights_and_input(here, finds) -> None:
    given = finds()
    drawn = []
    for seed in ("1", "1", "2"):
        assert main(["check", "m.py:Net", "--shape", "8,4", "--seed", seed]) == 0
        drawn.append((given["model"].layer.weight.sum().item(), given["batch"].sum().item()))
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[2][0]
    assert drawn[0][1] != drawn[2][1]


def test_the_text_names_the_html_page_where_one_is_written(here, capsys) -> None:
    assert main([*GOOD, "--fail-on", "never"]) == 0
    assert "(why: --html or report.save)" in " ".join(capsys.readouterr().out.split())
    assert main([*GOOD, "--html", "page.html", "--fail-on", "never"]) == 0
    assert "(see page.html)" in " ".join(capsys.readouterr().out.split())


def test_json_on_stdout_is_json_only_even_if_the_model_prints(here, capsys) -> None:
    assert main([*GOOD, "--json", "-", "--fail-on", "never"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert {"schema_version", "meta", "findings", "sites"} <= set(body)


def test_reports_and_record_are_written(here, capsys) -> None:
    code = main([*GOOD, "--json", "r.json", "--html", "r.html", "--record", "r.sqlite", "--fail-on", "never"])
    assert code == 0
    json.loads((here / "r.json").read_text())
    assert (here / "r.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert Record.load(here / "r.sqlite").path
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "r.html", "r.json", "r.sqlite",
    ]  # fmt: skip


def test_only_findings_that_the_baseline_does_not_accept_count(here, capsys, finds) -> None:
    finds("warning")
    assert main([*GOOD, "--write-baseline", "known.json", "--fail-on", "warning"]) == 1
    assert main([*GOOD, "--baseline", "known.json", "--fail-on", "warning"]) == 0
    assert "1 of 1 findings accepted, 0 new" in capsys.readouterr().err
    finds("error")  # worse than what was accepted
    assert main([*GOOD, "--baseline", "known.json"]) == 1


# ---- the other commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [(), ("check",), ("rules",), ("models",), ("data",), ("data", "fetch"), ("demo",)]
)
def test_every_command_has_help_with_an_example(capsys, command) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "Usage: unitgain" in out
    assert "unitgain " + " ".join(command) in out.split("Options:")[0].split("\n", 1)[1]


def test_no_command_prints_the_help_and_version_prints_the_version(capsys) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.endswith(":") and line[0] != " "] == [
        "Options:", "General:", "Look:", "Change:", "Train:", "More:"
    ]  # fmt: skip
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unitgain 0.")


def test_rules_lists_and_explains(capsys) -> None:
    assert main(["rules"]) == 0
    table = capsys.readouterr().out
    assert "UG101" in table
    assert "confident-at-init" in table
    for name in ("UG101", "ug101", "confident-at-init"):
        assert main(["rules", name]) == 0
        assert "ln(C)" in capsys.readouterr().out
    assert main(["rules", "UG2"]) == 0
    shown = capsys.readouterr().out
    assert "UG203" in shown
    assert "UG301" not in shown
    assert main(["rules", "UG2", "--json"]) == 0
    assert [row["code"] for row in json.loads(capsys.readouterr().out)] == [
        "UG201",
        "UG202",
        "UG203",
        "UG204",
        "UG205",
        "UG206",
    ]


def test_models_lists_parameter_counts_and_leaves_the_random_state(capsys) -> None:
    import torch

    before = torch.get_rng_state()
    assert main(["models", "conv*"]) == 0
    out = capsys.readouterr().out
    assert "convnet" in out
    assert "30,154" in out
    assert "char_mlp" not in out
    assert torch.equal(torch.get_rng_state(), before)


def test_data_lists_every_data_set(capsys) -> None:
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    assert "names" in out
    assert "fashion-mnist" in out


def test_quiet_is_a_line_for_each_finding_and_nothing_of_a_healthy_model(here: Path, finds, capsys) -> None:
    finds("error", "warning")
    assert main([*GOOD, "-q", "--html", "report.html"]) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        f"{s} UG303 tanh: a finding of severity {s}" for s in ("error", "warning")
    ]
    assert shown.err == ""
    finds()
    assert main([*GOOD, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check", "m.py:Nett", "--data", "good.npz", "-q"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_could_not_be_judged_is_listed_with_its_reason(here: Path, capsys) -> None:
    assert main([*GOOD, "--not-judged"]) in (0, 1)
    shown = capsys.readouterr().out.partition("Not judged\ncode")[2]
    assert "UG501" in shown
    assert "no optimizer" in shown or "steps" in shown


def test_every_option_is_in_the_reference_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    command = typer.main.get_command(app).commands["check"]
    options = {o for p in command.params for o in p.opts if o.startswith("--")}
    assert options
    assert not {o for o in options if f"`{o}" not in page}


def test_a_table_cuts_no_word_where_there_is_room(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = [
        "change",
        "what",
        *(f">{title}" for title in ("rate", "lowest to highest", "published", "points", "took")),
    ]
    row = [
        "4",
        "GeneralReLU(leak 0.1, shift 0.4) and Kaiming",
        "0.2",
        "10.94 to 10.94",
        "83.10%",
        "-0.02",
        "123.4",
    ]
    console().print(table_of(columns, [row] * 2))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert set(" ".join([*columns, *row]).replace(">", "").split()) == set(shown.split())
    assert shown.count("10.94 to 10.94") == 2


# ---- as a program ------------------------------------------------------------------------------------------


def program(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "unitgain", *arguments], capture_output=True, text=True, timeout=280, **options
    )


def test_the_program_s_mistakes_print_one_line(here) -> None:
    done = program("check", "m.py:Net", "--data", "cut.npz", cwd=here)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not list(here.rglob("*.pyc"))


def test_a_reader_that_stops_early_is_quiet(here) -> None:
    command = [sys.executable, "-m", "unitgain", "rules"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 141


def test_a_prefix_of_no_rule_names_the_groups_that_there_are(capsys) -> None:
    assert main(["rules", "UG9"]) == 2
    assert "groups of rules are UG1 to UG8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["help"], "Did you mean unitgain --help?"),
        (["model.py:make", "--shape", "8,20"], "Did you mean unitgain check model.py:make?"),
        (["tr"], "Did you mean 'train'?"),
        (["check", "char_mlp", "--json"], "see unitgain check --help"),
    ],
)
def test_a_hasty_command_line_is_told_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_quiet_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-q", "rules", "UG304"]) == main(["rules", "UG304", "-q"]) == 0
    first, second = capsys.readouterr().out.split("# UG304 dead-units")[1:]
    assert first == second
