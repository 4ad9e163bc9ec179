"""Two ranks with half of each batch are one process with the whole of it, unless batch statistics come in."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import numpy as np
import pytest
import ranks

import unitgain as ug


@pytest.fixture(scope="module")
def context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "unitgain.train"])
    return context


def port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(context, kind: str, world: int, folder: Path, **options) -> Path:
    folder.mkdir(exist_ok=True)
    at = port()
    processes = [context.Process(target=ranks.run, args=(kind, rank, world, at, folder), kwargs=options)
                 for rank in range(world)]  # fmt: skip
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for process in processes:
        process.kill()
    assert [p.exitcode for p in processes] == [0] * world
    return folder


def test_two_ranks_give_the_curve_of_one_process(context, tmp_path: Path) -> None:
    one = run(context, "plain", 1, tmp_path / "one")
    two = run(context, "plain", 2, tmp_path / "two")
    a, b = ranks.losses(one), ranks.losses(two)
    assert len(a) == len(b) == 50
    assert np.abs(np.subtract(a, b)).max() < 1e-5
    assert (two / "rank0.txt").read_text() == (two / "rank1.txt").read_text(), "all ranks know the same"
    record, merged = (ug.Record.load(f / "run.sqlite") for f in (one, two))
    for name in ("valid_loss", "accuracy", "train_loss"):
        assert record.metric(name)[1] == pytest.approx(merged.metric(name)[1], abs=1e-5)
    assert record.steps() == merged.steps() == [0, 10, 20, 30, 40]
    for kind in ("input", "activation", "gradient", "parameter", "parameter_gradient", "update"):
        left, right = record.frame(kind), merged.frame(kind)
        assert left["site"].tolist() == right["site"].tolist()
        for statistic in (
            "count",
            "mean",
            "std",
            "rms",
            "min",
            "max",
            "sq_channel_mean",
            "channel_var",
            "saturated",
            "dead",
        ):
            np.testing.assert_allclose(
                left[statistic], right[statistic], rtol=2e-4, atol=1e-6, err_msg=f"{kind} {statistic}"
            )


def test_batch_statistics_make_a_difference(context, tmp_path: Path) -> None:
    one = run(context, "batchnorm", 1, tmp_path / "one")
    two = run(context, "batchnorm", 2, tmp_path / "two")
    difference = np.abs(np.subtract(ranks.losses(one), ranks.losses(two)))
    assert difference.max() > 1e-2


@pytest.mark.parametrize("kind", ["loader", "list"])
def test_other_loaders_are_shared_too(context, tmp_path: Path, kind: str) -> None:
    one = run(context, kind, 1, tmp_path / "one")
    two = run(context, kind, 2, tmp_path / "two")
    assert np.abs(np.subtract(ranks.losses(one), ranks.losses(two))).max() < 1e-5


def test_ranks_resume_together(context, tmp_path: Path) -> None:
    whole = run(context, "plain", 2, tmp_path / "whole")
    parts = run(context, "plain", 2, tmp_path / "parts", epochs=1)
    run(context, "plain", 2, tmp_path / "parts", resume=True)
    assert ranks.losses(whole) == ranks.losses(parts)
    assert (whole / "rank1.txt").read_text() == (parts / "rank1.txt").read_text()


@pytest.mark.parametrize("world", [1, 4])
def test_a_checkpoint_of_two_ranks_goes_on_with_another_number(context, tmp_path: Path, world: int) -> None:
    whole = run(context, "plain", 1, tmp_path / "whole")
    parts = run(context, "plain", 2, tmp_path / "parts", epochs=1)
    run(context, "plain", world, tmp_path / "parts", resume=True)
    a, b = ranks.losses(whole), ranks.losses(parts)
    assert len(a) == len(b) == 50
    assert np.abs(np.subtract(a, b)).max() < 1e-5
