"""Which line of the caller's code: the one that makes the module a finding is about, or that calls a torch function."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import nn

_FOLDERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))  # of torch and of this package


def place_of(model: nn.Module, site: str | None) -> str | None:
    """ "net.py:12 (self.fc1 in class Net)": of the innermost module that holds a site (a module's or parameter's name)
    and whose class is not torch's; None where its source is not to be found."""
    for module, inside in _holders(model, site or ""):
        if type(module).__module__.partition(".")[0] == "torch":
            continue
        found = _place(type(module), inside)
        if found is not None:
            return found
    return None


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
    shown = os.path.relpath(file)
    shown = file if shown.startswith("..") else shown
    making = re.compile(rf"self\.{re.escape(name)}\s*(:[^=]+)?=") if name else None
    for number, line in enumerate(lines):
        if making is not None and making.search(line):
            return f"{shown}:{first + number} (self.{name} in class {kind.__name__})"
    return f"{shown}:{first} (class {kind.__name__})"


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
