"""A second witness of what stands before a norm: torch.export, beside the trace of a pass that all else rests on.

Both are asked which norms run, how often, and which layers made a norm's input and feed nothing else. They get it in
different ways (the one from hooks and torch functions on real values, the other from operators on fake ones), so that a
mistake of one is hardly the other's. What they do not agree on is refused by name. It takes from a tenth of a second
to half a minute, and where torch.export cannot follow a model, that is said and the trace alone decides.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from .. import graph as graphs
from .._base import one_line
from .._batch import Batch
from .._run import in_place
from .reading import Place, is_converted, read

_NORMS = ("batch_norm", "group_norm", "instance_norm")
_VIEWS = frozenset("""view _unsafe_view reshape flatten unflatten permute transpose t squeeze unsqueeze contiguous clone
    to _to_copy alias detach getitem view_as reshape_as""".split())  # noqa: SIM905  # fmt: skip
_SIZES = frozenset(
    ("sym_size", "sym_numel", "sym_stride", "size", "numel")
)  # ask for a shape, and use no value


@dataclass
class Testimony:
    """What torch.export tells.

    calls      {path of a norm: what stands before each of its calls}: the paths of the layers that made its input and
               feed nothing else, or "" and what is there in words
    elsewhere  paths of modules whose own code calls a function that normalizes
    """

    calls: dict[str, list[tuple[tuple[str, ...], str]]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)


def doubts(model: nn.Module, batch: Batch, norms: Collection[str] = ()) -> tuple[dict[str, str], list[str]]:
    """({path of a norm on which the two do not agree: what each says}, notes)."""
    problem = ""
    for training in (True, False):
        try:
            heard = _testimony(model, batch, training, norms)
        except Exception as error:  # torch.export has many ways to say that it cannot follow
            problem = problem or f"{type(error).__name__}: {one_line(error, 160)}"
            continue
        reading = read(model, batch, training=training, norms=norms)
        first = _first_paths(model)
        found = {}
        for path, module in model.named_modules():
            if is_converted(module, norms):
                said = _difference(reading.places.get(path, []), heard.calls.get(path, []), first)
                if said:
                    found[path] = said
        known = {reading.graph[name].path for name in reading.functional}
        notes = [
            f"torch.export sees a norm in the code of {path or 'the model'}, the trace of the pass does not"
            for path in dict.fromkeys(heard.elsewhere)
            if path not in known and graphs.role_of(model.get_submodule(path)) != "norm"
        ]
        return found, [*notes, f"torch.export was asked too: {_agreement(found)}"]
    return {}, [f"torch.export cannot follow the model, so the trace of a pass alone decided: {problem}"]


def _agreement(found: dict[str, str]) -> str:
    return f"on {len(found)} norms it does not agree, which stay" if found else "it agrees on every norm"


def _difference(places: list[Place], calls: list[tuple[tuple[str, ...], str]], first: dict[str, str]) -> str:
    if len(places) != len(calls):
        return f"the trace of the pass sees it run {len(places)} times, torch.export {len(calls)} times"
    for place, (before, said) in zip(places, calls):
        ours = tuple(first.get(p.node.path, p.node.path) for p in place.producers)
        if ours and ours != tuple(first.get(p, p) for p in before):
            shown = said or ", ".join(before)
            return f"the trace of the pass sees {', '.join(ours)} before it, torch.export {shown}"
    return ""


def _testimony(model: nn.Module, batch: Batch, training: bool, norms: Collection[str]) -> Testimony:
    with in_place(model, batch=batch), torch.enable_grad(), _silence():
        model.train(training)
        for module in model.modules():
            if is_converted(module, norms) or graphs.role_of(module) == "dropout":
                module.eval()
        given = batch.clone()
        program = torch.export.export(model, tuple(given.args), dict(given.kwargs), strict=False)
    first, found = _first_paths(model), Testimony()
    held = {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers}
    insides: dict[str, list[fx.Node]] = {}  # of each call of a norm, by its key in the stack of modules
    for node in program.graph.nodes:
        stack = {key: _plain(entry) for key, entry in _stack(node).items()}
        norm = next(
            (key for key, path in stack.items() if is_converted(model.get_submodule(path), norms)), None
        )
        if norm is not None:
            insides.setdefault(norm, []).append(node)
        elif _name(node).removeprefix("_").removeprefix("native_").startswith(_NORMS):
            found.elsewhere.append(_path(node))
    for key, inside in insides.items():
        taken = (n for node in inside for n in node.all_input_nodes if n not in inside and n.name not in held)
        given = next(taken, None)
        if given is not None:
            path = _plain(_stack(inside[0])[key])
            found.calls.setdefault(first.get(path, path), []).append(_before(given, inside))
    return found


def _before(node: fx.Node, norm: list[fx.Node]) -> tuple[tuple[str, ...], str]:
    """norm: what runs inside it, and may take its input as often as it likes."""
    start, alone = _back(node, norm)
    if not alone:
        return ("",), "that what it is given is used elsewhere too"
    if _name(start) in ("cat", "concat", "concatenate"):
        parts = [_back(part) for part in start.args[0]]  # type: ignore[union-attr]
        if all(lonely for _, lonely in parts):
            return tuple(_path(part) for part, _ in parts), ""
        return ("",), "a concatenation of what is used elsewhere too"
    if start.op != "call_function":
        return ("",), "an input of the model"
    return (_path(start),), f"{_name(start)} of {_path(start) or 'the model'}"


def _back(node: Any, norm: Collection[fx.Node] = ()) -> tuple[fx.Node, bool]:
    """(the operation that this is a view of, whether nothing else takes its value)."""
    while True:
        takers = {
            id(norm) if user in norm else user for user in node.users if not _asks_for_shape(user, node)
        }
        if len(takers) != 1:
            return node, False
        if node.op != "call_function" or _name(node) not in _VIEWS:
            return node, True
        node = node.args[0]


def _asks_for_shape(user: fx.Node, node: fx.Node) -> bool:
    return _name(user) in _SIZES or (_name(user).endswith("_as") and user.args[0] is not node)


def _stack(node: fx.Node) -> dict[str, Any]:
    return node.meta.get("nn_module_stack") or {}


def _name(node: fx.Node) -> str:
    """aten.batch_norm.default -> batch_norm"""
    return str(getattr(node.target, "__name__", node.target)).removeprefix("aten.").partition(".")[0]


def _path(node: fx.Node) -> str:
    stack = list(_stack(node).values())
    return _plain(stack[-1]) if stack else ""


def _plain(entry: Any) -> str:
    """(path, class) of a stack of modules -> path; "norm@1" is the second call of norm."""
    return str(entry[0]).partition("@")[0]


def _first_paths(model: nn.Module) -> dict[str, str]:
    """{path: the first one of the same module}"""
    homes: dict[int, str] = {}
    return {p: homes.setdefault(id(m), p) for p, m in model.named_modules(remove_duplicate=False)}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What torch.export says of a model that it cannot follow is said in one line of the report."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


__all__ = ["doubts"]
