"""Runs watched in a terminal, over ssh say: state, curve of the loss, update ratios, layers to look at, findings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .._base import console, printable
from . import data
from .judging import Judge
from .run import Run, name_apart

EVERY = 1.0  # seconds between two pictures
MOST_FINDINGS, MOST_LAYERS = 8, 6
_BARS = "▁▂▃▄▅▆▇█"
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "healthy": "green", "sick": "red", "unknown": "yellow",
           "running": "green", "stopped": "red", "waiting": "yellow", "ended": "dim"}  # fmt: skip


def show(runs: Sequence[Run], *, screen: Any = None) -> None:
    """Draws the runs again and again until it is interrupted, or all of them have ended. Where the output is no
    terminal, once.

    screen  a rich Console; None is the standard output
    """
    from rich.live import Live

    name_apart(runs)
    screen = screen or console()
    judge = Judge(runs)
    if not screen.is_terminal:
        judge.judge()
        screen.print(picture(runs, judge, screen.width))
        return
    judge.start()
    try:
        with Live(picture(runs, judge, screen.width), console=screen, auto_refresh=False) as live:
            while True:
                time.sleep(EVERY)
                live.update(picture(runs, judge, screen.width), refresh=True)
                if all(run.state() == "ended" for run in runs) and all(
                    judge.of(run).diagnosis for run in runs
                ):
                    judge.judge()
                    live.update(picture(runs, judge, screen.width), refresh=True)
                    return
    except KeyboardInterrupt:
        pass
    finally:
        judge.stop()


def picture(runs: Sequence[Run], judge: Judge, width: int) -> Any:
    """All runs below one another as one rich renderable."""
    from rich.console import Group
    from rich.text import Text

    found = data.overview(runs, [judge.of(run) for run in runs])["runs"]
    parts: list[Any] = []
    for run in found:
        parts += [*_of_run(run, width, alone=len(found) == 1), Text()]
    return Group(*parts[:-1])


def _of_run(run: dict[str, Any], width: int, alone: bool) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    state = run["state"]
    head = Text.assemble((run["name"], "bold"), "  ", (state, _COLORS.get(state, "")))
    ago = time.time() - run["changed"]
    more = [run["model"], f"step {run['step']:,}", f"{run['sampled']:,} sampled"]
    if state in ("running", "stopped") and ago > 10:
        more.append(f"last written {_span(ago)} ago")
    head.append("".join(f" · {part}" for part in more if part), style="dim")
    parts: list[Any] = [head]
    if run["trouble"]:
        parts.append(Text(run["trouble"], style="yellow"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    room = max(10, min(60, width - 34))
    for name, (_, values) in _ordered(run["metrics"])[: 6 if alone else 2]:
        last = next((v for v in reversed(values) if v is not None), None)
        grid.add_row(
            Text(printable(name, 20), "dim"), "NaN" if last is None else f"{last:.4g}", bars(values, room)
        )
    if run["updates"]["middle"]:
        middle = run["updates"]["middle"]
        grid.add_row(Text("log10 update:data", "dim"), f"{middle[-1]:.1f}", bars(middle, room))
    if grid.row_count:
        parts.append(grid)
    if run["verdict"]:
        parts.append(Text(run["verdict"], style=f"bold {_COLORS.get(run['status'], '')}"))
    for finding in run["findings"][: MOST_FINDINGS if alone else 3]:
        line = Text.assemble(
            (f"  {finding['severity']} ", _COLORS.get(finding["severity"], "")), (finding["code"], "bold")
        )
        line.append(f" {finding['message']}")
        if finding["since"] is not None:
            line.append(f"  (since step {finding['since']:,})", style="dim")
        parts.append(line)
    if alone and run["worst"]:
        layers = ", ".join(_layer(one) for one in run["worst"][:MOST_LAYERS])
        parts.append(Text.assemble(("dead or saturated  ", "dim"), layers))
    return parts


def _ordered(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    """The loss first."""
    return sorted(metrics.items(), key=lambda pair: (pair[0] != "loss", "loss" not in pair[0]))


def _layer(one: dict[str, Any]) -> str:
    shares = [f"{100 * one[key]:.0f}% {key}" for key in ("dead", "saturated") if one[key]]
    return f"{printable(one['site'], 40)} {' and '.join(shares)}"


def bars(values: Sequence[float | None], width: int) -> str:
    """Values as bars between their lowest and highest; where one is not finite, a gap.

    >>> bars([3.0, 2.0, None, 1.0], 10)
    '█▅ ▁'
    """
    size = max(1, -(-len(values) // width))
    parts = [values[i : i + size] for i in range(0, len(values), size)]
    means = [
        sum(known) / len(known) if (known := [v for v in part if v is not None]) else None for part in parts
    ]
    finite = [m for m in means if m is not None]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if m is None else _BARS[int((m - low) * scale + 0.5)] for m in means)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
