"""UG601: how the model is put together."""

from __future__ import annotations

from collections.abc import Iterator

from .catalogue import CATALOGUE
from .finding import Finding
from .view import CannotJudge, View, listed, plural


def redundant_bias(view: View) -> Iterator[Finding]:
    """UG601: a bias whose effect the next layer's mean subtraction removes."""
    norms = [m for m in view.activations if m.site.attributes.get("subtracts_mean") == "channel"]
    if not norms:
        raise CannotJudge("no normalization layer that subtracts each channel's mean")
    found: dict[str, str] = {}
    for norm in norms:
        for layer in view.fed_by(norm):
            if layer.role != "linear" or len(view.feeds(layer)) != 1 or layer.is_output:
                continue
            for parameter in view.own_parameters(layer):
                attributes = parameter.site.attributes
                if attributes.get("role") == "bias" and attributes.get("trainable", True):
                    found[parameter.name] = norm.name
    if not found:
        return
    first, norm_name = next(iter(found.items()))
    yield CATALOGUE["UG601"].finding(
        "info",
        first,
        f"{plural(len(found), 'bias') if len(found) == 1 else f'{len(found)} biases'} without effect "
        f"({listed(list(found))}): {norm_name} subtracts it again",
        evidence={"biases": found},
        cause="The normalization layer right after subtracts each channel's mean, and the bias with it.",
    )
