"""Every picture that a record has the numbers for, in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..._base import InputError
from ._atlas import atlas
from ._depth import gradient_ratio, stats_over_depth
from ._distribution import color_dim, dead_chart, histograms, ridges, saturation_map
from ._lecture import lecture
from ._style import record_of, save_figure
from ._time import stats_over_time, update_ratio
from ._training import training

_PICTURES = {
    "atlas": atlas, "lecture": lecture, "loss": training, "updates": update_ratio, "activations": stats_over_time,
    "depth": stats_over_depth, "gradients": gradient_ratio, "histograms": histograms, "ridges": ridges,
    "color_dim": color_dim, "dead": dead_chart, "saturation": saturation_map,
}  # fmt: skip


def draw_all(record: Any, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes as PNG into the folder, which is made, the pictures that the record has the numbers for.

    record: a Record, a Report, whose findings the atlas then shows, or a Probe. Returns their paths; a picture of
    something that was not measured (updates in a check without steps) is left out.
    Raises InputError if the folder cannot be made or written.
    """
    record_of(record, "plots")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"plots {folder}: the folder cannot be made: {error.strerror or error}") from error
    written = []
    for name, draw in _PICTURES.items():
        try:
            figure = draw(record)
        except InputError:
            continue  # not measured in this run
        save_figure(figure, folder / f"{name}.png", dpi="figure" if name == "atlas" else 110)
        written.append(folder / f"{name}.png")
    return written
