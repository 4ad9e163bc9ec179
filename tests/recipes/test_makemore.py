"""The recipe makemore: the lecture's training, which measuring, interruptions and the machine's files do not change."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import small_runs
import torch
from safetensors.torch import load_file

import unitgain as ug
from unitgain.models.char_mlp import VARIANTS
from unitgain.recipes import makemore


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> str:
    return small_runs.few_names(tmp_path_factory.mktemp("names"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant: str, names: str) -> None:
    outcome = small_runs.train(
        None, small_runs.config(names, variant=variant, steps=400, drop_at=300, every=100)
    )
    metrics = outcome.metrics
    assert metrics["train_loss"] < 0.95 * metrics["initial_loss"]
    assert 0.1 < metrics["val_accuracy"] < 0.6
    steps, losses = outcome.record.metric("loss")
    assert steps.tolist() == list(range(400))
    assert float(losses[0]) == metrics["initial_loss"]
    assert outcome.record.steps() == [0, 100, 200, 300]
    hidden = "hidden1.weight" if "deep" in variant else "hidden.weight"
    assert (outcome.record.series("update", hidden, "std")[1] > 0).all()


def test_measuring_changes_no_bit(names: str) -> None:
    """Nor does where the chunks end."""
    for variant in ("batchnorm", "deep_batchnorm", "tanh"):
        found = {
            small_runs.digest(small_runs.train(None, small_runs.config(names, variant=variant, **how)).model)
            for how in ({"every": 0}, {"every": 7}, {"every": 50, "save_every": 17})
        }
        assert len(found) == 1, variant


def test_the_measured_update_is_the_one_that_was_made(names: str) -> None:
    settings = small_runs.config(names, variant="kaiming", steps=1, every=1)
    before = dict(makemore.make_model(settings).state_dict())
    outcome = small_runs.train(None, settings)
    for name, after in outcome.model.state_dict().items():
        expected = float((after - before[name]).double().std(correction=0))
        assert outcome.record.value("update", name, "std") == pytest.approx(
            expected, rel=0.05
        )  # of a sample of the values


def test_the_learner_for_lr_find_has_the_recipes_first_batches(names: str) -> None:
    settings = small_runs.config(names, variant="tanh", steps=20, drop_at=20, every=0)
    learn = makemore.learner(settings)
    x, y = next(iter(learn.data.train))
    first = float(torch.nn.functional.cross_entropy(learn.model(x), y).detach())
    assert first == pytest.approx(small_runs.train(None, settings).metrics["initial_loss"], rel=1e-6)


def test_the_names_in_the_package_will_do(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNITGAIN_DATA", raising=False)
    monkeypatch.setenv("UNITGAIN_CACHE", str(tmp_path))
    metrics = small_runs.train(None, small_runs.config("", steps=3)).metrics
    assert 3.2 < metrics["initial_loss"] < 3.4


def test_a_run_that_diverges_ends_and_its_record_says_so(names: str, tmp_path: Path) -> None:
    settings = small_runs.config(names, variant="tanh", lr=1e38, save_every=60)
    with pytest.raises(
        ug.InputError, match=r"from step \d+ on the loss is not finite; begin a new run with a lower rate"
    ):
        small_runs.train(tmp_path / "run", settings)
    record = ug.Record.load(tmp_path / "run" / "record.sqlite")
    assert {"UG104", "UG504"} & {f.code for f in ug.diagnose(record).findings}
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_settings_that_cannot_be_are_refused(monkeypatch, names: str) -> None:
    for key, value in (
        ("steps", 0),
        ("batch_size", 1),
        ("every", -1),
        ("save_every", 0),
        ("lr", float("nan")),
    ):
        with pytest.raises(ug.InputError, match=f"--set {key}="):
            small_runs.config("", **{key: value})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ug.InputError, match="without torchrun"):
        small_runs.train(None, small_runs.config(names))


# ---- interruptions -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Children are forked from a server that has imported torch, so that each starts in no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "unitgain.train", "unitgain.recipes.makemore"])
    return context


def killed(processes, folder: Path, names: str, death: tuple | None, steps: int = 120) -> bool:
    process = processes.Process(target=small_runs.child, args=(folder, names, death, steps))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def same_results(folder: Path, whole: Path) -> None:
    for name, tensor in load_file(whole / "weights.safetensors").items():
        assert torch.equal(load_file(folder / "weights.safetensors")[name], tensor), name
    a, b = (ug.Record.load(f / "record.sqlite") for f in (folder, whole))
    for metric in ("loss", "lr", "val_loss"):
        for x, y in zip(a.metric(metric), b.metric(metric)):
            assert x.tolist() == y.tolist(), f"the record of {metric} has a gap or a double entry"
    assert a.steps() == b.steps()
    for x, y in zip(a.series("activation", "tanh", "std"), b.series("activation", "tanh", "std")):
        assert x.tolist() == y.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kill_9_also_while_something_is_written(processes, names: str, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    small_runs.train(whole, small_runs.config(names))
    deaths = [
        ("sqlite3.connect", 1, "record.sqlite"), ("os.rename", 1, "checkpoint-"), ("os.rename", 2, "checkpoint-"),
        ("os.remove", 1, "checkpoint-"), ("os.rename", 1, ".weights"), ("os.rename", 1, ".metrics"),
    ]  # fmt: skip
    survived = [death for death in deaths if not killed(processes, folder, names, death)]
    assert not survived
    assert not killed(processes, folder, names, None)
    same_results(folder, whole)
    assert not list((folder / "checkpoints").glob(".*"))
    assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_twenty_kills_at_random_moments(processes, names: str, tmp_path: Path) -> None:
    steps, kills, ended, moments = 2000, 0, 0, random.Random(0)
    began = time.monotonic()
    assert not killed(processes, tmp_path / "whole", names, None, steps)
    longest = time.monotonic() - began
    while kills < 20 or not ended:
        folder = tmp_path / f"run{ended}"
        process = processes.Process(target=small_runs.child, args=(folder, names, None, steps))
        process.start()
        process.join(moments.uniform(0.1, 0.9) * longest if kills < 20 else 60)
        process.kill()
        process.join()
        if process.exitcode == 0:
            same_results(folder, tmp_path / "whole")
            ended += 1
        else:
            kills += 1
    print(f"{kills} kills; {ended} runs ended, all alike")


def test_a_finished_run_that_is_resumed_stays_as_it_is(names: str, tmp_path: Path) -> None:
    settings = small_runs.config(names)
    first = small_runs.train(tmp_path / "run", settings)
    again = small_runs.train(tmp_path / "run", settings, resume=True)
    assert small_runs.digest(again.model) == small_runs.digest(first.model)
    assert again.metrics.keys() == first.metrics.keys()
    assert again.metrics["initial_loss"] == first.metrics["initial_loss"]


def test_resuming_with_other_names_or_a_foreign_checkpoint_is_refused(names: str, tmp_path: Path) -> None:
    settings, folder = small_runs.config(names), tmp_path / "run"
    small_runs.train(folder, settings)
    Path(names).write_text(Path(names).read_text() + "\nzoe")
    with pytest.raises(ug.InputError, match="its run had other names"):
        small_runs.train(folder, settings, resume=True)
    small_runs.few_names(Path(names).parent)
    ug.train.checkpoint.write(folder / "checkpoints" / "checkpoint-00000121.safetensors", {"model": 1})
    with pytest.raises(ug.InputError, match="not one of the recipe makemore"):
        small_runs.train(folder, settings, resume=True)
    (folder / "checkpoints" / "checkpoint-00000121.safetensors").write_bytes(b"cut")
    with pytest.raises(ug.InputError, match=r"damaged.*the last good one is .*checkpoint-00000120"):
        small_runs.train(folder, settings, resume=True)


def test_sampled_names_are_those_of_the_seed(names: str) -> None:
    settings = small_runs.config(names, steps=300, drop_at=300, every=0)
    weights = small_runs.train(None, settings).model.state_dict()
    first = makemore.sample(settings, weights, 10, 1)
    assert first == makemore.sample(settings, weights, 10, 1)
    assert first != makemore.sample(settings, weights, 10, 2)
    assert len(first) == 10
    assert all(name.isalpha() or name == "" for name in first)
