"""torch.compile: sampled steps run as the model is written, all others run the graphs that they would run anyway."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters

import unitgain as ug
from unitgain import Probe
from unitgain.optim import AGC

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler, about torch itself


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.fc(self.norm(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = (
            nn.Linear(6, 8),
            nn.ModuleList([Block(), Block()]),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


SITES = [
    "stem", ":tanh", "blocks.0.norm", "blocks.0.fc", "blocks.0:gelu", "blocks.0", "blocks.1.norm", "blocks.1.fc",
    "blocks.1:gelu", "blocks.1", "head",
]  # fmt: skip
X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(3)), torch.arange(12) % 3
Step = Callable[[], None]


class Counting:
    """A backend that counts what it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, module, inputs):
        self.graphs += 1
        return module.forward


def whole(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    return compiled, lambda: _plain(compiled, optimizer)


def beside(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    return model, lambda: _plain(compiled, optimizer)


def in_place(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    model.compile(backend=backend, fullgraph=True)
    return model, lambda: _plain(model, optimizer)


def regional(model: Net, optimizer, backend) -> tuple[Any, Step]:
    for i in range(2):
        model.blocks[i] = torch.compile(model.blocks[i], backend=backend, fullgraph=True)
    return model, lambda: _plain(model, optimizer)


def regional_in_place(model: Net, optimizer, backend) -> tuple[Any, Step]:
    for block in model.blocks:
        block.compile(backend=backend, fullgraph=True)
    return model, lambda: _plain(model, optimizer)


def loss_function(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    loss = torch.compile(lambda x, y: F.cross_entropy(model(x), y), backend=backend, fullgraph=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(X, Y).backward()
        optimizer.step()

    return model, step


def step_function(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()

    return model, torch.compile(step, backend=backend)


def compiled_optimizer(model: nn.Module, optimizer, backend) -> tuple[Any, Step]:
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    update = torch.compile(lambda: optimizer.step(), backend=backend)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(compiled(X), Y).backward()
        update()

    return compiled, step


def _plain(model: nn.Module, optimizer) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()


WAYS = [
    whole,
    beside,
    in_place,
    regional,
    regional_in_place,
    loss_function,
    step_function,
    compiled_optimizer,
]


@contextlib.contextmanager
def fresh():
    torch._dynamo.reset()
    counters.clear()
    try:
        yield
    finally:
        torch._dynamo.reset()


def train(way, first: Net, *, probe: bool, every: int = 3, steps: int = 7, agc: bool = False):
    """(weights, graphs, breaks, frames, record); without a Probe on the same schedule of eager and compiled steps."""
    with fresh(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # torch's own, of a part's input
        model = copy.deepcopy(first)
        optimizer, backend = torch.optim.Adam(model.parameters(), 0.01), Counting()
        given, step = way(model, optimizer, backend)
        clip = AGC(optimizer, given) if agc else None
        context = Probe(given, optimizer, every=every, strict=True) if probe else contextlib.nullcontext()
        with context:
            for number in range(steps):
                if not (probe or agc) and number % every == 0:
                    with torch.compiler.set_stance("force_eager"):
                        step()
                else:
                    step()
        weights = [p.detach().clone() for p in model.parameters()]
        breaks = sum(counters["graph_break"].values())
        seen = counters["stats"]["unique_graphs"]
        left_alone = clip.excluded if clip is not None else []
        return weights, backend.graphs, breaks, seen, context.record if probe else None, left_alone


@pytest.mark.parametrize("way", WAYS)
def test_a_probe_adds_no_graph_no_break_and_changes_no_bit(way) -> None:
    """One graph became 29 with 36 breaks, fullgraph raised in the user's training, sites had the compiler's names."""
    first = Net()
    weights, graphs, breaks, frames, _, _ = train(way, first, probe=False)
    probed, graphs_with, breaks_with, frames_with, record, _ = train(way, first, probe=True)
    assert all(torch.equal(a, b) for a, b in zip(weights, probed))
    assert graphs > 0
    assert (graphs_with, frames_with) == (graphs, frames)
    if way not in (
        step_function,
        compiled_optimizer,
    ):  # torch itself breaks the graph where hooks of a step are called
        assert breaks_with == breaks == 0
    assert record is not None
    assert record.steps() == [0, 3, 6]
    for step in record.steps():
        assert list(record.values("activation", step)) == SITES
        assert list(record.values("gradient", step)) == SITES
    assert [s.name for s in record.sites("update")] == [n for n, _ in first.named_parameters()]


@pytest.mark.parametrize("way", [whole, in_place, regional])
def test_clipping_finds_the_classifier_of_a_compiled_model(way) -> None:
    first = Net()
    *_, plain = train(lambda m, o, b: (m, lambda: _plain(m, o)), first, probe=False, agc=True)
    _, graphs, breaks, *_ = train(way, first, probe=False)
    _, graphs_with, breaks_with, _, _, compiled = train(way, first, probe=False, agc=True)
    assert compiled == plain == ["head.weight"]
    assert (graphs_with, breaks_with) == (graphs, breaks)


@pytest.mark.parametrize("way", [whole, in_place])
def test_a_probe_that_gives_up_in_the_midst_of_a_pass_lets_the_next_steps_compile(way, monkeypatch) -> None:
    """A compiled model that asks for one whole graph raises when it finds that it has not run compiled."""
    with fresh():
        model, backend = Net(), Counting()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        given, step = way(model, optimizer, backend)
        monkeypatch.setattr("unitgain.stats.take_examples", lambda *a, **k: 1 / 0)
        with Probe(given, optimizer, every=1):
            with pytest.warns(UserWarning, match="stopped measuring at step 0"):
                step()
            step()
            assert backend.graphs == 1
        assert not optimizer._optimizer_step_pre_hooks


def test_the_stance_is_the_users_again_whichever_of_two_probes_ends_first() -> None:
    from torch._dynamo import eval_frame

    models = [Net(), Net()]
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in models]
    probes = [Probe(m, o, every=1).start() for m, o in zip(models, optimizers)]
    assert eval_frame._stance.stance == "force_eager"
    probes[0].stop()
    assert eval_frame._stance.stance == "force_eager"
    probes[1].stop()
    assert eval_frame._stance.stance == "default"


def test_without_an_optimizer_the_calls_of_the_compiled_model_are_the_steps() -> None:
    with fresh():
        backend = Counting()
        compiled = torch.compile(Net(), backend=backend, fullgraph=True)
        with Probe(compiled, every=2, strict=True) as probe:
            for _ in range(5):
                compiled(X).sum().backward()
    assert backend.graphs == 1
    assert probe.record.steps() == [0, 2, 4]
    assert list(probe.record.values("activation", 2)) == SITES


def test_without_an_optimizer_a_model_compiled_in_place_says_what_to_do() -> None:
    with fresh():
        model = Net()
        model.compile(backend="eager", fullgraph=True)
        with pytest.warns(UserWarning, match=r"compiled in place.*probe\.step"):
            probe = Probe(model, every=2).start()
        for _ in range(4):
            with probe.step():
                model(X).sum().backward()
        probe.stop()
    assert probe.record.steps() == [0, 2]


@pytest.mark.parametrize("way", ["whole", "in place", "regional"])
def test_a_compiled_model_is_checked_and_repaired_as_what_it_was_made_from(way: str) -> None:
    """The last layer was named as the first one: a compiled model was one layer."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 64), nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU()), nn.Linear(64, 4)
    )
    nn.init.normal_(model[2].weight)
    batch = torch.randn(256, 8), torch.randint(0, 4, (256,))
    plain = ug.check(model, batch)
    given: Any = model
    with fresh():
        if way == "whole":
            given = torch.compile(model, backend="eager")
        elif way == "in place":
            model.compile(backend="eager")
        else:
            model[1] = torch.compile(model[1], backend="eager")
        found = ug.check(given, batch)
        assert [(f.code, f.site) for f in found.findings] == [(f.code, f.site) for f in plain.findings]
        names = [s.name for s in plain.record.sites("activation")]
        assert [s.name for s in found.record.sites("activation")] == names
        assert ug.fix(given, batch).fixed == ("UG101",)
        assert (type(model[1]).__name__ == "OptimizedModule") is (way == "regional")
    assert model[2].weight.std() < 0.5


needs_inductor = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++"))
    or os.environ.get("ATEN_CPU_CAPABILITY") == "default",
    reason="torch's compiler needs one for C++, and makes code that does not compile for ATEN_CPU_CAPABILITY=default",
)


def test_shapes_that_turn_dynamic_are_compiled_as_often_as_without_a_probe() -> None:
    """The compiler takes the second batch size for a sign: steps that it does not see must not hide one from it."""
    found = []
    for probe in (False, True):
        with fresh():
            model, backend = Net(), Counting()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            compiled = torch.compile(model, backend=backend, fullgraph=True)
            context = Probe(model, optimizer, every=4, strict=True) if probe else contextlib.nullcontext()
            with context:
                for number, size in enumerate((12, 12, 9, 6, 12, 9, 6, 3)):
                    eagerly = not probe and number % 4 == 0
                    with torch.compiler.set_stance("force_eager") if eagerly else contextlib.nullcontext():
                        F.cross_entropy(compiled(X[:size]), Y[:size]).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            found.append(backend.graphs)
    assert found == [2, 2]  # one for 12 examples, one for any number


@needs_inductor
@pytest.mark.slow
def test_reduce_overhead_keeps_its_graphs() -> None:
    """With a GPU these are CUDA graphs (tests/gpu); on a CPU the compiler leaves them out, which it counts."""
    found = []
    for probe in (False, True):
        with fresh(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about torch itself
            torch.manual_seed(0)
            model = Net()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            compiled = torch.compile(model, fullgraph=True, mode="reduce-overhead")
            context = Probe(compiled, optimizer, every=3, strict=True) if probe else contextlib.nullcontext()
            with context as watch:
                for number in range(5):
                    eagerly = not probe and number % 3 == 0
                    with torch.compiler.set_stance("force_eager") if eagerly else contextlib.nullcontext():
                        F.cross_entropy(compiled(X), Y).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            counts = counters["stats"]["unique_graphs"], counters["inductor"]["cudagraph_skips"]
            found.append((counts, [p.detach().clone() for p in model.parameters()]))
    assert found[0][0] == found[1][0]
    assert found[0][0][0] == 1
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1]))
    assert list(watch.record.values("activation", 3)) == SITES


@needs_inductor
def test_inductor_keeps_its_graphs() -> None:
    """The real compiler, with batches of several lengths."""
    graphs = []
    for probe in (False, True):
        with fresh(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about torch itself
            model = Net()
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            compiled = torch.compile(model, fullgraph=True, dynamic=True)
            with (
                Probe(model, optimizer, every=2, strict=True) if probe else contextlib.nullcontext() as watch
            ):
                for size in (12, 12, 9, 9, 6, 6):
                    F.cross_entropy(compiled(X[:size]), Y[:size]).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0
    assert list(watch.record.values("activation", 4)) == SITES
