"""A small run with everything that has a memory, for the tests that kill it: importable by child processes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from kills import die, die_on
from torch import nn

from unitgain.train import (
    EMA,
    Accumulate,
    ActivationStats,
    Callback,
    Checkpoint,
    Clip,
    InMemoryLoader,
    Learner,
    Metrics,
    MixedPrecision,
    Normalize,
    Recorder,
    Schedule,
)

KINDS = ("memory", "loader", "generator", "list", "everything")


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 24), nn.BatchNorm1d(24), nn.Dropout(0.3), nn.ReLU(), nn.Linear(24, 4))


class Carries(nn.Module):
    """As Hugging Face models: keyword arguments in, a mapping with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x, labels):
        logits = self.fc(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def xy(n: int = 40):
    """Examples of four classes that two of six numbers decide."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(n, 6, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def data(kind: str):
    generator = torch.Generator().manual_seed(2)
    x, y = 3 + torch.randn(100, 6, generator=generator), torch.randint(4, (100,), generator=generator)
    if kind in ("memory", "everything"):

        def noisy(batch):  # draws from the global random state, as augmentation does
            return batch[0] + 0.1 * torch.randn_like(batch[0]), batch[1]

        return InMemoryLoader((x, y), 10, shuffle=True, transform=noisy)
    if kind == "list":
        return [(x[i : i + 10], y[i : i + 10]) for i in range(0, 100, 10)]
    own = torch.Generator().manual_seed(5) if kind == "generator" else None
    dataset = torch.utils.data.TensorDataset(x, y)
    return torch.utils.data.DataLoader(dataset, batch_size=10, shuffle=True, generator=own)


def learner(kind: str, folder: Path | None, every: int = 3, extra: tuple[Callback, ...] = ()) -> Learner:
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    callbacks: list[Callback] = [Metrics(), *extra]
    if kind == "everything":
        callbacks += [
            Normalize(), Accumulate(2), Clip(1.0), EMA(0.9), MixedPrecision(torch.bfloat16), Recorder(),
            ActivationStats(5),
            Schedule(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
        ]  # fmt: skip
    if folder is not None:
        callbacks.append(Checkpoint(folder / "checkpoints", every=every, best="valid_loss"))
    valid = InMemoryLoader((torch.randn(20, 6), torch.randint(4, (20,))), 10)
    record = folder / "run.sqlite" if folder is not None and kind == "everything" else None
    return Learner(net, (data(kind), valid), "auto", optimizer, callbacks, record=record)


def train(kind: str, folder: Path | None, every: int = 3, extra: tuple[Callback, ...] = ()) -> Learner:
    """Two fits, from the beginning or from the last checkpoint."""
    torch.manual_seed(3)
    learn = learner(kind, folder, every, extra)
    if folder is not None:
        learn.resume(folder / "checkpoints")
    if kind == "everything":
        learn.fit(3)
    else:
        learn.fit_one_cycle(3, 0.02)
    learn.fit(1)
    return learn


def digest(learn: Learner) -> str:
    """Of every bit that training has made: weights, buffers, optimizer, random state."""
    found = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
    tensors = [*learn.model.state_dict().values()]
    tensors += [v for s in learn.optimizer.state_dict()["state"].values() for v in s.values()]
    for callback in learn.callbacks:
        if isinstance(callback, EMA):
            tensors += callback.average.values()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return f"{found.hexdigest()} {learn.steps} {learn.history}"


class DieAt(Callback):
    """kill -9 from within, after the given number of batches."""

    order = 200
    essential = False

    def __init__(self, batch: int):
        self.left = batch

    def after_batch(self, learn: Learner) -> None:
        self.left -= 1
        if self.left == 0:
            die()


def child(kind: str, folder: Path, result: Path, death: tuple | None, every: int) -> None:
    """What a child process does: trains, maybe to a violent end, and writes down what came out."""
    torch.set_num_threads(1)
    extra: tuple[Callback, ...] = ()
    if death is not None and death[0] == "batch":
        extra = (DieAt(death[1]),)
    elif death is not None:
        die_on(*death)
    result.write_text(digest(train(kind, folder, every, extra)))
