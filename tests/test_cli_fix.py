"""unitgain fix and --weights: what a person types, what is written, and what wrong input says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from unitgain import InputError, cli
from unitgain.targets import load_weights, save_weights

MODEL = """
import torch
from torch import nn
def sick():
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))
    nn.init.normal_(model[2].weight)
    return model
def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    model[2].weight = model[0].weight
    return model
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text(MODEL)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    save_file({"x": x, "y": torch.arange(64) % 3}, tmp_path / "batch.safetensors")
    return tmp_path


BATCH = ("--data", "batch.safetensors")


def test_fixed_weights_are_healthy_when_they_are_loaded_again(here: Path, capsys) -> None:
    assert cli.main(["check", "m.py:sick", *BATCH]) == 1
    assert cli.main(["fix", "m.py:sick", *BATCH, "--out", "w.safetensors", "--html", "fix.html"]) == 0
    shown = capsys.readouterr()
    assert "kept" in shown.out
    assert "weights written: w.safetensors" in shown.err
    assert "What was changed" in (here / "fix.html").read_text(encoding="utf-8")
    assert cli.main(["check", "m.py:sick", *BATCH, "--weights", "w.safetensors", "--fail-on", "warning"]) == 0
    with safe_open(here / "w.safetensors", framework="pt") as file:
        assert file.metadata()["unitgain"] == "fixed: UG101"


def test_a_dry_run_writes_nothing_and_json_is_all_of_it(here: Path, capsys) -> None:
    before = sorted(p.name for p in here.iterdir() if p.suffix != ".pyc" and p.name != "__pycache__")
    assert cli.main(["fix", "m.py:sick", *BATCH, "--dry-run", "--json", "-"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["dry_run"] is True
    assert body["fixed"] == ["UG101"]
    assert body["before"]["findings"]
    assert not body["after"]["findings"]
    assert sorted(p.name for p in here.iterdir() if p.name != "__pycache__") == before


def test_what_cannot_be_fixed_exits_with_1(here: Path) -> None:
    assert cli.main(["fix", "m.py:sick", *BATCH, "--dry-run", "--only", "UG303"]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--out is missing"),
        (("--out", "w.pt"), "must end in .safetensors"),
        (("--out", "nowhere/w.safetensors"), "there is no folder nowhere"),
        (("--out", "batch.safetensors"), "this is an input"),
        (("--out", "w.safetensors", "--dry-run"), "a dry run writes no weights"),
        (("--dry-run", "--only", "UG999"), "no rule is called 'UG999'"),
        (("--dry-run", "--weights", "w.pt"), "only .safetensors is read"),
        (("--dry-run", "--weights", "w.safetensors"), "there is no such file"),
        (("--dry-run", "--weights", "batch.safetensors"), "not of this model: missing: 0.weight"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(here: Path, capsys, arguments, says) -> None:
    assert cli.main(["fix", "m.py:sick", *BATCH, *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_tied_weights_make_the_round_trip(here: Path) -> None:
    space: dict = {}
    exec(MODEL, space)
    model, other = space["tied"](), space["tied"]()
    save_weights(model, "tied.safetensors")
    assert len(load_file("tied.safetensors")) == len(model.state_dict()) - 1
    load_weights(other, "tied.safetensors")
    assert torch.equal(model[2].weight, other[2].weight)
    assert other[2].weight is other[0].weight


def test_weights_of_another_model_are_named(here: Path) -> None:
    save_weights(nn.Linear(3, 2), "a.safetensors")
    with pytest.raises(InputError, match=r"of another shape: .*weight \(2, 3\) \(here \(4, 3\)\)"):
        load_weights(nn.Linear(3, 4), "a.safetensors")
    with pytest.raises(InputError, match="unknown: bias"):
        load_weights(nn.Linear(3, 2, bias=False), "a.safetensors")
    (here / "cut.safetensors").write_bytes((here / "a.safetensors").read_bytes()[:40])
    with pytest.raises(InputError, match="damaged"):
        load_weights(nn.Linear(3, 2), "cut.safetensors")


def test_the_weights_that_are_read_are_not_written_over(here: Path, capsys) -> None:
    assert cli.main(["fix", "m.py:sick", *BATCH, "--out", "w.safetensors"]) == 0
    kept = (here / "w.safetensors").read_bytes()
    command = ["fix", "m.py:sick", *BATCH, "--weights", "w.safetensors", "--out", "w.safetensors"]
    assert cli.main(command) == 2
    assert "w.safetensors" in capsys.readouterr().err
    assert (here / "w.safetensors").read_bytes() == kept


def test_random_targets_prove_nothing(here: Path, capsys) -> None:
    """Judged by the other half of them, whatever learns fastest looks worst."""
    shape = ("--shape", "64,4", "--loss", "cross_entropy")
    assert cli.main(["fix", "m.py:sick", *shape, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "kept" in shown
    assert "trained for" not in shown
