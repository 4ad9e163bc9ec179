"""Probe: watches a model (and its optimizer) train and fills a Record. There is nothing to call in the loop."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
import sqlite3
import sys
import warnings
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .. import stats
from .._version import __version__
from ..errors import InputError
from ..record import Record, pack_map
from . import functions, modules
from .dataflow import Dataflow, Origin, Origins, tensors_in
from .parameters import (
    Parameter,
    Updates,
    gradient_norms,
    list_parameters,
    model_facts,
    optimizer_facts,
    unscaled,
)
from .ranks import merge_over_ranks
from .sites import Draft, mark_residual_ends
from .writer import SELDOM, Step, StepWriter

SIGNALS = ("input", "activation", "gradient", "parameter", "parameter_gradient", "update")
_FLAT_SAMPLE = 1024  # values taken of gradients, parameters and updates when there is a limit
_MOST_BREAKS = 20
_MOST_CALLS = 32  # further calls of one module in one pass share the last site


class Probe:
    """Measures activations, their gradients, parameters, gradients and updates while a model trains.

        with ug.Probe(model, optimizer, every=10, to="run.sqlite") as probe:
            for x, y in loader: ...
        probe.record.frame("activation")

    model      any nn.Module; it is never changed, and training is bit for bit the same with and without a Probe
    optimizer  its steps are counted and its updates measured. Without one, every forward pass with gradients
               enabled is a step, and updates are not measured
    every      measure each every-th step (steps 0, every, 2 * every, ...); the others cost nothing
    to         path of a new SQLite record, or an open one; None keeps it in a temporary one
    signals    which kinds to measure, out of SIGNALS
    include    fnmatch patterns of site and parameter names ("layer1.*"); exclude likewise
    histograms whether to keep the two histograms of each site
    sample     values per tensor that histograms are counted from
    limit      of a larger tensor, measure only as many examples as hold about this many values (at least 2; other
               ones at each step) and of gradients and parameters a sample of 1,024 values; each site's cosine and
               each parameter's histograms then come at every 8th sampled step. None measures everything
    examples   batch size, where it is not the first axis of the first input
    maps       whether to keep, of the first sampled step, which values of bounded activations were saturated
               (at most 64 examples x 256 units each), for `plots.saturation_map`
    merge_ranks  in a data-parallel run, where every rank has a Probe: what differs between ranks (inputs, activations
               and their gradients) is merged, and only rank 0 writes

    Forward passes under torch.no_grad (validation) are not measured when there is an optimizer. An error inside
    the Probe does not stop training: it warns and stops measuring (strict=True raises instead).

    >>> model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Probe(model, optimizer) as probe:
    ...     model(torch.randn(32, 8)).square().mean().backward()
    ...     optimizer.step()
    >>> [site.name for site in probe.record.sites("activation")]
    ['0', '1', '2']
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int = 1,
        to: str | os.PathLike[str] | Record | None = None,
        signals: Sequence[str] = SIGNALS,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        histograms: bool = True,
        sample: int = 1024,
        limit: int | None = 16_384,
        examples: int | None = None,
        maps: bool = False,
        merge_ranks: bool = False,
        strict: bool = False,
    ):
        if not isinstance(model, nn.Module):
            raise InputError(f"Probe(model=...): expected an nn.Module, got {type(model).__name__}")
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(f"Probe(optimizer=...): expected an optimizer, got {type(optimizer).__name__}")
        if not isinstance(every, int) or every < 1:
            raise InputError(f"Probe(every={every!r}): expected a whole number of at least 1")
        if any(type(p).__name__ == "DTensor" for p in model.parameters()):
            raise InputError(
                "Probe(model=...): its parameters are sharded (DTensor), which a Probe cannot measure yet; measure the "
                "model before it is sharded"
            )
        for name in signals:
            if name not in SIGNALS:
                raise InputError(f"Probe(signals=...): {name!r} is unknown; there are {', '.join(SIGNALS)}")
        self.model = cast("nn.Module", model.module) if _is_data_parallel(model) else model
        if isinstance(self.model, torch.jit.ScriptModule):
            raise InputError(
                "Probe(model=...): a scripted model takes no hooks; give the one it was made from"
            )
        self.optimizer = optimizer
        self.every = every
        self.signals = frozenset(signals)
        self.include, self.exclude = tuple(include), tuple(exclude)
        self.sample = sample if histograms else 0
        self.limit = limit
        self.strict = strict
        self.failed_in: str | None = None  # path of the innermost module whose forward raised
        self._maps: dict[str, dict[str, Any]] | None = {} if maps else None
        self._record = to if isinstance(to, Record) else Record(to)
        self._merge_ranks = merge_ranks
        self.step = 0
        self.samples = 0  # sampled steps so far
        self._examples_given = examples
        self._writer = StepWriter(self._record, self.sample, thrifty=limit is not None)
        self._describe()

        self._parameters: list[Parameter] = []
        self._updates = Updates(None if limit is None else _FLAT_SAMPLE)
        self._permanent: list[RemovableHandle] = []  # root and optimizer
        self._armed: list[RemovableHandle] = []  # every module, only while a step is sampled
        self._drafts: dict[str, Draft] = {}
        self._inputs: dict[str, Draft] = {}
        self._breaks: list[dict[str, Any]] = []  # functions that made NaN or infinity out of finite tensors
        self._duplicates: set[str] = set()  # blocks that return a measured tensor unchanged
        self._structure_known = False
        self._has_functions = False
        self._origins = Origins()
        self._flow: Dataflow | None = None
        self._suspended = False  # flow is there, but taken off
        self._reset_pass()
        self._in_pass = False
        self._measuring = False
        self._gradients = True  # whether gradients were enabled when the running hook was called
        self._current = Step(0)
        self._started = False
        self._take_gradient = self._guard(self._measure_gradient)
        self._examples: int | None = examples

    # ---- life cycle ----------------------------------------------------------------------------------------

    def __enter__(self) -> Probe:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Probe:
        """Adds the hooks; `with` does this."""
        if self._started:
            return self
        self._started = True
        root = self.model
        self._permanent.append(
            root.register_forward_pre_hook(self._guard(self._enter_root), with_kwargs=True)
        )
        self._permanent.append(root.register_forward_hook(self._guard(self._leave_root), always_call=True))
        if self.optimizer is not None:
            self._permanent.append(self.optimizer.register_step_pre_hook(self._guard(self._before_step)))
            self._permanent.append(self.optimizer.register_step_post_hook(self._guard(self._after_step)))
        if self._is_sampled():
            self._arm()
        return self

    def stop(self) -> None:
        """Removes every hook and writes what is pending. The record stays open for reading."""
        started = self._started
        self._remove_hooks()  # first, or finishing would arm the next step
        if started and not self._current.empty:
            self._finish_step()
        if started:
            self._state_facts()  # the learning rate may have moved on
        self._writer.drain()
        self._record.commit()

    def _remove_hooks(self) -> None:
        self._started = False
        self._leave_flow()
        self._disarm()
        for handle in self._permanent:
            handle.remove()
        self._permanent.clear()

    @property
    def record(self) -> Record:
        """What has been measured so far."""
        self._writer.drain()
        return self._record

    def go_to(self, step: int) -> None:
        """Counts on from this step: for a run that goes on where another one ended."""
        self._writer.drain()
        self.step = step - 1
        self._advance()

    def flush(self) -> None:
        """Ends the step that is being measured, as the next forward pass or optimizer step would, and writes it."""
        if not self._current.empty:
            self._finish_step()
        self._writer.drain()
        self._record.commit()

    def log(self, **metrics: float | Tensor) -> None:
        """Stores named numbers with the current step: `probe.log(loss=loss)`. Waits for an accelerator."""
        plain = {n: v.detach() if isinstance(v, Tensor) else v for n, v in metrics.items()}
        self._record.log(self.step, **{name: float(value) for name, value in plain.items()})
        self._record.commit(every=0.5)

    def attach(self, tensor: Tensor, name: str) -> Tensor:
        """Measures a functional intermediate as a site called name; returns the tensor, so that it can be wrapped
        around an expression. Does nothing in steps that are not sampled."""
        taken = self._drafts.get(name)
        if taken is not None and taken.module != "Tensor":
            raise InputError(f"attach(name={name!r}): a module's site has this name already; choose another")
        if self._armed:
            self._guard(self._attach)(tensor, name)
        return tensor

    def _attach(self, tensor: Tensor, name: str) -> None:
        if self._wants_forward():
            self._measure_site(name, tensor, path="", module=None, role="other", sources=())

    def _is_sampled(self) -> bool:
        return self.step % self.every == 0

    def _describe(self) -> None:
        self._record.set_meta("model", type(self.model).__name__)
        self._record.set_meta("versions", {"unitgain": __version__, "torch": str(torch.__version__),
                                          "python": platform.python_version()})  # fmt: skip
        self._record.set_meta("every", self.every)
        self._record.set_meta("sampling", {"histogram_values": self.sample, "limit": self.limit})
        first = next(self.model.parameters(), None)
        self._state_facts()
        self._record.set_meta("device", str(first.device) if first is not None else "cpu")
        self._record.commit()

    def _state_facts(self) -> None:
        facts = {**self._record.facts, "mode": "training", "model": model_facts(self.model)}
        if self.optimizer is not None:
            facts["optimizer"] = optimizer_facts(self.optimizer)
        self._record.set_meta("facts", facts)

    # ---- hooks ---------------------------------------------------------------------------------------------

    def _guard(self, hook: Callable[..., None]) -> Callable[..., None]:
        """Measuring never stops training: after an error inside it, it warns once and takes its hooks away."""

        @functools.wraps(hook)
        def guarded(*args: Any, **kwargs: Any) -> None:
            self._gradients = enabled = torch.is_grad_enabled()
            try:
                if self._flow is not None:
                    with torch.no_grad(), torch._C.DisableTorchFunction():
                        hook(*args, **kwargs)
                elif enabled:
                    torch._C._set_grad_enabled(False)  # as torch.no_grad() does, at a third of its cost
                    try:
                        hook(*args, **kwargs)
                    finally:
                        torch._C._set_grad_enabled(True)
                else:
                    hook(*args, **kwargs)
            except Exception as error:
                if self.strict:
                    raise
                self._remove_hooks()
                self._current = Step(self.step)
                with contextlib.suppress(Exception):  # the record may be what failed: a full disk, say
                    self._writer.drain()
                    self._record.commit()
                if isinstance(error, sqlite3.Error):
                    why = f"the record {self._record.path or '(temporary)'} cannot be written: {error}."
                else:
                    why = f"{type(error).__name__}: {error}. This is a defect of unitgain; please report it."
                warnings.warn(
                    f"unitgain's Probe stopped measuring at step {self.step}: {why} Training goes on.",
                    stacklevel=2,
                )

        return guarded

    def _arm(self) -> None:
        """Hooks every module. Only done for sampled steps, so that the others run as if there were no Probe."""
        if self._armed:
            return
        follow = not self._structure_known or self._has_functions
        for path, module, leaf, block in modules.walk(self.model):
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            is_root = path == ""
            # the output of a root that is no leaf is looked at by _leave_root
            if (leaf or block) and (leaf or not is_root) and path not in self._duplicates:
                hook = functools.partial(self._leave_module, path, leaf, is_root)
                self._armed.append(module.register_forward_hook(self._guard(hook), with_kwargs=True))
            if follow and not is_root:
                enter = functools.partial(self._push, path, module, leaf)
                self._armed.append(module.register_forward_pre_hook(self._guard(enter)))
                self._armed.append(module.register_forward_hook(self._guard(self._pop), always_call=True))
        if self.optimizer is None and "parameter_gradient" in self.signals:
            for p in self._list_parameters():
                if p.tensor.requires_grad and p.tensor.is_leaf:
                    hook = self._guard(functools.partial(self._measure_gradient_of, p))
                    self._armed.append(p.tensor.register_post_accumulate_grad_hook(hook))

    def _disarm(self) -> None:
        for handle in self._armed:
            handle.remove()
        self._armed.clear()

    def _reset_pass(self) -> None:
        self._calls: dict[str, int] = {}
        self._recalls: dict[str, int] = {}
        self._hooked: set[str] = set()
        self._stack: list[tuple[str, nn.Module, bool]] = []
        self._function_calls: dict[str, int] = {}
        self._origins.clear()

    def _enter_root(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _in_backward():
            return
        self._leave_flow()  # an interrupt in the last pass skips even the hooks that are always called
        self._in_pass = False
        if self.optimizer is None and self._gradients and not self._current.empty:
            self._finish_step()
        if not self._is_sampled():
            return
        self._arm()
        self._reset_pass()
        self._in_pass = True
        self._measuring = self._gradients or self.optimizer is None
        if not self._measuring:
            return
        given = list(tensors_in((args, kwargs)))
        self._examples = self._examples_given or (given[0].shape[0] if given and given[0].dim() else None)
        self._measure_inputs(args, kwargs)
        if (not self._structure_known or self._has_functions) and not modules.is_compiled(self.model):
            watched = self._saw_break if self.limit is None and not self._structure_known else None
            self._flow = Dataflow(self._origins, self._guard(self._saw_function), watched)
            self._flow.__enter__()
        self._push("", self.model, not modules.measured_children(self.model))

    def _leave_root(self, module: nn.Module, _: Any, output: Any) -> None:
        if not self._in_pass or _in_backward():
            return
        self._in_pass = False
        self._leave_flow()
        if not self._measuring or output is None:
            return
        self._measuring = False
        first = next((t for t in tensors_in(output) if t.is_floating_point() and t.dim()), None)
        if first is not None and not self._structure_known:
            self._mark_output(module, first)
        elif first is not None and "output" in self._drafts and self._drafts["output"].path == "":
            self._measure_site("output", first, path="", module=module, role="other", sources=())
        self._stack.clear()

    def _leave_flow(self) -> None:
        if self._flow is not None:
            flow, self._flow = self._flow, None
            if not self._suspended:
                flow.__exit__(None, None, None)
            self._suspended = False
            self._current.sums.extend(flow.sums)

    def _suspend_flow(self, on: bool) -> None:
        """The mode is taken off while a compiled part runs: the compiler would trace into it."""
        if self._flow is not None and on != self._suspended:
            self._suspended = on
            if on:
                self._flow.__exit__(None, None, None)
            else:
                self._flow.__enter__()

    def _push(self, path: str, module: nn.Module, leaf: bool, *_: Any) -> None:
        self._stack.append((path, module, leaf))
        self.failed_in = None  # whatever raised before was caught
        self._aim_flow()

    def _pop(self, _module: nn.Module, _args: Any, output: Any) -> None:
        path = self._stack.pop()[0] if self._stack else ""
        # hooks that are always called get None when forward raised; but a module may also return it
        if output is None and self.failed_in is None and sys.exc_info()[0] is not None:
            self.failed_in = path
        self._aim_flow()

    def _aim_flow(self) -> None:
        if self._flow is not None and self._stack:
            _, module, leaf = self._stack[-1]
            self._suspend_flow(modules.is_compiled(module))
            self._flow.in_leaf = leaf and modules.role(module) == "other"
            self._flow.paused = leaf and not self._flow.in_leaf

    def _wants_forward(self) -> bool:
        """Whether a forward call outside or inside of the model's own forward is to be measured now."""
        if self._in_pass:
            return self._measuring
        return not _in_backward() and (self._gradients or self.optimizer is None)

    def _leave_module(
        self, path: str, leaf: bool, is_root: bool, module: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        if _in_backward():  # a checkpointed part runs its forward again
            self._hook_recomputed(path, output)
            return
        if not self._wants_forward():
            return
        call = self._calls[path] = min(self._calls.get(path, 0) + 1, _MOST_CALLS)
        base = (path or "output") + (f"#{call}" if call > 1 else "")
        if self._flow is None and type(output) is Tensor and base in self._drafts:
            self._observe(self._drafts[base], output, module)
            return
        sources = self._origins.of((args, kwargs))
        for suffix, tensor in modules.outputs_of(module, output):
            known = self._origins[tensor]
            if not leaf and not self._structure_known and known is not None and known.direct:
                self._duplicates.add(path)
                if len(known.sites) == 1:
                    self._drafts[known.sites[0]].attributes.setdefault("block", "block")
                continue
            role = modules.role(module) if leaf else "block"
            self._measure_site(
                base + suffix,
                tensor,
                path=path,
                module=module,
                role=role,
                call=call,
                leaf=leaf,
                sources=sources,
            )

    def _saw_function(
        self, role: str, name: str, args: Any, kwargs: Any, out: Any, sources: tuple[Origin, ...]
    ) -> None:
        tensor = next((t for t in tensors_in(out, depth=1) if t.is_floating_point()), None)
        if tensor is None:
            return
        self._has_functions = True
        path = self._stack[-1][0] if self._stack else ""
        base = f"{path}:{name}"
        call = self._function_calls[base] = min(self._function_calls.get(base, 0) + 1, _MOST_CALLS)
        full = base + (f"#{call}" if call > 1 else "")
        function = functions.ACTIVATIONS.get(name) if role == "activation" else None
        norm = {
            "batch_norm": "channel",
            "instance_norm": "channel",
            "layer_norm": "layer",
            "group_norm": "group",
        }
        self._measure_site(
            full, tensor, path=path, module=None, role=role, call=call, sources=sources, function=function,
            type_name=name, subtracts_mean=norm.get(name),
        )  # fmt: skip

    def _saw_break(self, function: str) -> None:
        path = self._stack[-1][0] if self._stack else ""
        self._breaks.append({"function": function, "module": path, "position": len(self._drafts)})

    # ---- measuring -----------------------------------------------------------------------------------------

    def _selects(self, name: str) -> bool:
        return any(fnmatchcase(name, p) for p in self.include) and not any(
            fnmatchcase(name, p) for p in self.exclude
        )

    def _measure_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named: list[tuple[str, Tensor]] = []
        for i, value in enumerate(args):
            for j, tensor in enumerate(tensors_in(value, depth=2)):
                place = i + j
                named.append(("input" if place == 0 else f"input[{place}]", tensor))
        for key, value in kwargs.items():
            named.extend((f"input[{key}]", tensor) for tensor in tensors_in(value, depth=1))
        for name, tensor in named:
            self._origins[tensor] = Origin((name,), True)
            if "input" not in self.signals or tensor.numel() == 0 or not self._selects(name):
                continue
            draft = self._inputs.get(name)
            if draft is None:
                axis = modules.channel_axis(None, tuple(tensor.shape))
                draft = self._inputs[name] = Draft.of_input(name, tensor, axis)
            floating = tensor.is_floating_point()
            fits = floating and len(draft.shape) == tensor.dim()
            partial = stats.summarize(
                tensor, channel_axis=draft.channel_axis if fits else None,
                batch_axis=modules.batch_axis(None, tuple(tensor.shape), self._examples),
                cosine=floating, spread=self.limit is None and floating, sample=self.sample if floating else 0,
                limit=self.limit, turn=self.samples,
            )  # fmt: skip
            self._current.add("input", name, partial)

    def _measure_site(
        self,
        name: str,
        tensor: Tensor,
        *,
        path: str,
        module: nn.Module | None,
        role: str,
        sources: tuple[Origin, ...],
        call: int = 1,
        leaf: bool = True,
        function: functions.Activation | None = None,
        type_name: str = "",
        subtracts_mean: str | None = None,
    ) -> None:
        draft = self._drafts.get(name)
        if draft is None:
            producer = next((self._drafts[s] for o in sources for s in o.sites if s in self._drafts), None)
            draft = Draft.of_tensor(
                name, tensor, position=len(self._drafts) + 1, path=path, call=call, role=role, leaf=leaf,
                module=module, type_name=type_name, examples=self._examples, sources=sources, producer=producer,
                function=function, subtracts_mean=subtracts_mean, selected=self._selects(name),
            )  # fmt: skip
            self._drafts[name] = draft
        self._origins[tensor] = Origin((name,), True)
        self._observe(draft, tensor, module)

    def _observe(self, draft: Draft, tensor: Tensor, module: nn.Module | None) -> None:
        """Measures the tensor of a known site, and its gradient when it comes."""
        if not draft.selected or not (tensor.is_floating_point() or tensor.is_complex()):
            return
        if "activation" in self.signals:
            if tensor.shape == draft.shape:
                channel_axis, batch_axis = draft.channel_axis, draft.batch_axis
            else:
                channel_axis = draft.channel_axis if len(draft.shape) == tensor.dim() else None
                batch_axis = modules.batch_axis(module, tuple(tensor.shape), self._examples)
            how = {
                "channel_axis": channel_axis,
                "batch_axis": batch_axis,
                "function": draft.function.range if draft.function is not None else None,
                "cosine": self.limit is None
                or not self.samples
                or self.samples % SELDOM == draft.position % SELDOM,
                "spread": self.limit is None,
                "count_zeros": self.limit is None or not self.sample,
                "sample": self.sample,
            }
            if self.limit is None:
                self._current.add("activation", draft.name, stats.summarize(tensor, **how))
            else:
                some, how["channel_axis"], how["batch_axis"] = stats.take_examples(
                    tensor, channel_axis, batch_axis, self.limit, self.samples
                )
                self._current.hold(draft.name, some, how)
            if self._maps is not None and draft.function is not None and not self._structure_known:
                self._keep_map(draft, tensor)
        if "gradient" in self.signals and tensor.requires_grad:
            self._hook_gradient(draft, tensor)

    def _keep_map(self, draft: Draft, tensor: Tensor) -> None:
        """Rows are examples (or tokens), columns units; a channel of an image counts when most of it does."""
        flat = draft.function.range if draft.function is not None else stats.Range()
        if flat.saturated == (None, None) or draft.channel_axis is None or self._maps is None:
            return
        flags = stats.saturated(tensor, flat)
        if tensor.dim() == 4 and draft.channel_axis == 1:
            flags = flags.float().mean((2, 3)) > 0.5
        else:
            flags = flags.movedim(draft.channel_axis, -1).flatten(0, -2)
        self._maps[draft.name] = pack_map(flags[:64, :256].cpu().numpy())

    def _hook_gradient(self, draft: Draft, tensor: Tensor) -> None:
        self._hooked.add(draft.name)
        tensor.register_hook(functools.partial(self._take_gradient, self._current, draft.name))

    def _measure_gradient(self, step: Step, name: str, gradient: Tensor) -> None:
        if step is not self._current:  # a graph kept alive beyond its step
            return
        if self.limit is None:
            step.add("gradient", name, stats.summarize(gradient, sample=self.sample))
        else:
            step.add_flat("gradient", name, stats.take_sample(gradient, _FLAT_SAMPLE))

    def _hook_recomputed(self, path: str, output: Any) -> None:
        """Reentrant checkpointing ran the first forward without gradients; its tensors with gradients come now."""
        call = self._recalls[path] = self._recalls.get(path, 0) + 1
        name = (path or "output") + (f"#{call}" if call > 1 else "")
        draft = self._drafts.get(name)
        tensor = next(tensors_in(output), None)
        if draft is None or tensor is None or name in self._hooked or not draft.selected:
            return
        if "gradient" in self.signals and tensor.requires_grad:
            self._hook_gradient(draft, tensor)

    def _mark_output(self, module: nn.Module, tensor: Tensor) -> None:
        known = self._origins[tensor]
        if known is not None and known.direct and len(known.sites) == 1 and known.sites[0] in self._drafts:
            self._drafts[known.sites[0]].attributes["output"] = True
        else:
            sources = () if known is None else (known,)
            self._measure_site(
                "output", tensor, path="", module=module, role="other", leaf=False, sources=sources
            )
            if "output" in self._drafts:
                self._drafts["output"].attributes["output"] = True

    def _list_parameters(self) -> list[Parameter]:
        if not self._parameters:
            self._parameters = [p for p in list_parameters(self.model) if self._selects(p.name)]
        return self._parameters

    def _measure_parameters(self) -> None:
        """Parameters as they are now; the same values are compared with those after the step."""
        plain = [p for p in self._list_parameters() if p.tensor.numel() and _is_plain(p.tensor)]
        if self.limit is None and (self.optimizer is None or "update" not in self.signals):
            for p in plain:  # nothing to compare with later, so nothing is copied
                self._add_flat("parameter", p.name, p.tensor)
            return
        for name, values in self._updates.take(plain).items():
            if "parameter" in self.signals:
                self._add_flat("parameter", name, values)

    def _measure_gradients(self, named: dict[str, Tensor]) -> None:
        """Gradients of parameters: exactly without a limit, else a sample and the norm of all."""
        whole = {n: g.coalesce().values() if g.is_sparse else g.detach() for n, g in named.items()}
        for name, gradient in whole.items():
            if self.limit is None:
                self._current.partials["parameter_gradient", name] = stats.summarize(
                    gradient, sample=self.sample
                )
            else:
                self._current.flat["parameter_gradient", name] = stats.take_sample(gradient, _FLAT_SAMPLE)
        if self.limit is not None:
            large = {n: g for n, g in whole.items() if g.numel() > _FLAT_SAMPLE}
            for name, norm in gradient_norms(large).items():
                if norm.device.type == "cpu" and not math.isfinite(
                    norm.item()
                ):  # perhaps outside of the sample
                    del self._current.flat["parameter_gradient", name]
                    self._current.partials["parameter_gradient", name] = stats.summarize(
                        large[name], sample=self.sample
                    )
                else:
                    self._current.norms[name] = norm, large[name].numel()

    def _add_flat(self, kind: str, name: str, values: Tensor) -> None:
        if self.limit is None:
            self._current.add(kind, name, stats.summarize(values, sample=self.sample))
        else:
            self._current.add_flat(kind, name, values)

    def _measure_gradient_of(self, p: Parameter, tensor: Tensor) -> None:
        if tensor.grad is not None:
            self._measure_gradients({p.name: tensor.grad})

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._is_sampled():
            return
        if "lr" in optimizer.param_groups[0]:
            self._record.log(self.step, lr=float(optimizer.param_groups[0]["lr"]))
        if self.signals & {"parameter", "update"}:
            self._measure_parameters()
        if "parameter_gradient" in self.signals:
            named = {
                p.name: unscaled(p.tensor.grad, optimizer)
                for p in self._list_parameters()
                if p.tensor.grad is not None and p.tensor.numel()
            }
            self._measure_gradients(named)

    def _after_step(self, *_: Any) -> None:
        if self._is_sampled():
            if "update" in self.signals:
                for name, change in self._updates.changes(self._list_parameters()).items():
                    self._add_flat("update", name, change)
            self._finish_step()
        else:
            self._advance()

    def _advance(self) -> None:
        self.step += 1
        self._current = Step(self.step)
        if self._is_sampled() and self._started:
            self._arm()
        else:
            self._disarm()

    def _finish_step(self) -> None:
        if self.optimizer is None and "parameter" in self.signals:
            self._measure_parameters()
        self._leave_flow()
        if not self._structure_known:
            mark_residual_ends(self._drafts, self._current.sums)
            self._disarm()  # with or without following functions, as is now known
            if self._breaks:
                self._record.set_meta("breaks", self._breaks[:_MOST_BREAKS])
            if self._maps:
                self._record.set_meta("saturation_maps", self._maps)
        self._structure_known = True
        if not self._merge_ranks or merge_over_ranks(self._current):
            self._writer.write(self._current, self._drafts, self._inputs, self._list_parameters())
        self._record.commit(every=0.5)
        self.samples += 1
        self._advance()


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _is_plain(tensor: Tensor) -> bool:
    return not nn.parameter.is_lazy(tensor)


def _is_data_parallel(model: nn.Module) -> bool:
    return isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel))
