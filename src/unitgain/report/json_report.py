"""A report as strict JSON with a versioned schema: docs/reference/report.schema.json.

NaN and infinities do not exist in JSON: a number that is not finite is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._version import __version__
from ..record import STATISTICS, Record
from ..rules import Diagnosis
from .layers import reported_step, thin

SCHEMA_VERSION = 1
HISTORY_STEPS = 64  # a long training is thinned to this many steps; the record itself has them all
_INTERNAL = {"facts", "schema_version", "created", "saturation_maps"}


def to_json(record: Record, diagnosis: Diagnosis, indent: int | None = 2) -> str:
    """The report as JSON text: {"schema_version", "meta", "findings", "sites"}."""
    return dumps(report_data(record, diagnosis), indent)


def dumps(value: Any, indent: int | None = 2) -> str:
    r"""Strict JSON whose characters are all printable: a terminal may be shown it. Values are what they were.

    >>> dumps({"site": "a\x9b31m", "größe": 1}, None)
    '{"site": "a\\u009b31m", "größe": 1}'
    """
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    lines = (line if line.isprintable() else _escaped(line) for line in text.split("\n"))
    return "\n".join(lines)


def _escaped(line: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def report_data(record: Record, diagnosis: Diagnosis) -> dict[str, Any]:
    """The same as plain lists, dictionaries, strings and finite numbers."""
    meta = record.meta
    steps = record.steps()
    return plain(
        {
            "schema_version": SCHEMA_VERSION,
            "meta": {
                "unitgain": __version__,
                "created": meta.get("created"),
                "status": diagnosis.status,
                "verdict": diagnosis.verdict,
                "first_action": diagnosis.first_action,
                "abstained": diagnosis.abstained,
                "tried": diagnosis.tried,
                "unseen": diagnosis.unseen,
                "step": reported_step(record),
                "steps": {"count": len(steps), "first": min(steps, default=0), "last": max(steps, default=0)},
                "facts": record.facts.to_json(),
                "notes": {key: value for key, value in meta.items() if key not in _INTERNAL},
            },
            "findings": [
                finding.to_dict() | ({"accepted": True} if finding in diagnosis.accepted else {})
                for finding in diagnosis.findings
            ],
            "sites": _sites(record, steps),
        }
    )


def _sites(record: Record, steps: list[int]) -> list[dict[str, Any]]:
    now = reported_step(record)
    chosen = thin(steps, HISTORY_STEPS)
    history: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    if len(chosen) > 1:
        for step in chosen:
            frame = record.frame(step=step)
            for row, key in enumerate(zip(frame["kind"], frame["site"])):
                column = history.setdefault(key, {"step": [], **{s: [] for s in STATISTICS}})
                column["step"].append(step)
                for statistic in STATISTICS:
                    column[statistic].append(float(frame[statistic][row]))
    frame = record.frame(step=now)
    values = {
        (kind, name): {s: float(frame[s][row]) for s in STATISTICS if not math.isnan(frame[s][row])}
        for row, (kind, name) in enumerate(zip(frame["kind"], frame["site"]))
    }
    sites = []
    for site in record.sites():
        key = (site.kind, site.name)
        entry: dict[str, Any] = {
            "kind": site.kind,
            "name": site.name,
            "position": site.position,
            "module": site.module,
            "shape": site.shape,
            "channel_axis": site.channel_axis,
            "dtype": site.dtype,
            "attributes": site.attributes,
            "statistics": values.get(key, {}),
        }
        if key in history:
            entry["history"] = {
                name: column
                for name, column in history[key].items()
                if not all(v is None or math.isnan(v) for v in column)
            }
        sites.append(entry)
    return sites


def plain(value: Any) -> Any:
    """Only what strict JSON has: non-finite numbers become null, anything unknown its text.

    >>> plain({"a": (1, float("nan")), "b": np.float32(0.5)})
    {'a': [1, None], 'b': 0.5}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value)
