"""Hooks that copies of a module do not inherit.

copy.deepcopy, pickle and torch.save take a module's hooks along: a copy would go on reporting to whoever hooked the
original, or cannot be made at all. While hooks are kept out, a module says itself how it is copied: without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

_KEY = "__reduce_ex__"


class _Reduce:
    """In the place of a module's `__reduce_ex__`: what copies and pickles are made from."""

    def __init__(self, module: Any):
        self._module = module
        self.kept_out: list[frozenset[int]] = []  # numbers of hooks

    def __call__(self, protocol: Any) -> Any:
        made: Any = getattr(type(self._module), _KEY)(self._module, protocol)
        if not isinstance(made, tuple) or len(made) < 3 or not isinstance(made[2], dict):
            return made  # the class says for itself what its copies are made from
        state = {k: self._without(v) if "hooks" in k else v for k, v in made[2].items() if k != _KEY}
        return (*made[:2], state, *made[3:])

    def _without(self, hooks: Any) -> Any:
        if not isinstance(hooks, dict) or all(numbers.isdisjoint(hooks) for numbers in self.kept_out):
            return hooks
        kept_out = frozenset().union(*self.kept_out)
        return type(hooks)((k, v) for k, v in hooks.items() if k not in kept_out)


def keep_out_of_copies(modules: Iterable[Any], handles: Iterable[Any]) -> Callable[[], None]:
    """handles: what registering the hooks returned, on whichever of the modules. What this returns undoes it."""
    numbers = frozenset(
        handle.id for handle in handles
    )  # one for all modules: there may be thousands of both
    changed = []
    for module in modules:
        reduce = vars(module).setdefault(_KEY, _Reduce(module))
        if isinstance(reduce, _Reduce):
            reduce.kept_out.append(numbers)
            changed.append(module)

    def undo() -> None:
        for module in changed:
            reduce = vars(module).get(_KEY)
            if isinstance(reduce, _Reduce):
                reduce.kept_out = [other for other in reduce.kept_out if other is not numbers]
                if not reduce.kept_out:
                    del vars(module)[_KEY]
        changed.clear()

    return undo
