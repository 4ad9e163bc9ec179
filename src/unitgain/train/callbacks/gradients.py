"""Callbacks between backward and step: accumulation, clipping, mixed precision; and the moving average after it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._base import InputError
from ..callback import Callback, CancelStep
from ..resume import laid_out_like

if TYPE_CHECKING:
    from ..learner import Learner


class Accumulate(Callback):
    """One optimizer step for every n batches, with the mean of their gradients. The batches that remain at the end of
    an epoch are a smaller group.

    >>> Accumulate(4).n
    4
    """

    order = -50

    def __init__(self, n: int):
        if not isinstance(n, int) or n < 1:
            raise InputError(f"Accumulate({n!r}): expected a whole number of at least 1")
        self.n, self.waiting = n, 0

    def before_backward(self, learn: Learner) -> None:
        learn.objective = learn.objective / self.n

    def before_step(self, learn: Learner) -> None:
        self.waiting += 1
        if self.waiting < self.n:
            raise CancelStep
        self.waiting = 0

    def after_pass(self, learn: Learner) -> None:
        if not learn.training or not self.waiting:
            return
        for group in learn.optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(self.n / self.waiting)
        self.waiting = self.n - 1
        learn.take_step()

    def cleanup_pass(self, learn: Learner) -> None:
        if self.waiting:  # the pass ended early
            self.waiting = 0
            learn.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        if self.waiting:
            raise InputError(
                "Accumulate: a checkpoint can be written only after a step, not inside a group of batches"
            )
        return {}


class Clip(Callback):
    """Limits gradients before each step; give one of them.

    norm    the norm of all gradients together is at most this
    value   every gradient's magnitude is at most this
    agc     adaptive: each unit's gradient is at most this times its weights' norm (ug.optim.AGC; Brock et al., 2021)
    exclude what agc does not clip, as in AGC; "auto": the last layer's weight

    `last` is the total norm before clipping (norm only), for callbacks that record it.
    """

    order = 10

    def __init__(
        self,
        norm: float | None = None,
        *,
        value: float | None = None,
        agc: float | None = None,
        exclude: Any = "auto",
    ):
        given = {"norm": norm, "value": value, "agc": agc}
        chosen = {name: limit for name, limit in given.items() if limit is not None}
        if len(chosen) != 1:
            raise InputError("Clip: give exactly one of norm, value and agc")
        ((self.kind, self.limit),) = chosen.items()
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise InputError(f"Clip({self.kind}={self.limit!r}): expected a number above 0")
        self.exclude = exclude
        self.last: Tensor | None = None
        self._agc: Any = None

    def before_step(self, learn: Learner) -> None:
        parameters = [p for group in learn.optimizer.param_groups for p in group["params"]]
        if self.kind == "norm":
            self.last = torch.nn.utils.clip_grad_norm_(parameters, self.limit)
        elif self.kind == "value":
            torch.nn.utils.clip_grad_value_(parameters, self.limit)

    def before_fit(self, learn: Learner) -> None:
        if self.kind == "agc":
            from ...optim import AGC

            self._agc = AGC(learn.optimizer, learn.model, clipping=self.limit, exclude=self.exclude)

    def cleanup_fit(self, learn: Learner) -> None:
        if self._agc is not None:
            self._agc.remove()
            self._agc = None


class MixedPrecision(Callback):
    """Runs the model and the loss under autocast; with float16 the loss is scaled so that gradients do not underflow.

    dtype  torch.bfloat16, or torch.float16; "auto": bfloat16 where the accelerator has it
    """

    order = -20

    def __init__(self, dtype: torch.dtype | str = "auto"):
        if dtype == "auto":
            has_it = not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
            dtype = torch.bfloat16 if has_it else torch.float16
        if dtype not in (torch.bfloat16, torch.float16):
            raise InputError(f"MixedPrecision({dtype}): expected torch.bfloat16 or torch.float16")
        assert isinstance(dtype, torch.dtype)
        self.dtype = dtype
        self.scaler: torch.amp.GradScaler | None = None  # only for float16, and only once the device is known
        self._context: Any = None

    def before_fit(self, learn: Learner) -> None:
        self._device = next((p.device.type for p in learn.model.parameters()), "cpu")
        if self.dtype is torch.float16 and self.scaler is None:
            self.scaler = torch.amp.GradScaler(self._device)

    def before_predict(self, learn: Learner) -> None:
        self._context = torch.autocast(self._device, self.dtype)
        self._context.__enter__()

    def after_loss(self, learn: Learner) -> None:
        self._leave()

    def cleanup_batch(self, learn: Learner) -> None:
        self._leave()

    def _leave(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)

    def before_backward(self, learn: Learner) -> None:
        if self.scaler is not None:
            learn.objective = self.scaler.scale(learn.objective)

    def before_step(self, learn: Learner) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(learn.optimizer)

    def step(self, learn: Learner) -> None:
        if self.scaler is None:
            learn.optimizer.step()
        else:
            self.scaler.step(learn.optimizer)  # skipped if a gradient overflowed
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scaler is not None:
            self.scaler.load_state_dict(dict(state))


class EMA(Callback):
    """Keeps an exponential moving average of the weights and floating buffers, and validates with it.

        average <- average + (1 - decay) (weights - average)       after every step

    decay    per step; in the first steps it is (1 + t)/(10 + t) if that is less, so that the initial weights are soon
             forgotten
    keep     after training, put the average into the model

    `averaged` is a context in which the model has the averaged weights.
    """

    order = 20
    essential = False

    def __init__(self, decay: float = 0.999, *, keep: bool = False):
        if not 0 <= decay < 1:
            raise InputError(f"EMA(decay={decay!r}): expected a number from 0 to below 1")
        self.decay, self.keep, self.updates = decay, keep, 0
        self.average: dict[str, Tensor] = {}
        self._swapped = False

    def before_fit(self, learn: Learner) -> None:
        if not self.average:
            self.average = {name: t.detach().clone() for name, t in _floating(learn.model).items()}
        for name, tensor in _floating(learn.model).items():  # Device may have moved the model
            self.average[name] = self.average[name].to(tensor.device)

    @torch.no_grad()
    def after_step(self, learn: Learner) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = _floating(learn.model)
        torch._foreach_lerp_([self.average[n] for n in live], [t.detach() for t in live.values()], 1 - decay)

    def before_pass(self, learn: Learner) -> None:
        if not learn.training and self.updates:
            self._swap(learn)

    def cleanup_pass(self, learn: Learner) -> None:
        if self._swapped:
            self._swap(learn)

    def after_fit(self, learn: Learner) -> None:
        if self.keep and self.updates:
            self._swap(learn)
            self._swapped = False

    @contextlib.contextmanager
    def averaged(self, learn: Learner) -> Iterator[torch.nn.Module]:
        self._swap(learn)
        try:
            yield learn.model
        finally:
            self._swap(learn)

    def _swap(self, learn: Learner) -> None:
        self._swapped = not self._swapped
        for name, tensor in _floating(learn.model).items():
            tensor.data, self.average[name] = self.average[name], tensor.data

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": dict(self.average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        like = self.average
        self.average = {
            n: laid_out_like(t, like[n]).to(like[n].device) if n in like else t.clone()
            for n, t in state["average"].items()
        }


def _floating(model: torch.nn.Module) -> dict[str, Tensor]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: t for name, t in tensors.items() if t.is_floating_point()}
