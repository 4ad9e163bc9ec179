"""UG116 targets-misaligned: a language model is asked for the token that it has just read, or for one too far ahead.

Source: Bengio et al., A neural probabilistic language model (2003), for the task; Hugging Face's documentation of
labels, which its causal models shift by themselves. The measurement is ours (_check/shift.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..record import PlaceFacts, ShiftFacts
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

if TYPE_CHECKING:
    from . import ug807_wrong_axis as ug807

ABOUT = About(
    code="UG116",
    name="targets-misaligned",
    rank=94,
    exact=True,
    seen=(
        "The loss compares targets with other examples' or other steps' outputs than their own; or a model that "
        "reads a text from left to right is asked for the token that it has just read, or skips one."
    ),
    matters=(
        "Compared with another place, outputs learn what belongs to others. Asked for what it has read, a language "
        "model learns to copy: the loss falls to nothing, and the model can write nothing. "
        "Shifted twice, it learns the token after the next, and what it writes leaves out every second one."
    ),
    source=(
        "Bengio et al., A neural probabilistic language model, 2003; Hugging Face, documentation of GPT-2's labels, "
        "which are shifted inside of the model."
    ),
    measured=(
        "One target is exchanged, on made-up outputs: the gradient of the loss changes at the output that it is "
        "compared with, which lies at the same place of the axes that both have. Integer targets (or labels that the "
        "model takes) equal an input shifted by 0, 1 or 2 steps. One token is exchanged: the first output that "
        "changes has read it. One label is exchanged: the gradient "
        "of the loss changes at the output that it is compared with. The three shifts together are one for "
        "the next token. Outputs in one long row are compared with the label in the same place: it must be of the "
        "example "
        "that the output depends on."
    ),
    action=(
        "Bring outputs and targets into one order of axes, with permute or transpose, before they are reshaped. Shift "
        "the targets of a language model once: either in the data (x[:, :-1] and x[:, 1:]) or in the loss, not in both."
    ),
    effect="Each output is compared with its own target.",
    verify="Check again.",
    silent=(
        "losses that pair outputs and targets by their values, as nearest neighbours and sorted values are",
        "masked words and autoencoders, whose outputs depend on later tokens",
        "models that shift their inputs or labels themselves",
        "targets that repeat earlier tokens, as tests of memory have it",
        "models that code each token by itself",
        "models that predict several tokens at once, the next one among them",
    ),
)


@dataclass(frozen=True)
class Shifts(BaseEvidence):
    """ahead: how far the token that is asked for lies behind the last one that was read (1 is right), which is the
    sum of the shifts by data, loss and model; input: whose tokens they are."""

    input: str
    ahead: int
    data: int
    loss: int
    model: int


@dataclass(frozen=True)
class Places(BaseEvidence):
    """target: the place of one target; output: that of the output which the loss compares it with; where: the line of
    the caller's code that changes the outputs' shape in the loss."""

    target: Sequence[int]
    output: Sequence[int]
    where: str | None


Evidence = Shifts | Places


def judge(view: View) -> Iterator[Found[Shifts | Places]]:
    if (place := view.facts.comparison.place) is not None:
        yield _elsewhere(view, place)
        return
    shift = view.facts.function.shift
    if shift.reason is not None:
        raise CannotJudge(f"how far ahead the targets lie: {shift.reason}")
    if shift.turned:
        yield ABOUT.found(
            "error",
            view.facts.output.site,
            f"outputs come in one row time first, and the targets, the tokens of {shift.input}, example first: most "
            f"are "
            "compared with another example's",
            evidence=Shifts(shift.input or "", 0, shift.data or 0, 0, 0),
            cause="The inputs were transposed for a layer that takes time first, and the targets were not, before both "
            "were flattened.",
            remedy="Flatten both in the same order: targets.T.reshape(-1), or the outputs transposed back before.",
        )
        return
    if shift.ahead is None or shift.ahead == 1 or shift.ahead < 0:
        return
    evidence = Shifts(shift.input or "", shift.ahead, shift.data or 0, shift.loss or 0, shift.model or 0)
    copies = shift.ahead == 0
    yield ABOUT.found(
        "error",
        view.facts.output.site,
        f"each output is compared with the token of {shift.input} that "
        + (
            "the model has just read"
            if copies
            else f"comes {shift.ahead} steps after the last that the model has read"
        )
        + f": {_shifts(shift)}",
        evidence=evidence,
        cause="The targets equal the inputs, and nothing shifts them: the model is asked to copy."
        if copies
        else "Targets are shifted more than once: the token that comes next is never asked for.",
        remedy=_cure(shift),
    )


def _elsewhere(view: View, place: PlaceFacts) -> Found[Places]:
    where = f" ({place.where})" if place.where else ""
    return ABOUT.found(
        "error",
        view.facts.output.site,
        f"the loss compares the target at {place.target} of {place.targets} with the output at {place.output} of "
        f"{place.outputs}, not with its own",
        evidence=Places(place.target, place.output, place.where),
        cause="A view or reshape keeps the order of the values: it gives axes other places without moving a value; or "
        "outputs and targets were flattened in different orders.",
        remedy=f"Before the reshape in the loss{where} bring the axes of the outputs into the targets' order, with "
        "permute or transpose: out.permute(0, 2, 1).reshape(-1, classes) for outputs (N, classes, T).",
    )


def _shifts(shift: ShiftFacts) -> str:
    parts = [f"{who} shifts by {n}" for who, n in (("the data", shift.data), ("the loss", shift.loss),
                                                   ("the model", shift.model)) if n]  # fmt: skip
    return ", ".join(parts) or "neither data nor loss shift them"


def _cure(shift: ShiftFacts) -> str:
    if shift.ahead == 0:
        return (
            "Shift the targets by one step: inputs x[:, :-1] with targets x[:, 1:], or outputs[:, :-1] with "
            "labels[:, 1:] in the loss."
        )
    if shift.data and shift.loss:
        return "Shift once: leave the labels as they are in the data (labels = inputs), since the loss shifts them."
    if shift.data and shift.model:
        return (
            "Shift once: leave the labels as they are in the data (labels = inputs), since the model shifts "
            "its inputs."
        )
    return "Shift the targets by one step, not more: inputs x[:, :-1] with targets x[:, 1:]."


def _takes_places(cause: Found[ug807.Evidence], effect: Found[Evidence], view: View) -> bool:
    """What the loss takes for classes are places."""
    return cause.evidence.kind == "classes"


EXPLAINED_BY = (Cause("UG807", _takes_places),)

BAD = """
class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 40)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


text = torch.randint(40, (32, 17))
report = ug.check(Language(), (text, text), loss=F.cross_entropy)
"""

GOOD = """
class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 40)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


text = torch.randint(40, (32, 17))
report = ug.check(Language(), (text[:, :-1], text[:, 1:]), loss=F.cross_entropy)
"""
