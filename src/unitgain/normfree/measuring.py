"""What a report says of a model in numbers: variances, what examples have to do with each other, time and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._batch import Batch, tensors_in
from .._run import Run, in_place, random_states
from .proving import distance, outputs_of
from .residual import residual_sums


def channel_variance(tensor: Tensor, axis: int | None) -> float:
    """The variance of each channel over examples and positions (biased), averaged over channels."""
    rows = tensor.detach().float()
    rows = rows.movedim(axis, 0).flatten(1) if axis is not None and axis < rows.dim() else rows.reshape(1, -1)
    return float(rows.var(1, correction=0).mean()) if rows.shape[1] > 1 else float("nan")


EVERY = ("*",)


def blocks(model: nn.Module, batch: Batch, layers: Sequence[str]) -> list[str]:
    """Where the signal's size is looked at: the ends of residual blocks; without any, the outputs of these layers."""
    with graphs.undisturbed(model, batch):
        graph = graphs.follow(model, batch)
    every = [b for branches in residual_sums(graph) for b in branches]
    sums = {b.sum for b in every}
    ends = dict.fromkeys(b.block for b in every if b.inside not in sums)
    return list(ends) or [n.name for n in graph if n.path in set(layers) and n.role == "linear"]


def variances(model: nn.Module, batch: Batch, names: Sequence[str]) -> dict[str, float]:
    """{node: channel variance} of these nodes, or of EVERY one, as in training but without dropout."""
    sees = _Sees()
    with graphs.undisturbed(model, batch):
        graphs.run(graphs.Tracer(model, sees, theory=True), batch)
    if names is EVERY:
        return sees.variance
    return {name: sees.variance[name] for name in names if name in sees.variance}


class _Sees(graphs.Listener):
    """Listener: channel variances of every node, sums and functions too."""

    def __init__(self) -> None:
        self.variance: dict[str, float] = {}

    def value(self, value: graphs.Value, tensor: Tensor, call: graphs.Call) -> None:
        if value.node is not None and tensor.is_floating_point() and tensor.dim() > 1:
            self.variance[value.node] = channel_variance(tensor, value.axis)


_SHORT = 0.1  # seconds
_PROBES = 4  # examples that are asked what the others do to them


def coupling(model: nn.Module, batch: Batch, *, training: bool) -> float | None:
    """How far an example's output moves when the others of its batch are drawn anew: with replacement from the batch,
    which moves batch statistics by their standard error. The rms over up to four examples, relative to the outputs'.

    0, or rounding, where examples are independent. None for a batch of fewer than two examples, and where the output
    has no axis for them. Dropout is off.
    """
    count = batch.examples
    if count is None or count < 2:
        return None
    own = torch.Generator().manual_seed(0)

    def outputs(given: Batch) -> list[Tensor]:
        with in_place(model, batch=given), torch.no_grad(), random_states.kept():
            model.train(training)
            for module in model.modules():
                if graphs.role_of(module) == "dropout":
                    module.eval()
            inputs = given.clone()
            output = model(*inputs.args, **inputs.kwargs)
            return [
                t.detach().clone()
                for t in tensors_in(output)
                if t.is_floating_point() and t.dim() and len(t) == count
            ]

    try:
        together = outputs(batch)
        probes = [turn * count // _PROBES for turn in range(_PROBES)] if count > _PROBES else range(count)
        moved: list[list[Tensor]] = [[] for _ in together]
        for probe in probes:
            chosen = list(range(count))
            while chosen == list(range(count)):  # of two examples the other one becomes a copy
                chosen = torch.randint(count, (count,), generator=own).tolist()
                chosen[probe] = probe
            for found, output in zip(moved, outputs(batch.select(chosen))):
                found.append(output[probe])
    except Exception:
        return None
    if not together:
        return None
    at = list(probes)
    return distance([torch.stack(m) for m in moved], [t[at] for t in together])


@dataclass(frozen=True)
class StepCost:
    """seconds of each round's forward and backward pass; saved_bytes: kept for the backward pass."""

    seconds: list[float]
    saved_bytes: int


def step_costs(model: nn.Module, batch: Batch, changes: Sequence[Callable[[], object]]) -> list[StepCost]:
    """What a training step costs with each of these changes to the model, which are taken back; in turns, so that what
    else runs on the machine meets all of them alike. The first step of each is not timed; of short ones none is that
    begins anew. Three turns; of short steps up to nine."""
    found = [StepCost([], 0) for _ in changes]
    for turn in range(9):
        if turn >= 3 and sum(sum(cost.seconds) for cost in found) > 1.0:
            break
        for i, change in enumerate(changes):
            with in_place(model, batch=batch) as run:
                with torch.no_grad():
                    change()
                model.train()
                if turn == 0:
                    kept: dict[int, int] = {}
                    with torch.autograd.graph.saved_tensors_hooks(_counts(kept), lambda t: t):
                        _step(model, batch, run)
                    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
                    size = sum(size for pointer, size in kept.items() if pointer not in own)
                    found[i] = StepCost([], size)
                elif found[i].seconds[-1] < _SHORT:
                    _step(model, batch, run)
                found[i].seconds.append(_step(model, batch, run))
    return found


def step_cost(model: nn.Module, batch: Batch) -> tuple[float, int]:
    """(seconds of a forward and backward pass, the least of three; bytes that it keeps for the backward pass)."""
    cost = step_costs(model, batch, [lambda: None])[0]
    return min(cost.seconds), cost.saved_bytes


def _step(model: nn.Module, batch: Batch, run: Run) -> float:
    given = batch.clone()
    _wait(batch)
    start = time.perf_counter()
    run.backward(_number(model(*given.args, **given.kwargs)))
    _wait(batch)
    return time.perf_counter() - start


def _counts(kept: dict[int, int]) -> Callable[[Tensor], Tensor]:
    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    return pack


def _number(output: object) -> Tensor:
    found = [
        t.float().square().mean() for t in tensors_in(output) if t.is_floating_point() and t.requires_grad
    ]
    return torch.stack(found).sum()


def _wait(batch: Batch) -> None:
    if any(t.device.type == "cuda" for t in batch.tensors()):
        torch.cuda.synchronize()


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


__all__ = [
    "EVERY", "blocks", "channel_variance", "coupling", "outputs_of", "parameters_of", "step_cost",
    "step_costs", "variances",
]  # fmt: skip
