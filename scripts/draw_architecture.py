"""Draws docs/images/architecture.svg: the rooms of src/unitgain and who imports whom, read from the code.

    python scripts/draw_architecture.py

An arrow points to what is imported; an arrow that follows from two others is left out, and `_base`, which every room
imports, has none. `make docs` draws it anew, and a test fails while a room is missing in it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import test_architecture as rooms  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
ROLES = {
    "cli": "the command line",
    "demo": "unitgain demo",
    "view": "the live page",
    "integrations": "other libraries",
    "recipes": "complete trainings",
    "train": "Learner, callbacks",
    "normfree": "norms removed",
    "_fix": "the closed loop",
    "_check": "check, spp",
    "remedies": "changing a model",
    "report": "text, page, plots",
    "rules": "what is wrong",
    "probe": "measuring a model",
    "graph": "model's structure",
    "targets": "TARGET to model",
    "_run": "leaves no trace",
    "_batch": "forms of a batch",
    "models": "networks",
    "data": "data sets",
    "optim": "optimizers, AGC",
    "nn": "layers",
    "theory": "gains, predictions",
    "record": "measurements",
    "stats": "tensor to numbers",
    "_base": "errors, files, locks, text: every room imports it",
}
WIDTH, HEIGHT, GAP, ROW, MARGIN = 152, 60, 12, 120, 16


def graph() -> dict[str, set[str]]:
    """{room: rooms that it imports}, without the package itself."""
    found: dict[str, set[str]] = {}
    for path in rooms.FILES:
        own = rooms.component(path)
        if not own.startswith("__") and own != "_version":
            taken = rooms.imported_components(path) - {own, "_base", "_version"}
            found.setdefault(own, set()).update(taken)
    return found


def reduced(whole: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without the imports that others imply."""

    def reached(room: str) -> set[str]:
        return whole[room].union(*map(reached, whole[room]))

    return {room: taken - set().union(*map(reached, taken)) for room, taken in whole.items()}


def draw() -> str:
    whole = graph()
    edges = reduced(whole)
    levels: dict[str, int] = {"_base": 0}

    def level(room: str) -> int:
        if room not in levels:
            levels[room] = 1 + max(map(level, whole[room]), default=0)
        return levels[room]

    order = rooms.ORDER
    rows = [
        sorted((r for r in whole if level(r) == n), key=order.index)
        for n in range(1 + max(map(level, whole)))
    ]
    # every row is put in the order of what it imports, so that few arrows cross
    place: dict[str, float] = {}
    for row in rows:
        row.sort(
            key=lambda r: (
                sum(place[t] for t in edges[r]) / len(edges[r]) if edges[r] else 0.5,
                order.index(r),
            )
        )
        place |= {room: (i + 0.5) / len(row) for i, room in enumerate(row)}
    widest = max(map(len, rows))
    total = widest * (WIDTH + GAP) - GAP + 2 * MARGIN
    height = len(rows) * ROW - (ROW - HEIGHT) + 2 * MARGIN
    spots = {}
    for n, row in enumerate(rows):
        free = (total - 2 * MARGIN - len(row) * WIDTH) / (len(row) + 1)
        for i, room in enumerate(row):
            spots[room] = (MARGIN + free * (i + 1) + WIDTH * i, height - MARGIN - HEIGHT - n * ROW)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" font-family="sans-serif">',
        "<title>The rooms of unitgain, and who imports whom</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#5c6bc0"/></marker></defs>',
        f'<rect width="{total}" height="{height}" fill="white"/>',
    ]
    for room in order:
        for other in sorted(edges.get(room, ()), key=order.index):
            (x, y), (u, v) = spots[room], spots[other]
            x, u, y = x + WIDTH / 2, u + WIDTH / 2, y + HEIGHT
            bend = (v - y) / 2
            parts.append(
                f'<path d="M{x:.0f} {y:.0f}C{x:.0f} {y + bend:.0f} {u:.0f} {v - bend:.0f} {u:.0f} {v:.0f}" '
                'fill="none" stroke="#5c6bc0" stroke-width="1.3" opacity="0.8" marker-end="url(#head)"/>'
            )
    for room in sorted(spots, key=order.index):
        x, y = spots[room]
        width = WIDTH if room != "_base" else total - 2 * MARGIN
        x = x if room != "_base" else MARGIN
        fill, dash = ("#eeeeee", ' stroke-dasharray="4 3"') if room.startswith("_") else ("#e8eaf6", "")
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{HEIGHT}" rx="6" fill="{fill}" '
            f'stroke="#3949ab"{dash}/>'
            f'<text x="{x + width / 2:.0f}" y="{y + 26:.0f}" text-anchor="middle" font-size="22" '
            f'font-weight="bold" fill="#1a237e">{escape(room)}</text>'
            f'<text x="{x + width / 2:.0f}" y="{y + 48:.0f}" text-anchor="middle" font-size="16" '
            f'fill="#333333">{escape(ROLES[room])}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
