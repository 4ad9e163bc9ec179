"""torch.compile: what a compiled module was made from, and how it is made to run as it was written.

A hook or a torch function mode that a compiled module meets is traced into its graph, which breaks it in pieces. So
whoever hooks a model holds the stance "force_eager" (torch 2.6) for as long as the hooks are there: compiled modules,
losses and steps then run as they were written, and their graphs are kept for afterwards, untouched.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_PREFIX = "_orig_mod."
_change = threading.RLock()  # a holder may vanish in the midst
_holders = 0
_stance: Any = None

_Function = TypeVar("_Function", bound=Callable[..., Any])


def original(module: Any) -> Any:
    """What `torch.compile(module)` was made from; any other module itself."""
    while type(module).__name__ == "OptimizedModule":
        module = module._orig_mod
    return module


def plain_name(name: str) -> str:
    """The name of a module or parameter without the compiler's part.

    >>> plain_name("layers.0._orig_mod.weight"), plain_name("_orig_mod")
    ('layers.0.weight', '')
    """
    return f"{name}.".replace(_PREFIX, "")[:-1] if "_orig_mod" in name else name


def hold_eager(holder: Any) -> Callable[[], Any]:
    """From now on nothing compiled runs compiled, until what this returns is called, or nobody has the holder any more.
    Several may hold."""
    global _holders, _stance
    with _change:
        if _stance is None and "torch._dynamo" in sys.modules:  # else nothing has been compiled
            import torch

            _stance = torch.compiler.set_stance("force_eager")
        _holders += 1
    return weakref.finalize(holder, _release)


def _release() -> None:
    global _holders, _stance
    with _change:
        _holders -= 1
        if not _holders and _stance is not None:
            stance, _stance = _stance, None
            stance.__exit__(None, None, None)


def is_held() -> bool:
    """Whether everything runs as it was written, now."""
    return _holders > 0


class _Holder: ...


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside, everything runs as it was written."""
    release = hold_eager(holder := _Holder())
    try:
        yield
    finally:
        release()
        del holder


@contextmanager
def opened(model: Any) -> Iterator[None]:
    """Inside, what compiled parts of the model were made from stands in their places, so that every name is plain."""
    inner = (module for module in model.modules() if type(module).__name__ != "OptimizedModule")
    parts = [(m, name, c) for m in inner for name, c in m._modules.items() if original(c) is not c]
    for parent, name, part in parts:
        parent._modules[name] = original(part)
    try:
        yield
    finally:
        for parent, name, part in parts:
            if parent._modules.get(name) is original(part):  # else something has taken its place
                parent._modules[name] = part


def opens_compiled(function: _Function) -> _Function:
    """For functions whose first argument is a model: of a compiled one they get what it was made from, opened."""

    @functools.wraps(function)
    def called(model: Any, *args: Any, **kwargs: Any) -> Any:
        model = original(model)
        if isinstance(model, type) or not hasattr(model, "modules"):  # for the function to refuse
            return function(model, *args, **kwargs)
        with opened(model):
            return function(model, *args, **kwargs)

    return called  # type: ignore[return-value]
