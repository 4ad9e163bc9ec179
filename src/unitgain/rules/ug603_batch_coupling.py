"""UG603 batch-coupling: an example's output changes with the other examples of its batch.

Source: PyTorch's documentation of BatchNorm (track_running_stats), RNN and MultiheadAttention (batch_first). The
measurement, one example with two sets of others, is ours (_check/coupling.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import CouplingInMode
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View

ABOUT = About(
    code="UG603",
    name="batch-coupling",
    rank=440,
    seen="In evaluation mode an example's output depends on the other examples of its batch, or on its place there.",
    matters=(
        "Predictions depend on what else is in the batch: results cannot be reproduced one by one, "
        "metrics depend on the batch size, and information leaks between examples."
    ),
    source=(
        "PyTorch documentation: BatchNorm (track_running_stats), RNN and MultiheadAttention (batch_first)."
    ),
    measured=(
        "One example goes twice through the model, at the second place of two or four, with other examples around "
        "it the second time, each pass from the same state; once in evaluation and once in training mode, random "
        "numbers the same. In evaluation mode it also goes through at another place among the same examples, unless "
        "the model draws random numbers there. The first module at whose output the example differs is "
        "named, and the first call of a function. Coupling by BatchNorm in training mode is by design, and "
        "is only recorded; other coupling in "
        "training mode is for information. Not judged: one example, examples that are all the same, compiled "
        "models, models that give another output each time, inputs or outputs whose axis of examples is not known."
    ),
    action=(
        "Repair the named module: the axis of its mean, softmax or reshape; batch_first=True where the "
        "examples come first; running statistics and .eval() for BatchNorm."
    ),
    effect="The same output for an example in any batch.",
    verify="Check again.",
    silent=(
        "BatchNorm in training mode",
        "dropout and other random modules",
        "contrastive models, whose output pairs the examples",
        "losses: only the output is compared",
    ),
)

RELATIVE = Threshold(
    0.0001,
    "of the largest magnitude: float32 passes of one shape differ by 1e-6 at most, in deep networks too, "
    "and coupling changes outputs by percents (half precision: a hundred times as much)",
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """mode: "eval" or "train"; difference: of the example's outputs, relative to the largest; site, module: the first
    at whose output the example differs; function, axis, where: the first call of a function at which it does, the axis
    that it was given, and the line of the caller's code; place: whether its place matters, and not the others."""

    mode: str
    difference: float
    site: str | None
    module: str | None
    function: str | None = None
    axis: int | None = None
    where: str | None = None
    place: bool = False


def judge(view: View) -> Iterator[Found[Evidence]]:
    coupling = view.facts.coupling
    if coupling.reason:
        lacks = "" if coupling.reason.startswith("step ") else "batch independence"
        raise CannotJudge(f"batch independence: {coupling.reason}", lacks=lacks)
    if coupling.rows is None:
        raise CannotJudge("batch independence was not measured")
    for mode, label, found in (("eval", "evaluation", coupling.eval), ("train", "training", coupling.train)):
        if not found.differs or (mode == "train" and found.batch_norm):
            continue
        where = f"; it begins at {found.site} ({found.module})" if found.site else ""
        call = _call(found)
        where += f", with {call}" if call else ""
        change = "it stands at another place among the same" if found.place else "the other"
        yield ABOUT.found(
            "warning" if mode == "eval" else "info",
            found.site,
            f"in {label} mode an example's output changes by {found.difference:.2%} when {change} examples of its "
            f"batch{'' if found.place else ' are exchanged'}{where}",
            evidence=Evidence(
                mode,
                found.difference,
                found.site,
                found.module,
                found.function,
                found.axis,
                found.where,
                found.place,
            ),
            cause=_why(found),
            remedy=_remedy(found),
        )
        return  # what is coupled in evaluation is so in training


_TIME_FIRST = (
    "MultiheadAttention",
    "TransformerEncoderLayer",
    "TransformerDecoderLayer",
    "LSTM",
    "GRU",
    "RNN",
)


def _why(found: CouplingInMode) -> str:
    module = found.module or ""
    if found.place:
        return (
            "Something is counted along the axis of the examples: positions from arange(len(x)) or pe[:x.size(0)] of "
            "an input whose first axis is the batch, or a table with a row for each example."
        )
    if found.batch_norm:
        return (
            f"{module} uses the batch's statistics in evaluation too: it keeps no running ones, or stays in training "
            "mode."
        )
    if module in _TIME_FIRST:
        return f"{module} takes time first unless batch_first=True: it runs over the examples, not the time steps."
    if found.function in _RESHAPES:
        return f"{found.function} puts values of different examples into one row."
    if found.function is not None:
        return f"{found.function} computes over the axis of the examples there."
    return "Something there computes over the axis of the examples: a wrong axis of a mean, softmax, norm or reshape."


_RESHAPES = ("reshape", "view", "flatten")
_OVER_AXES = (
    "softmax",
    "log_softmax",
    "normalize",
    "mean",
    "std",
    "var",
    "sum",
    "norm",
    "cumsum",
    "amax",
    "amin",
    "sort",
)


def _call(found: CouplingInMode) -> str:
    """The call that couples the examples, as in "softmax over axis 0 (model.py:31 in Net.forward)"."""
    if found.function is None or found.module in _TIME_FIRST:
        return ""
    axis = f" over axis {found.axis}" if found.axis is not None and found.function in _OVER_AXES else ""
    return f"{found.function}{axis}" + (f" ({found.where})" if found.where else "")


def _remedy(found: CouplingInMode) -> str:
    if found.place:
        return (
            "Count positions along the axis of time, not of the batch: torch.arange(x.shape[1]), pe[:x.size(1)], where "
            "the examples come first."
        )
    if found.module in _TIME_FIRST:
        return (
            f"Give {found.site} batch_first=True, since the examples come first, or transpose its input and output "
            "(x.transpose(0, 1))."
        )
    if found.function in _OVER_AXES:
        return f"Let {found.function} compute over the features: dim=-1, or the axis of the channels, not {found.axis}."
    if found.function in _RESHAPES:
        return "Bring the axis of the examples to the front before the reshape: x.transpose(0, 1).reshape(len(x), -1)."
    return ""


EXPLAINED_BY = ()

BAD = """
class Attention(nn.Module):
    def forward(self, scores):
        return F.softmax(scores, dim=0)  # over the examples


model = nn.Sequential(nn.Linear(20, 64), Attention(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(64, 20), torch.randint(10, (64,))))
"""

GOOD = """
class Attention(nn.Module):
    def forward(self, scores):
        return F.softmax(scores, dim=1)


model = nn.Sequential(nn.Linear(20, 64), Attention(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(64, 20), torch.randint(10, (64,))))
"""
