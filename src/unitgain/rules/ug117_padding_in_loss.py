"""UG117 padding-in-loss: the loss counts outputs that stand for padding.

Source: PyTorch's documentation of CrossEntropyLoss (ignore_index). The measurement, the gradient of the loss at the
outputs that stand for padding, is ours (_check/padding.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG117",
    name="padding-in-loss",
    rank=156,
    seen="Targets are filled up to one length, and the loss counts what fills them up.",
    matters=(
        "The model is taught to predict padding, which is easy: the loss and its gradient are of that for "
        "the most part, a low loss says nothing, and short examples count less than their padding."
    ),
    source="PyTorch documentation of CrossEntropyLoss, ignore_index; Hugging Face, -100 for labels that do not count.",
    measured=(
        "Rows of the targets end in runs of one value that stands nowhere else, where an input is filled up "
        "too. Counted are the outputs at which the loss has a gradient, those behind the first filled-up "
        "step among them."
    ),
    action="Ignore padding in the loss: ignore_index=its number, or -100 for those labels, or a mask.",
    effect="A higher loss at first, of real steps alone.",
    verify="Check again.",
    silent=(
        "labels of -100, a mask in the loss, a weight of zero",
        "one step of padding, which may stand for the end",
        "sentences of nearly one length",
    ),
)

SHARE = Threshold(0.15, "of the outputs that the loss counts: less padding does not matter much")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """share: of the outputs that the loss counts, those that stand for padding; value: what fills up the targets."""

    share: float
    value: float

    @property
    def size(self) -> float:
        return self.share


def judge(view: View) -> Iterator[Found[Evidence]]:
    padding = view.facts.function.padding
    if not padding.share > SHARE:
        return
    value = show(padding.value)
    yield ABOUT.found(
        "warning",
        view.facts.output.site,
        f"{padding.share:.0%} of the outputs that the loss counts stand for padding (targets of {value} "
        "behind the real ones)",
        evidence=Evidence(padding.share, padding.value),
        cause="The loss takes what fills up short examples for targets like the others.",
        remedy=f"Leave padding out of the loss: ignore_index={value}, labels of -100, or a mask of real steps."
        if view.facts.target.kind == "class_index"
        else "Leave padding out of the loss with a mask of real steps: (error * mask).sum() / mask.sum().",
    )


EXPLAINED_BY = ()

BAD = """
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32, padding_idx=0), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


lengths = torch.randint(5, 20, (64,))
text = torch.where(torch.arange(20) < lengths[:, None], torch.randint(1, 40, (64, 20)), 0)
tags = torch.where(text == 0, 0, 1 + text % 5)
report = ug.check(Tagger(), (text, tags), loss=nn.CrossEntropyLoss())
"""

GOOD = """
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(40, 32, padding_idx=0), nn.GRU(32, 32, batch_first=True)
        self.head = nn.Linear(32, 6)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0]).transpose(1, 2)


lengths = torch.randint(5, 20, (64,))
text = torch.where(torch.arange(20) < lengths[:, None], torch.randint(1, 40, (64, 20)), 0)
tags = torch.where(text == 0, 0, 1 + text % 5)
report = ug.check(Tagger(), (text, tags), loss=nn.CrossEntropyLoss(ignore_index=0))
"""
