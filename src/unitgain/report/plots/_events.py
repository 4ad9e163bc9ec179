"""What the rules found to happen at a step, as lines in plots over time: "step 45, conv2.bias"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...record import Record
from ...rules import diagnose
from ..layers import parameter_owner
from ._style import plot_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATED = ("UG304", "UG504")
"""Rules that say when: units died, the loss began to diverge."""
MOST = 4  # lines in one plot


@dataclass(frozen=True)
class Event:
    """Something that began at a step. site: where, None for nowhere in particular; layer: the activation there."""

    step: int
    what: str
    site: str | None = None
    layer: str | None = None

    @property
    def text(self) -> str:
        """
        >>> Event(45, "diverges", "conv2.bias").text
        'step 45, conv2.bias diverges'
        """
        return f"step {self.step}" + (f", {plot_name(self.site, 24)}" if self.site else "") + f" {self.what}"


def events_of(record: Record) -> list[Event]:
    """Of a training, earliest first; none where no rule found one."""
    if record.facts.mode != "training":
        return []
    found = [
        event
        for f in diagnose(record, select=DATED).findings
        for event in _events(record, f.code, f.evidence)
    ]
    return sorted(found, key=lambda event: event.step)[:MOST]


def _events(record: Record, code: str, evidence: Mapping[str, Any]) -> Iterator[Event]:
    if code == "UG504" and "began" in evidence:
        site = evidence.get("site")
        what = "diverges" if site else "the loss diverges"
        yield Event(int(evidence["began"]), what, _title(record, site), _layer(record, site))
    if code == "UG304":
        for name, units in evidence.get("sites", {}).items():
            if isinstance(units, Mapping) and "last" in units:
                yield Event(int(units["last"]), "dies", _title(record, name), name)


def _title(record: Record, name: str | None) -> str | None:
    """What people call it: "6 · Conv2d" of a layer that is called 6."""
    site = record.site("activation", name) if name else None
    return site.title if site else name


def _layer(record: Record, name: str | None) -> str | None:
    if name is None or record.site("activation", name):
        return name
    parameter = record.site("parameter", name)
    return parameter_owner(parameter) if parameter else None


def mark_events(
    axes: Axes, events: Sequence[Event], color: str, layer: str | None = None, said: bool = True
) -> None:
    """A line at each event's step, with its text; layer: a panel of one layer names only what happened there.

    said  whether there is a text at all: the first panel of a figure has it
    """
    for row, event in enumerate(events):
        here = layer is None or event.layer in (None, layer)
        axes.axvline(event.step, color=color, lw=1.1 if here else 0.6, ls=":", alpha=1.0 if here else 0.6)
        if here and said:
            left = event.step > sum(axes.get_xlim()) / 2
            axes.annotate(
                event.text, (event.step, 1), xycoords=("data", "axes fraction"), color=color, fontsize=8,
                xytext=(-3 if left else 3, -10 - 10 * row), textcoords="offset points", ha="right" if left else "left",
            )  # fmt: skip
