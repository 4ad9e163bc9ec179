"""Who may import whom: the tables below. The reasons are in docs/decisions/0001-layout.md and docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
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
    "_run": set(),
    "_batch": {"_run"},
    "nn": {"_batch"},
    "optim": set(),
    "data": set(),
    "models": {"nn", "_batch"},
    "targets": {"models", "data", "_batch"},
    "graph": {"stats", "theory", "_batch", "_run"},
    "probe": {"stats", "record", "graph", "optim", "_batch", "_run"},
    "rules": {"record"},
    "report": {"record", "rules", "theory"},  # theory: plots.activation alone, when it is called
    "_check": {"stats", "graph", "probe", "record", "rules", "report", "remedies", "_batch", "_run", "optim"},
    "remedies": {"stats", "graph", "rules", "nn", "theory", "_batch", "_run"},
    "_fix": {"_run", "_check", "graph", "rules", "report", "remedies", "nn", "_batch"},
    "normfree": {"nn", "theory", "graph", "_batch", "_run", "optim", "rules", "report", "remedies", "_check"},
    "train": {"stats", "probe", "record", "rules", "_check", "_batch", "_run", "report", "remedies", "optim"},
    "integrations": {"probe", "record", "rules", "report", "optim", "_batch", "_check", "_fix", "targets"},
}
ALLOWED["view"] = {"record", "rules"}
ALLOWED["recipes"] = set(ALLOWED) | {"recipes"}
ALLOWED["demo"] = set(ALLOWED)
ALLOWED["cli"] = set(ALLOWED) | {"recipes", "demo"}
ALLOWED["__init__"] = set(ALLOWED)
ALLOWED["__main__"] = {"cli"}

# DESIGN's list, from the room that imports none to the one that may import all
ORDER = [
    "_version", "_base", "stats", "record", "theory", "_run", "_batch", "nn", "optim", "data", "models", "targets",
    "graph", "probe", "rules", "report", "remedies", "_check", "_fix", "normfree", "train", "recipes", "integrations",
    "view", "demo", "__init__", "cli", "__main__",
]  # fmt: skip

FILES = sorted(PACKAGE.rglob("*.py"))


def component(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, typing_too: bool = True) -> Iterator[tuple[list[str], str]]:
    """(module as a list of names from "unitgain" on, name that is taken from it or "") of every import in a file, also
    of those inside functions; typing_too: also of those that only a type checker makes."""
    package = ["unitgain", *path.relative_to(PACKAGE).parts[:-1]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in only_types and not typing_too:
            continue
        if isinstance(node, ast.Import):
            yield from (
                (alias.name.split("."), "") for alias in node.names if alias.name.split(".")[0] == "unitgain"
            )
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            if module[:1] == ["unitgain"]:
                yield from ((module, alias.name) for alias in node.names)


def file_of(module: list[str]) -> Path | None:
    """The file of unitgain.a.b, if there is one."""
    path = PACKAGE.joinpath(*module[1:])
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((p for p in found if p.is_file()), None)


def imported_components(path: Path) -> set[str]:
    """First-level names inside unitgain that a file imports anywhere, also inside functions."""
    found = {[*module, name][1] for module, name in imports(path) if len(module) > 1 or name}
    return {name for name in found if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}


def deep_imports(path: Path) -> set[str]:
    """ "room -> room.file" for every import of a file of another room past that room's __init__."""
    own, found = component(path), set()
    for module, name in imports(path):
        if len(module) < 2 or module[1] == own:
            continue
        room = module[1]
        if len(module) > 2:
            found.add(f"{own} -> {room}.{module[2]}")
        elif name and file_of([*module, name]) is not None and name not in offered(room):
            found.add(f"{own} -> {room}.{name}")
    return found


def offered(room: str) -> set[str]:
    """What a room's __init__ imports: names of its own, and files that it hands on as modules."""
    path = PACKAGE / room / "__init__.py"
    return {name for _, name in imports(path)} if path.exists() else set()


@pytest.mark.parametrize("path", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_imports_only_what_its_component_may(path: Path) -> None:
    own = component(path)
    assert own in ALLOWED, f"{own} is not in the table of components; add it there with a reason"
    forbidden = imported_components(path) - ALLOWED[own] - {own, "_base", "_version"}
    assert not forbidden, f"{own} may not import {sorted(forbidden)}"


def test_a_room_imports_only_rooms_above_it() -> None:
    for room in {component(path) for path in FILES}:
        above = set(ORDER[: ORDER.index(room)])
        taken = {name for path in FILES if component(path) == room for name in imported_components(path)}
        assert taken - {room} <= above, (
            f"{room} imports {sorted(taken - {room} - above)}, which come after it"
        )


def test_another_room_s_files_are_imported_through_its_init_only() -> None:
    found = {line for path in FILES for line in deep_imports(path)}
    assert not found, f"export the names from the room's __init__: {sorted(found)}"


def test_files_do_not_import_one_another_in_a_circle() -> None:
    """Also inside functions, where Python would allow it: files in a circle cannot be understood, or taken, alone."""
    graph: dict[Path, set[Path]] = {}
    for path in FILES:
        taken = (
            file_of([*module, name]) or file_of(module) for module, name in imports(path, typing_too=False)
        )
        graph[path] = {file for file in taken if file is not None} - {path}
    assert not circle(graph)


def circle(graph: Mapping[Path, set[Path]]) -> list[str]:
    """The names of the files of a circle, in order; none if there is no circle."""
    done: set[Path] = set()

    def search(file: Path, way: list[Path]) -> list[Path]:
        if file in way:
            return way[way.index(file) :]
        if file in done:
            return []
        for following in sorted(graph.get(file, ())):
            if found := search(following, [*way, file]):
                return found
        done.add(file)
        return []

    found = next((c for file in graph if (c := search(file, []))), [])
    return [str(file.relative_to(PACKAGE)) for file in found]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three rooms, for the checks themselves."""
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    for name in ("probe", "record", "stats"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    return tmp_path


def test_the_check_sees_relative_absolute_and_nested_imports(package: Path) -> None:
    file = package / "stats" / "x.py"
    file.write_text("import unitgain.probe\ndef f():\n    from ..record import Record\n")
    assert imported_components(file) == {"probe", "record"}


def test_the_check_sees_files_of_other_rooms(package: Path) -> None:
    file = package / "stats" / "x.py"
    for name in ("one", "two", "three"):
        (package / "record" / f"{name}.py").touch()
    (package / "record" / "__init__.py").write_text("from . import two\nfrom .three import three\n")
    file.write_text("from ..record import one, two, three\ndef f():\n    from ..record.three import three\n")
    assert deep_imports(file) == {"stats -> record.one", "stats -> record.three"}


def test_the_check_sees_circles_through_functions_but_not_through_types(package: Path) -> None:
    paths = [package / "stats" / f"{name}.py" for name in "abc"]
    paths[0].write_text("from .b import x\n")
    paths[1].write_text("def f():\n    from . import c\n")
    paths[2].write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import y\n")

    def found(typing_too: bool) -> list[str]:
        graph = {
            p: {f for m, n in imports(p, typing_too) if (f := file_of([*m, n]) or file_of(m))} for p in paths
        }
        return circle(graph)

    assert found(typing_too=False) == []
    assert found(typing_too=True) == ["stats/a.py", "stats/b.py", "stats/c.py"]


def test_import_unitgain_is_quick_and_does_not_load_drawing_libraries() -> None:
    import subprocess
    import sys

    heavy = ("matplotlib", "plotly", "wandb", "lightning")
    code = f"import sys, unitgain; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_works_from_a_saved_record_never_names_torch() -> None:
    """A Record is judged and reported where there is no model, so nothing there may reach for a tensor."""
    files = [file for file in FILES if component(file) in ("record", "rules", "report")]
    nodes = [(file, node) for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = {(f.name, alias.name) for f, n in nodes if isinstance(n, ast.Import) for alias in n.names}
    names |= {(f.name, n.module or "") for f, n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    assert not {(file, name) for file, name in names if name.split(".")[0] == "torch"}
