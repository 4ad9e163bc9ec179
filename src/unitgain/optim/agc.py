"""Adaptive gradient clipping: a unit's gradient may not be large compared with the unit's own weights.

    g <- g * c max(|w|, eps) / max(|g|, 1e-6)    where |g| > c max(|w|, eps)

for every unit (row of a matrix, filter of a convolution; see `units`), with w its weights and g their gradient.
Brock, De, Smith and Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization" (2021). Units
are those of the authors' JAX code, restated for torch's (output, input, ...) layouts; c = 0.01 suits batches of 1024
to 4096; smaller batches can take larger values. Only the weight of the classifier is not clipped; gains, biases and
skip gains are.

torch has two other kinds of clipping: `torch.nn.utils.clip_grad_norm_` (one norm for all parameters) and
`clip_grad_value_` (each number by itself).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from .._base import InputError, RecordError, no_module, plain_name
from .classifier import Finder, named_by, unit_axes
from .clipping import WITHOUT_UNITS, Entry, above_zero, clip, has_units
from .units import layout_of
from .unused import UnusedWatch, inner_optimizer
from .unwrap import unwrapped, unwrapped_model

GAINS = ("vector", "channel")


@torch.no_grad()
def agc_(
    parameters: Tensor | Iterable[Tensor] | Iterable[Mapping[str, Any]],
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    gains: str = "vector",
    grad_scale: float | Tensor = 1.0,
) -> Tensor:
    """Clips the gradients of parameters unit by unit, in place; returns how many units were clipped (0-dim).

    parameters  tensors, or groups like an optimizer's ({"params": [...], "clipping": 0.02}; clipping None: the
                group is not clipped). Pass all but the classifier's weight, or use `AGC`, which finds it
    clipping    c above: the largest |g| / |w| of a unit
    eps         lower bound of |w|, so that zero-initialized units can leave zero
    gains       "vector": a gain of shape (O, 1, 1, 1) is one unit (DeepMind's); "channel": O units (timm's)
    grad_scale  what gradients are multiplied by at the moment: `scaler.get_scale()` before `scaler.unscale_`, else 1

    The unit axis is 0; `AGC` takes the right one for transposed convolutions, too. Parameters without gradient are
    skipped. Sparse gradients of embeddings, complex parameters, empty ones and DTensors (FSDP2, tensor parallelism:
    every rank must call) work. Flat parameters of FSDP1 do not, as their units cannot be recovered: `AGC` refuses them.
    A gradient that is NaN or infinite stays so.

    Raises InputError for clipping or eps that are not above 0, and for sparse gradients of anything but rows.

    >>> w = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> w.grad = torch.tensor([[0.01, 0.02], [1.0, 0.0]])
    >>> agc_(w, clipping=0.01).item(), w.grad  # the second unit is all zero, so eps counts: 0.01 * 1e-3
    (1, tensor([[1.0000e-02, 2.0000e-02],
            [1.0000e-05, 0.0000e+00]]))
    """
    entries: list[Entry] = []
    seen: set[int] = set()
    for p, factor in _with_factors(parameters, clipping):
        if id(p) not in seen and p.grad is not None and factor is not None:
            seen.add(id(p))
            entries.append(Entry(p, layout_of(p, _known(gains)), factor))
    found = [mask for mask in clip(entries, eps, grad_scale) if mask is not None]
    return torch.cat([mask.to(found[0].device) for mask in found]).sum() if found else torch.tensor(0)


def _with_factors(parameters: Any, clipping: float | None) -> Iterable[tuple[Tensor, float | None]]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    for item in parameters:
        if isinstance(item, Mapping):
            factor = item.get("clipping", clipping)
            yield from ((p, above_zero("clipping", factor)) for p in item["params"])
        elif isinstance(item, Tensor):
            yield item, above_zero("clipping", clipping)
        else:
            raise InputError(
                f"agc_(parameters=...): a {type(item).__name__}; expected tensors or groups of them"
            )


def _known(gains: str) -> str:
    if gains not in GAINS:
        raise InputError(f"agc: gains={gains!r}; expected 'vector' or 'channel'")
    return gains


def _sum_over_ranks(numbers: Tensor) -> Tensor:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        cpu = "gloo" in str(dist.get_backend()) or not torch.cuda.is_available()
        numbers = numbers if cpu else numbers.cuda()
        dist.all_reduce(numbers)
    return numbers.cpu()


# ---- beside an optimizer -----------------------------------------------------------------------------------


class AGC:
    """Clips before every step of an optimizer from now on, without any call in the loop.

        agc = ug.optim.AGC(optimizer, model, clipping=0.01)
        with ug.optim.AGC(optimizer, model, probe=probe): ...      # taken off at the end

    optimizer  any torch optimizer, also in a wrapper (accelerate's), and one of SAM's kind with its `base_optimizer`,
               whose steps are what is clipped; it stays the caller's own, with its schedulers,
               scaler and state_dict. A group's key "clipping" overrides the factor; None there: the group is not
               clipped
    model      gives the parameters' names, the weight of the classifier, and the unit axis of transposed
               layers
    exclude    "auto": the output layer's weight, found as `classifier` says (its bias is clipped). Else names, patterns
               of parameter or module names, modules, parameters; () excludes nothing
    probe      a Probe (or any object with `number`, `every`, `log` and `record`): gets the share of clipped units at
               its sampled steps, in all ("agc") and by parameter ("agc/NAME"), and every unit's count, for `plots.agc`
    clipping, eps, gains as for `agc_`.

    Under a GradScaler gradients are clipped as they are after unscaling, also for fused optimizers that unscale inside
    their step, and a closure's gradients after every evaluation. Clipping runs before other hooks of the optimizer's
    step, so a Probe sees clipped gradients. If weights change again and again and the optimizer's step is never called
    (some wrappers change them themselves), a warning says so once. Raises InputError like `agc_`, and for an exclude
    that matches nothing.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> agc = AGC(optimizer, model, clipping=0.01)
    >>> (1e3 * model(torch.randn(16, 4))).square().mean().backward()
    >>> optimizer.step()
    >>> agc.excluded, sorted(agc.rates())
    (['2.weight'], ['0.bias', '0.weight', '2.bias'])
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        clipping: float = 0.01,
        eps: float = 1e-3,
        *,
        gains: str = "vector",
        exclude: Any = "auto",
        probe: Any = None,
    ):
        optimizer = unwrapped(optimizer, "AGC(optimizer=...)")
        if not isinstance(model, nn.Module):
            raise no_module("AGC(model=...)", model)
        self.optimizer, self.clipping, self.eps = optimizer, clipping, eps
        self.gains = _known(gains)
        above_zero("clipping", clipping)
        above_zero("eps", eps)
        model = unwrapped_model(model, "AGC(model=...)")
        self._axes = unit_axes(model)
        self._names: dict[Tensor, str] = {p: plain_name(n) for n, p in model.named_parameters()}
        self._known = frozenset(self._names)
        self._said: set[str] = set()
        self._finder = Finder(model) if isinstance(exclude, str) and exclude == "auto" else None
        self._excluded = dict.fromkeys([] if self._finder else named_by(model, exclude))
        self._counts: dict[str, Tensor] = {}  # clipped so far, by unit
        self._seen: dict[str, int] = {}  # steps in which the parameter had a gradient
        self._last: dict[str, Tensor] = {}
        self._probe = probe
        self._logged = 0
        self._inner = inner_optimizer(optimizer)  # of SAM: its step is made, SAM's own not always
        self._inner_steps = False
        self._warn_of_mistakes()
        self._handles = [
            self._hooked(one) for one in dict.fromkeys((optimizer, self._inner)) if one is not None
        ]
        self._unused = UnusedWatch(optimizer, "AGC")

    def _warn_of_mistakes(self) -> None:
        """An optimizer of another model, of which nothing would be clipped, and one that has an AGC already."""
        name = type(self.optimizer).__name__
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self._names and not any(p in self._names for p in held):
            self._say(
                f"this {name} holds none of the model's {len(self._names)} parameters. Was the model made anew after "
                f"the optimizer? Make the optimizer from this very model: {name}(model.parameters(), ...)"
            )
        owners = (getattr(h, "__self__", None) for h in self.optimizer._optimizer_step_pre_hooks.values())
        if any(isinstance(owner, AGC) for owner in owners):
            self._say(
                f"this {name} has an AGC already, and both will clip: take the first away with its `remove()`"
            )

    def _hooked(self, optimizer: torch.optim.Optimizer) -> Any:
        handle = optimizer.register_step_pre_hook(self._before_step)
        # first of all: what a Probe, hooked before, measures is what the optimizer gets
        cast("OrderedDict[int, Any]", optimizer._optimizer_step_pre_hooks).move_to_end(handle.id, last=False)
        return handle

    def __enter__(self) -> AGC:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Takes the clipping off the optimizer and, with a Probe, writes the counts. Twice is fine."""
        for handle in self._handles:
            handle.remove()
        self._unused.stop()
        if self._finder is not None:
            self._finder.stop()
            self._finder.release()
        self._write_counts()
        self._probe = None

    @property
    def excluded(self) -> list[str]:
        """Names of the parameters that are not clipped. With exclude="auto" known after the first forward pass."""
        return [self._name(p) for p in self._left_alone()]

    def rates(self) -> dict[str, Tensor]:
        """{parameter name: (units,) share of its steps in which each unit was clipped}, on the CPU. Of a parameter
        sharded along its outputs: of this rank's units."""
        return {n: (c.double() / self._seen[n]).cpu() for n, c in self._counts.items()}

    def metrics(self, reduce: bool = False) -> dict[str, float]:
        """Share of units clipped in the last step: "agc" of all, "agc/NAME" of each parameter's. Waits.

        reduce  under tensor parallelism and FSDP2 each rank has its own units of a parameter, and so other shares; with
                reduce=True they are added up over all ranks, every one of which has to call
        """
        if not self._last:
            return {}
        counts = torch.stack([mask.sum().cpu() for mask in self._last.values()]).tolist()
        sizes = [len(mask) for mask in self._last.values()]
        if reduce:
            both = torch.tensor([counts, sizes], dtype=torch.float64)
            counts, sizes = _sum_over_ranks(both).tolist()
        found = {"agc": sum(counts) / max(sum(sizes), 1)}
        return found | {f"agc/{n}": c / max(s, 1) for n, c, s in zip(self._last, counts, sizes)}

    @torch.no_grad()
    def clip(self, grad_scale: float | Tensor = 1.0) -> None:
        """Clips now; the optimizer's step does so by itself. grad_scale as for `agc_`."""
        left_alone = self._left_alone()
        entries = []
        for group in self.optimizer.param_groups:
            factor = above_zero("clipping", group.get("clipping", self.clipping))
            for p in group["params"]:
                if factor is not None and p.grad is not None and p not in left_alone:
                    entries.append(Entry(p, layout_of(p, self.gains, *self._axes.get(p, (0, 1))), factor))
        for entry in [entry for entry in entries if not has_units(entry)]:
            self._say(f"{self._name(entry.parameter)} {WITHOUT_UNITS}: it is not clipped")
        entries = [entry for entry in entries if has_units(entry)]
        unknown = [self._name(e.parameter) for e in entries if e.parameter not in self._known]
        if unknown:
            self._say(
                f"{len(unknown)} tensors of the {type(self.optimizer).__name__} are no parameters of the model "
                f"({', '.join(unknown[:3])}): they are clipped too, each row as a unit"
            )
        self._last = {}
        for entry, mask in zip(entries, clip(entries, self.eps, grad_scale)):
            if mask is not None:
                self._count(self._name(entry.parameter), mask)

    def _say(self, what: str) -> None:
        """Warns once; raises nothing in the user's step."""
        if what not in self._said:
            self._said.add(what)
            warnings.warn(f"AGC: {what}", stacklevel=4)

    def _count(self, name: str, mask: Tensor) -> None:
        self._last[name] = mask
        if name in self._counts:
            self._counts[name] += mask
        else:
            self._counts[name] = mask.to(torch.int32)
        self._seen[name] = self._seen.get(name, 0) + 1

    def _left_alone(self) -> dict[Tensor, None]:
        return dict.fromkeys(self._finder.weights()) if self._finder is not None else self._excluded

    def _name(self, p: Tensor) -> str:
        if p not in self._names:
            for number, group in enumerate(self.optimizer.param_groups):
                for place, other in enumerate(group["params"]):
                    self._names.setdefault(other, f"group{number}[{place}]")
        return self._names.get(p, "unnamed")

    def _before_step(self, optimizer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        self._unused.stop()
        if self._inner is not None:
            self._inner_steps |= optimizer is self._inner
            if self._inner_steps and optimizer is not self._inner:
                return None  # the gradients that count are those of the inner step
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            scale = getattr(
                optimizer, "grad_scale", None
            )  # a fused optimizer's, which it divides by in its step
            self.clip(1.0 if scale is None else scale)
            self._log()
            return None

        def clipped(evaluate: Callable[[], Any] = closure) -> Any:
            loss = evaluate()
            self.clip()
            self._log()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": clipped}
        return (args[0], clipped, *args[2:]), kwargs

    def _log(self) -> None:
        probe = self._probe
        if probe is None or probe.number % probe.every:
            return
        probe.log(**self.metrics())
        self._logged += 1
        if self._logged & (self._logged - 1) == 0:  # at 1, 2, 4, 8, ...: a killed run has most of the counts
            self._write_counts()

    def _write_counts(self) -> None:
        if self._probe is None or not self._counts:
            return
        parameters = {n: {"steps": self._seen[n], "clipped": c.tolist()} for n, c in self._counts.items()}
        what = {
            "clipping": self.clipping,
            "eps": self.eps,
            "excluded": self.excluded,
            "parameters": parameters,
        }
        record = self._probe.record
        try:
            record.set_meta("agc", what)
            record.commit()
        except RecordError:  # the Probe warns of it; clipping continues
            self._probe = None
