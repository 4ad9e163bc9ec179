"""A softmax or sigmoid that is taken of what has passed one already. For rules UG103 and UG105.

Looked at are the functions that a loss calls, torch's loss functions wherever they are called, and what goes into them:
`Reach` knows which function limited it. What was made wider again, as by a temperature of a twentieth, is left alone.
"""

from __future__ import annotations

import math

from ..record import TwiceFacts
from .where import calling_line

LOSSES = {
    "cross_entropy": "scores",
    "binary_cross_entropy_with_logits": "logits",
    "multilabel_soft_margin_loss": "logits",
    "soft_margin_loss": "logits",
}
_TAKES = {
    **LOSSES,
    "softmax": "scores",
    "log_softmax": "scores",
    "sigmoid": "logits",
    "expit": "logits",
    "logsigmoid": "logits",
}
_WIDTH = {
    "softmax": 1,
    "softmin": 1,
    "gumbel_softmax": 1,
    "sigmoid": 1,
    "expit": 1,
    "hardsigmoid": 1,
    "tanh": 2,
}
_WIDER = 1.001
_LOGARITHMS = {
    "log_softmax",
    "logsigmoid",
}  # the softmax of these is right, and a sigmoid of them one half at most


def squeezed_again(name: str, low: float, high: float, function: str | None) -> TwiceFacts | None:
    """A call of `name` on what `function` has limited to low..high, where that squeezes it a second time."""
    takes = _TAKES.get(name)
    if takes is None or function is None:
        return None
    if function in _LOGARITHMS:
        again = takes == "logits" and high <= 0 and math.isinf(low)
    else:
        again = high - low <= _WIDER * _WIDTH.get(function, -1)
    return TwiceFacts(function, name, takes, calling_line()) if again else None
