"""The recipe own: a model and examples of one's own, from the command line to a run that can be checked and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unitgain import InputError, recipes
from unitgain.cli import main
from unitgain.recipes import RunFolder, as_json, own
from unitgain.train import Callback

MODEL = """
from torch import nn
def make(width=16):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))
def line():
    return nn.Linear(4, 1)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    (tmp_path / "m.py").write_text(MODEL)
    np.savez(tmp_path / "train.npz", x=x, y=x[:, :3].argmax(1))
    np.savez(tmp_path / "floats.npz", x=x, y=x[:, :1])
    return tmp_path


def test_a_run_of_ones_own_model_is_trained_checked_and_drawn(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "train",
        "m.py:make",
        "--data",
        "train.npz",
        "--set",
        "epochs=4",
        "--set",
        "lr=0.02",
        "--set",
        "width=24",
    ]
    assert main([*given, "--run", "run"]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("epoch ") == 4
    metrics = json.loads((here / "run" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.5
    assert load_file(here / "run" / "weights.safetensors")["0.weight"].shape == (24, 4)
    assert json.loads((here / "run" / "config.json").read_text())["settings"]["arguments"] == ["width=24"]
    assert main(["check", "run", "--fail-on", "never"]) == 0
    assert (here / "run" / "plots" / "loss.png").is_file()
    assert main([*given, "--run", "run", "--resume"]) == 0
    assert "this run has ended" in capsys.readouterr().err


def test_quiet_prints_the_outcome_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["train", "m.py:line", "--data", "floats.npz", "--set", "epochs=2", "--run", "run", "-q"]) == 0
    )
    shown = capsys.readouterr()
    assert "epoch" not in shown.out
    assert "valid loss" in shown.out
    assert "accuracy" not in shown.out
    assert shown.err == ""


def test_a_learning_rate_for_ones_own_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["lr-find", "m.py:make", "--data", "train.npz", "--steps", "60", "--trials", "0"]
    assert main(given) == 0
    assert capsys.readouterr().out


class Stops(Callback):
    def after_step(self, learn) -> None:
        if learn.steps == 8:
            raise KeyboardInterrupt


def test_a_run_that_was_killed_within_an_epoch_ends_with_the_same_weights(here: Path) -> None:
    config = own.OwnConfig(
        target="m.py:make", data="train.npz", batch_size=32, epochs=3, save_every=3, every=2
    )
    whole = own.train(config, say=lambda line: None).model.state_dict()
    folder = RunFolder("run", "own", as_json(config))
    with pytest.raises(KeyboardInterrupt):
        own.make_learner(config, folder, [Stops()]).fit(config.epochs)
    folder._lock.release()  # type: ignore[union-attr]
    again = own.train(
        config, RunFolder("run", "own", as_json(config), resume=True), resume=True, say=lambda line: None
    )
    assert all(torch.equal(value, whole[name]) for name, value in again.model.state_dict().items())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["makemore", "--data", "train.npz"], "--data train.npz: it goes with a model of your own"),
        (["m.py:make"], "no examples"),
        (["own"], "--set target"),
        (["m.py:make", "--data", "train.npz", "--set", "wdth=3"], "wdth"),
        (["m.py:make", "--data", "nowhere.npz"], "nowhere.npz"),
        (["m.py:make", "--data", "train.npz", "--set", "lr=-1"], "lr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(here: Path, given: list[str], words: str, capsys) -> None:
    assert main(["train", *given]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1


def test_settings_of_the_network_pass_through_a_preset() -> None:
    makemore = recipes.get("makemore")
    config = recipes.from_text(makemore.config, ["preset=deep", "gain=1", "tanh=false"], makemore.presets)
    model = makemore.learner(config).model
    assert "tanh1" not in dict(model.named_children())
    std = float(model.get_submodule("hidden2").weight.detach().std())
    assert std == pytest.approx(0.1, rel=0.05)
    with pytest.raises(InputError, match="gain"):
        recipes.from_text(makemore.config, ["gain=much"], makemore.presets)


@pytest.mark.parametrize("recipe", ["own", "image-folder"])
def test_a_training_that_was_refused_leaves_its_folder_to_the_next_try(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The typing error in a path had to be paid with a new folder: "it holds a run already"."""
    model = tmp_path / "net.py"
    model.write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(4, 2)\n")
    missing, run = str(tmp_path / "nothere"), str(tmp_path / "run")
    own = [f"{model}:make", "--data", missing + ".npz"]
    command = ["train", *(own if recipe == "own" else [recipe, "--set", f"data={missing}"]), "--run", run]
    for _ in range(2):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "nothere" in said
        assert "holds a run" not in said
