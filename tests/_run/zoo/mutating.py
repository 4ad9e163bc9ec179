"""Models that change themselves, or what is around them, when they run."""

from __future__ import annotations

import collections
import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from .case import CLASSES, FEATURES, Body, Case, case, tokens, vectors


@case
def counts_its_calls() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.log, self.table, self.kinds, self.name = 0, [], {"deep": [0, {"n": 0}]}, {0}, "a"

        def during(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.log.append(float(x.detach().mean()))
            self.table["deep"][1]["n"] += 1
            self.table[self.calls] = self.calls
            self.kinds.add(self.calls)
            self.name += "b"
            self.more = self.calls
            return x

    return Model()


@case
def collections_of_every_kind() -> nn.Module:
    class Slotted:
        __slots__ = ("__hidden", "count")

        def __init__(self) -> None:
            self.count = self.__hidden = 0

        def tick(self) -> None:
            self.count += 1
            self.__hidden += 1

    @dataclass
    class Cache:
        keys: list[Tensor] = field(default_factory=list)
        hits: int = 0

    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.queue, self.counter = collections.deque([1, 2], maxlen=3), collections.Counter("aab")
            self.ordered, self.lazy = collections.OrderedDict(a=1, b=2), collections.defaultdict(list)
            self.raw, self.slotted, self.cache = bytearray(b"ab"), Slotted(), Cache()

        def during(self, x: Tensor) -> Tensor:
            self.queue.append(len(self.queue))
            self.counter["b"] += 1
            self.ordered.move_to_end("a")
            self.lazy["seen"].append(1)
            self.raw.append(1)
            self.slotted.tick()
            self.cache.keys.append(x.detach())
            self.cache.hits += 1
            return x

    return Model()


@case
def buffers_in_place_and_replaced() -> nn.Module:
    class Model(Body):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros((), dtype=torch.long))
            self.register_buffer("mean", torch.zeros(FEATURES))

        def during(self, x: Tensor) -> Tensor:
            self.steps += 1
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            return x

    return Model()


@case
def buffers_registered_resized_and_removed() -> Case:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grows", torch.zeros(2))
            self.register_buffer("goes", torch.ones(2))
            self.register_buffer("turns", torch.ones(2), persistent=False)
            self.register_buffer("moves", torch.ones(4))
            self.register_buffer("shrinks", torch.ones(4))

        def during(self, x: Tensor) -> Tensor:
            self.grows.resize_(len(self.grows) + 2).zero_()
            if hasattr(self, "goes"):
                del self.goes
            self.register_buffer(f"came{len(self._buffers)}", torch.zeros(1))
            self.register_buffer("turns", torch.zeros(3))
            self.moves.set_(torch.zeros(2, 2))
            self.shrinks.untyped_storage().resize_(4)
            return x

    return Case(Model(), moves=("grows", "shrinks"))


@case
def buffer_that_changes_its_type() -> nn.Module:
    class Model(Body):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(FEATURES))

        def during(self, x: Tensor) -> Tensor:
            self.scale.data = self.scale.data.double() * 2
            return x * self.scale.float()

    return Model()


@case
def buffer_that_joins_the_graph() -> nn.Module:
    class Model(Body):
        running: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running", torch.zeros(FEATURES))

        def during(self, x: Tensor) -> Tensor:
            self.running.detach_().mul_(0.9).add_(x.mean(0))
            return x + self.running

    return Model()


@case
def weights_moved_to_other_memory() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            self.head.weight.data = self.head.weight.data.clone() * 1.01
            self.head.bias.data = self.head.bias.data.double().float()
            return x

    return Model()


@case
def weights_clamped_through_data() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            for p in self.parameters():
                p.data.clamp_(-0.1, 0.1)
            return x

    return Model()


@case
def embedding_with_max_norm() -> Case:
    model = nn.Sequential(
        nn.Embedding(10, FEATURES, max_norm=0.5), nn.Flatten(), nn.Linear(5 * FEATURES, CLASSES)
    )
    return Case(model, tokens())


@case
def parameters_replaced_and_added() -> nn.Module:
    class Model(Body):
        late: Tensor

        def during(self, x: Tensor) -> Tensor:
            self.head.bias = nn.Parameter(self.head.bias.detach() + 1)
            self.register_parameter("late", nn.Parameter(torch.ones(1)))
            return x * self.late

    return Model()


@case
def modules_added_and_replaced() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            if not hasattr(self, "late"):
                self.late = nn.Linear(FEATURES, FEATURES)
            self.drop = nn.Identity()
            self.head.add_module("extra", nn.ReLU())
            return x + self.late(x)

    return Model()


@case
def removes_a_module() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.warm_up = nn.Linear(FEATURES, FEATURES)

        def during(self, x: Tensor) -> Tensor:
            if "warm_up" in self._modules:
                x = x + self.warm_up(x)
                del self.warm_up
            return x

    return Model()


@case
def registers_hooks_of_every_kind() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            self.fc.register_forward_hook(lambda *_: None)
            self.fc.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
            self.norm.register_full_backward_hook(lambda *_: None)
            self.norm.register_full_backward_pre_hook(lambda *_: None)
            self.register_state_dict_post_hook(lambda *_: None)
            self.register_load_state_dict_pre_hook(lambda *_: None)
            self.head.weight.register_hook(lambda g: 2 * g)
            if self.head.weight.requires_grad:
                self.head.bias.register_post_accumulate_grad_hook(lambda p: None)
            return x

    return Model()


@case
def hook_that_removes_itself() -> nn.Module:
    model = Body()
    handles: list[Any] = []

    def once(*_: Any) -> None:
        for handle in handles:
            handle.remove()

    handles.append(model.fc.register_forward_hook(once))
    handles.append(model.head.weight.register_hook(lambda g: None))
    handles.append(model.head.bias.register_post_accumulate_grad_hook(lambda p: None))
    return model


@case
def flips_flags() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            self.norm.eval()
            self.fc.requires_grad_(not self.fc.weight.requires_grad)
            self.head.training = not self.head.training
            return x

    return Model()


@case
def changes_its_class() -> nn.Module:
    class Ready(Body):
        pass

    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            self.__class__ = Ready
            return x

    return Model()


@case
def plain_tensors() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.state, self.history = torch.zeros(FEATURES), [torch.zeros(2)]
            self.leaf = torch.ones(FEATURES, requires_grad=True)

        def during(self, x: Tensor) -> Tensor:
            self.state.add_(x.detach().mean(0))
            self.history[0].add_(1)
            self.history.append(x.detach())
            self.last = x
            return x * self.leaf

    return Model()


@case
def hidden_state_between_calls() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.hidden = nn.GRUCell(FEATURES, FEATURES), None

        def during(self, x: Tensor) -> Tensor:
            if self.hidden is None or len(self.hidden) != len(x):
                self.hidden = torch.zeros_like(x)
            self.hidden = self.cell(x, self.hidden.detach())
            return self.hidden

    model = Model()
    model.hidden = model.cell(torch.randn(8, FEATURES), torch.zeros(8, FEATURES))  # kept with its graph
    return model


@case
def moving_average_of_itself() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.target = nn.Linear(FEATURES, FEATURES).requires_grad_(False)

        @torch.no_grad()
        def update(self) -> None:
            for slow, fast in zip(self.target.parameters(), self.fc.parameters()):
                slow.lerp_(fast, 0.1)

        def during(self, x: Tensor) -> Tensor:
            self.update()
            return x + self.target(x).detach()

    return Model()


@case
def random_numbers_of_its_own() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator(torch.get_default_device())
            self.torch, self.python = generator.manual_seed(1), random.Random(1)
            self.numpy, self.old = np.random.default_rng(1), np.random.RandomState(1)
            self.array, self.objects = np.zeros(3), np.array([[1], {"a": 1}], dtype=object)

        def during(self, x: Tensor) -> Tensor:
            self.array += self.numpy.random(3) + self.old.rand(3)
            self.objects[0].append(2)
            random.random()
            np.random.rand()  # noqa: NPY002
            noise = torch.rand(x.shape, generator=self.torch, device=x.device) + self.python.random()
            return x + 0.01 * noise + 0.01 * torch.rand_like(x)

    return Model()


@case
def torch_settings() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("medium")
            torch.set_num_threads(torch.get_num_threads() + 1)
            return x

    return Model()


@case
def old_spectral_norm() -> nn.Module:
    model = Body()
    nn.utils.spectral_norm(model.fc)
    return model


@case
def new_spectral_norm() -> nn.Module:
    model = Body()
    parametrizations.spectral_norm(model.fc)
    return model


@case
def new_weight_norm() -> nn.Module:
    model = Body()
    parametrizations.weight_norm(model.fc)
    return model


@case
def parametrized_on_the_way() -> nn.Module:
    class Double(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            if not parametrize.is_parametrized(self.head):
                parametrize.register_parametrization(self.head, "weight", Double())
            return x

    return Model()


@case
def works_in_place_on_its_batch() -> Case:
    class Model(Body):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2).clone())

    return Case(Model())


class Pair(NamedTuple):
    scale: Tensor
    more: dict[str, Any]


@case
def works_in_place_on_a_nested_batch() -> Case:
    class Model(Body):
        def forward(self, x: Tensor, pair: Pair) -> Tensor:  # type: ignore[override]
            pair.more["list"].append(1)
            pair.more.pop("gone", None)
            return super().forward(x.add_(1) * pair.scale.mul_(1.1) + pair.more["shift"].add_(1))

    x, y = vectors()
    more = {"shift": torch.zeros(FEATURES), "list": [], "gone": 1}
    return Case(Model(), ({"x": x, "pair": Pair(torch.ones(1), more)}, y))
