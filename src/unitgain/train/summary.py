"""Summary: one forward pass, module by module: output shapes, parameters, FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, aligned
from .._batch import check_devices, read_batch
from .._run import in_place
from ..stats import shape_of


@dataclass(frozen=True)
class Row:
    """One module. parameters: its own and its children's, a shared one where it first occurs; flops: of its calls."""

    name: str
    module: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int
    leaf: bool


@dataclass(frozen=True)
class Summary:
    """All modules in the order in which they first ended, and the numbers of the whole model.

    FLOPs are those of torch.utils.flop_counter: a multiplication and an addition are two; matrix products,
    convolutions, attention and the matrix products inside recurrent layers are counted, elementwise work is not. One
    forward pass of the batch.
    """

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    flops: int

    def __str__(self) -> str:
        cells = [("module", "type", "output", "parameters", "FLOPs")]
        for row in self.rows:
            if row.leaf:
                shape = "x".join(map(str, row.shape)) if row.shape else ""
                cells.append((row.name, row.module, shape, f"{row.parameters:,}", _short(row.flops)))
        frozen = self.parameters - self.trainable
        total = f"{self.parameters:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "")
        return f"{aligned(cells, right=(3, 4))}\n{total}; {_short(self.flops)}FLOPs forward"


def summarize(model: nn.Module, batch: Any) -> Summary:
    """Runs the batch through the model in evaluation mode, without gradients. Everything is put back.

    >>> print(summarize(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(2, 3)))
    module  type    output  parameters  FLOPs
    0       Linear  2x4             16     48
    1       ReLU    2x4              0      0
    16 parameters; 48 FLOPs forward
    """
    from torch.utils.flop_counter import FlopCounterMode

    found = read_batch(batch, model).clone()
    check_devices(found, model)
    if any(tensor.is_nested for tensor in found.inputs().values()):
        raise InputError("summary: torch counts no FLOPs of nested tensors; give a padded batch")
    names = {module: name for name, module in model.named_modules()}
    shapes: dict[str, tuple[int, ...] | None] = {}
    recurrent: dict[str, int] = {}
    counter = FlopCounterMode(display=False)
    with in_place(model, batch=batch), torch.no_grad():
        model.eval()
        for module, name in names.items():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                module.register_forward_hook(_note(name, shapes))
            if isinstance(module, nn.RNNBase):
                module.register_forward_hook(_count_recurrent(name, recurrent))
        with counter:
            model(*found.args, **found.kwargs)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    for name in recurrent:  # some of these layers run as plain products, which were counted
        counted = sum(counts.get(f"{root}.{name}" if name else root, {}).values())
        recurrent[name] = max(0, recurrent[name] - counted)
    rows = []
    for name, shape in shapes.items():
        if not name:
            continue
        module = model.get_submodule(name)
        flops = sum(counts.get(f"{root}.{name}", {}).values())
        flops += sum(n for inner, n in recurrent.items() if inner == name or inner.startswith(f"{name}."))
        count = sum(p.numel() for p in module.parameters())
        rows.append(
            Row(name, type(module).__name__, shape, count, flops, not any(True for _ in module.children()))
        )
    everything = list(model.parameters())
    return Summary(
        tuple(rows),
        sum(p.numel() for p in everything),
        sum(p.numel() for p in everything if p.requires_grad),
        counter.get_total_flops() + sum(recurrent.values()),
    )


def _note(name: str, shapes: dict[str, tuple[int, ...] | None]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = output if isinstance(output, Tensor) else None
        if tensor is None and isinstance(output, (tuple, list)):
            tensor = next((t for t in output if isinstance(t, Tensor)), None)
        shapes.setdefault(name, None if tensor is None else shape_of(tensor))

    return hook


def _count_recurrent(name: str, counts: dict[str, int]) -> Any:
    """torch's counter does not see into fused recurrent layers. They take two operations for each number of a weight
    matrix, at every position of every sequence."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        given = args[0]
        if isinstance(given, nn.utils.rnn.PackedSequence):
            positions = len(given.data)
        else:
            positions = given.shape[:-1].numel()
        weights = sum(p.numel() for n, p in module.named_parameters() if n.startswith("weight_"))
        counts[name] = counts.get(name, 0) + 2 * weights * positions

    return hook


def _short(count: int) -> str:
    """A count with a prefix.

    >>> _short(48), _short(4_100_000_000)
    ('48 ', '4.1 G')
    """
    for prefix, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count} "
