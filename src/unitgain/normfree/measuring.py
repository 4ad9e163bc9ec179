"""What a report says of a model in numbers: variances, what examples have to do with each other, time and memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._batch import Batch, tensors_in
from .._run import in_place, random_states
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


def coupling(model: nn.Module, batch: Batch, *, training: bool) -> float | None:
    """How far the first example's output moves (rms, relative) when copies of it stand in the place of all others.

    0, or rounding, where examples are independent. None for a batch of fewer than two examples, and where the output
    has no axis for them. Dropout is off.
    """
    count = batch.examples
    if count is None or count < 2:
        return None

    def first(given: Batch) -> list[Tensor]:
        with in_place(model, batch=given), torch.no_grad(), random_states.kept():
            model.train(training)
            for module in model.modules():
                if graphs.role_of(module) == "dropout":
                    module.eval()
            inputs = given.clone()
            output = model(*inputs.args, **inputs.kwargs)
            return [
                t[0].detach().clone()
                for t in tensors_in(output)
                if t.is_floating_point() and t.dim() and len(t) == count
            ]

    try:
        alone, together = first(batch.select([0] * count)), first(batch)
    except Exception:
        return None
    return distance(together, alone) if alone else None


def step_cost(model: nn.Module, batch: Batch, repeats: int = 3) -> tuple[float, int]:
    """(seconds of a forward and backward pass, the least of `repeats`; bytes that it keeps for the backward pass)."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    best = float("inf")
    with in_place(model, batch=batch) as run:
        model.train()
        for turn in range(repeats + 1):
            given = batch.clone()
            counted = torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)
            _wait(batch)
            start = time.perf_counter()
            if turn == 0:
                with counted:
                    run.backward(_number(model(*given.args, **given.kwargs)))
            else:
                run.backward(_number(model(*given.args, **given.kwargs)))
                _wait(batch)
                best = min(best, time.perf_counter() - start)
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    return best, sum(size for pointer, size in kept.items() if pointer not in own)


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
    "EVERY", "blocks", "channel_variance", "coupling", "outputs_of", "parameters_of", "step_cost", "variances",
]  # fmt: skip
