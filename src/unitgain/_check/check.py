"""check(): one batch through a model, or a few rehearsed training steps, measured and judged."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import losses
from .._batch.batch import Batch, check_devices, read_batch
from .._run.isolate import OptimizerLike, copied, optimizer_for, put_back, random_state, random_state_kept
from ..optim import unwrapped
from ..probe import Probe, model_facts, optimizer_facts
from ..record import BatchNormFacts, Facts, GradientFacts, LossFacts, OptimizerFacts, Record, UnitFacts
from ..report import Report
from ..rules import diagnose
from .batch_norms import batch_norm_facts, snapshot
from .broadcast import broadcast_shape
from .comparison import comparison_facts
from .coupling import coupling_facts
from .facts import output_facts, target_facts
from .symmetry import same_units

_HISTOGRAM_SAMPLE = 16_384  # one look may cost more than a Probe in training
_NUDGE = 0.02  # std of the noise that stands for "zero-initialized parameters have moved"


def check(
    model: nn.Module,
    batch: Any,
    loss: str | losses.Loss | None = "auto",
    *,
    steps: int = 0,
    optimizer: OptimizerLike | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Report:
    """Measures a model on one batch and names what is wrong, why, and what to do. Changes nothing.

    model      any nn.Module, as it is about to be trained; a model in eval mode is checked in training mode
    batch      a tensor, an (inputs, targets) pair, a tuple of several inputs and a target, or a mapping of
               keyword arguments (the loss is then taken from the output's "loss" if it has one)
    loss       "auto" (cross entropy for integer targets, mean squared error for float ones), a name out of
               `unitgain._batch.LOSSES`, or a callable (outputs, targets) -> scalar
    steps      how many optimizer steps to rehearse on a copy, so that update ratios can be judged
    optimizer  for the rehearsal: an optimizer over the model's parameters, or a function from parameters to one;
               SGD with learning rate 0.01 if none is given
    select, ignore   codes ("UG303"), prefixes ("UG3") or names ("saturated") of rules

    The model, the optimizer, gradients, buffers, training flags and random states are afterwards what they were,
    bit for bit, also when the model raises. Without targets, gradients are measured with a random direction in
    place of the loss's, and rules about the loss stay silent; steps are refused, since there is nothing to train on.

    Raises InputError, naming the input, for a batch or a loss that does not fit, and when the model raises
    (with the model's own exception as its cause).

    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    >>> report = check(model, (torch.randn(64, 8), torch.randint(0, 4, (64,))))
    >>> report.ok
    True
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected an nn.Module, got {type(model).__name__}")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise InputError(f"steps: expected a whole number of at least 0, got {steps!r}")
    if isinstance(optimizer, torch.optim.Optimizer) or hasattr(optimizer, "optimizer"):
        optimizer = unwrapped(optimizer, "optimizer")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer) and not callable(optimizer):
        raise InputError(
            "optimizer: expected a torch optimizer or a function from parameters to one, got "
            f"{type(optimizer).__name__}"
        )
    read = read_batch(batch)
    resolved = losses.resolve(loss, read.target)
    check_devices(read, model)
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise InputError("model: it has lazy parameters without a shape yet; run it once on a batch first")

    loss_kept = put_back(loss) if isinstance(loss, nn.Module) else contextlib.nullcontext()
    with (
        torch.inference_mode(False),
        random_state_kept(),
        loss_kept,
        _own_copy(model, optimizer, steps) as (twin, twin_optimizer),
    ):
        run = _Run(twin, read, resolved)
        record = run.measure(steps, optimizer, twin_optimizer)
    diagnosis = diagnose(record, select=select, ignore=ignore)
    for finding in diagnosis.findings:
        record.add_finding(finding.code, finding.severity, finding.site, finding.to_dict())
    record.commit()
    return Report(record, diagnosis)


@contextlib.contextmanager
def _own_copy(
    model: nn.Module, optimizer: OptimizerLike | None, steps: int
) -> Iterator[tuple[nn.Module, torch.optim.Optimizer | None]]:
    """A copy to work on; for a look without steps the model itself, put back afterwards, if it has no copy."""
    given = optimizer if isinstance(optimizer, torch.optim.Optimizer) else None
    twins = copied(model, given if steps else None)
    if not isinstance(twins, str):
        yield twins
    elif steps:
        raise InputError(
            f"steps={steps}: the model cannot be copied for a rehearsal ({twins}); check it with steps=0, move it to a "
            "device with more room, or watch real training with unitgain.Probe"
        )
    else:
        with put_back(model):
            yield model, None


@dataclass
class _Pass:
    """What one forward pass and its loss gave."""

    outputs: Any
    logits: Tensor | None
    target: Any
    loss: Tensor | None
    name: str | None
    kind: str | None
    given: Any = None  # to the loss function, beside the target


@dataclass
class _FirstPass:
    """What is read off the model right after its first pass; zero: trainable parameters with a gradient that is there
    but exactly zero."""

    done: _Pass
    gradients: GradientFacts
    zero: list[str]
    batch_norms: tuple[BatchNormFacts, ...]
    same_units: dict[str, UnitFacts]


class _Run:
    """The measured passes of one check, on a model that may be changed."""

    def __init__(self, model: nn.Module, batch: Batch, loss: tuple[str, losses.Loss] | None):
        self.model, self.batch, self.loss = model, batch, loss
        if not model.training:
            model.train()
        self.probe: Probe | None = None

    def measure(
        self, steps: int, optimizer: OptimizerLike | None, twin_optimizer: torch.optim.Optimizer | None
    ) -> Record:
        chosen = optimizer_for(self.model, optimizer, twin_optimizer) if steps else None
        model = model_facts(self.model)
        before = random_state()
        coupling = coupling_facts(self.model, self.batch, _logits)
        running = snapshot(self.model)
        spare = self._spare()  # taken now: later the model has hooks, and may have been trained
        self.probe = probe = Probe(
            self.model,
            chosen,
            sample=_HISTOGRAM_SAMPLE,
            limit=None,
            examples=self.batch.examples,
            maps=True,
            strict=True,
        )
        first: _FirstPass | None = None
        with probe:
            for step in range(max(steps, 1)):
                done = self._pass(backward=True)
                if steps and done.loss is None:  # there would be a step along a random direction
                    raise InputError(
                        f"steps={steps}: a rehearsal needs a loss: pass (inputs, targets) and loss=, or a batch for "
                        "which the model returns its own loss"
                    )
                if done.loss is not None:
                    probe.record.log(step, loss=float(done.loss.detach()))
                if first is None:
                    norms, units = batch_norm_facts(self.model, running), same_units(self.model)
                    first = _FirstPass(done, *self._gradients(), norms, units)
                if chosen is not None:
                    chosen.step()
                    chosen.zero_grad(set_to_none=True)
            probe.flush()
        if steps:
            self._log_what_the_last_step_gave(steps)
        assert first is not None
        unblocked = self._unblocked(spare, first.zero, before) if first.zero and spare is not None else ()
        done = first.done
        compared = broadcast_shape(*self.loss, done.given, done.target) if self.loss is not None else None
        probe.record.set_facts(
            Facts(
                mode="check",
                model=model,
                rehearsed_steps=steps,
                loss=LossFacts(done.name, done.kind, float(done.loss.detach()))
                if done.loss is not None
                else LossFacts(),
                target=target_facts(done.target, done.logits, done.kind or "other", compared),
                output=output_facts(done.logits, done.target, probe.record),
                gradients=first.gradients,
                gradient_source="loss" if done.loss is not None else "random",
                unblocked=unblocked,
                optimizer=optimizer_facts(chosen) if chosen is not None else OptimizerFacts(),
                coupling=coupling,
                batch_norms=first.batch_norms,
                same_units=first.same_units,
                labels=probe.record.facts.labels,
                comparison=comparison_facts(
                    self.model,
                    self._outputs,
                    _logits,
                    self.loss[1] if self.loss else None,
                    done.given,
                    done.target,
                    {m.name: x for m, x in zip(probe.record.sites("input"), self.batch.tensors())},
                ),
            )
        )
        return probe.record

    def _log_what_the_last_step_gave(self, steps: int) -> None:
        try:
            done = self._pass(backward=False)
        except InputError:
            return  # the model does not bear what the step made of its weights; the losses before say it
        if self.probe is not None and done.loss is not None:
            self.probe.record.log(steps, loss=float(done.loss.detach()))

    def _outputs(self) -> Any:
        batch = self.batch.fresh()
        return self.model(*batch.args, **batch.kwargs)

    # ---- one pass ------------------------------------------------------------------------------------------

    def _pass(self, *, backward: bool) -> _Pass:
        batch = self.batch.fresh()
        with torch.enable_grad():
            try:
                outputs = self.model(*batch.args, **batch.kwargs)
            except Exception as error:
                raise InputError(self._blame("forward", error)) from error
            done = self._loss(outputs, batch)
            if backward:
                self._backward(done)
        return done

    def _backward(self, done: _Pass) -> None:
        start = done.loss if done.loss is not None else done.logits
        if start is None or not start.requires_grad:
            return
        try:
            if done.loss is not None:
                start.backward()
            else:
                generator = torch.Generator(start.device).manual_seed(0)
                direction = torch.randn(
                    start.shape, generator=generator, device=start.device, dtype=torch.float32
                )
                start.backward(direction.to(start.dtype) / start.numel() ** 0.5)
        except Exception as error:
            raise InputError(self._blame("backward", error)) from error

    def _blame(self, where: str, error: Exception) -> str:
        path = self.probe.failed_in if self.probe is not None else None
        module = (
            f" in {path!r} ({type(self.model.get_submodule(path)).__name__})"
            if path and where == "forward"
            else ""
        )
        text = " ".join(str(error).split()) or "no message"
        kind, inputs = type(error).__name__, self.batch.describe()
        hint = ""
        if "dtype" in text and any(not x.is_floating_point() for x in self.batch.tensors()):
            hint = "; the inputs are whole numbers: a model without an embedding needs floats"
        return f"the model raised {kind} in {where}{module} on inputs of shape {inputs}: {text}{hint}"

    def _loss(self, outputs: Any, batch: Batch) -> _Pass:
        logits = _logits(outputs)
        target = batch.target
        if target is None:
            own = _get(outputs, "loss")
            target = batch.kwargs.get("labels")
            if isinstance(own, Tensor) and own.numel() == 1:
                kind = losses.kind_of("", None, own, *_shifted(logits, target, own))
                return _Pass(outputs, logits, target, own.reshape(()), "the model's own", kind)
        if logits is None:
            raise InputError(
                f"model: its output, a {type(outputs).__name__}, holds no floating-point tensor to measure"
            )
        if self.loss is None:
            return _Pass(outputs, logits, target, None, None, None)
        name, function = self.loss
        # a loss by name takes the logits, the caller's own takes what the model returned
        given = logits if name in losses.LOSSES and function is losses.LOSSES[name] else outputs
        losses.check_targets(name, given, target, getattr(function, "ignore_index", losses.IGNORED_TARGET))
        try:
            value = function(given, target)
        except Exception as error:
            text = " ".join(str(error).split())
            raise InputError(
                f"loss {name}: raised {type(error).__name__} for outputs of shape {_shape(given)} and targets of shape "
                f"{_shape(target)}: {text}"
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError(
                f"loss {name}: gave {_shape(value)}, not one number; reduce it, with reduction='mean' say"
            )
        kind = losses.kind_of(name, function, value, given, target)
        return _Pass(outputs, logits, target, value.reshape(()), name, kind, given)

    # ---- gradients -----------------------------------------------------------------------------------------

    def _gradients(self) -> tuple[GradientFacts, list[str]]:
        """(facts, names of trainable parameters whose gradient is there but exactly zero)."""
        trainable = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad and p.numel()]
        reached = [n for n, p in trainable if p.grad is not None and bool((_dense(p.grad) != 0).any())]
        zero = [n for n, p in trainable if n not in set(reached) and p.grad is not None]
        return GradientFacts(len(reached), len(trainable)), zero

    def _spare(self) -> nn.Module | None:
        """Another copy, if there are zero-initialized parameters whose effect may have to be tried out."""
        if not any(_is_zero(p) for p in self.model.parameters()):
            return None
        twins = copied(self.model)
        return None if isinstance(twins, str) else twins[0]

    def _unblocked(self, twin: nn.Module, zero: list[str], as_before: Callable[[], None]) -> tuple[str, ...]:
        """Which of the parameters with a zero gradient get a gradient once all-zero parameters have moved a little.

        Zero-initialized residual ends, SkipInit and zero heads stop the gradient at step 0 only. Whether that is
        the reason is tried out, on another copy, rather than guessed from names.
        """
        zeros = [p for p in twin.parameters() if _is_zero(p)]
        as_before()  # the same masks are drawn
        with torch.no_grad():
            for p in zeros:
                p.normal_(0, _NUDGE)
        other = _Run(twin, self.batch, self.loss)
        try:
            other._pass(backward=True)
        except InputError:
            return ()
        by_name = dict(twin.named_parameters())
        found = []
        for name in zero:
            gradient = by_name[name].grad
            if gradient is not None and bool((_dense(gradient) != 0).any()):
                found.append(name)
        return tuple(found)


def _is_zero(p: Tensor) -> bool:
    return p.requires_grad and p.numel() > 0 and not bool((p != 0).any())


def _dense(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _get(outputs: Any, key: str) -> Any:
    if isinstance(outputs, dict) or hasattr(outputs, "keys"):
        return outputs[key] if key in outputs.keys() else None  # noqa: SIM118 (HF's ModelOutput)
    return getattr(outputs, key, None) if not isinstance(outputs, (Tensor, tuple, list)) else None


def _logits(outputs: Any) -> Tensor | None:
    """The tensor that the loss looks at: "logits" by name, else the first floating one with axes."""
    named = _get(outputs, "logits")
    if isinstance(named, Tensor):
        return named
    if isinstance(outputs, Tensor):
        return outputs if outputs.is_floating_point() else None
    values = outputs.values() if hasattr(outputs, "values") else outputs
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        return None
    for value in values:
        found = _logits(value) if isinstance(value, (tuple, list, dict)) else value
        if isinstance(found, Tensor) and found.is_floating_point() and found.dim():
            return found
    return None


def _shifted(logits: Tensor | None, target: Any, own: Tensor) -> tuple[Any, Any]:
    """Logits and labels as the model's own loss compared them: causal language models shift by one token."""
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return logits, target
    if logits.dim() == 3 and logits.shape[:2] == target.shape:
        pair = logits[:, :-1], target[:, 1:]
        if pair[1].numel() and losses.kind_of("", None, own, *pair) == "cross_entropy":
            return pair
    return logits, target


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
