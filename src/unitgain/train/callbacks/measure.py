"""Callbacks that look inside the model: a Probe, plain hooks, and a search for the first value that is not finite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..._base import InputError, UnitgainError, printable
from ...probe import Probe
from ..callback import Callback, CancelFit
from .gradients import MixedPrecision

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..learner import Learner


class ActivationStats(Callback):
    """A `ug.Probe` that writes to the Learner's record: activations, gradients, parameters and updates.

    every    measure each every-th optimizer step
    options  further arguments of Probe

    In a data-parallel run the moments of all ranks are merged, and rank 0 writes them. `plot_stats`, `color_dim` and
    `dead_chart` draw under the names that fast.ai's callback of this name has given them; `options` are those of
    `ug.plots.stats_over_time`, `.color_dim` and `.dead_chart`.
    """

    order = -10
    essential = False

    def __init__(self, every: int = 10, **options: Any):
        taken = {"model", "optimizer", "to", "merge_ranks"} & set(options)
        if taken:
            raise InputError(f"ActivationStats({min(taken)}=...): the Learner passes this itself; omit it")
        self.every, self.options = every, options
        self.probe: Probe | None = None

    def before_fit(self, learn: Learner) -> None:
        if self.probe is None:
            self.probe = Probe(
                learn.model, learn.optimizer, every=self.every, to=learn.record, merge_ranks=learn.world > 1,
                **self.options,
            )  # fmt: skip
            self.probe.go_to(learn.steps)
        self.probe.start()

    def before_batch(self, learn: Learner) -> None:
        # the Probe counts the steps that were made, the Learner those that a loss scaler skipped too
        if self.probe is not None and learn.training and self.probe.number < learn.steps:
            self.probe.go_to(learn.steps)

    def cleanup_fit(self, learn: Learner) -> None:
        if self.probe is not None:
            self.probe.stop()

    def plot_stats(self, **options: Any) -> Figure:
        """Mean and standard deviation of each layer over the steps: `ug.plots.stats_over_time`."""
        return self._plots().stats_over_time(self.probe, **options)

    def color_dim(self, **options: Any) -> Figure:
        """The histogram of each layer's activations, a column a step: `ug.plots.color_dim`."""
        return self._plots().color_dim(self.probe, **options)

    def dead_chart(self, **options: Any) -> Figure:
        """The share of each layer's values near zero over the steps: `ug.plots.dead_chart`."""
        return self._plots().dead_chart(self.probe, **options)

    def _plots(self) -> Any:
        if self.probe is None:
            raise InputError("ActivationStats: nothing was measured yet; fit first")
        from ...report import plots

        return plots

    def state_dict(self) -> dict[str, Any]:
        if self.probe is not None:
            self.probe.record.commit()
        return {"step": self.probe.number} if self.probe is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.probe is not None:
            self.probe.go_to(int(state["step"]))


class Hooks(Callback):
    """Calls a function after the forward pass of chosen modules, for as long as training lasts.

    function  (learn, name, module, inputs, output) -> None
    modules   fnmatch patterns of module names, or a function of a module that says whether it is wanted
    """

    essential = False

    def __init__(
        self,
        function: Callable[[Learner, str, nn.Module, Any, Any], None],
        modules: str | Sequence[str] | Callable[[nn.Module], bool] = "*",
    ):
        self.function, self.modules = function, modules
        self._handles: list[Any] = []

    def before_fit(self, learn: Learner) -> None:
        for name, module in learn.model.named_modules():
            if name and self._wants(name, module):
                self._handles.append(module.register_forward_hook(self._hook(learn, name)))
        if not self._handles:
            raise InputError(f"Hooks(modules={self.modules!r}): no module of the model matches")

    def _wants(self, name: str, module: nn.Module) -> bool:
        if callable(self.modules):
            return self.modules(module)
        patterns = [self.modules] if isinstance(self.modules, str) else self.modules
        return any(fnmatchcase(name, p) for p in patterns)

    def _hook(self, learn: Learner, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.function(learn, name, module, inputs, output)

        return hook

    def cleanup_fit(self, learn: Learner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class NonFiniteLoss(UnitgainError):
    """Raised by StopOnNonFinite(strict=True)."""


class StopOnNonFinite(Callback):
    """Ends the training when the loss or a gradient is NaN or infinite, before the step that would make the
    weights so, and names the first such value: an input, a weight, or the module whose output or gradient it was.

    every      test each every-th batch; testing waits for an accelerator
    gradients  test the gradients too (not under a loss scaler, whose first steps overflow and are skipped by it)
    strict     raise NonFiniteLoss instead of warning and ending the fit

    `reason` is the sentence, `report` the diagnosis of that batch.
    """

    order = -30

    def __init__(self, every: int = 1, *, gradients: bool = True, strict: bool = False):
        if not isinstance(every, int) or every < 1:
            raise InputError(f"StopOnNonFinite(every={every!r}): expected a whole number of at least 1")
        self.every, self.gradients, self.strict = every, gradients, strict
        self.reason: str | None = None
        self.report: Any = None

    def after_loss(self, learn: Learner) -> None:
        if learn.training and learn.batch_index % self.every == 0:
            self._judge(learn, learn.loss.detach(), "the loss")

    def before_step(self, learn: Learner) -> None:
        if not self.gradients or learn.steps % self.every:
            return
        if any(isinstance(c, MixedPrecision) and c.scaler is not None for c in learn.callbacks):
            return
        gradients = [
            p.grad for group in learn.optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        dense = [g for g in gradients if g.layout is torch.strided]
        if dense:
            total = sum(n.to(dense[0].device) for n in torch._foreach_norm(dense))
            assert isinstance(total, Tensor)
            self._judge(learn, total, "the norm of the gradients")

    def _judge(self, learn: Learner, value: Tensor, what: str) -> None:
        bad = ~torch.isfinite(value)
        if not float(learn.over_ranks(bad.float())):
            return
        where = f"in epoch {learn.epoch}, batch {learn.batch_index}"
        self.reason = f"{what} is {float(value)} {where}; {self._first(learn)}" if bool(bad) else (
            f"{what} of another rank is not finite {where}")  # fmt: skip
        if self.strict:
            raise NonFiniteLoss(self.reason)
        warnings.warn(f"training stopped: {printable(self.reason)}", stacklevel=2)
        raise CancelFit

    def _first(self, learn: Learner) -> str:
        for name, parameter in learn.model.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                return f"the weights {name} are not finite since an earlier step (look at its gradients)"
        from ..._check import check

        try:
            self.report = check(
                learn.model,
                learn.parsed,
                loss=learn.criterion.given,
                select=["UG104", "UG202", "UG306", "UG405"],
            )
        except Exception as error:
            return f"measuring this batch again failed: {error}"
        finding = next(iter(self.report.findings), None)
        if finding is None:
            return "every value is finite when this batch is run again"
        return f"first bad site: {finding.site} ({finding.code} {finding.name}: {finding.message})"
