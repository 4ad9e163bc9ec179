"""What a rule finds of plain outputs it finds of the same outputs in a tuple, a mapping, a dataclass, an object."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain._batch import tensors_in


@dataclass
class Out:
    logits: Tensor
    hidden: Tensor | None = None


@dataclass
class OutWithLoss:
    loss: Tensor
    prediction: Tensor


class Named(NamedTuple):
    scores: Tensor
    hidden: Tensor


class Own:
    def __init__(self, scores: Tensor):
        self.scores = scores


class ByKeyAndPlace(OrderedDict):  # type: ignore[type-arg]
    """As transformers' ModelOutput is: entries are attributes too, and have places."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


Form = Callable[[Tensor, Any], Any]
FORMS: dict[str, Form] = {
    "plain": lambda y, loss: y,
    "tuple": lambda y, loss: (y, y.detach().mean(-1)),
    "mapping": lambda y, loss: {"prediction": y},
    "nested": lambda y, loss: {"head": {"scores": (y,)}},
    "dataclass": lambda y, loss: Out(y, 2 * y.detach()),
    "named tuple": lambda y, loss: Named(y, y.detach()),
    "object": lambda y, loss: Own(y),
    "loss first": lambda y, loss: (loss, y),
    "loss in a mapping": lambda y, loss: {"loss": loss, "out": y},
    "loss in a dataclass": lambda y, loss: OutWithLoss(loss, y),
    "model output": lambda y, loss: ByKeyAndPlace(loss=loss, logits=y),
}


class Formed(nn.Module):
    def __init__(self, core: nn.Module, form: Form):
        super().__init__()
        self.core, self.form = core, form

    def forward(self, x: Tensor, z: Tensor | None = None, labels: Tensor | None = None) -> Any:
        y = self.core(x)
        loss = None if labels is None else F.cross_entropy(y.flatten(0, -2), labels.flatten())
        return self.form(y, loss)


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 12), nn.Linear(12, 3)  # takes the examples for time

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Foresees(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 16), nn.Parameter(torch.randn(12, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.head = nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x) + self.place))


def _padded() -> Tensor:
    x = torch.randint(1, 20, (32, 16))
    for i in range(32):
        x[i, 5 + i % 11 :] = 0
    return x


class Averages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.head = (
            nn.Embedding(20, 12),
            nn.GRU(12, 12, batch_first=True),
            nn.Linear(12, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.embed(x))[0].mean(1))


def _linear(*widths: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))


def _sick(code: str) -> tuple[nn.Module, dict[str, Tensor]]:
    labels = functools.partial(torch.randint, 0, 3)
    if code == "UG603":
        return Reads(), {"x": torch.randn(24, 8, 6), "labels": labels((24,))}
    if code == "UG802":
        text = torch.randint(0, 20, (16, 13))
        return Foresees(), {"x": text[:, :-1], "labels": text[:, 1:]}
    if code == "UG805":
        return Averages(), {"x": _padded(), "labels": labels((32,))}
    if code == "UG205":
        body = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
        return body, {"x": torch.randn(64, 6), "z": torch.randn(64, 5), "labels": labels((64,))}
    return _linear(6, 24, 24, 3), {"x": torch.randn(64, 6), "labels": labels((64,))}


def gives_loss(form: str) -> bool:
    return "loss" in form or form == "model output"


def of_outputs(outputs: Any, labels: Tensor) -> Tensor:
    y = next(tensors_in(vars(outputs) if isinstance(outputs, Own) else outputs))
    return F.cross_entropy(y.flatten(0, -2), labels.flatten())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", ["UG205", "UG603", "UG802", "UG803", "UG805"])
def test_outputs_are_seen_in_every_form(code: str, form: str) -> None:
    torch.manual_seed(0)
    core, batch = _sick(code)
    found = ug.check(Formed(core, FORMS[form]), batch, loss="auto" if gives_loss(form) else of_outputs)
    assert code in [f.code for f in found.findings]
