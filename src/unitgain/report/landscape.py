"""Landscape: the loss on a line or a plane through a network's weights."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._base import InputError, card, paragraph
from .json_report import dumps, plain
from .report import save_text

_WORTH = 0.01  # of the loss: a point that is lower by less is not worth a word


@dataclass(frozen=True, eq=False)
class Landscape:
    """The outcome of `unitgain.landscape`: the loss at weights + a * d1 (+ b * d2), for random directions d1, d2.

    print(result)             two or three lines on it
    result.save("hills.png")  the picture; .svg, .pdf, and .json with the numbers by the same call
    result.plot()             a matplotlib Figure; `plots.landscape([one, other])` draws several side by side

    model, loss_name   class of the model; name of the loss
    axis      the distances a, and b: 1 moves every filter by its own norm; 0.0 is in the middle
    losses    (points,), or (points of b, points of a); NaN or infinite where the loss was
    moved     how many values of the parameters move; kept: how many do not (biases, norms, what is frozen)
    steps     optimizer steps that were made first
    seed      of the directions
    batch     shapes of the inputs, in words
    """

    model: str
    loss_name: str
    axis: tuple[float, ...]
    losses: np.ndarray
    moved: int
    kept: int
    steps: int = 0
    seed: int = 0
    batch: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def dims(self) -> int:
        return self.losses.ndim

    @property
    def span(self) -> float:
        return self.axis[-1]

    @property
    def loss(self) -> float:
        """At the weights themselves."""
        return float(self.losses[(len(self.axis) // 2,) * self.dims])

    @property
    def lowest(self) -> tuple[float, tuple[float, ...]]:
        """(the lowest finite loss, the distances (a,) or (a, b) at which it lies); NaN where none is finite."""
        if not np.isfinite(self.losses).any():
            return math.nan, (0.0,) * self.dims
        place = np.unravel_index(np.argmin(np.where(np.isfinite(self.losses), self.losses, np.inf)),
                                 self.losses.shape)  # fmt: skip
        return float(self.losses[place]), tuple(self.axis[i] for i in reversed(place))

    def at_distance(self, distance: float) -> np.ndarray:
        """The finite losses at points about so far from the weights (within half of the points' spacing)."""
        grid = np.meshgrid(*[np.array(self.axis)] * self.dims, indexing="ij")
        far = np.sqrt(sum(g**2 for g in grid))
        near = np.abs(far - distance) <= (self.axis[1] - self.axis[0]) / 2 + 1e-12
        found = self.losses[near]
        return found[np.isfinite(found)]

    @property
    def summary(self) -> str:
        """Two or three sentences on it."""
        where = "line" if self.dims == 1 else "plane"
        lines = [f"Loss {self.loss:.4g} at the weights"]
        ends = [(d, self.at_distance(d)) for d in (self.span / 2, self.span)]
        lines += [
            f"{np.median(found):.4g} at a distance of {d:g} (from {found.min():.4g} to {found.max():.4g})"
            for d, found in ends
            if len(found)
        ]
        text = ", ".join(lines) + "."
        low, place = self.lowest
        if low < self.loss - _WORTH * abs(self.loss):
            at = ", ".join(f"{x:+.2g}" for x in place)
            text += f" The lowest on this {where} is {low:.4g}, at ({at})."
        missing = int((~np.isfinite(self.losses)).sum())
        if missing:
            text += f" At {missing} of {self.losses.size} points the loss is NaN or infinite."
        return text

    def conditions(self) -> str:
        """What was measured, in a line."""
        trained = f"after {self.steps} steps of training; " if self.steps else ""
        batch = f"a batch of {self.batch}; " if self.batch else ""
        return (
            f"{trained}{batch}{self.moved:,} values move, {self.kept:,} (biases, norms, what is frozen) do not; "
            f"directions of seed {self.seed}, each filter's step as long as the filter"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; losses as nested lists, rows along the second direction."""
        return {
            "model": self.model,
            "loss_name": self.loss_name,
            "loss": self.loss,
            "axis": list(self.axis),
            "losses": self.losses.tolist(),
            "moved": self.moved,
            "kept": self.kept,
            "steps": self.steps,
            "seed": self.seed,
            "batch": self.batch,
            "versions": dict(self.versions),
            "summary": self.summary,
        }

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as strict JSON; what is not finite is null."""
        return dumps(plain(self.to_dict()), indent)

    def plot(self) -> Any:
        """A matplotlib Figure: `plots.landscape(self)`."""
        from .plots import landscape

        return landscape(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .png, .svg or .pdf (the picture) or .json (the numbers) by the suffix: whole or, on an error, nothing.

        Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
        """
        suffix = os.path.splitext(path)[1].lower()
        if suffix in (".png", ".svg", ".pdf"):
            from .plots._style import save_figure

            save_figure(self.plot(), path)
            return
        if suffix != ".json":
            raise InputError(f"landscape {os.fspath(path)}: the name must end in .png, .svg, .pdf or .json")
        save_text(path, {".json": self.to_json})

    def __str__(self) -> str:
        return f"{self.model}: {self.summary}\n{self.conditions()}"

    def __repr__(self) -> str:
        return f"<Landscape {self.model}: {' x '.join(map(str, self.losses.shape))} points, loss {self.loss:.4g}>"

    def _repr_html_(self) -> str:
        """A notebook's card: the picture, small, and what it says."""
        stream = io.BytesIO()
        self.plot().savefig(
            stream, format="jpg", dpi=60
        )  # a fifth of a PNG's size: colours change everywhere
        data = base64.b64encode(stream.getvalue()).decode()
        picture = f'<img alt="the loss around the weights" src="data:image/jpeg;base64,{data}">'
        parts = [paragraph(self.summary), picture, paragraph(self.conditions())]
        return card(f"Loss landscape of {self.model}", "", parts)
