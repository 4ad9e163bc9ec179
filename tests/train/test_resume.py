"""A run that was killed, whenever and however, ends with bit for bit the weights of one that was not."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import runs
import torch

import unitgain as ug
from unitgain import InputError
from unitgain.train import Callback, CancelFit, Checkpoint, Learner, checkpoint


class Crash(Callback):
    order = 200

    def __init__(self, event: str, count: int):
        self.left = count
        setattr(self, event, self._count)

    def _count(self, learn: Learner) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


MOMENTS = [
    ("after_batch", 1), ("after_batch", 5), ("before_step", 9), ("after_batch", 17), ("before_pass", 2),
    ("after_epoch", 1), ("before_epoch", 3), ("cleanup_fit", 1), ("before_fit", 2), ("after_epoch", 4),
]  # fmt: skip


@pytest.mark.parametrize("kind", runs.KINDS)
def test_a_run_that_crashed_again_and_again_ends_as_if_it_had_not(kind: str, tmp_path: Path) -> None:
    expected = runs.digest(runs.train(kind, None))
    moments = MOMENTS if kind in ("memory", "everything") else MOMENTS[1::3]
    for i, (event, count) in enumerate(moments):
        folder = tmp_path / str(i)
        with pytest.raises(KeyboardInterrupt):
            runs.train(kind, folder, extra=(Crash(event, count),))
        with_crash = runs.train(kind, folder, extra=(Crash("nothing", 0),))
        assert runs.digest(with_crash) == expected, f"crash at {event} {count}"


@pytest.fixture(scope="module")
def processes():
    """Children are forked from a server that has imported torch, so that each starts in no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "unitgain.train"])
    return context


def killed(processes, kind: str, folder: Path, death: tuple | None) -> bool:
    process = processes.Process(target=runs.child, args=(kind, folder, folder / "result.txt", death, 2))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kill_9_at_any_moment_also_while_a_checkpoint_is_written(processes, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert not killed(processes, "everything", whole, None)
    folder = tmp_path / "killed"
    folder.mkdir()
    deaths = [("batch", 1), ("batch", 7), ("open", 2, ".tmp"), ("os.rename", 2, ".tmp"),
              ("os.remove", 1, "checkpoint-"), ("batch", 9)]  # fmt: skip
    survived = [death for death in deaths if not killed(processes, "everything", folder, death)]
    assert not survived
    assert not killed(processes, "everything", folder, None)
    assert (folder / "result.txt").read_text() == (whole / "result.txt").read_text()
    assert not list((folder / "checkpoints").glob(".*"))
    with_kills, without = (ug.Record.load(f / "run.sqlite") for f in (folder, whole))
    for name in ("loss", "lr", "valid_loss"):
        for a, b in zip(with_kills.metric(name), without.metric(name)):
            assert a.tolist() == b.tolist(), f"the record of {name} has a gap or a double entry"
    assert with_kills.steps() == without.steps()
    for a, b in zip(with_kills.series("activation", "0", "std"), without.series("activation", "0", "std")):
        assert a.tolist() == b.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_twenty_kills_at_random_moments(processes, tmp_path: Path) -> None:
    """Killed from outside, at moments that nobody chose, with a checkpoint after every step: `make kill`."""
    whole = tmp_path / "whole"
    whole.mkdir()
    (tmp_path / "first").mkdir()
    assert not killed(
        processes, "everything", tmp_path / "first", None
    )  # the server of processes has to start
    began = time.monotonic()
    assert not killed(processes, "everything", whole, None)
    longest = time.monotonic() - began
    kills = writing = runs_ended = 0
    moments = random.Random(0)
    while kills < 20 or not runs_ended:
        folder = tmp_path / f"run{runs_ended}"
        folder.mkdir(exist_ok=True)
        process = processes.Process(
            target=runs.child, args=("everything", folder, folder / "result.txt", None, 1)
        )
        process.start()
        process.join(moments.uniform(0.2, 1.0) * longest if kills < 20 else 60)
        process.kill()
        process.join()
        if process.exitcode == 0:
            assert (folder / "result.txt").read_text() == (whole / "result.txt").read_text()
            runs_ended += 1
        else:
            kills += 1
            writing += bool(list((folder / "checkpoints").glob(".*.tmp")))
    print(
        f"{kills} kills, {writing} of them while a checkpoint was written; {runs_ended} runs ended, all alike"
    )


def test_a_resumed_run_must_be_the_same_run(tmp_path: Path) -> None:
    runs.train("memory", tmp_path)
    folder = tmp_path / "checkpoints"
    learn = runs.learner("memory", tmp_path)
    with pytest.raises(InputError, match="holds checkpoints of another run"):
        learn.fit(1)
    other = runs.learner("memory", None)
    other.data.train.batch_size = 20
    other.resume(folder)
    other.fit(1)  # behind it
    with pytest.raises(InputError, match="10 training batches per epoch, this one has 5"):
        other.fit(1)
    smaller = Learner(torch.nn.Linear(6, 4), runs.data("memory"), "auto", lambda p: torch.optim.SGD(p, 0.1))
    with pytest.raises(InputError, match=r"it is of another model: .*Missing key"):
        smaller.load(checkpoint.list_folder(folder)[-1])


def test_a_checkpoint_of_another_optimizer_or_of_something_else_is_refused(tmp_path: Path) -> None:
    learn = runs.train("memory", None)
    learn.save(tmp_path / "mine.safetensors")
    other = Learner(runs.model(), runs.data("memory"), "auto", lambda p: torch.optim.SGD(p, 0.1))
    other.resume(tmp_path / "mine.safetensors")
    for _ in range(learn.fits - 1):
        other.fit(learn.epochs)
    with pytest.raises(InputError, match="trained with AdamW, this one is with SGD"):
        other.fit(learn.epochs)
    assert all(torch.equal(a, b) for a, b in zip(other.model.parameters(), runs.model().parameters()))
    foreign = tmp_path / "checkpoint-00000003.safetensors"
    checkpoint.write(foreign, {"recipe": "makemore", "model": {}})
    for take in (other.load, other.resume):
        with pytest.raises(InputError, match="not a Learner's, but of the recipe makemore"):
            take(foreign)


def test_one_cycle_goes_on_with_as_many_epochs_as_it_was_made_for(tmp_path: Path) -> None:
    def learner(*callbacks: Callback) -> Learner:
        torch.manual_seed(0)
        return Learner(
            torch.nn.Linear(6, 4), runs.data("memory"), "auto", lambda p: torch.optim.SGD(p, 0.1), callbacks
        )

    with pytest.raises(KeyboardInterrupt):
        learner(Checkpoint(tmp_path), Crash("after_batch", 15)).fit_one_cycle(3, 0.1)
    again = learner()
    again.resume(tmp_path)
    with pytest.raises(
        InputError, match="to have 3 epochs, this one 6, and OneCycle spreads over all of them"
    ):
        again.fit_one_cycle(6, 0.1)


def test_seconds_go_on(tmp_path: Path) -> None:
    learn = runs.train("memory", None)
    learn.clock.seconds = 100.0
    learn.save(tmp_path / "checkpoint-00000001.safetensors")
    other = runs.learner("memory", None)
    other.resume(tmp_path)
    for _ in range(learn.fits):
        other.fit(learn.epochs)
    assert 100 < other.seconds < 200
    other.lr_find(steps=10)
    assert other.seconds < 200


def test_an_empty_folder_is_the_beginning(tmp_path: Path) -> None:
    learn = runs.learner("memory", None)
    assert not learn.resume(tmp_path)
    assert not learn.resume(tmp_path / "none")
    with pytest.raises(InputError, match="there is no such file"):
        learn.resume(tmp_path / "checkpoint-00000001.safetensors")


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    class Score(Callback):
        order = 60

        def after_epoch(self, learn):
            learn.metrics["score"] = [1.0, 5.0, 2.0, float("nan"), 3.0, 4.0][learn.epoch]

    keeper = Checkpoint(tmp_path, keep=2, best="score", mode="max")
    learn = runs.learner("memory", None, extra=(Score(), keeper))
    learn.fit(6)
    assert [p.name for p in checkpoint.list_folder(tmp_path)] == [checkpoint.name_of(n) for n in (20, 50, 60)]
    assert keeper.best_path == tmp_path / checkpoint.name_of(20)
    learn.load(keeper.best_path)
    with pytest.raises(
        InputError, match=r"best='accuracy'.*not among the metrics.*; there are train_loss, valid_loss"
    ):
        runs.learner("memory", None, extra=(Checkpoint(tmp_path / "b", best="accuracy"),)).fit(1)


def test_save_and_load_by_hand(tmp_path: Path) -> None:
    learn = runs.train("memory", None)
    learn.save(tmp_path / "mine.safetensors")
    other = runs.learner("memory", None)
    other.load(tmp_path / "mine.safetensors")
    assert all(
        torch.equal(a, b)
        for a, b in zip(learn.model.state_dict().values(), other.model.state_dict().values())
    )


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A suite in the background of a shell ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class CtrlC(Callback):
    """Presses it in the middle of a step."""

    def __init__(self, step: int):
        self.step = step

    def after_backward(self, learn: Learner) -> None:
        if learn.steps == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_heard_after_the_step_and_loses_nothing(tmp_path: Path) -> None:
    expected, handler = runs.digest(runs.train("memory", None)), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        runs.train("memory", tmp_path, extra=(CtrlC(0),))
    assert [p.name for p in checkpoint.list_folder(tmp_path / "checkpoints")] == [checkpoint.name_of(1)]
    assert signal.getsignal(signal.SIGINT) is handler
    assert runs.digest(runs.train("memory", tmp_path)) == expected


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.train("memory", tmp_path, extra=(CtrlC(3), CtrlC(3)))
    assert checkpoint.name_of(4) not in [p.name for p in (tmp_path / "checkpoints").glob("*")]


class Stop(Callback):
    def after_backward(self, learn: Learner) -> None:
        if learn.steps == 2:
            signal.raise_signal(signal.SIGINT)
            raise CancelFit


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_not_lost_where_the_fit_is_cancelled(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.train("memory", tmp_path, extra=(Stop(),))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_two_checkpoints_leave_the_handler_as_it_was(tmp_path: Path) -> None:
    runs.train("memory", tmp_path / "a", extra=(Checkpoint(tmp_path / "b"),))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_ignores_interrupts_is_not_interrupted(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        runs.train("memory", tmp_path, extra=(CtrlC(0),))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
