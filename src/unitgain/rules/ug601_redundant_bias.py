"""UG601 redundant-bias: a bias whose effect the next layer's mean subtraction removes.

Source: Ioffe and Szegedy, Batch normalization (2015), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found
from ._view import View
from ._words import as_layer, listed, plural

ABOUT = About(
    code="UG601",
    name="redundant-bias",
    rank=800,
    exact=True,
    seen="A bias right before a normalization layer that subtracts each channel's mean.",
    matters=(
        "The mean takes the bias out again: it has no effect and gets no gradient. Harmless, but wasted."
    ),
    source="Ioffe and Szegedy, Batch normalization, 2015, section 3.2.",
    measured=(
        "Biases of modules whose output goes into BatchNorm or InstanceNorm and nowhere else. LayerNorm and "
        "GroupNorm subtract a mean over several channels, so that a bias before them matters."
    ),
    action="Build the layer with bias=False.",
    effect="The same function with fewer parameters.",
    verify="Check again.",
    remedies=("remove-bias",),
    silent=(
        "biases before LayerNorm or GroupNorm",
        "frozen biases",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """{bias: the norm that subtracts it}."""

    biases: Mapping[str, str]


def judge(view: View) -> Iterator[Found[Evidence]]:
    norms = [m for m in view.activations if m.subtracts_channel_mean]
    if not norms:
        raise CannotJudge("no normalization layer that subtracts each channel's mean")
    found: dict[str, str] = {}
    for norm in norms:
        for layer in view.fed_by(norm):
            if layer.role != "linear" or len(view.feeds(layer)) != 1 or layer.is_output:
                continue
            found |= {p.name: norm.name for p in view.own_parameters(layer, "bias") if p.trainable}
    if not found:
        return
    first, norm_name = next(iter(found.items()))
    yield ABOUT.found(
        "info",
        first,
        f"{plural(len(found), 'bias')} without effect ({listed(found)}): {as_layer(norm_name)} subtracts it again",
        evidence=Evidence(found),
        cause="The normalization layer right after subtracts each channel's mean, and the bias with it.",
        remedy=f"Build {listed(as_layer(name.rpartition('.')[0] or name) for name in found)} with bias=False.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
