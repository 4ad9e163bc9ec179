"""What a case is, and the parts that cases are built from."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Arguments = tuple[nn.Module, Any, dict[str, Any]]
CE, MSE, BCE_LOGITS = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits


@dataclass(frozen=True)
class Row:
    """build: -> (model, batch, further arguments) of one `ug.check`; part: of what the rule is to find, where that was
    written in several parts."""

    rule: str
    name: str
    sick: bool
    build: Callable[[], Arguments]
    part: str = ""


ROWS: list[Row] = []
Build = Callable[[], Arguments]


def sick(rule: str, part: str = "") -> Callable[[Build], Build]:
    return _register(rule, True, part)


def healthy(rule: str, part: str = "") -> Callable[[Build], Build]:
    return _register(rule, False, part)


def _register(rule: str, is_sick: bool, part: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        if all(row.name != build.__name__ for row in ROWS):  # a file may be imported under two names
            ROWS.append(Row(rule, build.__name__, is_sick, build, part))
        return build

    return register


def held_out() -> frozenset[str]:
    """Half of the sick and half of the healthy rows of each rule, drawn by chance before the rule was written."""
    names: set[str] = set()
    for rule, part in sorted({(row.rule, row.part) for row in ROWS}):
        for is_sick in (True, False):
            group = [r.name for r in ROWS if (r.rule, r.part, r.sick) == (rule, part, is_sick)]
            seed = f"{rule} {is_sick}" + (f" {part}" if part else "")
            names.update(random.Random(seed).sample(group, len(group) // 2))
    return frozenset(names)


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
