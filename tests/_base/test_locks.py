"""One process at a time: a second one is told who holds the lock, and a kill -9 releases it."""

from __future__ import annotations

import errno
import gc
import os
import signal
import time
from pathlib import Path

import pytest
from processes import finish, said, start

import unitgain as ug
from unitgain._base import FileLock, InputError, locks
from unitgain.recipes import RunFolder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes as POSIX systems do")

HOLD = """
import sys
from unitgain._base import FileLock
lock = FileLock(sys.argv[1], "the folder")
print("held", flush=True)
sys.stdin.read()
"""


def kill(process) -> None:
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL


def test_a_second_process_is_told_who_holds_it_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = start(HOLD, path)
    assert said(holder) == "held"
    with pytest.raises(
        InputError, match=rf"the folder: in use by process {holder.pid} \(started \d{{4}}-\d\d-\d\d "
    ):
        FileLock(path, "the folder")
    kill(holder)
    assert path.exists(), "a killed process leaves its file, which locks nothing"
    lock = FileLock(path, "the folder")
    second = start(HOLD, path)
    code, _, error = finish(second)
    assert code == 1
    assert f"in use by process {os.getpid()}" in error
    lock.release()
    assert not path.exists()


def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    """DataLoader's workers are forked, and live on for some seconds."""
    code = HOLD.replace(
        "print(", "import os, time\nif not os.fork():\n    time.sleep(30)\n    os._exit(0)\nprint("
    )
    holder = start(code, tmp_path / ".lock")
    assert said(holder) == "held"
    holder.kill()
    holder.wait(10)
    FileLock(tmp_path / ".lock", "the folder").release()
    for stream in (holder.stdin, holder.stdout, holder.stderr):
        assert stream is not None
        stream.close()


def test_waiting_goes_on_when_the_other_process_is_done(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path / ".lock")
    assert said(holder) == "held"
    waiter = start(HOLD.replace('"the folder")', '"the folder", wait=True)'), tmp_path / ".lock")
    time.sleep(0.3)
    assert waiter.poll() is None
    assert finish(holder)[0] == 0  # its input is closed
    assert said(waiter) == "held"
    assert finish(waiter)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_within_one_process_the_last_release_counts_and_forgetting_releases(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    first, second = FileLock(path, "the folder"), FileLock(path, "the folder")
    first.release()
    first.release()
    assert path.exists()
    del second
    gc.collect()
    assert not path.exists()


def test_a_file_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuses)
    with FileLock(tmp_path / ".lock", "the folder"):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"process": "1;\x1b[2J", "host": 3, "started": 1e400}'])
def test_a_lock_file_that_says_nonsense_is_still_a_lock(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".lock"
    holder = start(HOLD, path)
    assert said(holder) == "held"
    path.write_text(content)
    with pytest.raises(InputError, match="in use by another process") as caught:
        FileLock(path, "the folder")
    assert str(caught.value).isprintable()
    kill(holder)


# ---- what is locked ------------------------------------------------------------------------------------------

RECORD = """
import sys
import unitgain as ug
record = ug.Record(sys.argv[1])
record.log(0, loss=1.0)
record.commit()
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_write_one_record_and_a_killed_one_leaves_it_readable(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    holder = start(RECORD, path, torch=True)
    assert said(holder) == "held"
    for attempt in (
        lambda: ug.Record(path, overwrite=True),
        lambda: ug.Record.reopen(path, before=0),
        lambda: ug.Record().save(path, overwrite=True),
    ):
        with pytest.raises(InputError, match=f"run.sqlite: in use by process {holder.pid}"):
            attempt()
    assert ug.Record.load(path).metric("loss")[1].tolist() == [1.0]
    kill(holder)
    again = ug.Record.reopen(path, before=1)
    again.log(1, loss=0.5)
    again.close()
    assert ug.Record.load(path).metric("loss")[1].tolist() == [1.0, 0.5]
    assert not list(tmp_path.glob("*.lock"))


RUN = """
import sys
from unitgain.recipes import RunFolder
folder = RunFolder(sys.argv[1], "makemore", {"steps": 3})
print("held", flush=True)
sys.stdin.read()
"""


def test_two_trainings_cannot_use_one_run_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    holder = start(RUN, run, torch=True)
    assert said(holder) == "held"
    for resume in (False, True):
        with pytest.raises(InputError, match=f"--run .*run: in use by process {holder.pid}"):
            RunFolder(run, "makemore", {"steps": 3}, resume=resume)
    kill(holder)
    (run / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="holds a run already"):
        RunFolder(run, "makemore", {"steps": 3})
    RunFolder(run, "makemore", {"steps": 3}, resume=True)


def test_two_learners_of_two_processes_cannot_share_a_folder_of_checkpoints(tmp_path: Path) -> None:
    import torch
    from torch import nn

    holder = start(HOLD, tmp_path / ".lock")
    assert said(holder) == "held"
    data = [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))]
    sgd = lambda p: torch.optim.SGD(p, 0.1)  # noqa: E731
    learn = ug.train.Learner(nn.Linear(3, 2), data, "auto", sgd, [ug.train.Checkpoint(tmp_path)])
    with pytest.raises(InputError, match=f"in use by process {holder.pid}"):
        learn.fit(1)
    kill(holder)
    learn.fit(1)
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]
