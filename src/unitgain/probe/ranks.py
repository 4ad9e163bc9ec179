"""Several processes of one training: which writes, and how what all have measured comes together.

Of replicated models (DDP) and those that FSDP2 cuts up, every rank has its own examples: inputs, activations and their
gradients differ, and their sums are added. Parameters, their gradients and updates are the same everywhere or, if cut
up, the sum of the ranks' pieces (sharded.py). Each rank packs its part of a step into one message to rank 0.

Messages go through the key-value store of the process group, not through a collective: a rank without a Probe, or whose
Probe has failed, then leaves no other waiting, and the order of the training's own collectives is not touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor, nn
from torch import distributed as dist

from .. import stats
from ..record import Record
from ..stats import Partial
from .sharded import is_sharded
from .step import Step

_OWN = ("input", "activation", "gradient")  # kinds that differ between ranks
_SCALARS = ("zeros", "saturated", "nonfinite", "cosine", "spread")
_PATIENCE = timedelta(seconds=60)  # for a rank's part of a step that rank 0 has finished
_started: dict[str, int] = {}  # Probes of this process by their model's class: the same on every rank


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes) of this one: of the process group or, where there is none, as torchrun set them."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    return (int(rank), int(world)) if rank.isdecimal() and world.isdecimal() else (0, 1)


def record_of_rank(to: str | os.PathLike[str] | None, *, overwrite: bool) -> Record:
    """The record that this process writes: "{rank}" in the path is its rank; without that rank 0 has the file, and
    the other ranks keep what they measure in temporary records."""
    path = None if to is None else os.fspath(to)
    if path is None or "{rank}" in path:
        return Record(path and path.replace("{rank}", str(rank_and_world()[0])), overwrite=overwrite)
    return Record(None if rank_and_world()[0] else path, overwrite=overwrite)


class Ranks:
    """Brings the other ranks' parts of each step to rank 0.

    wanted  None: if there is a process group when training begins
    say     takes what the user should know
    """

    def __init__(self, model: nn.Module, wanted: bool | None, say: Callable[[str], None]):
        self._model, self._wanted, self._say = model, wanted, say
        self._store: Any = None
        self._key = ""
        self._members: list[int] | None = None  # the ranks that take part, beside rank 0

    @property
    def merging(self) -> bool:
        return self._store is not None

    def start(self) -> None:
        """Tells the others that this rank takes part."""
        rank, world = rank_and_world()
        if self._wanted is False or world == 1 or self._store is not None:
            return
        if not dist.is_initialized():
            if not rank:
                self._say(
                    f"of {world} processes only rank 0 writes the record, with what it measures itself: there is no "
                    "process group yet to bring the others' through. Make the Probe after init_process_group, or put "
                    "{rank} into the path, which gives each rank its own file"
                )
            return
        kind = type(self._model).__name__
        number = _started[kind] = _started.get(kind, 0) + 1
        self._store = dist.distributed_c10d._get_default_store()
        self._key, self._members = f"unitgain/{kind}/{number}", None
        self._store.set(f"{self._key}/{rank}", b"here")

    def leave(self, step: int) -> None:
        """This rank measures no more."""
        if self._store is not None and dist.is_initialized():
            if rank := dist.get_rank():
                self._store.set(f"{self._key}/{rank}/{step}", b"gone")
            for other in self._members or () if not rank else ():
                self._store.set(f"{self._key}/{other}/out", b"")
        self._store = None

    def merge(self, step: Step) -> None:
        """Adds the others' parts of this step, on rank 0; on another one, sends its part there."""
        if rank_and_world()[1] == 1:
            _finish_pieces(step)
            return
        if self._store is None or not dist.is_initialized():
            self._leave_out_pieces(step)
            return
        step.reduce_held()
        rank = dist.get_rank()
        if rank and not self._is_heard(rank):
            if not self._store.check([f"{self._key}/0"]):
                self._say(
                    f"there is no Probe of this {type(self._model).__name__} on rank 0, which writes the record: what "
                    f"rank {rank} measures comes into no file. Make the Probe on every rank, or put {{rank}} into the "
                    "path"
                )
            self._store = None
        elif rank:
            self._store.set(f"{self._key}/{rank}/{step.number}", _message(step))
        if rank:
            self._leave_out_pieces(step, quietly=True)
            return
        if self._members is None:
            self._members = self._those_here()
        elsewhere, merged = set(_ranks_with_these_examples(self._model)), 1
        whole = len(self._members) == dist.get_world_size() - 1
        for other in list(self._members):
            message = self._receive(other, step.number)
            if message is None:
                self._members.remove(other)
                self._store.set(f"{self._key}/{other}/out", b"")
                whole = False
                continue
            _add(step, message, examples=other not in elsewhere)
            merged += other not in elsewhere
        if not whole:
            self._leave_out_pieces(step)
        else:
            _finish_pieces(step)
        _average_gradients(step, 1 / merged)

    def _is_heard(self, rank: int) -> bool:
        """Whether rank 0 takes messages of this one; else they would pile up in the store."""
        return self._store.check([f"{self._key}/0"]) and not self._store.check([f"{self._key}/{rank}/out"])

    def _those_here(self) -> list[int]:
        others = range(1, dist.get_world_size())
        here = [rank for rank in others if self._store.check([f"{self._key}/{rank}"])]
        if len(here) < len(others):
            absent = ", ".join(str(rank) for rank in others if rank not in here)
            self._say(
                f"there is no Probe of this {type(self._model).__name__} on rank {absent}: the record is without it"
            )
        return here

    def _receive(self, rank: int, step: int) -> dict[str, np.ndarray] | None:
        key = f"{self._key}/{rank}/{step}"
        try:
            self._store.wait([key], _PATIENCE)
        except dist.DistError:
            self._say(f"rank {rank} sent nothing of step {step}: the record goes on without it")
            return None
        data = self._store.get(key)
        self._store.delete_key(key)
        if data == b"gone":
            self._say(
                f"the Probe of rank {rank} stopped measuring at step {step}: the record goes on without it"
            )
            return None
        return load(data)

    def _leave_out_pieces(self, step: Step, *, quietly: bool = False) -> None:
        if step.pieces and not quietly:
            self._say(
                "of parameters that are cut up over ranks nothing is recorded, as not every rank takes part: make a "
                "Probe on each rank, after init_process_group"
            )
        for kind, name in step.pieces:
            step.flat.pop((kind, name), None)
            if kind == "parameter_gradient":
                step.norms.pop(name, None)
        step.pieces.clear()


def _ranks_with_these_examples(model: nn.Module) -> list[int]:
    """Of all ranks those that see the same examples as rank 0: its tensor-parallel group."""
    sharded = [p for p in model.parameters() if is_sharded(p)]
    if not sharded:
        return []
    apart = {0}  # one rank of each such group
    for module in model.modules():
        state: Any = getattr(module, "_get_fsdp_state", None)
        group = getattr(state() if callable(state) else None, "_fsdp_param_group", None)
        if group is not None:
            apart.update(group.mesh_info.mesh.mesh.flatten().tolist())
    return [rank for rank in range(dist.get_world_size()) if rank not in apart]


# ---- messages ----------------------------------------------------------------------------------------------


def _message(step: Step) -> bytes:
    """Whatever rank 0 needs of a step, as safetensors: {"part/kind/name": array}. (No pickle: whoever reaches the store
    could run code on rank 0.)"""
    found = {
        **{f"partial/{kind}/{name}": _pack(p) for (kind, name), p in step.partials.items() if kind in _OWN},
        **{
            f"flat/{kind}/{name}": v
            for (kind, name), v in step.flat.items()
            if kind in _OWN or (kind, name) in step.pieces
        },
        **{
            f"norm/parameter_gradient/{name}": norm
            for name, (norm, _) in step.norms.items()
            if ("parameter_gradient", name) in step.pieces
        },
    }
    return save({key: _array(tensor) for key, tensor in found.items()})


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return np.ascontiguousarray((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def _add(step: Step, message: Mapping[str, np.ndarray], *, examples: bool) -> None:
    """examples: whether the rank has other examples, and not the same ones."""
    for key, values in message.items():
        part, kind, name = key.split("/", 2)
        sent = torch.from_numpy(values)
        if part == "partial":
            mine = step.partials.get((kind, name))
            if examples and mine is not None and _pack(mine).numel() == sent.numel():
                mine.merge(_unpack(sent, mine))
        elif part == "norm" and name in step.norms:
            total, count = step.norms[name]
            step.norms[name] = total + float(sent), count
        elif part == "flat" and (kind, name) in step.flat:
            mine = step.flat[kind, name]
            if (kind, name) in step.pieces:
                step.flat[kind, name] = mine + sent.to(mine)
            elif examples:
                step.add_flat(kind, name, sent.to(mine))


def _finish_pieces(step: Step) -> None:
    """What was summed over ranks are squares."""
    for kind, name in step.pieces:
        if kind == "parameter_gradient" and name in step.norms:
            total, count = step.norms[name]
            step.norms[name] = total.sqrt(), count
    step.pieces.clear()


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
