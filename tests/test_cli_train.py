"""train, lr-find, sample, plots, ladder, recipes, and check of a run: what a person types, gets and is told."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import unitgain as ug
from unitgain import cli, recipes
from unitgain.data.names import EMBEDDED, read_names
from unitgain.recipes import makemore
from unitgain.recipes._ladders import makemore as makemore_ladder
from unitgain.recipes._registry import Recipe
from unitgain.recipes._runs import Outcome

SHORT = ("--set", "steps=200", "--set", "drop_at=100", "--set", "every=50", "--set", "save_every=50")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A few names, and one finished run of them."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "few.txt").write_text("\n".join(read_names(EMBEDDED)[:300]))
    assert cli.main(["train", "makemore", *names(folder), *SHORT, "--run", str(folder / "run")]) == 0
    return folder


def names(folder: Path) -> tuple[str, str]:
    return "--set", f"names={folder / 'few.txt'}"


def line_of(capsys) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1, shown.err
    assert shown.err.startswith("unitgain: ")
    return shown.err


def test_a_run_leaves_weights_numbers_and_plots(folder: Path, capsys) -> None:
    run = folder / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["train_loss"] < metrics["initial_loss"]
    assert json.loads((run / "config.json").read_text())["settings"]["steps"] == 200
    assert {"loss.png", "updates.png", "activations.png"} <= {p.name for p in (run / "plots").iterdir()}
    assert not list(run.rglob(".*"))
    (run / "plots" / "loss.png").unlink()
    capsys.readouterr()
    assert cli.main(["plots", str(run)]) == 0
    assert str(run / "plots" / "loss.png") in capsys.readouterr().out
    assert (run / "plots" / "loss.png").is_file()


def test_what_is_said_to_be_in_a_runs_folder_is_there(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """nf-vs-bn promised a record and plots, which it does not make."""
    from unitgain.recipes import nf_vs_bn

    x, y = torch.randn(64, 1, 28, 28), torch.arange(64) % 10
    monkeypatch.setattr(nf_vs_bn, "read_data", lambda config: ((x, y), (x, y)))
    tiny = ["examples=[32]", "batch_sizes=[16]", "batchnorm_lr=[0.1]", "normfree_lr=[0.1]",
            "clipping=[0.02]"]  # fmt: skip
    makemore = [*SHORT, *names(folder)]
    for recipe, settings in (("nf-vs-bn", [f"--set={text}" for text in tiny]), ("makemore", makemore)):
        run = tmp_path / recipe
        assert cli.main(["train", recipe, *settings, "--run", str(run)]) == 0
        said = re.search(r"run written: .* \((.*)\)", capsys.readouterr().err.replace("\n", " "))[1]
        files, _, judged = said.partition("; ")
        where = {"record": "record.sqlite", "weights": "weights.safetensors", "metrics": "metrics.json",
                 "trainings": "trainings.json"}  # fmt: skip
        there = {where.get(word, word) for word in files.split(", ")} | {"config.json"}
        assert {p.name for p in run.iterdir()} == there
        assert (cli.main(["check", str(run), "--fail-on", "never"]) == 0) is bool(judged)
        assert (cli.main(["plots", str(run)]) == 0) is ("plots" in files)
        capsys.readouterr()
    assert cli.main(["check", str(tmp_path / "nf-vs-bn")]) == 2
    assert "nf-vs-bn writes none" in line_of(capsys)


def test_names_are_drawn_the_same_for_the_same_seed(folder: Path, capsys) -> None:
    drawn = []
    for seed in ("1", "1", "2"):
        assert cli.main(["sample", str(folder / "run"), "-n", "7", "--seed", seed]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0].splitlines()) == 7


def test_check_judges_a_run_by_its_record(folder: Path, tmp_path: Path, capsys) -> None:
    run = str(folder / "run")
    assert cli.main(["check", run, "--fail-on", "never", "--json", str(tmp_path / "r.json")]) == 0
    assert "first loss" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["sites"]
    record = ug.Record.load(os.path.join(run, "record.sqlite"))
    with record._connection as source:
        assert source  # reading only: the record is as it was
    bad = ug.Record(tmp_path / "bad.sqlite")
    bad.set_meta("facts", {"mode": "training", "loss": {"kind": "cross_entropy"}, "target": {"classes": 27}})
    rising = torch.cat([torch.linspace(3, 2, 100), torch.linspace(2, 9, 100)]) + 0.01 * torch.randn(200)
    bad.add_metrics((i, "loss", float(v)) for i, v in enumerate(rising))
    bad.close()
    assert cli.main(["check", str(tmp_path / "bad.sqlite")]) == 1
    assert "UG504" in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path / "bad.sqlite"), "--ignore", "UG504"]) == 0
    capsys.readouterr()
    assert cli.main(["check", run, "--shape", "8,3"]) == 2
    assert "omit --shape" in line_of(capsys)


def test_a_run_goes_on_with_the_settings_it_began_with(
    folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    def interrupt(self) -> torch.Tensor:
        if self.step == 150:
            raise KeyboardInterrupt
        return advance(self)

    advance, run = makemore.Training.advance, str(tmp_path / "run it")
    command = ["train", "makemore", "--run", run]
    with monkeypatch.context() as patched:
        patched.setattr(makemore.Training, "advance", interrupt)
        assert cli.main([*command, *names(folder), *SHORT]) == 130
    told = capsys.readouterr().err
    assert "the last checkpoint is of step 150; continue it with: unitgain train makemore --run '" in told
    assert cli.main(command) == 2
    assert "it holds a run already; add --resume" in line_of(capsys)
    assert cli.main([*command, "--resume", "--set", "lr=0.2"]) == 2
    assert "--set lr=0.2: the run in" in line_of(capsys)
    assert cli.main(["sample", run]) == 2
    assert "the run has not ended" in line_of(capsys)
    assert cli.main([*command, "--resume"]) == 0
    assert "continuing at step 150" in capsys.readouterr().out
    whole = load_file(folder / "run" / "weights.safetensors")
    parts = load_file(Path(run) / "weights.safetensors")
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())
    before = (Path(run) / "metrics.json").read_text()
    assert cli.main([*command, "--resume"]) == 0
    told = capsys.readouterr()
    assert "this run has ended" in told.err
    assert "val loss" in told.out
    assert (Path(run) / "metrics.json").read_text() == before


def test_an_interrupted_run_without_a_folder_says_that_nothing_is_left(
    folder: Path, monkeypatch, capsys
) -> None:
    def interrupt(self) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(makemore.Training, "advance", interrupt)
    assert cli.main(["train", "makemore", *names(folder)]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was saved, as no folder was given (--run DIR)\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("train makemor", "did you mean 'makemore'?"),
        ("train makemore --set stepz=3", "did you mean 'steps'?"),
        ("train makemore --set steps=three", "--set steps='three': expected a whole number"),
        ("train makemore --set steps=0", "expected at least 1"),
        ("train makemore --set variant=tan", "expected one of original"),
        ("train makemore --set preset=batchnrm", "did you mean 'batchnorm'"),
        ("train makemore --set names=none.txt", "none.txt: cannot be read"),
        ("train makemore --resume", "Name its folder with --run"),
        ("train makemore --run full", "the folder holds something else"),
        ("train makemore --run full/x/y", "cannot be written"),
        ("lr-find makemore --out a.gif", "the name must end in .png, .svg or .pdf"),
        ("lr-find makemore --start 1 --end 0.1", "expected 0 < start < end"),
        ("sample full", "not the folder of a run"),
        ("sample damaged", "damaged"),
        ("sample other", "a run of silent, whose model gives nothing to draw from; runs of makemore do"),
        ("plots full", "no record in this folder"),
        ("plots none.sqlite", "no such file"),
        ("check damaged", "no record in this folder"),
        ("check full", "neither a run (no config.json in this folder) nor a model; was it written by"),
        ("check .", "nor a model; did you mean ./damaged or ./other?"),
        ("check none/such", "there is no such file or folder; give"),
        ("check none/such", "unitgain check takes the folder of a run too"),
        ("fix full --dry-run", "this is a folder, and no built-in model has this name"),
        ("ladder nf-vs-bn", "it has no ladder"),
        ("ladder makemore --out a.txt", "the name must end in .md"),
        ("ladder makemore --set variant=tanh", "the ladder sets this itself"),
        ("recipes make", "did you mean 'makemore'"),
    ],
)
def test_wrong_input_is_one_line(arguments: str, says: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    silent = Recipe("silent", "", Two(), fake_train, makemore.learner)
    monkeypatch.setattr(recipes, "names", lambda: ["makemore", "silent"])
    get = recipes.get
    monkeypatch.setattr(recipes, "get", lambda name: silent if name == "silent" else get(name))
    Path("full").mkdir()
    Path("full/x").write_text("")
    for name, text in (("damaged", "{"), ("other", '{"recipe": "silent", "settings": {}}')):
        Path(name).mkdir()
        (Path(name) / "config.json").write_text(text)
    assert cli.main(arguments.split()) == 2
    assert says in line_of(capsys)


@dataclass(frozen=True)
class Two:
    kind: Literal["a", "b"] = "a"


def fake_train(config, run=None, *, resume=False, say=print) -> Outcome:
    say("training")
    print("a print of the recipe's own")
    return Outcome("silent", config, nn.Linear(2, 2), {"accuracy": 0.5}, 1.0)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_rank_0_prints_and_writes(rank: str, tmp_path: Path, monkeypatch, capsys) -> None:
    silent = Recipe("silent", "", Two(), fake_train, makemore.learner)
    monkeypatch.setattr(recipes, "get", lambda name: silent)
    monkeypatch.setenv("RANK", rank)
    assert cli.main(["train", "silent", "--run", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr()
    assert bool(shown.out) == bool(shown.err) == (tmp_path / "run").exists() == (rank == "0")
    assert cli.main(["train", "silent", "--set", "kind=c"]) == 2
    assert bool(capsys.readouterr().err) == (rank == "0")


def test_lr_find_prints_a_rate_and_draws(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "rates.png"
    assert (
        cli.main(["lr-find", "makemore", *names(folder), "--set", "variant=kaiming", "--out", str(out)]) == 0
    )
    assert "is lowest there" in capsys.readouterr().out
    assert out.stat().st_size > 10_000


def test_recipes_lists_settings_as_they_are_written(capsys) -> None:
    assert cli.main(["recipes"]) == 0
    assert "makemore" in capsys.readouterr().out
    assert cli.main(["recipes", "makemore"]) == 0
    shown = capsys.readouterr().out
    assert "batches to train on" in shown
    assert "variant=tanh" in shown


def test_a_short_ladder_has_the_published_initial_losses(tmp_path: Path, monkeypatch, capsys) -> None:
    """To four decimals where the lecture's names are here; with other names it says that they do not apply."""
    lecture = os.environ.get("UNITGAIN_DATA") and ug.data.load_names().source != "built in"
    settings = ["--set", "steps=20"] if lecture else ["--set", "steps=20", "--seeds", "2"]
    out = tmp_path / "ladder.md"
    code = cli.main(["ladder", "makemore", "--short", *settings, "--out", str(out)])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    text = out.read_text()
    good = "Not the published ladder's settings."
    assert (good in shown.out) == (good in text)
    assert "`unitgain ladder makemore --set=steps=20" in text
    assert text.count("| batchnorm |") == 1
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ") and "." in line]
    if lecture:
        published = {r[0].strip(): (r[1].strip(), r[2].strip()) for r in rows[:5]}
        assert all(ours == theirs for ours, theirs in published.values() if theirs), published
        assert len(published) == 5
    assert str(tmp_path) not in text


def test_a_ladder_tells_what_it_missed(monkeypatch) -> None:
    ladder = makemore_ladder._Ladder(recipes.LadderOptions(("steps=1",), short=True), print)
    ladder.initial_applies = ladder.final_applies = True
    published = makemore_ladder.PUBLISHED["tanh"]
    ladder._compare("tanh", {"initial_loss": 3.3135, "train_loss": 2.0356, "val_loss": 2.1040}, published)
    assert not ladder.missed
    ladder._compare("tanh", {"initial_loss": 3.3139, "train_loss": 2.0356, "val_loss": 2.1050}, published)
    assert ladder.missed == [
        "tanh: the initial loss is 3.3139, not 3.3135",
        "tanh: the val loss is off by +0.0023, more than 0.002",
    ]
