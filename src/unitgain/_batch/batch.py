"""Batch: what goes into a model and what its output is compared with, whatever form it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .._base import InputError
from .tree import DEEPEST, has_fields, is_mapping, map_tensors, named_inputs, named_tensors, parts, rebuilt

TARGET_NAMES = (
    "labels",
    "label",
    "targets",
    "target",
    "y",
)  # what people call what the output is compared with
_SHOWN = 6  # tensors that a description lists


@dataclass(frozen=True)
class Batch:
    """One batch, read once by `read_batch`. Nothing here changes it: every operation gives a new Batch.

    args, kwargs  what the model's forward is called with
    target        what its output is compared with, None if there is nothing
    passed        the keyword under which the target is among kwargs too, since forward takes it; None if it does not
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: Any = None
    passed: str | None = None

    # ---- what it holds ------------------------------------------------------------------------------------

    def inputs(self) -> dict[str, Tensor]:
        """{name: tensor} of everything that goes into the model; names as in a Record (see `named_inputs`)."""
        return dict(named_inputs(self.args, self.kwargs))

    def tensors(self) -> list[Tensor]:
        """Every tensor, the target's last."""
        known = self.inputs().values()
        return [*known, *(tensor for _, tensor in named_tensors(self.target) if self.passed is None)]

    def floating(self) -> dict[str, Tensor]:
        """The inputs of floating point that the model computes with: what labels a model takes are not among them."""
        targets = tuple(f"input[{name}{end}" for name in TARGET_NAMES for end in ".]")
        return {n: t for n, t in self.inputs().items() if t.is_floating_point() and not n.startswith(targets)}

    @property
    def labels(self) -> Any:
        """The target; or what is called like one (TARGET_NAMES) in a mapping that goes into the model."""
        if self.target is not None:
            return self.target
        sources: list[Any] = [self.kwargs]
        if len(self.args) == 1 and not self.kwargs and (is_mapping(self.args[0]) or has_fields(self.args[0])):
            sources = [dict(parts(self.args[0]) or ())]
        for name in TARGET_NAMES:
            for source in sources:
                if source.get(name) is not None:
                    return source[name]
        return None

    @property
    def examples(self) -> int | None:
        """The batch size: the labels' first axis, or how many there are in a list of them, else the first input's."""
        labels = self.labels
        if is_list_of_mappings(labels):
            return len(labels)
        if len(self.args) == 1 and is_list_of_mappings(self.args[0]):
            return len(self.args[0])
        for tensor in (labels, *self.inputs().values()):
            if isinstance(tensor, Tensor) and tensor.dim():
                return int(tensor.size(0))
        return None

    def describe(self) -> str:
        """Shapes and dtypes of the inputs, for messages: "(32, 3) int64"."""
        tensors = list(self.inputs().values())
        shown = ", ".join(describe_tensor(t) for t in tensors[:_SHOWN])
        more = len(tensors) - _SHOWN
        return f"{shown} and {more} more" if more > 0 else shown

    # ---- other batches of it ------------------------------------------------------------------------------

    def map(self, function: Callable[[Tensor], Any]) -> Batch:
        """Every tensor, the target's too, replaced; containers keep their types."""
        return self._each(lambda part: map_tensors(part, function))

    def clone(self) -> Batch:
        """Copies for one pass: a model may work in place, and gradients of inputs belong to the caller."""
        return self._each(lambda part: map_tensors(part, _clone, _copied))

    def to(self, device: torch.device | str) -> Batch:
        """On another device; what is there already is not copied."""
        kinds = (Tensor, PackedSequence)  # as a whole: its lengths stay on the CPU
        return self._each(lambda part: map_tensors(part, lambda t: t.to(device), whole=kinds))

    def _each(self, function: Callable[[Any], Any]) -> Batch:
        return replace(
            self, args=function(self.args), kwargs=function(dict(self.kwargs)), target=function(self.target)
        )

    def with_inputs(self, new: Mapping[str, Tensor]) -> Batch:
        """The inputs of these names replaced. Raises InputError for a name that there is not."""
        known = self.inputs()
        missing = sorted(set(new) - set(known))
        if missing:
            raise InputError(f"batch: it has no {missing[0]}; it has {', '.join(known)}")
        by_identity: dict[int, list[Tensor]] = {}
        for name, tensor in known.items():  # one tensor may stand in two places
            by_identity.setdefault(id(tensor), []).append(new.get(name, tensor))

        def replaced(tensor: Tensor) -> Tensor:
            return by_identity[id(tensor)].pop(0)

        args, kwargs = map_tensors(self.args, replaced), map_tensors(dict(self.kwargs), replaced)
        return replace(self, args=args, kwargs=kwargs)

    def select(self, index: Sequence[int]) -> Batch:
        """Only these examples, in this order. Tensors without an axis for them (fewer than two axes, or a first one of
        size 1) stay whole.

        Raises InputError where the axis of the examples is not known.
        """
        examples = self.examples
        if examples is None:
            raise InputError("batch: it has no axis of examples")
        index = list(index)
        return replace(
            self,
            args=tuple(_selected(value, index, examples) for value in self.args),
            kwargs={key: _selected(value, index, examples) for key, value in self.kwargs.items()},
            target=_selected(self.target, index, examples),
        )

    def first(self, count: int) -> Batch:
        """The first `count` examples, or all if there are fewer."""
        return self.select(range(min(count, self.examples or 0)))

    def few(self, count: int) -> Batch:
        """The first `count` examples; all where they cannot be taken apart, as flattened targets cannot."""
        try:
            return self.first(count)
        except InputError:
            return self


def describe_tensor(tensor: Tensor) -> str:
    """ "(32, 3) int64"; what is sparse or nested is called so."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested:
        return f"nested ({tensor.size(0)} tensors) {dtype}"
    kind = "" if tensor.layout is torch.strided else f" {str(tensor.layout).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)} {dtype}{kind}"


def is_list_of_mappings(value: Any) -> bool:
    """What detection models take: a dict for each image."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(is_mapping(item) for item in value)


def check_devices(batch: Batch, model: nn.Module) -> None:
    """Raises InputError when the model's parameters and the inputs lie on different devices."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        return
    for tensor in batch.tensors():
        if tensor.device != parameter.device and tensor.dim():
            raise InputError(
                f"batch: a tensor {describe_tensor(tensor)} is on {tensor.device}, the model on "
                f"{parameter.device}; move one with .to({str(parameter.device)!r})"
            )


def _clone(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def axis_of_examples(tensor: Tensor, examples: int) -> int | None:
    """0 or 1, whichever is as long as there are examples (0 if both are); None if neither is."""
    if tensor.dim() and tensor.size(0) == examples:
        return 0
    return 1 if tensor.dim() > 1 and not tensor.is_nested and tensor.size(1) == examples else None


def _selected(value: Any, index: list[int], examples: int, depth: int = DEEPEST) -> Any:
    if isinstance(value, PackedSequence):
        raise InputError("batch: a PackedSequence cannot be taken apart into examples")
    if isinstance(value, Tensor):
        return _rows(value, index, examples)
    if _is_list_of_examples(value, examples):
        return type(value)([map_tensors(value[i], _clone, _copied) for i in index])
    inner = parts(value) if depth else None
    if inner is None:
        return value
    return rebuilt(value, [_selected(part, index, examples, depth - 1) for _, part in inner])


def _is_list_of_examples(value: Any, examples: int) -> bool:
    """Whether a list holds one thing for each example, and not several tensors that hold all of them each."""
    if type(value) not in (list, tuple) or len(value) != examples:
        return False
    if is_list_of_mappings(value) or not any(isinstance(item, Tensor) for item in value):
        return True
    return any(isinstance(item, Tensor) and axis_of_examples(item, examples) is None for item in value)


def _rows(tensor: Tensor, index: list[int], examples: int) -> Tensor:
    axis = axis_of_examples(tensor, examples)
    if axis is None:
        if tensor.dim() < 2 or tensor.size(0) == 1:
            return tensor.detach().clone()  # the same for all examples
        raise InputError(f"batch: a tensor {describe_tensor(tensor)} has no axis of {examples} examples")
    if tensor.layout is not torch.strided and tensor.dim() > 1 and tensor.size(1) == examples:
        raise InputError(f"batch: a sparse tensor {tuple(tensor.shape)} relates the examples to one another")
    tensor = tensor.detach()
    if tensor.is_nested:
        rows = tensor.unbind()
        return torch.nested.nested_tensor([rows[i] for i in index], layout=tensor.layout)
    if tensor.layout in (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
        tensor = tensor.to_sparse_coo()
    return tensor.index_select(axis, torch.tensor(index, device=tensor.device))
