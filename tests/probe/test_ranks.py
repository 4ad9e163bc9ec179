"""The loop of the README in a data-parallel job: no rank's Probe stands in another one's way, or in training's."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import one_rank
import pytest
from torch import nn

from unitgain import Probe, Record


@pytest.fixture(scope="module")
def context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "unitgain.probe"])
    return context


def run(context, folder: Path, **options) -> tuple[str, str]:
    """The two ranks' warnings."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = [
        context.Process(target=one_rank.run, args=(rank, port, folder), kwargs=options) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert [p.exitcode for p in processes] == [0, 0]
    return (folder / "warnings0.txt").read_text(), (folder / "warnings1.txt").read_text()


def test_one_path_for_all_ranks_is_written_by_rank_0_which_says_so(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite")
    assert "only rank 0 writes this file" in first
    assert second == ""
    record = Record.load(tmp_path / "run.sqlite")
    assert record.steps() == list(range(0, 20, 2))
    assert len(record.metric("loss")[0]) == 20
    assert (tmp_path / "sampled1.txt").read_text() == "10"  # in its temporary record
    assert sorted(p.name for p in tmp_path.glob("*.sqlite")) == ["run.sqlite"]


def test_the_rank_in_the_path_gives_each_rank_its_file(context, tmp_path: Path) -> None:
    assert run(context, tmp_path, to="run-{rank}.sqlite") == ("", "")
    for rank in range(2):
        assert len(Record.load(tmp_path / f"run-{rank}.sqlite").steps()) == 10


def test_a_full_disk_on_rank_0_leaves_no_rank_waiting_for_the_others_measurements(
    context, tmp_path: Path
) -> None:
    first, second = run(context, tmp_path, full_at=10, to="run.sqlite", merge_ranks=True)
    assert first.count("cannot be written: database or disk is full") == 1
    assert second == ""


def test_before_there_is_a_process_group_torchruns_environment_tells_the_rank(
    monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Probe(nn.Linear(2, 2), to=tmp_path / "run.sqlite", every=1).record.path is None
    assert Probe(nn.Linear(2, 2), to=tmp_path / "{rank}.sqlite", every=1).record.path == str(
        tmp_path / "1.sqlite"
    )
    monkeypatch.setenv("RANK", "0")
    with pytest.warns(UserWarning, match="only rank 0 writes"):
        probe = Probe(nn.Linear(2, 2), to=tmp_path / "run.sqlite", every=1)
    assert probe.record.path == str(tmp_path / "run.sqlite")
