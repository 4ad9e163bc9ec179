"""A sample of a tensor: some examples, or runs of values."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .reduce import dense
from .stored import is_plain, stored

RUN = 16
"""Values in one run of a sample: 64 bytes of float32."""
_FEWEST_EXAMPLES = 2  # of a tensor of which only some are measured


def some_examples(x: Tensor, batch_axis: int, limit: int, turn: int) -> Tensor:
    examples = x.shape[batch_axis]
    keep = max(_FEWEST_EXAMPLES, limit * examples // x.numel())
    if keep >= examples:
        return x
    return x.narrow(batch_axis, turn * keep % (examples - keep + 1), keep)


def take_examples(
    x: Tensor, channel_axis: int | None, batch_axis: int | None, limit: int, turn: int
) -> tuple[Tensor, int | None, int | None]:
    """A copy of as many examples as hold about `limit` values (see `summarize`), to be measured later.

    Returns (copy, its channel axis, its batch axis). Images are copied channels first, (C, B, H, W): each
    channel is then one stretch of memory, which is up to six times as fast to reduce.
    """
    x = x.detach()
    if not is_plain(x):
        return take_sample(x, limit), None, None
    if x.numel() > limit and x.dim() > 1:
        x = some_examples(x, batch_axis or 0, limit, turn)
    if x.dim() > 2 and channel_axis == 1 and batch_axis in (0, None):
        return (
            x.transpose(0, 1).clone(memory_format=torch.contiguous_format),
            0,
            None if batch_axis is None else 1,
        )
    return x.clone(), channel_axis, batch_axis


def take_sample(x: Tensor, size: int) -> Tensor:
    """About `size` values of x, as a flat copy: all if there are no more, else runs of 16 spread over the tensor.

    >>> take_sample(torch.arange(10), 100).tolist() == list(range(10))
    True
    >>> take_sample(torch.arange(100_000), 64)[::16].tolist()
    [0, 40432, 55888, 96336]
    """
    x = x.detach()
    if not is_plain(x):
        x = stored(x)
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    count = x.numel()
    if count <= max(size, RUN):
        return x.reshape(-1).clone()
    if not x.is_contiguous():
        x = dense(x)
    runs = _runs(count, size, x.device, _stream(x.device) if x.is_cuda else 0)
    # whole lines of memory at a time: of a tensor that has left the caches, `take` needs twice as long
    lines = x.view(-1, RUN) if count % RUN == 0 else x.view(-1)[: count - count % RUN].view(-1, RUN)
    return lines.index_select(0, runs).view(-1)


def take_samples(rows: Tensor, size: int) -> Tensor:
    """`take_sample` of each row of a contiguous matrix on the CPU, (N, count) -> (N, size)."""
    count = rows.shape[1]
    if count <= max(size, RUN):
        return rows
    return _lines(rows).index_select(1, _runs(count, size, rows.device, 0)).view(len(rows), -1)


def places_of_sample(count: int, size: int) -> Tensor:
    """Where the values that `take_sample` takes of a contiguous tensor of `count` values lie in it."""
    if count <= max(size, RUN):
        return torch.arange(count)
    return (_runs(count, size, torch.device("cpu"), 0)[:, None] * RUN + torch.arange(RUN)).view(-1)


def _lines(rows: Tensor) -> Tensor:
    """(N, count) -> (N, count // RUN, RUN), a view without the values that make no whole run."""
    whole = rows.shape[1] // RUN
    return rows[:, : whole * RUN].view(len(rows), whole, RUN)


def _stream(device: torch.device) -> int:
    """The current CUDA stream: what one stream has made is not ready yet on another."""
    return torch.cuda.current_stream(device).cuda_stream


@lru_cache(maxsize=512)
def _runs(count: int, size: int, device: torch.device, stream: int) -> Tensor:
    """Numbers of runs, one out of each of equally long stretches, at multiples of the golden ratio within it."""
    lines = count // RUN
    i = np.arange(min(max(size // RUN, 2), lines))
    starts, ends = i * lines // len(i), (i + 1) * lines // len(i)
    index = torch.from_numpy(starts + ((i * 0.618033988749895) % 1 * (ends - starts)).astype(np.int64))
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)
