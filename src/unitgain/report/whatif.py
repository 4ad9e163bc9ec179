"""WhatIf: one network in several settings, trained a little in each: the pictures, the outcome, the findings."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import card, paragraph, plain_console, printable, table
from ..record import Record
from ..rules import Finding
from .json_report import dumps, plain
from .report import Report, save_text
from .text import number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_ERRORS = 2.0  # standard errors of a difference below which it says nothing
_LEAST = 0.005  # of the loss at the start: a smaller difference after a short training says nothing either


@dataclass(frozen=True)
class Setting:
    """One network of a what-if, and what came of it.

    values    {what was varied: its value, as it was given}: {"gain": "5/3"}; {"": its name} of a lesson's network
    changes   what was changed in the network, one line for each place
    notes     what could not be changed, one line each
    start     the report of `check` on the network before its training
    training  what a Probe recorded of the first seed's training
    findings  those at the start, then what its training adds
    losses    for each seed the loss of every training step; the last one is NaN or infinite where it ended early
    before, after   for each seed the loss on what is judged, before and after; infinite where the training ended early
    accuracy  for each seed the share of right classes after; empty where there are no classes
    stopped   the first step at which a loss was not finite, None if there was none
    sites     names of the activation functions, as those of the network before anything was changed
    """

    values: Mapping[str, str]
    changes: tuple[str, ...]
    notes: tuple[str, ...]
    start: Report
    training: Record
    findings: tuple[Finding, ...]
    losses: tuple[tuple[float, ...], ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    accuracy: tuple[float, ...] = ()
    stopped: int | None = None
    sites: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """
        >>> Setting({"gain": "5/3", "norm": "batch"}, (), (), None, None, (), (), (), ()).name
        'gain=5/3, norm=batch'
        """
        return ", ".join(f"{key}={value}" if key else value for key, value in self.values.items())

    @property
    def loss(self) -> float:
        """Mean of the loss after over the seeds; infinite where a training ended early."""
        return float(np.mean(self.after)) if self.after else math.nan

    @property
    def noise(self) -> float:
        """Standard deviation of the loss after over the seeds; NaN of a single seed."""
        finite = [value for value in self.after if math.isfinite(value)]
        return float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan

    def layers(self) -> list[dict[str, float | str]]:
        """Of every activation function before training: site, mean, std, saturated, zero, and the gradient's std."""
        return [_row(self.start.record, name) for name in self.shown_sites()]

    def shown_sites(self) -> list[str]:
        """The activation functions; where they were taken out, what stands in their places."""
        record = self.start.record
        own = [s.name for s in record.sites("activation") if s.attributes.get("role") == "activation"]
        return (
            own
            or [name for name in self.sites if record.site("activation", name)]
            or activation_names(record)
        )

    def update_ratio(self) -> float:
        """Median over the weights, at the last sampled step, of log10(std(update) / std(weight)); NaN if there is
        none."""
        found = []
        for site in self.training.sites("update"):
            if len(site.shape) > 1:
                _, values = self.training.series("update", site.name, "ratio")
                found += [v for v in values[-1:] if math.isfinite(v)]
        return float(np.median(found)) if found else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything but the records as plain data."""
        updates = {}
        for site in self.training.sites("update"):
            if len(site.shape) > 1:
                steps, values = self.training.series("update", site.name, "ratio")
                updates[site.name] = [[int(step), float(value)] for step, value in zip(steps, values)]
        return {
            "values": dict(self.values),
            "changes": list(self.changes),
            "notes": list(self.notes),
            "before": list(self.before),
            "after": list(self.after),
            "accuracy": list(self.accuracy),
            "stopped": self.stopped,
            "losses": [list(course) for course in self.losses],
            "layers": self.layers(),
            "update_ratios": updates,
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class WhatIf:
    """The outcome of `unitgain.whatif`: the same network in several settings.

    print(result)              a table: a column for each setting
    result.save("gain.html")   one page with the pictures; .json, .md and .txt by the same call
    result.settings            a `Setting` for each, with its Record and findings
    result.to_dict()           everything as plain data

    model, vary     its class; {what was varied: the values, as they were given}
    steps, seeds    of each training
    optimizer       which one trained, in words
    judged_on       what the losses before and after were measured on, in words
    conditions      further words on how it was run: batch size, shuffled weights
    command         the command that gives it again; "" from Python
    """

    model: str
    vary: Mapping[str, tuple[str, ...]]
    settings: tuple[Setting, ...]
    steps: int
    seeds: int
    optimizer: str
    judged_on: str
    conditions: tuple[str, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def of_command(self, command: str) -> WhatIf:
        """The same, with the command that gave it."""
        return replace(self, command=command)

    @property
    def best(self) -> Setting:
        """The setting with the lowest loss after its training."""
        return min(self.settings, key=lambda s: s.loss if not math.isnan(s.loss) else math.inf)

    def as_good(self) -> tuple[Setting, ...]:
        """Settings whose loss after training cannot be told from the best one's: the difference, seed by seed, is below
        two standard errors, or below half a per cent of the loss at the start. Of a single seed only the latter."""
        best = self.best
        return tuple(s for s in self.settings if s is not best and alike(best, s))

    @property
    def summary(self) -> str:
        """One or two sentences on the outcome."""
        best, alike = self.best, self.as_good()
        if not math.isfinite(best.loss):
            return "No setting trained: in each the loss became NaN or infinite."
        line = f"Lowest loss after {self.steps} steps: {best.loss:.4g} with {best.name}"
        line += "." if not alike else f"; {_and([s.name for s in alike])} cannot be told from it."
        failed = [s.name for s in self.settings if not math.isfinite(s.loss)]
        if failed:
            line += f" With {_and(failed)} the loss became NaN or infinite."
        if self.seeds == 1:
            line += " One seed says nothing about noise."
        return line

    def conditions_line(self) -> str:
        seeds = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        of = f" of {self.optimizer}" if self.optimizer else ""
        parts = [
            f"{self.steps} steps{of}",
            seeds,
            *self.conditions,
            f"judged on {self.judged_on}",
        ]
        return "; ".join(parts)

    def rows(self) -> list[tuple[str, list[str]]]:
        """(what, a text for each setting): the numbers of the table."""
        return [
            (title, [tell(s) for s in self.settings]) for title, tell in _ROWS if _known(title, self.settings)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: losses, statistics by layer, update ratios, findings; what is not finite is None in JSON."""
        return {
            "model": self.model,
            "vary": {name: list(values) for name, values in self.vary.items()},
            "steps": self.steps,
            "seeds": self.seeds,
            "optimizer": self.optimizer,
            "judged_on": self.judged_on,
            "conditions": list(self.conditions),
            "command": self.command,
            "versions": dict(self.versions),
            "summary": self.summary,
            "settings": [setting.to_dict() for setting in self.settings],
        }

    def to_json(self, indent: int | None = 2) -> str:
        """`to_dict` as strict JSON."""
        return dumps(plain(self.to_dict()), indent)

    def to_text(self, width: int = 100) -> str:
        """The table as plain text."""
        stream = io.StringIO()
        plain_console(stream, max(60, width)).print(self)
        return stream.getvalue()

    def to_markdown(self) -> str:
        """The table as Markdown, with the findings of each setting."""
        head = ["", *(printable(s.name) for s in self.settings)]
        lines = [f"# What if: {printable(', '.join(self.vary))}", "", printable(self.summary), "",
                 f"| {' | '.join(head)} |", f"|---|{'---|' * len(self.settings)}"]  # fmt: skip
        lines += [f"| {title} | {' | '.join(map(printable, cells))} |" for title, cells in self.rows()]
        lines += ["", f"{printable(self.model)}; {printable(self.conditions_line())}.", ""]
        if self.command:
            lines += [f"    {printable(self.command)}", ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """One page without scripts: a column for each setting, its pictures, numbers and findings."""
        from .whatif_page import to_html

        return to_html(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html, .json, .md or .txt by the suffix: the whole file or, on an error, nothing.

        Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
        """
        writers = {".html": self.to_html, ".htm": self.to_html, ".json": self.to_json, ".md": self.to_markdown,
                   ".txt": self.to_text}  # fmt: skip
        save_text(path, writers)

    def plot(self) -> Any:
        """All pictures in one matplotlib Figure: a column for each setting."""
        from .plots import whatif

        return whatif(self)

    def _repr_html_(self) -> str:
        """A notebook's card: the table and what it says."""
        rows = [(title, *cells) for title, cells in self.rows()]
        numbers = table(("", *(s.name for s in self.settings)), rows)
        status = "healthy" if math.isfinite(self.best.loss) else "error"
        title = f"What if: {self.model}, {', '.join(self.vary)}"
        return card(title, status, [paragraph(self.summary), numbers, paragraph(self.conditions_line())])

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<WhatIf {self.model}: {', '.join(self.vary)}, {len(self.settings)} settings>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _parts(self, options.max_width)


def activation_names(record: Record) -> list[str]:
    """The sites of activation functions in execution order; all sites where there is none."""
    sites = record.sites("activation")
    return [s.name for s in sites if s.attributes.get("role") == "activation"] or [s.name for s in sites]


def _row(record: Record, name: str) -> dict[str, float | str]:
    step = next(iter(record.steps()), 0)
    values = {s: record.value("activation", name, s, step) for s in ("mean", "std", "saturated", "zero")}
    return {"site": name, **values, "gradient_std": record.value("gradient", name, "std", step)}


def alike(best: Setting, other: Setting) -> bool:
    """Whether the loss of `other` after its training cannot be told from that of `best`, which is the lower one."""
    gaps = np.array(other.after) - np.array(best.after)
    if not np.isfinite(gaps).all():
        return False
    error = float(np.std(gaps, ddof=1) / math.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    return float(gaps.mean()) < max(_ERRORS * error, _LEAST * abs(float(np.mean(best.before))))


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ---- the table -----------------------------------------------------------------------------------------------


def _mean(values: Sequence[float]) -> str:
    finite = [v for v in values if math.isfinite(v)]
    return f"{np.mean(finite):.4g}" if finite else "not finite"


def _after(setting: Setting) -> str:
    if not math.isfinite(setting.loss):
        at = f" from step {setting.stopped}" if setting.stopped is not None else ""
        return f"not finite{at}"
    return f"{setting.loss:.4g}" + (f" ± {setting.noise:.1g}" if math.isfinite(setting.noise) else "")


def _accuracy(setting: Setting) -> str:
    if not setting.accuracy:
        return ""
    share = 100 * np.array(setting.accuracy)
    return f"{share.mean():.1f}%" + (f" ± {share.std(ddof=1):.1f}" if len(share) > 1 else "")


def _first_and_last(setting: Setting, key: str) -> str:
    values = [float(row[key]) for row in setting.layers()]
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return ""
    return number(values[0]) if len(values) == 1 else f"{number(values[0])} → {number(values[-1])}"


def _most(setting: Setting, key: str) -> str:
    values = [float(row[key]) for row in setting.layers() if math.isfinite(float(row[key]))]
    return f"{100 * max(values):.0f}%" if values else ""


def _updates(setting: Setting) -> str:
    ratio = setting.update_ratio()
    return f"{ratio:.1f}" if math.isfinite(ratio) else ""


def _codes(setting: Setting) -> str:
    codes = list(dict.fromkeys(f.code for f in setting.findings if f.severity != "info"))
    return ", ".join(codes) or "none"


_ROWS = (
    ("loss before", lambda s: _mean(s.before)),
    ("loss after", _after),
    ("accuracy", _accuracy),
    ("activations' std", lambda s: _first_and_last(s, "std")),
    ("saturated, at most", lambda s: _most(s, "saturated")),
    ("zero, at most", lambda s: _most(s, "zero")),
    ("gradients' std", lambda s: _first_and_last(s, "gradient_std")),
    ("log10 update:data", _updates),
    ("findings", _codes),
)


def _known(title: str, settings: Sequence[Setting]) -> bool:
    tell = dict(_ROWS)[title]
    return any(tell(s) not in ("", "0%") for s in settings)


def _parts(result: WhatIf, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    from .terminal import hanging

    yield Text.assemble(("unitgain whatif", "bold"), "  ", (printable(result.model), "bold cyan"),
                        (f" · {', '.join(result.vary)}", "dim"))  # fmt: skip
    yield Text()
    yield _table(result, width)
    yield Text()
    yield Text(printable(result.summary), style="bold")
    for setting in result.settings:
        for finding in [f for f in setting.findings if f.severity != "info"][:3]:
            color = "bold red" if finding.severity == "error" else "bold yellow"
            line = Text.assemble((printable(finding.code), color), f" {printable(finding.message)}")
            yield hanging(Text(printable(setting.name), style="dim"), line, min(30, len(setting.name) + 2))
    notes: dict[str, list[str]] = {}
    for setting in result.settings:
        for note in setting.notes:
            notes.setdefault(note, []).append(setting.name)
    for note, names in notes.items():
        where = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        yield hanging(Text("·"), Text(printable(f"{where}: {note}"), style="dim"), 2)
    yield Text(printable(result.conditions_line()) + ".", style="dim")


def _table(result: WhatIf, width: int) -> RenderableType:
    """A column for each setting, as many beside one another as fit."""
    from rich.console import Group
    from rich.text import Text

    from .._base import table_of

    rows = result.rows()
    names = [s.name for s in result.settings]
    title = max(len(t) for t, _ in rows)
    widths = [max(len(name), *(len(cells[i]) for _, cells in rows)) + 2 for i, name in enumerate(names)]
    blocks: list[list[int]] = [[]]
    for i, wide in enumerate(widths):
        if blocks[-1] and title + sum(widths[j] for j in blocks[-1]) + wide > width:
            blocks.append([])
        blocks[-1].append(i)
    tables: list[RenderableType] = []
    for block in blocks:
        columns = ("", *(f">{names[i]}" for i in block))
        tables += [table_of(columns, [(t, *(cells[i] for i in block)) for t, cells in rows]), Text()]
    return Group(*tables[:-1])
