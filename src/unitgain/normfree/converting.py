"""convert() and fold(): a network with BatchNorm in, the same network without out."""

from __future__ import annotations

import copy as copying
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .. import graph as graphs
from .._base import InputError, did_you_mean, one_line, opens_compiled
from .._batch import Batch, Loss
from .._run import Snapshot, in_place, random_states
from ..nn import merge_branch_ends
from . import folding, measuring, training
from .clipping import advice
from .edits import Edit, apply, needs_plain, paths_of
from .folding import Decision
from .plain_code import is_ours, reason, remaining
from .proving import TOLERANCE, Proof, in_float64, noise_like, settle, widened
from .reading import NORMS, count_batch_norms, is_affine, is_batch_norm, is_converted, other_norms, read
from .rehearsing import MakesOptimizer, Rehearsals
from .report import Block, Change, ConversionReport
from .witness import doubts

MODES = ("train", "preserve", "fold")
"""What `convert` can make of a network: one to train from scratch, one to fine-tune, or plain layers for inference."""


@opens_compiled
def convert(
    model: nn.Module,
    batch: Any,
    mode: str = "train",
    *,
    copy: bool = False,
    timed: bool = False,
    norms: str | Collection[str] = (),
    steps: int = 0,
    loss: str | Loss | None = "auto",
    data: Any = None,
    optimizer: MakesOptimizer | None = None,
    second_witness: bool = False,
) -> ConversionReport:
    """Takes BatchNorm out of a network.

    model  any nn.Module; its own modules are changed, in place
    batch  as for `ug.check`, with at least two examples. What runs on it is what is converted; in mode "train" it
           should be real data, as layers are scaled to it
    mode   "train": for training from scratch without BatchNorm. Convolutions and linear layers around a norm get
                scaled weight standardization with the gain of the activation before them and a constant that gives
                outputs of variance 1 on the batch; depthwise kernels are scaled by their norm; residual branches are
                multiplied by 0.2 and a learnable scalar. What the model computes is another function.
           "preserve": for a trained network. The same function in evaluation mode; each norm's scale stays a trainable
                factor of the weight before it. Trains at any batch size; use `ug.optim.AGC`.
           "fold": for inference and export. The same function in plain layers of torch.
    copy   convert a deep copy, and leave the model as it is
    timed  measure a training step before and after
    norms  "group", "instance": take these norms out too. In "train" like BatchNorm; in "preserve" and "fold" only an
           InstanceNorm with running statistics is a fixed scale and shift, others are refused by name
    steps  at least 4: also train for so many steps, and take it back: the original, the converted network, and the
           original stripped of its norms, on the same batches. In "train" and "preserve"; the batch needs targets
    loss, data  of that training, as for `ug.check`; without data half of the batch trains and the other half judges
    optimizer   of that training: a function from parameters to an optimizer; SGD with momentum 0.9 at rate 0.1 without
           one. A fifth of its rate and five times it are tried too. The converted and the stripped network are trained
           with AGC by `clipping_for`; in "train" at one, four and sixteen times the rate, divided by as much as the
           factor is larger than 0.02
    second_witness  also ask torch.export what stands before each norm, and refuse norms on which it does not agree with
           the trace of the pass; from a tenth of a second to half a minute

    Returns a ConversionReport; its `model` is what was converted. A norm that cannot be converted is left as it was and
    is listed in `report.refused` with the reason. In "preserve" and "fold" outputs before and after are compared in
    float64, on the batch and on noise, and whatever changes them by more than 1e-9 (rms, relative) is taken back.

    Without `norms`, GroupNorm and InstanceNorm are left alone, as LayerNorm always is (see `convert_layer_norms`): they
    treat each example by itself. Optimizers made before hold
    parameters that are gone: make them anew. Of a model that is sent to another process, send the state dict: torch
    does not pickle parametrized modules.

    Raises InputError for an unknown mode, a batch that does not fit or has one example, and models that cannot be
    followed; the model is then as it was.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
    >>> x = torch.randn(4, 3, 8, 8)
    >>> _ = net(x)  # a step's statistics
    >>> wanted = net.eval()(x)
    >>> report = convert(net, x, "preserve")
    >>> [(c.path, c.how, c.into) for c in report.changes], bool(torch.allclose(net(x), wanted, atol=1e-6))
    ([('1', 'absorbed', ('0',))], True)

    Sources: Brock et al. 2021 (arXiv 2101.08692 and 2102.06171); for "preserve" arXiv 2305.11624.
    """
    if mode not in MODES:
        raise InputError(
            f"convert: mode is {mode!r}{did_you_mean(str(mode), MODES) or '; it is ' + ', '.join(MODES)}"
        )
    norms = (norms,) if isinstance(norms, str) else tuple(norms)
    for kind in norms:
        if kind not in NORMS:
            raise InputError(
                f"convert: norms: {kind!r}{did_you_mean(str(kind), NORMS) or '; it is ' + ', '.join(NORMS)}"
            )
    if steps and mode == "fold":
        raise InputError(f"convert: steps is {steps!r}; what mode fold gives is not meant to be trained")
    model = copying.deepcopy(model) if copy else model
    found = graphs.read("convert", model, batch)
    if found.examples is not None and found.examples < 2:
        raise InputError(
            "convert: batch: it has one example; batch statistics and dependence need at least two"
        )
    _check_that_it_runs(model, found)
    trials = Rehearsals(mode, model, batch, steps, loss, data, optimizer) if steps else None
    arms = [] if trials is None else [trials.original(model), trials.stripped(model, norms)]
    report = ConversionReport(mode, model, examples=found.examples)
    with random_states.kept():
        doubted, notes = doubts(model, found, norms) if second_witness else ({}, [])
        report.notes += notes
        _converted(model, found, report, norms, timed, doubted)
    if trials is not None:
        report.training = trials.result([*arms, trials.converted(model)])
    return report


def _check_that_it_runs(model: nn.Module, batch: Batch) -> None:
    """Raises InputError where the model does not take the batch."""
    try:
        with random_states.kept(), in_place(model, batch=batch), torch.no_grad():
            model.eval()
            given = batch.clone()
            model(*given.args, **given.kwargs)
    except InputError:
        raise
    except Exception as error:
        text = one_line(error) or "no message"
        raise InputError(
            f"convert: the model raised {type(error).__name__} on inputs of shape {batch.describe()}: {text}"
        ) from error


def _converted(
    model: nn.Module,
    batch: Batch,
    report: ConversionReport,
    norms: Collection[str],
    timed: bool,
    doubted: Mapping[str, str],
) -> None:
    """doubted: {path of a norm that stays: why}."""
    before = _before(report, model, batch, timed)
    if report.mode == "train":
        state = Snapshot(model)
        try:
            training.convert_for_training(model, batch, report, norms, doubted)
        except BaseException:
            state.restore()
            raise
    else:
        _exactly(model, batch, report, norms, doubted)
    report.blocks = _blocks(report, batch, *before)
    if report.mode == "fold":  # then the names of blocks are gone
        _without_our_classes(report)
    _after(report, batch, timed)


@opens_compiled
def fold(model: nn.Module, batch: Any = None, *, copy: bool = False) -> ConversionReport:
    """Works everything that inference does not need into plain layers of torch: for deployment and export.

    Standardized layers (ours, and `scaled_std_`'s), every parametrization, weight and spectral norm, BatchNorm and what
    `convert` put in its place, and the alpha and skip gains of our residual blocks. The model computes the same in
    evaluation mode, which is verified in float64 if there is a batch; it is not meant to be trained any further.

    No class of unitgain is left: modules of our classes become torch.fx GraphModules of the same layers, with the names
    that they had. If the model itself is of such a class (`ug.models.create`), take `report.model`; to keep the class
    and its methods, call `ug.nn.fold_` instead.

    batch  as for `ug.check`, at least two examples. May be left out where nothing has to be known of the order in
           which modules run: where there are no BatchNorms and no affine layers

    Returns a ConversionReport. Raises InputError as `convert` does, and where a batch is needed and there is none.

    >>> from unitgain.nn import ScaledStdLinear
    >>> net = nn.Sequential(ScaledStdLinear(4, 4), nn.ReLU())
    >>> report = fold(net)
    >>> type(report.model[0]).__name__, report.classes_left
    ('Linear', [])
    """
    if batch is not None:
        return convert(model, batch, "fold", copy=copy)
    graphs.check_model("fold", model)
    model = copying.deepcopy(model) if copy else model
    waiting = [p for p, m in model.named_modules() if is_batch_norm(m) or is_affine(m)]
    if waiting:
        raise InputError(
            f"fold: batch: needed to find out what runs before {waiting[0]}; give one as for ug.check, of two examples"
        )
    report = ConversionReport("fold", model)
    report.parameters = (measuring.parameters_of(model), 0)
    with in_float64(model):
        report.model = _make_plain(model, report)
    _without_our_classes(report)
    report.parameters = (report.parameters[0], measuring.parameters_of(report.model))
    report.classes_left = _classes_left(report.model)
    return report


def _exactly(
    model: nn.Module,
    batch: Batch,
    report: ConversionReport,
    norms: Collection[str],
    doubted: Mapping[str, str],
) -> None:
    plain = report.mode == "fold"
    wide = widened(batch)
    dead = folding.dead_channels(model)
    with in_float64(model):
        proof = Proof(model, wide)
        if plain:
            report.model = model = _make_plain(model, report)
        readings = [read(model, wide, training=training, norms=norms) for training in (False, True)]
        decisions = [
            replace(d, how="refused", into=(), why=doubted[d.path]) if d.path in doubted else d
            for d in folding.decide(model, readings, plain=plain, norms=norms)
        ]
        steps = [d for d in decisions if d.how != "refused"]
        if not plain:  # what convert put in before stays
            steps = [d for d in steps if is_converted(model.get_submodule(d.path), norms)]

        def carry_out(some: Sequence[Decision]) -> list[Edit]:
            return folding.carry_out(model, some, plain=plain)

        edits, bad, off = settle(model, proof, steps, carry_out)
        if bad:
            # as a scale and a shift where they stand they need nothing of the layers around them
            why = "absorbed by {} the outputs changed; there its weight is not used as it is"
            again = [
                replace(d, how="affine", into=(), starts=(), counts=(), why=why.format(", ".join(d.into)))
                for d in bad
                if d.how != "affine"
            ]
            more, worse, off = settle(model, proof, again, carry_out)
            edits = [*(edits or []), *(more or [])]
            changed = {d.path: d for d in again}
            decisions = [changed.get(d.path, d) for d in decisions]
            lost = {d.path for d in worse} | {d.path for d in bad if d.path not in changed}
            why = f"replaced by its scale and shift the outputs changed by more than {TOLERANCE:g}"
            decisions = [
                replace(d, how="refused", into=(), why=why) if d.path in lost else d for d in decisions
            ]
        report.edits += edits or []
        report.distance = off
    report.changes = [Change(d.path, d.kind, d.how, d.into, d.why) for d in decisions]
    for path, count in dead.items():
        report.notes.append(
            f"{path}: {count} channels have a running variance far below eps: what passes them is rounding, amplified; "
            "in half precision it may overflow"
        )
    if report.mode == "preserve" and report.converted:
        report.notes.append(advice(batch.examples, from_scratch=False))


def _make_plain(model: nn.Module, report: ConversionReport) -> nn.Module:
    """Standardized and parametrized layers become plain. Returns the model, or its plain layer if it is one itself."""
    for module in [m for m in model.modules() if needs_plain(m)]:
        edit = Edit("plain", paths_of(model, module))
        made = apply(model, edit)
        report.edits.append(edit)
        if edit.paths[0] == "" and made is not None:
            model = made
    if merge_branch_ends(model):
        report.edits.append(Edit("branch_ends", ("",)))
    return model


def _without_our_classes(report: ConversionReport) -> None:
    """What is left of classes of this package becomes torch.fx graphs; what cannot be recorded stays and is named."""
    model = report.model
    for path in remaining(model):
        module = model.get_submodule(path)
        edit = Edit("code", paths_of(model, module))
        try:
            made = apply(model, edit)
        except Exception as error:  # torch.fx has many ways to say that it cannot follow
            kind = type(module).__name__
            report.notes.append(
                f"{path or 'the model'}: it stays a {kind}, as torch.fx cannot record it: {reason(error)}"
            )
            continue
        report.edits.append(edit)
        if not path and made is not None:
            report.model = model = made


# ---- before and after ------------------------------------------------------------------------------------------


Variances = dict[str, float]


def _before(
    report: ConversionReport, model: nn.Module, batch: Batch, timed: bool
) -> tuple[Variances, Variances]:
    """What was measured goes into the report; returned: the variances of every node on the batch, and on noise."""
    report.left = dict(other_norms(model))
    for path, module in model.named_modules():
        if is_batch_norm(module) and (module._forward_hooks or module._forward_pre_hooks):
            report.notes.append(f"{path}: it has hooks, which go with it")
    report.parameters = (measuring.parameters_of(model), 0)
    report.batch_norms = (_batch_norms(model, batch), 0)
    report.coupling = (measuring.coupling(model, batch, training=True), None)
    if timed:
        report.seconds = (measuring.step_cost(model, batch)[0], 0.0)
    return _variances(model, batch, measuring.EVERY), _variances(model, noise_like(batch), measuring.EVERY)


def _after(report: ConversionReport, batch: Batch, timed: bool) -> None:
    model = report.model
    report.parameters = (report.parameters[0], measuring.parameters_of(model))
    report.batch_norms = (report.batch_norms[0], _batch_norms(model, batch))
    report.coupling = (report.coupling[0], measuring.coupling(model, batch, training=True))
    report.classes_left = _classes_left(model)
    report.left = {p: kind for p, kind in report.left.items() if p not in {c.path for c in report.changes}}
    if timed and report.seconds is not None:
        report.seconds = (report.seconds[0], measuring.step_cost(model, batch)[0])
    if report.batch_norms[1] and not report.refused:
        report.notes.append(
            f"batch normalization still runs {report.batch_norms[1]} times, at places that are no modules of the model"
        )


def _blocks(report: ConversionReport, batch: Batch, data: Variances, noise: Variances) -> list[Block]:
    """data, noise: the variances before."""
    norm_of = {layer: c.path for c in report.changes for layer in c.into}  # its output became the layer's
    layers = {p for e in report.edits if e.kind in ("standardized", "normalized") for p in e.paths}
    names = measuring.blocks(report.model, batch, [*layers, *norm_of])
    now = [_variances(report.model, b, names) for b in (batch, noise_like(batch))]
    was = {name: norm_of.get(name, name) for name in names}
    return [Block(n, data.get(was[n]), v, noise.get(was[n]), now[1].get(n)) for n, v in now[0].items()]


def _variances(model: nn.Module, batch: Batch | None, names: Sequence[str]) -> Variances:
    """{} where there is no such batch, or the model does not take it: noise in the place of masks, lengths, times."""
    if batch is None:
        return {}
    try:
        return measuring.variances(model, batch, names)
    except Exception:
        return {}


def _batch_norms(model: nn.Module, batch: Batch) -> int:
    """In evaluation, where one value per channel is enough, or in training, whichever has more (auxiliary heads)."""
    found = []
    for training_mode in (False, True):
        try:
            found.append(count_batch_norms(model, batch, training=training_mode))
        except Exception:  # too few values per channel in training
            found.append(0)
    return max(found)


def _classes_left(model: nn.Module) -> list[str]:
    return sorted({type(m).__name__ for m in model.modules() if is_ours(m)})


__all__ = ["MODES", "convert", "fold"]
