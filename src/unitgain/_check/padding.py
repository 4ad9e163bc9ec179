"""What padding does to outputs and to the loss. For rules UG117 and UG805.

What fills up an input is known by itself: one value that stands in a run at the end (or the beginning) of its rows, of
different lengths, and nowhere else. Examples of one length go through the model with their padding, and once more with
it cut off: their outputs must be the same. Where targets are filled up too, the gradient of the loss shows whether it
counts those outputs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import Batch, Judged, find_logits
from .._run import Run
from ..graph import outputs_of, walk
from ..record import PaddingFacts
from ..rules import CATALOGUE
from ..stats import is_plain
from .steps import Slope, by_time, given
from .watching import CannotTell

_LEAST_STEPS, _LEAST_EXAMPLES, _DIFFERENT = 6, 4, 3
_ROWS = 4  # examples a pass
_MEAN = 1.5  # steps of padding in the mean, of values that nothing else calls padding
_COARSE = 10.0  # times the limit in half precision


@dataclass(frozen=True)
class Padded:
    """An input that is filled up: its name, its axis of time, its length, and how many real steps each example has."""

    name: str
    axis: int
    steps: int
    lengths: Tensor
    left: bool


def padded_inputs(model: nn.Module, batch: Batch) -> Iterator[Padded]:
    """One for each length of inputs, where all of that length agree."""
    examples = batch.examples or 0
    inputs = given(batch)
    by_length: dict[tuple[int, int], list[Padded]] = {}
    for name, x in inputs.items():
        if not is_plain(x) or x.dim() < 2 or x.is_complex() or x.dtype == torch.bool:
            continue
        axis = 1 if x.shape[0] == examples else 0 if x.shape[1] == examples else None
        if axis is None or x.shape[axis] < _LEAST_STEPS or examples < _LEAST_EXAMPLES:
            continue
        rows = x if axis == 1 else x.transpose(0, 1)
        for left in (False, True):
            lengths = _lengths(rows, left)
            if lengths is not None and _is_padding(model, rows, lengths, left, inputs, axis):
                by_length.setdefault((axis, int(x.shape[axis])), []).append(
                    Padded(name, axis, int(x.shape[axis]), lengths, left)
                )
                break
    for found in by_length.values():
        first = found[0]
        if all(p.left == first.left and torch.equal(p.lengths, first.lengths) for p in found):
            yield first


def _lengths(rows: Tensor, left: bool) -> Tensor | None:
    """Real steps of each row (examples, steps, ...) whose rest is one value that stands nowhere else, of floating-point
    values zero; None if it is not so."""
    if rows.is_floating_point():
        empty = (rows == 0).reshape(*rows.shape[:2], -1).all(2)
    elif rows.dim() == 2:
        empty = rows == rows[:, 0 if left else -1].mode().values
    else:
        return None
    along = empty if left else empty.flip(1)
    run = along.long().cumprod(1).sum(1)  # of the value, from the end that is filled up
    if not torch.equal(run, empty.sum(1)):
        return None
    lengths = rows.shape[1] - run
    return lengths if int(lengths.min()) > 0 and len(lengths.unique()) >= _DIFFERENT else None


def _is_padding(
    model: nn.Module, rows: Tensor, lengths: Tensor, left: bool, inputs: dict[str, Tensor], axis: int
) -> bool:
    """Of tokens: what an embedding knows as padding, or what most rows end with. Of measurements: only where a mask or
    lengths among the inputs say so."""
    if not rows.is_floating_point():
        value = int(rows[int(lengths.argmin()), 0 if left else -1])
        known = {m.padding_idx for m in model.modules() if isinstance(m, nn.Embedding)}
        filled = rows.shape[1] - lengths
        often = float((filled > 0).double().mean()) >= 0.5 and float(filled.double().mean()) >= _MEAN
        if value in known or often:
            return True
    place = torch.arange(rows.shape[1], device=rows.device)
    real = place >= rows.shape[1] - lengths[:, None] if left else place < lengths[:, None]
    for x in inputs.values():
        if not is_plain(x):
            continue
        if x.shape == lengths.shape and torch.equal(x.to(lengths.device).double(), lengths.double()):
            return True
        mask = x.transpose(0, 1) if axis == 0 and x.dim() == 2 else x
        if mask.shape == real.shape and mask.data_ptr() != rows.data_ptr():
            mask = mask.to(real.device) != 0
            if torch.equal(mask, real) or torch.equal(mask, ~real):
                return True
    return False


def padding_facts(model: nn.Module, batch: Batch, done: Judged, run: Run) -> PaddingFacts:
    """Two forward passes of a few examples where an input is filled up, and one with the loss where targets are too;
    `run` is rewound."""
    facts = PaddingFacts()
    for padded in padded_inputs(model, batch):
        share, value = _counted(model, batch, done, run, padded)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _Trial(model, batch, run, padded).facts()
        except (CannotTell, InputError) as reason:
            found = PaddingFacts(padded.name, padded.steps, reason=str(reason).removeprefix("batch: "))
        except Exception as error:  # a model that takes one length alone
            found = PaddingFacts(
                padded.name, padded.steps, reason=f"with shorter inputs it raised {type(error).__name__}"
            )
        found = replace(found, share=share, value=value)
        if facts.input is None or _size(found) > _size(facts):
            facts = found
    return facts


def _size(facts: PaddingFacts) -> float:
    return max(0.0 if math.isnan(v) else v for v in (facts.change, facts.share))


# ---- outputs -------------------------------------------------------------------------------------------------


class _Trial:
    """Passes of examples of one length, with their padding and without."""

    def __init__(self, model: nn.Module, batch: Batch, run: Run, padded: Padded):
        self.model, self.run, self.padded = model, run, padded
        self.limit = CATALOGUE["UG805"].limit("change")
        lengths = padded.lengths.tolist()
        shorter = [n for n in lengths if n < padded.steps]
        if not shorter:
            raise CannotTell("no example is shorter than the others")
        much = [n for n in shorter if 3 * n <= 2 * padded.steps] or shorter
        self.length = max(set(much), key=lambda n: (much.count(n), n))
        compared = [i for i, n in enumerate(lengths) if n == self.length][:_ROWS]
        others = [i for i, n in enumerate(lengths) if n < self.length][: _ROWS - len(compared)]
        index = [*compared, *others]
        self.compared, self.rows = len(compared), len(index) if len(index) > 1 else 2
        self.batch = batch.select(index if len(index) > 1 else index * 2)

    def facts(self) -> PaddingFacts:
        name, steps, left = self.padded.name, self.padded.steps, self.padded.left
        cut = self._cut(steps - self.length)
        whole, without = self._output(self.batch), self._output(cut)
        change = self.change(whole, without, steps - self.length)
        alike = _spread(whole) / max(_spread(without), 1e-30)
        facts = PaddingFacts(
            name, steps, left, self.length, change, alike=alike, recurrent=_recurrent(self.model)
        )
        if not change > self.limit:
            return facts
        part = max(1, (steps - self.length) // 3)
        if facts.recurrent is None and _has_convolutions(self.model):
            border = self.change(self._output(self.batch), self._output(self._cut(part)), part)
            facts = replace(facts, border=border)
        site, module = self._where(cut)
        return replace(facts, site=site, module=module)

    def _cut(self, steps: int) -> Batch:
        """Without as many steps of padding; every tensor with this axis of time is cut."""
        whole, left = self.padded.steps, self.padded.left

        def shorter(x: Tensor) -> Tensor:
            for axis in range(x.dim()):
                if x.shape[axis] == whole and axis != 1 - self.padded.axis:
                    x = x.narrow(axis, steps if left else 0, whole - steps)
            return x

        names = {n: shorter(x) for n, x in self.batch.inputs().items() if is_plain(x) and x.dim() > 1}
        return self.batch.with_inputs(names)

    def _output(self, batch: Batch, watch: dict[str, tuple[Tensor, str]] | None = None) -> Tensor:
        fresh, handles = batch.clone(), []
        try:
            self.model.eval()
            if watch is not None:
                for path, module, _, _ in walk(self.model):
                    if path and not isinstance(module, torch.jit.ScriptModule):
                        handles.append(module.register_forward_hook(_keep(watch, path)))
            output = find_logits(self.model(*fresh.args, **fresh.kwargs))
            if self.run.drew:
                raise CannotTell("the model draws random numbers in evaluation mode")
            if output is None or not output.dim():
                raise CannotTell("the output holds no tensor with an axis of examples")
            return output.clone()
        finally:
            for handle in handles:
                handle.remove()
            self.run.rewind(quick=True)

    def change(self, whole: Tensor, cut: Tensor, removed: int) -> float:
        """rms of the change of the compared examples, over the spread of outputs; of steps, that of the median step.

        Raises CannotTell where the two cannot be laid over each other.
        """
        pair = self._laid_over(whole, cut, removed)
        if pair is None:
            raise CannotTell("which axis of the output is that of the examples, or of time")
        one, two = (t.double() for t in pair)  # (examples, real steps or 1, ...)
        if not bool(one.isfinite().all()):
            raise CannotTell("outputs that are not finite")
        if not bool(two.isfinite().all()):
            return math.inf
        spread = float(two.flatten(0, 1).std(0, correction=0).square().mean().sqrt())
        size = float(two.square().mean().sqrt())
        difference = (one - two)[: self.compared].flatten(2).square().mean(2).sqrt().mean(0)  # of each step
        coarse = _COARSE if whole.dtype in (torch.float16, torch.bfloat16) else 1.0
        scale = max(spread, 1e-2 * size, 1e-12)
        return float(difference.median()) / scale / coarse

    def _laid_over(self, whole: Tensor, cut: Tensor, removed: int) -> tuple[Tensor, Tensor] | None:
        """Both as (examples, real steps or 1, ...). Time is the axis that is shorter by what was cut off."""
        if not whole.dim() or whole.dim() != cut.dim():
            return None
        if whole.shape == cut.shape:
            axis = next((a for a in (0, 1) if whole.dim() > a and whole.shape[a] == self.rows), None)
            if axis is None or self.padded.steps in whole.shape[1:]:
                return None
            return whole.movedim(axis, 0).unsqueeze(1), cut.movedim(axis, 0).unsqueeze(1)
        shorter = [a for a in range(whole.dim()) if whole.shape[a] != cut.shape[a]]
        if shorter == [0] and whole.shape[0] - cut.shape[0] == self.rows * removed:
            steps = [t.shape[0] // self.rows for t in (whole, cut)]
            whole, cut = (
                t.reshape(self.rows, n, *t.shape[1:])
                if self.padded.axis == 1
                else t.reshape(n, self.rows, *t.shape[1:]).transpose(0, 1)
                for t, n in zip((whole, cut), steps, strict=True)
            )
        elif len(shorter) == 1 and whole.shape[shorter[0]] - cut.shape[shorter[0]] == removed:
            rest = [a for a in (0, 1) if a != shorter[0] and whole.dim() > a and whole.shape[a] == self.rows]
            if not rest:
                return None
            whole, cut = (t.movedim((rest[0], shorter[0]), (0, 1)) for t in (whole, cut))
        else:
            return None
        real = min(whole.shape[1], cut.shape[1], self.length)
        left = self.padded.left
        one, two = ((t[:, -real:] if left else t[:, :real]) for t in (whole, cut))
        return one, two

    def _where(self, cut: Batch) -> tuple[str | None, str | None]:
        """The first module at whose output the examples differ."""
        one: dict[str, tuple[Tensor, str]] = {}
        two: dict[str, tuple[Tensor, str]] = {}
        self._output(self.batch, one)
        self._output(cut, two)
        for path, (tensor, kind) in one.items():
            if path not in two or not tensor.is_floating_point() or not tensor.dim():
                continue
            try:
                if self.change(tensor, two[path][0], self.padded.steps - self.length) > self.limit:
                    return path, kind
            except (CannotTell, RuntimeError):
                continue
        return None, None


def _spread(output: Tensor) -> float:
    return float(output.double().nan_to_num().std(0, correction=0).square().mean().sqrt())


def _keep(watch: dict[str, tuple[Tensor, str]], path: str) -> Callable[..., None]:
    def hook(module: nn.Module, _args: Any, output: Any) -> None:
        for suffix, tensor in outputs_of(module, output):
            watch.setdefault(path + suffix, (tensor.detach().clone(), type(module).__name__))

    return hook


def _has_convolutions(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.conv._ConvNd) for m in model.modules())


def _recurrent(model: nn.Module) -> str | None:
    """The first layer that goes on from step to step, and forgets what stands before much padding."""
    kinds = (nn.RNNBase, nn.RNNCellBase)
    return next((path for path, m in model.named_modules() if isinstance(m, kinds)), None)


# ---- the loss ------------------------------------------------------------------------------------------------


def _counted(model: nn.Module, batch: Batch, done: Judged, run: Run, padded: Padded) -> tuple[float, float]:
    """(of the outputs that the loss counts, the share that stands for padding; what fills up the targets), NaN where
    targets are not filled up or it cannot be told."""
    nothing = (math.nan, math.nan)
    labels = batch.labels
    if padded.left or done.loss is None or not isinstance(labels, Tensor) or not is_plain(labels):
        return nothing
    examples = len(padded.lengths)
    rows = _target_rows(labels, padded, examples)
    if rows is None:
        return nothing
    real = _real_targets(rows, padded.lengths)
    if real is None:
        return nothing
    slope = Slope(model, done, run)(batch)
    if slope is None:
        return nothing
    timed = by_time(slope, padded.axis, rows.shape[1], examples, rows.shape[1] - 1)
    if timed is None:
        return nothing
    counts = timed.transpose(0, 1).flatten(2).abs().amax(2) > 0  # (examples, steps)
    if not bool(counts.any()):
        return nothing
    # the first filled-up step may stand for the end of the sentence
    filler = torch.arange(counts.shape[1], device=real.device) > real[:, None]
    value = float(rows[int(real.argmin()), -1].reshape(-1)[0]) + 0.0  # never -0
    return float((counts & filler.to(counts.device)).sum() / counts.sum()), value


def _target_rows(labels: Tensor, padded: Padded, examples: int) -> Tensor | None:
    """(examples, steps) or (examples, steps, ...) of targets for each step."""
    if labels.dim() == 1:
        if labels.numel() % examples or labels.numel() == examples:
            return None
        steps = labels.numel() // examples
        return labels.view(examples, steps) if padded.axis == 1 else labels.view(steps, examples).t()
    if labels.shape[padded.axis] < _LEAST_STEPS - 1 or labels.shape[1 - padded.axis] != examples:
        return None
    return labels if padded.axis == 1 else labels.transpose(0, 1)


def _real_targets(rows: Tensor, lengths: Tensor) -> Tensor | None:
    """Real steps of each row of targets, if those behind are one value, and as many as the input's but for one step
    that a shift takes away."""
    last = rows[int(lengths.argmin()), -1]
    empty = (rows == last).reshape(*rows.shape[:2], -1).all(2)
    run = empty.flip(1).long().cumprod(1).sum(1)
    real = rows.shape[1] - run
    if len(real.unique()) < _DIFFERENT:
        return None
    if not rows.is_floating_point() and not torch.equal(run, empty.sum(1)):
        return None  # the value stands for something elsewhere
    away = lengths.to(real.device).clamp(max=rows.shape[1]) - real
    return real if int(away.min()) >= 0 and int(away.max()) <= 1 else None
