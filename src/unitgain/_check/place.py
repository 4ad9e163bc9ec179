"""Which line of the caller's code calls a torch function."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def calling_line() -> str | None:
    """ "model.py:31 in Net.forward": the innermost frame that is neither torch's nor ours; None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith((*_NOT_THEIRS, "<frozen")):
            name = getattr(code, "co_qualname", code.co_name).replace("<locals>.", "")
            return f"{Path(code.co_filename).name}:{frame.f_lineno} in {name}"
        frame = frame.f_back
    return None
