"""Modules of unitgain's classes rewritten as torch.fx graphs: the same layers, run by code that torch has generated.

After folding, what is left of a class of ours is its forward pass: which layer comes after which, a factor, a padding.
torch.fx records that from symbols and not from a batch, so it holds for any size of input. What asks for values or
branches on them cannot be recorded and stays.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

_OURS = __name__.partition(".")[0]


def is_ours(module: nn.Module) -> bool:
    """Whether its class is one of this package's."""
    return type(module).__module__.partition(".")[0] == _OURS


def remaining(model: nn.Module) -> list[str]:
    """Paths of the outermost modules of our classes; each module once."""
    found: list[str] = []
    inside: set[int] = set()
    for path, module in model.named_modules():
        if is_ours(module) and id(module) not in inside:
            found.append(path)
            inside |= {id(m) for m in module.modules()}
    return found


class _Tracer(fx.Tracer):
    """Records the code of our classes; every other module is one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(is_ours(inner) for inner in m.modules())


def as_plain_code(module: nn.Module) -> fx.GraphModule:
    """The same computation in evaluation mode, with the same layers and parameters under the same names.

    Raises whatever torch.fx raises for code that it cannot record, and ValueError where a function of ours is called.
    """
    flags = {m: m.training for m in module.modules()}
    module.eval()
    try:
        graph = _Tracer().trace(module)
    finally:
        for m, flag in flags.items():
            m.training = flag
    graph._tracer_cls = None  # or it would be named in every pickle
    for node in graph.nodes:
        node.type = None  # annotations of ours are strings, which torch.jit.script would look up
        target: Any = node.target
        if node.op == "call_function" and getattr(target, "__module__", "").partition(".")[0] == _OURS:
            raise ValueError(f"it calls {target.__name__}")
    made = fx.GraphModule(module, graph, type(module).__name__)
    for path, inner in made.named_modules():
        inner.training = _flag(module, path)
    return made


def _flag(module: nn.Module, path: str) -> bool:
    try:
        return module.get_submodule(path).training
    except AttributeError:
        return module.training


def reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


__all__ = ["as_plain_code", "is_ours", "reason", "remaining"]
