"""Where a gradient is cut: which function, on which line of the caller's code. For rule UG403.

A function mode follows one pass. A cut is a call that is given something with a gradient and returns something without
one (detach, argmax, .long(), anything under no_grad), or a number that is read into Python (.item(), .numpy()). What is
computed from such a result is known to come from that cut, so that the cuts that lead to the loss are found.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._batch import Judged, map_tensors, tensors_in
from .._run import leaves_of, random_states
from ..record import CutFacts
from .where import calling_line

_TO_PYTHON = {"item", "tolist", "numpy", "__float__", "__int__", "__array__", "__index__"}
_MAKERS = {"tensor", "as_tensor", "from_numpy", "asarray", "FloatTensor"}
_SUMS = {"add", "sub", "radd", "rsub", "iadd", "isub"}
_JOINS = {"cat", "concat", "stack"}
_MOST = 200  # cuts that are followed
_MOST_NAMES = 50


@dataclass
class _Cut:
    function: str
    where: str | None
    hides: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Use:
    """cuts: those that the other inputs come from; leaves: where there are none, what these send a gradient to."""

    cuts: frozenset[int]
    leaves: frozenset[int]


class Cuts(TorchFunctionMode):
    """Follows what is computed while it is active.

    cuts    in the order in which they were made
    terms   numbers added to a loss that come from a cut, as (cut, what was added in Python or None)
    fed     {parameter: what it was multiplied with, at each use}
    """

    def __init__(self, parameters: Iterable[Tensor] = ()):
        super().__init__()
        self.cuts: list[_Cut] = []
        self.terms: list[int] = []
        self.numbers: list[tuple[float, str | None]] = []
        self.fed: dict[int, list[_Use]] = {}
        self._parameters = {id(p) for p in parameters}
        self._known: dict[int, tuple[weakref.ref[Tensor], frozenset[int]]] = {}
        self._mixed: dict[int, weakref.ref[Tensor]] = {}
        self._in_python: frozenset[int] = frozenset()

    def of(self, value: Any) -> frozenset[int]:
        """The cuts that tensors in a value come from."""
        found: frozenset[int] = frozenset()
        for tensor in tensors_in(value):
            entry = self._known.get(id(tensor))
            if entry is not None and entry[0]() is tensor:
                found |= entry[1]
        return found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            self._see(func, (args, kwargs), out)
        return out

    def _see(self, func: Any, given: Any, out: Any) -> None:
        name = _name_of(func)
        before = self.of(given)
        inputs = list(tensors_in(given))
        learns = any(t.requires_grad for t in inputs)
        for p in inputs:
            rest = [t for t in inputs if t is not p and id(t) not in self._parameters]
            if id(p) in self._parameters and rest:  # else a question: its type, its device
                uses = self.fed.setdefault(id(p), [])
                uses.append(_Use(before, frozenset() if before else _leaves(rest)))
                if any(self._is_mixed(t) for t in rest):
                    uses.append(_Use(frozenset(), frozenset()))
        if getattr(func, "__name__", "") in _TO_PYTHON:
            if learns or before:
                self._in_python |= before or {self._cut(name, inputs)}
            return
        made = [t for t in tensors_in(out) if isinstance(t, Tensor)]
        if name in _MAKERS and self._in_python:
            before |= self._in_python
        elif learns and made and not any(t.requires_grad for t in made) and not _is_question(name):
            before |= {self._cut(name if torch.is_grad_enabled() else "no_grad", inputs)}
        if name in _SUMS:
            self._see_sum(inputs, given[0], out)
        for tensor in made:
            if before:
                self._known[id(tensor)] = weakref.ref(tensor), before
            else:
                self._known.pop(id(tensor), None)
            joined = name in _JOINS and len({bool(self.of(t)) for t in inputs}) > 1 and not _axis(given)
            if joined or any(self._is_mixed(t) for t in inputs):
                self._mixed[id(tensor)] = weakref.ref(tensor)

    def _is_mixed(self, tensor: Tensor) -> bool:
        """Whether some of its examples come from a cut and others do not."""
        known = self._mixed.get(id(tensor))
        return known is not None and known() is tensor

    def _cut(self, name: str, inputs: list[Tensor]) -> int:
        hides: set[int] = set()
        if len(self.cuts) < _MOST:
            hides = {id(leaf) for t in inputs if t.requires_grad for leaf in leaves_of(t)}
        self.cuts.append(_Cut(name, calling_line(), hides))
        return len(self.cuts) - 1

    def _see_sum(self, inputs: list[Tensor], args: Any, out: Any) -> None:
        """A number without a gradient that is added to one with it."""
        if not (isinstance(out, Tensor) and out.dim() == 0 and out.requires_grad):
            return
        for tensor in inputs:
            if tensor.dim() == 0 and not tensor.requires_grad:
                self.terms.extend(sorted(self.of(tensor)))
        for value in args:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.numbers.append((float(value), calling_line()))


def _leaves(tensors: Iterable[Tensor]) -> frozenset[int]:
    return frozenset(id(leaf) for t in tensors if t.requires_grad for leaf in leaves_of(t))


def _name_of(func: Any) -> str:
    name = getattr(func, "__name__", "")
    if name == "__get__":  # an attribute of a tensor
        return getattr(func.__self__, "__name__", "")
    return name.strip("_")


def _is_question(name: str) -> bool:
    """What gives no values that could have had a gradient."""
    return name in {"shape", "grad", "is_leaf", "zeros_like", "ones_like", "rand_like", "randn_like", "empty_like",
                    "full_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"}  # fmt: skip


def _axis(given: Any) -> int:
    args, kwargs = given
    axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    return axis if isinstance(axis, int) else 0


def cut_facts(model: nn.Module, cuts: Cuts, missing: list[str]) -> tuple[CutFacts, ...]:
    """The cuts behind which parameters without a gradient lie, each parameter at the first that hides it."""
    names = {id(p): n for n, p in model.named_parameters()}
    left, found = set(missing), []
    for cut in cuts.cuts:
        hidden = [names[i] for i in cut.hides if i in names and names[i] in left]
        if hidden:
            left -= set(hidden)
            order = [n for n in missing if n in hidden]
            found.append(CutFacts(cut.function, cut.where, tuple(order[:_MOST_NAMES])))
    return tuple(found)


def cuts_hide(cuts: Cuts, model: nn.Module) -> set[str]:
    """Names of the parameters that lie behind a cut."""
    ids = set().union(*(cut.hides for cut in cuts.cuts))
    return {n for n, p in model.named_parameters() if id(p) in ids}


def use_of(cuts: Cuts, model: nn.Module, hidden: set[str]) -> tuple[bool, bool]:
    """(whether another parameter is used on what comes from a cut that hides these, and on what does not depend on
    them, as a critic is on made and on real examples; whether one is used on what comes from such a cut at all)."""
    ids = {id(p) for n, p in model.named_parameters() if n in hidden}
    hiding = {i for i, cut in enumerate(cuts.cuts) if cut.hides & ids}
    others = [uses for p, uses in cuts.fed.items() if p not in ids]
    behind = [[use for use in uses if use.cuts & hiding] for uses in others]
    # what still has a gradient for these parameters is no other example: a book of codes, compared with them and read
    beside = [[use for use in uses if not use.cuts & hiding and not use.leaves & ids] for uses in others]
    return any(a and b for a, b in zip(behind, beside)), any(behind)


def term_facts(done: Judged) -> tuple[CutFacts, ...]:
    """Terms of the loss that depend on the outputs and have no gradient: the loss is called twice more. done: the first
    pass. Nothing is said of a loss that the model computes itself, and of terms that were detached by that name."""
    if done.function is None or done.loss is None or not done.loss.requires_grad:
        return ()
    first, numbers = _watched(done, False)
    if first is None:
        return ()
    found = [first.cuts[i] for i in dict.fromkeys(first.terms) if first.cuts[i].function != "detach"]
    lines = []
    if numbers and any(cut.function in _TO_PYTHON for cut in first.cuts):
        _, others = _watched(done, True)
        if len(others) == len(numbers):
            lines = [where for (a, where), (b, _) in zip(numbers, others) if a != b]
    terms = [CutFacts(cut.function, cut.where) for cut in found]
    return tuple(dict.fromkeys([*terms, *(CutFacts("item", where) for where in lines)]))


def _watched(done: Judged, changed: bool) -> tuple[Cuts | None, list[tuple[float, str | None]]]:
    """The loss of the same outputs, or of those of other examples, watched."""
    assert done.function is not None

    def fresh(t: Tensor) -> Tensor:
        t = t.detach().clone()
        if changed and t.dim() and t.is_floating_point():
            t = t.flip(0) * 1.5
        return t.requires_grad_(t.is_floating_point())

    target = map_tensors(done.target, lambda t: t.detach().clone())
    cuts = Cuts()
    try:
        outputs = map_tensors(done.compared, fresh)
        with torch.enable_grad(), random_states.kept(), cuts:
            done.function(outputs, target)
    except Exception:  # the caller's own code, on outputs that are no longer of its graph
        return None, []
    return cuts, cuts.numbers
