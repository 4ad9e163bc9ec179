"""A change to a model that either proves to keep what the model computes, or is taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .._base import InputError, one_line
from .._batch import Batch, tensors_in
from .._run import Snapshot, in_place, random_states

T = TypeVar("T")
TOLERANCE = 1e-9  # rms of the difference over rms of the output, in float64


@contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """The model's numbers are float64 inside and what they were afterwards, new ones as most of the others; everything
    is put back if an exception ends the work."""
    before = Snapshot(model)
    known = {id(t): t.dtype for t in _numbers(model)}
    kinds = list(known.values())
    usual = max(set(kinds), key=kinds.count) if kinds else torch.get_default_dtype()
    flags = {id(m): m.training for m in model.modules()}
    gradients = {id(p): p.grad for p in model.parameters()}
    try:
        for tensor in _numbers(model):
            tensor.grad = None
            tensor.data = tensor.data.double()
        yield
        for tensor in _numbers(model):
            tensor.data = tensor.data.to(known.get(id(tensor), usual))
        for parameter in model.parameters():
            parameter.grad = gradients.get(id(parameter))
        for module in model.modules():
            module.training = flags.get(id(module), module.training)
    except BaseException:
        before.restore()
        raise


def _numbers(model: nn.Module) -> list[Tensor]:
    return [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]


def widened(batch: Batch) -> Batch:
    """The batch with its floating-point tensors in float64."""
    return batch.map(lambda t: t.double() if t.is_floating_point() else t)


def noise_like(batch: Batch) -> Batch | None:
    """The batch with standard normal numbers in the place of its floating-point inputs; None if it has none."""
    floats = batch.floating()
    if not floats:
        return None
    generator = torch.Generator().manual_seed(0)
    made = {
        name: torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t)
        for name, t in floats.items()
    }
    return batch.with_inputs(made)


def outputs_of(model: nn.Module, batch: Batch, *, training: bool = False) -> list[Tensor]:
    """Every floating-point tensor that the model returns, copied; the model is left as it was."""
    with in_place(model, batch=batch), torch.no_grad(), random_states.kept():
        model.train(training)
        given = batch.clone()
        output = model(*given.args, **given.kwargs)
        return [t.detach().clone() for t in tensors_in(output) if t.is_floating_point()]


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest rms of a difference over the rms of what is wanted; infinite where they cannot be compared.

    Where NaN or infinity is wanted (a mask; the square root of noise) the same has to be found; the other numbers are
    compared.
    """
    if len(found) != len(wanted) or any(a.shape != b.shape for a, b in zip(found, wanted)):
        return float("inf")
    worst = 0.0
    for a, b in zip(found, wanted):
        fine = b.isfinite()
        if not bool(fine.all()):
            if not bool(((a == b) | (a.isnan() & b.isnan()))[~fine].all()):
                return float("inf")
            a, b = a[fine], b[fine]
        if not b.numel():
            continue
        size = b.double().square().mean().sqrt()
        off = (a.double() - b.double()).square().mean().sqrt()
        ratio = float(off / size) if float(size) > 0 else float(off)
        worst = max(worst, ratio if ratio == ratio else float("inf"))
    return worst


class Proof:
    """What a model computes on a batch, and on noise of its shape where it takes that: kept, to compare with."""

    def __init__(self, model: nn.Module, batch: Batch):
        self._batches = [batch]
        try:
            self._wanted = [outputs_of(model, batch)]
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"the model raised {type(error).__name__} in evaluation mode in float64 on inputs of shape "
                f"{batch.describe()}: {one_line(error) or 'no message'}"
            ) from error
        noise = noise_like(batch)
        if noise is not None:
            try:
                wanted = outputs_of(model, noise)
            except Exception:
                return  # a model may refuse noise: masks, lengths, times
            self._batches.append(noise)
            self._wanted.append(wanted)

    def distance(self, model: nn.Module) -> float:
        """How far the model's outputs are from what was kept; infinite if it raises or an output is not finite."""
        try:
            return max(
                distance(outputs_of(model, b), wanted) for b, wanted in zip(self._batches, self._wanted)
            )
        except Exception:
            return float("inf")


def settle(
    model: nn.Module, proof: Proof, steps: Sequence[T], carry_out: Callable[[Sequence[T]], Any]
) -> tuple[Any, list[T], float]:
    """(what carry_out returned, the steps that had to be left out, the distance that remains).

    All steps at once; if that changes what the model computes, halves of them are tried until those are found that
    do.
    """
    base = Snapshot(model)

    def attempt(some: Sequence[T]) -> tuple[Any, float]:
        try:
            done = carry_out(some)
        except InputError:
            raise
        except Exception:
            return None, float("inf")
        return done, proof.distance(model)

    def culprits(some: Sequence[T]) -> list[T]:
        _, off = attempt(some)
        base.restore()
        if off <= TOLERANCE:
            return []
        if len(some) == 1:
            return list(some)
        half = len(some) // 2
        return culprits(some[:half]) + culprits(some[half:])

    done, off = attempt(steps)
    if off <= TOLERANCE or not steps:
        return done, [], off
    base.restore()
    bad = culprits(steps)
    good = [step for step in steps if step not in bad]
    done, off = attempt(good)
    if off > TOLERANCE:  # only together are they wrong
        base.restore()
        done, off = attempt([])
        return done, list(steps), off
    return done, bad, off
