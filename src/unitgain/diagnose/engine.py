"""Runs the rules over a record: selection, one finding per cause, order, verdict, first action."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..record import Record
from . import activations, curves, gradients, inputs, loss, structure, updates
from .catalogue import CATALOGUE, resolve
from .causes import fold
from .diagnosis import Diagnosis
from .finding import SEVERITIES, Finding
from .view import CannotJudge, View, plural

Rule = Callable[[View], Iterator[Finding]]

RULES: dict[str, Rule] = {
    "UG101": loss.confident_at_init,
    "UG102": loss.constant_output,
    "UG103": loss.double_softmax,
    "UG104": loss.loss_not_finite,
    "UG201": inputs.input_not_normalized,
    "UG202": inputs.input_not_finite,
    "UG301": activations.vanishing_activations,
    "UG302": activations.exploding_activations,
    "UG303": activations.saturated,
    "UG304": activations.dead_units,
    "UG306": activations.activation_not_finite,
    "UG401": gradients.vanishing_gradient,
    "UG402": gradients.exploding_gradient,
    "UG403": gradients.no_gradient,
    "UG405": gradients.gradient_not_finite,
    "UG501": updates.updates_too_large,
    "UG502": updates.updates_too_small,
    "UG503": updates.uneven_updates,
    "UG504": curves.loss_diverging,
    "UG505": curves.hockey_stick,
    "UG601": structure.redundant_bias,
}


def diagnose(
    record: Record,
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Diagnosis:
    """What the rules say about a record.

    select  run only these rules: codes ("UG101"), prefixes ("UG1") or names ("saturated")
    ignore  leave these out. A rule that does not run explains nothing either: what would have been
            named as its consequence stands for itself then

    Raises InputError for a code, prefix or name that no rule has.

    >>> diagnose(Record()).verdict
    'cannot tell: nothing was measured'
    """
    codes = set(RULES) if select is None else resolve(select, "select")
    codes -= resolve(ignore, "ignore") if ignore else set()
    view = View(record)
    found: list[Finding] = []
    abstained: dict[str, str] = {}
    for code, rule in RULES.items():
        if code not in codes:
            continue
        try:
            found += rule(view)
        except CannotJudge as reason:
            abstained[code] = str(reason)
    findings = sorted(fold(found, view), key=_importance)
    status, verdict = _verdict(view, findings, judged=len(codes) - len(abstained))
    first = findings[0] if status == "sick" else None
    return Diagnosis(tuple(findings), verdict, status, first.remedy if first else "", abstained)


def _importance(finding: Finding) -> tuple[int, int]:
    return -SEVERITIES.index(finding.severity), CATALOGUE[finding.code].rank


def _verdict(view: View, findings: Sequence[Finding], judged: int) -> tuple[str, str]:
    """(status, one line)."""
    count = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    if count["error"] or count["warning"]:
        parts = [plural(count[s], s) for s in ("error", "warning") if count[s]]
        return "sick", f"sick: {', '.join(parts)}"
    if not view.activations:
        return "unknown", "cannot tell: nothing was measured"
    if judged == 0:
        return "unknown", "cannot tell: none of the rules that were asked could judge this record"
    notes = [f"{count['info']} for information"] if count["info"] else []
    if not view.parameter_gradients and not view.gradients:
        notes.append("no gradient was measured")
    return "healthy", "healthy: no errors, no warnings" + (f" ({'; '.join(notes)})" if notes else "")
