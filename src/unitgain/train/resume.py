"""Everything that training needs to go on as if it had never stopped: taken from a Learner, and put back.

A state holds the model, the optimizer, every callback with a memory (schedule, loss scaler, moving average, ...), all
random states, and where in which order of the data training is. Loaders with `state_dict` and `load_state_dict`
(InMemoryLoader, torchdata's) say where they are themselves. For others the random states at the epoch's beginning
are kept; they are started from there again and the batches that have been are read and dropped.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .._base import InputError
from .._run import (
    generator_states,
    is_stateful,
    loader_state,
    loaders_kept,
    random_states,
    set_generators,
    set_loader_state,
)
from . import checkpoint

if TYPE_CHECKING:
    from .learner import Learner


class Position:
    """Where in the data training is, and how a pass begins: at its first batch, or where a resumed run was."""

    def __init__(self) -> None:
        self.given = 0  # batches that this epoch's training pass has been given
        self.inside = False  # whether an epoch has begun and not ended
        self.start: dict[str, Any] = {}  # random states when the training pass began

    @contextlib.contextmanager
    def iterate(self, learn: Learner) -> Iterator[Iterable[Any]]:
        loader = learn.data.train if learn.training else learn.data.valid
        assert loader is not None
        if not learn.training:
            source, first = iter(loader), 0
        elif learn._pending is not None:
            source, first = learn._pending.begin(learn, self)
        else:
            self.start = {} if is_stateful(loader) else _origin(loader)
            source, first = iter(loader), 0
            self.given, self.inside = 0, True
        counted = self._count(learn, source, first)
        try:
            yield counted
        finally:
            counted.close()
            close = getattr(source, "close", None)  # a generator would go on holding its place
            if close is not None:
                close()

    def _count(self, learn: Learner, source: Iterable[Any], first: int) -> Any:
        learn.batch_index = first - 1
        for learn.batch_index, batch in enumerate(source, first):
            if learn.training:
                self.given = learn.batch_index + 1
            yield batch


@dataclass
class Resume:
    """A state that waits for the fit in which it was taken."""

    path: Path
    state: dict[str, Any]

    @property
    def fit(self) -> int:
        return self.state["fit"]

    @property
    def steps(self) -> int:
        return self.state["steps"]

    def enter(self, learn: Learner) -> int:
        """The epoch to go on with. Between two epochs the state is put back now, otherwise when the pass begins."""
        state = self.state
        if state["epoch"] > learn.epochs:
            raise InputError(
                f"checkpoint {self.path}: it was written in epoch {state['epoch']} of {state['epochs']}, and fit is "
                f"asked for {learn.epochs}; resume with the calls of the run that wrote it"
            )
        planned = next((c for c in learn.callbacks if getattr(c, "plans_epochs", False)), None)
        if planned is not None and state["epochs"] != learn.epochs:
            raise InputError(
                f"checkpoint {self.path}: its run was to have {state['epochs']} epochs, this one {learn.epochs}, and "
                f"{type(planned).__name__} spreads over all of them; resume with the calls of the run that wrote it"
            )
        if state["batches"] != learn.batches:
            raise InputError(
                f"checkpoint {self.path}: its run had {state['batches']} training batches per epoch, this one has "
                f"{learn.batches}; resume with the same data and batch size"
            )
        if state["batch"] == 0:
            put_back(learn, state, self.path)
            _put_data(learn, state)
            learn._pending = None
        return state["epoch"]

    def begin(self, learn: Learner, position: Position) -> tuple[Iterator[Any], int]:
        """The training pass's iterator, past the batches that have been, with all states as they were then."""
        state, loader = self.state, learn.data.train
        position.start, position.given, position.inside = state["start"], state["batch"], True
        if is_stateful(loader):
            _put_data(learn, state)
            source = iter(loader)
        else:
            random_states.put(state["start"]["random"])
            set_generators(loader, state["start"]["generators"])
            source = iter(loader)
            for _ in range(state["batch"]):
                if next(source, self) is self:
                    raise InputError(f"checkpoint {self.path}: the training data has fewer batches than then")
            _put_data(learn, state)
        put_back(learn, state, self.path)
        learn._pending = None
        return source, state["batch"]


def find(path: str | os.PathLike[str]) -> Resume | None:
    """The checkpoint at a path, or the last one in a folder; None for a folder without any."""
    path = Path(path)
    if not path.name.endswith(".safetensors") and not path.is_file():
        found = checkpoint.list_folder(path) if path.is_dir() else []
        if not found:
            return None
        path = found[-1]
    return Resume(path, _read(path))


def save(learn: Learner, path: str | os.PathLike[str]) -> None:
    state = take(learn)  # by all ranks
    if learn.rank == 0:
        checkpoint.write(path, state)


def load(learn: Learner, path: str | os.PathLike[str]) -> None:
    put_back(learn, _read(path), Path(path), steps=False)


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    state = checkpoint.read(path)
    if (
        not isinstance(state, dict)
        or not {"fit", "model", "optimizer", "callbacks", "random"} <= state.keys()
    ):
        whose = (
            f"of the recipe {state['recipe']}"
            if isinstance(state, dict) and "recipe" in state
            else "of something else"
        )
        raise InputError(f"checkpoint {path}: it is not a Learner's, but {whose}")
    return state


def take(learn: Learner) -> dict[str, Any]:
    """A Learner's state, whose tensors are still its own: store or copy it before training goes on."""
    inside, model = learn.position.inside, learn.model
    named = model.state_dict()
    unsaved = {n: b for n, b in model.named_buffers() if n not in named}  # registered with persistent=False
    callbacks = {key: c.state_dict() for key, c in _keys(learn)}
    return {
        "fit": learn.fits, "epochs": learn.epochs, "steps": learn.steps, "batches": learn.batches,
        "epoch": learn.epoch if inside else min(learn.epoch + 1, learn.epochs),
        "batch": learn.position.given if inside else 0,
        "model": named, "model_versions": dict(getattr(named, "_metadata", {})), "model_unsaved": unsaved,
        "optimizer": learn.optimizer.state_dict(), "optimizer_class": type(learn.optimizer).__qualname__,
        "callbacks": {key: state for key, state in callbacks.items() if state},
        "metrics": learn.metrics, "history": learn.history, "seconds": learn.seconds,
        "random": _of_all_ranks(learn, random_states.take()),
        "start": learn.position.start if inside else {},
        "train": loader_state(learn.data.train), "valid": loader_state(learn.data.valid),
    }  # fmt: skip


def put_back(learn: Learner, state: dict[str, Any], path: Path, steps: bool = True) -> None:
    """Everything but where the data is. Raises InputError if the checkpoint is of another model or optimizer."""
    model = learn.model
    # states of unlike optimizers would load, and fail or go astray at the next step
    wrote, own = state.get("optimizer_class"), type(learn.optimizer).__qualname__
    if steps and wrote not in (None, own):
        raise InputError(f"checkpoint {path}: its run was trained with {wrote}, this one is with {own}")
    named = copy.copy(state["model"])
    try:
        ordered = _with_versions(named, state["model_versions"])
        model.load_state_dict(ordered)
        buffers = dict(model.named_buffers())
        with torch.no_grad():
            for name, value in state["model_unsaved"].items():
                buffers[name].copy_(value)
    except (RuntimeError, KeyError) as error:
        first = str(error).strip().splitlines()
        raise InputError(f"checkpoint {path}: it is of another model: {' '.join(first[:3])}") from error
    try:
        learn.optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:
        raise InputError(f"checkpoint {path}: it is of another optimizer: {error}") from error
    for parameter, kept in learn.optimizer.state.items():
        for key, value in kept.items():
            if isinstance(value, torch.Tensor):
                kept[key] = laid_out_like(value, parameter)
    callbacks = dict(_keys(learn))
    for key, saved in state["callbacks"].items():
        if key in callbacks:
            callbacks[key].load_state_dict(saved)
        elif steps:
            raise InputError(
                f"checkpoint {path}: its run had a callback {key}, this one has not; resume with the same callbacks"
            )
    if steps:
        learn.steps, learn.metrics, learn.history = state["steps"], state["metrics"], state["history"]
        learn.clock.seconds = state.get("seconds", 0.0)
    everyone = state["random"]
    if learn.rank < len(everyone):
        random_states.put(everyone[learn.rank])


def laid_out_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """value with the strides of a tensor of its shape: files know no channels_last, and kernels for mixed layouts round
    differently."""
    if value.shape != like.shape or value.stride() == like.stride():
        return value
    return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)


@contextlib.contextmanager
def untouched(learn: Learner) -> Iterator[None]:
    """Whatever is read from the data meanwhile: orders and random states come back as they were."""
    loaders = [loader for loader in (learn.data.train, learn.data.valid) if loader is not None]
    with random_states.kept(), loaders_kept(*loaders):
        yield


def _keys(learn: Learner) -> Iterator[tuple[str, Any]]:
    """("EMA", callback), and ("EMA#2", ...) for a second one of a kind."""
    seen: dict[str, int] = {}
    for callback in learn.callbacks:
        name = type(callback).__name__
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), callback


def _with_versions(named: dict[str, Any], versions: dict[str, Any]) -> dict[str, Any]:
    from collections import OrderedDict

    ordered = OrderedDict(named)
    ordered._metadata = versions  # type: ignore[attr-defined]  # where torch keeps the modules' versions
    return ordered


def _of_all_ranks(learn: Learner, state: dict[str, Any]) -> list[Any]:
    if learn.world == 1:
        return [state]
    found: list[Any] = [None] * learn.world
    torch.distributed.all_gather_object(found, state)
    return found


# ---- data --------------------------------------------------------------------------------------------------


def _origin(loader: Any) -> dict[str, Any]:
    return {"random": random_states.take(), "generators": generator_states(loader)}


def _put_data(learn: Learner, state: dict[str, Any]) -> None:
    set_loader_state(learn.data.train, state["train"])
    if learn.data.valid is not None:
        set_loader_state(learn.data.valid, state["valid"])
