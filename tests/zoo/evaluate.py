"""Runs unitgain over rows of the zoo and judges what it said."""

from __future__ import annotations

import importlib.util
import time
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import defects_autoencoder
import defects_cnn
import defects_comparison
import defects_function
import defects_loop
import defects_mlp
import defects_resnet
import defects_rnn
import defects_transformer
import defects_unet
import torch
from row import Healthy, Sick

import healthy
from unitgain import check, fix
from unitgain.report import FixReport
from unitgain.rules import Finding

FAMILIES: dict[str, Sequence[Sick]] = {
    "mlp": defects_mlp.ROWS,
    "cnn": defects_cnn.ROWS,
    "resnet": defects_resnet.ROWS,
    "transformer": defects_transformer.ROWS,
    "rnn": defects_rnn.ROWS,
    "autoencoder": defects_autoencoder.ROWS,
    "unet": defects_unet.ROWS,
    "comparison": defects_comparison.ROWS,
    "loop": defects_loop.ROWS,
    "function": defects_function.ROWS,
}
SICK: tuple[Sick, ...] = tuple(row for rows in FAMILIES.values() for row in rows)
HEALTHY: tuple[Healthy, ...] = healthy.ROWS

INFO_BY_NATURE = {
    "UG113",
    "UG601",
    "UG804",
}  # one batch can only inform of the first; the others are harmless
RECALL, RECALL_OF_A_CODE = 0.95, 0.9


@dataclass(frozen=True)
class Outcome:
    """What the rules said about one row.

    missing   the planted causes that were not found, as their rows write them
    alarms    codes of errors and warnings that are neither planted nor granted
    crowd     errors and warnings beyond one for each planted cause
    """

    row: Sick | Healthy
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def loud(self) -> tuple[Finding, ...]:
        """Errors and warnings."""
        return tuple(f for f in self.findings if f.severity != "info")

    @property
    def missing(self) -> tuple[str, ...]:
        if isinstance(self.row, Healthy):
            return ()
        said = {f.code for f in self.loud} | {f.code for f in self.findings if f.code in INFO_BY_NATURE}
        return tuple(text for text, codes in zip(self.row.must, self.row.alternatives) if not codes & said)

    @property
    def alarms(self) -> tuple[str, ...]:
        accepted = frozenset() if isinstance(self.row, Healthy) else self.row.accepted
        return tuple(f.code for f in self.loud if f.code not in accepted)

    @property
    def crowd(self) -> int:
        causes = 0 if isinstance(self.row, Healthy) else len(self.row.must)
        return max(0, len(self.loud) - causes)

    @property
    def right(self) -> bool:
        return not (self.missing or self.alarms or self.crowd)

    def __str__(self) -> str:
        parts = [f"{self.row.id}:"]
        if self.missing:
            parts.append(f"missing {', '.join(self.missing)};")
        parts += [f"{f.code} {f.name} ({f.severity}, {f.site}): {f.message};" for f in self.loud]
        return " ".join(parts)


def examine(row: Sick | Healthy, seed: int = 0) -> Outcome:
    """Builds the row's case and checks it. The same seed gives the same case, whatever ran before."""
    torch.manual_seed(zlib.crc32(row.id.encode()) + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say while models are built
        case = row.make()
        begin = time.perf_counter()
        report = check(
            case.model, case.batch, case.loss, steps=case.steps, optimizer=case.optimizer, data=case.data
        )
    return Outcome(row, report.findings, time.perf_counter() - begin)


@dataclass(frozen=True)
class Repaired:
    """What fix() made of one row."""

    row: Sick | Healthy
    result: FixReport

    @property
    def worse(self) -> tuple[Finding, ...]:
        """Errors and warnings of a kind that the network did not have before, not even as a consequence."""
        before = {f.code for f in self.result.before.findings}
        for finding in self.result.before.findings:
            before.update(line.split()[0] for line in finding.consequences)
        return tuple(f for f in self.result.after.findings if f.severity != "info" and f.code not in before)

    @property
    def notes(self) -> tuple[Finding, ...]:
        """Findings for information that the network did not have before."""
        known = {f.code for f in self.result.before.findings}
        return tuple(f for f in self.result.after.findings if f.severity == "info" and f.code not in known)

    def __str__(self) -> str:
        kept = [f"{a.code} {a.remedy}" for a in self.result.actions if a.kept]
        before, after = (", ".join(f.code for f in r.findings if f.severity != "info") or "nothing"
                         for r in (self.result.before, self.result.after))  # fmt: skip
        return f"{self.row.id}: {before} -> {after} by {'; '.join(kept) or 'nothing'}"


def repair(row: Sick | Healthy, seed: int = 0) -> Repaired:
    """Builds the row's case and fixes it."""
    torch.manual_seed(zlib.crc32(row.id.encode()) + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case = row.make()
        return Repaired(row, fix(case.model, case.batch, case.loss))


def absent(row: Healthy) -> bool:
    """Whether the package that a healthy model comes from is not installed."""
    return bool(row.needs) and importlib.util.find_spec(row.needs) is None
