"""UG802 sees-the-future: a model that is to predict the next step is shown it.

Source: Vaswani et al., Attention is all you need (2017), section 3.2.3, on the mask of a decoder. The measurement,
later steps exchanged and earlier outputs compared, is ours (_check/future.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG802",
    name="sees-the-future",
    rank=95,
    exact=True,
    seen="The targets are the inputs shifted by one step, and an output changes when a later step of the input does.",
    matters=(
        "The answer is in the input: the loss falls to nearly nothing by copying, and the model cannot write or "
        "forecast anything, since then there is no later step to copy."
    ),
    source="Vaswani et al., Attention is all you need, 2017, section 3.2.3.",
    measured=(
        "The targets equal an input shifted by one along its first or second axis; or the model is given its input "
        "as labels and returns the cross entropy with the next one. Two examples go through the model in evaluation "
        "mode, and once more with other values in the second half of their steps. Compared are the outputs at the "
        "steps before; the first module at which they differ is named. Not judged: compiled models, outputs whose "
        "axis of time is not known."
    ),
    action=(
        "Mask the named module: attn_mask=nn.Transformer.generate_square_subsequent_mask(steps) with "
        "is_causal=True, one direction for a recurrent layer, padding on the left alone for a convolution; no mean "
        "or norm over the steps."
    ),
    effect="The loss is higher than before: it is now that of predicting, as in use, and not of copying.",
    verify="Check again.",
    silent=(
        "masked words and tags, where the targets are no shift of the input",
        "an encoder of both directions whose decoder is masked",
    ),
)

RELATIVE = Threshold(
    0.0001,
    "of the largest output: float32 passes of one shape differ by 1e-6 at most, a later step that is seen changes "
    "outputs by percents (half precision: a hundred times as much)",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """change: of outputs before the exchanged steps, relative to the largest; input: the one that the targets are
    shifted from; axis: of its steps; site, module: the first at whose output earlier steps change."""

    change: float
    input: str
    axis: int
    site: str | None
    module: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    future = view.facts.function.future
    if future.reason is not None:
        raise CannotJudge(f"whether outputs depend on later steps: {future.reason}")
    if future.input is None or future.axis is None or not future.change > RELATIVE:
        return
    where = f"; it begins at {future.site} ({future.module})" if future.site else ""
    yield ABOUT.found(
        "error",
        future.site,
        f"the targets are {future.input} shifted by one step, and outputs change by {future.change:.2%} when only "
        f"later steps of it change{where}",
        evidence=Evidence(future.change, future.input, future.axis, future.site, future.module),
        cause=_why(future.module or ""),
        remedy=_cure(future.site or "", future.module or ""),
    )


def _is_attention(module: str) -> bool:
    return "Attention" in module or "Transformer" in module


def _cure(site: str, module: str) -> str:
    if _is_attention(module):
        return (
            f"Give {site} a causal mask, nn.Transformer.generate_square_subsequent_mask(steps) with is_causal=True: "
            "attn_mask= of nn.MultiheadAttention, src_mask= of nn.TransformerEncoderLayer, mask= of "
            "nn.TransformerEncoder; scaled_dot_product_attention takes is_causal=True alone."
        )
    if module in ("LSTM", "GRU", "RNN"):
        return f"Build {site} with bidirectional=False."
    if "Conv" in module:
        return (
            f"Pad the input of {site} on the left alone: padding=0, and F.pad(x, (dilation * (kernel_size - 1), 0)) "
            "before it."
        )
    return ABOUT.action


def _why(module: str) -> str:
    if _is_attention(module):
        return f"{module} looks at all steps: it is given no mask, or one that leaves a later step open."
    if module in ("LSTM", "GRU", "RNN"):
        return f"{module} runs in both directions: the backward one has read the later steps."
    if "Conv" in module:
        return f"{module} is padded on both sides, so that its window reaches beyond its step."
    return "Something there computes over the steps: attention without a mask, a mean, a norm or a softmax over time."


def _drops_its_mask(cause: Found[Any], _: Found[Any], __: View) -> bool:
    return cause.evidence.function in ("masked_fill", "where")


EXPLAINED_BY = (Cause("UG806"), Cause("UG116"), Cause("UG810", _drops_its_mask))

BAD = """
class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 32), nn.Linear(32, 40)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.head(self.block(self.embed(x))).transpose(1, 2)


text = torch.randint(40, (32, 17))
report = ug.check(Language(), (text[:, :-1], text[:, 1:]), loss=F.cross_entropy)
"""

GOOD = """
class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 32), nn.Linear(32, 40)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.block(self.embed(x), src_mask=mask, is_causal=True)).transpose(1, 2)


text = torch.randint(40, (32, 17))
report = ug.check(Language(), (text[:, :-1], text[:, 1:]), loss=F.cross_entropy)
"""
