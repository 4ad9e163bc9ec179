"""UG602 to UG604: statistics over the batch, and what they do to its examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from ..record import CouplingInMode
from .catalogue import CATALOGUE
from .finding import Finding
from .view import CannotJudge, Measured, View, listed, plural, show


def noisy_batch_statistics(view: View) -> Iterator[Finding]:
    """UG602: BatchNorm with too few values, or averages over too few batches."""
    norms = [m for m in view.activations if _is_batch_norm(m)]
    if not norms:
        raise CannotJudge("no BatchNorm in training mode")
    yield from _few_values(norms)
    yield from _short_memory(view, norms)


def _few_values(norms: list[Measured]) -> Iterator[Finding]:
    entry = CATALOGUE["UG602"]
    values = {m.name: m.examples * m.positions for m in norms}
    few = {name: n for name, n in values.items() if n < entry.limit("values")}
    if not few:
        return
    fewest = min(few.values())
    first = next(iter(few))
    yield entry.finding(
        "warning" if fewest < entry.limit("warning") else "info",
        first,
        f"{plural(len(few), 'BatchNorm layer')} of {len(norms)} {'sees' if len(few) == 1 else 'see'} fewer than "
        f"{entry.limit('values'):g} values per channel ({first}: {few[first]}): their means are off by "
        f"{1 / math.sqrt(fewest):.0%} of a standard deviation from batch to batch",
        evidence={"values": few, "fewest": fewest, "layers": len(norms)},
        cause="The batch is small, and nothing but its examples is averaged over.",
    )


def _short_memory(view: View, norms: list[Measured]) -> Iterator[Finding]:
    entry = CATALOGUE["UG602"]
    examples = max(m.examples for m in norms)
    short = {}
    for row in view.facts.batch_norms or ():
        momentum = row.momentum
        if momentum is None or not 0 < momentum <= 1:
            continue
        batches = (2 - momentum) / momentum
        if batches <= entry.limit("batches") and batches * examples < entry.limit("remembered"):
            short[row.site] = momentum
    if not short:
        return
    first = next(iter(short))
    batches = (2 - short[first]) / short[first]
    yield entry.finding(
        "warning",
        first,
        f"momentum {show(short[first])} in {listed(list(short))}: running statistics remember about "
        f"{show(batches)} batches of {examples}, so that evaluation depends on the last ones",
        evidence={"momentum": short, "batches_remembered": batches, "examples": examples},
        cause="PyTorch's momentum is the weight of the newest batch (0.1 by default); other libraries give the "
        "weight of the old average (0.9).",
        remedy=f"Set momentum to 0.1 or less{', 1 - momentum was probably meant' if short[first] > 0.8 else ''}.",
    )


def batch_coupling(view: View) -> Iterator[Finding]:
    """UG603: an example's output changes with its batch-mates."""
    coupling = view.facts.coupling
    if coupling.reason:
        raise CannotJudge(f"batch independence: {coupling.reason}")
    if coupling.rows is None:
        raise CannotJudge("batch independence was not measured")
    entry = CATALOGUE["UG603"]
    for mode, label, found in (("eval", "evaluation", coupling.eval), ("train", "training", coupling.train)):
        if not found.differs or (mode == "train" and found.batch_norm):
            continue
        difference, site = found.difference, found.site
        where = f"; it begins at {site} ({found.module})" if site else ""
        yield entry.finding(
            "warning" if mode == "eval" else "info",
            site,
            f"in {label} mode an example's output changes by {difference:.2%} when the other examples of its "
            f"batch are exchanged{where}",
            evidence={"mode": mode, "difference": difference, "site": site, "module": found.module},
            cause=_why_coupled(found),
        )
        return  # what is coupled in evaluation is so in training


def stale_running_statistics(view: View) -> Iterator[Finding]:
    """UG604: running statistics that do not describe the data."""
    entry = CATALOGUE["UG604"]
    rows = [r for r in view.facts.batch_norms or () if not math.isnan(r.mean_gap)]
    if not rows:
        raise CannotJudge("no BatchNorm with running statistics was compared with its batch")
    seen = [r for r in rows if r.tracked >= entry.limit("batches")]
    if not seen:
        raise CannotJudge("running statistics have seen too few batches to judge: not trained yet")
    stale: dict[str, dict[str, float]] = {}
    for row in seen:
        site = view.tensor(row.site)
        examples = max(site.examples if site else 1, 2)
        noise = entry.limit("sigmas") / math.sqrt(examples)
        gap, log_variance = row.mean_gap, row.log_variance
        others = [r for r in seen if r is not row]
        if (
            gap > entry.limit("mean") + noise
            or log_variance > math.log(entry.limit("variance")) + math.sqrt(2) * noise
            or _stands_out([r.mean_gap for r in others], gap, entry.limit("mean"))
            or _stands_out([r.log_variance for r in others], log_variance, math.log(entry.limit("variance")))
        ):
            stale[row.site] = {"mean_gap": gap, "variance_factor": math.exp(log_variance)}
    if not stale:
        return
    first = next(iter(stale))
    yield entry.finding(
        "warning",
        first,
        f"running statistics of {plural(len(stale), 'BatchNorm layer')} of {len(rows)} do not fit this batch: at "
        f"{first} means are off by {show(stale[first]['mean_gap'])} standard deviations and variances by a factor "
        f"of {show(stale[first]['variance_factor'])} (typical channel)",
        evidence={"sites": stale, "layers": len(rows)},
        cause="The weights moved on since the averages were taken, or this batch is not like the data that the "
        "model was trained on (other preprocessing, another domain).",
    )


def _stands_out(others: list[float], value: float, limit: float) -> bool:
    """Beyond the limit, and far beyond what most other layers show of this batch's own noise."""
    entry = CATALOGUE["UG604"]
    if value <= limit or len(others) < entry.limit("others"):
        return False
    return value > entry.limit("apart") * median(others)


def _is_batch_norm(measured: Measured) -> bool:
    kind = measured.site.module.lower().replace("_", "")
    return (
        measured.role == "norm"
        and "batchnorm" in kind
        and "sync" not in kind
        and measured.site.attributes.get("subtracts_mean") == "channel"
        and measured.site.attributes.get("batch_axis") is not None
    )


_TIME_FIRST = (
    "MultiheadAttention",
    "TransformerEncoderLayer",
    "TransformerDecoderLayer",
    "LSTM",
    "GRU",
    "RNN",
)


def _why_coupled(found: CouplingInMode) -> str:
    module = found.module or ""
    if found.batch_norm:
        return (
            f"{module} uses the batch's statistics in evaluation too: it keeps no running ones, or stays in training "
            "mode."
        )
    if module in _TIME_FIRST:
        return f"{module} takes time first unless batch_first=True: it runs over the examples, not the time steps."
    return (
        "Something there computes over the axis of the examples: a mean, softmax, norm or reshape gone wrong."
    )
