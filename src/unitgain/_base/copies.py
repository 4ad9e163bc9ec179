"""Hooks that copies of a module do not inherit.

copy.deepcopy, pickle and torch.save take a module's hooks along: a copy would go on reporting to whoever hooked the
original, or cannot be made at all. While hooks are kept out, a module says itself how it is copied: without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_KEY = "__reduce_ex__"


class _Reduce:
    """In the place of a module's `__reduce_ex__`: what copies and pickles are made from."""

    def __init__(self, module: Any):
        self._module = module
        self.kept_out: dict[int, int] = {}  # number of a hook -> how many ask for it

    def __call__(self, protocol: Any) -> Any:
        made: Any = getattr(type(self._module), _KEY)(self._module, protocol)
        if not isinstance(made, tuple) or len(made) < 3 or not isinstance(made[2], dict):
            return made  # the class says for itself what its copies are made from
        state = {k: self._without(v) if "hooks" in k else v for k, v in made[2].items() if k != _KEY}
        return (*made[:2], state, *made[3:])

    def _without(self, hooks: Any) -> Any:
        if not isinstance(hooks, dict) or not self.kept_out.keys() & hooks.keys():
            return hooks
        return type(hooks)((k, v) for k, v in hooks.items() if k not in self.kept_out)


def keep_out_of_copies(modules: Iterable[Any], handles: Iterable[Any]) -> None:
    """handles: what registering the hooks returned. Undone by `let_into_copies`, with the same arguments."""
    numbers = [handle.id for handle in handles]
    for module in modules:
        reduce = vars(module).setdefault(_KEY, _Reduce(module))
        if isinstance(reduce, _Reduce):
            for number in numbers:
                reduce.kept_out[number] = reduce.kept_out.get(number, 0) + 1


def let_into_copies(modules: Iterable[Any], handles: Iterable[Any]) -> None:
    numbers = [handle.id for handle in handles]
    for module in modules:
        reduce = vars(module).get(_KEY)
        if isinstance(reduce, _Reduce):
            for number in numbers:
                left = reduce.kept_out.pop(number, 0) - 1
                if left > 0:
                    reduce.kept_out[number] = left
            if not reduce.kept_out:
                del vars(module)[_KEY]
