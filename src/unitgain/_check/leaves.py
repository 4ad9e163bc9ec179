"""Tensors that learn, in the outputs' graph, which the model does not hold as parameters. For rule UG801.

Autograd's graph of the first pass ends at the tensors that get a gradient. Those that are neither parameters nor inputs
nor in the given optimizer are weights that torch does not see: `model.parameters()`, `.to(device)` and `.state_dict()`
pass them by. Leaves that a forward pass makes for itself (positions whose gradient is a force) are no weights: only an
nn.Parameter, or what an attribute holds, is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from .._batch import Judged
from .._run import leaves_of
from ..record import LeafFacts
from .job import Job
from .rehearsal import Plan

_DEEPEST = 4  # containers in containers


def leaf_facts(model: nn.Module, job: Job, plan: Plan, done: Judged) -> tuple[LeafFacts, ...] | None:
    """done: the first pass, whose graph is still there. Of a step of the caller's own, which may run other models, only
    tensors are counted that an attribute of this model holds. None where there is no graph, or torch cuts the
    parameters itself (FSDP)."""
    start = done.logits if job.step is None and done.logits is not None else done.loss
    if start is None or not start.requires_grad or any(map(_is_sharded, model.modules())):
        return None
    known = {id(p) for p in model.parameters()}
    known.update(id(p) for o in plan.given for group in o.param_groups for p in group["params"])
    known.update(id(t) for t in job.batch.tensors())
    leaves = [leaf for leaf in leaves_of(start) if id(leaf) not in known]
    if not leaves:
        return ()
    held = {id(t): (owner, name) for owner, name, t in _attributes(model)}
    found = []
    for leaf in leaves:
        owner, name = held.get(id(leaf), (None, None))
        if name is not None or (isinstance(leaf, nn.Parameter) and job.step is None):
            found.append(LeafFacts(name, owner, tuple(leaf.shape)))
    return tuple(found)


def _is_sharded(module: nn.Module) -> bool:
    return "FSDP" in type(module).__name__ or "FullySharded" in type(module).__name__


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """(path of the module, attribute, leaf) of what stands in attributes that are no parameters and no submodules; of a
    tensor that was computed, the leaves that it comes from."""
    registered = {id(m) for m in model.modules()}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if key.startswith("_"):
                continue
            for name, tensor in _tensors(value, key, registered, _DEEPEST):
                for leaf in leaves_of(tensor):
                    yield path, name, leaf


def _tensors(value: Any, name: str, registered: set[int], depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        if id(value) not in registered:
            yield from ((f"{name}.{n}", p) for n, p in value.named_parameters())
    elif depth:
        for key, part in _parts(value):
            yield from _tensors(part, f"{name}{key}", registered, depth - 1)


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return [(f"[{number}]", part) for number, part in enumerate(value)]
    if isinstance(value, FunctionType):  # what a function closes over
        cells = zip(value.__code__.co_freevars, value.__closure__ or ())
        return [(f": {name}", cell.cell_contents) for name, cell in cells if _is_filled(cell)]
    inside = getattr(value, "__dict__", None)
    if isinstance(inside, dict) and not isinstance(value, type):
        return [(f".{key}", part) for key, part in list(inside.items())]
    return ()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
