"""Frame: a running call of a module, and how its forward is followed."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from .operations import Operation
from .values import Value


@dataclass
class Frame:
    """A running call of a module.

    inside  "hidden": known as a whole; "layer": a linear layer with a forward of its own, followed in case there is
            more in it; "leaf": of the user's own, with sites for its products; "open": its functions are sites
    given   its first input, last its first output, as far as they are known
    nodes   names of the nodes made in its forward itself
    outermost  whether the torch function mode is on for this call, and off again after it
    """

    path: str
    module: nn.Module
    inside: str
    call: int = 1
    given: Value | None = None
    last: Value | None = None
    nodes: list[str] = field(default_factory=list)
    outermost: bool = False


def is_site(found: Operation, inside: str) -> bool:
    """Whether a Probe measures a function that is called in such a module."""
    return inside != "layer" and (found.site is True or (found.site == "leaf" and inside == "leaf"))


def has_torchs_forward(module: nn.Module) -> bool:
    if "forward" in vars(module):
        return False
    made_by = next(c for c in type(module).__mro__ if "forward" in vars(c))
    return made_by.__module__.startswith("torch.")
