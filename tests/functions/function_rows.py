"""What a case is, and the parts that cases are built from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from case_rows import Rows

Arguments = tuple[nn.Module, Any, dict[str, Any]]
CE, MSE, BCE_LOGITS = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits


CASES: Rows[Arguments] = Rows()
ROWS, sick, healthy = CASES.rows, CASES.sick, CASES.healthy


# ---- networks and data -----------------------------------------------------------------------------------------


class Net(nn.Module):
    """Parts by name and a function that runs them. Tensors become buffers."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not part.requires_grad:
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        return self.run(self, *inputs, **named)


def chain(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*layers[:-1])


def vectors(n: int = 64, width: int = 12) -> Tensor:
    return torch.randn(n, width)


def labels(x: Tensor, classes: int = 4) -> Tensor:
    return (x.flatten(1) @ torch.randn(x[0].numel(), classes)).argmax(1)


def values(x: Tensor, columns: int = 1) -> Tensor:
    """Targets (N, columns) of mean zero and variance one."""
    y = torch.tanh(x.flatten(1) @ torch.randn(x[0].numel(), columns) / x[0].numel() ** 0.5)
    return (y - y.mean(0)) / y.std(0)


def pictures(n: int = 32, size: int = 8) -> Tensor:
    return torch.randn(n, 3, size, size)


def sequences(n: int = 24, steps: int = 10, width: int = 6) -> Tensor:
    return torch.randn(n, steps, width)


def text(n: int = 16, steps: int = 12, words: int = 20) -> tuple[Tensor, Tensor]:
    """Tokens (n, steps) and the same shifted by one."""
    whole = torch.randint(0, words, (n, steps + 1))
    return whole[:, :-1].contiguous(), whole[:, 1:].contiguous()


def flat_ce(outputs: Tensor, target: Tensor) -> Tensor:
    return CE(outputs.reshape(-1, outputs.shape[-1]), target.reshape(-1))


def trained(
    model: nn.Module, x: Any, t: Tensor, loss: Any = CE, steps: int = 150, lr: float = 1e-2
) -> nn.Module:
    """On parts of 32 of the data, drawn anew at each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    model.train()
    for _ in range(steps):
        part = torch.randint(0, len(t), (min(32, len(t)),))
        optimizer.zero_grad()
        loss(model(x[part]), t[part]).backward()
        optimizer.step()
    return model
