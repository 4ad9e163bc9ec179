"""audit(): what BatchNorm does and costs in this very model, on this batch and this device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from .._batch import Batch
from .._run import in_place
from ..report import Saved, audit_page, plain
from . import folding, measuring
from .edits import Edit, apply, paths_of
from .folding import Decision
from .proving import distance, outputs_of
from .reading import count_batch_norms, is_batch_norm, other_norms, read

_MOST = 15
_ROUNDING = 1e-4  # a relative difference that float32 may make


@dataclass(frozen=True)
class NormAudit:
    """One BatchNorm.

    values      per channel in this batch, of which its statistics are made
    mean_noise  standard error of the batch's mean over the std, averaged over channels: from the difference of the
                batch's two halves
    var_noise   likewise of the logarithm of the variance; both are NaN where there are no two halves to compare
    fold        what fold would do: absorbed, forward, affine, refused; why: of the last two
    """

    path: str
    kind: str
    values: int
    mean_noise: float
    var_noise: float
    fold: str
    why: str


@dataclass(frozen=True)
class SizeAudit:
    """One batch size: noise over all norms (the median), seconds of a step, seconds with frozen norms."""

    size: int
    mean_noise: float
    var_noise: float
    seconds: float
    frozen_seconds: float


@dataclass(repr=False)
class AuditReport(Saved):
    """What normalization does and costs.

    batch_norms     how often batch normalization runs in a pass, counted in torch
    norms           one NormAudit each; left: other norms, by path
    seconds         of a forward and backward pass, and with each norm replaced by its frozen scale and shift
    saved_bytes     what is kept for the backward pass, likewise
    coupling        how far one example's output in training depends on the others (rms, relative); None where that
                    cannot be asked
    coupling_eval   the same in evaluation mode
    train_eval_gap  rms of the outputs' difference between training without dropout and evaluation, relative
    sizes           the batch-size study
    """

    model: str
    examples: int | None
    batch_norms: int
    norms: list[NormAudit] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)
    saved_bytes: tuple[int, int] = (0, 0)
    coupling: float | None = None
    coupling_eval: float | None = None
    train_eval_gap: float | None = None
    sizes: list[SizeAudit] = field(default_factory=list)

    @property
    def time_share(self) -> float:
        """The share of a step that normalizing by batch statistics takes, beside a fixed scale and shift."""
        return max(0.0, 1 - self.seconds[1] / self.seconds[0]) if self.seconds[0] else 0.0

    @property
    def status(self) -> str:
        """ "healthy" without BatchNorm, "watch" where examples depend on each other in evaluation too, else "info"."""
        if not self.batch_norms:
            return "healthy"
        return "watch" if self.coupling_eval is not None and self.coupling_eval > _ROUNDING else "info"

    @property
    def verdict(self) -> str:
        """What normalization does here, in one sentence."""
        if not self.batch_norms:
            others = f"; {len(self.left)} other norms treat each example by itself" if self.left else ""
            return f"no BatchNorm runs{others}"
        share = f"{self.time_share:.0%}" if self.time_share >= 0.01 else "no measurable part"
        said = f"batch normalization runs {self.batch_norms} times and takes {share} of a step"
        if self.coupling is not None:
            said += f"; one example's output moves by {self.coupling:.0%} with the others in its batch"
        if self.status == "watch":
            said += f", and by {self.coupling_eval:.0%} in evaluation, where it should not"
        return said

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        own = {"status": self.status, "verdict": self.verdict, "time_share": self.time_share}
        return plain({**asdict(self), **own})

    def to_html(self) -> str:
        """One page that needs no network, in the look of the report of `ug.check`."""
        return audit_page(self.to_dict())

    def __str__(self) -> str:
        if not self.batch_norms:
            return f"{self.model}: {self.verdict}"
        bytes_share = 1 - self.saved_bytes[1] / self.saved_bytes[0] if self.saved_bytes[0] else 0.0
        lines = [
            f"{self.model}: batch normalization runs {self.batch_norms} times",
            f"  time    {self.seconds[0]:.3g} s a step, {self.time_share:.0%} less with fixed scales and shifts",
            f"  memory  {self.saved_bytes[0] / 1e6:.1f} MB kept for backward, {bytes_share:.0%} less with fixed scales",
        ]
        if self.coupling is not None:
            lines.append(
                f"  one example's output moves by {self.coupling:.2g} (relative) with the others in training"
            )
        if self.coupling_eval is not None and self.coupling_eval > _ROUNDING:
            lines.append(f"  and by {self.coupling_eval:.2g} in evaluation, where it should not")
        if self.train_eval_gap is not None:
            lines.append(
                f"  outputs in training and evaluation differ by {self.train_eval_gap:.2g} (relative)"
            )
        lines.append("  norm                           values  mean noise  var noise  fold")
        for n in self.norms[:_MOST]:
            lines.append(
                f"  {n.path:30} {n.values:6d}  {_shown(n.mean_noise)} {_shown(n.var_noise)}  {n.fold}"
                + (f": {n.why}" if n.why else "")
            )
        if len(self.norms) > _MOST:
            lines.append(f"  and {len(self.norms) - _MOST} more")
        if self.sizes:
            lines.append("  batch size   mean noise  var noise   s a step   with fixed scales")
            lines += [
                f"  {s.size:10d}   {_shown(s.mean_noise)} {_shown(s.var_noise)} {s.seconds:10.3g} "
                f"{s.frozen_seconds:19.3g}"
                for s in self.sizes
            ]
        return "\n".join(lines)


@opens_compiled
def audit(model: nn.Module, batch: Any, *, batches: Sequence[int] = ()) -> AuditReport:
    """Measures what normalization by batch statistics does and costs; the model is left as it was.

    batch    as for `ug.check`, of two examples or more
    batches  further batch sizes to measure: examples are taken from the batch, again and again where it is smaller
             (then the noise of the statistics would be too small, and is left out)

    Returns an AuditReport. Raises InputError for a batch that does not fit.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> report = audit(net, torch.randn(8, 3, 8, 8))
    >>> [(n.path, n.values, n.fold) for n in report.norms], report.coupling > 0
    ([('1', 288, 'absorbed')], True)
    """
    found = graphs.read("audit", model, batch)
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 2 for size in batches):
        raise InputError(f"audit: batches is {list(batches)!r}; expected batch sizes of at least 2")
    report = AuditReport(type(model).__name__, found.examples, 0, left=dict(other_norms(model)))
    try:
        report.batch_norms = count_batch_norms(model, found, training=True)
    except Exception as error:
        raise InputError(f"audit: the model raised in training mode: {error}") from error
    readings = [read(model, found, training=training) for training in (False, True)]
    decisions = {d.path: d for d in folding.decide(model, readings, plain=True)}
    noise = _noise(model, found)
    for path, module in model.named_modules():
        if is_batch_norm(module):
            decision = decisions[path]
            values, of_mean, of_variance = noise.get(path, (0, float("nan"), float("nan")))
            report.norms.append(
                NormAudit(
                    path, type(module).__name__, values, of_mean, of_variance, decision.how, decision.why
                )
            )
    fixed = [d for d in decisions.values() if d.how != "refused"]
    report.seconds, report.saved_bytes = _cost(model, found, fixed)
    report.coupling = measuring.coupling(model, found, training=True)
    report.coupling_eval = measuring.coupling(model, found, training=False)
    report.train_eval_gap = _gap(model, found)
    count = found.examples or 0
    for size in batches if count else ():
        some = found.select([i % count for i in range(size)])
        seconds, _ = _cost(model, some, fixed)
        each = list(_noise(model, some).values()) if size <= count else []
        medians = [
            float(torch.tensor([v[i] for v in each]).nanmedian()) if each else float("nan") for i in (1, 2)
        ]
        report.sizes.append(SizeAudit(size, medians[0], medians[1], *seconds))
    return report


def _shown(noise: float) -> str:
    return f"{'-':>10}" if math.isnan(noise) else f"{noise:10.3f}"


def _cost(
    model: nn.Module, batch: Batch, fixed: Sequence[Decision]
) -> tuple[tuple[float, float], tuple[int, int]]:
    """((seconds as it is, with fixed scales), (bytes kept, likewise))."""
    seconds, kept = measuring.step_cost(model, batch)
    with in_place(model, batch=batch), torch.no_grad():
        for decision in fixed:
            norm = model.get_submodule(decision.path)
            edit = Edit(
                "affine", paths_of(model, norm), decision.channels, decision.rank, folding.parts_of(norm)
            )
            made = apply(model, edit)
            assert made is not None
            affine = folding.affine_of(norm, decision.channels)
            made.get_parameter("weight").copy_(affine.scale)
            made.get_parameter("bias").copy_(affine.shift)
        with torch.enable_grad():
            other, other_kept = measuring.step_cost(model, batch)
    return (seconds, other), (kept, other_kept)


def _noise(model: nn.Module, batch: Batch) -> dict[str, tuple[int, float, float]]:
    """{path: (values per channel, noise of the mean, noise of the log variance)}, from the batch's halves."""
    found: dict[str, tuple[int, float, float]] = {}

    def hook(path: str) -> Any:
        def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].detach().double()
            if path in found or x.dim() < 2:
                return
            found[path] = (x.numel() // x.shape[1], math.nan, math.nan)
            half = len(x) // 2
            if not half:
                return
            rows = [part.movedim(1, 0).flatten(1) for part in (x[:half], x[half : 2 * half])]
            means, variances = [r.mean(1) for r in rows], [r.var(1, correction=0) for r in rows]
            std = (x.movedim(1, 0).flatten(1).var(1, correction=0)).sqrt().clamp_min(1e-12)
            # the mean of both halves is half as far off as they differ
            of_mean = (means[0] - means[1]).abs() / 2 / std
            of_variance = (
                variances[0].clamp_min(1e-12).log() - variances[1].clamp_min(1e-12).log()
            ).abs() / 2
            several = rows[0].shape[1] > 1  # one value has no variance
            found[path] = (
                x.numel() // x.shape[1],
                float(of_mean.mean()),
                float(of_variance.mean()) if several else math.nan,
            )

        return see

    with in_place(model, batch=batch), torch.no_grad():
        model.train()
        for path, module in model.named_modules():
            if is_batch_norm(module):
                module.register_forward_pre_hook(hook(path))
        given = batch.clone()
        model(*given.args, **given.kwargs)
    return found


def _gap(model: nn.Module, batch: Batch) -> float | None:
    with in_place(model, batch=batch):
        for module in model.modules():
            if graphs.role_of(module) == "dropout" and isinstance(getattr(module, "p", None), float):
                module.p = 0.0  # type: ignore[assignment]
        trained, evaluated = (outputs_of(model, batch, training=t) for t in (True, False))
    off = distance(trained[:1], evaluated[:1]) if evaluated and trained else float("inf")
    return off if off < float("inf") else None
