"""Calls of dropout in train mode: with which probability, and how many values are left. For rule UG707.

Seen are torch's dropout functions, the dropout of attention and that between recurrent layers, whoever calls them. What
drops of the batch itself is left alone: a masked input is a task of its own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..record import DropFacts
from .drawing import DROPOUT, calling_module
from .where import calling_line

_MOST = 100  # calls that are kept
_CHANNELS = {"dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_alpha_dropout"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_ATTENTION = {"scaled_dot_product_attention": 4, "multi_head_attention_forward": 10}  # where dropout_p stands


class Drops:
    """inputs: addresses of the batch's tensors."""

    def __init__(self, model: nn.Module, inputs: frozenset[int] = frozenset()):
        self.found: list[DropFacts] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._inputs = inputs

    def see(self, name: str, args: Any, kwargs: Any) -> None:
        if not (name in DROPOUT or name in _ATTENTION or name in _RECURRENT) or len(self.found) >= _MOST:
            return
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or (x.data_ptr() in self._inputs and name in DROPOUT):
            return
        probability, values = _dropped(name, x, args, kwargs)
        if not 0 < probability < 1:
            return
        _, module = calling_module(known=self._paths)
        site = self._paths.get(id(module), "")
        self.found.append(DropFacts(name, probability, values, calling_line(), site))


def _dropped(name: str, x: Tensor, args: Any, kwargs: Any) -> tuple[float, int]:
    """(probability, of how many values of an example, a step or a query); 0 where nothing is dropped."""
    if name in _RECURRENT:
        return _between_layers(args)
    if name in _ATTENTION:
        place, keys = _ATTENTION[name], args[1] if len(args) > 1 else kwargs.get("key", x)
        on = name != "multi_head_attention_forward" or kwargs.get("training", True)
        axis = -2 if name == "scaled_dot_product_attention" else 0
        chance = kwargs.get("dropout_p", args[place] if len(args) > place else 0.0)
        return (float(chance) if on else 0.0), int(keys.shape[axis])
    given = dict(zip(DROPOUT[name], args[1:]))
    if not given.get("training", kwargs.get("training", kwargs.get("train", True))):
        return 0.0, 0
    axis = 1 if x.dim() == 4 or name in _CHANNELS else -1
    return float(given.get("p", kwargs.get("p", 0.5))), int(x.shape[axis]) if x.dim() else 1


def _between_layers(args: Any) -> tuple[float, int]:
    """torch.lstm(input, ..., has_biases, num_layers, dropout, training, ...)."""
    first = next((i for i, a in enumerate(args) if isinstance(a, bool)), None)
    if first is None or len(args) < first + 4 or not args[first + 3] or args[first + 1] < 2:
        return 0.0, 0
    weights = next(a for a in args if isinstance(a, (list, tuple)) and len(a) > 2)
    return float(args[first + 2]), int(weights[1].shape[1])
