"""Calls whose result is dropped on the spot, where it was to go on in the place of what went in. For rule UG810.

`F.relu(x)`, `self.drop(x)`, `scores.masked_fill(mask, -inf)` and `out + x` as statements of their own compute something
and throw it away: these functions change nothing that they are given. Whether a call is a statement of its own stands
in the caller's compiled code: the next thing that Python does is to drop the value. What is given a name, kept, shown
or handed on is left alone, whether it is used or not; so is what works in place, and a module that hooks listen to or
that holds other modules, which may be called for what happens inside.
"""

from __future__ import annotations

import dis
import sys
from bisect import bisect_right
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from torch import Tensor, nn

from ..record import DiscardedFacts
from .drawing import DROPOUT
from .where import calling_line, is_callers, is_torchs

_FUNCTIONS = set(DROPOUT) | {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
    "hardtanh", "hardswish", "hardsigmoid", "tanh", "sigmoid", "softmax", "log_softmax", "glu", "normalize",
    "layer_norm", "group_norm", "masked_fill", "masked_scatter", "where", "clamp", "clip", "clamp_min", "clamp_max",
    "nan_to_num", "add", "radd", "sub", "rsub", "subtract", "mul", "rmul", "multiply", "div", "truediv", "divide",
    "matmul", "bmm", "detach", "transpose", "permute", "swapaxes", "unsqueeze", "squeeze", "view", "reshape",
    "flatten", "scatter", "index_fill", "index_add",
}  # fmt: skip
_MOST = 20  # that are kept
_DEEPEST = 30  # frames that are looked at


class Discarded:
    """Looks at the calls of functions in the model and in the loss."""

    def __init__(self) -> None:
        self.found: list[DiscardedFacts] = []
        self._without_gradients = 0  # how many torch.no_grad() the caller is in

    def see(self, name: str, args: Any, kwargs: Any, out: Any) -> None:
        if name == "set_grad_enabled":
            self._note_switch(args)
        elif name in _FUNCTIONS and isinstance(out, Tensor) and out.is_floating_point():
            given = [*args, *kwargs.values()]
            if self._without_gradients or any(out is x for x in given) or len(self.found) >= _MOST:
                return
            if _is_statement():
                facts = DiscardedFacts(name, calling_line(), tuple(map(int, out.shape)))
                if facts.where is not None and facts not in self.found:
                    self.found.append(facts)

    def _note_switch(self, args: Any) -> None:
        """torch.no_grad() begins or ends. (Whether gradients are on does not tell: a check may run without any.)"""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not frame.f_code.co_filename.endswith("grad_mode.py"):
            frame = frame.f_back if not is_callers(frame) else None
        name = ""
        while frame is not None and is_torchs(frame):
            name = frame.f_code.co_name if frame.f_code.co_name in ("__enter__", "__exit__") else name
            frame = frame.f_back
        if frame is None or not is_callers(frame):
            return  # ours
        if name == "__enter__":
            self._without_gradients += not args[0]
        elif name == "__exit__":
            self._without_gradients = max(self._without_gradients - 1, 0)


def _is_statement() -> bool:
    """Whether the value of the function that is called now is dropped by the caller's code, at once or by what returns
    it: no module in between may hold others, or have hooks."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_DEEPEST):
        if frame is None:
            return False
        if is_callers(frame):
            following = _following(frame.f_code, frame.f_lasti)
            if following not in ("RETURN_VALUE", None):
                return following == "POP_TOP"
        elif frame.f_code.co_name == "_call_impl":
            module = frame.f_locals.get("self")
            if not isinstance(module, nn.Module) or module._modules or module._forward_hooks:
                return False
        frame = frame.f_back
    return False


def _following(code: CodeType, at: int) -> str | None:
    """The name of the instruction after the one that is running. `at` may lie in what that one keeps behind itself."""
    offsets, names = _instructions(code)
    place = bisect_right(offsets, at)
    return names[place] if place < len(names) else None


@lru_cache(maxsize=256)
def _instructions(code: CodeType) -> tuple[list[int], list[str]]:
    instructions = list(dis.get_instructions(code))
    return [i.offset for i in instructions], [i.opname for i in instructions]
