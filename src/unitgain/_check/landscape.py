"""landscape(): the loss along random directions through the weights, each filter's step as long as the filter.

Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets" (2018), section 4; their code is
tomgoldstein/loss-landscape, of which this is `--dir_type weights --xnorm filter --xignore biasbn`. It differs in that:

- BatchNorm normalizes by the batch. Theirs evaluates with the running averages of the network in the middle, which
  belong to no other point: away from the middle their error is drawn, not the loss.
- Filters of transposed convolutions, and of GPT-2's Conv1D, lie along the axis of the outputs, not always the first.
- What multiplies each unit by one number (a layer scale of shape (C, 1, 1), the gains of weight normalization) does not
  move, as the gains of norms do not: it is no filter.
- Frozen parameters do not move.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._base import InputError, no_module, opens_compiled, tell, told_in_cell
from .._batch import Loss, is_loader
from .._run import OptimizerLike, Run, in_place, loaders_kept
from .._version import __version__
from ..graph import role_of
from ..probe import list_parameters
from ..report import Landscape
from .batch_norms import normalize_by_batch
from .job import Job, Step
from .knobs import optimizer_of
from .passes import Passes
from .rehearsal import Plan, Rehearsal

_POINTS = {1: 51, 2: 25}  # in each direction
_MOST = 201
Direction = list[tuple[Tensor, Tensor]]  # (parameter, what is added to it at a distance of 1)


@told_in_cell
@opens_compiled
def landscape(
    model: nn.Module,
    batch: Any,
    loss: str | Loss | None = "auto",
    *,
    dims: int = 2,
    span: float = 1.0,
    points: int | None = None,
    seed: int = 0,
    step: Step | None = None,
    steps: int = 0,
    optimizer: OptimizerLike | str | None = None,
    data: Iterable[Any] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Landscape:
    """Measures the loss around the weights, on a line or a plane of random directions, and puts everything back.

        loss(a, b) = loss(weights + a * d1 + b * d2)

    Every filter of a direction is drawn from N(0, 1) and then scaled to the norm of the filter that it is added to, so
    that a step of 1 changes every filter by its own length, and networks with weights of different scales can be
    compared. A filter is what feeds one output: a row of a linear layer, a filter of a convolution, an entry of an
    embedding. Biases and the parameters of norms stay as they are.

    model, batch, loss, step   as for `check`; of a DataLoader the first batch is taken
    dims      2: a plane; 1: a line
    span      the largest distance from the weights, in units of each filter's norm
    points    in each direction, an odd number, so that the one in the middle is the network itself;
              25 on a plane (625 forward passes), 51 on a line
    seed      of the directions
    steps     optimizer steps that are made first: the landscape is that of the network which they lead to
    optimizer, data   what these steps are made with, as for `whatif`: Adam with learning rate 0.001 by default
    progress  called with (passes done, how many there are, what is being done)

    Evaluation mode, so that dropout and stochastic depth are off; but layers with running statistics are in training
    mode and normalize by the batch: running averages were taken at other weights and would be stale at every point but
    one. What a pass writes into them is put back before the next one. All points see the same random numbers.

    Raises InputError for a model without a weight that can move, and where there is no loss.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> result = landscape(model, (torch.randn(16, 4), torch.arange(16) % 3), points=5)
    >>> result.losses.shape, result.axis, float(result.losses[2, 2]) == result.loss
    ((5, 5), (-1.0, -0.5, 0.0, 0.5, 1.0), True)
    """
    if not isinstance(model, nn.Module):
        raise no_module("model", model)
    if dims not in (1, 2):
        raise InputError(f"dims: expected 1 (a line) or 2 (a plane), got {dims!r}")
    count = _POINTS[dims] if points is None else points
    if not isinstance(count, int) or isinstance(count, bool) or not 3 <= count <= _MOST or count % 2 == 0:
        raise InputError(f"points: expected an odd number from 3 to {_MOST}, got {points!r}")
    if not isinstance(span, (int, float)) or not 0 < span < math.inf:
        raise InputError(f"span: expected a distance above 0, got {span!r}")
    if isinstance(optimizer, str) or (optimizer is None and steps):
        optimizer = optimizer_of(optimizer or "adam")
    if steps and data is None and is_loader(batch):
        data = batch
    plan = Plan(steps, optimizer, data)
    job = Job.of(model, batch, loss, step)
    own = [] if step is None else [step]
    given = next(iter(plan.given), None)
    with (
        loaders_kept(*(() if data is None else (data,))),
        in_place(model, optimizer=given, batch=batch, loss=loss, extra=[*plan.given[1:], *own]) as run,
    ):
        if steps:
            _train(model, job, plan, run, progress or tell)
        moving = [p for p in list_parameters(model) if _moves(p)]
        if not moving:
            raise InputError("model: it has no trainable weight matrix, so there is nothing to move")
        directions = [random_direction(moving, seed * dims + number) for number in range(dims)]
        with in_place(model, batch=batch, loss=loss, extra=own) as at_the_middle:
            walk = _Walk(Passes(model, job, at_the_middle), directions, at_the_middle)
            axis = np.linspace(-span, span, count)
            axis[count // 2] = 0.0
            losses = walk.over(axis, progress or tell)
    return Landscape(
        model=type(model).__name__,
        loss_name=walk.loss_name,
        axis=tuple(map(float, axis)),
        losses=losses,
        moved=sum(p.tensor.numel() for p in moving),
        kept=sum(p.numel() for p in model.parameters()) - sum(p.tensor.numel() for p in moving),
        steps=steps,
        seed=seed,
        batch=job.batch.describe() if step is None else "",
        versions={"unitgain": __version__, "torch": str(torch.__version__)},
    )


def random_direction(parameters: Iterable[Any], seed: int) -> Direction:
    """N(0, 1), then every filter scaled to the norm of the parameter's own filter: zero where that is zero."""
    generator = torch.Generator().manual_seed(seed)
    return [(p.tensor, _of_filters_norms(p, generator)) for p in parameters]


def _of_filters_norms(parameter: Any, generator: torch.Generator) -> Tensor:
    tensor = parameter.tensor.detach()
    drawn = torch.randn(tensor.shape, generator=generator).to(tensor.device)
    rows, axes = _by_filter(drawn, parameter.owner)
    weights, _ = _by_filter(tensor.float(), parameter.owner)
    rows *= _norm(weights, axes) / _norm(rows, axes).clamp_min(1e-30)
    return drawn.to(tensor.dtype)


def _norm(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)


def _by_filter(tensor: Tensor, owner: nn.Module) -> tuple[Tensor, tuple[int, ...]]:
    """(a view, the axes of it along which the values of one filter lie)."""
    if getattr(owner, "transposed", False) and tensor.dim() > 2:
        view = tensor.unflatten(0, (getattr(owner, "groups", 1), -1))  # (G, I / G, O / G, ...)
        return view, (1, *range(3, view.dim()))
    axis = 1 if type(owner).__name__ == "Conv1D" else 0
    return tensor, tuple(a for a in range(tensor.dim()) if a != axis)


def _moves(parameter: Any) -> bool:
    """Whether it is a weight: it has filters of more than one value, or is that of a layer with a single input."""
    p = parameter.tensor
    if not p.requires_grad or not p.is_floating_point() or parameter.role not in ("weight", "embedding"):
        return False
    if p.dim() < 2:
        return False
    one_value_each = p.numel() == max(p.shape)
    of_layer = role_of(parameter.owner) in ("linear", "recurrent")
    return not one_value_each or (of_layer and parameter.name.rpartition(".")[2].startswith("weight"))


class _Walk:
    """A model at one point after another. `run` puts it back to the middle before each."""

    def __init__(self, passes: Passes, directions: list[Direction], run: Run):
        self.passes, self.directions, self._run = passes, directions, run
        self.loss_name = ""

    def over(self, axis: np.ndarray, progress: Callable[[int, int, str], None] | None) -> np.ndarray:
        """The loss at every point: (points,) or (points of the second direction, points of the first)."""
        dims, count = len(self.directions), len(axis)
        found = np.full(count**dims, math.nan)
        for number, place in enumerate(itertools.product(axis, repeat=dims)):
            if progress is not None:
                progress(number, len(found), "measuring the loss")
            found[number] = self._at(place[::-1])  # the first direction changes fastest
        if progress is not None:
            progress(len(found), len(found), "")
        return found.reshape((count,) * dims)

    def _at(self, place: tuple[float, ...]) -> float:
        self._run.rewind(quick=True)
        normalize_by_batch(self.passes.model)
        with torch.no_grad():
            for distance, direction in zip(place, self.directions):
                for parameter, step in direction if distance else ():
                    parameter.add_(step, alpha=distance)
        done = self.passes.run(backward=False)
        if done.loss is None:
            raise InputError("there is no loss to draw; give targets, or a loss")
        self.loss_name = done.name or "the model's own"
        return float(done.loss.detach())


def _train(
    model: nn.Module, job: Job, plan: Plan, run: Run, progress: Callable[[int, int, str], None] | None
) -> None:
    """The steps that come first, in training mode."""
    rehearsal, passes = Rehearsal(plan, model, run), Passes(model, job, run)
    passes.train()
    batches = plan.batches(job, model)
    for number, batch in enumerate(itertools.islice(batches, plan.steps)):
        if progress is not None:
            progress(number, plan.steps, "training step")
        done = passes.run(batch)
        if done.loss is None:
            raise InputError("there is no loss to train on; give targets, or a loss")
        if not math.isfinite(float(done.loss.detach())):
            raise InputError(
                f"steps: the loss was {float(done.loss.detach())} at step {number}; give fewer steps, or an "
                "optimizer with a lower learning rate"
            )
        rehearsal.step(done, lambda batch=batch: passes.run(batch))
