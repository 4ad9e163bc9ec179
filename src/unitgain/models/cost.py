"""What a model costs: parameters, and multiply-adds at the sizes of image it is made for.

`costs()` reads costs.json, because counting for every model takes almost a minute. After adding a model:
python -m unitgain.models.cost
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..nn import fold_
from .registry import create, names


@dataclass(frozen=True)
class Cost:
    """parameters; and for image models multiply-adds of one image at the side lengths for training and testing.

    Multiply-adds, which papers call FLOPs, are half of what torch's counter counts: those of convolutions and
    matrix products, none for activations, pooling and normalization.
    """

    parameters: int
    train_size: int | None = None
    train_macs: int | None = None
    test_size: int | None = None
    test_macs: int | None = None


def cost(name: str, **options: Any) -> Cost:
    """The cost of create(name, **options), found on torch's meta device: without memory for weights or images.

    >>> c = cost("nf_resnet50")
    >>> c.parameters, f"{c.train_macs / 1e9:.2f}"
    (25557032, '4.09')
    """
    try:
        with torch.device("meta"):
            model = create(name, **options)
    except NotImplementedError:  # its weights are drawn by a generator of its own
        model = create(name, **options)
    parameters = sum(p.numel() for p in model.parameters())
    sizes: Any = getattr(model, "config", None)
    train, test = getattr(sizes, "train_size", None), getattr(sizes, "test_size", None)
    if train is None or test is None:
        return Cost(parameters)
    fold_(model)  # the same multiply-adds, fewer operations to count them through
    macs = {size: _macs(model, size) for size in {train, test}}
    return Cost(parameters, train, macs[train], test, macs[test])


def costs() -> dict[str, Cost]:
    """The costs of all models with their default options, as counted by `cost` when the package was made."""
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: Cost(**row) for name, row in table.items()}


_TABLE = Path(__file__).with_name("costs.json")


@torch.no_grad()
def _macs(model: nn.Module, size: int) -> int:
    channels: Any = model.in_channels
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, channels, size, size, device="meta"))
    return counter.get_total_flops() // 2


if __name__ == "__main__":
    rows = [f"{json.dumps(name)}: {json.dumps(asdict(cost(name)))}" for name in names()]
    _TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
