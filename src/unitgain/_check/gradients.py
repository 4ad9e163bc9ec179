"""Which parameters a gradient reaches, and why it does not reach others: cut, by design, until all-zero parameters have
moved, or by chance."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from .._base import InputError
from ..record import GradientFacts
from ..stats import stored
from .cuts import Cuts, cut_facts, cuts_hide, use_of
from .passes import Passes

_TRIES = 8  # a layer that is left out in half of the passes runs in one of them but for 0.4%
_NUDGE = 0.02  # std of the noise that stands for "zero-initialized parameters have moved"


def gradient_facts(model: nn.Module) -> tuple[GradientFacts, list[str], list[str]]:
    """(facts, names of trainable parameters whose gradient is there but exactly zero, of those that have none)."""
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad and p.numel()]
    reached = {n for n, p in trainable if p.grad is not None and _has_values(p.grad)}
    silent = [n for n, p in trainable if n not in reached and p.grad is not None]
    missing = [n for n, p in trainable if p.grad is None]
    return GradientFacts(len(reached), len(trainable)), silent, missing


def explained(
    passes: Passes, facts: GradientFacts, silent: list[str], missing: list[str]
) -> tuple[GradientFacts, tuple[str, ...]]:
    """Why parameters have no gradient: (the facts with where it was cut, and what is left out by design; names of those
    that get one after a step or with other random numbers). Makes no pass where all have one, else rewinds."""
    opened = unblocked(passes, silent) if silent else ()
    left = [n for n in (*silent, *missing) if n not in opened]
    if missing:
        cuts = _watched(passes)
        found = cut_facts(passes.model, cuts, missing)
        left_out = _left_out(passes.model, cuts, missing)
        facts = replace(facts, cuts=found, left_out=left_out)
        left = [n for n in left if n not in left_out]
    if left and facts.reached:
        opened += _by_chance(passes, left)
    passes.rewind()
    return facts, opened


def _watched(passes: Passes) -> Cuts:
    passes.rewind()
    cuts = Cuts(passes.model.parameters())
    try:
        with cuts:
            passes.run(backward=False)
    except InputError:
        return Cuts()
    return cuts


def _left_out(model: nn.Module, cuts: Cuts, missing: list[str]) -> tuple[str, ...]:
    """Parameters of whole modules that ran, and that this pass does not train by design: those of a generator, where
    a critic gets real examples beside the made ones, and of a target network, which copies one that learns."""
    hidden = {n for n in missing if n in cuts_hide(cuts, model)}
    found: list[str] = []
    for path, module in _whole_modules(model, hidden):
        names = [f"{path}.{n}" for n, p in module.named_parameters() if p.requires_grad]
        both, feeds = use_of(cuts, model, set(names))
        if both or (not feeds and _has_trained_copy(model, module, set(missing))):
            found += names
    return tuple(found)


def _whole_modules(model: nn.Module, hidden: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules all of whose trainable parameters are hidden."""
    inside: list[str] = []
    for path, module in model.named_modules():
        names = [f"{path}.{n}" for n, p in module.named_parameters() if p.requires_grad]
        if not path or not names or any(path.startswith(f"{outer}.") for outer in inside):
            continue
        if all(n in hidden for n in names):
            inside.append(path)
            yield path, module


def _has_trained_copy(model: nn.Module, module: nn.Module, missing: set[str]) -> bool:
    """Whether another module with parameters of the same shapes has gradients."""
    shapes = [p.shape for p in module.parameters()]
    for path, other in model.named_modules():
        names = {f"{path}.{n}" for n, _ in other.named_parameters()}
        if (
            other is not module
            and path
            and not names & missing
            and [p.shape for p in other.parameters()] == shapes
        ):
            return True
    return False


def _by_chance(passes: Passes, left: list[str]) -> tuple[str, ...]:
    """Which of these get a gradient where other random numbers decide what runs (stochastic depth), and all-zero
    parameters have moved a little: a branch may be left out and end in zeros. In evaluation mode nothing is left out:
    only what gets one there is worth trying."""
    passes.rewind()
    passes.model.eval()
    move_zeros(passes.model)
    wanted = set(_reached_now(passes, left))
    found: set[str] = set()
    for seed in range(_TRIES if wanted else 0):
        passes.rewind()
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (models may draw from it)
        move_zeros(passes.model)
        found.update(_reached_now(passes, wanted - found))
        if found == wanted:
            break
    return tuple(n for n in left if n in found)


def _reached_now(passes: Passes, names: Iterable[str]) -> list[str]:
    try:
        passes.run()
    except InputError:
        return []
    by_name = dict(passes.model.named_parameters())
    return [n for n in names if (g := by_name[n].grad) is not None and _has_values(g)]


def unblocked(passes: Passes, silent: list[str]) -> tuple[str, ...]:
    """Which of the silent parameters get a gradient once all-zero parameters have moved a little.

    Zero-initialized residual ends, SkipInit and zero heads stop the gradient at step 0 only. Whether that is
    the reason is tried out, from the state in which the check began, rather than guessed from names.
    """
    passes.rewind()
    model = passes.model
    if not move_zeros(model):
        return ()
    try:
        passes.run()
    except InputError:
        return ()
    by_name = dict(model.named_parameters())
    gradients = {name: by_name[name].grad for name in silent}
    return tuple(n for n, gradient in gradients.items() if gradient is not None and _has_values(gradient))


def move_zeros(model: nn.Module) -> bool:
    """Whether there were all-zero parameters to move."""
    zeros = [p for p in model.parameters() if _is_zero(p)]
    with torch.no_grad():
        for p in zeros:
            p.normal_(0, _NUDGE)
    return bool(zeros)


def _is_zero(p: Tensor) -> bool:
    return p.requires_grad and p.numel() > 0 and not _has_values(p)


def _has_values(tensor: Tensor) -> bool:
    return bool((stored(tensor) != 0).any())
