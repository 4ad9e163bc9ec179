"""Whether an example's output depends on the other examples of its batch: measured by giving it other mates.

The same example goes through the model twice, at the same place in batches of the same size with different mates,
once in evaluation and once in training mode. Kernels of the same shape round alike, so that a difference beyond
rounding means that the examples are coupled. The first module at whose output the example differs is named. In
evaluation mode it goes through once more, with the same mates in another order: its place must not matter either.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .. import stats
from .._base import InputError
from .._batch import Batch
from .._run import Run
from ..graph import is_compiled, outputs_of, walk
from ..record import CouplingFacts, CouplingInMode
from ..rules import CATALOGUE
from .coupled import Calls, Coupled
from .future import shifted_input

_PLACE = (
    1  # of the example in its batch: with mates before and after it, since an RNN couples in one direction
)
_OTHER_PLACE = 2  # where it goes in another order, or 0 of two
_ROWS = 4  # examples per pass: four passes of a few examples cost less than one pass of the batch


class _CannotTell(Exception):
    """The reason why nothing can be said."""


def coupling_facts(
    model: nn.Module, batch: Batch, find_output: Callable[[Any], Tensor | None], run: Run
) -> CouplingFacts:
    """Whether the example's outputs differ by more than rounding, and at which module that begins, in both modes.

    find_output  picks the tensor to compare out of what the model returns

    Only runs forward, without gradients, and rewinds `run` after each pass.
    """
    try:
        _refuse(model, batch)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Trial(model, batch, find_output, run).facts()
    except (_CannotTell, InputError) as reason:
        return CouplingFacts(reason=str(reason).removeprefix("batch: "))
    except Exception as error:  # a model that does not run on part of the batch, or not in eval mode
        return CouplingFacts(reason=f"with {_ROWS} examples or in eval mode it raised {type(error).__name__}")


def _refuse(model: nn.Module, batch: Batch) -> None:
    if any(is_compiled(m) for m in model.modules()):
        raise _CannotTell("the model is compiled, and would be compiled again for a smaller batch")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise _CannotTell("the model is data-parallel")
    if (batch.examples or 0) < 2:
        raise _CannotTell("a batch of one example has no mates to exchange")


class _Trial:
    """Passes of one example with two sets of mates."""

    def __init__(self, model: nn.Module, batch: Batch, find_output: Callable[[Any], Tensor | None], run: Run):
        self.model, self.batch, self.find_output, self.run = model, batch, find_output, run
        self.limit = CATALOGUE["UG603"].limit("relative")
        time_first = any(getattr(m, "batch_first", True) is False for m in model.modules())
        shifted = shifted_input(batch) if time_first else None
        self.time_first = time_first and not (
            shifted is not None and shifted[1] == 1
        )  # else axis 1 is the time
        self.random: bool | None = None  # whether evaluation mode draws random numbers
        self.square = False  # whether as many steps as examples go in, so that only the output can tell

    def facts(self) -> CouplingFacts:
        for rows in self._sizes():
            try:
                evaluated = self._compare(rows, False)
                return CouplingFacts(rows, evaluated, self._compare(rows, True), random=self.random)
            except _Ambiguous:
                continue
        raise _CannotTell("which axis of its output holds the examples")

    def _sizes(self) -> list[int]:
        examples = self.batch.examples or 0
        rows = min(_ROWS, max(2, (examples + 1) // 2))
        return [rows, rows - 1 if rows > 2 else rows + 1]

    def _compare(self, rows: int, training: bool) -> CouplingInMode:
        examples = self.batch.examples or 0
        first = [1 + i % (examples - 1) for i in range(rows - 1)]
        second = [(examples - 1 - i) % examples for i in range(rows - 1)]
        if first == second:
            second = [0] * (rows - 1)
        for mates in (first, second):
            mates.insert(_PLACE, 0)
        one, other = self._some(first), self._some(second)
        if all(
            torch.equal(stats.stored(a), stats.stored(b))
            for a, b in zip(one.inputs().values(), other.inputs().values())
        ):
            raise _CannotTell("the examples of the batch are all the same")
        output, seen = self._forward(one, rows, training)
        watch = _Watch(self.model, rows, self.limit, reference=seen)
        output_again, _ = self._forward(other, rows, training, watch)
        differs = _beyond_rounding(output, output_again, self.limit)
        if not training and not differs and not self.random:
            return self._at_another_place(first, output, seen)
        if differs and not (training and watch.is_batch_norm):
            repeated, _ = self._forward(one, rows, training)
            if _beyond_rounding(output, repeated, self.limit):
                raise _CannotTell("the model gives another output each time for the same input")
        found = None
        if differs and not watch.is_batch_norm:
            found = self._function(one, other, rows, training)
        return CouplingInMode(
            differs,
            _difference(output, output_again),
            watch.first if differs else None,
            watch.first_module if differs else None,
            differs and watch.is_batch_norm,
            None if found is None else found.function or None,
            None if found is None else found.axis,
            None if found is None else found.where,
        )

    def _at_another_place(
        self, order: Sequence[int], output: Tensor, seen: dict[str, Tensor]
    ) -> CouplingInMode:
        """The same examples, turned round so that the example changes its place. output, seen: at its first place."""
        rows = len(order)
        place = _OTHER_PLACE if rows > _OTHER_PLACE else 0
        moved = list(order)
        moved[_PLACE], moved[place] = moved[place], moved[_PLACE]
        watch = _Watch(self.model, rows, self.limit, reference=seen, place=place)
        output_again, _ = self._forward(self._some(moved), rows, False, watch, place=place)
        if not _beyond_rounding(output, output_again, self.limit):
            return CouplingInMode(False, 0.0)
        return CouplingInMode(
            True, _difference(output, output_again), watch.first, watch.first_module, place=True
        )

    def _function(self, one: Batch, other: Batch, rows: int, training: bool) -> Coupled | None:
        """The first function at whose output the example differs: both passes once more, every call seen."""

        def part(tensor: Tensor) -> Tensor | None:
            return tensor.select(0, _PLACE) if tensor.dim() and len(tensor) == rows else None

        def differ(a: Tensor, b: Tensor) -> bool:
            return _beyond_rounding(a, b, self.limit)

        first = Calls(part, differ)
        self._forward(one, rows, training, calls=first)
        second = Calls(part, differ, first)
        self._forward(other, rows, training, calls=second)
        return second.found

    def _forward(
        self,
        batch: Batch,
        rows: int,
        training: bool,
        watch: _Watch | None = None,
        calls: Calls | None = None,
        place: int = _PLACE,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(the example's output, its tensor at every module). Every pass begins with the same random states."""
        watch = watch or _Watch(self.model, rows, self.limit)
        given = batch.clone()  # the model may work in place
        try:
            self.model.train(training)
            with watch.hooked() if calls is None else calls:
                output = self.find_output(self.model(*given.args, **given.kwargs))
            if not training:
                self.random = self.random or self.run.drew
            output = None if output is None else output.clone()  # it may be a state of the model's
        finally:
            self.run.rewind(quick=True)
        if output is None or output.dim() < 1:
            raise _CannotTell("the model's output holds no tensor with an axis of examples")
        if output.dim() > 1 and output.shape[0] == output.shape[1] == rows:
            raise _Ambiguous
        if self.square and output.shape[0] != rows:  # it took the first axis for time
            raise _CannotTell("whether its first axis is time or the examples")
        example = _of_example(output, rows, place)
        if example is None:
            raise _CannotTell("which axis of its output holds the examples")
        return example, watch.seen

    def _some(self, index: Sequence[int]) -> Batch:
        if self.time_first:
            self._refuse_time_first()
        return self.batch.select(index)

    def _refuse_time_first(self) -> None:
        """With recurrent modules that take time first, the axis of the examples must be beyond doubt: as long as there
        are labels, one for each example."""
        examples, target = self.batch.examples, self.batch.target
        by_label = isinstance(target, Tensor) and target.dim() > 0 and target.numel() == len(target)
        for tensor in self.batch.inputs().values():
            sizes = stats.shape_of(tensor)[:2]
            if len(sizes) > 1 and examples in sizes:
                if not by_label:
                    raise _CannotTell("whether its first axis is time or the examples")
                self.square = self.square or sizes[0] == sizes[1]


class _Ambiguous(Exception):
    """Two axes of the output have the batch's size; another size may tell them apart."""


class _Watch:
    """Hooks on every module that keep the example's tensors, or find the first that differs from a reference."""

    def __init__(
        self,
        model: nn.Module,
        rows: int,
        limit: float,
        reference: dict[str, Tensor] | None = None,
        place: int = _PLACE,
    ):
        self.model, self.rows, self.limit, self.reference, self.place = model, rows, limit, reference, place
        self.seen: dict[str, Tensor] = {}
        self.first: str | None = None
        self.first_module: str | None = None
        self.is_batch_norm = False
        self._calls: dict[str, int] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        try:
            for path, module, _, _ in walk(self.model):
                if not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_hook(self._hook(path)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, _args: Any, output: Any) -> None:
            if self.reference is not None and self.first is not None:
                return
            call = self._calls[path] = self._calls.get(path, 0) + 1
            for suffix, tensor in outputs_of(module, output):
                example = _of_example(tensor, self.rows, self.place) if tensor.is_floating_point() else None
                if example is None:
                    continue
                name = (path or "output") + (f"#{call}" if call > 1 else "") + suffix
                if self.reference is None:
                    self.seen[name] = example.clone()
                elif name in self.reference and _beyond_rounding(self.reference[name], example, self.limit):
                    self.first, self.first_module = name, type(module).__name__
                    self.is_batch_norm = self._in_batch_norm(path)
                    return

        return hook

    def _in_batch_norm(self, path: str) -> bool:
        """Whether this is a BatchNorm or part of one (some have their activation inside)."""
        names = path.split(".")
        above = [self.model.get_submodule(".".join(names[:i])) for i in range(1, len(names) + 1)]
        return any("BatchNorm" in type(module).__name__ for module in above)


def _of_example(tensor: Tensor, rows: int, place: int) -> Tensor | None:
    """The example's part: of the axis of the examples, or of examples times windows or tokens in one axis."""
    if tensor.dim() and tensor.shape[0] == rows:
        return tensor.select(0, place)
    if tensor.dim() > 1 and tensor.shape[1] == rows:
        return tensor.select(1, place)
    if tensor.dim() and tensor.shape[0] and tensor.shape[0] % rows == 0:
        size = tensor.shape[0] // rows
        return tensor.narrow(0, place * size, size)
    return None


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, divided by the largest magnitude; values that are not finite count if only one is."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    finite = torch.isfinite(a)
    if not torch.equal(finite, torch.isfinite(b)):
        return float("inf")
    a, b = torch.where(finite, a, 0.0), torch.where(finite, b, 0.0)
    scale = max(float(a.abs().max()), float(b.abs().max()))
    return float((a - b).abs().max()) / scale if scale else 0.0


def _beyond_rounding(a: Tensor, b: Tensor, limit: float) -> bool:
    """limit is for float32; half precision rounds a hundred times as coarsely and more."""
    coarse = a.dtype in (torch.float16, torch.bfloat16)
    return _difference(a, b) > limit * (100 if coarse else 1)
