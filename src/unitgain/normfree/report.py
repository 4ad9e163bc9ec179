"""ConversionReport: what a conversion changed, what it left and why, and what was measured before and after."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .edits import Edit

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
    """The channel variance at one place: of the data before and after, and of noise of the same shape after."""

    name: str
    before: float | None
    after: float
    noise: float | None = None


@dataclass
class ConversionReport:
    """The outcome of `ug.normfree.convert` and `fold`.

    mode         train, preserve or fold
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
    standardized number of layers; places: their paths
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
    places: list[str] = field(default_factory=list, repr=False)
    notes: list[str] = field(default_factory=list)

    @property
    def refused(self) -> list[Change]:
        return [c for c in self.changes if c.how == "refused"]

    @property
    def converted(self) -> list[Change]:
        return [c for c in self.changes if c.how != "refused"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN and infinity become None."""
        return {
            "schema_version": SCHEMA_VERSION,
            "mode": self.mode,
            "model": type(self.model).__name__,
            "changes": [
                {"path": c.path, "kind": c.kind, "how": c.how, "into": list(c.into), "why": c.why}
                for c in self.changes
            ],
            "left": dict(self.left),
            "edits": [e.to_dict() for e in self.edits],
            "distance": _finite(self.distance),
            "blocks": [
                {
                    "name": b.name, "before": _finite(b.before), "after": _finite(b.after), "noise": _finite(b.noise),
                }
                for b in self.blocks
            ],
            "batch_norms": list(self.batch_norms),
            "coupling": [_finite(c) for c in self.coupling],
            "parameters": list(self.parameters),
            "seconds": None if self.seconds is None else list(self.seconds),
            "standardized": self.standardized,
            "classes_left": list(self.classes_left),
            "notes": list(self.notes),
        }  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

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
            lines.append("  channel variance          before      after   on noise")
            rows = [
                f"    {b.name:22} {_number(b.before)} {_number(b.after)} {_number(b.noise)}"
                for b in self.blocks
            ]
            lines += _shortened(rows)
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


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
