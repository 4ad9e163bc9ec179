"""What is measured, and where: kinds of site, the statistics of each, and Site itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._base import InputError, did_you_mean

KINDS = ("input", "activation", "gradient", "parameter", "parameter_gradient", "update")
"""The kinds of site."""

STATISTICS = (
    "count",  # values measured
    "mean",
    "std",  # biased: the mean squared deviation's root
    "rms",
    "min",
    "max",
    "absmax",  # largest magnitude
    "zero",  # fraction exactly zero
    "saturated",  # fraction in the flat tails of a bounded activation
    "nonfinite",  # fraction NaN or infinite; the moments above leave these values out
    "sq_channel_mean",  # average over channels of the squared channel mean
    "channel_var",  # average over channels of the channel variance (biased)
    "units",  # channels (or features) that can be dead
    "dead",  # of these, never active for any example seen so far
    "cosine",  # mean cosine similarity between different examples; of an update: with the weights before it
    "spread",  # rms over examples of the deviation from the mean example, divided by rms
    "ratio",  # log10 std(gradient)/std(data), or log10 std(update)/std(data)
    "underflow",  # fraction of the non-zero magnitudes below the dtype's smallest normal number
)
"""The names of the statistics, which are the columns of the table `scalar`."""


@dataclass(frozen=True)
class Site:
    """A place where a tensor is measured.

    kind          one of KINDS
    name          activations and their gradients: the module's path ("layers.0.conv"), "#2" for its second
                  call in one pass, ":tanh" for a function called inside it ("block:tanh"), "[1]" or "[key]"
                  for further outputs. Parameters, their gradients and updates: the parameter's name.
                  Inputs: "input", "input[1]" or "input[key]". Where such a name is another module's path, it
                  is followed by whose it is: "input (of the model)"; activations and inputs have no name twice.
    position      execution order: activations and gradients share the position of the forward call;
                  parameters take that of the module call that uses them
    module        type name of the module ("Conv2d") or function ("tanh")
    shape         of the first tensor seen
    channel_axis  non-negative axis of the channels, or None if there is none
    attributes    what rules and plots need beyond numbers; keys in docs/reference/record.md
    """

    id: int
    kind: str
    name: str
    position: int
    module: str
    shape: tuple[int, ...]
    channel_axis: int | None
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    @property
    def title(self) -> str:
        """What people call it: a name that ends in a number says little, so the module's type stands beside it.

        >>> site = Site(1, "activation", "layers.14", 14, "Softmax", (8, 10), 1, "float32")
        >>> site.title
        'layers.14 · Softmax'
        """
        last = self.name.rpartition(".")[2].partition("#")[0]
        return f"{self.name} · {self.module}" if last.isdigit() and self.module else self.name


def check_statistic(statistic: str) -> None:
    _check("statistic", statistic, STATISTICS)


def check_kind(kind: str) -> None:
    """
    >>> check_kind("actvation")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: site kind 'actvation' is unknown; did you mean 'activation'?
    """
    _check("site kind", kind, KINDS)


def _check(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise InputError(f"{what} {name!r} is unknown{did_you_mean(name, known, most=len(known))}")
