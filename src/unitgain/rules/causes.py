"""One cause, one finding: which finding explains which other, and when.

EXPLAINS is a table of (cause, effect, condition). An effect that is explained disappears from the findings
and becomes a line in the consequences of the cause at the root of its chain, which is then as severe as the worst
of what it explains. The first matching row wins; what is only for information explains nothing worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from .catalogue import CATALOGUE
from .curves import lost
from .finding import SEVERITIES, Finding
from .view import View

Condition = Callable[[Finding, Finding, View], bool]

_SEVERAL = 3  # saturated layers that together weaken the gradient by orders of magnitude
_FADED = 1e-3  # of the input's spread is left: the examples became alike little by little


def _always(cause: Finding, effect: Finding, view: View) -> bool:
    return True


def _is_error(cause: Finding, effect: Finding, view: View) -> bool:
    """An infinity that does no harm (severity info) explains nothing."""
    return cause.severity == "error"


def _still_trains(cause: Finding, effect: Finding, view: View) -> bool:
    """A loss that is lost is what matters, and stands for itself; of a rehearsal, which was to show that, the rate
    of its first steps is."""
    return view.rehearsal or (cause.severity == "error" and lost(view) is None)


def _was_there_before(cause: Finding, effect: Finding, view: View) -> bool:
    """What a check finds in the first pass is the cause of what its rehearsal then does."""
    return view.rehearsal and cause.severity == "error"


def _came_with_it(cause: Finding, effect: Finding, view: View) -> bool:
    return cause.severity == "error" and not view.rehearsal


def _grown_before(cause: Finding, effect: Finding, view: View) -> bool:
    """The first non-finite site comes after layers over which the scale grew."""
    start, overflow = view.tensor(cause.site), view.tensor(effect.site)
    return start is not None and overflow is not None and start.position < overflow.position


def _head_is_innocent(cause: Finding, effect: Finding, view: View) -> bool:
    """The logits are large because the features are: the last layer's gain is moderate, or that of the others."""
    return _head_gain_below(view, max(1.0, float(cause.evidence.get("per_layer", 1.0))))


def _head_gain_below(view: View, times: float) -> bool:
    """Whether the last layer enlarges what goes in by less than so many times the moderate gain."""
    output = view.output
    into = [m["rms"] for m in view.fed_by(output) if m["rms"] > 0] if output else []
    gain = CATALOGUE["UG101"].limit("own_gain") * times
    return not into or view.number("output", "rms") < gain * max(into)


def _input_is_large(cause: Finding, effect: Finding, view: View) -> bool:
    """The effect's numbers are large because the input is, with layers of moderate gain in between."""
    limit, gain = CATALOGUE["UG201"].limit("explains"), CATALOGUE["UG101"].limit("own_gain")
    scale = float(cause.evidence.get("rms", math.nan))
    key = "logits_rms" if effect.code == "UG101" else "preactivation_std"
    return scale >= limit and float(effect.evidence.get(key, math.nan)) < gain * scale


def _killed_there(cause: Finding, effect: Finding, view: View) -> bool:
    """The gradient (or the difference between examples) ends at a site that the cause names."""
    where = effect.evidence.get("killed_by") if effect.code == "UG403" else effect.site
    return where is not None and where in {cause.site, *cause.evidence.get("sites", ())}


def _blocks_much(cause: Finding, effect: Finding, view: View) -> bool:
    """Dead or saturated enough to weaken the gradient by orders of magnitude: badly, or in several layers."""
    several = cause.code == "UG303" and len(cause.evidence.get("sites", ())) >= _SEVERAL
    return cause.severity == "error" or several


def _weights_are_large(cause: Finding, effect: Finding, view: View) -> bool:
    """What saturates a function's values on the way forward multiplies the gradient on its way back: the weights."""
    std = cause.evidence.get("preactivation_std")
    return std is None or not std <= 1  # where it was not measured (NaN), the values in the tails say it


def _faded(cause: Finding, effect: Finding, view: View) -> bool:
    """The difference between examples went little by little, as the gradient does on its way back."""
    return effect.evidence.get("spread_before", math.nan) < _FADED


def _layer_is_dead(cause: Finding, effect: Finding, view: View) -> bool:
    """A layer all of whose units are dead: nothing that depends on the input passes, forward or back."""
    whole = any(row["fraction"] == 1 for row in cause.evidence.get("sites", {}).values())
    return (whole and effect.evidence.get("reason") in ("killed", "zero")) or _killed_there(
        cause, effect, view
    )


def _flat_there(cause: Finding, effect: Finding, view: View) -> bool:
    """The gradient ends at a function that gives one value whatever goes in, which is why the output is constant."""
    if _killed_there(cause, effect, view):
        return True
    end = view.tensor(effect.evidence.get("killed_by")) or view.output
    start, limit = view.tensor(cause.site), CATALOGUE["UG102"].limit("spread")
    if effect.evidence.get("reason") not in ("killed", "zero") or start is None or end is None:
        return False
    return end["spread"] < limit and start.position <= end.position


def _all_dead_after(cause: Finding, effect: Finding, view: View) -> bool:
    """All examples become one where all units of a layer are dead, or before that by rounding (a huge bias)."""
    start = view.tensor(effect.site)
    dead = [
        view.tensor(name) for name, row in cause.evidence.get("sites", {}).items() if row["fraction"] == 1
    ]
    return _killed_there(cause, effect, view) or any(
        m is not None and start is not None and start.position <= m.position for m in dead
    )


def _in_a_growing_stream(cause: Finding, effect: Finding, view: View) -> bool:
    """Units that die where a residual stream has grown: what is common to all examples grows with it."""
    return "per_block" in cause.evidence and _grown_before(cause, effect, view)


def _same_sites(cause: Finding, effect: Finding, view: View) -> bool:
    """All sites of the effect are among those of the cause."""
    return set(effect.evidence.get("sites", ())) <= set(cause.evidence.get("sites", ()))


def _arrives_as_zero(cause: Finding, effect: Finding, view: View) -> bool:
    """Gradients of exactly zero: they fell below the smallest number, or a loss without targets sends none."""
    return effect.evidence.get("reason") in ("killed", "zero")


def _ended_not_finite(cause: Finding, effect: Finding, view: View) -> bool:
    """The run had finite losses before, so whatever is not finite at its end came with them."""
    return not view.rehearsal and math.isnan(float(cause.evidence.get("last", 0.0)))


def _comes_after(cause: Finding, effect: Finding, view: View) -> bool:
    """The effect is seen behind one of the weights that the cause names."""
    weights = [view.parameter(name) for name in cause.evidence.get("weights", ())]
    where = view.tensor(effect.site)
    first = min((w.position for w in weights if w is not None), default=None)
    return first is not None and where is not None and first < where.position


def _raises_logits(cause: Finding, effect: Finding, view: View) -> bool:
    """A weight far too large before the last layer, whose own gain is moderate: with a bounded function in between
    only the last layer can make large logits."""
    grows = cause.severity != "info" and float(cause.evidence.get("per_layer", 0.0)) > 1
    return grows and _comes_after(cause, effect, view) and _head_gain_below(view, 1.0)


def _no_worse(cause: Finding, effect: Finding, view: View) -> bool:
    """The effect is not the more severe of the two: an error must not end as a line under a warning."""
    return SEVERITIES.index(effect.severity) <= SEVERITIES.index(cause.severity)


EXPLAINS: tuple[tuple[str, str, Condition], ...] = (
    ("UG202", "UG306", _always),
    ("UG202", "UG104", _always),
    ("UG202", "UG405", _always),
    ("UG302", "UG306", _grown_before),
    ("UG306", "UG104", _is_error),
    ("UG306", "UG405", _is_error),
    ("UG306", "UG102", _is_error),
    ("UG302", "UG104", _always),
    ("UG104", "UG405", _always),
    ("UG302", "UG405", _always),
    ("UG302", "UG101", _head_is_innocent),
    ("UG302", "UG303", _grown_before),
    ("UG302", "UG402", _always),
    ("UG201", "UG101", _input_is_large),
    ("UG201", "UG303", _input_is_large),
    ("UG303", "UG304", _same_sites),
    ("UG302", "UG304", _in_a_growing_stream),
    ("UG304", "UG102", _all_dead_after),
    ("UG304", "UG403", _layer_is_dead),
    ("UG303", "UG102", _killed_there),
    ("UG303", "UG403", _killed_there),
    ("UG301", "UG102", _always),
    ("UG102", "UG403", _flat_there),
    ("UG102", "UG305", _always),
    ("UG301", "UG401", _always),
    ("UG303", "UG401", _blocks_much),
    ("UG304", "UG401", _blocks_much),
    ("UG401", "UG102", _faded),
    ("UG301", "UG403", _arrives_as_zero),
    ("UG401", "UG403", _arrives_as_zero),
    ("UG104", "UG403", _arrives_as_zero),
    ("UG303", "UG402", _weights_are_large),
    ("UG101", "UG505", _always),
    ("UG501", "UG504", _still_trains),
    *((code, "UG504", _was_there_before) for code in ("UG202", "UG302", "UG607", "UG201")),
    ("UG504", "UG306", _ended_not_finite),
    *(("UG504", code, _came_with_it) for code in ("UG303", "UG502")),
    ("UG504", "UG405", _ended_not_finite),
    # residual streams, copies of units and scale of weights: what is more particular comes first
    ("UG607", "UG302", _always),
    *(("UG606", code, _comes_after) for code in ("UG101", "UG303", "UG304")),
    *(("UG606", code, _no_worse) for code in ("UG102", "UG403")),
    ("UG605", "UG101", _raises_logits),
    *((code, "UG605", _always) for code in ("UG301", "UG302", "UG303", "UG607", "UG401", "UG402", "UG304")),
    *((code, "UG305", _always) for code in ("UG301", "UG302", "UG607", "UG307")),
    *((code, "UG307", _always) for code in ("UG102", "UG301", "UG302", "UG303", "UG304", "UG606", "UG401")),
    *((code, "UG404", _always)
      for code in ("UG301", "UG302", "UG303", "UG304", "UG306", "UG401", "UG402", "UG403", "UG606", "UG607",
                   "UG605", "UG307")),
    *((code, "UG406", _no_worse) for code in ("UG301", "UG401")),
)  # fmt: skip


def fold(findings: Sequence[Finding], view: View) -> list[Finding]:
    """The findings that nothing else explains, each with its consequences."""
    parent: dict[int, int] = {}
    for cause_code, effect_code, holds in EXPLAINS:
        for i, effect in enumerate(findings):
            if effect.code != effect_code or i in parent:
                continue
            for j, cause in enumerate(findings):
                trifle = cause.severity == "info" and effect.severity != "info"
                if cause.code == cause_code and not trifle and holds(cause, effect, view):
                    parent[i] = j
                    break
    explained: dict[int, list[Finding]] = {}
    for i, effect in enumerate(findings):
        root = i
        while root in parent:
            root = parent[root]
        if root != i:
            explained.setdefault(root, []).append(effect)
    return [
        _with_consequences(finding, explained.get(i, []))
        for i, finding in enumerate(findings)
        if i not in parent
    ]


def _with_consequences(finding: Finding, effects: Sequence[Finding]) -> Finding:
    severity = max((f.severity for f in (finding, *effects)), key=SEVERITIES.index)
    lines = [f"{effect.code} {effect.name}: {effect.message}" for effect in effects]
    return replace(finding, severity=severity, consequences=(*finding.consequences, *lines))
