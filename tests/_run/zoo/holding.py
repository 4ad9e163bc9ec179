"""Models that hold what cannot be copied: locks, files, iterators, closures, threads, themselves."""

from __future__ import annotations

import functools
import io
import itertools
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from .case import CLASSES, FEATURES, Body, Case, case


@case
def locks() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.again, self.calls = threading.Lock(), threading.RLock(), 0

        def during(self, x: Tensor) -> Tensor:
            with self.lock, self.again:
                self.calls += 1
            return x

    return Model()


@case
def branches_in_threads() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(
                nn.Sequential(nn.Linear(FEATURES, CLASSES), nn.BatchNorm1d(CLASSES)) for _ in range(2)
            )
            self.pool = ThreadPoolExecutor(2)

        def forward(self, x: Tensor) -> Tensor:
            enabled = torch.is_grad_enabled()

            def run(branch: nn.Module) -> Tensor:
                with torch.set_grad_enabled(enabled):
                    return branch(x)

            first, second = self.pool.map(run, self.branches)
            return first + second

    return Model()


@case
def iterators_and_a_file() -> Case:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.numbers, self.items, self.made = (
                itertools.count(),
                iter([0] * 1000),
                (0 for _ in range(1000)),
            )
            self.file = io.StringIO()

        def during(self, x: Tensor) -> Tensor:
            next(self.numbers)
            next(self.items)
            next(self.made)
            self.file.write("called\n")
            return x

    named = ("model.numbers (count)", "model.items (list_iterator)", "model.made (generator)")
    return Case(Model(), not_rewound=(*named, "model.file (StringIO)"))


@case
def object_with_a_lock_of_its_own() -> Case:
    class Log:
        def __init__(self) -> None:
            self.lock, self.lines = threading.Lock(), ["a"]

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.log = Log()

    return Case(Model(), not_rewound=("model.log (Log: it holds a lock)",))


@case
def attribute_of_a_class() -> Case:
    class Model(Body):
        total = 0

        def during(self, x: Tensor) -> Tensor:
            type(self).total += 1
            return x

    return Case(Model(), not_rewound=("Model.total (attribute of a class)",))


@case
def closure_over_its_layers() -> nn.Module:
    """As in minGPT: a lambda over submodules, which a deep copy leaves pointing at the original's."""

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            parts = nn.ModuleDict({"up": nn.Linear(FEATURES, 8), "down": nn.Linear(8, FEATURES)})
            self.parts, m = parts, parts
            self.mlp = lambda x: m["down"](torch.relu(m["up"](x)))
            self.shift = functools.partial(self.shifted, by=1.0)
            self.bound = self.fc.forward

        def shifted(self, x: Tensor, by: float) -> Tensor:
            return x + by

        def during(self, x: Tensor) -> Tensor:
            return self.shift(x + self.mlp(x)) + self.bound(x)

    return Model()


@case
def closure_with_a_counter_and_a_cache() -> nn.Module:
    calls, cache = 0, {"sums": torch.zeros(FEATURES), "all": []}

    def remember(x: Tensor, memo: list[Any] = []) -> Tensor:  # noqa: B006  (that is the trouble)
        nonlocal calls
        calls += 1
        memo.append(calls)
        cache["sums"].add_(x.detach().mean(0))
        cache["all"].append(calls)
        return x

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.remember = remember

        def during(self, x: Tensor) -> Tensor:
            return self.remember(x)

    return Model()


@case
def layers_that_are_not_registered() -> nn.Module:
    class Plain:
        def __init__(self) -> None:
            self.layer = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES))

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            hidden = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES))
            self.listed = [nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES)]
            self.plain, self.function = Plain(), lambda x: hidden(x)

        def during(self, x: Tensor) -> Tensor:
            x = x + self.listed[1](self.listed[0](x))
            return x + self.function(x) + self.plain.layer(x)

    return Model()


@case
def references_to_itself() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.parent, self.weak = [self], weakref.ref(self)
            self.table: dict[Any, Any] = {self.fc.weight: "weight", self.fc: 0}
            self.loop: list[Any] = []
            self.loop.append(self.loop)

        def during(self, x: Tensor) -> Tensor:
            self.table[self.fc] += 1
            assert self.weak() is self.parent[0]
            return x

    return Model()


@case
def an_optimizer_of_its_own() -> nn.Module:
    """As a LightningModule or a model that is trained layer by layer."""

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(FEATURES, FEATURES)
            self.inner_optimizer = torch.optim.Adam(self.inner.parameters(), 0.1)
            self.schedule = torch.optim.lr_scheduler.StepLR(self.inner_optimizer, 1)

        def during(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                self.inner(x.detach()).square().mean().backward()
            self.inner_optimizer.step()
            self.inner_optimizer.zero_grad()
            self.schedule.step()
            return x

    return Model()
