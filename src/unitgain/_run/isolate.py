"""Running a model without leaving a trace: on a copy where there is room, else in place and put back."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from .._base import InputError

OptimizerLike = torch.optim.Optimizer | Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]


def random_state() -> Callable[[], None]:
    """Takes the random states of torch (every device in use), numpy and Python; a call of the result puts them back."""
    python, numpy_state, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    )

    def put() -> None:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

    return put


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts the random states back, also after an exception."""
    put = random_state()
    try:
        yield
    finally:
        put()


def too_large_to_copy(model: nn.Module) -> str | None:
    """Why a copy would not fit into the memory that is left, or None."""
    needed: dict[torch.device, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        needed[tensor.device] = needed.get(tensor.device, 0) + tensor.numel() * tensor.element_size()
    for device, size in needed.items():
        free = _free_memory(device)
        if free is not None and size > 0.5 * free:  # gradients of the copy take as much again
            return f"it has {size / 2**30:.1f} GiB on {device}, where {free / 2**30:.1f} GiB are free"
    return None


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        try:
            with open("/proc/meminfo", encoding="ascii") as file:
                for line in file:
                    if line.startswith("MemAvailable:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            return None
    return None


def copied(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> tuple[nn.Module, torch.optim.Optimizer | None] | str:
    """Copies of a model and of the optimizer over its parameters, or the reason why there can be none."""
    reason = too_large_to_copy(model)
    if reason is not None:
        return reason
    memo: dict[int, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = copy.deepcopy(model, memo)
            for parameter in twin.parameters():
                parameter.grad = None
            twin_optimizer = copy.deepcopy(optimizer, memo) if optimizer is not None else None
    except Exception as error:  # whatever a model's own attributes raise when they are copied
        return f"copying it raised {type(error).__name__}: {error}"
    return twin, twin_optimizer


@contextlib.contextmanager
def put_back(model: nn.Module) -> Iterator[None]:
    """Buffers, gradients and training flags are afterwards what they were, bit for bit."""
    buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in model.named_buffers()}
    gradients = [(p, p.grad) for p in model.parameters()]
    flags = [(m, m.training) for m in model.modules()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers.values():
                buffer.copy_(before)
        for name, (buffer, _) in buffers.items():  # a module may have put another tensor in its place
            owner, _, last = name.rpartition(".")
            model.get_submodule(owner)._buffers[last] = buffer
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, training in flags:
            module.training = training


def optimizer_for(
    model: nn.Module, given: OptimizerLike | None, copied_optimizer: torch.optim.Optimizer | None
) -> torch.optim.Optimizer:
    """The optimizer of a rehearsal on the copy `model`."""
    if copied_optimizer is not None:
        ours = {id(p) for p in model.parameters()}
        if not any(id(p) in ours for group in copied_optimizer.param_groups for p in group["params"]):
            raise InputError(
                "optimizer: it holds none of the model's parameters; build it from model.parameters()"
            )
        return copied_optimizer
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise InputError("steps: the model has no trainable parameter, so no optimizer step can be rehearsed")
    if given is None:
        return torch.optim.SGD(trainable, lr=0.01)
    assert callable(given)
    made = given(trainable)
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: expected a torch optimizer or a function from parameters to one, got {type(made).__name__}"
        )
    return made
