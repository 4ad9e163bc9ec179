"""Callbacks that prepare batches: the device, transforms, normalization; and SingleBatch for a quick test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._base import InputError
from ..._batch import map_tensors, read_batch
from .. import resume
from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner


class Device(Callback):
    """Moves the model to a device when training begins, and every batch. "auto": CUDA, else MPS, else the CPU.

    non_blocking  copy from pinned memory while the accelerator works
    """

    order = -90
    prepares = True

    def __init__(self, device: str | torch.device = "auto", *, non_blocking: bool = True):
        if device == "auto":
            mps = torch.backends.mps.is_available()
            device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise InputError(f"Device({device!r}): torch has no such device") from error
        self.non_blocking = non_blocking

    def before_fit(self, learn: Learner) -> None:
        learn.model.to(self.device)
        for state in learn.optimizer.state.values():  # of steps that were made on another device
            for name, value in state.items():
                if isinstance(value, Tensor) and value.dim():
                    state[name] = value.to(self.device)

    def before_batch(self, learn: Learner) -> None:
        learn.batch = map_tensors(learn.batch, self._move)

    def _move(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=self.non_blocking)


class BatchTransform(Callback):
    """Applies a function to every batch, on the device where it is: augmentation, mixing, a change of layout.

    function  batch -> batch
    train, valid  in which passes
    """

    order = -60
    prepares = True

    def __init__(self, function: Callable[[Any], Any], *, train: bool = True, valid: bool = True):
        if not callable(function):
            raise InputError(f"BatchTransform: expected a function, got {type(function).__name__}")
        self.function, self.train, self.valid = function, train, valid

    def before_batch(self, learn: Learner) -> None:
        if self.train if learn.training else self.valid:
            learn.batch = self.function(learn.batch)


class Normalize(Callback):
    """Brings the first floating input to mean 0 and standard deviation 1, per channel.

    mean, std  numbers, or one per channel (axis 1); None: measured on the training data when training first begins
    batches    number of batches that are measured

    Raises InputError where a channel is constant, since it cannot be scaled.
    """

    order = -70
    prepares = True

    def __init__(
        self,
        mean: float | Sequence[float] | Tensor | None = None,
        std: float | Sequence[float] | Tensor | None = None,
        *,
        batches: int = 50,
    ):
        if (mean is None) != (std is None):
            raise InputError("Normalize: give both mean and std, or neither")
        self.mean = None if mean is None else torch.as_tensor(mean, dtype=torch.float32)
        self.std = None if std is None else torch.as_tensor(std, dtype=torch.float32)
        self.batches = batches
        self._copies: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}
        if self.std is not None and not bool((self.std > 0).all()):
            raise InputError(f"Normalize(std={std!r}): standard deviations are above 0")

    def before_fit(self, learn: Learner) -> None:
        if self.mean is None and not learn.resuming:
            with resume.untouched(learn):
                self._measure(learn)

    def _measure(self, learn: Learner) -> None:
        count, total, squares, shift = 0, torch.zeros(()), torch.zeros(()), None
        for _, batch in zip(range(self.batches), learn.data.train):
            x = _first_floating(batch)
            if x is None:
                raise InputError("Normalize: the batches hold no floating input")
            values = x.detach().double()
            axes = _other_axes(values)
            if shift is None:
                shift = values.mean(axes, keepdim=True)
            values = values - shift  # so that the variance stays exact where the mean is large
            count += values.numel() // max(1, values.shape[1] if values.dim() > 1 else 1)
            total = total + values.sum(axes).cpu()
            squares = squares + values.square().sum(axes).cpu()
        if shift is None:
            raise InputError("Normalize: the training data is empty")
        mean = learn.over_ranks(total) / (n := int(learn.over_ranks(torch.tensor(count))))
        std = (learn.over_ranks(squares) / n - mean.square()).clamp(min=0).sqrt()
        mean = mean + shift.flatten().cpu() if mean.dim() else mean + shift.cpu().reshape(())
        constant = (std <= 1e-12 * mean.abs().clamp(min=1e-30)).reshape(-1).nonzero().flatten().tolist()
        if constant:
            raise InputError(
                f"Normalize: channel {constant[0]} is the same in every example; remove it or give std"
            )
        self.mean, self.std = mean.float(), std.float()
        self._copies.clear()

    def before_batch(self, learn: Learner) -> None:
        if self.mean is None:  # outside of a fit: Learner.first_batch
            with resume.untouched(learn):
                self._measure(learn)
        assert self.mean is not None
        assert self.std is not None
        x = _first_floating(learn.batch)
        if x is None:
            return
        shape = [1, -1] + [1] * (x.dim() - 2) if self.mean.dim() else []
        mean, std = (v.reshape(shape) for v in self._at(x))
        scaled = (x - mean) / std
        learn.batch = map_tensors(learn.batch, lambda t: scaled if t is x else t)

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std of x's type where x lies; copied there once, since a copy waits for an accelerator."""
        assert self.mean is not None
        assert self.std is not None
        copies = self._copies.get((x.device, x.dtype))
        if copies is None:
            copies = self.mean.to(x.device, x.dtype), self.std.to(x.device, x.dtype)
            self._copies[x.device, x.dtype] = copies
        return copies

    def state_dict(self) -> dict[str, Any]:
        return {} if self.mean is None else {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean, self.std = state["mean"], state["std"]
        self._copies.clear()


class SingleBatch(Callback):
    """Every pass has its first batch only, to test that everything runs."""

    def before_batch(self, learn: Learner) -> None:
        learn.ends_pass = True


def _first_floating(batch: Any) -> Tensor | None:
    return next(iter(read_batch(batch).floating().values()), None)


def _other_axes(values: Tensor) -> list[int]:
    """All axes but the channels'."""
    return [axis for axis in range(values.dim()) if axis != 1]
