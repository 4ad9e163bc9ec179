"""Gain constants of other libraries beside the exact ones, with the reason wherever they differ.

Sources: torch.nn.init.calculate_gain (torch 2.13); the table of nonlinearities in DeepMind's nfnets code, which
timm took over. DeepMind's `glu` and `log_softmax` are not elementwise and have no exact counterpart here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .gains import centered_gain, gain

_SAMPLED = "estimated from a finite random sample; keep it for weights that were trained with it"
_TORCH = (  # name, calculate_gain's value, why it differs
    ("linear", 1.0, ""),
    ("relu", 2**0.5, ""),
    ("leaky_relu", (2 / (1 + 0.01**2)) ** 0.5, ""),
    (
        "tanh",
        5 / 3,
        "a rule of thumb: the variance settles at 1.18 and the outputs at std 0.65, in place of 1 and 0.63",
    ),
    (
        "sigmoid",
        1.0,
        "kept at 1 by convention: half of the mean square is the mean, 0.5, which weights cancel",
    ),
    (
        "selu",
        0.75,
        "found by experiment, for the gradient in rectangular layers; SELU keeps variance 1 with a gain of 1",
    ),
)
_DEEPMIND = (
    ("identity", 1.0), ("celu", 1.270926833152771), ("elu", 1.2716004848480225), ("gelu", 1.7015043497085571),
    ("leaky_relu", 1.70590341091156), ("logsigmoid", 1.9193484783172607), ("relu", 1.7139588594436646),
    ("relu6", 1.7131484746932983), ("selu", 1.0008515119552612), ("sigmoid", 4.803835391998291),
    ("silu", 1.7881293296813965), ("softplus", 1.9203323125839233), ("softsign", 2.338853120803833),
    ("tanh", 1.5939117670059204),
)  # fmt: skip


@dataclass(frozen=True)
class Constant:
    """One constant: theirs, the exact value of what it stands for, (theirs - exact)/exact, and why they differ."""

    source: str
    activation: str
    quantity: str  # "gain" or "centered_gain"
    theirs: float
    exact: float
    why: str

    @property
    def deviation(self) -> float:
        return (self.theirs - self.exact) / self.exact


def constants() -> list[Constant]:
    """Every constant of torch.nn.init.calculate_gain and of DeepMind's table, beside the exact one.

    >>> for c in constants():
    ...     if abs(c.deviation) > 0.01:
    ...         print(f"{c.activation:8} {c.theirs:.4f} {c.exact:.4f} {c.deviation:+.1%}")
    tanh     1.6667 1.5925 +4.7%
    sigmoid  1.0000 1.8462 -45.8%
    selu     0.7500 1.0000 -25.0%
    """
    rows = [_row("torch.nn.init.calculate_gain", name, gain, theirs, why) for name, theirs, why in _TORCH]
    for name, theirs in _DEEPMIND:
        rows.append(
            _row("DeepMind nfnets", name, centered_gain, theirs, "" if name == "identity" else _SAMPLED)
        )
    return rows


def _row(source: str, name: str, quantity: Callable[[str], float], theirs: float, why: str) -> Constant:
    return Constant(source, name, quantity.__name__, theirs, quantity(name), why)
