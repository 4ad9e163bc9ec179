"""The source that draws one picture: its row of the table, and what that refers to, through all files of this folder.

So one more kind of picture leaves the others as they are; what all share (_paper.py, _example.py) counts as a whole.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
WHOLE = ("_paper", "_example")


def of_row(code: str) -> list[str]:
    """Program texts, in a fixed order."""
    rows = _definitions("table")["PICTURES"]
    assert isinstance(rows, ast.AnnAssign)
    assert isinstance(rows.value, ast.Dict)
    row = next(
        v for k, v in zip(rows.value.keys, rows.value.values) if k is not None and ast.literal_eval(k) == code
    )
    found: dict[tuple[str, str], str] = {}
    _collect("table", row, found)
    return [
        _text("table", row),
        *(found[name] for name in sorted(found)),
        *map(_source, WHOLE),
    ]


def _collect(file: str, node: ast.AST, found: dict[tuple[str, str], str]) -> None:
    for place in _referred(file, node):
        definition = _definitions(place[0]).get(place[1])
        if definition is not None and place not in found:
            found[place] = _text(place[0], definition)
            _collect(place[0], definition, found)


def _referred(file: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """(file, name) of whatever of this folder a piece of code may mean."""
    imported = _imports(file)
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in imported:
            yield part.value.id, part.attr  # layers.running, where `from . import layers` stands above
        elif isinstance(part, ast.Name):
            yield imported.get(part.id) or file, part.id


def _text(file: str, node: ast.AST) -> str:
    """As it stands in the file, which is the same for every Python."""
    return ast.get_source_segment(_source(file), node) or ""


@cache
def _source(file: str) -> str:
    return (FOLDER / f"{file}.py").read_text(encoding="utf-8")


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse(_source(file))


@cache
def _definitions(file: str) -> dict[str, ast.stmt]:
    """What stands at the top of a file, by name; nothing of those that count as a whole."""
    found: dict[str, ast.stmt] = {}
    if file in WHOLE or not (FOLDER / f"{file}.py").exists():
        return found
    for node in _tree(file).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


@cache
def _imports(file: str) -> dict[str, str]:
    """{name: the file of this folder that it comes from}; a file itself comes from ""."""
    found: dict[str, str] = {}
    for node in _tree(file).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {name.name: node.module or "" for name in node.names}
    return found
