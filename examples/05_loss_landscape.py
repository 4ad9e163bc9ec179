"""What shortcuts do to the loss: 20 layers without and with them, trained a little, and the loss around the weights.

    python examples/05_loss_landscape.py          # writes landscape.png

The same in one command, on any two networks:

    unitgain landscape examples/05_loss_landscape.py:plain --against examples/05_loss_landscape.py:residual \\
        --dataset names --batch 256 --steps 300 --out landscape.png
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug


class Layer(nn.Module):
    """f(x), or x + f(x), where f is a linear layer, BatchNorm and ReLU."""

    def __init__(self, width: int, shortcut: bool):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, width)
        y = F.relu(self.norm(self.linear(x)))
        return x + y if self.shortcut else y


def network(shortcuts: bool, depth: int = 20, width: int = 32) -> nn.Sequential:
    """Three characters in, the next one out."""
    torch.manual_seed(0)
    first = [nn.Embedding(27, 10), nn.Flatten(), nn.Linear(3 * 10, width)]
    return nn.Sequential(*first, *(Layer(width, shortcuts) for _ in range(depth)), nn.Linear(width, 27))


def plain() -> nn.Sequential:
    return network(shortcuts=False)


def residual() -> nn.Sequential:
    return network(shortcuts=True)


def main(steps: int = 300, points: int = 17) -> None:
    data = ug.data.load_names().train
    results = []
    for make in (plain, residual):
        batches = data.batches(256, torch.Generator().manual_seed(0))
        result = ug.landscape(make(), next(batches), steps=steps, data=batches, points=points)
        print(f"{make.__name__}: {result.summary}")
        results.append(result)
    ug.plots.landscape(results, labels=["plain", "residual"]).savefig("landscape.png")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
