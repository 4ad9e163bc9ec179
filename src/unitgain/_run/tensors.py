"""A tensor as it was: where its values lie, the values themselves byte for byte, its gradient, hooks and flags.

Values are kept once per memory, whatever number of tensors look at it (tied weights, views, a flat buffer with all
parameters in it), and written only where they differ: memory that was not changed, which may be read-only or mapped
from a file, is not touched. Version counters are asked only where a caller wants it quick, since what goes through
`tensor.data` does not move them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

_OutOfMemory: type[Exception] = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


@contextlib.contextmanager
def untracked() -> Iterator[None]:
    """Without gradients, and past the overrides that a subclass of Tensor has."""
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        yield


class Memory:
    """Stretches of storages with the bytes that were in them.

    >>> x = torch.arange(4.0)
    >>> memory = Memory()
    >>> memory.keep([x[:2], x[1:3]])
    >>> _ = x.fill_(9)
    >>> memory.put_back()
    >>> x
    tensor([0., 1., 2., 9.])
    """

    def __init__(self) -> None:
        self._storages: dict[int, _Kept] = {}

    @property
    def bytes(self) -> int:
        return sum(e - s for kept in self._storages.values() for s, e, _ in kept.pieces)

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Copies what is not kept yet of the memory that these tensors look at."""
        wanted: dict[int, list[tuple[int, int]]] = {}
        for tensor in tensors:
            span = _span(tensor)
            if span is not None:
                storage = tensor.untyped_storage()
                kept = self._storages.setdefault(storage._cdata, _Kept(storage))
                kept.versions.append((tensor, None if tensor.is_inference() else tensor._version))
                wanted.setdefault(storage._cdata, []).append(span)
        for key, spans in wanted.items():
            kept = self._storages[key]
            for start, end in _uncovered(spans, kept.pieces):
                kept.pieces.append((start, end, _copied(_view(kept.storage, start, end))))

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """What these tensors look at is no longer put back."""
        for tensor in tensors:
            span, key = _span(tensor), tensor.untyped_storage()._cdata if _span(tensor) is not None else None
            kept = self._storages.get(key) if key is not None else None
            if span is None or kept is None:
                continue
            rest = []
            for start, end, copy in kept.pieces:
                for a, b in _without((start, end), span):
                    rest.append((a, b, copy[a - start : b - start]))
            kept.pieces = rest

    def put_back(self, *, quick: bool = False) -> None:
        """quick: what has not been written to in place, by its tensors' version counters, is not compared."""
        for kept in self._storages.values():
            if quick and all(v is not None and tensor._version == v for tensor, v in kept.versions):
                continue
            if kept.storage.nbytes() != kept.size:
                kept.storage.resize_(kept.size)
            for start, end, copy in kept.pieces:
                now = _view(kept.storage, start, end)
                if now.device.type != "cpu" or not _equal(now, copy):
                    now.copy_(copy)


class _Kept:
    """One storage; pieces: disjoint (start, end, their bytes); versions: of the tensors that look at it."""

    __slots__ = ("pieces", "size", "storage", "versions")

    def __init__(self, storage: torch.UntypedStorage):
        self.storage, self.size = storage, storage.nbytes()
        self.pieces: list[tuple[int, int, Tensor]] = []
        self.versions: list[tuple[Tensor, int | None]] = []


def _span(tensor: Tensor) -> tuple[int, int] | None:
    """(first byte, byte after the last one) in its storage; None where there are no bytes that can be read."""
    try:
        storage = tensor.untyped_storage()
        if _is_wrapper(tensor) or storage.device.type == "meta" or tensor.numel() == 0:
            return None
        if not storage.nbytes() or not storage.data_ptr():
            return None
        first, size = tensor.storage_offset(), tensor.element_size()
        if tensor.is_nested:
            return 0, storage.nbytes()
        last = first + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride()))
        end = min(int(last + 1) * size, storage.nbytes())  # a storage may have been cut short
        return (int(first) * size, end) if first * size < end else None
    except (
        NotImplementedError,
        RuntimeError,
    ):  # sparse, opaque and wrapped tensors have no storage of their own
        return None


def _uncovered(spans: list[tuple[int, int]], pieces: list[tuple[int, int, Tensor]]) -> list[tuple[int, int]]:
    """The spans' union without what the pieces cover, as disjoint spans.

    >>> _uncovered([(0, 4), (2, 8), (12, 16)], [(6, 7, torch.empty(1))])
    [(0, 6), (7, 8), (12, 16)]
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    for start, end, _ in pieces:
        merged = [rest for span in merged for rest in _without(span, (start, end))]
    return merged


def _without(span: tuple[int, int], taken: tuple[int, int]) -> list[tuple[int, int]]:
    (start, end), (a, b) = span, taken
    if b <= start or end <= a:
        return [span]
    return [(x, y) for x, y in ((start, a), (b, end)) if x < y]


def _view(storage: torch.UntypedStorage, start: int, end: int) -> Tensor:
    """The storage's bytes, with a version counter of their own."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage, start, (end - start,), (1,))


def _copied(view: Tensor) -> Tensor:
    try:
        return view.clone()
    except _OutOfMemory:
        return view.cpu()


def _equal(a: Tensor, b: Tensor) -> bool:
    """Of bytes; by words of 8 where that is possible, which is five times as fast."""
    whole = a.numel() // 8 * 8
    if whole and a.storage_offset() % 8 == 0 and b.storage_offset() % 8 == 0:
        if not torch.equal(a[:whole].view(torch.int64), b[:whole].view(torch.int64)):
            return False
        a, b = a[whole:], b[whole:]
    return torch.equal(a, b)


class TensorState:
    """Everything about one tensor but the bytes that it looks at.

    parts  tensors that it consists of (the indices and values of a sparse one, the inner ones of a wrapper)
    """

    __slots__ = (
        "_after_hooks", "_alias", "_gradient", "_hooks", "_is_leaf", "_kind", "_layout", "_requires_grad",
        "_version", "parts", "tensor",
    )  # fmt: skip

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        self._kind = type(tensor)
        self._is_leaf, self._requires_grad = tensor.is_leaf, tensor.requires_grad
        self._gradient = tensor.grad if tensor.is_leaf else None
        self._hooks = tensor._backward_hooks
        self._after_hooks = tensor._post_accumulate_grad_hooks  # type: ignore[attr-defined]
        self._version: tuple[int, Any] | None = None
        if not tensor.is_inference():
            self._version = tensor._version, torch.autograd._unsafe_preserve_version_counter(tensor)
        self.parts = _parts(tensor)
        self._alias = None if _is_wrapper(tensor) else tensor.data
        self._layout = _layout(tensor)

    @property
    def hooks(self) -> list[Any]:
        return [hooks for hooks in (self._hooks, self._after_hooks) if hooks is not None]

    def set_gradient_aside(self) -> None:
        """The caller's own gradient is not to be added to."""
        if self._is_leaf and self.tensor.grad is not None:
            self.tensor.grad = None

    def put_back(self) -> None:
        """Where its values lie, class, hooks and requires_grad."""
        tensor = self.tensor
        if type(tensor) is not self._kind:
            tensor.__class__ = self._kind
        if self._is_leaf and not tensor.is_leaf:
            tensor.detach_()  # a value that needs a gradient was written into it
        if self._alias is not None and (self._layout is None or _layout(tensor) != self._layout):
            tensor.data = self._alias
        if tensor._backward_hooks is not self._hooks:
            tensor._backward_hooks = self._hooks
        after = tensor._post_accumulate_grad_hooks  # type: ignore[attr-defined]
        if after is not self._after_hooks:
            if after is not None:
                after.clear()  # the autograd engine goes on holding this dictionary
            tensor._post_accumulate_grad_hooks = self._after_hooks  # type: ignore[attr-defined]
        if tensor.is_leaf and tensor.requires_grad != self._requires_grad:
            tensor.requires_grad_(self._requires_grad)

    def put_gradient_back(self) -> None:
        if self._is_leaf and self.tensor.grad is not self._gradient:
            self.tensor.grad = self._gradient

    def put_version_back(self) -> None:
        """The values are those of then, so that backward can still go through a graph that was made before."""
        if self._version is not None and self.tensor._version != self._version[0]:
            self._version[1].__exit__(None, None, None)

    def accept(self) -> None:
        """Where its values lie now, and what they are, stays."""
        self._version = None
        self._alias, self._layout = (
            None if _is_wrapper(self.tensor) else self.tensor.data,
            _layout(self.tensor),
        )


def _is_wrapper(tensor: Tensor) -> bool:
    return hasattr(type(tensor), "__tensor_flatten__")


def _parts(tensor: Tensor) -> list[Tensor]:
    if _is_wrapper(tensor):
        return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]  # type: ignore[attr-defined]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def _layout(tensor: Tensor) -> tuple[Any, ...] | None:
    """What tells whether a tensor still looks at the same memory in the same way; None where nothing does."""
    if tensor.layout is not torch.strided or _is_wrapper(tensor) or tensor.is_nested:
        return None
    try:
        storage = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # fake and functional tensors
        return None
    return (storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
