"""`make gpu` without a GPU: it skips with a clear line, and its grid runs on tiny models, so that the first run on a
real GPU does not die of a typo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
def test_without_a_gpu_make_gpu_says_so_and_succeeds(tmp_path: Path) -> None:
    done = run("scripts/gpu.py", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "skipped" in done.stdout
    assert not list(tmp_path.iterdir())


ALL = "train|nfnet|compiled"


@pytest.mark.parametrize("only", ["agc|gpt", pytest.param(ALL, marks=pytest.mark.slow)])
@pytest.mark.reference
def test_every_row_of_the_grid_can_be_measured(tmp_path: Path, only: str) -> None:
    log, page = tmp_path / "log", tmp_path / "page.md"
    log.write_text(
        "FAILED tests/gpu/test_x.py::test_y - AssertionError\n==== 1 failed, 2 passed in 3.21s ====\n"
    )
    command = ("benchmarks/gpu.py", "--device", "cpu", "--tiny", "--only", only, "--tests", str(log))
    done = run(*command, "--out", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "failed:" not in text, text
    assert "1 failed, 2 passed" in text
    assert "FAILED tests/gpu/test_x.py" in text
    assert str(tmp_path) not in text, "the page must not tell where it was made"
    if only == ALL:
        assert text.count("| ours") == 6
    else:
        assert text.count("| Probe, every=") == 4
        assert "| ug.optim.agc_ |" in text


@pytest.mark.slow
def test_the_gpu_tests_logic_is_sound() -> None:
    """On the CPU: what they expect is what the code does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "UNITGAIN_GPU_TESTS": "cpu"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
