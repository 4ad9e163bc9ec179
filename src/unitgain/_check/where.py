"""Which line of the caller's code: the one that makes the module a finding is about, that calls the function at a site,
that defines the loss, or that calls a torch function now."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

_FOLDERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))  # of torch and of this package
# Findings about what the loss compares, and no module
_OF_THE_LOSS = {"UG106", "UG107", "UG109", "UG111", "UG120"}


def place_of(model: nn.Module, site: str | None, *, code: str = "", loss: Any = None) -> str | None:
    """ "net.py:12 (self.fc1 in class Net)": of the innermost module that holds a site (a module's or parameter's name)
    and whose class is not torch's. Of a function that its forward calls, that line: "net.py:20 (softmax in
    Net.forward)". None where the source is not to be found.

    code, loss  of a finding about what the loss compares, which no line of the model makes: where the loss is defined
    """
    path, _, function = (site or "").partition(":")
    if function:
        found = _call(model, path, function)
        if found is not None:
            return found
    for module, inside in _holders(model, path):
        if type(module).__module__.partition(".")[0] == "torch":
            continue
        found = _place(type(module), inside)
        if found is not None:
            return found
    return _definition(loss) if code in _OF_THE_LOSS else None


def _call(model: nn.Module, path: str, function: str) -> str | None:
    """function: "softmax", or "relu#2" for the second call"""
    name, _, number = function.partition("#")
    try:
        kind = type(model.get_submodule(path))
        lines, first = inspect.getsourcelines(kind.forward)
        file = inspect.getsourcefile(kind)
    except (AttributeError, OSError, TypeError, IndexError):
        return None
    calling = re.compile(rf"\b{re.escape(name)}_?\s*\(")
    found = [first + i for i, line in enumerate(lines) for _ in calling.findall(line.partition("#")[0])]
    if file is None or not found or kind.__module__.partition(".")[0] == "torch":
        return None
    line = found[min(int(number or 1), len(found)) - 1]
    return f"{_shown(file)}:{line} ({name} in {kind.__name__}.forward)"


def _definition(loss: Any) -> str | None:
    """Where a loss of the caller's own begins; None of torch's."""
    if isinstance(loss, nn.Module):
        ours = type(loss).__module__.partition(".")[0] != "torch"
        return _place(type(loss), "") if ours else None
    code = getattr(inspect.unwrap(loss), "__code__", None) if callable(loss) else None
    if code is None or code.co_filename.startswith((*_FOLDERS, "<")):
        return None
    name = getattr(loss, "__name__", "the loss")
    return f"{_shown(code.co_filename)}:{code.co_firstlineno} ({'a lambda' if name == '<lambda>' else name})"


def _shown(file: str) -> str:
    shown = os.path.relpath(file)
    return file if shown.startswith("..") else shown


def _holders(model: nn.Module, site: str) -> Iterator[tuple[nn.Module, str]]:
    """The modules on the way to a site, innermost first, each with the name of what leads on to it."""
    chain, inside, module = [], site.split("."), model
    for number, name in enumerate(inside):
        chain.append((module, name))
        child = module._modules.get(name)
        if child is None:
            break
        module = child
        if number == len(inside) - 1:
            chain.append((module, ""))
    yield from reversed(chain or [(model, "")])


def _place(kind: type, name: str) -> str | None:
    try:
        lines, first = inspect.getsourcelines(kind)
        file = inspect.getsourcefile(kind)
    except (OSError, TypeError, IndexError):
        return None
    if file is None:
        return None
    shown = _shown(file)
    making = re.compile(rf"self\.{re.escape(name)}\s*(:[^=]+)?=") if name else None
    for number, line in enumerate(lines):
        if making is not None and making.search(line):
            return f"{shown}:{first + number} (self.{name} in class {kind.__name__})"
    return f"{shown}:{first} (class {kind.__name__})"


def is_torchs(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_FOLDERS[0])


def is_callers(frame: FrameType) -> bool:
    """Whether its code is neither torch's nor ours."""
    return not frame.f_code.co_filename.startswith((*_FOLDERS, "<frozen"))


def calling_line() -> str | None:
    """ "model.py:31 in Net.forward": the innermost frame that is neither torch's nor ours; None if there is none, or if
    we called torch ourselves."""
    frame: FrameType | None = sys._getframe(1)
    ours = True
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_FOLDERS[1]):
            if not ours:
                return None
        elif code.co_filename.startswith((*_FOLDERS, "<frozen")):
            ours = False
        else:
            name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
            return f"{Path(code.co_filename).name}:{frame.f_lineno} in {name}"
        frame = frame.f_back
    return None
