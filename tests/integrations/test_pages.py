"""The code of the how-to pages runs, and prints what they show."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "integrations"
NEEDS = {
    "lightning": "lightning",
    "huggingface": "accelerate",
    "fastai": "fastai",
    "interoperation": "opacus",
}
LIGHT = [page.stem for page in sorted(PAGES.glob("*.md")) if page.stem not in NEEDS]


def documents():
    """The runner of documents: tests/test_readme.py has it."""
    spec = importlib.util.spec_from_file_location("document_runner", ROOT / "tests" / "test_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_page(tmp_path, monkeypatch):
    def run(name: str) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        text = re.sub(r"^```(yaml|sh|json)\n.*?^```$", "", text, flags=re.M | re.S)
        documents().run_document(text)

    return run


@pytest.mark.parametrize("name", LIGHT)
def test_what_the_page_shows_is_what_happens(name, run_page) -> None:
    run_page(name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NEEDS)
def test_what_the_page_of_a_library_shows_is_what_happens(name, run_page, torchvision_operators) -> None:
    pytest.importorskip(NEEDS[name])
    run_page(name)


def test_the_test_on_the_page_about_pytest_passes(tmp_path) -> None:
    blocks = re.findall(r"^```python\n(# test_net\.py\n.*?)^```$", (PAGES / "ci.md").read_text(), re.M | re.S)
    (tmp_path / "test_net.py").write_text(blocks[0])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:unitgain",
        "-p",
        "unitgain.integrations.pytest_plugin",
    ]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_net.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
