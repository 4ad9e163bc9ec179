"""UG120 wrong-sign: a term of the loss has the wrong sign, and the loss has a lowest value all the same.

Source: Williams and Peng (1991) for the entropy of a policy; reports of similarities that were minimized. The
measurements are ours (_check/signs.py, entropy.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._comparison import asked, at
from ._rule import About, BaseEvidence, Cause, Found
from ._view import View

ABOUT = About(
    code="UG120",
    name="wrong-sign",
    rank=73,
    exact=True,
    seen=(
        "The loss, or one of its terms, is highest where the outputs are right, or it makes the entropy of a policy "
        "small that is to be kept large."
    ),
    matters=(
        "Such a loss is bounded, so that nothing overflows: it falls as it should, and what is learnt is the opposite "
        "of the targets, or one action whatever the state is."
    ),
    source="Williams and Peng, Function optimization using connectionist reinforcement learning algorithms, 1991.",
    measured=(
        "The loss is called on outputs that equal the targets, on others at several distances from them and on their "
        "opposite: a wrong sign if the first cost most. Of class numbers, and of targets of 0 and 1, certain right "
        "answers are compared with certain wrong ones and with none, and the loss has to have an upper end. One call "
        "of the loss is followed: the slope of each p log p of a softmax of the outputs says whether its entropy is "
        "made small. Of class numbers, one for each example, slopes at made-up outputs say whether that of the own "
        "class makes the loss larger, as those of the others do. The loss is that of a policy if some chosen actions "
        "are made likelier and others less likely."
    ),
    action="Put a minus before the term, or take one minus it.",
    effect="The loss is lowest where the outputs are right; the policy's entropy falls slowly.",
    verify="Check again.",
    silent=(
        "expected costs: targets that say what each choice costs",
        "squared cosines, which are to be orthogonal",
        "losses that punish a class without end (unlikelihood)",
        "the entropy of examples without labels, made small on purpose: for information",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """term: "answers", "own class", "entropy" or "one of several"; where: the line of the caller's code; loss:
    of the batch."""

    term: str
    where: str | None
    loss: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    facts, entropy = view.facts.comparison.asked, view.facts.comparison.entropy
    if entropy is not None:
        yield ABOUT.found(
            "warning" if entropy.policy else "info",
            view.facts.output.site,
            f"the loss makes the entropy of the outputs' softmax small{at(entropy.where)}"
            + (", beside a policy's gain" if entropy.policy else ""),
            evidence=Evidence("entropy", entropy.where, view.loss),
            cause="The bonus for a policy's entropy has the wrong sign: the policy is driven to one action before it "
            "has tried the others."
            if entropy.policy
            else "Right for examples without labels, which are to be decided; a bonus for entropy is subtracted.",
            remedy=f"Subtract the entropy from the loss{at(entropy.where)}: loss - 0.01 * entropy.",
        )
    term = view.facts.comparison.term
    if term is not None:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            f"a term of the loss{at(term.where)} is {'highest' if term.added else 'lowest'} where the outputs are "
            f"right, and is {'added' if term.added else 'subtracted'}",
            evidence=Evidence("one of several", term.where, view.loss),
            cause="It drives the outputs away from the targets, against the other terms.",
            remedy=f"Change its sign{at(term.where)}: "
            + ("subtract it, or add one minus it." if term.added else "add it."),
        )
    if facts.repels and not facts.highest and term is None:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            "the loss rises with the output of each example's own class, as it does with those of the others",
            evidence=Evidence("own class", None, view.loss),
            cause="The term that draws an example to its own class has the wrong sign: it is pushed away from it.",
            remedy="Put a minus before the term of the own class (a similarity is made large, a distance small).",
        )
        return
    if not facts.highest:
        if entropy is None and term is None:
            asked(view)
        return
    yield ABOUT.found(
        "error",
        view.facts.output.site,
        "the loss is highest where the outputs are right, and falls as they turn away from the targets",
        evidence=Evidence("answers", None, view.loss),
        cause="A similarity or a gain is minimized as it is: its minus is missing.",
        remedy="Minimize the opposite: put a minus before it, or take one minus the similarity.",
    )


EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG106"), Cause("UG119"))

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))
batch = torch.randn(256, 20), torch.randn(256, 8)
report = ug.check(model, batch, lambda out, y: F.cosine_similarity(out, y, dim=1).mean())
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))
batch = torch.randn(256, 20), torch.randn(256, 8)
report = ug.check(model, batch, lambda out, y: 1 - F.cosine_similarity(out, y, dim=1).mean())
"""
