"""Nothing of ours ends a training: what callbacks do with an error instead of raising it in the framework's loop."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from .._base import InputError, UnitgainError
from ..probe import reason
from .watching import FindingsError

_Method = TypeVar("_Method", bound=Callable[..., Any])


def never_raises_in_training(method: _Method) -> _Method:
    """For a callback's methods: after an error it lets go of the model and says so once; the training goes on as if it
    were not there. What `fail_on` asked for passes. The callback's `drop` takes away whatever it has put somewhere."""
    return _guarded(method, FindingsError)


def refuses_only(method: _Method) -> _Method:
    """The same where a training begins: what a person has given wrong is said then, as an error."""
    return _guarded(method, UnitgainError)


def _guarded(method: Any, passes: type[Exception]) -> Any:
    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(self, "drop"):  # a framework that got the class calls it with something else as self
            name = method.__qualname__.partition(".")[0]
            raise InputError(f"callbacks=[{name}]: that is the class; make a callback of it: {name}()")
        try:
            return method(self, *args, **kwargs)
        except passes:
            raise
        except Exception as error:
            watch = self.watch
            if watch is not None and watch.strict:
                raise
            with contextlib.suppress(Exception):
                self.drop()
            if watch is None or not watch.failed:
                warnings.warn(
                    f"unitgain's {type(self).__name__} stopped watching in {method.__name__}: {reason(error)} "
                    "Training goes on.",
                    stacklevel=2,
                )
            return None

    return guarded
