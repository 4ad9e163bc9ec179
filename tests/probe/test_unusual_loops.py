"""Loops that few people write: measured right, or said once what is not; the weights are those without a Probe."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import Probe, Record

Batch = tuple[Tensor, Tensor]


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def batches(number: int, scale: float = 1.0) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [(scale * torch.randn(16, 12, generator=generator), torch.arange(16) % 4) for _ in range(number)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, data: list[Batch]) -> None:
    for x, y in data:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def same(a: Record, b: Record) -> bool:
    one, other = a.frame(), b.frame()
    return all(np.array_equal(one[c], other[c], equal_nan=one[c].dtype != object) for c in one.columns)


@contextlib.contextmanager
def said_once(text: str) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert sum(text in str(w.message) for w in caught) == 1, [str(w.message) for w in caught]
    assert not any("stopped measuring" in str(w.message) for w in caught)


def both_ways(loop: Callable[[nn.Module, torch.optim.Optimizer], None], text: str) -> Probe:
    """The loop without a Probe and with one, which is to say this; the weights afterwards are the same."""
    plain, optimizer = build()
    loop(plain, optimizer)
    model, optimizer = build()
    with said_once(text), Probe(model, optimizer, every=1) as probe:
        loop(model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters()))
    return probe


@contextlib.contextmanager
def mapped(x: Tensor) -> Iterator[Tensor]:
    """The examples of a batch as torch.func.vmap gives them, which itself imports for seconds."""
    level = torch._C._functorch._vmap_increment_nesting(len(x), "error")
    try:
        yield torch._C._functorch._add_batch_dim(x, 0, level)
    finally:
        torch._C._functorch._vmap_decrement_nesting()


def test_passes_inside_of_vmap_do_not_stop_it() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for x, _ in batches(3):
            with mapped(x) as examples:
                model(examples)
            for p in model.parameters():
                p.grad = p.detach() * 0.1
            optimizer.step()
        train(model, optimizer, batches(1))

    record = both_ways(loop, "run inside of vmap").record
    assert record.steps() == [0, 1, 2, 3]
    assert set(record.values("update", 2)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert not record.values("activation", 2)
    assert set(record.values("activation", 3)) == {"0", "1", "2"}


def test_a_thread_that_serves_the_model_is_not_measured() -> None:
    """Its passes are without gradients; it enters and leaves modules in the midst of those that are measured."""
    records = []
    for served in (False, True):
        model, optimizer = build()
        over = threading.Event()

        def serve(model: nn.Module = model, over: threading.Event = over) -> None:
            with torch.no_grad():
                while not over.is_set():
                    model(batches(1, scale=50.0)[0][0])

        with Probe(model, optimizer, every=1) as probe:
            thread = threading.Thread(target=serve)
            if served:
                thread.start()
            train(model, optimizer, batches(30))
            over.set()
            if served:
                thread.join()
        records.append(probe.record)
    assert same(*records)


def test_an_optimizer_in_place_of_the_watched_one_is_said() -> None:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        train(model, optimizer, batches(2))
        train(model, torch.optim.Adam(model.parameters()), batches(10))

    probe = both_ways(loop, "after 2 steps of the SGD that it watches, another optimizer (Adam) makes steps")
    assert probe.record.steps() == [0, 1]


def test_it_is_also_said_of_steps_that_are_not_sampled() -> None:
    model, optimizer = build()
    with said_once("10 changes were made to the same parameters"), Probe(model, optimizer, every=10):
        train(model, optimizer, batches(2))
        train(model, torch.optim.SGD(model.parameters(), 0.1), batches(10))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_write_into_the_record(tmp_path) -> None:
    path = tmp_path / "run.sqlite"
    model, optimizer = build()
    with Probe(model, optimizer, every=1, to=path) as probe:
        train(model, optimizer, batches(3))
        child = os.fork()
        if not child:
            code = 1
            with (
                contextlib.suppress(BaseException),
                said_nothing_but("the process that this one was forked from"),
            ):
                train(model, optimizer, batches(20, scale=9.0))
                probe.stop()
                code = 0
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        train(model, optimizer, batches(3))
    plain, optimizer = build()
    with Probe(plain, optimizer, every=1) as other:
        train(plain, optimizer, [*batches(3), *batches(3)])
    assert same(Record.load(path), other.record)


@contextlib.contextmanager
def said_nothing_but(text: str) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [text in str(w.message) for w in caught] == [True]


def test_what_steps_hold_is_the_same_reduced_together_or_at_once(monkeypatch) -> None:
    records = []
    for small in (1 << 17, 0):
        monkeypatch.setattr("unitgain.probe.writer._SMALL", small)
        model, optimizer = build()
        with Probe(model, optimizer, every=1) as probe:
            train(model, optimizer, batches(11))
        records.append(probe.record)
    one, other = (r.frame() for r in records)
    assert [s.name for s in records[0].sites()] == [s.name for s in records[1].sites()]
    for column in one.columns:
        if one[column].dtype == object:
            assert (one[column] == other[column]).all()
        else:
            np.testing.assert_allclose(one[column], other[column], rtol=1e-5, atol=1e-6)
