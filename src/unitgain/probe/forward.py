"""The forward pass: hooks on every module, functions followed between them, outputs and their gradients measured."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .. import stats
from .._base import InputError
from ..record import pack_map
from . import functions, modules
from .dataflow import Dataflow, Origin, Origins, tensors_in
from .labels import Labels
from .options import FLAT_SAMPLE, SELDOM, Options
from .recompute import Recomputation, Recomputed
from .sites import Draft, mark_residual_ends, unique_name
from .step import Step

_MOST_CALLS = 32  # further calls of one module in one pass share the last site
_SUBTRACTED_BY = {
    "batch_norm": "channel", "instance_norm": "channel", "layer_norm": "layer", "group_norm": "group",
}  # fmt: skip


class Forward:
    """Measures inputs, activations and their gradients of a model's passes.

    guard         wraps a hook so that an error in it does not stop training
    always        also passes without gradients are measured (there is no optimizer that would tell training apart)
    step          what is measured goes there; the Probe sets it
    gradients     whether gradients were enabled when the running hook was called; the guard sets it
    flow          the mode that follows functions, while it is on
    failed_in     path of the innermost module whose forward raised
    drafts        the sites so far, in execution order
    breaks        functions that made NaN or infinity out of finite tensors
    saturation    of bounded activations, which values were saturated in the first sampled step
    """

    def __init__(
        self,
        model: nn.Module,
        options: Options,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
        step: Step,
        *,
        always: bool,
    ):
        self._model, self._options, self._guard, self._always = model, options, guard, always
        self.step = step
        self.gradients = True
        self.flow: Dataflow | None = None
        self.failed_in: str | None = None
        self.drafts: dict[str, Draft] = {}
        self.inputs: dict[str, Draft] = {}
        self.breaks: list[dict[str, Any]] = []
        self.labels = Labels()
        self.saturation: dict[str, dict[str, Any]] = {}
        self._hooks: list[RemovableHandle] = []  # only while a step is sampled
        self._duplicates: set[str] = set()  # blocks that return a measured tensor unchanged
        self._structure_known = False
        self._has_functions = False
        self._origins = Origins()
        self._suspended = False  # flow is there, but taken off
        self._in_pass = False
        self._measuring = False
        self._examples = options.examples
        self._recomputation = Recomputation()
        self._take_gradient = guard(self._measure_gradient)
        self._take_late_gradient = guard(self._measure_late_gradient)
        leaf_at = {path: leaf for path, _, leaf, _ in modules.walk(model)}
        self._paths = leaf_at.keys()
        self._is_layer = leaf_at[""] and modules.role(model) != "other"  # the model itself
        self.output_name = unique_name("output", "", self._paths)  # where the model itself makes its output
        self._reset()

    # ---- hooks ---------------------------------------------------------------------------------------------

    @property
    def armed(self) -> bool:
        return bool(self._hooks)

    def arm(self, more: Callable[[], list[RemovableHandle]]) -> None:
        """Hooks every module, and whatever `more` hooks. Only done for sampled steps, so that the others run as if
        there were no Probe."""
        if self._hooks:
            return
        follow = not self._structure_known or self._has_functions
        for path, module, leaf, block in modules.walk(self._model):
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            is_root = path == ""
            # the model's output is looked at by `leave`, unless the model is a layer itself
            if (leaf or block) and (not is_root or self._is_layer) and path not in self._duplicates:
                hook = functools.partial(self._leave_module, path, leaf, is_root)
                self._hooks.append(module.register_forward_hook(self._guard(hook), with_kwargs=True))
            if follow and not is_root:
                enter = functools.partial(self._push, path, module, leaf)
                self._hooks.append(module.register_forward_pre_hook(self._guard(enter)))
                self._hooks.append(module.register_forward_hook(self._guard(self._pop), always_call=True))
        self._hooks += more()

    def disarm(self) -> None:
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()

    def finish(self) -> bool:
        """Ends the step. True if it was the first: sites and their structure are known from then on."""
        self.leave_flow()
        first, self._structure_known = not self._structure_known, True
        if first:
            mark_residual_ends(self.drafts, self.step.sums)
            self.disarm()  # with or without following functions, as is now known
        return first

    def _reset(self) -> None:
        self._calls: dict[str, int] = {}
        self._stack: list[tuple[str, nn.Module, bool]] = []
        self._function_calls: dict[str, int] = {}
        self._recomputation.clear()
        self._origins.clear()

    # ---- one pass ------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Forgets a pass that has not ended: an interrupt skips even the hooks that are always called."""
        self.leave_flow()
        self._in_pass = False

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model's own forward begins."""
        self._reset()
        self._in_pass = True
        self._measuring = self.gradients or self._always
        if not self._measuring:
            return
        given = list(tensors_in((args, kwargs)))
        self._examples = self._options.examples or (given[0].shape[0] if given and given[0].dim() else None)
        self._measure_inputs(args, kwargs)
        if (not self._structure_known or self._has_functions) and not modules.is_compiled(self._model):
            exact = self._options.limit is None and not self._structure_known
            watched = self._saw_break if exact else None
            self.flow = Dataflow(self._origins, self._guard(self._saw_function), watched)
            self.flow.__enter__()
        self._push("", self._model, not modules.measured_children(self._model))

    def leave(self, module: nn.Module, _: Any, output: Any) -> None:
        """The model's own forward ended, or raised."""
        if not self._in_pass or in_backward():
            return
        self._in_pass = False
        self.leave_flow()
        if not self._measuring or output is None:
            return
        self._measuring = False
        first = next((t for t in tensors_in(output) if t.is_floating_point() and t.dim()), None)
        if first is None or self._is_layer:  # a layer has a hook of its own
            pass
        elif not self._structure_known:
            self._mark_output(module, first)
        elif self.output_name in self.drafts:
            self._measure_site(self.output_name, first, path="", module=module, role="other", sources=())
        self._stack.clear()

    def leave_flow(self) -> None:
        if self.flow is not None:
            flow, self.flow = self.flow, None
            if not self._suspended:
                flow.__exit__(None, None, None)
            self._suspended = False
            self.step.sums.extend(flow.sums)

    def _suspend_flow(self, on: bool) -> None:
        """The mode is taken off while a compiled part runs: the compiler would trace into it."""
        if self.flow is not None and on != self._suspended:
            self._suspended = on
            if on:
                self.flow.__exit__(None, None, None)
            else:
                self.flow.__enter__()

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
        if self.flow is not None and self._stack:
            _, module, leaf = self._stack[-1]
            self._suspend_flow(modules.is_compiled(module))
            self.flow.in_leaf = leaf and modules.role(module) == "other"
            self.flow.paused = leaf and not self.flow.in_leaf

    def _wants(self) -> bool:
        """Whether a forward call outside or inside of the model's own forward is to be measured now."""
        if self._in_pass:
            return self._measuring
        return not in_backward() and (self.gradients or self._always)

    def _leave_module(
        self, path: str, leaf: bool, is_root: bool, module: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        if in_backward():  # a checkpointed part runs its forward again
            self._hook_recomputed(path, output)
            return
        if not self._wants():
            return
        call = self._calls[path] = min(self._calls.get(path, 0) + 1, _MOST_CALLS)
        base = (path or "output") + (f"#{call}" if call > 1 else "")
        name = unique_name(base, path, self._paths)
        if not self.gradients:
            self._recomputation.ran_without_gradients(path, name)
        if self.flow is None and type(output) is Tensor and name in self.drafts:
            self._observe(self.drafts[name], output, module)
            return
        sources = self._origins.of((args, kwargs))
        for suffix, tensor in modules.outputs_of(module, output):
            known = self._origins[tensor]
            if not leaf and not self._structure_known and known is not None and known.direct:
                self._duplicates.add(path)
                if len(known.sites) == 1:
                    self.drafts[known.sites[0]].attributes.setdefault("block", "block")
                continue
            role = modules.role(module) if leaf else "block"
            self._measure_site(
                unique_name(base + suffix, path, self._paths),
                tensor,
                path=path,
                module=module,
                role=role,
                call=call,
                leaf=leaf,
                sources=sources,
            )
            if is_root and not suffix:
                self.drafts[name].attributes["output"] = True

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
        full = unique_name(base + (f"#{call}" if call > 1 else ""), path, self._paths)
        function = functions.ACTIVATIONS.get(name) if role == "activation" else None
        self._measure_site(
            full, tensor, path=path, module=None, role=role, call=call, sources=sources, function=function,
            type_name=name, subtracts_mean=_SUBTRACTED_BY.get(name),
        )  # fmt: skip

    def _saw_break(self, function: str) -> None:
        path = self._stack[-1][0] if self._stack else ""
        self.breaks.append({"function": function, "module": path, "position": len(self.drafts)})

    # ---- measuring -----------------------------------------------------------------------------------------

    def check_attached(self, name: str) -> None:
        """Raises InputError for a name that another site has or will have."""
        taken = self.drafts.get(name)
        foreign = taken is not None and taken.module != "Tensor"
        if foreign or name in self._paths or name in ("input", "output"):
            raise InputError(
                f"attach(name={name!r}): an input, a module or the output is called so; choose another name"
            )

    def attach(self, tensor: Tensor, name: str) -> None:
        if self._wants():
            self._measure_site(name, tensor, path="", module=None, role="other", sources=())

    def _measure_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        options = self._options
        named: list[tuple[str, Tensor]] = []
        for place, tensor in enumerate(tensors_in(args, depth=3)):
            named.append(("input" if place == 0 else f"input[{place}]", tensor))
        for key, value in kwargs.items():
            for place, tensor in enumerate(tensors_in(value, depth=1)):
                named.append((f"input[{key}]" + (f"[{place}]" if place else ""), tensor))
        for label, tensor in named:
            name = unique_name(label, "", self._paths)
            self._origins[tensor] = Origin((name,), True)
            if "input" not in options.signals or tensor.numel() == 0 or not options.selects(name):
                continue
            draft = self.inputs.get(name)
            if draft is None:
                axis = modules.channel_axis(None, tuple(tensor.shape))
                draft = self.inputs[name] = Draft.of_input(name, tensor, axis)
            floating = tensor.is_floating_point()
            fits = floating and len(draft.shape) == tensor.dim()
            partial = stats.summarize(
                tensor, channel_axis=draft.channel_axis if fits else None,
                batch_axis=modules.batch_axis(None, tuple(tensor.shape), self._examples),
                cosine=floating, spread=options.limit is None and floating,
                sample=options.sample if floating else 0, limit=options.limit, turn=self.step.turn,
            )  # fmt: skip
            self.step.add("input", name, partial)

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
        draft = self.drafts.get(name)
        if draft is None:
            producer = next((self.drafts[s] for o in sources for s in o.sites if s in self.drafts), None)
            draft = Draft.of_tensor(
                name, tensor, position=len(self.drafts) + 1, path=path, call=call, role=role, leaf=leaf,
                module=module, type_name=type_name, examples=self._examples, sources=sources, producer=producer,
                function=function, subtracts_mean=subtracts_mean, selected=self._options.selects(name),
            )  # fmt: skip
            self.drafts[name] = draft
        self._origins[tensor] = Origin((name,), True)
        self._observe(draft, tensor, module)

    def _observe(self, draft: Draft, tensor: Tensor, module: nn.Module | None) -> None:
        """Measures the tensor of a known site, and its gradient when it comes."""
        if not draft.selected or not (tensor.is_floating_point() or tensor.is_complex()):
            return
        options, step = self._options, self.step
        if "activation" in options.signals:
            if tensor.shape == draft.shape:
                channel_axis, batch_axis = draft.channel_axis, draft.batch_axis
            else:
                channel_axis = draft.channel_axis if len(draft.shape) == tensor.dim() else None
                batch_axis = modules.batch_axis(module, tuple(tensor.shape), self._examples)
            exact = options.limit is None
            how = {
                "channel_axis": channel_axis,
                "batch_axis": batch_axis,
                "function": draft.function.range if draft.function is not None else None,
                "cosine": exact or not step.turn or step.turn % SELDOM == draft.position % SELDOM,
                "spread": exact,
                "count_zeros": exact or not options.sample,
                "sample": options.sample,
            }
            if options.limit is None:
                step.add("activation", draft.name, stats.summarize(tensor, **how))
            else:
                some, how["channel_axis"], how["batch_axis"] = stats.take_examples(
                    tensor, channel_axis, batch_axis, options.limit, step.turn
                )
                step.hold(draft.name, some, how)
            if options.maps and draft.function is not None and not self._structure_known:
                self._keep_map(draft, tensor)
        if "gradient" in options.signals and tensor.requires_grad:
            tensor.register_hook(functools.partial(self._take_gradient, step, draft.name))

    def _keep_map(self, draft: Draft, tensor: Tensor) -> None:
        """Rows are examples (or tokens), columns units; a channel of an image counts when most of it does."""
        flat = draft.function.range if draft.function is not None else stats.Range()
        if flat.saturated == (None, None) or draft.channel_axis is None:
            return
        flags = stats.saturated(tensor, flat)
        if tensor.dim() == 4 and draft.channel_axis == 1:
            flags = flags.float().mean((2, 3)) > 0.5
        else:
            flags = flags.movedim(draft.channel_axis, -1).flatten(0, -2)
        self.saturation[draft.name] = pack_map(flags[:64, :256].cpu().numpy())

    def _measure_gradient(self, step: Step, name: str, gradient: Tensor) -> None:
        if step is not self.step:  # a graph kept alive beyond its step
            return
        if self.drafts[name].attributes.get("output"):
            self.labels.saw(gradient)
        if self._options.limit is None:
            step.add("gradient", name, stats.summarize(gradient, sample=self._options.sample))
        else:
            step.add_flat("gradient", name, stats.take_sample(gradient, FLAT_SAMPLE))

    def _hook_recomputed(self, path: str, output: Any) -> None:
        """Reentrant checkpointing ran the first forward without gradients; its tensors with gradients come now."""
        call = self._recomputation.ran_again(path)
        tensor = next(tensors_in(output), None)
        if call is not None and tensor is not None and tensor.requires_grad:
            tensor.register_hook(functools.partial(self._take_late_gradient, self.step, call))

    def _measure_late_gradient(self, step: Step, call: Recomputed, gradient: Tensor) -> None:
        name = self._recomputation.name_of(call)
        draft = self.drafts.get(name or "")
        if name is not None and draft is not None and draft.selected and "gradient" in self._options.signals:
            self._measure_gradient(step, name, gradient)

    def _mark_output(self, module: nn.Module, tensor: Tensor) -> None:
        known = self._origins[tensor]
        if known is not None and known.direct and len(known.sites) == 1 and known.sites[0] in self.drafts:
            self.drafts[known.sites[0]].attributes["output"] = True
        else:
            sources = () if known is None else (known,)
            self._measure_site(
                self.output_name, tensor, path="", module=module, role="other", leaf=False, sources=sources
            )
            self.drafts[self.output_name].attributes["output"] = True


def in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
