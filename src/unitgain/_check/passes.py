"""One pass: forward and loss, or the caller's step; then backward. And what is said when one of them raises."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .._base import InputError, one_line
from .._batch import Batch, Judged, find_logits, kind_of, own_loss
from .._run import Run
from ..probe import Probe
from .job import Job


class Passes:
    """Runs a job on a model inside of a run, which puts it back, measured by a Probe if there is one."""

    def __init__(self, model: nn.Module, job: Job, run: Run):
        self.model, self.job = model, job
        self.probe: Probe | None = None
        self._run = run

    def train(self) -> None:
        if not self.model.training:
            self.model.train()

    def rewind(self) -> None:
        """The model is as it was before the first pass, in training mode."""
        self._run.rewind()
        self.train()

    def run(self, batch: Batch | None = None, *, backward: bool = True) -> Judged:
        """Forward, loss and backward of the job's batch, or of another one."""
        given = self.job.batch if batch is None else batch
        fresh = given.clone()
        with torch.enable_grad():
            done = self._forward(fresh) if self.job.step is None else self._step(fresh)
            if backward:
                self._backward(done, given)
        return done

    # ---- forward and loss ----------------------------------------------------------------------------------

    def _forward(self, batch: Batch) -> Judged:
        try:
            outputs = self.model(*batch.args, **batch.kwargs)
        except Exception as error:
            raise InputError(self._blame("the model", "in forward", error, batch)) from error
        return self.job.objective.judge(outputs, batch)

    def _step(self, batch: Batch) -> Judged:
        """The caller's step, every module's call in it measured."""
        if self.probe is None:
            return self._call_step(batch)
        with self.probe.one_pass() as tell_output:
            done = self._call_step(batch)
            tell_output(done.logits)
        return done

    def _call_step(self, batch: Batch) -> Judged:
        assert self.job.step is not None
        name = self.job.step_name
        try:
            with warnings.catch_warnings():  # Lightning misses its trainer
                warnings.filterwarnings("ignore", r"(?s).*self\.log\(\).*trainer")
                result = self.job.step(self.model, *batch.args)
        except Exception as error:
            raise InputError(self._blame(f"step {name}", "", error, batch)) from error
        loss = own_loss(result)
        if loss is None:
            got = type(result).__name__
            got = (
                f"a tensor of shape {tuple(result.shape)}"
                if isinstance(result, Tensor)
                else f"a Python {got}, through which no gradient can come; return the tensor itself, without .item() "
                "or float()"
                if isinstance(result, int | float)
                else "None"
                if result is None
                else f"a {got}"
            )
            raise InputError(
                f'step {name}: expected a loss (one number), or a mapping with "loss" and, where there are such, '
                f'"outputs" and "targets"; it returned {got}'
            )
        loss = loss.reshape(())
        if not loss.requires_grad and any(p.requires_grad for p in self.model.parameters()):
            raise InputError(
                f"step {name}: nothing leads from the loss that it returned back to a parameter; return it as it was "
                "computed, without .item(), .detach() or torch.no_grad"
            )
        extra = result if isinstance(result, dict) else {}
        logits, target = find_logits(extra.get("outputs")), extra.get("targets")
        kind = kind_of("", None, loss, logits, target)
        return Judged(loss, name, logits, target, kind)

    # ---- backward ------------------------------------------------------------------------------------------

    def _backward(self, done: Judged, batch: Batch) -> None:
        start = done.loss if done.loss is not None else done.logits
        if start is None or not start.requires_grad:
            return
        try:
            if done.loss is not None:
                self._run.backward(start)
            else:
                generator = torch.Generator(start.device).manual_seed(0)
                direction = torch.randn(
                    start.shape, generator=generator, device=start.device, dtype=torch.float32
                )
                self._run.backward(start, direction.to(start.dtype) / start.numel() ** 0.5)
        except Exception as error:
            who = "the model" if self.job.step is None else f"the loss of step {self.job.step_name}"
            raise InputError(self._blame(who, "in backward", error, batch)) from error

    def _blame(self, who: str, where: str, error: Exception, batch: Batch) -> str:
        path = self.probe.failed_in if self.probe is not None else None
        module = ""
        if path and where != "in backward":
            module = f"in {path!r} ({type(self.model.get_submodule(path)).__name__})"
        text = one_line(error) or "no message"
        hint = ""
        if "dtype" in text and any(not x.is_floating_point() for x in batch.inputs().values()):
            hint = "; the inputs are whole numbers: a model without an embedding needs floats"
        if "second time" in text and self.job.step is not None:
            hint = "; if the step calls backward itself: check does, so leave it out"
        if where == "in forward" and "positional argument" in text and len(batch.args) > 1:
            hint = "; several targets go into one tuple: (inputs, (targets, more_targets))"
        whole = next((value for value in batch.args if isinstance(value, Mapping)), None)
        if whole is not None and where == "in forward":
            keys = ", ".join(map(repr, whole))
            hint += f"; the mapping went in as one argument, as its keys ({keys}) are not forward's arguments"
        place = " ".join(part for part in (where, module) if part)
        return (
            f"{who} raised {type(error).__name__}{' ' + place if place else ''} on inputs of shape {batch.describe()}: "
            f"{text}{hint}"
        )
