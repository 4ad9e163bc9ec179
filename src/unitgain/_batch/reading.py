"""From the forms in which people have a batch to a Batch. docs/reference/batch.md lists the forms."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader, Dataset

from .._base import InputError
from .._run import first_batch
from .arrays import as_tensors, holds_array
from .batch import TARGET_NAMES, Batch, describe_tensor, is_list_of_mappings
from .tree import has_fields, is_mapping, parts, tensors_in

# y is too common a name for an input to hand a target over unasked
_SURE_NAMES = tuple(name for name in TARGET_NAMES if name != "y")

# names of a forward's only argument under which it expects a mapping, unless its annotation says otherwise
_CONTAINERS = ("batch", "data", "sample", "example", "item", "inputs", "features", "kwargs")

PassTarget = Literal["by name", "always", "if required"]


@dataclass(frozen=True)
class Forward:
    """What a model's forward takes.

    positional  names of what can be given by position; required: those of them without a default
    names       all that can be given by name; any_name: also others (**kwargs), any_number: further positions (*args)
    first       annotation of the first one, as text; empty where there is none
    """

    positional: tuple[str, ...]
    required: tuple[str, ...]
    names: frozenset[str]
    any_name: bool
    any_number: bool
    first: str = ""

    @classmethod
    def of(cls, model: nn.Module) -> Forward | None:
        """None for a model that does not tell (a scripted one).

        >>> Forward.of(nn.Linear(1, 1)).positional
        ('input',)
        """
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        model = getattr(model, "_orig_mod", model)
        try:
            given = inspect.signature(model.forward).parameters.values()
        except (TypeError, ValueError):
            return None
        kinds = inspect.Parameter
        positional = [p for p in given if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
        return cls(
            tuple(p.name for p in positional),
            tuple(p.name for p in positional if p.default is kinds.empty),
            frozenset(p.name for p in given if p.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)),
            any(p.kind is kinds.VAR_KEYWORD for p in given),
            any(p.kind is kinds.VAR_POSITIONAL for p in given),
            _as_text(positional[0].annotation) if positional else "",
        )

    @property
    def arguments(self) -> list[str]:
        """Names of all arguments that can be given by name, in order of position first."""
        first = [name for name in self.positional if name in self.names]
        return [*first, *sorted(self.names - set(first))]

    @property
    def room(self) -> float:
        """How many inputs can be given by position, a target left out."""
        return float("inf") if self.any_number else len([n for n in self.positional if n not in _SURE_NAMES])

    @property
    def takes_a_tensor(self) -> bool:
        """Whether it has one argument, which is a tensor by its annotation or, where it has none, by its name."""
        if self.any_name or self.any_number or len(self.required) > 1 or not self.positional:
            return False
        return "Tensor" in self.first or (not self.first and self.positional[0] not in _CONTAINERS)

    def target_name(self, names: Sequence[str] = _SURE_NAMES) -> str | None:
        """The argument for a target."""
        return next((name for name in names if name in self.names), None)


class Reader:
    """Reads batches for a model.

    pass_target  when the target of (inputs, target) goes into forward, for models that compute their own loss:
                 "by name": if forward has an argument called labels, label, targets or target; "always": else into
                 its first required argument that the inputs leave open; "if required": only if such an argument has
                 no default
    """

    def __init__(self, model: nn.Module | None = None, pass_target: PassTarget = "by name"):
        self.forward = None if model is None else Forward.of(model)
        self._model = model
        self.pass_target: PassTarget = pass_target
        needed = () if self.forward is None else self.forward.required
        self._needed = sum(
            name not in TARGET_NAMES for name in needed
        )  # inputs that forward cannot do without

    def __call__(self, batch: Any) -> Batch:
        """Of a loader the first batch is read. Raises InputError for what is no batch, and for one without examples."""
        if isinstance(batch, Batch):
            return batch
        if not isinstance(batch, (tuple, list, Tensor)) and is_loader(batch):
            batch = first_batch(batch)
        pair = type(batch) in (tuple, list) and len(batch) == 2
        pair = pair and (self._needed < 2 or self.pass_target == "always")
        if pair and type(batch[0]) is type(batch[1]) is Tensor:  # by far the most common
            found = Batch((batch[0],), {}, batch[1])
            _check_not_empty(batch)
        else:
            found = self._read(opened(batch, self._model))
            if not found.inputs():
                raise InputError(
                    f"batch: found no tensor in a {type(batch).__name__}; give a tensor, an (inputs, targets) pair or "
                    "a mapping of keyword arguments"
                )
            inner = [
                part
                for arg in found.args
                if not isinstance(arg, (tuple, list))
                for _, part in parts(arg) or ()
            ]
            _check_not_empty([*found.args, *found.kwargs.values(), *inner, found.target])
        return found if found.target is None or self.forward is None else self._with_target_passed(found)

    def _read(self, batch: Any) -> Batch:
        if isinstance(batch, (Tensor, PackedSequence)) or is_list_of_mappings(batch):
            return Batch(args=(batch,))
        if isinstance(batch, (tuple, list)) and len(batch):
            return self._sequence(list(batch))
        if is_mapping(batch) or has_fields(batch):
            return self._by_name(batch)
        raise InputError(
            f"batch: cannot use a {type(batch).__name__}; give a tensor, an (inputs, targets) pair, a tuple of several "
            "inputs and a target, a mapping of keyword arguments, or a DataLoader of such batches"
        )

    def _sequence(self, values: list[Any]) -> Batch:
        if len(values) == 1:
            return self._read(values[0])
        if self._needed == len(values) and isinstance(values[0], Tensor) and self.pass_target != "always":
            return Batch(args=tuple(values))
        *inputs, last = values
        target = _as_target(last)
        if len(inputs) > 1 or isinstance(inputs[0], Tensor):
            return Batch(args=tuple(inputs), target=target)
        (inner,) = inputs
        if isinstance(inner, (tuple, list)) and not is_list_of_mappings(inner):
            return self._by_position(inner, target)
        if is_mapping(inner) or has_fields(inner):
            found = self._by_name(inner)
            return found if target is None else replace(found, target=target)
        return Batch(args=(inner,), target=target)

    def _by_position(self, inner: Any, target: Any) -> Batch:
        """The list of (list, target): forward's positional arguments, or one argument that is a list."""
        each_has_one = is_list_of_mappings(target) and len(target) == len(inner)
        room = float("inf") if self.forward is None else self.forward.room
        if each_has_one or len(inner) > room >= 1:
            return Batch(args=(inner,), target=target)
        return Batch(args=tuple(inner), target=target)

    def _by_name(self, value: Any) -> Batch:
        """Keyword arguments; what is named like a target and is none of forward's is the target. A forward with one
        argument, called otherwise than everything in the mapping, takes the only input of {"image": ..., "label": ...}
        if it takes a tensor, and else the mapping itself. What holds no tensor (paths, texts) and has no argument is
        left out."""
        named = {str(key): part for key, part in parts(value) or ()}
        forward = self.forward
        if forward is not None and not forward.any_name and any(key in forward.names for key in named):
            named = {
                k: v for k, v in named.items() if k in forward.names or k in TARGET_NAMES or _holds_tensor(v)
            }
        if forward is None or forward.any_name or named.keys() <= forward.names:
            return Batch(kwargs=named)
        inputs = {k: v for k, v in named.items() if k in forward.names or k not in TARGET_NAMES}
        others = [k for k in named if k not in inputs]
        if len(others) == 1 and inputs and inputs.keys() <= forward.names:
            return Batch(kwargs=inputs, target=_as_target(named[others[0]]))
        if forward.room >= 1 and len(forward.required) <= 1 and not named.keys() & forward.names:
            tensors = [k for k in inputs if _holds_tensor(inputs[k])]
            if (
                len(others) == len(tensors) == 1
                and isinstance(inputs[tensors[0]], Tensor)
                and forward.takes_a_tensor
            ):
                return Batch(args=(inputs[tensors[0]],), target=_as_target(named[others[0]]))
            return Batch(args=(value,))
        return Batch(kwargs=named)

    def _with_target_passed(self, found: Batch) -> Batch:
        forward = self.forward
        assert forward is not None
        filled = {*forward.positional[: len(found.args)], *found.kwargs}
        open_ = [n for n in forward.required if n not in filled and n in forward.names]
        if self.pass_target == "if required":
            names = [n for n in TARGET_NAMES if n in open_]
        elif self.pass_target == "by name":
            names = [n for n in TARGET_NAMES if n in open_ or (n in _SURE_NAMES and n in forward.names)]
        else:
            names = [*(n for n in TARGET_NAMES if n in forward.names), *open_]
        name = next((n for n in names if n not in filled), None)
        if name is None and forward.any_number and self.pass_target == "always" and found.target is not None:
            return replace(found, args=(*found.args, found.target))
        if name is None:
            return found
        return replace(found, kwargs={**found.kwargs, name: found.target}, passed=name)


def read_batch(batch: Any, model: nn.Module | None = None, pass_target: PassTarget = "by name") -> Batch:
    """A batch in any of the accepted forms, read for a model (see `Reader`); a Batch is returned as it is.

    >>> read_batch({"x": torch.ones(2, 3), "y": torch.ones(2)}, nn.Bilinear(1, 1, 1)).kwargs.keys()
    dict_keys(['x', 'y'])
    """
    return Reader(model, pass_target)(batch)


def opened(batch: Any, model: nn.Module | None = None) -> Any:
    """A batch in its own form: of a loader the first one, and with tensors in the place of arrays, whose float64
    becomes the type of the model's weights. Raises InputError for a data set."""
    if isinstance(batch, Dataset) and not is_mapping(batch):
        raise InputError(
            f"batch: a {type(batch).__name__} is a data set; give a DataLoader over it, or one batch"
        )
    if hasattr(batch, "__next__"):
        raise InputError(
            f"batch: a {type(batch).__name__} is an iterator, which cannot be rewound; give the DataLoader itself, or "
            "one batch of it, next(iterator)"
        )
    if is_loader(batch):
        batch = first_batch(batch)
    if not holds_array(batch):
        return batch
    weights = () if model is None else model.parameters()
    return as_tensors(
        batch, next((p.dtype for p in weights if p.is_floating_point()), torch.get_default_dtype())
    )


def is_loader(value: Any) -> bool:
    """Whether it gives batches when it is iterated over, again and again, and is none itself: a DataLoader,
    accelerate's, InMemoryLoader, whatever has __iter__ and is no container."""
    if isinstance(value, DataLoader):
        return True
    if isinstance(value, Dataset):
        return False
    if isinstance(value, (Tensor, np.ndarray, str, bytes, list, tuple, set, frozenset, nn.Module, type)):
        return False
    if not hasattr(value, "__iter__") or hasattr(value, "__next__"):
        return False
    return not is_mapping(value) and not dataclasses.is_dataclass(value)


def _as_text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _holds_tensor(value: Any) -> bool:
    return next(tensors_in(value), None) is not None


def _check_not_empty(values: Iterable[Any]) -> None:
    """Lists are not looked into: an image may have no boxes."""
    for value in values:
        if isinstance(value, Tensor) and value.numel() == 0:
            raise InputError(f"batch: a tensor {describe_tensor(value)} is empty; give at least one example")


def _as_target(value: Any) -> Any:
    """Numbers and arrays become tensors; None, tensors and containers of tensors stay."""
    if value is None or isinstance(value, Tensor) or is_mapping(value) or has_fields(value):
        return value
    if isinstance(value, (tuple, list)) and not all(isinstance(v, (int, float)) for v in value):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"batch: the target is a {type(value).__name__}, not a tensor ({error})") from error
