"""ConversionReport: what a conversion changed, what it left and why, and what was measured before and after."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from ..report import Saved, conversion_page, plain
from .edits import Edit
from .proving import TOLERANCE
from .rehearsing import ShortTraining

SCHEMA_VERSION = 1
_MOST = 12  # rows of a table in a terminal


@dataclass(frozen=True)
class Change:
    """What became of one norm.

    path, kind  of the norm: "layer1.0.bn1", "BatchNorm2d"
    how         absorbed: in the layers `into`; forward: in the layer behind it; affine: a scale and a shift per
                channel stay; removed: gone, the layers around it take its part; refused: it stays as it was
    why         of affine and refused: the reason
    """

    path: str
    kind: str
    how: str
    into: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Block:
    """The channel variance at one place in training, before and after: of the batch, and of noise of its shape."""

    name: str
    before: float | None
    after: float
    noise_before: float | None = None
    noise_after: float | None = None


@dataclass(repr=False)
class ConversionReport(Saved):
    """The outcome of `ug.normfree.convert` and `fold`.

    mode         train, preserve or fold
    examples     of the batch; None where that is not known
    model        the converted model: the one that was given, or its copy
    changes      one for each norm
    refused      those of them that could not be converted, and stay as they were
    left         {path: class} of other norms, which treat each example by itself and are left alone
    edits        the changes of structure as data: `rebuild(another_model, report.edits)`, then load the state dict
    distance     preserve, fold: rms of the outputs' difference over their rms, in float64 in evaluation mode, the
                 larger one of the batch's and of noise's
    blocks       channel variances; see Block
    batch_norms  (before, after): how often batch normalization runs in a pass, counted in torch itself
    coupling     (before, after): how far one example's output in training depends on the others (rms, relative); None
                 where that cannot be asked
    parameters   (before, after)
    seconds      (before, after) of a forward and backward pass; None if it was not measured
    standardized number of layers
    training     the short training of `steps`, None without one
    classes_left names of unitgain's classes that are still in the model
    notes        what one should know, one line each
    """

    mode: str
    model: nn.Module = field(repr=False)
    changes: list[Change] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    distance: float | None = None
    blocks: list[Block] = field(default_factory=list)
    batch_norms: tuple[int, int] = (0, 0)
    coupling: tuple[float | None, float | None] = (None, None)
    parameters: tuple[int, int] = (0, 0)
    seconds: tuple[float, float] | None = None
    classes_left: list[str] = field(default_factory=list)
    standardized: int = 0
    training: ShortTraining | None = None
    notes: list[str] = field(default_factory=list)
    examples: int | None = None

    @property
    def refused(self) -> list[Change]:
        return [c for c in self.changes if c.how == "refused"]

    @property
    def converted(self) -> list[Change]:
        return [c for c in self.changes if c.how != "refused"]

    @property
    def status(self) -> str:
        """ "healthy", or "watch" where something is left, differs, or trains worse than before."""
        off = self.distance is not None and not self.distance <= TOLERANCE
        worse = self.training is not None and self.training.outcome == "worse"
        return "watch" if self.refused or self.batch_norms[1] or off or worse else "healthy"

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        said = self._headline()
        if self.training is not None:
            words = {
                "better": "better than before",
                "worse": "worse than before",
                "same": "as well as before",
            }
            said += f"; in {self.training.steps} steps it trains {words[self.training.outcome]}"
        return said

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN and infinity become None."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "mode": self.mode,
                "examples": self.examples,
                "model": type(self.model).__name__,
                "status": self.status,
                "verdict": self.verdict,
                "changes": [asdict(c) for c in self.changes],
                "left": self.left,
                "edits": [e.to_dict() for e in self.edits],
                "distance": self.distance,
                "blocks": [asdict(b) for b in self.blocks],
                "batch_norms": self.batch_norms,
                "coupling": self.coupling,
                "parameters": self.parameters,
                "seconds": self.seconds,
                "standardized": self.standardized,
                "training": None if self.training is None else self.training.to_dict(),
                "classes_left": self.classes_left,
                "notes": self.notes,
            }
        )

    def to_html(self) -> str:
        """One page that needs no network, in the look of the report of `ug.check`."""
        return conversion_page(self.to_dict())

    def __str__(self) -> str:
        lines = [f"{type(self.model).__name__}, mode {self.mode}: {self._headline()}"]
        lines += [f"  {line}" for line in self._facts()]
        kept = [c for c in self.changes if c.how == "affine"]
        for title, some in (("stays as a scale and a shift per channel", kept), ("refused", self.refused)):
            if some:
                lines.append(f"  {title}:")
                lines += _shortened([f"    {c.path} ({c.kind}): {c.why}" for c in some])
        if self.left:
            names = [f"    {path} ({kind})" for path, kind in self.left.items()]
            lines += ["  left alone, as they treat each example by itself:", *_shortened(names)]
        if self.blocks:
            lines.append("  channel variance          before      after   of noise      after")
            rows = [
                f"    {b.name:22} {_number(b.before)} {_number(b.after)} {_number(b.noise_before)} "
                f"{_number(b.noise_after)}"
                for b in self.blocks
            ]
            lines += _shortened(rows)
        if self.training is not None:
            lines.append(f"  {self.training.conditions}:")
            lines += [f"    {line}" for line in self.training.summary()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _headline(self) -> str:
        if not self.changes and not self.edits:
            return "nothing to convert"
        counts = {
            how: sum(c.how == how for c in self.changes) for how in dict.fromkeys(c.how for c in self.changes)
        }
        words = {
            "absorbed": "absorbed by layers before them", "forward": "absorbed by layers behind them",
            "affine": "kept as a scale and a shift", "removed": "removed", "refused": "refused",
        }  # fmt: skip
        said = ", ".join(f"{n} {words[how]}" for how, n in counts.items())
        return (
            f"{len(self.changes)} batch norms: {said}"
            if self.changes
            else f"{len(self.edits)} layers made plain"
        )

    def _facts(self) -> list[str]:
        before, after = self.batch_norms
        lines = [f"batch normalization runs {before} times before, {after} times after"]
        if self.standardized:
            lines.append(f"{self.standardized} layers standardized")
        if self.distance is not None:
            lines.append(f"outputs differ by {self.distance:.1e} (rms, relative, float64, evaluation mode)")
        if self.coupling[0] is not None and self.coupling[1] is not None:
            a, b = self.coupling
            lines.append(
                f"one example's output depends on the others by {a:.1e} before, {b:.1e} after (in training)"
            )
        lines.append(f"parameters {self.parameters[0]:,} before, {self.parameters[1]:,} after")
        if self.seconds is not None:
            ratio = self.seconds[1] / self.seconds[0]
            lines.append(
                f"forward and backward pass {self.seconds[0]:.3g} s before, {self.seconds[1]:.3g} s after: {ratio:.2f}x"
            )
        if self.classes_left:
            lines.append(f"classes of unitgain left: {', '.join(self.classes_left)}")
        return lines


def _shortened(rows: list[str]) -> list[str]:
    return rows if len(rows) <= _MOST else [*rows[: _MOST - 1], f"    and {len(rows) - _MOST + 1} more"]


def _number(value: float | None) -> str:
    return " " * 10 if value is None or math.isnan(value) else f"{value:10.3g}"
