"""InMemoryLoader: every example once, reproducible orders, places in them that can be returned to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unitgain import InputError
from unitgain.train import InMemoryLoader


def seen(loader) -> list[list[int]]:
    return [x.tolist() for (x,) in loader]


@given(st.integers(1, 60), st.integers(1, 20), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_every_example_comes_once(examples: int, size: int, shuffle: bool, drop: bool) -> None:
    drop = drop and size <= examples
    loader = InMemoryLoader(torch.arange(examples), size, shuffle=shuffle, drop_last=drop)
    batches = seen(loader)
    assert len(batches) == len(loader)
    flat = [i for batch in batches for i in batch]
    assert len(set(flat)) == len(flat) == (examples // size * size if drop else examples)
    assert all(len(b) == size for b in batches[:-1])


def test_inputs_and_targets_stay_together_in_a_new_order_each_epoch() -> None:
    x = torch.arange(100)
    loader = InMemoryLoader((x, x * 2), 7, shuffle=True)
    first, second = ([(a.tolist(), b.tolist()) for a, b in loader] for _ in range(2))
    assert all([2 * i for i in a] == b for a, b in first)
    assert first != second
    again = InMemoryLoader((x, x * 2), 7, shuffle=True)
    assert [(a.tolist(), b.tolist()) for a, b in again] == first


def test_the_global_random_state_has_no_part_in_it() -> None:
    before = torch.get_rng_state()
    seen(InMemoryLoader(torch.arange(10), 3, shuffle=True))
    assert torch.equal(before, torch.get_rng_state())


def test_working_on_a_batch_in_place_does_not_change_the_data() -> None:
    x = torch.ones(10)
    for shuffle in (True, False):
        for (batch,) in InMemoryLoader(x, 4, shuffle=shuffle):
            batch.zero_()
    assert torch.equal(x, torch.ones(10))


@pytest.mark.parametrize("options", [{"shuffle": True}, {}, {"replacement": True, "batches": 30}])
@pytest.mark.parametrize("at", [0, 1, 29])
def test_a_state_leads_back_to_the_place_in_the_order(options, at: int) -> None:
    def make():
        return InMemoryLoader(torch.arange(88), 3, seed=5, **options)

    whole = make()
    two = [seen(whole), seen(whole)]
    half, given = make(), []
    seen(half)
    for (x,) in half:
        given.append(x.tolist())
        if len(given) == at:
            state = half.state_dict()
    if at == 0:
        half = make()
        seen(half)
        state = half.state_dict()
    other = make()
    other.load_state_dict(state)
    assert seen(other) == two[1][at:]
    assert seen(other) == seen(whole), "and the epoch after it is the right one too"


def test_an_epoch_that_is_left_early_is_not_gone_on_with() -> None:
    loader = InMemoryLoader(torch.arange(10), 2)
    for _ in loader:
        break
    assert len(seen(loader)) == 5


def test_replacement_draws_as_randint_does() -> None:
    generator = torch.Generator().manual_seed(7)
    loader = InMemoryLoader(
        torch.arange(1000), 32, replacement=True, batches=3, generator=torch.Generator().manual_seed(7)
    )
    assert seen(loader) == [torch.randint(0, 1000, (32,), generator=generator).tolist() for _ in range(3)]


@given(st.integers(4, 50), st.integers(4, 12), st.integers(1, 4), st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_ranks_shares_are_the_whole_batches(examples: int, size: int, world: int, equal: bool) -> None:
    whole = seen(InMemoryLoader(torch.arange(examples), size, shuffle=True))
    parts = []
    for rank in range(world):
        loader = InMemoryLoader(torch.arange(examples), size, shuffle=True)
        loader.shard(rank, world, equal=equal)
        parts.append(seen(loader))
        if equal:
            assert len(parts[-1]) == len(loader)
    for i, batch in enumerate(whole):
        shares = [p[i] for p in parts if i < len(p)]
        together = [e for share in shares for e in share]
        if equal:
            assert together == batch[: len(batch) // world * world]
            assert len({len(s) for s in shares}) <= 1
        else:
            assert together == batch


def test_a_transform_sees_whole_batches() -> None:
    loader = InMemoryLoader(
        (torch.arange(4.0), torch.arange(4)), 2, transform=lambda batch: (batch[0] * 2, batch[1])
    )
    assert [x.tolist() for x, _ in loader] == [[0, 2], [4, 6]]


@pytest.mark.parametrize(("arguments", "options", "says"), [
    (((), 2), {}, "one or more tensors"),
    (((torch.zeros(3), torch.zeros(4)), 2), {}, r"equal and not 0, got \(3,\), \(4,\)"),
    ((torch.zeros(0, 2), 2), {}, "not 0"),
    ((torch.zeros(3), 0), {}, "batch_size=0"),
    ((torch.zeros(3), 4), {"drop_last": True}, "not one batch"),
    ((torch.zeros(3), 4), {"replacement": True}, "go together"),
])  # fmt: skip
def test_what_cannot_be_cut_into_batches_is_refused(arguments, options, says: str) -> None:
    with pytest.raises(InputError, match=says):
        InMemoryLoader(*arguments, **options)
