"""The comparison that the tests of "no trace" rest on sees each kind of change, and none where there is none."""

from __future__ import annotations

import collections
import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from compare import Photograph
from torch import Tensor, nn

Plant = Callable[[Any], Any]


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class Holder(nn.Module):
    """Holds one of each kind of thing that can change."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.fc.weight
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("complex", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("quantized", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)
        self.plain = torch.zeros(3)
        self.number, self.text, self.many = 1, "a", [1, {"deep": [2]}]
        self.members, self.queue = {1, 2}, collections.deque([1])
        self.ordered = collections.OrderedDict(a=1, b=2)
        self.counts = collections.Counter("aab")
        self.raw = bytearray(b"ab")
        self.array = np.zeros(3)
        self.generator, self.python, self.numpy = (
            torch.Generator(),
            random.Random(0),
            np.random.default_rng(0),
        )
        self.slotted, self.lock = Slotted(), threading.Lock()
        count, cache = 0, {}

        def closure() -> int:
            nonlocal count
            count += 1
            return count

        def default(x: Any = cache) -> None:
            x["called"] = True

        self.closure, self.default = closure, default
        self.partial = functools.partial(closure, *[])
        self.fc.weight.grad = torch.ones(4, 3)
        self.norm.weight.register_hook(lambda g: None)
        self.handle = self.norm.register_forward_hook(lambda *_: None)


def in_data(tensor: Tensor, value: float = 7.0) -> None:
    tensor.data.fill_(value)


def through_numpy(tensor: Tensor) -> None:
    tensor.detach().numpy()[...] = 7


def same_values_elsewhere(tensor: Tensor) -> None:
    tensor.data = tensor.data.clone()


def negative_zero(holder: Holder) -> None:
    holder.plain.neg_()


def reorder(registry: dict) -> None:
    registry[next(iter(registry))] = registry.pop(next(iter(registry)))


PLANTS: dict[str, Plant] = {
    "a value, through .data": lambda h: in_data(h.fc.weight),
    "a value, in place": lambda h: nn.init.zeros_(h.fc.bias),
    "a value, through numpy": lambda h: through_numpy(h.plain),
    "the sign of a zero": negative_zero,
    "where values lie": lambda h: same_values_elsewhere(h.fc.weight),
    "a tied weight": lambda h: setattr(h.tied, "weight", nn.Parameter(h.fc.weight.detach().clone())),
    "a parameter replaced": lambda h: setattr(h.fc, "bias", nn.Parameter(h.fc.bias.detach().clone())),
    "a parameter removed": lambda h: setattr(h.fc, "bias", None),
    "a parameter added": lambda h: h.register_parameter("more", nn.Parameter(torch.zeros(1))),
    "requires_grad": lambda h: h.fc.bias.requires_grad_(False),
    "a gradient added to": lambda h: h.fc.weight.grad.add_(1),
    "a gradient replaced by an equal one": lambda h: setattr(h.fc.weight, "grad", h.fc.weight.grad.clone()),
    "a gradient removed": lambda h: setattr(h.fc.weight, "grad", None),
    "a gradient given": lambda h: setattr(h.fc.bias, "grad", torch.zeros(4)),
    "a version counter": lambda h: h.fc.weight.data.add_(0) is None or h.fc.weight.detach().add_(0),
    "a buffer": lambda h: h.norm.running_mean.add_(1),
    "a buffer replaced by an equal one": lambda h: setattr(
        h.norm, "running_mean", h.norm.running_mean.clone()
    ),
    "a buffer resized": lambda h: h.scratch.resize_(5),
    "a buffer's dtype": lambda h: setattr(h.scratch, "data", h.scratch.data.double()),
    "a buffer added": lambda h: h.register_buffer("more", torch.zeros(1)),
    "a buffer removed": lambda h: delattr(h, "scratch"),
    "a buffer made persistent": lambda h: h._non_persistent_buffers_set.clear(),
    "a sparse value": lambda h: h.sparse._values().mul_(2),
    "a complex value": lambda h: h.complex.imag.fill_(1),
    "a quantized value": lambda h: h.quantized.copy_(torch.zeros(2)),
    "a plain tensor": lambda h: h.plain.add_(1),
    "an attribute of a tensor": lambda h: setattr(h.fc.weight, "note", 1),
    "a tensor that joins a graph": lambda h: h.plain.add_(h.fc.bias[:3]),
    "a module added": lambda h: h.add_module("more", nn.ReLU()),
    "a module replaced": lambda h: setattr(h, "norm", nn.BatchNorm1d(4)),
    "a module removed": lambda h: delattr(h, "norm"),
    "the order of modules": lambda h: reorder(h._modules),
    "a module's class": lambda h: setattr(h.norm, "__class__", nn.SyncBatchNorm),
    "a training flag": lambda h: h.norm.eval(),
    "a forward hook": lambda h: h.register_forward_hook(lambda *_: None),
    "a forward pre-hook": lambda h: h.fc.register_forward_pre_hook(lambda *_: None),
    "a backward hook": lambda h: h.fc.register_full_backward_hook(lambda *_: None),
    "a state-dict hook": lambda h: h.register_state_dict_post_hook(lambda *_: None),
    "a hook removed": lambda h: h.handle.remove(),
    "a hook on a tensor": lambda h: h.fc.weight.register_hook(lambda g: None),
    "one more hook on a tensor": lambda h: h.norm.weight.register_hook(lambda g: None),
    "a hook after accumulation": lambda h: h.fc.weight.register_post_accumulate_grad_hook(lambda p: None),
    "a number": lambda h: setattr(h, "number", 2),
    "a number's type": lambda h: setattr(h, "number", True),
    "a string": lambda h: setattr(h, "text", "b"),
    "an attribute added": lambda h: setattr(h, "more", 1),
    "an attribute removed": lambda h: delattr(h, "text"),
    "a list": lambda h: h.many.append(1),
    "something deep": lambda h: h.many[1]["deep"].append(3),
    "a list replaced by an equal one": lambda h: setattr(h, "many", list(h.many)),
    "a set": lambda h: h.members.add(3),
    "a deque": lambda h: h.queue.appendleft(0),
    "an ordered dictionary's order": lambda h: h.ordered.move_to_end("a"),
    "a counter": lambda h: h.counts.update("a"),
    "a bytearray": lambda h: h.raw.extend(b"c"),
    "an array": lambda h: h.array.__setitem__(0, 1.0),
    "torch's generator": lambda h: torch.rand(1, generator=h.generator),
    "python's generator": lambda h: h.python.random(),
    "numpy's generator": lambda h: h.numpy.random(),
    "a slot": lambda h: setattr(h.slotted, "value", 2),
    "a lock": lambda h: h.lock.acquire(),
    "a closure's variable": lambda h: h.closure(),
    "a default argument": lambda h: h.default(),
    "python's random state": lambda h: random.random(),
    "numpy's random state": lambda h: np.random.rand(),  # noqa: NPY002
    "torch's random state": lambda h: torch.rand(1),
    "the gradient mode": lambda h: torch.set_grad_enabled(False),
    "the default dtype": lambda h: torch.set_default_dtype(torch.float64),
    "cudnn's flag": lambda h: setattr(torch.backends.cudnn, "benchmark", True),
}


@contextmanager
def global_state_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize("what", PLANTS)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_planted_change_is_seen(what: str) -> None:
    holder = Holder()
    before = Photograph(model=holder)
    assert before.differences() == [], "looking changes nothing"
    with global_state_kept():
        PLANTS[what](holder)
        assert before.differences(), what


def test_a_change_in_an_optimizer_is_seen() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    plants: list[Callable[[], Any]] = [
        lambda: optimizer.state[model.weight]["exp_avg"].add_(1),
        lambda: optimizer.state[model.weight]["step"].add_(1),
        lambda: optimizer.state.pop(model.bias),
        lambda: optimizer.param_groups[0].update(lr=1.0),
        lambda: optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]}),
        lambda: optimizer.register_step_post_hook(lambda *_: None),
    ]
    for number, plant in enumerate(plants):
        before = Photograph(optimizer=optimizer)
        plant()
        assert before.differences(), number


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_change_in_a_scripted_module_is_seen() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.fc, self.bn = 0, nn.Linear(2, 2), nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.bn(self.fc(x))

    model: Any = torch.jit.script(Counts())
    for plant in (
        lambda: setattr(model, "calls", 5),
        lambda: model.eval(),
        lambda: model.fc.weight.data.fill_(0),
        lambda: model.bn(torch.randn(4, 2)),
        lambda: setattr(model.fc.weight, "grad", torch.zeros(2, 2)),
    ):
        model.train()
        before = Photograph(model=nn.Sequential(model))
        plant()
        assert before.differences()


def test_a_change_in_a_batch_is_seen() -> None:
    pair = collections.namedtuple("pair", "x more")
    batch = [pair(torch.zeros(2), {"y": torch.zeros(2)}), torch.zeros(2)]
    for plant in (
        lambda: batch[0].x.add_(1),
        lambda: batch[0].more.pop("y"),
        lambda: batch.append(None),
    ):
        before = Photograph(batch=batch)
        plant()
        assert before.differences()
