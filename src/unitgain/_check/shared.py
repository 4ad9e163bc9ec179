"""Lists of one module: `nn.ModuleList([Block()] * 6)` holds one block six times. For rule UG809.

That such a list or Sequential holds the same module in every place is read off the model. How its calls hang together
is seen in one more pass: one after another, where each works on what the one before gave; on the same input, where all
give the same; or apart, on inputs that do not depend on them, as the heads of a detector that share their weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from .._base import InputError
from .._batch import tensors_in
from ..record import SharedFacts
from .passes import Passes

Call = tuple[Tensor | None, Tensor | None]  # the first tensors of its inputs and outputs

_MOST_NODES = 100_000


def shared_facts(model: nn.Module, passes: Passes) -> tuple[SharedFacts, ...]:
    """Makes a pass, and rewinds, only where there is such a list."""
    lists = dict(_lists_of_one(model))
    if not lists:
        return ()
    calls: dict[str, list[Call]] = {path: [] for path in lists}
    try:
        with _hooked(lists, calls):
            passes.run(backward=False)
    except InputError:
        calls = {path: [] for path in lists}
    finally:
        passes.rewind()
    return tuple(
        SharedFacts(path, len(holder), type(holder[0]).__name__, _how(calls[path]))
        for path, holder in lists.items()
    )


def _lists_of_one(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1:
            learns = any(p.requires_grad for p in module[0].parameters())
            if learns and all(child is module[0] for child in module):
                yield path, module


@contextmanager
def _hooked(lists: dict[str, Any], calls: dict[str, list[Call]]) -> Iterator[None]:
    def keep_in(kept: list[Call], _: nn.Module, args: Any, output: Any) -> None:
        given, gave = (
            next((t for t in tensors_in(part) if t.is_floating_point()), None) for part in (args, output)
        )
        kept.append((given, gave))

    handles = [
        holder[0].register_forward_hook(functools.partial(keep_in, calls[path]))
        for path, holder in lists.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _how(calls: list[Call]) -> str:
    """ "chain", "alike" or "apart"; "" where it cannot be told."""
    ends = [part for call in calls[:2] for part in call if part is not None]
    if len(ends) < 4:
        return ""
    first, gave, second, gave_too = ends
    if second is gave or (gave.grad_fn is not None and _leads_to(second.grad_fn, gave.grad_fn)):
        return "chain"
    return "alike" if torch.equal(first, second) and torch.equal(gave, gave_too) else "apart"


def _leads_to(node: Node | None, wanted: Node) -> bool:
    seen: set[Node] = set()
    todo = [node]
    while todo and len(seen) < _MOST_NODES:
        node = todo.pop()
        if node is wanted:
            return True
        if node is not None and node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions]
    return False
