"""UG102 constant-output: every example of the batch gets the same output.

Source: Schoenholz et al., Deep information propagation (2017), for deep networks in the ordered phase. Here any
cause counts, and norms that pass on nothing but rounding errors are seen through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._causes import at_one_site, hides_the_examples, is_error, names_site, names_site_of, no_worse
from ._flow import made_of
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import as_layer, show

if TYPE_CHECKING:
    from . import ug304_dead_units as ug304
    from . import ug401_vanishing_gradient as ug401

ABOUT = About(
    code="UG102",
    name="constant-output",
    rank=140,
    seen="The output is the same for every example of the batch, although the examples differ.",
    matters=(
        "The loss then depends on nothing that was put in; the best that training can do is to fit the "
        "average target."
    ),
    source="Schoenholz et al., Deep information propagation, 2017.",
    measured=(
        "spread of the output: rms over examples of the deviation from the mean example, divided by rms. The "
        "site named is the first after the last one where the examples still differed."
    ),
    action=(
        "Look at the named site and what feeds it: zero weights, dead units or a norm over a single value "
        "erase the input there. Re-initialize what is in between."
    ),
    effect="Outputs differ from example to example and the loss can fall below that of a constant answer.",
    verify="Check again: the output's spread is above 0.01.",
    silent=(
        "a zero-initialized head, or a zero-initialized factor of the output that learns",
        "a batch whose examples are all the same",
    ),
)

SPREAD = Threshold(1e-05, "float32 keeps seven digits; a difference in the sixth is rounding")
ROUNDING = Threshold(
    0.0001,
    "of what goes into a norm, times its gain: below it a norm's output is rounding (1e-7) over the root "
    "of its eps (1e-5), and what depends on it is taken for constant; otherwise norms give scale one",
)
FADED = Threshold(1e-3, "spread before the site: below it the examples became the same little by little")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """spread: of the output; last_distinct_site: the last one where examples differ; spread_before: there."""

    spread: float
    examples: int
    last_distinct_site: str | None
    spread_before: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    output = view.facts.output
    spread, examples = output.spread, output.examples or 0
    if math.isnan(spread) or examples < 2:
        lacks = "whether outputs depend on the input" if examples == 1 and view.facts.mode == "check" else ""
        raise CannotJudge("needs the outputs of at least two examples", lacks=lacks)
    inputs = [m["spread"] for m in view.inputs if not math.isnan(m["spread"])]
    if inputs and max(inputs) < SPREAD:
        raise CannotJudge("all examples of the batch are the same")
    noise = _rounding_alone(view) if spread >= SPREAD else None
    if (spread >= SPREAD and noise is None) or output.zero_head or _begins_at_zero(view):
        return
    if view.output is not None and view.output.broken:
        raise CannotJudge("the output is not finite")
    before, site = _where_examples_became_one(view)
    if noise is not None:
        before, site = next(iter(view.fed_by(noise)), None), noise
    where = f"; they become indistinguishable at {site.name} ({site.site.module})" if site else ""
    yield ABOUT.found(
        "error",
        site.name if site else output.site,
        f"the output is the same for all {examples} examples (spread {show(spread)}){where}",
        evidence=Evidence(
            spread,
            examples,
            before.name if before else None,
            before["spread"] if before else math.nan,
        ),
        cause=_why(view, site),
        remedy=f"Look at {as_layer(site.name)} and what feeds it: zero weights, dead units or a norm over a single "
        "value erase the input there. Re-initialize what is in between."
        if site
        else "",
    )


def _begins_at_zero(view: View) -> bool:
    """Whether the output is zero because one of its factors was initialized at zero and learns: one of the two tables
    of skip-gram, say."""
    learning = {m.name for m in view.parameter_gradients if m["rms"] > 0}
    zero = [p for p in view.parameters if p["absmax"] == 0 and p.role in ("weight", "embedding")]
    return view.facts.output.rms == 0 and any(p.name in learning for p in zero)


def _where_examples_became_one(view: View) -> tuple[Measured | None, Measured | None]:
    """The last site where examples differ, and the next one. Sites that never depend on the input (position
    embeddings) are constant from the start, hence the search from the end."""
    known = [m for m in view.activations if not math.isnan(m["spread"])]
    last = max((i for i, m in enumerate(known) if m["spread"] >= SPREAD), default=-1)
    after = known[last + 1] if last + 1 < len(known) else None
    return (known[last] if last >= 0 else None), after


def _rounding_alone(view: View) -> Measured | None:
    """The norm through which all of the output comes and that passes on rounding errors only, or None.

    A norm over values that are all equal (groups of one value, say) divides what rounding leaves of them by the root
    of its eps: errors of 1e-7 come out as 1e-5 of what went in, another number for each example.
    """
    if view.output is None:
        return None
    names, seen, ahead = {m.name for m in view.activations}, set(), [view.output.name]
    found: list[Measured] = []
    while ahead:
        site = view.tensor(ahead.pop())
        if site is None or site.name in seen:
            continue
        seen.add(site.name)
        if _erases(view, site):
            found.append(site)
            continue
        made_from = made_of(site, names)
        if not made_from:
            return None  # an input, or a tensor whose origin is not known
        ahead += made_from
    return min(found, key=lambda m: m.position, default=None)


def _erases(view: View, norm: Measured) -> bool:
    if norm.role != "norm" or not norm["rms"] > 0:
        return False
    gain = next((p["rms"] for p in view.own_parameters(norm, "weight")), 1.0)
    entering = max((m["rms"] for m in view.fed_by(norm)), default=0.0)
    return norm["rms"] < ROUNDING * gain * entering


def _why(view: View, site: Measured | None) -> str:
    if site is None:
        return "What goes into the last layer differs between examples, what comes out does not."
    if any(p["absmax"] == 0 for p in view.own_parameters(site, "weight")):
        return f"The weights of {site.name} are all zero, so its input does not matter."
    if site["rms"] == 0:
        return f"{site.name} is zero for every example."
    if site.role == "norm":
        return f"{site.name} normalizes away what differs: are there enough values to take statistics over?"
    return (
        f"At {site.name} the part that depends on the example is too small beside what all share (its bias)."
    )


# ---- what explains it ----------------------------------------------------------------------------------------


def _all_dead_after(cause: Found[ug304.Evidence], effect: Found[Evidence], view: View) -> bool:
    """All examples become one where all units of a layer are dead, or before that by rounding (a huge bias)."""
    start = view.tensor(effect.site)
    dead = [view.tensor(name) for name, layer in cause.evidence.sites.items() if layer.fraction == 1]
    later = any(m is not None and start is not None and start.position <= m.position for m in dead)
    return names_site(cause, effect.site) or later


def _faded(cause: Found[ug401.Evidence], effect: Found[Evidence], view: View) -> bool:
    """The difference between examples went little by little, as the gradient does on its way back."""
    return effect.evidence.spread_before < FADED


EXPLAINED_BY = (
    Cause("UG507"),
    Cause("UG805", hides_the_examples),
    Cause("UG112"),
    Cause("UG108", at_one_site),
    Cause("UG115", at_one_site),
    Cause("UG306", is_error),
    Cause("UG304", _all_dead_after),
    Cause("UG303", names_site_of),
    Cause("UG301"),
    Cause("UG401", _faded),
    Cause("UG606", no_worse),
)

BAD = """
class Features(nn.Module):
    def forward(self, x):
        return F.layer_norm(x[:, :, None], (1,))[:, :, 0]  # each value minus itself


model = nn.Sequential(nn.Linear(20, 64), Features(), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch)
"""

GOOD = """
class Features(nn.Module):
    def forward(self, x):
        return F.layer_norm(x, (64,))


model = nn.Sequential(nn.Linear(20, 64), Features(), nn.ReLU(), nn.Linear(64, 10))
batch = torch.randn(256, 20), torch.randint(10, (256,))
report = ug.check(model, batch)
"""
