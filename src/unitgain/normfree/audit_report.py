"""AuditReport: what normalization does and costs in a model, as numbers, as text, and as a page."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..report import Saved, audit_page, plain

_MOST = 15  # rows of a table in a terminal
_ROUNDING = 1e-4  # a relative difference that float32 may make
_FEW = 8  # examples a step, from which on BatchNorm is known to cost accuracy


@dataclass(frozen=True)
class NormAudit:
    """One BatchNorm.

    values      per channel in this batch, of which its statistics are made
    mean_noise  standard error of the batch's mean over the std, as the rms over channels; for independent values it is
                1 / sqrt(values), where positions of one example resemble one another it is more
    var_noise   standard error of the logarithm of the variance, likewise. Both by the jackknife: from what they become
                when one example is left out. NaN where that leaves nothing to measure
    fold        what fold would do: absorbed, forward, affine, refused; why: of the last two
    into        the layers that absorb it
    """

    path: str
    kind: str
    values: int
    mean_noise: float
    var_noise: float
    fold: str
    why: str
    into: tuple[str, ...] = ()


@dataclass(frozen=True)
class SizeAudit:
    """One batch size.

    mean_noise, var_noise  the median over all norms
    estimated  whether they are not of a batch of this size but of a smaller one, by 1 / sqrt(examples)
    seconds, frozen_seconds, preserved_seconds  as the three `seconds` of AuditReport
    """

    size: int
    mean_noise: float
    var_noise: float
    seconds: float
    frozen_seconds: float
    preserved_seconds: float
    estimated: bool = False


@dataclass(repr=False)
class AuditReport(Saved):
    """What normalization does and costs.

    batch_norms     how often batch normalization runs in a pass, counted in torch
    norms           one NormAudit each; left: other norms, by path
    seconds         of a forward and backward pass: as it is; with each norm replaced by its frozen scale and shift;
                    after `convert(mode="preserve")`, where most are absorbed by layers. The least of several, in turns
    time_noise      by how much the median of those of "as it is" is above the least
    saved_bytes     what is kept for the backward pass, likewise
    clipping_seconds  what adaptive gradient clipping, which the converted network trains with, adds to a step
    coupling        how far one example's output moves in training when the others are drawn anew from the batch (rms,
                    relative); None where that cannot be asked
    coupling_eval   the same in evaluation mode
    train_eval_gap  rms of the outputs' difference between training without dropout and evaluation, relative
    untrained       whether no norm has measured running statistics yet, so that evaluation says nothing
    sizes           the batch-size study
    """

    model: str
    examples: int | None
    batch_norms: int
    norms: list[NormAudit] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)
    time_noise: float = 0.0
    saved_bytes: tuple[int, int, int] = (0, 0, 0)
    clipping_seconds: float = 0.0
    coupling: float | None = None
    coupling_eval: float | None = None
    train_eval_gap: float | None = None
    untrained: bool = False
    sizes: list[SizeAudit] = field(default_factory=list)

    @property
    def time_share(self) -> float:
        """The share of a step that normalizing by batch statistics takes, beside a fixed scale and shift; 0 where it
        is less than the step's own noise."""
        share = self._saving(1)
        return share if share > self.time_noise else 0.0

    def _saving(self, which: int) -> float:
        return 1 - self.seconds[which] / self.seconds[0] if self.seconds[0] else 0.0

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

    @property
    def advice(self) -> list[str]:
        """What can be done, and what speaks for it, one line each; [] without BatchNorm."""
        if not self.batch_norms:
            return []
        by = {how: [n for n in self.norms if n.fold == how] for how in ("affine", "refused")}
        gone = len(self.norms) - len(by["affine"]) - len(by["refused"])
        said = f"{gone} of {len(self.norms)} norms can be absorbed by the layers around them"
        if by["affine"]:
            said += f", {len(by['affine'])} become a scale and a shift per channel"
        if by["refused"]:
            said += (
                f"; {', '.join(n.path for n in by['refused'][:3])} cannot be converted in a trained network"
            )
        lines = [said]
        noisy = [n for n in self.norms if not math.isnan(n.mean_noise)]
        if noisy:
            worst = max(noisy, key=lambda n: n.mean_noise)
            lines.append(
                f"noisiest: {worst.path}, {worst.values} values per channel, whose mean is off by "
                f"{worst.mean_noise:.0%} of a standard deviation in each batch"
            )
        sizes = [s for s in (self.examples, *(s.size for s in self.sizes)) if s is not None]
        if sizes and min(sizes) <= _FEW:
            lines.append(
                "with 8, 4 and 2 examples per GPU instead of 32 a ResNet-50 with BatchNorm lost 1, 4 and 11 points on "
                "ImageNet (Wu and He 2018, arXiv 1803.08494)"
            )
        return [
            *lines,
            'a trained network that goes on with few examples a step: convert(model, batch, "preserve")',
            "a network that is trained from scratch with few examples: convert(model, batch)",
            "inference and export: fold(model, batch)",
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        own = {
            "status": self.status,
            "verdict": self.verdict,
            "time_share": self.time_share,
            "advice": self.advice,
        }
        return plain({**asdict(self), **own})

    def to_html(self) -> str:
        """One page that needs no network, in the look of the report of `ug.check`."""
        return audit_page(self.to_dict())

    def __str__(self) -> str:
        if not self.batch_norms:
            return f"{self.model}: {self.verdict}"
        lines = [f"{self.model}: batch normalization runs {self.batch_norms} times", *self._costs()]
        if self.coupling is not None:
            lines.append(
                f"  one example's output moves by {self.coupling:.2g} (relative) in training, with the others in its "
                "batch drawn anew"
            )
        if self.coupling_eval is not None and self.coupling_eval > _ROUNDING:
            lines.append(f"  and by {self.coupling_eval:.2g} in evaluation, where it should not")
        if self.untrained:
            lines.append(
                "  running statistics are still those of initialization: evaluation says nothing yet"
            )
        elif self.train_eval_gap is not None:
            lines.append(
                f"  outputs in training and evaluation differ by {self.train_eval_gap:.2g} (relative)"
            )
        lines.append("  norm                           values  mean noise  var noise  fold")
        for n in self.norms[:_MOST]:
            lines.append(
                f"  {n.path:30} {n.values:6d}  {_shown(n.mean_noise)} {_shown(n.var_noise)}  {n.fold}"
                + (f" into {', '.join(n.into)}" if n.fold == "forward" else f": {n.why}" if n.why else "")
            )
        if len(self.norms) > _MOST:
            lines.append(f"  and {len(self.norms) - _MOST} more")
        lines += self._size_table()
        lines += ["  what can be done:", *(f"    {line}" for line in self.advice)]
        return "\n".join(lines)

    def _costs(self) -> list[str]:
        def less(share: float, noise: float) -> str:
            if abs(share) <= noise:
                return "the same"
            return f"{share:.0%} less" if share > 0 else f"{-share:.0%} more"

        names = ("as it is", "with fixed scales and shifts", 'after convert(mode="preserve")')
        lines = []
        for i, name in enumerate(names):
            bytes_share = 1 - self.saved_bytes[i] / self.saved_bytes[0] if self.saved_bytes[0] else 0.0
            if math.isnan(self.seconds[i]):
                continue
            beside = f" ({less(self._saving(i), max(self.time_noise, 0.005))})" if i else ""
            kept = f" ({less(bytes_share, 0.005)})" if i else ""
            lines.append(
                f"  {name:32} {self.seconds[i]:8.3g} s a step{beside:13}  {self.saved_bytes[i] / 1e6:8.1f} MB kept "
                f"for backward{kept}"
            )
        lines.append(
            f"  the same step differs by {self.time_noise:.0%} from time to time; gradient clipping, for the converted "
            f"network, adds {self.clipping_seconds:.2g} s"
        )
        return lines

    def _size_table(self) -> list[str]:
        if not self.sizes:
            return []
        lines = ["  batch size   mean noise  var noise   s a step   with fixed scales   after preserve"]
        lines += [
            f"  {s.size:10d}   {_shown(s.mean_noise, s.estimated)} {_shown(s.var_noise, s.estimated)} "
            f"{s.seconds:10.3g} {s.frozen_seconds:19.3g} {s.preserved_seconds:16.3g}"
            for s in self.sizes
        ]
        if any(s.estimated for s in self.sizes):
            lines.append(f"  ~ estimated from this batch of {self.examples}, by 1/sqrt(batch size)")
        return lines


def _shown(noise: float, estimated: bool = False) -> str:
    return f"{'-':>10}" if math.isnan(noise) else f"{('~' if estimated else '') + format(noise, '.3f'):>10}"
