"""Listener: who is told of a pass while it runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .node import Node
from .operations import Call
from .values import Value


class Listener:
    """What a tracer tells whom it works for, as it happens: reduce a tensor at once, it may change in place.

    node       the tensor of an input, a module or a function is there; `given` is (args, kwargs) of a module's call.
               What it returns, if it is a tensor, goes on in the place of a module's output
    value      a pass that is followed: any tensor, with what it is made of and the call that made it
    function   a pass that is followed: a torch function ran
    again      in backward: a checkpointed part ran its forward again
    enters     a module is called that no other module of the model has called
    wanted     whether a module called now is to be told of at all
    """

    def node(self, node: Node, tensor: Tensor, given: Any) -> Tensor | None:
        return None

    def value(self, value: Value, tensor: Tensor, call: Call) -> None: ...

    def function(self, function: Any, args: Any, out: Any) -> None: ...

    def again(self, path: str, output: Any) -> None: ...

    def enters(self) -> None: ...

    def wanted(self) -> bool:
        return True
