"""One model of the zoo with its batch, its loss, and what must stay as it is around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, CLASSES, EXAMPLES = 6, 3, 8


def vectors() -> tuple[Tensor, Tensor]:
    return torch.randn(EXAMPLES, FEATURES), torch.randint(0, CLASSES, (EXAMPLES,))


def images() -> tuple[Tensor, Tensor]:
    return torch.randn(EXAMPLES, 2, 6, 6), torch.randint(0, CLASSES, (EXAMPLES,))


def tokens() -> tuple[Tensor, Tensor]:
    return torch.randint(0, 10, (EXAMPLES, 5)), torch.randint(0, CLASSES, (EXAMPLES,))


@dataclass
class Case:
    """outside: what must not change although it is no part of the model; not_rewound: what the report has to name."""

    model: nn.Module
    batch: Any = field(default_factory=vectors)
    loss: Any = F.cross_entropy
    outside: dict[str, Any] = field(default_factory=dict)
    not_rewound: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()  # tensors whose memory was given back: the same values come to lie elsewhere


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case | nn.Module]) -> Callable[[], Case | nn.Module]:
    """Registers a function that makes a model (with a batch of vectors and cross entropy) or a whole Case."""
    name = make.__name__.replace("_", " ")
    assert name not in CASES, name

    def made() -> Case:
        found = make()
        return found if isinstance(found, Case) else Case(found)

    CASES[name] = made
    return make


class Body(nn.Module):
    """features -> hidden -> classes, with a residual sum; subclasses do in `during` what they are there for."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(torch.relu(self.norm(self.fc(x))))
        x = self.during(x)
        return self.head(x)

    def during(self, x: Tensor) -> Tensor:
        return x
