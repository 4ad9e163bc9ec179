"""One row for each form that a batch may have: a model that takes it, and what is to be understood of it.

A new form is a new row in FORMS, and inherits every test of test_forms.py.
"""

from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

N, FEW, WIDTH, CLASSES = 64, 8, 4, 3  # FEW: in lists, where each example is an input of its own
OWN = "the model's own"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.fc2(torch.relu(self.fc1(x)))


class Core(nn.Module):
    """(N, 4) -> (N, 3), with residual blocks, so that every user of a batch has something to do."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(width, 16), nn.Sequential(Block(), Block())
        self.head = nn.Linear(16, CLASSES)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class OneInput(Core):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class TwoInputs(Core):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.logits(a + b)


class ListOfInputs(Core):
    def forward(self, features: list[Tensor]) -> Tensor:
        return self.logits(sum(features[1:], features[0]))


class NamedLoss(Core):
    """As Hugging Face's models."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.logits(x)
        return {"logits": logits} if labels is None else {
            "loss": F.cross_entropy(logits, labels), "logits": logits
        }  # fmt: skip


class LogitsAndLoss(Core):
    """As nanoGPT and minGPT."""

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.logits(idx)
        return logits, None if targets is None else F.cross_entropy(logits, targets)


class LossAndLogits(Core):
    def forward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(x)
        return F.cross_entropy(logits, targets), logits


class LossAlone(Core):
    def forward(self, x: Tensor, answers: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(x), answers)


class Reconstructs(Core):
    """Its loss is of the input alone."""

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).square().mean()


class FromMapping(Core):
    def forward(self, batch: Any) -> Tensor:
        return self.logits(batch["x"])


class FromObject(Core):
    def forward(self, batch: Any) -> dict[str, Tensor]:
        logits = self.logits(batch.x)
        return {"loss": F.cross_entropy(logits, batch.label), "logits": logits}


class Detects(Core):
    """As torchvision's detection models: lists in, several losses out while it trains."""

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        logits = self.logits(torch.stack([image.mean(0) for image in images]))
        if not self.training:
            return [{"scores": row} for row in logits]
        assert targets is not None
        labels = torch.stack([target["labels"] for target in targets])
        boxes = torch.stack([target["boxes"].mean() for target in targets])
        return {"loss_class": F.cross_entropy(logits, labels), "loss_box": F.mse_loss(logits[:, 0], boxes)}


class DetectsFromDicts(Core):
    def forward(self, batched: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        logits = self.logits(torch.stack([one["image"].mean(0) for one in batched]))
        labels = torch.stack([one["label"] for one in batched])
        return {
            "loss_class": F.cross_entropy(logits, labels),
            "accuracy": (logits.argmax(1) == labels).float().mean(),
        }


class Sparse(Core):
    def __init__(self) -> None:
        super().__init__(16)
        self.table = nn.Parameter(torch.randn(20, 16) / 20**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(torch.sparse.mm(x, self.table))


class Graph(Core):
    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return self.logits(x + torch.sparse.mm(adjacency, x))


class Nested(Core):
    """A linear layer on sequences of different lengths, then their means."""

    def __init__(self) -> None:
        super().__init__(8)
        self.first = nn.Linear(WIDTH, 8)

    def forward(self, x: Tensor) -> Tensor:
        padded = torch.nested.to_padded_tensor(self.first(x), 0.0)
        return self.logits(padded.mean(1))


class Tokens(Core):
    def __init__(self) -> None:
        super().__init__(8)
        self.embed = nn.Embedding(20, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.embed(tokens).mean(1))


class Packed(Core):
    def __init__(self) -> None:
        super().__init__(8)
        self.rnn = nn.GRU(WIDTH, 8, batch_first=True)

    def forward(self, packed: Any) -> Tensor:
        return self.logits(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0].mean(1))


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


Views = namedtuple("Views", ["a", "b"])


@dataclass
class Sample:
    x: Any
    labels: Any


@dataclass(frozen=True)
class Frozen:
    x: Any
    label: Any
    size: int = 3


class Annotated:
    """A batch class of one's own, with neither keys nor fields."""

    def __init__(self, x: Tensor, label: Tensor) -> None:
        self.x, self.label, self.name = x, label, "annotated"


class Encoding(UserDict):
    """Like Hugging Face's BatchEncoding: it iterates over its keys and has attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape or (N, WIDTH), generator=torch.Generator().manual_seed(seed))


def labels() -> Tensor:
    return torch.arange(N) % CLASSES


def images() -> list[Tensor]:
    return [noise(2 + i % 3, WIDTH, seed=i) for i in range(FEW)]


def boxes() -> list[dict[str, Tensor]]:
    return [{"boxes": noise(1 + i % 2, 4, seed=i), "labels": torch.tensor(i % CLASSES)} for i in range(FEW)]


def sparse() -> Tensor:
    keep = noise(N, 20, seed=1) > 0.5
    return torch.where(keep, noise(N, 20), 0.0).to_sparse()


def adjacency() -> Tensor:
    return (torch.eye(N).roll(1, 0) * 0.5).to_sparse()


def ragged(layout: torch.layout) -> Tensor:
    return torch.nested.nested_tensor([noise(2 + i % 3, WIDTH, seed=i) for i in range(N)], layout=layout)


def loader(make: Callable[[Tensor, Tensor], Any] = lambda x, y: (x, y)) -> torch.utils.data.DataLoader:
    rows = [make(x, y) for x, y in zip(torch.cat([noise(), noise(seed=1)]), torch.cat([labels(), labels()]))]
    return torch.utils.data.DataLoader(rows, batch_size=N)


class Endless:
    """A loader as one writes it in three lines."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __iter__(self) -> Any:
        while True:
            yield self.batch


def of_pairs(outputs: Tensor, target: Any) -> Tensor:
    return F.cross_entropy(outputs, target["kind"]) + F.mse_loss(outputs[:, 0], target["size"])


@dataclass(frozen=True)
class Form:
    """model, batch: make them anew; inputs: names of what goes in; loss, name: as given, as reported (None: none);
    target: whether there is one; passed: the keyword under which the model gets it too; slices: False where it has no
    examples that could be chosen; normalizes: False where UG201 has no remedy for it."""

    model: Callable[[], nn.Module]
    batch: Callable[[], Any]
    inputs: tuple[str, ...] = ("input",)
    name: str | None = "cross_entropy"
    loss: Any = "auto"
    target: bool = True
    passed: str | None = None
    examples: int | None = N
    slices: bool = True
    normalizes: bool = True


FORMS: dict[str, Form] = {
    "tensor": Form(OneInput, noise, name=None, target=False),
    "tuple of one": Form(OneInput, lambda: (noise(),), name=None, target=False),
    "pair": Form(OneInput, lambda: (noise(), labels())),
    "pair in a list": Form(OneInput, lambda: [noise(), labels()]),
    "float targets": Form(OneInput, lambda: (noise(), noise(N, CLASSES, seed=1)), name="mse"),
    "no target": Form(OneInput, lambda: (noise(), None), name=None, target=False),
    "no target, a loss without one": Form(
        OneInput, lambda: (noise(), None), name="<lambda>", loss=lambda out, _: out.square().mean(), target=False),
    "numbers as targets": Form(OneInput, lambda: (noise(), labels().tolist())),
    "an array of targets": Form(OneInput, lambda: (noise(), np.arange(N) % CLASSES)),
    "arrays": Form(OneInput, lambda: (noise().double().numpy(), labels().numpy()), normalizes=False),
    "a mapping of arrays": Form(
        OneInput, lambda: {"x": noise().numpy(), "y": labels().numpy()}, ("input[x]",), normalizes=False
    ),
    "image and label, as data sets call them": Form(OneInput, lambda: {"image": noise(), "label": labels()}),
    "image, label, and what is no tensor": Form(
        OneInput, lambda: {"path": ["a.png"] * N, "pixel_values": noise(), "labels": labels()}
    ),
    "keywords, and what is no tensor": Form(
        OneInput, lambda: {"text": ["a"] * N, "x": noise(), "y": labels()}, ("input[x]",)
    ),
    "a loader": Form(OneInput, lambda: loader(), normalizes=False),
    "a loader of mappings": Form(OneInput, lambda: loader(lambda x, y: {"img": x, "target": y}), normalizes=False),
    "a loader of one's own": Form(OneInput, lambda: Endless((noise(), labels()))),
    "several targets": Form(
        OneInput, lambda: (noise(), {"kind": labels(), "size": noise(N)}), name="of_pairs", loss=of_pairs
    ),
    "two inputs and a target": Form(TwoInputs, lambda: (noise(), noise(seed=1), labels()), ("input", "input[1]")),
    "two inputs alone": Form(
        TwoInputs, lambda: (noise(), noise(seed=1)), ("input", "input[1]"), name=None, target=False
    ),
    "inputs in a tuple": Form(TwoInputs, lambda: ((noise(), noise(seed=1)), labels()), ("input", "input[1]")),
    "input in a list": Form(OneInput, lambda: ([noise()], labels())),
    "a list that is one argument": Form(
        ListOfInputs, lambda: ([noise(), noise(seed=1)], labels()), ("input", "input[1]")
    ),
    "inputs by name": Form(OneInput, lambda: ({"x": noise()}, labels()), ("input[x]",)),
    "all by name": Form(OneInput, lambda: {"x": noise(), "y": labels()}, ("input[x]",)),
    "a nested mapping": Form(
        ListOfInputs, lambda: {"features": [noise(), noise(seed=1)], "label": labels()},
        ("input[features.0]", "input[features.1]"),
    ),
    "labels that the model takes": Form(
        NamedLoss, lambda: {"x": noise(), "labels": labels()}, ("input[x]", "input[labels]"), OWN, target=False),
    "a pair whose target the model takes": Form(
        NamedLoss, lambda: (noise(), labels()), ("input", "input[labels]"), OWN, passed="labels"),
    "ordered mapping": Form(OneInput, lambda: OrderedDict(x=noise(), target=labels()), ("input[x]",)),
    "default mapping": Form(
        OneInput, lambda: (defaultdict(list, {"x": noise()}), labels()), ("input[x]",)
    ),
    "read-only mapping": Form(OneInput, lambda: MappingProxyType({"x": noise(), "y": labels()}), ("input[x]",)),
    "mapping of one's own": Form(
        NamedLoss, lambda: Encoding(x=noise(), labels=labels()), ("input[x]", "input[labels]"), OWN, target=False),
    "a mapping that is one argument": Form(
        FromMapping, lambda: {"x": noise(), "y": labels()}, ("input[x]", "input[y]"),
        name="cross_entropy", loss=F.cross_entropy, target=False,
    ),
    "named tuple": Form(OneInput, lambda: Pair(noise(), labels())),
    "named tuple of inputs": Form(
        TwoInputs, lambda: (Views(noise(), noise(seed=1)), labels()), ("input", "input[1]")
    ),
    "dataclass": Form(NamedLoss, lambda: Sample(noise(), labels()), ("input[x]", "input[labels]"), OWN, target=False),
    "frozen dataclass that is one argument": Form(
        FromObject, lambda: Frozen(noise(), labels()), ("input[x]", "input[label]"), OWN, target=False),
    "object that is one argument": Form(
        FromObject, lambda: Annotated(noise(), labels()), ("input[x]", "input[label]"), OWN, target=False),
    "logits and loss": Form(
        LogitsAndLoss, lambda: (noise(), labels()), ("input", "input[targets]"), OWN, passed="targets"
    ),
    "loss and logits": Form(
        LossAndLogits, lambda: (noise(), labels()), ("input", "input[targets]"), OWN, passed="targets"
    ),
    "a loss alone": Form(
        LossAlone, lambda: (noise(), labels()), ("input", "input[answers]"), OWN, None, passed="answers"
    ),
    "a loss of the input": Form(Reconstructs, lambda: (noise(), labels()), name=OWN),
    "lists as detectors take": Form(
        Detects, lambda: (images(), boxes()),
        (*("input" if i == 0 else f"input[{i}]" for i in range(FEW)),
         *(f"input[targets.{i}.{key}]" for i in range(FEW) for key in ("boxes", "labels"))),
        OWN, normalizes=False, examples=FEW, passed="targets"),
    "a list of mappings": Form(
        DetectsFromDicts, lambda: [{"image": x, "label": y} for x, y in zip(images(), labels())],
        tuple(f"input[{i}.{key}]" for i in range(FEW) for key in ("image", "label")), OWN,
        normalizes=False, examples=FEW, target=False,
    ),
    "sparse": Form(Sparse, lambda: (sparse(), labels()), normalizes=False),
    "sparse, compressed": Form(Sparse, lambda: (sparse().to_sparse_csr(), labels()), normalizes=False),
    "graph": Form(Graph, lambda: ((noise(), adjacency()), labels()), ("input", "input[1]"), slices=False),
    "nested": Form(Nested, lambda: (ragged(torch.strided), labels()), normalizes=False),
    "nested, jagged": Form(Nested, lambda: (ragged(torch.jagged), labels()), normalizes=False),
    "tokens": Form(
        Tokens, lambda: (torch.arange(N * 5).reshape(N, 5) % 20, labels()), normalizes=False
    ),
    "packed sequence": Form(
        Packed, lambda: (pack_padded_sequence(noise(N, 5, WIDTH), [5] * N, batch_first=True), labels()),
        slices=False, normalizes=False,
    ),
}  # fmt: skip
