"""Files are whole or not there: a process killed between writing and renaming spoils nothing."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from processes import finish, start

from unitgain._base import is_leftover, remove_leftovers, write_atomically
from unitgain.recipes import RunFolder

posix = pytest.mark.skipif(os.name != "posix", reason="signals and links of POSIX systems")

# a real kill -9 in the moment before the file gets its name
_KILLED = """
import os, signal, sys
def hook(event, arguments):
    if event == "os.rename" and sys.argv[2] in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


@posix
def test_a_kill_before_the_renaming_leaves_the_old_file_and_a_leftover(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("old")
    code = (
        _KILLED + "from unitgain._base import write_atomically; write_atomically(sys.argv[1], 'new' * 10_000)"
    )
    assert finish(start(code, path, "config.json"))[0] == -signal.SIGKILL
    assert path.read_text() == "old"
    left = [p.name for p in tmp_path.iterdir() if p != path]
    assert len(left) == 1
    assert is_leftover(left[0])
    write_atomically(path, "new")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert path.read_text() == "new"


@posix
def test_a_run_folder_whose_first_file_was_cut_off_by_a_kill_can_still_be_used(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = (
        _KILLED + "from unitgain.recipes import RunFolder; RunFolder(sys.argv[1], 'makemore', {'steps': 3})"
    )
    assert finish(start(code, run, "config.json", torch=True))[0] == -signal.SIGKILL
    left = sorted(p.name for p in run.iterdir())
    assert left[-1] == ".lock", "the process died while it held the folder"
    assert any(is_leftover(name) for name in left)
    RunFolder(run, "makemore", {"steps": 3})
    assert sorted(p.name for p in run.iterdir() if p.name != ".lock") == ["config.json"]


def test_a_folder_with_anything_else_in_it_is_no_run_folder_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".draft.tmp").write_text("mine too")
    with pytest.raises(ValueError, match="holds something else"):
        RunFolder(tmp_path, "makemore", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".draft.tmp", "notes.txt"]


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")

    def writer(beside: Path) -> None:
        beside.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, writer)
    with pytest.raises(OSError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "file", b"")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"weights.safetensors": b"old"}


@posix
def test_a_link_stays_a_link_and_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    real, link = tmp_path / "kept" / "report.html", tmp_path / "latest.html"
    link.symlink_to(real)
    before = os.umask(0o027)
    try:
        write_atomically(link, "page")
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert real.read_text() == "page"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert os.listdir(real.parent) == ["report.html"]


def test_long_names_and_text_that_utf8_cannot_say_are_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    write_atomically(path, "lone surrogate \ud800, ü")
    assert path.read_text(encoding="utf-8") == "lone surrogate ?, ü"


@pytest.mark.skipif(sys.platform != "linux", reason="counts calls of fsync as Linux makes them")
def test_content_and_name_are_flushed_before_and_after_the_renaming(tmp_path: Path, monkeypatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *a: (calls.append("rename"), replace(*a)))
    write_atomically(tmp_path / "a", b"1")
    assert calls == ["file", "rename", "folder"]
