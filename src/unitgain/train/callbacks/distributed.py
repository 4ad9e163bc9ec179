"""Distributed: the same training on several processes, each with its share of every batch.

Started by torchrun, which sets the environment; gloo on CPUs, NCCL on GPUs. DistributedDataParallel averages the
gradients. For a network without batch statistics the run is the single process's, up to rounding: the batch size is
that of all ranks together, and every rank takes an equal share of each batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.utils.data import DataLoader

from ..._base import InputError
from ..._batch import map_tensors
from ..callback import Callback
from ..data import Data, length
from ..loader import InMemoryLoader

if TYPE_CHECKING:
    from ..learner import Learner


class Distributed(Callback):
    """Makes a Learner one rank of a data-parallel run; without torchrun it does nothing.

    - the model is moved to this rank's device and wrapped in DistributedDataParallel (options go there); rank 0's
      weights are everybody's
    - a batch of the data is the batch of all ranks: each takes its share. In training the shares are equal, so up to
      world - 1 examples of an epoch's last batch are left out; in validation none is
    - losses, metrics and a Probe's moments are those of all ranks; rank 0 writes records and checkpoints

    It must be given to the Learner, before anything has run. Raises InputError for batches with fewer examples than
    ranks.
    """

    order = -100

    def __init__(self, backend: str | None = None, **options: Any):
        self.backend, self.options = backend, options
        self.device: torch.device | None = None
        self._ready = False

    def before_fit(self, learn: Learner) -> None:
        if self._ready or not _started_by_torchrun():
            return
        self._ready = True
        cuda = torch.cuda.is_available() and self.backend in (None, "nccl")
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        if not dist.is_initialized():
            dist.init_process_group(self.backend or ("nccl" if cuda else "gloo"))
        learn.rank, learn.world = dist.get_rank(), dist.get_world_size()
        if learn._record is not None and learn.rank:
            learn._record = None
        if cuda:
            learn.model.to(torch.cuda.current_device())
            self.device = torch.device("cuda", torch.cuda.current_device())
        learn.collective_device = self.device
        if learn.world == 1:
            return
        learn.network = nn.parallel.DistributedDataParallel(
            learn.model, device_ids=[self.device.index] if self.device is not None else None, **self.options
        )
        learn.data = Data(
            _shard(learn.data.train, learn, equal=True),
            None if learn.data.valid is None else _shard(learn.data.valid, learn, equal=False),
        )
        if learn.rank:  # or dropout would be the same on all ranks
            torch.manual_seed(torch.initial_seed() + learn.rank)

    def before_batch(self, learn: Learner) -> None:
        if self.device is not None:
            device = self.device
            learn.batch = map_tensors(learn.batch, lambda t: t.to(device, non_blocking=True))


def _started_by_torchrun() -> bool:
    return dist.is_available() and ("RANK" in os.environ or dist.is_initialized())


def _shard(loader: Any, learn: Learner, *, equal: bool) -> Any:
    if isinstance(loader, InMemoryLoader):
        if equal and loader.batch_size < learn.world:
            raise InputError(f"data: batches of {loader.batch_size} cannot be shared by {learn.world} ranks")
        loader.shard(learn.rank, learn.world, equal=equal)
        return loader
    if isinstance(loader, DataLoader) and loader.batch_sampler is not None:
        sampler = _BatchShares(loader.batch_sampler, learn, equal)
        return DataLoader(
            loader.dataset, batch_sampler=sampler, num_workers=loader.num_workers, collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context, generator=loader.generator,
            prefetch_factor=loader.prefetch_factor, persistent_workers=loader.persistent_workers,
        )  # fmt: skip
    kind = _Shares if length(loader) is None else _SizedShares
    return kind(loader, learn.rank, learn.world, equal)


class _BatchShares:
    """This rank's part of each batch's indices, so that it loads nothing else. Rank 0 decides the order."""

    def __init__(self, sampler: Any, learn: Learner, equal: bool):
        self.sampler, self.equal = sampler, equal
        self.rank, self.world, self.device = learn.rank, learn.world, learn.collective_device

    @property
    def generator(self) -> Any:
        return getattr(getattr(self.sampler, "sampler", None), "generator", None)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Any]]:
        own, shared = torch.get_rng_state(), torch.get_rng_state().to(self.device or "cpu")
        dist.broadcast(shared, 0)
        torch.set_rng_state(shared.cpu())
        batches = iter(self.sampler)
        batch = next(batches, None)  # samplers draw their order now
        if self.rank:
            torch.set_rng_state(own)
        while batch is not None:
            part = share(batch, self.rank, self.world, self.equal)
            if part:
                yield part
            batch = next(batches, None)


class _Shares:
    """This rank's part of each batch of any iterable: all ranks read all of it."""

    def __init__(self, loader: Iterable[Any], rank: int, world: int, equal: bool):
        self.loader, self.rank, self.world, self.equal = loader, rank, world, equal

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            sizes: list[int] = []
            map_tensors(batch, lambda t, sizes=sizes: sizes.append(t.shape[0]) if t.dim() else None)
            if min(sizes, default=0) >= (self.world if self.equal else self.rank + 1):
                yield map_tensors(batch, self._part)

    def _part(self, tensor: Tensor) -> Tensor:
        return share(tensor, self.rank, self.world, self.equal) if tensor.dim() else tensor


class _SizedShares(_Shares):
    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]


def share(whole: Any, rank: int, world: int, equal: bool) -> Any:
    """A rank's part of a list or a tensor: equal parts with a rest left out, or all of it in almost equal parts.

    >>> share([1, 2, 3, 4, 5], rank=1, world=2, equal=True), share([1, 2, 3, 4, 5], 0, 2, equal=False)
    ([3, 4], [1, 2, 3])
    """
    each, rest = divmod(len(whole), world)
    if equal:
        return whole[rank * each : (rank + 1) * each]
    first = rank * each + min(rank, rest)
    return whole[first : first + each + (rank < rest)]
