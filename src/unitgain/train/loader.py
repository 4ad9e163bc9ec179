"""InMemoryLoader: batches of tensors that fit into memory, gathered on their device, without work per example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._base import InputError

_CHUNK_BYTES = (
    4 * 2**20
)  # so many bytes are gathered at once: fewer calls for small batches, and the cache holds it
_MOST_BATCHES = 64


class InMemoryLoader:
    """Cuts tensors of equal first axis into batches.

    tensors      a tensor or several: (inputs, targets)
    batch_size   examples per batch; the last batch of an epoch may be smaller, unless drop_last
    shuffle      a new order every epoch, drawn by the loader's own generator, not torch's global one
    device       where the tensors are kept and the batches are made; None: they are not moved
    seed         of the orders; or give a CPU generator
    transform    applied to each batch, a tuple of tensors: data augmentation on whole batches
    replacement  draw every batch with replacement by torch.randint, `batches` of them per epoch

    Batches are copies, so that working on them in place does not change the data. `state_dict` gives the order
    and the position in it, from which `load_state_dict` makes the next epoch continue.

    >>> loader = InMemoryLoader((torch.arange(5), torch.arange(5) * 10), batch_size=2)
    >>> [y.tolist() for _, y in loader]
    [[0, 10], [20, 30], [40]]
    """

    def __init__(
        self,
        tensors: Tensor | Sequence[Tensor],
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        device: str | torch.device | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
        transform: Callable[[tuple[Tensor, ...]], Any] | None = None,
        replacement: bool = False,
        batches: int | None = None,
    ):
        given = (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)
        if not given or not all(isinstance(t, Tensor) and t.dim() for t in given):
            raise InputError("InMemoryLoader(tensors=...): expected one or more tensors with a first axis")
        sizes = {t.shape[0] for t in given}
        if len(sizes) > 1 or 0 in sizes:
            shapes = ", ".join(str(tuple(t.shape)) for t in given)
            raise InputError(
                f"InMemoryLoader(tensors=...): the first axes must be equal and not 0, got {shapes}"
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(
                f"InMemoryLoader(batch_size={batch_size!r}): expected a whole number of at least 1"
            )
        if replacement != (batches is not None):
            raise InputError("InMemoryLoader: replacement=True and batches=N (per epoch) go together")
        if drop_last and not replacement and batch_size > given[0].shape[0]:
            raise InputError(
                f"InMemoryLoader(batch_size={batch_size}, drop_last=True): there are {given[0].shape[0]} examples, so "
                "not one batch"
            )
        if generator is not None and generator.device.type != "cpu":
            raise InputError(
                "InMemoryLoader(generator=...): the orders are drawn on the CPU; give a CPU generator"
            )
        self.tensors = tuple(t.to(device) for t in given) if device is not None else given
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.transform, self.replacement, self.batches = transform, replacement, batches
        self.generator = generator if generator is not None else torch.Generator().manual_seed(seed)
        self.rank, self.world, self.equal = 0, 1, False
        self._epoch_start: Tensor | None = None  # the generator's state before this epoch's order was drawn
        self._position = 0  # batches of this epoch that have been given out
        self._resuming = False

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    @property
    def examples(self) -> int:
        return self.tensors[0].shape[0]

    def __len__(self) -> int:
        if self.batches is not None:
            return self.batches
        whole, rest = divmod(self.examples, self.batch_size)
        smallest = (
            self.world if self.equal else 1
        )  # a batch with less than an example for each rank is skipped
        return whole + (rest >= smallest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        if not self._resuming:
            self._position = 0
        self._resuming = False
        self._epoch_start = self.generator.get_state()
        try:
            for batch in self._iterate(self._position):
                self._position += 1
                yield batch if self.transform is None else self.transform(batch)
        finally:  # also when the loop ends early: the next one begins a new epoch
            self._epoch_start, self._position = None, 0

    def _iterate(self, first: int) -> Iterator[tuple[Tensor, ...]]:
        size, count = self.batch_size, len(self)
        bytes_per_batch = size * sum(t[:1].numel() * t.element_size() for t in self.tensors)
        together = max(1, min(_MOST_BATCHES, _CHUNK_BYTES // max(1, bytes_per_batch)))
        order = None
        if self.shuffle and not self.replacement:
            order = torch.randperm(self.examples, generator=self.generator)
        if self.replacement:
            for _ in range(first):
                self._draw()
        for start in range(first, count, together):
            batches = range(start, min(start + together, count))
            if self.replacement:
                pieces = [self._draw() for _ in batches]
            else:
                ends = [(i * size, min((i + 1) * size, self.examples)) for i in batches]
                pieces = [torch.arange(*e) if order is None else order[slice(*e)] for e in ends]
            pieces = [self._share(piece) for piece in pieces]
            index = torch.cat(pieces)
            if self.device.type == "cuda":  # from pinned memory, so that nothing waits for the copy
                index = index.pin_memory()
            index = index.to(self.device, non_blocking=True)
            sizes = [len(piece) for piece in pieces]
            columns = [t.index_select(0, index).split(sizes) for t in self.tensors]
            yield from (batch for batch, length in zip(zip(*columns), sizes) if length)

    def _draw(self) -> Tensor:
        return torch.randint(0, self.examples, (self.batch_size,), generator=self.generator)

    def shard(self, rank: int, world: int, *, equal: bool) -> None:
        """Gives this rank its share of every batch. equal: shares of the same size, without up to world - 1
        examples of a batch; otherwise all examples are used, and a rank may have no share of a small last batch."""
        self.rank, self.world, self.equal = rank, world, equal

    def _share(self, index: Tensor) -> Tensor:
        if self.world == 1:
            return index
        if self.equal:
            each = len(index) // self.world
            return index[self.rank * each : (self.rank + 1) * each]
        return index.tensor_split(self.world)[self.rank]

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch is: the generator's state when it began, and the number of batches given out."""
        start = self.generator.get_state() if self._epoch_start is None else self._epoch_start
        return {"generator": start, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self._position = int(state["position"])
        self._resuming = True
