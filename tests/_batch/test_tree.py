"""Nested containers: whatever is in them, they come back of the same types, with every tensor named once."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unitgain._batch import Batch, map_tensors, named_inputs, tensors_in
from unitgain._batch.tree import named_tensors, parts

Point = namedtuple("Point", ["x", "y"])


@dataclass
class Box:
    inside: Any
    note: str = "box"


@dataclass(frozen=True)
class Sealed:
    inside: Any
    computed: int = field(init=False, default=3)


class Plain:
    def __init__(self, inside: Any):
        self.inside, self.tensor = inside, torch.ones(2)


class Rows(list):
    """A list with something of its own."""


tensors = st.builds(lambda n: torch.full((n,), float(n)), st.integers(1, 3))
leaves = st.one_of(tensors, tensors, st.integers(), st.text(max_size=3), st.none())
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(Rows),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3).map(OrderedDict),
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3).map(UserDict),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
        inner.map(Box), inner.map(Sealed), inner.map(Plain),
    ),
    max_leaves=12,
)  # fmt: skip


def shape_of(value: Any) -> Any:
    """The nesting with its types, tensors replaced by their values."""
    if isinstance(value, Tensor):
        return value.tolist()
    inner = parts(value)
    return value if inner is None else (type(value).__name__, [(key, shape_of(part)) for key, part in inner])


@settings(max_examples=200, deadline=None)
@given(nested)
def test_mapping_keeps_types_and_order_and_makes_every_container_anew(value: Any) -> None:
    before = shape_of(value)
    same = map_tensors(value, lambda tensor: tensor)
    assert shape_of(same) == before
    doubled = map_tensors(value, lambda tensor: tensor * 2)
    assert [t.tolist() for _, t in named_tensors(doubled)] == [
        (t * 2).tolist() for _, t in named_tensors(value)
    ]
    assert shape_of(value) == before
    if parts(value):
        assert same is not value


@settings(max_examples=200, deadline=None)
@given(
    st.lists(nested, max_size=3), st.dictionaries(st.text("abc", min_size=1, max_size=2), nested, max_size=3)
)
def test_every_input_has_a_name_of_its_own_and_can_be_replaced_by_it(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    batch = Batch(tuple(args), kwargs)
    names = [name for name, _ in named_inputs(batch.args, batch.kwargs)]
    assert len(set(names)) == len(names) == len(list(named_tensors((batch.args, batch.kwargs))))
    for name in names[:4]:
        new = torch.zeros(1)
        changed = batch.with_inputs({name: new}).inputs()
        assert changed[name] is new
        assert list(changed) == names
        assert all(changed[other] is batch.inputs()[other] for other in names if other != name)


@settings(max_examples=100, deadline=None)
@given(nested)
def test_a_clone_can_be_spoilt(value: Any) -> None:
    batch, before = Batch(args=(value,)), shape_of(value)
    clone = batch.clone()
    assert shape_of(clone.args[0]) == before
    for _, tensor in named_tensors(clone.args):
        tensor.zero_()
    for part in (clone.args[0],):
        if isinstance(part, (list, dict)):
            part.clear()
    assert shape_of(value) == before


def test_one_tensor_in_two_places_has_two_names_that_are_replaced_apart() -> None:
    x, new = torch.ones(2), torch.zeros(2)
    batch = Batch((x, x), {"again": x})
    changed = batch.with_inputs({"input[1]": new})
    assert [t is new for t in changed.inputs().values()] == [False, True, False]


def test_what_is_not_a_container_of_tensors_is_left_alone() -> None:
    layer, generator, array = torch.nn.Linear(2, 2), torch.Generator(), np.ones(2)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    batch = Batch((layer, generator, optimizer, array, "text", torch.Size([3]), Box))
    clone = batch.clone()
    assert clone.args[0] is layer
    assert clone.args[1] is generator
    assert clone.args[2] is optimizer
    assert clone.args[3] is not array
    assert clone.args[4:] == ("text", torch.Size([3]), Box)
    assert not batch.inputs()


def test_an_object_that_holds_itself_ends() -> None:
    value = Plain(None)
    value.inside = value
    assert list(tensors_in([value])) == []
    assert len(list(named_tensors(value))) > 1
    assert isinstance(map_tensors(value, torch.clone), Plain)


def test_values_that_torch_returns_by_name_keep_their_type() -> None:
    found = torch.ones(2, 3).max(1)
    assert type(map_tensors(found, torch.clone)) is type(found)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_batches_and_outputs_of_transformers_keep_their_types(torchvision_operators: None) -> None:
    from transformers import BatchEncoding, DynamicCache
    from transformers.modeling_outputs import BaseModelOutput

    encoding = BatchEncoding({"input_ids": torch.ones(2, 3, dtype=torch.long), "mask": torch.ones(2, 3)})
    output = BaseModelOutput(
        last_hidden_state=torch.ones(2, 3, 4), hidden_states=(torch.ones(1), torch.ones(1))
    )  # type: ignore[arg-type]
    cache = DynamicCache()
    cache.update(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 0)
    for value, count in ((encoding, 2), (output, 3), (cache, 2)):
        clone = Batch((value,)).clone().args[0]
        assert type(clone) is type(value)
        pairs = list(zip(named_tensors(value), named_tensors(clone), strict=True))
        assert len(pairs) == count
        assert all(a is not b and torch.equal(a, b) for (_, a), (_, b) in pairs)
    assert Batch((output,)).clone().args[0].last_hidden_state.shape == (2, 3, 4)
    assert [n for n, _ in named_inputs((), encoding)] == ["input[input_ids]", "input[mask]"]
