"""Calls of dropout in train mode: with which probability, and how many values are left. For rule UG707.

Seen are torch's dropout functions, the dropout of attention and that between recurrent layers, whoever calls them. What
drops of the batch itself is left alone: a masked input is a task of its own.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..record import DropFacts
from .drawing import ATTENTION, DROPOUT, calling_module, probability
from .where import calling_line

_MOST = 100  # calls that are kept
_CHANNELS = {"dropout1d", "dropout2d", "dropout3d", "feature_dropout", "feature_alpha_dropout"}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


class Drops:
    """Finds the calls of dropout among all calls of functions. inputs: addresses of the batch's tensors."""

    def __init__(self, model: nn.Module, inputs: frozenset[int] = frozenset()):
        self.found: list[DropFacts] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._inputs = inputs

    def see(self, name: str, args: Any, kwargs: Any) -> None:
        if not (name in DROPOUT or name in ATTENTION or name in _RECURRENT) or len(self.found) >= _MOST:
            return
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or (x.data_ptr() in self._inputs and name in DROPOUT):
            return
        chance, values = _between_layers(args) if name in _RECURRENT else (probability(name, args, kwargs), 0)
        if not 0 < chance < 1:
            return
        _, module = calling_module(known=self._paths)
        site = self._paths.get(id(module), "")
        values = values or _values(name, x, args, kwargs)
        self.found.append(DropFacts(name, chance, values, calling_line(), site))


def _values(name: str, x: Tensor, args: Any, kwargs: Any) -> int:
    """Of how many values of an example, a step of a sequence or a query something is dropped."""
    if name in ATTENTION:
        keys = args[1] if len(args) > 1 else kwargs.get("key", x)
        return int(keys.shape[-2 if name == "scaled_dot_product_attention" else 0])
    axis = 1 if x.dim() == 4 or name in _CHANNELS else -1
    return int(x.shape[axis]) if x.dim() else 1


def _between_layers(args: Any) -> tuple[float, int]:
    """(probability, width of a layer), 0 where nothing is dropped. Of torch.lstm(input, ..., has_biases, num_layers,
    dropout, training, ...)."""
    first = next((i for i, a in enumerate(args) if isinstance(a, bool)), None)
    if first is None or len(args) < first + 4 or not args[first + 3] or args[first + 1] < 2:
        return 0.0, 0
    weights = next(a for a in args if isinstance(a, (list, tuple)) and len(a) > 2)
    return float(args[first + 2]), int(weights[1].shape[1])
