"""UG811 encoding-out-of-range: an encoding of times or positions tells nothing, or little, of them.

Source: Vaswani et al., Attention is all you need (2017), for the frequencies; Ho, Jain and Abbeel, Denoising diffusion
probabilistic models (2020), for the same of times. The measurement is ours (_check/encodings.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..record import EncodingFacts
from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import show

ABOUT = About(
    code="UG811",
    name="encoding-out-of-range",
    rank=103,
    exact=True,
    seen=(
        "Sines and cosines of times or positions are the same for all of them, have one frequency in all channels, or "
        "go round many times at the lowest one, or less than once at the highest; or an index is the same for "
        "times that differ."
    ),
    matters=(
        "The network is not told where or when it is, or gets a number that leaps with each step. It learns what is "
        "right on average, and there is no error."
    ),
    source="Vaswani et al., Attention is all you need, 2017; Ho et al., Denoising diffusion models, 2020.",
    measured=(
        "Arguments of sines and cosines in one forward pass that no learnt weight has made, if they are one quantity "
        "times several frequencies; buffers whose channels are sines and cosines of the same; embedding indices that a "
        "conversion to whole numbers or a clamp has made equal, of eight different values or more."
    ),
    action="Bring the argument into the range that the frequencies are for: times 0 to 1000 for 1 down to 1/10000.",
    effect="Different times and positions get different encodings, and near ones similar ones.",
    verify="Check again.",
    silent=(
        "low frequencies of which the batch shows a small part, beside higher ones",
        "calendar features and random frequencies, which go round many times on purpose",
        "sines as activation functions, and frequencies that are learnt",
        "indices that are all the same from the beginning, token types say",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """kind: "slow", "same", "constant", "turns", "aliased" or "index"; shape: of the argument, the table or the
    indices; where: the line of the caller's code, or the table's name."""

    kind: str
    function: str
    shape: Sequence[int]
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    encodings = view.facts.comparison.reach.encodings
    if encodings is None:
        raise CannotJudge("the functions that the model calls were not seen")
    for call in encodings[:1]:
        seen, cause, remedy = _IN_WORDS[call.kind](call)
        yield ABOUT.found(
            "warning",
            call.where if call.function == "table" else view.facts.output.site,
            seen,
            evidence=Evidence(call.kind, call.function, call.shape, call.where),
            cause=cause,
            remedy=remedy,
        )


def _call(call: EncodingFacts) -> str:
    return f"{call.function}{at(call.where)} of {call.shape}"


def _same(call: EncodingFacts) -> tuple[str, str, str]:
    what = f"the table {call.where} {call.shape}" if call.function == "table" else _call(call)
    return (
        f"{what} has one frequency in all channels",
        "The exponents are all the same: a division of whole numbers (i // d) makes all of them zero, say.",
        "Divide as floating-point numbers: 10000 ** (-torch.arange(0, d, 2) / d).",
    )


def _constant(call: EncodingFacts) -> tuple[str, str, str]:
    return (
        f"{_call(call)} is the same for all times or positions: its argument is at most {show(call.reach)}",
        "The argument was divided twice, or the frequencies are for times up to 1000 and the times are fractions.",
        f"Give it times or positions in the range that the frequencies are for{at(call.where)}: t * 1000 of fractions.",
    )


def _turns(call: EncodingFacts) -> tuple[str, str, str]:
    return (
        f"{_call(call)} gets whole turns, multiples of 2 pi, so that it is the same for all",
        "Whole numbers were multiplied by 2 pi: each of them is the same place on the circle.",
        f"Divide by the period{at(call.where)}: 2 * pi * t / period.",
    )


def _aliased(call: EncodingFacts) -> tuple[str, str, str]:
    return (
        f"{_call(call)} goes round {show(call.reach)} times even at the lowest frequency",
        "Times or positions that lie apart get the same encoding, and near ones different ones: they are larger than "
        "the frequencies are for.",
        f"Divide them by their range first{at(call.where)}, or take lower frequencies.",
    )


def _index(call: EncodingFacts) -> tuple[str, str, str]:
    return (
        f"the indices {call.shape} of an embedding{at(call.where)} are all the same: {call.function} made one number "
        f"of {call.values} different ones",
        "Fractions become zero as whole numbers, and what is larger than the table becomes its last row.",
        "Multiply fractions by the number of rows first: (t * rows).long(); or give the table as many rows as there "
        "are times.",
    )


def _slow(call: EncodingFacts) -> tuple[str, str, str]:
    return (
        f"{_call(call)} never gets beyond {show(call.reach)} at its highest frequency, and the others are far lower: "
        "nearly all channels are the same for all times or positions",
        "Times between 0 and 1 go into frequencies from 1 down, which are made for times up to 1000.",
        f"Give it times or positions in the range that the frequencies are for{at(call.where)}: t * 1000 of fractions.",
    )


_IN_WORDS = {
    "slow": _slow,
    "same": _same,
    "constant": _constant,
    "turns": _turns,
    "aliased": _aliased,
    "index": _index,
}

EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.time, self.head = nn.Linear(12, 64), nn.Linear(32, 64), nn.Linear(64, 12)

    def forward(self, x, t):
        args = (t / 1000)[:, None] * 10000 ** (-torch.arange(16) / 16)
        h = self.body(x) + self.time(torch.cat([args.cos(), args.sin()], 1))
        return self.head(h.relu())


t = torch.rand(256)  # fractions already
report = ug.check(Denoiser(), (torch.randn(256, 12), t, torch.randn(256, 12)))
"""

GOOD = """
class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.time, self.head = nn.Linear(12, 64), nn.Linear(32, 64), nn.Linear(64, 12)

    def forward(self, x, t):
        args = (1000 * t)[:, None] * 10000 ** (-torch.arange(16) / 16)
        h = self.body(x) + self.time(torch.cat([args.cos(), args.sin()], 1))
        return self.head(h.relu())


t = torch.rand(256)
report = ug.check(Denoiser(), (torch.randn(256, 12), t, torch.randn(256, 12)))
"""
