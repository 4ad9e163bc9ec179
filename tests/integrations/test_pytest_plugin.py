"""The fixture `unitgain` in a project of its own, run by pytest as its user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
NET = """
import pytest
import torch
from torch import nn


def net(std):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    nn.init.normal_(model[2].weight, std=std)
    return model


batch = torch.randn(64, 16), torch.randint(4, (64,))
"""


@pytest.fixture
def project(tmp_path):
    def run(test: str, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_net.py").write_text(NET + test)
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:unitgain", "-p", "unitgain.integrations.pytest_plugin",
            "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path), *options, "test_net.py",
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_sick_model_fails_with_its_report_and_a_healthy_one_passes(project) -> None:
    done = project("""
def test_sick(unitgain):
    unitgain.assert_healthy(net(5.0), batch)

def test_healthy(unitgain):
    report = unitgain.assert_healthy(net(0.18), batch, "cross_entropy", ignore=["UG605"])
    assert report.ok

def test_only_errors(unitgain):
    unitgain.assert_healthy(net(5.0), batch, select=["UG605"], fail_on="error")

def test_nothing_could_be_judged(unitgain):
    unitgain.assert_healthy(net(0.18), batch, select=["UG504"])
""", "--junit-xml", "out.xml")  # fmt: skip
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert "Sequential is not healthy" in done.stdout
    assert "UG303 saturated" in done.stdout
    assert "cannot tell" in done.stdout
    assert "pytest_plugin.py" not in done.stdout.split("short test summary")[0]  # the trace ends in the test


def test_a_baseline_is_written_when_asked_and_accepts_what_was_there(project, tmp_path) -> None:
    test = """
def test_net(unitgain):
    unitgain.assert_healthy(net(5.0), batch, baseline="accepted.json")

def test_further(unitgain):
    with pytest.raises(AssertionError, match="UG202"):
        unitgain.assert_healthy(net(5.0), (batch[0] * float("nan"), batch[1]), baseline="accepted.json")
"""
    missing = project(test)
    assert "pytest --unitgain-accept writes it" in missing.stdout
    assert project(test, "--unitgain-accept", "-k", "not further").returncode == 0
    assert (tmp_path / "accepted.json").exists()
    done = project(test)
    assert done.returncode == 0, done.stdout


def test_the_plugin_costs_a_project_without_models_nothing() -> None:
    code = (
        "import sys, unitgain.integrations.pytest_plugin\n"
        "print([m for m in ('torch', 'numpy', 'rich', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr
