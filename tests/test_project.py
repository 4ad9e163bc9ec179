"""What belongs to the project beside its code: documentation of every public name, the rooms' picture, the wheel."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unitgain import __version__

ROOT = Path(__file__).parents[1]


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_docs, check_wheel = script("check_docs"), script("check_wheel")


@pytest.mark.parametrize("page", [page for page, _ in check_docs.public()])
def test_every_public_room_has_a_page_in_the_reference(page: str) -> None:
    text = (ROOT / "docs" / "reference" / "python" / f"{page}.md").read_text(encoding="utf-8")
    assert "\n::: unitgain" in text
    assert f"reference/python/{page}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_built_documentation(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="make docs builds and checks them")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    assert check_docs.missing(tmp_path) == []


def test_the_check_of_the_documentation_sees_a_name_that_is_missing(tmp_path: Path) -> None:
    pages = tmp_path / "reference" / "python"
    pages.mkdir(parents=True)
    for page, names in check_docs.public():
        entries = "".join(f'<h2 id="unitgain.{page}.{name}"></h2>' for name in names if name != "Probe")
        (pages / f"{page}.html").write_text(entries)
    assert check_docs.missing(tmp_path) == ["unitgain: Probe", "probe: Probe"]


def test_the_picture_of_the_rooms_has_every_room() -> None:
    picture = (ROOT / "docs" / "images" / "architecture.svg").read_text(encoding="utf-8")
    rooms = [p.parent.name for p in (ROOT / "src" / "unitgain").glob("*/__init__.py")]
    assert not [room for room in rooms if f">{room}<" not in picture], "make docs draws it anew"


def test_the_citation_has_the_package_s_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_check_of_the_wheel_sees_what_is_missing_and_what_does_not_belong(tmp_path: Path) -> None:
    wheel, package = tmp_path / "unitgain-1-py3-none-any.whl", ROOT / "src" / "unitgain"
    files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]

    def write(names: list[str]) -> None:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in [*names, "unitgain-1.dist-info/licenses/LICENSE"]:
                archive.writestr(name, "")

    names = [f"unitgain/{p.relative_to(package).as_posix()}" for p in files]
    write(names)
    assert check_wheel.problems(wheel) == []
    write([name for name in names if name != "unitgain/models/costs.json"] + ["experiments/makemore.py"])
    assert check_wheel.problems(wheel) == [
        "missing: unitgain/models/costs.json",
        "does not belong there: experiments/makemore.py",
    ]


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_rows_of_a_table_have_the_cells_of_its_head(page: Path) -> None:
    """A merge had mixed the rows of two tables."""
    cells = 0
    for line in page.read_text(encoding="utf-8").splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and found) or found == cells, line
        cells = found
