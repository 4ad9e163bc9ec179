"""UG807 wrong-axis: an activation is normalized along an axis that is not meant.

Source: Vaswani et al., Attention is all you need (2017), for what attention's weights sum to; PyTorch's documentation
of torch.nn.functional.normalize, whose axis is 1 unless told. The measurement is ours (_check/axes.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..record import AskedFacts, AxisFacts
from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG807",
    name="wrong-axis",
    rank=98,
    seen=(
        "A softmax of attention or of a gate sums to one along another axis than the one that its weights are summed "
        "over, heads of one step attend to each other, features are scaled along the steps, activations are divided by "
        "one norm of the whole batch, or the loss applies its softmax, or takes the classes of one-hot targets, along "
        "another axis than that of the classes."
    ),
    matters=(
        "Attention then shares each key among the queries and weights values by sums that are not one; features "
        "keep no "
        "relation to each other within a step; similarities of a batch are so small that their softmax is even. The "
        "network trains on, and worse, without an error."
    ),
    source=(
        "Vaswani et al., Attention is all you need, 2017; PyTorch documentation of torch.nn.functional.normalize "
        "(dim=1)."
    ),
    measured=(
        "Every call of one forward pass. Scores are products of two activations, or broadcast sums of two; the weights "
        "that a softmax makes of them are followed to the matmul, einsum or sum of products that uses them. So are "
        "those of a linear layer's outputs (example, step, expert). Heads are what a view cuts out of a linear layer's "
        "features. Features are those of linear, "
        "embedding and recurrent layers with outputs (example, step, feature). The loss is called on made-up outputs: "
        "a number that is added to all of them along the axis of its softmax changes nothing. Its classes lie along "
        "the axis that class indices lack, or along which other targets sum to one. What a maximum of one-hot targets "
        "along another axis gives is followed to where it is taken for classes."
    ),
    action="Let the softmax of attention run over the keys, and norms over the features: dim=-1.",
    effect="The weights of each query sum to one; what is normalized has the norm that was meant.",
    verify="Check again.",
    silent=(
        "assignments to clusters, slots, experts and capsules, whose weights are summed over what is assigned",
        "weights that are divided by another sum afterwards",
        "pictures with channels at axis 1, and features that were transposed before",
        "places of classes (the first step at which one comes), where they are not taken for classes",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """kind: "loss", "attention", "heads", "sum", "gate", "pool", "steps", "batch" or "classes"; shape, axis: of what is
    normalized, or of the targets; where: the line of the caller's code."""

    kind: str
    function: str
    shape: Sequence[int]
    axis: int | None
    where: str | None


def judge(view: View) -> Iterator[Found[Evidence]]:
    axes = view.facts.comparison.reach.axes
    taken = [call for call in axes or () if call.kind == "classes"]
    if not taken and (asked := view.facts.comparison.asked).classes is not None:
        yield _of_the_loss(view, asked)
        return
    if axes is None:
        raise CannotJudge("along which axes the model normalizes was not seen")
    for call in (taken or axes)[:1]:
        where = f" ({call.where})" if call.where else ""
        seen, cause, remedy = _IN_WORDS[call.kind](call)
        yield ABOUT.found(
            "warning",
            _place(view, call),
            seen.replace("{where}", where),
            evidence=Evidence(call.kind, call.function, call.shape, call.axis, call.where),
            cause=cause,
            remedy=remedy,
        )


def _place(view: View, call: AxisFacts) -> str | None:
    """The site of the call, where functions of this name and shape were measured; else the output."""
    sites = (m.site for m in view.activations)
    here = (
        s.name for s in sites if s.module.lower() == call.function and tuple(s.shape) == tuple(call.shape)
    )
    return next(here, view.facts.output.site)


def _of_the_loss(view: View, asked: AskedFacts) -> Found[Evidence]:
    shape = view.facts.output.shape or ()
    over = "the examples" if asked.over == 0 else f"axis {asked.over}"
    return ABOUT.found(
        "error",
        view.facts.output.site,
        f"the loss applies a softmax to the outputs {shape} over {over}, and the targets have their classes along "
        f"axis {asked.classes}",
        evidence=Evidence("loss", "softmax", shape, asked.over, None),
        cause="What sums to one is then no distribution over the classes: outputs of different examples, steps or "
        "pixels compete, and the classes of one do not.",
        remedy=f"Give the softmax or log_softmax in the loss the axis of the classes: dim={asked.classes}.",
    )


def _pool(call: AxisFacts) -> tuple[str, str, str]:
    return (
        f"the softmax{{where}} of scores {call.shape} (example, step, head) runs over the heads, and each head's steps "
        "are summed with these weights",
        "A head's weights of the steps then do not sum to one: its sum grows with the number of steps, and steps do "
        "not compete.",
        f"Let the softmax{at(call.where)} run over the steps: dim=1 of (example, step, head).",
    )


def _attention(call: AxisFacts) -> tuple[str, str, str]:
    axis, rank = call.axis or 0, len(call.shape)
    right = rank - 1 if axis == rank - 2 else rank - 2
    return (
        f"the softmax{{where}} of attention scores {call.shape} runs over axis {axis}, and the weights are summed over "
        f"axis {right}",
        "The weights of each query do not sum to one: each key is shared among the queries instead.",
        f"Let the softmax run over the axis of the keys, dim={right} here, over which the weights are summed.",
    )


def _steps(call: AxisFacts) -> tuple[str, str, str]:
    if call.function == "batch_norm":
        return (
            f"batch_norm{{where}} takes axis 1 of {call.shape}, the steps, for the channels; the features lie along "
            "the last",
            "torch.nn.BatchNorm1d has its channels at axis 1: here each step gets a mean, a variance and a weight, and "
            "all features share them.",
            f"Transpose before and after it: BatchNorm1d({call.shape[-1]})(x.transpose(1, 2)).transpose(1, 2); or take "
            f"LayerNorm({call.shape[-1]}).",
        )
    return (
        f"normalize{{where}} runs over axis {call.axis} of {call.shape}, the steps, where the features lie along "
        f"the last",
        "torch.nn.functional.normalize takes axis 1 unless it is told another.",
        "Give it dim=-1.",
    )


def _batch(call: AxisFacts) -> tuple[str, str, str]:
    if call.function == "layer_norm":
        return (
            f"layer_norm{{where}} normalizes over all axes of {call.shape}, that of the examples too",
            "Its normalized_shape names every axis: mean and variance are those of the whole batch, so that examples "
            "depend on each other, and another batch size fails.",
            f"Give it the axes of one example, normalized_shape={call.shape[1:]} or {call.shape[-1]}.",
        )
    return (
        f"activations {call.shape} are divided{{where}} by one norm of all of them, the whole batch",
        "A norm without an axis is one number for the batch: each example's size depends on the others, and on how "
        "many "
        "there are.",
        "Take the norm of each example: x / x.norm(dim=-1, keepdim=True), or torch.nn.functional.normalize(x, dim=-1).",
    )


def _classes(call: AxisFacts) -> tuple[str, str, str]:
    return (
        f"{call.function}{{where}} takes the classes of one-hot targets {call.shape} along axis {call.axis}, and they "
        f"lie along axis {call.right}",
        f"There is a single one along axis {call.right} of the targets alone: what a maximum along axis {call.axis} "
        "gives are places, and the loss takes them for classes.",
        f"Take them along the axis of the classes: dim={call.right}.",
    )


def _heads(call: AxisFacts) -> tuple[str, str, str]:
    shown = f"{call.function}{{where}}"
    seen = (
        f"the {shown} runs over scores {call.shape} of the {call.shape[-1]} heads of each step"
        if call.function == "softmax"
        else f"{shown} takes queries {call.shape}, whose axis 2 are heads cut out of the features of each of the "
        f"{call.shape[1]} steps"
    )
    return (
        seen + ": heads attend to each other, and no step to another one",
        "A view (N, T, heads, width) was not transposed to (N, heads, T, width): products of the last two axes compare "
        "heads.",
        "Let the heads come before the steps: x.view(N, T, heads, width).transpose(1, 2), and back afterwards.",
    )


def _sum(call: AxisFacts) -> tuple[str, str, str]:
    return (
        f"weights of attention sum to one along axis {call.axis} of {call.shape}, and what they weigh is summed "
        "over another one{where}",
        "The weights of each query do not sum to one: each key is shared among the queries instead.",
        "Let the softmax run over the axis of the keys, over which the weights are summed.",
    )


def _gate(call: AxisFacts) -> tuple[str, str, str]:
    return (
        f"the softmax{{where}} of a gate {call.shape} runs over axis {call.axis}, the steps, and what it weighs is "
        "summed over axis 2",
        "The weights of one step do not sum to one: each expert is shared among the steps instead, so that its size "
        "depends on how many there are.",
        "Let the softmax run over the experts: dim=-1.",
    )


_IN_WORDS = {
    "attention": _attention,
    "heads": _heads,
    "sum": _sum,
    "gate": _gate,
    "pool": _pool,
    "steps": _steps,
    "batch": _batch,
    "classes": _classes,
}

EXPLAINED_BY: tuple[Cause, ...] = (Cause("UG112"), Cause("UG603"))

BAD = """
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Embedding(40, 32), nn.Linear(32, 96), nn.Linear(32, 10)

    def forward(self, x):
        h = self.embed(x)
        q, k, v = self.qkv(h).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 32**0.5  # (N, query, key)
        return self.head((h + scores.softmax(1) @ v).mean(1))


report = ug.check(Attention(), (torch.randint(40, (64, 12)), torch.randint(10, (64,))))
"""

GOOD = """
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Embedding(40, 32), nn.Linear(32, 96), nn.Linear(32, 10)

    def forward(self, x):
        h = self.embed(x)
        q, k, v = self.qkv(h).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 32**0.5
        return self.head((h + scores.softmax(2) @ v).mean(1))


report = ug.check(Attention(), (torch.randint(40, (64, 12)), torch.randint(10, (64,))))
"""
