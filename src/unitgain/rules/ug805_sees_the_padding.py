"""UG805 sees-the-padding: what fills up short examples changes their outputs.

Source: Vaswani et al., Attention is all you need (2017), and PyTorch's documentation of key_padding_mask and
pack_padded_sequence, for the cures. The measurement, the same examples with less padding, is ours (_check/padding.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..record import PaddingFacts
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG805",
    name="sees-the-padding",
    rank=96,
    seen="An example's output depends on how much padding stands behind it, or before it.",
    matters=(
        "What a model says of a sentence then depends on the longest one in its batch; a state that is read "
        "behind much padding has forgotten the sentence, and a mean over it is mostly of padding."
    ),
    source="PyTorch documentation: key_padding_mask of MultiheadAttention, pack_padded_sequence, Embedding.",
    measured=(
        "One value fills up the rows of an input in runs of different lengths and stands nowhere else: of "
        "most rows, or an embedding's padding_idx; measurements of zero where a mask or lengths among the "
        "inputs say so. Examples of one length go through the model in evaluation mode with their padding, "
        "and with it cut off. Compared are their outputs, at real steps; the first module at which they "
        "differ is named. Convolutions see the border of the padding, which is left alone. Not judged: "
        "models that take one length alone."
    ),
    action=(
        "Give attention key_padding_mask (True where padding is), recurrent layers pack_padded_sequence, and "
        "take means over real steps alone."
    ),
    effect="The same output for an example in any batch, however long the others are.",
    verify="Check again.",
    silent=(
        "outputs at each step of causal models with padding behind, which are looked at before it only",
        "largest values over windows of convolutions",
        "sums to which padding adds zeros",
        "tables with zeros, and inputs without padding",
    ),
)

CHANGE = Threshold(
    0.02, "of the standard deviation between examples: rounding changes 1e-6, forgotten masks tenths and more"
)
BORDER = Threshold(
    0.001,
    "the same, when a third of the padding is cut off: windows of convolutions see its border and nothing of the rest",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """change: of the outputs, over the standard deviation between examples; alike: that with padding over that
    without; length, steps: real steps of those examples, and with padding; left: padding stands before them; site,
    module: the first at whose output they change."""

    change: float
    input: str
    length: int
    steps: int
    left: bool
    site: str | None
    module: str | None
    alike: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    padding = view.facts.function.padding
    if padding.reason is not None:
        raise CannotJudge(f"whether outputs depend on padding: {padding.reason}")
    if not padding.change > CHANGE or padding.border <= BORDER:
        return
    left, length, steps = bool(padding.left), padding.length or 0, padding.steps or 0
    begins = f"; it begins at {padding.site} ({padding.module})" if padding.site else ""
    by = (
        "are not finite"
        if math.isinf(padding.change)
        else f"change by {show(padding.change)} of their standard deviation"
    )
    yield ABOUT.found(
        "warning",
        padding.site,
        f"outputs of examples of {length} steps {by} when the {steps - length} steps of padding "
        f"{'before' if left else 'behind'} them ({padding.input}) are cut off{begins}",
        evidence=Evidence(
            padding.change,
            padding.input or "",
            length,
            steps,
            left,
            padding.site,
            padding.module,
            padding.alike,
        ),
        cause=_why(padding),
        remedy=_cure(padding),
    )


def _is_attention(module: str) -> bool:
    return "Attention" in module or "Transformer" in module or "Encoder" in module


def _why(padding: PaddingFacts) -> str:
    module = padding.module or ""
    if math.isinf(padding.change):
        return (
            "Without padding nothing is left to attend to: the mask is inverted, and lets nothing but "
            "padding through."
        )
    if _is_attention(module):
        return f"{module} attends to padding: it is given no mask, or one that is inverted or not applied."
    if padding.recurrent:
        return f"{padding.recurrent} runs over the padding, and what is read of it stands behind that."
    if padding.left:
        return (
            "Positions are counted from the first step, padding or not: with more padding before it a word "
            "is elsewhere."
        )
    return "Something there computes over padding and real steps alike: a mean, a sum, a softmax or the last step."


def _cure(padding: PaddingFacts) -> str:
    module, site = padding.module or "", padding.site
    if math.isinf(padding.change):
        return (
            "Invert the mask: scaled_dot_product_attention takes True for what takes part, key_padding_mask True for "
            "padding."
        )
    if _is_attention(module):
        return f"Give {site} a mask of the padding: key_padding_mask=(tokens == padding), or attention_mask."
    if padding.recurrent:
        return (
            f"Run {padding.recurrent} over pack_padded_sequence(x, lengths, batch_first=True, "
            "enforce_sorted=False), or read its output at lengths - 1, not at the last step."
        )
    if padding.left:
        return (
            "Count positions from the first real step (mask.cumsum(1) - 1), or put the padding behind; read "
            "the last real step where it stands."
        )
    return (
        "Leave padding out of it with a mask: (x * mask).sum(1) / mask.sum(1) for a mean, -inf before a "
        "softmax or max."
    )


EXPLAINED_BY = (Cause("UG802"),)

BAD = """
class Sentence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32, padding_idx=0), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0][:, -1])  # behind the padding


lengths = torch.randint(5, 20, (64,))
text = torch.where(torch.arange(20) < lengths[:, None], torch.randint(1, 40, (64, 20)), 0)
report = ug.check(Sentence(), (text, torch.randint(3, (64,))))
"""

GOOD = """
class Sentence(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32, padding_idx=0), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        last = (x != 0).sum(1) - 1
        return self.head(self.rnn(self.embed(x))[0][torch.arange(len(x)), last])


lengths = torch.randint(5, 20, (64,))
text = torch.where(torch.arange(20) < lengths[:, None], torch.randint(1, 40, (64, 20)), 0)
report = ug.check(Sentence(), (text, torch.randint(3, (64,))))
"""
