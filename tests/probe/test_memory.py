"""Memory of a long run stays flat; a record is safe while it is written."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from torch import nn

import unitgain
from unitgain import Probe, Record


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_two_thousand_steps(tmp_path: Path) -> None:
    """A short form of the proof over 10,000 steps: nothing per step is kept, in Python or outside of it."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x = torch.randn(16, 8)

    def run(steps: int) -> None:
        for _ in range(steps):
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    with Probe(model, optimizer, to=tmp_path / "run.sqlite", strict=True, every=1) as probe:
        run(500)
        gc.collect()
        before = resident()
        run(1370)
        tracemalloc.start()
        run(10)
        gc.collect()
        held = [tracemalloc.get_traced_memory()[0]]
        for _ in range(3):  # what grows in one of them only is a cache of Python's or torch's
            run(40)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        grown = min(after - before for before, after in itertools.pairwise(held))
        assert grown < 15_000, f"{grown} bytes of Python objects in 40 steps"
        assert resident() - before < 12 * 2**20
    assert len(probe.record.steps()) == 2000


WRITER = """
import sys, torch
from torch import nn
from unitgain import Probe
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
with Probe(model, optimizer, to=sys.argv[1], every=1) as probe:
    step = 0
    while True:
        loss = model(torch.randn(16, 8)).square().mean()
        loss.backward()
        optimizer.step()
        probe.log(loss=loss)
        step += 1
        if step == 50:
            probe.flush()
            print("written", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_record_is_readable_while_it_is_written_and_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    source = str(Path(unitgain.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        live = Record.load(path)
        seen = len(live.steps())
        assert seen >= 50
        assert live.value("activation", "1", "std") > 0
        plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        assert plain.execute("SELECT count(*) FROM scalar").fetchone()[0] > 0
        plain.close()
        until = time.monotonic() + 20
        while len(live.steps()) <= seen and time.monotonic() < until:
            time.sleep(0.1)
        assert len(live.steps()) > seen, "what is written later is not seen"
        live.close()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    dead = Record.load(path)
    steps, losses = dead.metric("loss")
    assert len(dead.steps()) >= seen
    assert len(steps) >= seen
    assert (losses >= 0).all()
    assert dead.histograms("activation", "1")[0].counts.sum() == 128
    assert dead.frame("update", step=dead.steps()[-1])["absmax"].min() > 0
