"""Calls that normalize along an axis that is not meant: attention, steps of a sequence, a whole batch. For rule UG807.

Followed are three kinds of tensors through one forward pass. Scores are products of two activations, or broadcast sums
of two (queries and keys, senders and receivers); a softmax of them makes weights, and the sum that uses those, a
matmul or an einsum, has to run over the axis along which they sum to one. What a linear layer, an embedding or a
recurrent layer gives as (example, step, feature) has its features last: a normalization along axis 1, as F.normalize
has it unless told, makes each feature's steps a unit vector. And a norm over all axes of an activation is one number
for the whole batch, as a layer norm is whose shape holds the axis of the examples. Where features are surely last, as
an embedding or a recurrent layer gives them, batch_norm takes the steps for channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ..record import AxisFacts
from .axis_moves import EACH_VALUE
from .heads import Heads
from .kept import Kept
from .pooled import Pooled
from .weighed import Weighed
from .where import calling_line

_MOST = 20  # calls that are kept
PAIRS = {"matmul", "bmm", "mm", "rmatmul", "baddbmm"}
_FEATURES_LAST = {"linear", "embedding", "layer_norm", "lstm", "gru", "rnn_tanh", "rnn_relu"}
_OF_SEQUENCES = _FEATURES_LAST - {"linear", "layer_norm"}
_SAME_SUMS = {
    "masked_fill",
    "float",
    "half",
    "bfloat16",
    "to",
    "contiguous",
    "clone",
    "dropout",
    "nan_to_num",
    "type_as",
}


class Axes:
    """weights: ids of the model's parameters. examples: of the batch; None where that is not known."""

    def __init__(self, weights: set[int], examples: int | None = None):
        self.found: list[AxisFacts] = []
        self._parameters = weights
        self._examples = examples
        self._scores: Kept[bool] = Kept()
        self._attention: Kept[int] = Kept()  # the axis along which they sum to one
        self._last: Kept[str] = Kept()  # the function that made their last axis one of features
        self._surely_last: Kept[bool] = (
            Kept()
        )  # from a layer that takes (example, step, feature) and nothing else
        self._of_all: Kept[bool] = Kept()  # a norm over all axes of an activation
        self._derived: Kept[bool] = Kept()  # of parameters alone
        self._heads, self._pooled = Heads(self._report), Pooled(self._report)
        self._weighed = Weighed(self._report, lambda t: not self.is_parameter(t), self._are_scores)

    def finish(self) -> tuple[AxisFacts, ...]:
        """What was found, when the pass is over."""
        self._weighed.finish()
        return tuple(self.found)

    def _are_scores(self, tensor: Tensor) -> None:
        self._scores[tensor] = True

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        self._heads.see(name, args, kwargs, out)
        self._pooled.see(name, args, kwargs, out)
        self._weighed.see(name, args, kwargs, out)
        if name in ("lstm", "gru", "rnn_tanh", "rnn_relu") and isinstance(out, tuple):
            out = out[0]
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return
        given = [a for a in args if isinstance(a, Tensor)]
        if given and all(self.is_parameter(a) for a in given):
            self._derived[out] = True
            return
        if name == "softmax" and given:
            if self._scores[given[0]]:
                self._attention[out] = axis_of(args, kwargs, given[0])
        elif name in PAIRS:
            self._look_at_product(given, out)
        elif name == "einsum":
            self._look_at_einsum(args, out)
        elif name == "normalize" and given:
            self._look_at_normalize(given[0], args, kwargs)
        elif name == "batch_norm" and given and self._surely_last[given[0]] and min(given[0].shape[1:]) > 1:
            self._keep("batch_norm", "steps", given[0], 1)
        elif name == "layer_norm" and given:
            self._look_at_layer_norm(given[0], args, kwargs)
        elif name in ("norm", "vector_norm", "linalg_vector_norm", "matrix_norm") and given and not out.dim():
            self._of_all[out] = given[0].dim() > 1
        elif (
            name in ("div", "truediv", "divide")
            and len(given) > 1
            and self._of_all[given[1]]
            and given[0].dim() > 1
        ):
            self._keep("norm", "batch", given[0], None)
        self._hand_on(name, args, kwargs, given, out)

    def is_parameter(self, tensor: Tensor) -> bool:
        return id(tensor) in self._parameters or bool(self._derived[tensor])

    # ---- what is handed on -----------------------------------------------------------------------------------

    def _hand_on(self, name: str, args: Any, kwargs: Any, given: list[Tensor], out: Tensor) -> None:
        if name in _FEATURES_LAST and out.dim() == 3:
            self._last[out] = name
            handed_on = name in ("linear", "layer_norm") and given and self._surely_last[given[0]]
            if name in _OF_SEQUENCES or handed_on:
                self._surely_last[out] = True
        if name in EACH_VALUE:
            alike = [a for a in given if a.shape == out.shape]
            if any(self._scores[a] for a in alike) or (name in ("add", "radd") and _crosses(given, out)):
                self._scores[out] = True
            made = next((m for a in alike if (m := self._last[a])), None)
            if made:
                self._last[out] = made
            if any(self._surely_last[a] for a in alike):
                self._surely_last[out] = True
            axis = self._attention[given[0]] if given else None
            if axis is not None and (name in _SAME_SUMS) and out.shape == given[0].shape:
                self._attention[out] = axis
        elif given and given[0].dim() > 1:
            for kept in (self._attention, self._scores):
                value = kept[given[0]]
                if value is None:
                    continue
                axis = _moved(name, args, kwargs, given[0], out, int(value))
                if kept is self._scores and axis is not None:
                    self._scores[out] = True
                elif axis is not None:
                    self._attention[out] = axis

    # ---- sums ------------------------------------------------------------------------------------------------

    def _look_at_product(self, given: list[Tensor], out: Tensor) -> None:
        if len(given) < 2:
            return
        one, two = given[-2:]
        axis = self._attention[one]
        if axis is not None and one.dim() > 1 and axis == one.dim() - 2 and two.dim() > 1:
            self._keep("softmax", "attention", one, axis)
        axis = self._attention[two]
        if (
            axis is not None
            and two.dim() > 1
            and axis == two.dim() - 1
            and one.dim() > 1
            and not self._scores[one]
        ):
            self._keep("softmax", "attention", two, axis)
        if out.dim() > 1 and not any(map(self.is_parameter, (one, two))) and self._attention[one] is None:
            self._scores[out] = True

    def _look_at_einsum(self, args: Any, out: Tensor) -> None:
        if not args or not isinstance(args[0], str):
            return
        rest = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else args[1:]
        operands = [a for a in rest if isinstance(a, Tensor)]
        if len(operands) != 2 or "->" not in args[0] or "." in args[0]:
            return
        left, result = args[0].replace(" ", "").split("->")
        letters = left.split(",")
        for i, operand in enumerate(operands):
            axis = self._attention[operand]
            if axis is None:
                continue
            other, mine = letters[1 - i], letters[i]
            summed = [x for x in mine if x in other and x not in result]
            if summed and mine[axis] not in summed and mine[axis] in result and mine[axis] not in other:
                self._keep("softmax", "attention", operand, axis)
        if not any(map(self.is_parameter, operands)) and all(self._attention[o] is None for o in operands):
            self._scores[out] = True

    # ---- norms -----------------------------------------------------------------------------------------------

    def _look_at_normalize(self, x: Tensor, args: Any, kwargs: Any) -> None:
        axis = kwargs.get("dim", args[2] if len(args) > 2 else 1)
        if isinstance(axis, int) and self._last[x] and axis % x.dim() == 1 and min(x.shape[1:]) > 1:
            self._keep("normalize", "steps", x, 1)

    def _look_at_layer_norm(self, x: Tensor, args: Any, kwargs: Any) -> None:
        shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else ())
        if isinstance(shape, Sequence) and len(shape) == x.dim() > 1 and len(x) == self._examples:
            self._keep("layer_norm", "batch", x, None)

    def _keep(self, function: str, kind: str, x: Tensor, axis: int | None) -> None:
        self._report(function, kind, tuple(map(int, x.shape)), axis, calling_line())

    def _report(
        self, function: str, kind: str, shape: tuple[int, ...], axis: int | None, where: str | None
    ) -> None:
        if len(self.found) < _MOST:
            self.found.append(AxisFacts(function, where, kind, shape, axis))


def axis_of(args: Any, kwargs: Any, x: Tensor) -> int:
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(axis, int):  # as torch.nn.functional chooses where none is given
        axis = 0 if x.dim() in (0, 1, 3) else 1
    return axis % max(x.dim(), 1)


def _crosses(given: list[Tensor], out: Tensor) -> bool:
    """Whether (..., n, 1) and (..., 1, n) are added: a score for each pair."""
    if len(given) != 2 or out.dim() < 2 or min(out.shape[-2:]) < 2:
        return False
    one, two = (
        (tuple(a.shape[-2:]) for a in given if a.dim() > 1) if all(a.dim() > 1 for a in given) else ((), ())
    )
    return bool(one) and {one.index(1) if 1 in one else -1, two.index(1) if 1 in two else -1} == {0, 1}


def _dims(args: Any, kwargs: Any) -> Iterator[int]:
    rest = list(args[1:])
    yield from (
        d for d in (rest[0] if rest and isinstance(rest[0], (tuple, list)) else rest) if isinstance(d, int)
    )
    yield from (kwargs[k] for k in ("dim", "dim0", "dim1") if isinstance(kwargs.get(k), int))


def _moved(name: str, args: Any, kwargs: Any, before: Tensor, out: Tensor, axis: int) -> int | None:
    """Where an axis is afterwards; None where that is not clear."""
    dims, rank = list(_dims(args, kwargs)), before.dim()
    if name in ("transpose", "swapaxes") and len(dims) == 2:
        one, two = (d % rank for d in dims)
        return {one: two, two: one}.get(axis, axis)
    if name in ("t", "get") and rank == 2 and out.shape == before.shape[::-1]:
        return 1 - axis
    if name == "get" and out.shape == (*before.shape[:-2], before.shape[-1], before.shape[-2]) and rank > 2:
        return {rank - 1: rank - 2, rank - 2: rank - 1}.get(axis, axis)  # .mT
    if name == "permute" and len(dims) == rank:
        return [d % rank for d in dims].index(axis)
    if name in ("view", "reshape", "flatten", "unflatten") and axis >= rank - 2 and out.dim() > 1:
        return axis - rank + out.dim() if out.shape[-2:] == before.shape[-2:] else None
    return None
