"""Which remedies there are for which finding, the one with the best expected effect first.

Rescaling comes before drawing anew, since it keeps what the weights' directions may hold. Whatever is tried is
measured afterwards, so that a plan may be optimistic: what does not help is undone (loop.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .. import remedies
from ..graph import trace
from ..remedies import RemedyReport
from ..rules import Finding
from .patient import Patient


@dataclass(frozen=True)
class Remedy:
    """One way to repair a finding.

    name     what it does, in a few words
    work     applies it in place and says what it did
    redraws  whether it draws weights anew or rescales many: nothing for a model that has been trained
    """

    name: str
    work: Callable[[Patient, Finding], RemedyReport]
    redraws: bool = False

    def apply(self, patient: Patient, finding: Finding) -> list[str]:
        """Applies it; one line for each change, none if it found nothing to do."""
        done = self.work(patient, finding)
        return [f"{c.name}: rms {c.before:.3g} -> {c.after:.3g}, {c.reason}" for c in done.changes]


def _head(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.scale_head_(patient.model, patient.batch)


def _lsuv(patient: Patient, finding: Finding) -> RemedyReport:
    return _with_quiet_head(patient, _scaled(patient))


def _init(patient: Patient, finding: Finding) -> RemedyReport:
    return _with_quiet_head(patient, remedies.init_(patient.model, batch=patient.batch))


def _init_lsuv(patient: Patient, finding: Finding) -> RemedyReport:
    drawn = remedies.init_(patient.model, batch=patient.batch)
    return _with_quiet_head(patient, drawn, _scaled(patient))


def _scaled(patient: Patient) -> RemedyReport:
    """LSUV; in a residual network without norms, branches end so quietly that their sum has the scale of one.

    The projections inside attention, which LSUV does not reach, are drawn anew: too large ones leave an output of the
    right scale and gradients that explode in the softmax.
    """
    graph = trace(patient.model, patient.batch)
    inside = sorted({w.node.path for w in graph.weights() if w.node.role == "attention"})
    drawn = remedies.init_(patient.model, batch=patient.batch, only=inside).changes if inside else []
    loud = [b for b in graph.branches if not any(graph[name].role == "norm" for name in b.nodes)]
    quiet = len(loud) ** -0.5 if loud else None
    scaled = remedies.lsuv_(patient.model, patient.batch, branch_std=quiet)
    return RemedyReport(scaled.title, [*drawn, *scaled.changes])


def _branches(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.scale_residual_branches_(patient.model, patient.batch)


def _init_branches(patient: Patient, finding: Finding) -> RemedyReport:
    drawn = remedies.init_(patient.model, batch=patient.batch)
    return _with_quiet_head(patient, drawn, remedies.scale_residual_branches_(patient.model, patient.batch))


def _zero_ends(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.zero_residual_ends_(patient.model, patient.batch)


def _with_quiet_head(patient: Patient, *done: RemedyReport) -> RemedyReport:
    """A classifier whose last layer was given std 1 too would be sure, and wrong, at its first guess."""
    reports = list(done)
    if patient.classifies:
        reports.append(remedies.scale_head_(patient.model, patient.batch))
    return RemedyReport(done[0].title, [change for report in reports for change in report.changes])


def _symmetry(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.break_symmetry_(patient.model, patient.batch)


def _bias(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.remove_redundant_bias_(patient.model, patient.batch)


def _recalibrate(patient: Patient, finding: Finding) -> RemedyReport:
    return remedies.recalibrate_(patient.model, [patient.batch])


def _input(patient: Patient, finding: Finding) -> RemedyReport:
    return RemedyReport("normalize the input", [patient.normalize_input(finding.site)])


HEAD = Remedy("scale the last layer down", _head, redraws=True)
LSUV = Remedy("scale every layer to std 1 on this batch (lsuv_)", _lsuv, redraws=True)
INIT = Remedy("draw the weights anew with the right gains (init_)", _init, redraws=True)
INIT_LSUV = Remedy(
    "draw the weights anew, then scale them on this batch (init_, lsuv_)", _init_lsuv, redraws=True
)
BRANCHES = Remedy("scale the residual branches by 1/sqrt(their number)", _branches, redraws=True)
INIT_BRANCHES = Remedy("draw the weights anew and scale the residual branches", _init_branches, redraws=True)
ZERO_ENDS = Remedy("start the residual branches at zero", _zero_ends, redraws=True)
SYMMETRY = Remedy("draw the units anew that are copies", _symmetry, redraws=True)

_FLOW = (LSUV, BRANCHES, INIT, INIT_BRANCHES, INIT_LSUV, ZERO_ENDS)

PLANS: dict[str, tuple[Remedy, ...]] = {
    "UG101": (HEAD,),
    "UG201": (Remedy("normalize the input", _input),),
    "UG301": _FLOW,
    "UG302": _FLOW,
    "UG303": (LSUV, INIT, INIT_LSUV),
    "UG304": (LSUV, INIT, INIT_LSUV),
    "UG305": (LSUV, INIT),
    "UG307": _FLOW,
    "UG401": _FLOW,
    "UG402": _FLOW,
    "UG404": (LSUV, INIT),
    "UG601": (Remedy("remove the bias", _bias),),
    "UG604": (Remedy("recalibrate the running statistics on this batch", _recalibrate),),
    "UG605": (LSUV, INIT, INIT_LSUV),
    "UG606": (SYMMETRY, INIT),
    "UG607": (BRANCHES, LSUV, INIT_LSUV, ZERO_ENDS, INIT_BRANCHES),
}

WHEN_ASKED = frozenset({"UG601", "UG604"})
