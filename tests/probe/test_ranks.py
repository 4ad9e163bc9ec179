"""The loop of the README in a data-parallel job: no rank's Probe stands in another one's way, or in training's."""

from __future__ import annotations

import math
import multiprocessing
import socket
from pathlib import Path

import one_rank
import pytest
import torch
from torch import nn

from unitgain import InputError, Probe, Record


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


def test_one_path_for_all_ranks_is_written_by_rank_0_for_all(context, tmp_path: Path) -> None:
    assert run(context, tmp_path, to="run.sqlite") == ("", "")
    record = Record.load(tmp_path / "run.sqlite")
    assert record.steps() == list(range(0, 20, 2))
    assert len(record.metric("loss")[0]) == 20
    assert record.value("activation", "0", "count") == 2 * 12 * 8
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
    probe = Probe(nn.Linear(2, 2), to=tmp_path / "run.sqlite")
    assert probe.record.path == str(tmp_path / "run.sqlite")
    with pytest.warns(UserWarning, match=r"only rank 0 writes the record.*no process group yet"):
        probe.start()
    probe.stop()


@pytest.mark.parametrize("how", ["ddp", "fsdp", "fsdp of uneven parts", "hybrid", "tensor"])
def test_what_two_ranks_measure_is_what_one_process_would(context, tmp_path: Path, how: str) -> None:
    """Of parameters that are cut up, too: each rank has some of the values that the sample takes of the whole."""
    assert run(context, tmp_path, how=how, to="run.sqlite", limit=None) == ("", "")
    many = Record.load(tmp_path / "run.sqlite")
    one = one_rank.alone(how)
    assert many.steps() == one.steps() == [0, 2, 4]
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        for step in one.steps():
            wanted, found = one.values(kind, step), many.values(kind, step)
            assert set(found) == set(wanted), kind
            for name, row in wanted.items():
                if how == "tensor" and kind in ("activation", "gradient") and name in ("0", "1"):
                    continue  # each rank has other units of them
                if kind in ("input", "activation"):
                    assert found[name]["count"] == row["count"], (kind, name)
                for statistic in ("mean", "std", "rms", "absmax"):
                    known = found[name][statistic]
                    assert known == pytest.approx(row[statistic], rel=2e-3, abs=1e-6), (
                        kind,
                        name,
                        statistic,
                        step,
                    )
    for name in ("0.weight", "2.weight"):
        for kind in ("parameter_gradient", "update"):
            assert many.value(kind, name, "ratio", 2) == pytest.approx(
                one.value(kind, name, "ratio", 2), abs=2e-3
            )
    for name, norm in one_rank.gradient_norms(how).items():
        site = many.site("parameter_gradient", name)
        assert site is not None
        found = many.value("parameter_gradient", name, "rms") * math.prod(site.shape) ** 0.5
        assert found == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("how", ["ddp", "fsdp of uneven parts", "tensor"])
def test_two_ranks_clip_as_one_process_does(context, tmp_path: Path, how: str) -> None:
    """With the classifier found by what runs, whoever holds its weight."""
    assert run(context, tmp_path, how=how, clipping=0.02) == ("", "")
    wanted = one_rank.clip_alone(how, 0.02)
    for rank in range(2):
        for mine, theirs in zip(torch.load(tmp_path / f"weights{rank}.pt"), wanted):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_probe_on_rank_0_alone_stops_nobody_and_names_who_is_missing(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite", only=0)
    assert "there is no Probe of this Sequential on rank 1" in first
    assert second == ""
    assert len(Record.load(tmp_path / "run.sqlite").steps()) == 10


def test_a_probe_on_another_rank_alone_sends_nothing_and_keeps_its_own(context, tmp_path: Path) -> None:
    assert run(context, tmp_path, to="run.sqlite", only=1) == ("", "")
    assert (tmp_path / "sampled1.txt").read_text() == "10"


def test_a_probe_that_fails_on_one_rank_leaves_the_other_measuring(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite", failing_at=7)
    assert "the Probe of rank 1 stopped measuring at step" in first
    assert "stopped measuring at step" in second
    record = Record.load(tmp_path / "run.sqlite")
    assert len(record.steps()) == 10
    assert record.value("activation", "0", "count", 0) == 2 * record.value("activation", "0", "count", 18)


def test_flat_parameters_are_refused_by_name() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(InputError, match=r"FSDP1.*fully_shard"):
        Probe(nn.Sequential(FullyShardedDataParallel()))
