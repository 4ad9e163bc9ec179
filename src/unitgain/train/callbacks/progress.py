"""Progress: a live table of metrics with the loss as a sparkline, in a terminal or below a notebook's cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..._base import Cell, console, printable, say
from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner

_BARS = "▁▂▃▄▅▆▇█"
_EVERY = 0.2  # seconds between two readings of the loss, each of which waits for an accelerator
_IN_A_CELL = 0.5  # the same in a notebook, to whose page every picture is sent
_WIDTH = 32


def sparkline(values: list[float], width: int = _WIDTH) -> str:
    """Values as bars between their smallest and largest; many are averaged into `width` ones.

    >>> sparkline([3, 2, 1, 1])
    '█▅▁▁'
    """
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    if not finite:
        return ""
    size = max(1, -(-len(finite) // width))
    means = [sum(part) / len(part) for i in range(0, len(finite), size) if (part := finite[i : i + size])]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[int((m - low) * scale + 0.5)] for m in means)


class Progress(Callback):
    """Draws, while training runs, one row of metrics per epoch, and below it the progress and the curve of the loss.

    console  a rich Console; None is the standard output, or the output of a notebook's cell. Nothing is drawn where
             that is not a terminal
    plain    where nothing is drawn, print one line per epoch instead of nothing
    table    False: only the line of the epoch that runs, which vanishes in the end, for trainings that print their own
             line per epoch
    """

    order = 90
    essential = False

    def __init__(self, console: Any = None, *, plain: bool = False, table: bool = True):
        self.console, self.plain, self.table = console, plain, table
        self._live: Any = None
        self._cell: Cell | None = None
        self._rows: list[tuple[int, dict[str, float], float]] = []
        self._losses: list[float] = []
        self._looked = self._began = 0.0

    def before_fit(self, learn: Learner) -> None:
        from rich.live import Live

        self._rows, self._losses, self._looked = [], [], 0.0
        screen = self.console or console()
        if learn.rank == 0 and screen.is_terminal:
            self._live = Live(console=screen, auto_refresh=False, transient=not self.table)
            self._live.start()
        elif learn.rank == 0 and self.console is None:
            self._cell = Cell.here()

    def before_epoch(self, learn: Learner) -> None:
        self._began = time.monotonic()

    def after_batch(self, learn: Learner) -> None:
        now = time.monotonic()
        drawn = self._live is not None or self._cell is not None
        if not drawn or now - self._looked < (_EVERY if self._cell is None else _IN_A_CELL):
            return
        self._looked = now
        if learn.training:
            self._losses.append(float(learn.loss.detach()))
        self._show(self._draw(learn))

    def _show(self, drawn: Any) -> None:
        if self._live is not None:
            self._live.update(drawn, refresh=True)
        elif self._cell is not None:
            self._cell.show(drawn)

    def after_epoch(self, learn: Learner) -> None:
        row = (learn.epoch, dict(learn.metrics), time.monotonic() - self._began)
        self._rows.append(row)
        if self._live is not None or self._cell is not None:
            self._show(self._draw(learn, ended=learn.epoch + 1 == learn.epochs))
        elif self.plain and learn.rank == 0:
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in row[1].items())
            say(f"epoch {row[0] + 1}/{learn.epochs}  {numbers}  {row[2]:.1f} s")

    def cleanup_fit(self, learn: Learner) -> None:
        if len(self._rows) <= learn.epoch:  # interrupted: where it stands
            self._show(self._draw(learn))
        live, self._live = self._live, None
        cell, self._cell = self._cell, None
        if live is not None:
            live.stop()
        if cell is not None and not self.table:
            cell.show("")

    def _draw(self, learn: Learner, ended: bool = False) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        names = list(dict.fromkeys(name for _, metrics, _ in self._rows for name in metrics))
        table = Table(box=None, pad_edge=False)
        for name in ("epoch", *names, "s"):
            table.add_column(Text(printable(name, 40)), justify="right")
        for epoch, metrics, seconds in self._rows:
            values = (f"{metrics[n]:.4g}" if n in metrics else "" for n in names)
            table.add_row(str(epoch + 1), *values, f"{seconds:.1f}")
        if ended:
            return table if self.table else Text()
        total = learn.batches if learn.training else None
        where = f"epoch {learn.epoch + 1}/{learn.epochs} {'train' if learn.training else 'valid'} "
        where += f"{learn.batch_index + 1}" + (f"/{total}" if total else "")
        loss = f"  loss {self._losses[-1]:.4g} {sparkline(self._losses)}" if self._losses else ""
        return Group(table, Text(where + loss)) if self._rows and self.table else Text(where + loss)


class Sweep(Progress):
    """A line that vanishes, while a learning rate is looked for: how far the rates have come.

    planned, rates  all rates, and those that were tried so far, which the list gets while it runs
    """

    def __init__(self, console: Any, planned: Sequence[float], rates: Sequence[float]):
        super().__init__(console, table=False)
        self.planned, self.rates = planned, rates

    def _draw(self, learn: Learner, ended: bool = False) -> Any:
        from rich.text import Text

        rate = f", learning rate {self.rates[-1]:.1e}" if self.rates else ""
        loss = f"  loss {self._losses[-1]:.4g} {sparkline(self._losses)}" if self._losses else ""
        return Text(f"step {len(self.rates)}/{len(self.planned)}{rate}{loss}")
