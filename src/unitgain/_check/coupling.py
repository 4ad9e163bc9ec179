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
from ..graph import walk
from ..record import CouplingFacts, CouplingInMode
from ..rules import CATALOGUE
from .coupled import Calls, Coupled
from .future import shifted_input
from .watching import CannotTell, Watch, beyond_rounding, difference

_PLACE = (
    1  # of the example in its batch: with mates before and after it, since an RNN couples in one direction
)
_OTHER_PLACE = 2  # where it goes in another order, or 0 of two
_ROWS = 4  # examples per pass: four passes of a few examples cost less than one pass of the batch


def coupling_facts(
    model: nn.Module,
    batch: Batch,
    find_output: Callable[[Any], Tensor | None],
    run: Run,
    called: nn.Module | None = None,
) -> CouplingFacts:
    """Whether the example's outputs differ by more than rounding, and at which module that begins, in both modes.

    find_output  picks the tensor to compare out of what the model returns; where it returns a loss alone, what its last
                 module gave is compared
    called       the module that takes the batch, if that is not the model but one inside of it

    Only runs forward, without gradients, and rewinds `run` after each pass.
    """
    try:
        _refuse(model, batch)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Trial(model, batch, find_output, run, called or model).facts()
    except (CannotTell, InputError) as reason:
        return CouplingFacts(reason=str(reason).removeprefix("batch: "))
    except Exception as error:  # a model that does not run on part of the batch, or not in eval mode
        return CouplingFacts(reason=f"with {_ROWS} examples or in eval mode it raised {type(error).__name__}")


def _refuse(model: nn.Module, batch: Batch) -> None:
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        raise CannotTell("the model is data-parallel")
    if (batch.examples or 0) < 2:
        raise CannotTell("a batch of one example has no mates to exchange")


class _Trial:
    """Passes of one example with two sets of mates."""

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        find_output: Callable[[Any], Tensor | None],
        run: Run,
        called: nn.Module,
    ):
        self.model, self.batch, self.find_output, self.run = model, batch, find_output, run
        self.called = called
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
        raise CannotTell("which axis of its output holds the examples")

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
            raise CannotTell("the examples of the batch are all the same")
        output, seen = self._forward(one, rows, training)
        watch = self._watch(rows, seen)
        output_again, _ = self._forward(other, rows, training, watch)
        differs = beyond_rounding(output, output_again, self.limit)
        if not training and not differs and not self.random:
            return self._at_another_place(first, output, seen)
        if differs and not (training and watch.is_batch_norm):
            repeated, _ = self._forward(one, rows, training)
            if beyond_rounding(output, repeated, self.limit):
                raise CannotTell("the model gives another output each time for the same input")
        found = None
        if differs and not watch.is_batch_norm:
            found = self._function(one, other, rows, training)
        return CouplingInMode(
            differs,
            difference(output, output_again),
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
        watch = self._watch(rows, seen, place)
        output_again, _ = self._forward(self._some(moved), rows, False, watch, place=place)
        if not beyond_rounding(output, output_again, self.limit):
            return CouplingInMode(False, 0.0)
        return CouplingInMode(
            True, difference(output, output_again), watch.first, watch.first_module, place=True
        )

    def _function(self, one: Batch, other: Batch, rows: int, training: bool) -> Coupled | None:
        """The first function at whose output the example differs: both passes once more, every call seen."""

        def part(tensor: Tensor) -> Tensor | None:
            return tensor.select(0, _PLACE) if tensor.dim() and len(tensor) == rows else None

        def differ(a: Tensor, b: Tensor) -> bool:
            return beyond_rounding(a, b, self.limit)

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
        watch: Watch | None = None,
        calls: Calls | None = None,
        place: int = _PLACE,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(the example's output, its tensor at every module). Every pass begins with the same random states."""
        watch = watch or self._watch(rows)
        given = batch.clone()  # the model may work in place
        try:
            self.model.train(training)
            with self._ends() as ends, watch.hooked() if calls is None else calls:
                output = self.find_output(self.called(*given.args, **given.kwargs))
            if (output is None or not output.dim()) and ends:
                output = ends.pop()
            if not training:
                self.random = self.random or self.run.drew
            output = None if output is None else output.clone()  # it may be a state of the model's
        finally:
            self.run.rewind(quick=True)
        if output is None or output.dim() < 1:
            raise CannotTell("the model's output holds no tensor with an axis of examples")
        if output.dim() > 1 and output.shape[0] == output.shape[1] == rows:
            raise _Ambiguous
        if self.square and output.shape[0] != rows:  # it took the first axis for time
            raise CannotTell("whether its first axis is time or the examples")
        example = _of_example(output, rows, place)
        if example is None:
            raise CannotTell("which axis of its output holds the examples")
        return example, watch.seen

    @contextmanager
    def _ends(self) -> Iterator[list[Tensor]]:
        """What the last module without modules inside gives, loss functions left out."""
        last: list[Tensor] = []

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() and output.is_floating_point():
                last[:] = [output]

        leaves = [m for _, m, _, _ in walk(self.model) if not any(True for _ in m.children())]
        handles = [m.register_forward_hook(keep) for m in leaves if not isinstance(m, torch.jit.ScriptModule)]
        try:
            yield last
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, rows: int, reference: dict[str, Tensor] | None = None, place: int = _PLACE) -> Watch:
        return Watch(self.model, lambda tensor: _of_example(tensor, rows, place), self.limit, reference)

    def _some(self, index: Sequence[int]) -> Batch:
        if self.time_first:
            self._refuse_time_first()
        return self.batch.select(index)

    def _refuse_time_first(self) -> None:
        """With recurrent modules that take time first, the axis of the examples must be beyond doubt: as long as there
        are labels, one for each example."""
        examples, labels = self.batch.examples, self.batch.labels  # also those that go into the model
        by_label = isinstance(labels, Tensor) and labels.dim() > 0 and labels.numel() == len(labels)
        for tensor in self.batch.inputs().values():
            sizes = stats.shape_of(tensor)[:2]
            if len(sizes) > 1 and examples in sizes:
                if not by_label:
                    raise CannotTell("whether its first axis is time or the examples")
                self.square = self.square or sizes[0] == sizes[1]


class _Ambiguous(Exception):
    """Two axes of the output have the batch's size; another size may tell them apart."""


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
