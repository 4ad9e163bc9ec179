"""What the page asks for, as plain numbers: never more than it can draw, however long the run is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._base import InputError, did_you_mean, printable
from ..record import Site
from .judging import Judgement
from .run import KEPT, Run
from .series import columns, line, rounded, short

MOST_METRICS = 24
QUANTITIES = {
    "std": ("activation", "std", "std of activations"),
    "mean": ("activation", "mean", "mean of activations"),
    "gradient": ("gradient", "rms", "rms of their gradients"),
    "saturated": ("activation", "saturated", "saturated values"),
    "dead": ("activation", "dead", "dead units"),
    "zero": ("activation", "zero", "exact zeros"),
    "nonfinite": ("activation", "nonfinite", "NaN or infinite values"),
    "update": ("update", "ratio", "log10 update:data of weights"),
    "ratio": ("parameter_gradient", "ratio", "log10 gradient:data of weights"),
}
"""{name in the address: (kind of site, statistic, what it is called)}."""


def overview(runs: Sequence[Run], judgements: Sequence[Judgement]) -> dict[str, Any]:
    """All runs: state, metrics as lines, update ratios, what the rules say."""
    return {
        "quantities": {name: said for name, (_, _, said) in QUANTITIES.items()},
        "runs": [_run(run, judgement) for run, judgement in zip(runs, judgements)],
    }


def _run(run: Run, judgement: Judgement) -> dict[str, Any]:
    steps, metrics = run.steps, run.metrics
    last = max([steps[-1] if steps else 0, *(int(x[-1]) for x, _ in metrics.values() if len(x))])
    said = judgement.diagnosis
    return {
        "name": run.name,
        "model": run.model,
        "state": run.state(),
        "trouble": run.trouble or judgement.trouble,
        "changed": run.changed(),
        "version": run.version,
        "step": last,
        "sampled": len(steps),
        "sites": len(run.sites("activation")),
        "metrics": {
            printable(name, 80): line(*found) for name, found in list(metrics.items())[:MOST_METRICS] if len(found[0])
        },
        "updates": _updates(run),
        "verdict": "" if said is None else printable(said.verdict),
        "status": "" if said is None else said.status,
        "action": "" if said is None else printable(said.first_action),
        "judged": judgement.step,
        "findings": [
            {
                "code": f.code, "name": f.name, "severity": f.severity, "site": printable(f.site or ""),
                "message": printable(f.message), "cause": printable(f.cause), "remedy": printable(f.remedy),
                "since": judgement.since.get((f.code, f.site)),
            }
            for f in (said.findings if said is not None else ())
        ],
        "worst": _worst(run),
    }  # fmt: skip


def _updates(run: Run) -> dict[str, Any]:
    """Quartiles over all weights of log10 update:data, over the steps."""
    names = [site.name for site in _weight_sites(run)]
    steps = columns(run.steps, 120)
    if not names or not steps:
        return {"steps": [], "low": [], "middle": [], "high": []}
    table = run.table("update", names, "ratio", steps)
    kept = [i for i in range(len(steps)) if np.isfinite(table[:, i]).any()]
    found = [np.quantile(table[np.isfinite(table[:, i]), i], (0.1, 0.5, 0.9)) for i in kept]
    low, middle, high = (short(np.array(part)) for part in zip(*found)) if found else ([], [], [])
    return {"steps": [steps[i] for i in kept], "low": low, "middle": middle, "high": high}


def _weight_sites(run: Run) -> list[Site]:
    return [site for site in run.sites("parameter") if len(site.shape) > 1]


def _worst(run: Run, most: int = 12) -> list[dict[str, Any]]:
    """The layers with the largest shares of dead units or saturated values at the last sampled step."""
    sites = run.sites("activation")
    names = [site.name for site in sites]
    steps = run.steps[-1:]
    if not names or not steps:
        return []
    dead, units, saturated = (
        run.table("activation", names, s, steps)[:, 0] for s in ("dead", "units", "saturated")
    )
    share = np.divide(dead, units, out=np.full(len(names), np.nan), where=units > 0)
    size = np.fmax(np.nan_to_num(share), np.nan_to_num(saturated))
    order = [int(i) for i in np.argsort(-size, kind="stable")[:most] if size[i] > 0]
    return [
        {
            "site": printable(sites[i].title, 200),
            "dead": rounded(share[i]),
            "saturated": rounded(saturated[i]),
        }
        for i in order
    ]


def heat(run: Run, quantity: str) -> dict[str, Any]:
    """One quantity of every layer over the steps: {"steps", "sites", "values": a row per site}.

    Raises InputError for a quantity that there is not.
    """
    kind, statistic, said = _quantity(quantity)
    of_weights = kind in ("update", "parameter_gradient")
    sites = _weight_sites(run) if of_weights else run.sites("activation")
    names = [site.name for site in sites]
    steps = columns(run.steps)
    table = _shares(run, kind, names, statistic, steps)
    kept = [i for i in range(len(names)) if np.isfinite(table[i]).any()]
    return {
        "quantity": quantity, "title": said, "steps": steps, "version": run.version,
        "sites": [printable(names[i] if of_weights else sites[i].title, 200) for i in kept],
        "rows": kept, "values": [short(table[i], 3) for i in kept],
    }  # fmt: skip


def site(run: Run, number: int, quantity: str) -> dict[str, Any]:
    """All of one layer over the steps; number: its row in the heat map of that quantity."""
    kind, _, _ = _quantity(quantity)
    found = heat(run, quantity)
    if not 0 <= number < len(found["sites"]):
        raise InputError(f"site {number}: there are {len(found['sites'])} in this heat map")
    of_weights = kind in ("update", "parameter_gradient")
    name = (_weight_sites(run) if of_weights else run.sites("activation"))[found["rows"][number]].name
    lines = {}
    for key, (other, statistic, said) in QUANTITIES.items():
        if (other in ("update", "parameter_gradient")) == of_weights:
            row = _shares(run, other, [name], statistic, found["steps"])[0]
            if np.isfinite(row).any():
                lines[key] = {"title": said, "values": short(row)}
    return {"site": found["sites"][number], "steps": found["steps"], "lines": lines}


def _shares(run: Run, kind: str, names: Sequence[str], statistic: str, steps: Sequence[int]) -> np.ndarray:
    """The table of a statistic; dead units as a share of all units."""
    table = run.table(kind, names, statistic, steps)
    if statistic != "dead":
        return table
    units = run.table(kind, names, "units", steps)
    return np.divide(table, units, out=np.full(table.shape, np.nan), where=units > 0)


def _quantity(name: str) -> tuple[str, str, str]:
    if name not in QUANTITIES:
        raise InputError(f"quantity {printable(name, 40)!r} is unknown{did_you_mean(name, list(QUANTITIES))}")
    assert QUANTITIES[name][1] in KEPT
    return QUANTITIES[name]
