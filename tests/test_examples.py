"""Every example runs in an empty folder without a warning, and writes what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
WRITES = {
    "01_check_a_model.py": {"report-before.html", "report-after.html"},
    "02_watch_training.py": {"run.sqlite", "depth.png", "time.png", "updates.png", "color_dim.png"},
    "03_read_a_record.py": {"small-run.sqlite"},
    "04_check_in_ci.py": {"accepted.json"},
    "05_loss_landscape.py": {"landscape.png"},
}
SHORTER = {"05_loss_landscape.py": ("20", "5")}  # steps and points, in the place of 300 and 17


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UNITGAIN_CACHE": str(folder / "cache"), "MPLBACKEND": "Agg"}
    environment.pop("UNITGAIN_DATA", None)
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=280,
    )  # fmt: skip


def test_the_table_names_all_examples() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_an_example_runs_and_writes_its_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_bytes(b"left over from an earlier run")
    done = run(name, tmp_path, *SHORTER.get(name, ()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert WRITES[name] <= {path.name for path in tmp_path.iterdir()}


def test_the_ci_example_fails_on_a_new_finding_only(tmp_path: Path) -> None:
    codes = [run("04_check_in_ci.py", tmp_path, *a).returncode for a in ((), (), ("char_mlp_original",))]
    assert codes == [0, 0, 1]
