"""One cause, one finding: a finding that another one explains becomes a consequence of it.

Each rule says in EXPLAINED_BY which findings explain its own, and when; the first row that holds wins. An explained
finding disappears and becomes a line in the consequences of the cause at the root of its chain, which is then as severe
as the worst of what it explains. What is only for information explains nothing worse. What a training run wrecked
(`About.wrecks`: a loss that diverged, say) is a consequence of that, unless it was there at the first sampled step.

The conditions that several rules share are here too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ._finding import SEVERITIES, Finding
from ._rule import BaseEvidence, CannotJudge, Found, Rule, Threshold
from ._view import View
from ._words import listed

if TYPE_CHECKING:
    from . import ug203_constant_feature as ug203
    from . import ug303_saturated as ug303
    from . import ug304_dead_units as ug304
    from . import ug503_uneven_updates as ug503
    from . import ug504_loss_diverging as ug504
    from . import ug508_stopped_learning as ug508
    from . import ug605_wrong_gain as ug605
    from . import ug606_symmetric_units as ug606
    from . import ug805_sees_the_padding as ug805

    Blocking = Found[ug303.Evidence] | Found[ug304.Evidence]


def fold(found: Sequence[Found[Any]], view: View, rules: Mapping[str, Rule]) -> list[Finding]:
    """The findings that nothing else explains, each with its consequences."""
    parent: dict[int, int] = {}
    for i, effect in enumerate(found):
        for row in rules[effect.code].explained_by:
            causes = [
                j for j, cause in enumerate(found) if cause.code == row.code and _may_explain(cause, effect)
            ]
            open_ = (j for j in causes if _root(parent, j) != i)  # else both would vanish
            holds = next((j for j in open_ if row.when(found[j], effect, view)), None)
            if holds is not None:
                parent[i] = holds
                break
    if view.training:
        _add_wrecked(parent, found, view, rules)
    explained: dict[int, list[Found[Any]]] = {}
    for i, effect in enumerate(found):
        root = _root(parent, i)
        if root != i:
            explained.setdefault(root, []).append(effect)
    return [_finding(one, explained.get(i, [])) for i, one in enumerate(found) if i not in parent]


def _wreckers(found: Sequence[Found[Any]], rules: Mapping[str, Rule]) -> list[int]:
    return [
        j for j, f in enumerate(found) if f.code in rules and rules[f.code].wrecks and f.severity == "error"
    ]


def had_from_the_start(
    found: Sequence[Found[Any]], view: View, rules: Mapping[str, Rule]
) -> list[Found[Any]]:
    """What was there at the first sampled step and the end of a wrecked run hides: activations that explode from the
    start are NaN there, say."""
    if not view.training or not _wreckers(found, rules):
        return []
    start, known = View(view.record, first=True), {f.code for f in found}
    hidden = [rule for code, rule in rules.items() if rule.needs == "batch" and code not in known]
    there = [f for rule in hidden for f in _judged(rule, start) if f.severity != "info"]
    return [replace(f, message=f"at the first sampled step {f.message}") for f in there]


def _add_wrecked(
    parent: dict[int, int], found: Sequence[Found[Any]], view: View, rules: Mapping[str, Rule]
) -> None:
    """What came during the run is a consequence of what the run did."""
    wreckers = _wreckers(found, rules)
    if not wreckers:
        return
    cause = min(wreckers, key=lambda j: rules[found[j].code].rank)
    start = View(view.record, first=True)
    for i, effect in enumerate(found):
        rule = rules[effect.code]
        if (
            i not in parent
            and i != _root(parent, cause)
            and rule.needs == "batch"
            and not _finds(rule, start)
        ):
            parent[i] = cause


def _root(parent: Mapping[int, int], i: int) -> int:
    while i in parent:
        i = parent[i]
    return i


def _finds(rule: Rule, view: View) -> bool:
    return any(found.severity != "info" for found in _judged(rule, view))


def _judged(rule: Rule, view: View) -> list[Found[Any]]:
    try:
        return list(rule.judge(view))
    except CannotJudge:
        return []


def _may_explain(cause: Found[Any], effect: Found[Any]) -> bool:
    return cause.severity != "info" or effect.severity == "info"


def _finding(cause: Found[Any], effects: Sequence[Found[Any]]) -> Finding:
    severity = max((f.severity for f in (cause, *effects)), key=SEVERITIES.index)
    alike: dict[str, list[Found[Any]]] = {}
    for effect in sorted(effects, key=lambda f: -SEVERITIES.index(f.severity)):
        alike.setdefault(effect.code, []).append(effect)
    return cause.finding(
        severity, tuple(_line(alike[code]) for code in dict.fromkeys(f.code for f in effects))
    )


def _line(effects: Sequence[Found[Any]]) -> str:
    """What one rule found, as a consequence: its first message, and where else it found the like."""
    first, others = effects[0], [f.site for f in effects[1:] if f.site]
    likewise = f"; likewise at {listed(others)}" if others else ""
    return f"{first.code} {first.about.name}: {first.message}{likewise}"


# ---- conditions that several rules share ---------------------------------------------------------------------


def is_error(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    """An infinity that does no harm (severity info) explains nothing."""
    return cause.severity == "error"


def at_one_site(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    """Both are about the same tensor: a ReLU at the end of a model whose units are dead, say."""
    return cause.site is not None and cause.site == effect.site


def no_worse(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    """The effect is not the more severe of the two: an error must not end as a line under a warning."""
    return SEVERITIES.index(effect.severity) <= SEVERITIES.index(cause.severity)


def comes_before(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    """The cause names a site before that of the effect: over the layers between them the scale grew."""
    start, end = view.tensor(cause.site), view.tensor(effect.site)
    return start is not None and end is not None and start.position < end.position


def weights_come_before(
    cause: Found[ug605.Evidence] | Found[ug606.Evidence], effect: Found[BaseEvidence], view: View
) -> bool:
    """The effect is seen behind one of the weights that the cause names."""
    weights = [view.parameter(name) for name in cause.evidence.weights]
    where = view.tensor(effect.site)
    first = min((w.position for w in weights if w is not None), default=None)
    return first is not None and where is not None and first < where.position


def names_site(cause: Blocking, site: str | None) -> bool:
    """Whether a finding about saturated or dead layers names this one among them."""
    return site is not None and site in {cause.site, *cause.evidence.sites}


def names_site_of(cause: Blocking, effect: Found[BaseEvidence], view: View) -> bool:
    """The effect begins at a layer that the cause names."""
    return names_site(cause, effect.site)


def has_whole_layer(cause: Found[ug304.Evidence]) -> bool:
    """Whether all units of one of the layers are dead, so that nothing that depends on the input passes."""
    return any(layer.fraction == 1 for layer in cause.evidence.sites.values())


def units_died(cause: Found[ug304.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """Units that had been active died, which is no less severe than the effect: it dates the large steps."""
    return hasattr(cause.evidence, "updates") and no_worse(cause, effect, view)


def rounded_away(stopped: Found[ug508.Evidence], view: View) -> bool:
    """Some parameters and not all have stayed, at a rate above zero that was not lowered: all steps are small, and
    those of the largest values (a norm's gain of one) are less than their last digit."""
    at = stopped.evidence
    site = view.record.site("update", stopped.site) if stopped.site else None
    if site is not None and site.dtype in ("float16", "bfloat16"):
        return False  # there it is the last digit that is coarse
    return stopped.severity == "warning" and at.lr is not None and 0 < at.lr == at.highest


def names_a_group(cause: Found[ug503.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """The cause names a parameter group whose learning rate is far from the others', not single weights."""
    return hasattr(cause.evidence, "others")


def ended_not_finite(cause: Found[ug504.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """The run had finite losses before, so whatever is not finite at its end came with them. What a check finds was
    there before its rehearsal."""
    return not view.rehearsal and math.isnan(cause.evidence.last)


def came_with_divergence(cause: Found[ug504.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """The loss of a run diverged for good, and what is seen at its end came with that."""
    return cause.severity == "error" and not view.rehearsal


HIDDEN = Threshold(
    0.2, "of the spread that outputs have without padding: the rest of the difference is lost in padding"
)


def hides_the_examples(cause: Found[ug805.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """With their padding the examples' outputs are nearly the same, and without it they are not."""
    return cause.evidence.alike < HIDDEN


def all_examples_are_one(cause: Found[ug203.Evidence], effect: Found[BaseEvidence], view: View) -> bool:
    """Where all examples are the same, a unit that is off for one is off for all."""
    return cause.evidence.whole
