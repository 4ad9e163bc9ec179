"""batch_jitter(): how much one example's activations depend on the batch that it happens to be in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base import InputError, no_module, one_line, opens_compiled
from .._batch import Batch, axis_of_examples, check_devices, find_logits, opened, read_batch
from .._run import Run, in_place
from .._version import __version__
from ..graph import role_of
from ..report import BatchJitter
from .batch_norms import normalize_by_batch

_SIZES = 4  # batch sizes at most where none are given


@opens_compiled
def batch_jitter(
    model: nn.Module,
    batch: Any,
    *,
    example: int = 0,
    sizes: Sequence[int] | int | None = None,
    draws: int = 16,
    seed: int = 0,
) -> BatchJitter:
    """Runs one example in many random batches and measures, layer by layer, how far what it becomes differs.

    BatchNorm normalizes each example by the statistics of its batch, so that an example is a little another one each
    time. At a layer the jitter is

        sqrt(mean variance of the example's values over the batches / mean variance of the values over examples)

    0.1 means that the company it keeps moves an example by a tenth of what tells examples apart.

    model, batch   as for `check`; the batch is the pool from which the others are drawn. Targets are not used
    example        which of the pool is looked at
    sizes          examples in a batch, itself included; by default up to four powers of two, up to half of the pool
    draws          batches of each size
    seed           of the draws

    Evaluation mode, so that dropout and stochastic depth are off, but layers with running statistics normalize by the
    batch's, as they do in training. Everything is put back, bit for bit.

    Raises InputError for fewer than four examples, and for sizes that the pool does not have.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> result = batch_jitter(model, torch.randn(32, 4), sizes=[4, 16])
    >>> result.sites, result.at("0", 4) < 1e-6 < result.at("1", 16) < result.at("1", 4)
    (('0', '1', '2', '3'), True)
    """
    if not isinstance(model, nn.Module):
        raise no_module("model", model)
    batch = opened(batch, model)
    pool = read_batch(batch, model, "if required")
    check_devices(pool, model)
    count = pool.examples or 0
    if count < 4:
        raise InputError(f"batch: it has {count} examples; at least 4 are needed to draw batches from")
    if not isinstance(example, int) or not 0 <= example < count:
        raise InputError(f"example: expected a number from 0 to {count - 1}, got {example!r}")
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 2:
        raise InputError(f"draws: expected a whole number of at least 2, got {draws!r}")
    chosen = _sizes(sizes, count)
    generator = torch.Generator().manual_seed(seed)
    mates = [i for i in range(count) if i != example]
    jitter: dict[int, dict[str, float]] = {}
    outputs: dict[int, Any] = {}
    with _Watch(model) as watch, in_place(model, batch=batch) as run:
        spread = watch.spread(run, pool, count)
        for size in chosen:
            drawn = (
                torch.randperm(len(mates), generator=generator).tolist()[: size - 1] for _ in range(draws)
            )
            batches = [pool.select([example, *(mates[i] for i in order)]) for order in drawn]
            noise, outputs[size] = watch.noise(run, batches, size)
            jitter[size] = {name: _ratio(noise.get(name, math.nan), spread[name]) for name in spread}
    return BatchJitter(
        model=type(model).__name__,
        example=example,
        draws=draws,
        sizes=tuple(chosen),
        sites=tuple(spread),
        norms=tuple(name for name in spread if _normalizes_by_batch(model.get_submodule(name))),
        jitter={size: tuple(row[name] for name in spread) for size, row in jitter.items()},
        outputs=outputs,
        versions={"unitgain": __version__, "torch": str(torch.__version__)},
    )


def _sizes(given: Sequence[int] | int | None, count: int) -> list[int]:
    if given is None:
        powers = [2**i for i in range(1, 32) if 2**i <= count // 2]
        return powers[-_SIZES:]
    sizes = [given] if isinstance(given, int) else list(given)
    wrong = next(
        (s for s in sizes if not isinstance(s, int) or isinstance(s, bool) or not 2 <= s <= count), None
    )
    if wrong is not None or not sizes:
        raise InputError(
            f"sizes: expected whole numbers from 2 to {count}, the examples that there are, got {given!r}"
        )
    return sorted(set(sizes))


def _ratio(noise: float, spread: float) -> float:
    """Of standard deviations; NaN where examples cannot be told apart at all."""
    return math.sqrt(noise / spread) if spread > 0 else math.nan


def _normalizes_by_batch(module: nn.Module) -> bool:
    return role_of(module) == "norm" and getattr(module, "running_mean", None) is not None


class _Watch:
    """Hooks on the leaf modules of a model, for as long as the context lasts, and what they saw in the last pass."""

    def __init__(self, model: nn.Module):
        self.model = model
        self._seen: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> _Watch:
        for name, module in self.model.named_modules():
            if name and next(module.children(), None) is None:
                self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def see(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                self._seen.setdefault(
                    name, output.detach().clone()
                )  # a module may be called again, in place too

        return see

    def spread(self, run: Run, pool: Batch, count: int) -> dict[str, float]:
        """{site: mean variance of its values over the examples of the pool}, in execution order."""
        self._pass(run, pool)
        axes = {name: axis_of_examples(tensor, count) for name, tensor in self._seen.items()}
        return {
            name: float(self._seen[name].double().var(axis).mean())
            for name, axis in axes.items()
            if axis is not None
        }

    def noise(self, run: Run, batches: Sequence[Batch], size: int) -> tuple[dict[str, float], np.ndarray]:
        """({site: mean variance over the batches of the first example's values}, its outputs (batches, values))."""
        rows: dict[str, _Variance] = {}
        outputs = []
        for batch in batches:
            output = find_logits(self._pass(run, batch))
            first = None if output is None else _first(output, size)
            if first is not None:
                outputs.append(first.flatten().cpu().numpy())
            for name, tensor in self._seen.items():
                row = _first(tensor, size)
                if row is not None:
                    rows.setdefault(name, _Variance()).add(row)
        found = {name: row.mean() for name, row in rows.items() if row.count == len(batches)}
        return found, np.stack(outputs) if outputs else np.empty((0, 0))

    def _pass(self, run: Run, batch: Batch) -> Any:
        run.rewind(quick=True)
        normalize_by_batch(self.model)
        self._seen.clear()
        given = batch.clone()
        try:
            with torch.no_grad():
                return self.model(*given.args, **given.kwargs)
        except Exception as error:
            raise InputError(
                f"the model raised {type(error).__name__} on {given.describe()}: {one_line(error)}"
            ) from error


def _first(tensor: Tensor, size: int) -> Tensor | None:
    """The first example's part, in float64; None where there is no axis of the examples."""
    axis = axis_of_examples(tensor, size)
    return None if axis is None else tensor.select(axis, 0).double()


class _Variance:
    """The variance of tensors of one shape, element by element: from differences to the first, so that nothing
    cancels."""

    def __init__(self) -> None:
        self.count = 0
        self._start: Tensor | None = None
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, row: Tensor) -> None:
        if self._start is None:
            self._start = row
        if row.shape == self._start.shape:
            self._sum, self._squares = (
                self._sum + (row - self._start),
                self._squares + (row - self._start) ** 2,
            )
            self.count += 1

    def mean(self) -> float:
        """Over the elements."""
        return float(torch.as_tensor(self._squares - self._sum**2 / self.count).mean()) / (self.count - 1)
