"""Data-parallel runs: which rank writes, and moments of all ranks, merged exactly.

Parameters, their gradients (averaged by then) and updates are the same on every rank. Inputs, activations and the
gradients of activations are not: each rank packs its sums into one vector, and rank 0 adds those of the others.
"""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor
from torch import distributed as dist

from .. import stats
from ..record import Record
from ..stats import Partial
from .step import Step

_OWN = ("input", "activation", "gradient")  # kinds that differ between ranks
_SCALARS = ("zeros", "saturated", "nonfinite", "cosine", "spread")


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes) of this one: of the process group or, where there is none, as torchrun set them."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return (int(rank), int(world)) if rank.isdecimal() and world.isdecimal() else (0, 1)


def record_of_rank(to: str | os.PathLike[str] | None, *, overwrite: bool, merge: bool) -> Record:
    """The record that this process writes: "{rank}" in the path is its rank; without that rank 0 has the file, and
    the other ranks keep what they measure in temporary records."""
    path = None if to is None else os.fspath(to)
    if path is None or "{rank}" in path:
        return Record(path and path.replace("{rank}", str(rank_and_world()[0])), overwrite=overwrite)
    rank, world = rank_and_world()
    if rank == 0 and world > 1 and not merge:
        warnings.warn(
            f"Probe(to={path!r}): of {world} processes only rank 0 writes this file, with what it measures itself; the "
            "others keep theirs in temporary records. merge_ranks=True merges all into it; {rank} in the path gives "
            "each its own file.",
            stacklevel=3,
        )
    return Record(None if rank else path, overwrite=overwrite)


def merge_over_ranks(step: Step) -> bool:
    """Adds the other ranks' measurements of this step to rank 0's; called by all ranks. True on rank 0.

    A rank whose sites differ from rank 0's in number or shape (its part of the model did not run) is left out.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return True
    step.reduce_held()
    partials = [p for (kind, _), p in step.partials.items() if kind in _OWN]
    flat = {key: values for key, values in step.flat.items() if key[0] in _OWN}
    mine = torch.cat([*(_pack(p) for p in partials), *(v.double().flatten().cpu() for v in flat.values()),
                      torch.zeros(1, dtype=torch.float64)])  # fmt: skip
    layout = torch.tensor([len(partials), len(flat), mine.numel()])
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    longest = torch.tensor([mine.numel()], device=device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    sent = torch.zeros(int(longest) + 3, dtype=torch.float64)
    sent[:3], sent[3 : 3 + mine.numel()] = layout.double(), mine
    everyone = [torch.empty_like(sent, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, sent.to(device))
    if dist.get_rank():
        return False
    for vector in (v.cpu() for v in everyone[1:]):
        if torch.equal(vector[:3].long(), layout):
            _add(vector[3:], partials, flat, step)
    _average_gradients(step, 1 / dist.get_world_size())
    return True


def _add(vector: Tensor, partials: list[Partial], flat: dict[tuple[str, str], Tensor], step: Step) -> None:
    at = 0
    for mine in partials:
        length = _pack(mine).numel()
        mine.merge(_unpack(vector[at : at + length], mine))
        at += length
    for (kind, name), values in flat.items():
        other = vector[at : at + values.numel()].to(values)
        at += values.numel()
        step.add_flat(kind, name, other.reshape(values.shape))


def _average_gradients(step: Step, share: float) -> None:
    """Each rank's loss is the mean over its own examples; what one process would see is the share of that."""
    for (kind, _), p in step.partials.items():
        if kind == "gradient":
            p.total, p.squares, p.shift = p.total * share, p.squares * share**2, p.shift * share
            p.high, p.low = p.high * share, p.low * share
            p.sample = None if p.sample is None else p.sample * share
    for key in [key for key in step.flat if key[0] == "gradient"]:
        step.flat[key] = step.flat[key] * share


def _pack(p: Partial) -> Tensor:
    """[count, shift, scalars (NaN where absent), total, squares, high, low, channel counts?, alive?] in float64."""
    scalars = [float(p.scalars.get(name, float("nan"))) for name in _SCALARS]
    vectors = [p.total, p.squares, p.high, p.low]
    counts = p.scalars.get("channel_counts")
    if isinstance(counts, Tensor):
        vectors.append(counts)
    if p.alive is not None:
        vectors.append(p.alive)
    head = torch.tensor([float(p.count), p.shift, *scalars], dtype=torch.float64)
    return torch.cat([head, *(v.detach().double().cpu().flatten() for v in vectors)])


def _unpack(vector: Tensor, like: Partial) -> Partial:
    count, shift, *values = vector[: 2 + len(_SCALARS)].tolist()
    parts = list(vector[2 + len(_SCALARS) :].split(like.channels))
    device = like.total.device
    total, squares, high, low = (part.to(device) for part in parts[:4])
    rest = parts[4:]
    scalars: dict[str, Tensor | float] = {
        name: value for name, value in zip(_SCALARS, values) if name in like.scalars
    }
    if isinstance(like.scalars.get("channel_counts"), Tensor):
        scalars["channel_counts"] = rest.pop(0).to(device)
    alive = rest.pop(0).bool().to(device) if like.alive is not None else None
    return stats.Partial(int(count), total, squares, high, low, shift, alive, scalars)
