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
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from .._batch import Judged, map_tensors, tensors_in
from .._run import leaves_of, random_states
from ..record import CutFacts, LossCallFacts
from .where import calling_line

_TO_PYTHON = {"item", "tolist", "numpy", "__float__", "__int__", "__array__", "__index__"}
_MAKERS = {"tensor", "as_tensor", "from_numpy", "asarray", "FloatTensor"}
_SUMS = {"add", "sub", "radd", "rsub", "iadd", "isub"}
_JOINS = {"cat", "concat", "stack"}
_READ = {name.strip("_") for name in _TO_PYTHON}
# loss functions whose arguments cannot change places
_ONE_WAY = {"cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
            "poisson_nll_loss", "multilabel_soft_margin_loss"}  # fmt: skip
_LINEAR = {"Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Mean", "Sum", "Stack", "Cat", "View", "Squeeze", "Unsqueeze",
           "Select", "ToCopy", "Clone"}  # fmt: skip
_MOST = 200  # cuts that are followed
_MOST_NAMES = 50


@dataclass
class _Cut:
    function: str
    where: str | None
    whole: bool = False  # several values were cut off, and not one number
    hides: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Use:
    """cuts: those that the other inputs come from; leaves: where there are none, what these send a gradient to."""

    cuts: frozenset[int]
    leaves: frozenset[int]


class Cuts(TorchFunctionMode):
    """Follows what is computed while it is active.

    cuts    in the order in which they were made
    terms   numbers added to a loss that come from a cut, as (cut, the sum)
    numbers likewise those that were added in Python, as (number, line of the caller's code, the sum)
    swapped a loss function of torch whose target has a gradient, and what it is given has none
    fed     {parameter: what it was multiplied with, at each use}
    """

    def __init__(self, parameters: Iterable[Tensor] = ()):
        super().__init__()
        self.cuts: list[_Cut] = []
        self.terms: list[tuple[int, Node]] = []
        self.numbers: list[tuple[float, str | None, Node]] = []
        self.swapped: LossCallFacts | None = None
        self.fed: dict[int, list[_Use]] = {}
        self._parameters = {id(p) for p in parameters}
        self._known: dict[int, tuple[weakref.ref[Tensor], frozenset[int]]] = {}
        self._mixed: dict[int, weakref.ref[Tensor]] = {}  # some examples come from a cut, and others do not
        self._detached: dict[int, weakref.ref[Tensor]] = {}
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
                if any(self._is_in(self._mixed, t) for t in rest):
                    uses.append(_Use(frozenset(), frozenset()))
        if getattr(func, "__name__", "") in _TO_PYTHON:
            if learns or before:
                self._in_python |= before | {self._cut(name, inputs)}
            return
        made = [t for t in tensors_in(out) if isinstance(t, Tensor)]
        if name in _MAKERS and self._in_python:
            before |= self._in_python
        elif learns and made and not any(t.requires_grad for t in made) and not _is_question(name):
            before |= {self._cut(name if torch.is_grad_enabled() else "no_grad", inputs)}
        if name in _SUMS or name == "stack":
            self._see_sum(inputs, given[0], out)
        if name in _ONE_WAY:
            self._see_loss(name, given, out)
        for tensor in made:
            if name == "detach":
                self._detached[id(tensor)] = weakref.ref(tensor)
            if before:
                self._known[id(tensor)] = weakref.ref(tensor), before
            else:
                self._known.pop(id(tensor), None)
            joined = name in _JOINS and len({bool(self.of(t)) for t in inputs}) > 1 and not _axis(given)
            if joined or any(self._is_in(self._mixed, t) for t in inputs):
                self._mixed[id(tensor)] = weakref.ref(tensor)

    @staticmethod
    def _is_in(held: dict[int, weakref.ref[Tensor]], tensor: Tensor) -> bool:
        known = held.get(id(tensor))
        return known is not None and known() is tensor

    def _cut(self, name: str, inputs: list[Tensor]) -> int:
        hides: set[int] = set()
        if len(self.cuts) < _MOST:
            hides = {id(leaf) for t in inputs if t.requires_grad for leaf in leaves_of(t)}
        whole = any(t.numel() > 1 for t in inputs if t.requires_grad)
        self.cuts.append(_Cut(name, calling_line(), whole, hides))
        return len(self.cuts) - 1

    def _see_sum(self, inputs: list[Tensor], args: Any, out: Any) -> None:
        """A number without a gradient, or in a new tensor with its own, that is added to one with it."""
        if not (isinstance(out, Tensor) and out.numel() <= max(1, len(inputs)) and out.grad_fn is not None):
            return
        for tensor in inputs:
            if tensor.numel() == 1 and tensor.is_leaf and not self._is_in(self._detached, tensor):
                known = sorted(self.of(tensor))
                self.terms.extend((cut, out.grad_fn) for cut in known)
                if self._in_python and not known:  # torch.FloatTensor([...]) is no function that a mode sees
                    self.numbers.append((float(tensor.detach()), calling_line(), out.grad_fn))
        for value in args:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self.numbers.append((float(value), calling_line(), out.grad_fn))

    def _see_loss(self, name: str, given: Any, out: Any) -> None:
        args, kwargs = given
        x, target = (
            args[i] if len(args) > i else kwargs.get(key) for i, key in enumerate(("input", "target"))
        )
        learn = [isinstance(t, Tensor) and t.requires_grad for t in (x, target)]
        if learn == [False, True] and self.swapped is None and not self.of(x):
            self.swapped = LossCallFacts(name, calling_line())


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


def term_facts(done: Judged) -> tuple[tuple[CutFacts, ...], LossCallFacts | None]:
    """(terms of the loss that depend on the outputs and have no gradient, a loss function whose arguments changed
    places): the loss is called twice more. done: the first pass. Nothing is said of a loss that the model computes
    itself, and of numbers that were detached by that name."""
    if done.function is None or done.loss is None or not done.loss.requires_grad:
        return (), None
    first, numbers = _watched(done, False)
    if first is None:
        return (), None
    cuts = [first.cuts[cut] for cut in dict.fromkeys(cut for cut, _ in first.terms)]
    terms = [
        CutFacts(cut.function.strip("_"), cut.where) for cut in cuts if cut.whole or cut.function != "detach"
    ]
    if numbers and any(cut.function in _READ for cut in first.cuts):
        _, others = _watched(done, True)
        if len(others) == len(numbers):
            lines = (where for (a, where), (b, _) in zip(numbers, others) if a != b)
            terms += [CutFacts("item", where) for where in lines]
    return tuple(dict.fromkeys(terms)), first.swapped


def _watched(done: Judged, changed: bool) -> tuple[Cuts | None, list[tuple[float, str | None]]]:
    """The loss of the same outputs, or of those of other examples, watched; the numbers that were added to it."""
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
            loss = done.function(outputs, target)
        summed = _summed(loss.grad_fn)
    except Exception:  # the caller's own code, on outputs that are no longer of its graph
        return None, []
    cuts.terms = [(cut, node) for cut, node in cuts.terms if node in summed]
    return cuts, [(number, where) for number, where, node in cuts.numbers if node in summed]


def _summed(node: Node | None) -> set[Node]:
    """The nodes from which a loss comes by sums, means and factors alone: what is added elsewhere, as a margin inside
    of a hinge or a soft error's difference to a hard one, counts in another way or not at all."""
    found: set[Node] = set()
    todo = [node]
    while todo:
        node = todo.pop()
        if node is None or node in found:
            continue
        found.add(node)
        if node.name().rstrip("0123456789").removesuffix("Backward") in _LINEAR:
            todo += [after for after, _ in node.next_functions]
    return found
