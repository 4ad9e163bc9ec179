"""Finds a model's output layer by what it does, and the axis of the outputs of its weights.

The output layer is the weighted layer whose output the model returns, perhaps after views and an elementwise
function (log_softmax, sigmoid). Names and positions do not identify it: a model may register its head
first, or have none (timm's num_classes=0). In this order:

1. the model says so: `get_classifier()` (timm; Identity means that there is none), `get_output_embeddings()`
(transformers); 2. the first forward pass with gradients is watched: a weighted layer whose output shares memory with
an output of
   the model, else the last one that ran, if its output has the shape of an output of the model;
3. nothing could be watched (a compiled model, a step before any forward pass): the last registered module with a
   matrix as its weight.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from .._base import InputError, did_you_mean, hold_eager, keep_out_of_copies, original, plain_name


def weights_of(module: nn.Module) -> list[Tensor]:
    """A module's own parameters that are matrices or filters, including those under a parametrization."""
    own = list(module.parameters(recurse=False))
    parametrized = getattr(module, "parametrizations", None)
    if isinstance(parametrized, nn.Module):
        own += list(parametrized.parameters())
    return [p for p in own if p.dim() >= 2]


def unit_axes(model: nn.Module) -> dict[Tensor, tuple[int, int]]:
    """{weight: (axis of its outputs, groups)} where that is not axis 0: transposed convolutions, GPT-2's Conv1D."""
    found: dict[Tensor, tuple[int, int]] = {}
    for module in model.modules():
        if getattr(module, "transposed", False) is True:
            found |= {p: (1, int(getattr(module, "groups", 1))) for p in weights_of(module)}
        elif "Conv1D" in {c.__name__ for c in type(module).__mro__} and hasattr(module, "nf"):
            found |= dict.fromkeys(weights_of(module), (1, 1))
    return found


def named_by(model: nn.Module, wanted: Any) -> list[Tensor]:
    """The parameters that `exclude` means: patterns of parameter or module names, modules, parameters.

    A module, or a pattern of its name, stands for all parameters in it. Raises InputError for what matches nothing.
    """
    items = [wanted] if isinstance(wanted, (str, nn.Module, Tensor)) else list(wanted or ())
    found: list[Tensor] = []
    for item in items:
        if isinstance(item, Tensor):
            matches = [item]
        elif isinstance(item, nn.Module):
            matches = list(item.parameters())
        elif isinstance(item, str):
            matches = [p for n, p in model.named_parameters() if fnmatchcase(plain_name(n), item)]
            inside = (m for n, m in model.named_modules() if n and fnmatchcase(plain_name(n), item))
            matches += [p for m in inside for p in m.parameters()]
        else:
            raise InputError(
                f"AGC(exclude=...): a {type(item).__name__}; expected names, patterns, modules or parameters"
            )
        if not matches:
            if not isinstance(item, str):
                raise InputError("AGC(exclude=...): a module without parameters")
            names = [name for name, _ in (*model.named_parameters(), *model.named_modules()) if name]
            raise InputError(f"AGC(exclude=...): {item!r} matches no parameter{did_you_mean(item, names)}")
        found += matches
    return found


class Finder:
    """Finds the weights of the output layer of a model, once it has run forward; see the module's text.

    The hooks that watch are gone after that pass, which runs as the model is written, compiled or not.
    """

    def __init__(self, model: nn.Module):
        self._model = model
        self._found: list[Tensor] | None = _declared(model)
        self._handles: list[Any] = []
        self._let_into_copies: Callable[[], Any] = lambda: None  # the hooks, which copies are to be without
        self._release: Callable[[], Any] = lambda: None  # compilers
        self._ran: list[tuple[nn.Module, Tensor]] = []
        if self._found is None and not isinstance(model, torch.jit.ScriptModule):
            self._watch()

    def weights(self) -> list[Tensor]:
        """The output layer's weights, without its bias; empty for a model without one."""
        self.release()
        if self._found is None:
            self.stop()
            self._found = _last_registered(self._model)
        return self._found

    def release(self) -> None:
        """Lets compiled code run compiled again. Not in the midst of a pass: a compiled model that is called with
        fullgraph=True would raise afterwards, as it has not run compiled."""
        self._release()

    def stop(self) -> None:
        self._let_into_copies()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._ran.clear()

    def _watch(self) -> None:
        def start(*_: Any) -> None:
            if not _is_read():
                self._ran.clear()

        def note(module: nn.Module, _: Any, output: Any) -> None:
            if torch.is_grad_enabled() and not _is_read():
                self._ran += [(module, tensor) for tensor in _tensors(output)]

        def finish(_: nn.Module, __: Any, output: Any) -> None:
            if torch.is_grad_enabled() and not _is_read() and self._ran:
                try:
                    self._found = self._judge(list(_tensors(output)))
                except Exception as error:  # in the user's step
                    self._found = _last_registered(self._model)
                    warnings.warn(
                        f"AGC: looking for the output layer failed ({type(error).__name__}: {error}); the last "
                        "registered matrix is taken for its weight. exclude= names it.",
                        stacklevel=2,
                    )
                self.stop()

        self._handles.append(self._model.register_forward_pre_hook(start))
        for module in self._model.modules():
            if weights_of(module) and not isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_hook(note))
        self._handles.append(
            self._model.register_forward_hook(finish)
        )  # after the root's own, if it has weights
        self._let_into_copies = keep_out_of_copies(self._model.modules(), self._handles)
        if _runs_compiled(self._model):  # force_eager would stop torch.export
            self._release = hold_eager(self)

    def _judge(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        memory = {_storage(t) for t in outputs}
        heads = [m for m, t in self._ran if _storage(t) in memory]
        if not heads:
            last, tensor = self._ran[-1]
            heads = [last] if any(tensor.shape == t.shape for t in outputs) else []
        return [p for head in dict.fromkeys(heads) for p in weights_of(head)]


def _runs_compiled(model: nn.Module) -> bool:
    """Whether the model, a part of it or a module made from it by torch.compile runs compiled."""
    if "torch._dynamo" not in sys.modules:
        return False
    if any(original(m) is not m or getattr(m, "_compiled_call_impl", None) for m in model.modules()):
        return True
    return any(isinstance(r, dict) and r.get("_orig_mod") is model for r in gc.get_referrers(model))


def _is_read() -> bool:
    """Whether a model's code is read (torch.export, torch.jit.trace): there are no numbers then."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _declared(model: nn.Module) -> list[Tensor] | None:
    for name in ("get_classifier", "get_output_embeddings"):
        method = getattr(model, name, None)
        if not callable(method):
            continue
        try:
            heads: Any = method()
        except (TypeError, NotImplementedError, AttributeError):
            continue
        heads = list(heads) if isinstance(heads, (tuple, list)) else [heads]
        heads = [m for m in heads if isinstance(m, nn.Module)]
        if heads:
            return [p for head in heads for m in head.modules() for p in weights_of(m)]
    return None


def _last_registered(model: nn.Module) -> list[Tensor]:
    matrices = [(m, [p for p in weights_of(m) if p.dim() == 2]) for m in model.modules()]
    found = [p for m, p in matrices if p and not isinstance(m, nn.Embedding)]
    return found[-1] if found else []


def _storage(tensor: Tensor) -> int:
    """What tensors of the same memory have in common; of a DTensor, the memory of this rank's part."""
    own: Any = getattr(tensor, "_local_tensor", tensor)
    try:
        return own.untyped_storage().data_ptr() if own.layout is torch.strided else id(tensor)
    except (RuntimeError, NotImplementedError):  # a subclass, or a fake tensor, without memory of its own
        return id(tensor)


def _tensors(value: Any, depth: int = 3) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item, depth - 1)
    elif depth and hasattr(value, "values") and callable(value.values):
        for item in cast("Iterable[Any]", value.values()):
            yield from _tensors(item, depth - 1)
