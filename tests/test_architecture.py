"""Who may import whom: the table below. The reasons are in docs/decisions/0001-layout.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "unitgain"

# A room imports only rooms above it in this list (DESIGN, section 1). What it takes is written out, so that a new
# dependency is a decision and not an accident.
ALLOWED: dict[str, set[str]] = {
    "_version": set(),
    "_base": set(),
    "stats": set(),
    "record": set(),
    "theory": set(),
    "_batch": set(),
    "nn": {"_batch"},
    "optim": set(),
    "data": set(),
    "models": {"nn", "_batch"},
    "_run": set(),
    "targets": {"models", "data", "_batch"},
    "graph": {"stats", "theory", "_batch", "_run"},
    "probe": {"stats", "record", "graph", "optim", "_batch", "_run"},
    "rules": {"record"},
    "report": {"record", "rules"},
    "_check": {"stats", "graph", "probe", "record", "rules", "report", "_batch", "_run", "optim"},
    "remedies": {"stats", "graph", "rules", "nn", "theory", "_batch", "_run"},
    "_fix": {"_run", "_check", "graph", "rules", "report", "remedies", "nn", "_batch"},
    "normfree": {"nn", "theory", "graph", "probe", "remedies"},
    "train": {"stats", "probe", "record", "rules", "_check", "_batch", "_run", "report", "remedies", "optim"},
    "integrations": {"probe", "record", "report"},
}
ALLOWED["recipes"] = set(ALLOWED) | {"recipes"}
ALLOWED["demo"] = set(ALLOWED)
ALLOWED["cli"] = set(ALLOWED) | {"recipes", "demo"}
ALLOWED["__init__"] = set(ALLOWED)
ALLOWED["__main__"] = {"cli"}

FILES = sorted(PACKAGE.rglob("*.py"))


def component(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_components(path: Path) -> set[str]:
    """First-level names inside unitgain that a file imports anywhere, also inside functions."""
    parts = ["unitgain", *path.relative_to(PACKAGE).with_suffix("").parts]
    package = parts[:-1]  # of __init__.py too: its own directory is parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            modules = [[*base, alias.name] for alias in node.names]
        else:
            continue
        found |= {m[1] for m in modules if m[0] == "unitgain" and len(m) > 1}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_imports_only_what_its_component_may(path: Path) -> None:
    own = component(path)
    assert own in ALLOWED, f"{own} is not in the table of components; add it there with a reason"
    forbidden = imported_components(path) - ALLOWED[own] - {own, "_base", "_version"}
    assert not forbidden, f"{own} may not import {sorted(forbidden)}"


def test_the_check_sees_relative_absolute_and_nested_imports(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for name in ("probe", "record", "stats"):
        (tmp_path / name).mkdir()
    file = tmp_path / "stats" / "x.py"
    file.write_text("import unitgain.probe\ndef f():\n    from ..record import Record\n")
    assert imported_components(file) == {"probe", "record"}


def test_what_works_from_a_saved_record_never_names_torch() -> None:
    """A Record is judged and reported where there is no model, so nothing there may reach for a tensor."""
    files = [file for file in FILES if component(file) in ("record", "rules", "report")]
    nodes = [(file, node) for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = {(f.name, alias.name) for f, n in nodes if isinstance(n, ast.Import) for alias in n.names}
    names |= {(f.name, n.module or "") for f, n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    assert not {(file, name) for file, name in names if name.split(".")[0] == "torch"}
