"""Nothing of unknown origin steers a terminal: hostile names, files and exceptions, fed in wherever they can get in."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

import unitgain as ug
from unitgain._base import InputError, console, did_you_mean, printable, say, table_of
from unitgain.cli import main
from unitgain.recipes import RunFolder
from unitgain.report import Report
from unitgain.rules import diagnose

SOURCES = Path(ug.__file__).parent

# colours, a title, the screen cleared by one C1 byte and by escape, bidi override, invisible, bell, markup, a link
HOSTILE = "x\x1b[31m\x1b]0;owned\x07\x9b2J\x1b[2J\u202egnp\u200b\u2066\x7f[red]y[/red][link=http:z]"
WORD = HOSTILE.replace("/", "|")  # as a file's name
# what rich itself sends: colours, and the cursor hidden and moved for what is drawn anew
_COLOURS = re.compile(r"\x1b\[(?:[\d;]*m|\?25[lh]|\d*[AK])|\r")


def assert_harmless(text: str, colours: bool = False) -> None:
    text = _COLOURS.sub("", text) if colours else text
    bad = sorted({c for c in text if not c.isprintable() and c != "\n"})
    assert not bad, f"{bad} in {text!r}"


# ---- printable itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_lines", [False, True])
@pytest.mark.parametrize("number", [*range(0x20), *range(0x7F, 0xA1), 0x200B, 0x200E, 0x202A, 0x202E, 0x2028, 0x2066,
                                    0x2069, 0xFEFF, 0xD800, 0xE0001, 0x10FFFF])  # fmt: skip
def test_every_character_that_is_obeyed_and_not_shown_is_spelled_out(number: int, keep_lines: bool) -> None:
    text = printable(f"a{chr(number)}b", keep_lines=keep_lines)
    assert_harmless(text)
    assert ("\n" in text) == (keep_lines and number == 10)


def test_letters_of_all_languages_stay_and_piles_of_marks_do_not() -> None:
    for text in ("größe", "名前", "שם", "naïve cafe\u0301", "emoji 🚀", "[bold]"):
        assert printable(text) == text
    assert printable("a" + "\u0301" * 50).count("\u0301") == 4


def test_long_text_keeps_both_ends_and_an_object_that_cannot_be_text_is_named() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(HOSTILE)

    text = printable("begin" + "x" * 10**6 + "end")
    assert len(text) < 4100
    assert text.startswith("begin")
    assert text.endswith("end")
    assert printable(Broken()) == "<a Broken that cannot be shown as text>"


def test_an_error_that_nobody_catches_is_harmless() -> None:
    for kind in (InputError, ug.RecordError, ug.UnitgainError):
        error = kind(f"target {HOSTILE}:\nsecond line")
        assert_harmless("".join(traceback.format_exception_only(error)))
        assert "\nsecond line" in str(error)


def test_our_console_takes_brackets_as_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (False, True):
        file = io.StringIO()
        screen = console(file=file, force_terminal=terminal, width=200)
        screen.print(HOSTILE)
        screen.print(table_of([HOSTILE, ">b"], [[HOSTILE, "1"], ["[bold]", "2"]]))
        assert_harmless(file.getvalue(), colours=terminal)
        assert file.getvalue().count("[red]y[/red]") == 3
    say(HOSTILE)
    assert_harmless(capsys.readouterr().out)


def test_what_the_terminal_s_encoding_lacks_is_spelled_out() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("größe ✗", file=file)
    file.seek(0)
    assert file.read() == "gr\\xf6\\xdfe \\u2717\n"


def test_only_the_base_prints() -> None:
    """Whatever is printed elsewhere would not pass through `printable`."""
    found = []
    for path in SOURCES.rglob("*.py"):
        if path.parent.name == "_base":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "rich.print", "Console", "rich.console.Console", "typer.echo", "click.echo",
                            "sys.stdout.write", "sys.stderr.write"):  # fmt: skip
                    found.append(f"{path.relative_to(SOURCES)}:{node.lineno} {name}")
    assert not found


def test_a_suggestion_is_one_name_unless_two_are_as_close() -> None:
    assert did_you_mean("before_backwards", ["before_backward", "after_backward"]) == (
        "; did you mean 'before_backward'?"
    )
    assert did_you_mean("rung1x", ["rung10", "rung11"]) == "; did you mean 'rung10' or 'rung11'?"


# ---- the command line ------------------------------------------------------------------------------------------

MODELS = """
import torch
from torch import nn

H = {hostile!r}

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.add_module(H.replace(".", ""), nn.Linear(4, width))
    def forward(self, x):
        return next(iter(self.children()))(x)

Hostile = type(H, (Net,), {{}})

class Raises(Net):
    def forward(self, x):
        raise RuntimeError(H)

class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError(H)

class Worse(Net):
    def forward(self, x):
        raise Unprintable

def maker(): raise ValueError(H)
"""

OPTIONS = ("--data", "--dataset", "--shape", "--tokens", "--batch", "--loss", "--steps", "--optimizer", "--lr",
           "--select", "--ignore", "--fail-on", "--baseline", "--html", "--json", "--record", "--device", "--seed",
           "--set", "--weights")  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    source = MODELS.format(hostile=HOSTILE)
    (tmp_path / "m.py").write_text(source, encoding="utf-8")
    (tmp_path / f"{WORD}.py").write_text(source, encoding="utf-8")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    np.savez(tmp_path / "good.npz", x=x, y=np.arange(8) % 3)
    np.savez(tmp_path / "names.npz", **{WORD: x, "other": x})
    np.savez(tmp_path / f"{WORD}.npz", x=x, y=np.arange(8) % 3)
    (tmp_path / f"{WORD}.safetensors").write_bytes(b"damaged")
    (tmp_path / f"{WORD}.sqlite").write_bytes(b"damaged")
    return tmp_path


GOOD = ("check", "m.py:Net", "--data", "good.npz")
CALLS = [
    *((*GOOD[:2], *(() if option in ("--data", "--shape", "--dataset") else GOOD[2:]), option, HOSTILE)
      for option in OPTIONS),
    (HOSTILE,), ("check", HOSTILE), ("check", f"{HOSTILE}:Net"), ("check", f"m.py:{HOSTILE}"), (*GOOD, f"--{HOSTILE}"),
    ("check", f"{WORD}.py:Net", "--data", "good.npz"), ("check", "m.py:Net", "--data", f"{WORD}.npz"),
    ("check", "m.py:Net", "--data", "names.npz"), (*GOOD, "--weights", f"{WORD}.safetensors"),
    ("check", f"{WORD}.sqlite"), ("check", "m.py:Hostile", "--data", "good.npz", "--steps", "2"),
    ("check", "m.py:Raises", "--data", "good.npz"), ("check", "m.py:Worse", "--data", "good.npz"),
    ("check", "m.py:maker", "--data", "good.npz"), ("check", "m.py:Raises", "--data", "good.npz", "--debug"),
    ("check", f"timm:{HOSTILE}", "--shape", "1,3,32,32"), (*GOOD, "--set", f"{WORD}=1"),
    (*GOOD, "--set", f"width={WORD}"),
    ("check", "m.py:Hostile", "--data", "good.npz", "--json", "-"), (*GOOD, "--html", f"{WORD}.html"),
    ("fix", "m.py:Hostile", "--data", "good.npz", "--dry-run"), ("fix", *GOOD[1:], "--only", HOSTILE, "--dry-run"),
    ("spp", "m.py:Hostile", "--data", "good.npz"), ("spp", *GOOD[1:], "--out", f"{WORD}.png"),
    ("train", HOSTILE), ("train", "makemore", "--set", f"{WORD}=1"), ("train", "makemore", "--set", f"variant={WORD}"),
    ("train", "makemore", "--run", "m.py", "--resume"), ("lr-find", HOSTILE), ("recipes", HOSTILE), ("ladder", HOSTILE),
    ("sample", HOSTILE), ("plots", HOSTILE), ("plots", f"{WORD}.sqlite"), ("models", HOSTILE), ("rules", HOSTILE),
    ("data", "fetch", HOSTILE), ("train", "image-folder", "--set", f"data={WORD}"),
]  # fmt: skip


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize(
    "call", CALLS, ids=[f"{n} {printable(' '.join(c), 40)}" for n, c in enumerate(CALLS)]
)
def test_the_command_line_prints_nothing_that_is_obeyed(
    call: tuple[str, ...], terminal: bool, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    code = main(call)
    out, err = capsys.readouterr()
    assert_harmless(out, colours=terminal)
    assert_harmless(err, colours=terminal)
    assert code in (0, 1, 2), f"a defect: {err}"


def test_json_on_the_terminal_holds_the_names_as_they_are(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(("check", "m.py:Hostile", "--data", "good.npz", "--json", "-"))
    out = capsys.readouterr().out
    assert_harmless(out)
    assert HOSTILE in {site["name"] for site in json.loads(out)["sites"]}


def test_a_folder_in_the_environment_is_named_harmlessly(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("UNITGAIN_DATA", HOSTILE)
    assert main(("data",)) == 2
    (here / WORD).mkdir()
    (here / WORD / "names.txt").write_text("\n".join(f"name{c}" for c in "abcdefghijkl"))
    monkeypatch.setenv("UNITGAIN_DATA", WORD)
    assert main(("data",)) == 0
    out, err = capsys.readouterr()
    assert_harmless(out + err)


# ---- files that somebody else wrote ----------------------------------------------------------------------------


def hostile_record(path: Path | None = None) -> ug.Record:
    record = ug.Record(path)
    for step in (0, 1):
        for position, name in enumerate((HOSTILE, f"{HOSTILE}2", "tanh"), start=1):
            for kind in ("activation", "gradient"):
                site = record.add_site(kind, name, position=position, module=HOSTILE, shape=(8, 4), channel_axis=1,
                                       attributes={"role": HOSTILE, "path": HOSTILE})  # fmt: skip
                row = {
                    "count": 32.0,
                    "mean": 0.1,
                    "std": 10.0**-position,
                    "rms": 1.0,
                    "zero": 0.0,
                    "nonfinite": 0.5,
                }
                record.add_scalars(step, {site.id: row})
        record.log(step, loss=27.0)
        record.add_metrics([(step, HOSTILE, 1.0)])
    record.set_meta("model", HOSTILE)
    record.set_meta("created", HOSTILE)
    record.set_meta("facts", {
        "model": {"class": HOSTILE, "parameters": 3}, "mode": HOSTILE,
        "loss": {"name": HOSTILE, "kind": HOSTILE, "value": 28.0},
        "target": {"kind": "classes", "classes": 27, "count": 32},
    })  # fmt: skip
    record.commit()
    return record


def test_a_hostile_record_reports_harmlessly(tmp_path: Path) -> None:
    record = hostile_record()
    report = Report(record, diagnose(record))
    for text in (
        str(report),
        report.to_text(60),
        report.to_json(),
        repr(report),
        repr(record),
        repr(record.frame()),
    ):
        assert_harmless(text)
    for options in ({"force_terminal": True}, {"legacy_windows": False}):
        file = io.StringIO()
        Console(file=file, width=90, **options).print(report)  # a console of the user's, markup and all
        assert_harmless(file.getvalue(), colours=True)
        assert "[red]" in file.getvalue()
    assert "\x1b" not in report.to_html()
    assert "\u202e" not in report.to_html()


@pytest.mark.parametrize("command", ["check", "plots"])
def test_a_hostile_record_file_is_read_harmlessly(command: str, tmp_path: Path, capsys) -> None:
    path = tmp_path / f"{WORD}.sqlite"
    hostile_record(path).close()
    main((command, str(path)))
    out, err = capsys.readouterr()
    assert_harmless(out + err)


def test_hostile_files_of_a_run_are_named_harmlessly(tmp_path: Path, capsys) -> None:
    run = tmp_path / WORD
    RunFolder(run, "makemore", {"steps": 3})
    (run / "metrics.json").write_text(json.dumps({HOSTILE: 1.0, "seconds": 2.0}))
    assert main(("train", "makemore", "--set", "steps=3", "--run", str(run), "--resume")) == 0
    for config in ({"recipe": HOSTILE, "settings": {}}, {"recipe": "makemore", "settings": {HOSTILE: 1}}):
        (run / "config.json").write_text(json.dumps(config))
        for command in (("train", "makemore", "--run", str(run), "--resume"), ("sample", str(run))):
            assert main(command) == 2
    (run / "config.json").write_text("{" + HOSTILE)
    assert main(("sample", str(run))) == 2
    out, err = capsys.readouterr()
    assert_harmless(out + err)


def test_a_hostile_baseline_is_refused_harmlessly(here: Path, capsys) -> None:
    for body in (
        HOSTILE,
        json.dumps({"schema_version": HOSTILE}),
        json.dumps({"schema_version": 1, "accepted": [HOSTILE]}),
    ):
        (here / "baseline.json").write_text(body)
        assert main((*GOOD, "--baseline", "baseline.json")) == 2
    out, err = capsys.readouterr()
    assert_harmless(out + err)


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not allow")
def test_unreadable_images_are_named_harmlessly(tmp_path: Path, capsys) -> None:
    image = pytest.importorskip("PIL.Image")
    for part in ("train", "val"):
        for label in ("a", WORD):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(3):
                image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / part / label / f"{i}.png")
    (tmp_path / "train" / WORD / f"{WORD}.png").write_bytes(b"cut")
    settings = ("model=nf_resnet_tiny", "epochs=1", "batch_size=2", "sizes=[16]", "workers=0", "corrupt=skip",
                f"data={tmp_path}")  # fmt: skip
    assert main(("train", "image-folder", *(f"--set={s}" for s in settings))) == 0
    out, err = capsys.readouterr()
    assert "not used" in out
    assert_harmless(out + err)


# ---- training and models ---------------------------------------------------------------------------------------


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(WORD.replace(".", ""), nn.Linear(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return next(iter(self.children()))(x)


def test_summaries_progress_and_warnings_of_hostile_models_are_harmless(capsys) -> None:
    data = [(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64))]
    file = io.StringIO()
    callbacks = [
        ug.train.Metrics(**{HOSTILE: ug.train.accuracy}, train=True),
        ug.train.Progress(Console(file=file, force_terminal=True, width=200)),
    ]
    sgd = lambda p: torch.optim.SGD(p, 0.1)  # noqa: E731
    learn = ug.train.Learner(Named(), data, "auto", sgd, callbacks)
    assert_harmless(str(learn.summary()))
    learn.fit(1)
    assert_harmless(file.getvalue(), colours=True)
    ug.train.Learner(Named(), data, "auto", sgd, [callbacks[0], ug.train.Progress(plain=True)]).fit(1)
    assert_harmless(capsys.readouterr().out)
    bad = [(torch.full((2, 3), torch.nan), torch.zeros(2, dtype=torch.int64))]
    with pytest.warns(UserWarning, match="training stopped") as caught:
        ug.train.Learner(Named(), bad, "auto", sgd, [ug.train.StopOnNonFinite()]).fit(1)
    assert_harmless(str(caught[0].message))
