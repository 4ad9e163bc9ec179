"""The loop of the README in a data-parallel job: no rank's Probe stands in another one's way, or in training's."""

from __future__ import annotations

import math
import multiprocessing
import socket
import time
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


def run(context, folder: Path, world: int = 2, exits: tuple[int, ...] = (), **options) -> tuple[str, ...]:
    """The ranks' warnings; "" of one that did not come to its end. exits: what is expected of the processes, if not
    zeros."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = [
        context.Process(target=one_rank.run, args=(rank, world, port, folder), kwargs=options)
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
    assert tuple(p.exitcode for p in processes) == (exits or (0,) * world)
    files = [folder / f"warnings{rank}.txt" for rank in range(world)]
    return tuple(file.read_text() if file.exists() else "" for file in files)


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


@pytest.mark.parametrize(
    ("how", "world"),
    [
        ("ddp", 2),
        ("fsdp", 2),
        ("fsdp of uneven parts", 2),
        ("hybrid", 2),
        ("tensor", 2),
        ("hybrid", 4),
        ("2-d", 4),
    ],
)
def test_what_several_ranks_measure_is_what_one_process_would(
    context, tmp_path: Path, how: str, world: int
) -> None:
    """Of parameters that are cut up, too: each rank has some of the values that the sample takes of the whole. "2-d":
    layers cut into units, and these into the parts of FSDP2."""
    assert set(run(context, tmp_path, world, how=how, to="run.sqlite", limit=None)) == {""}
    many = Record.load(tmp_path / "run.sqlite")
    one = one_rank.alone(how)
    assert many.steps() == one.steps() == [0, 2, 4]
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        for step in one.steps():
            wanted, found = one.values(kind, step), many.values(kind, step)
            assert set(found) == set(wanted), kind
            for name, row in wanted.items():
                if how in ("tensor", "2-d") and kind in ("activation", "gradient") and name in ("0", "1"):
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


@pytest.mark.parametrize(
    ("how", "world"), [("ddp", 2), ("fsdp of uneven parts", 2), ("tensor", 2), ("hybrid", 4), ("2-d", 4)]
)
def test_several_ranks_clip_as_one_process_does(context, tmp_path: Path, how: str, world: int) -> None:
    """With the classifier found by what runs, whoever holds its weight."""
    assert set(run(context, tmp_path, world, how=how, clipping=0.02)) == {""}
    wanted = one_rank.clip_alone(how, 0.02)
    for rank in range(world):
        for mine, theirs in zip(torch.load(tmp_path / f"weights{rank}.pt"), wanted):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_probe_on_rank_0_alone_stops_nobody_and_names_who_is_missing(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite", only=0)
    assert "there is no Probe of this Sequential on rank 1" in first
    assert second == ""
    assert len(Record.load(tmp_path / "run.sqlite").steps()) == 10


def test_a_probe_on_another_rank_alone_sends_nothing_and_keeps_its_own(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite", only=1)
    assert first == ""
    assert "no Probe of this Sequential on rank 0" in second
    assert (tmp_path / "sampled1.txt").read_text() == "10"


def test_a_probe_that_fails_on_one_rank_leaves_the_other_measuring(context, tmp_path: Path) -> None:
    first, second = run(context, tmp_path, to="run.sqlite", failing_at=7)
    assert "the Probe of rank 1 stopped measuring at step" in first
    assert "stopped measuring at step" in second
    record = Record.load(tmp_path / "run.sqlite")
    assert len(record.steps()) == 10
    assert record.value("activation", "0", "count", 0) == 2 * record.value("activation", "0", "count", 18)


@pytest.mark.parametrize(
    "ways", [(("fsdp", 2), ("2-d", 4)), (("2-d", 4), ("ddp", 1)), (("ddp", 1), ("fsdp", 2))]
)
def test_a_checkpoint_goes_on_with_another_number_of_ranks(context, tmp_path: Path, ways) -> None:
    """A distributed checkpoint of torch: weights, clipping, record and steps are those of one process that never
    stopped."""
    for (how, world), steps in zip(ways, [(0, 3), (3, 6)]):
        assert set(run(context, tmp_path, world, how=how, checkpoint=tmp_path / "dcp", steps=steps)) == {""}
    wanted, one = one_rank.train_on_alone("", 6)
    for rank in range(ways[1][1]):
        for mine, theirs in zip(torch.load(tmp_path / f"weights{rank}.pt"), wanted):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    many = Record.load(tmp_path / "run.sqlite")
    assert many.steps() == one.steps() == list(range(6))
    for kind in ("input", "parameter", "parameter_gradient", "update"):
        for step in one.steps():
            wanted, found = one.values(kind, step), many.values(kind, step)
            assert set(found) == set(wanted)
            for name, row in wanted.items():
                assert found[name]["rms"] == pytest.approx(row["rms"], rel=2e-3, abs=1e-6), (kind, name, step)


def test_a_rank_that_dies_leaves_none_waiting_for_its_measurements(context, tmp_path: Path) -> None:
    """What ends is the user's own training, with torch's error, and the record holds what was measured until then."""
    began = time.monotonic()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes = [
        context.Process(
            target=one_rank.run, args=(rank, 2, port, tmp_path), kwargs={"to": "run.sqlite", "dying_at": 8}
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    ended = [p.exitcode for p in processes]
    for process in processes:
        process.kill()
    assert ended[1] == 3
    assert ended[0] not in (None, 0), "torch says that the other rank is gone"
    assert time.monotonic() - began < 90
    record = Record.load(tmp_path / "run.sqlite")
    assert record.steps()[:4] == [0, 2, 4, 6]
    assert record.value("activation", "0", "count", 6) == 2 * 12 * 8


def test_flat_parameters_are_refused_by_name(context, tmp_path: Path) -> None:
    """By Probe, watch and AGC, of the real FSDP1: its flat parameters have neither layers nor units."""
    assert set(run(context, tmp_path, 1, how="flat")) == {""}


def test_flat_parameters_inside_of_a_model_are_refused_too() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(InputError, match=r"FSDP1.*fully_shard"):
        Probe(nn.Sequential(FullyShardedDataParallel()))
