"""Nothing of a Probe raises in the user's step: what its methods do with an error instead, and what they say of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.hooks import RemovableHandle

from .._base import InputError

LONGEST_REASON = 200  # characters of an error in a warning; torch lists its kernels

_Method = TypeVar("_Method", bound=Callable[..., None])


def never_raises(method: _Method) -> _Method:
    """For methods that are called in the loop: after an error their object gives up, unless it is strict."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if self.strict:
                raise
            self._give_up(error)

    return guarded  # type: ignore[return-value]


def take_off(handles: list[RemovableHandle]) -> None:
    """Removes hooks of an optimizer from inside of a step, as far as that can be.

    torch goes over an optimizer's hooks without making a list of them first: where one that is not the last is removed
    meanwhile, it raises in the user's step. Such a one is made to do nothing, and its handle is kept, to be removed
    when no step runs.
    """
    for handle in reversed(list(handles)):
        hooks = handle.hooks_dict_ref()
        if hooks is None or handle.id not in hooks or next(reversed(hooks)) == handle.id:
            handle.remove()
            handles.remove(handle)
        else:
            hooks[handle.id] = _does_nothing


def _does_nothing(*_: Any) -> None: ...


def reason(error: Exception) -> str:
    """The error as a sentence."""
    if isinstance(error, InputError):
        return f"{error}."
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
    return f"{type(error).__name__}: {text}. This is a defect of unitgain; please report it."
