"""Summary: one forward pass, module by module: output shapes, parameters, FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import check_devices, read_batch
from .._run import in_place
from ..stats import shape_of


@dataclass(frozen=True)
class Row:
    """One module. parameters: its own and its children's, a shared one where it comes first; flops: of its calls."""

    name: str
    module: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int
    leaf: bool


@dataclass(frozen=True)
class Summary:
    """All modules in the order in which they were done first, and the whole model's numbers.

    FLOPs are those of torch.utils.flop_counter: a multiplication and an addition are two; matrix products,
    convolutions and attention are counted, elementwise work is not. One forward pass of the batch.
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
        widths = [max(len(c[i]) for c in cells) for i in range(5)]
        left, right = slice(0, 3), slice(3, 5)
        lines = [
            "  ".join([*(c.ljust(w) for c, w in zip(cell[left], widths[left])),
                       *(c.rjust(w) for c, w in zip(cell[right], widths[right]))])
            for cell in cells
        ]  # fmt: skip
        frozen = self.parameters - self.trainable
        total = f"{self.parameters:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "")
        return "\n".join([*lines, f"{total}; {_short(self.flops)}FLOPs forward"])


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
    counter = FlopCounterMode(display=False)
    with in_place(model, batch=batch), torch.no_grad():
        model.eval()
        for module, name in names.items():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                module.register_forward_hook(_note(name, shapes))
        with counter:
            model(*found.args, **found.kwargs)
    counts = counter.get_flop_counts()
    root = type(model).__name__
    rows = []
    for name, shape in shapes.items():
        if not name:
            continue
        module = model.get_submodule(name)
        flops = sum(counts.get(f"{root}.{name}", {}).values())
        count = sum(p.numel() for p in module.parameters())
        rows.append(
            Row(name, type(module).__name__, shape, count, flops, not any(True for _ in module.children()))
        )
    everything = list(model.parameters())
    return Summary(
        tuple(rows),
        sum(p.numel() for p in everything),
        sum(p.numel() for p in everything if p.requires_grad),
        counter.get_total_flops(),
    )


def _note(name: str, shapes: dict[str, tuple[int, ...] | None]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = output if isinstance(output, Tensor) else None
        if tensor is None and isinstance(output, (tuple, list)):
            tensor = next((t for t in output if isinstance(t, Tensor)), None)
        shapes.setdefault(name, None if tensor is None else shape_of(tensor))

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
