"""The forward pass: every site of the graph and its gradient measured as it comes."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .. import stats
from .._base import InputError, hold_eager, keep_out_of_copies
from .._batch import tensors_in
from ..graph import Graph, Listener, Node, Tracer, batch_axis, in_backward
from ..record import pack_map
from .breaks import breaks
from .labels import Labels
from .options import FLAT_SAMPLE, SELDOM, Options
from .parameters import forget_empty_hooks, parts_of
from .passes import Passes
from .recompute import Recomputation, Recomputed
from .sites import Place, describe_input
from .squeezed import Squeezed
from .step import Step
from .threads import Threads

_MOST_BACKWARDS = 256  # in one step: more accumulation is measured in part
_MOST_CALLS = 32  # further calls of one module in one pass share the last site


class Forward(Listener):
    """Measures inputs, activations and their gradients of a model's passes. A graph's Tracer tells it what comes.

    guard         wraps a hook so that an error in it does not stop training
    always        also passes without gradients are measured (there is no optimizer that would tell training apart)
    step          what is measured goes there; the Probe sets it
    too_many      called when so many backward passes came in one step that no more is measured in it
    calls         of the model's own forward, or passes that were opened, in this step
    backwards     how often in this step a backward pass followed a forward pass
    gradients     whether gradients were enabled when the running hook was called; the guard sets it
    idle          True while nothing is to be measured
    places        the sites so far, in execution order; inputs likewise
    breaks        functions that made NaN or infinity out of finite tensors
    saturation    of bounded activations, which values were saturated in the first sampled step
    """

    def __init__(
        self,
        model: nn.Module,
        options: Options,
        guard: Callable[..., Callable[..., Any]],
        step: Step,
        too_many: Callable[[int], None],
        *,
        always: bool,
    ):
        self._model, self._options, self._always, self._guard = model, options, always, guard
        self._too_many = too_many
        self.step = step
        self.passes = Passes()
        self._into = step  # what the present pass measures goes there
        self.calls = self.backwards = 0
        self._ran = False  # a site was measured since the last gradient
        self._returned = (
            False  # a gradient came since the last step of an optimizer, or since calls were counted anew
        )
        self.gradients = True
        self.idle = False
        self.places: dict[str, Place] = {}
        self.inputs: dict[str, Place] = {}
        self.breaks: list[dict[str, Any]] = []
        self.labels = Labels()
        self.squeezed = Squeezed()
        self._scored: Step | None = None  # the step whose first gradient of a tensor has come
        self.saturation: dict[str, dict[str, Any]] = {}
        self._tracer = self._new_tracer()
        self._hooks: list[RemovableHandle] = []
        self._release: Callable[[], Any] = lambda: None  # compilers
        self._let_into_copies: Callable[[], Any] = lambda: None  # the hooks, which copies are to be without
        self._first = True  # no step has been finished yet
        self._in_pass = False
        self._open = False  # in a pass that is not a call of the model's own forward
        self._measuring = False
        self._recomputation = Recomputation()
        self.threads = Threads(always)
        self._take_gradient = guard(self._measure_gradient, passes=True)
        self._take_late_gradient = guard(self._measure_late_gradient, passes=True)
        self._confirm = guard(self._confirm_pass)

    def _new_tracer(self) -> Tracer:
        self._modules, _ = parts_of(self._model)
        guard = functools.partial(self._guard, passes=True)
        return Tracer(self._model, self, guard=guard, exact=False, most_calls=_MOST_CALLS)

    # ---- hooks ---------------------------------------------------------------------------------------------

    @property
    def in_pass(self) -> bool:
        """Whether a pass has begun and not ended."""
        return self._in_pass

    @property
    def armed(self) -> bool:
        return self._tracer.armed

    @property
    def following(self) -> bool:
        """Whether a torch function mode is on, which must not see what is done here."""
        return self._tracer.following

    @property
    def failed_in(self) -> str | None:
        """Path of the innermost module whose forward raised."""
        return self._tracer.failed_in

    @property
    def reached(self) -> bool:
        """Whether a site has been measured in this step."""
        return self._ran or self.backwards > 0

    def graph(self) -> Graph:
        return self._tracer.graph()

    def arm(self, more: Callable[[list[RemovableHandle]], None]) -> None:
        """Hooks what is measured, and whatever `more` hooks and adds to the list that it is given. Only done for
        sampled steps, so that the others run as if there were no Probe."""
        if self._tracer.armed:
            return
        self._release = hold_eager(self)
        self._tracer.arm()
        more(self._hooks)  # which may raise halfway, and what is hooked by then is to be found
        handles = [*self._tracer.handles, *self._hooks]
        self._let_into_copies = keep_out_of_copies(self._model.modules(), handles)

    def disarm(self) -> None:
        """Removes the hooks, and lets compiled code run compiled again."""
        self.remove_hooks()
        self._release()

    def remove_hooks(self) -> None:
        """Also in the midst of a pass, where compilers are held off to its end: one with fullgraph=True would raise."""
        if not self._tracer.armed:
            return
        self._let_into_copies()
        self._tracer.disarm()
        for handle in self._hooks:
            handle.remove()
        self._hooks.clear()
        if self.threads.all <= {threading.get_ident()} and not in_backward():
            forget_empty_hooks(self._model)

    def renew(self, now: list[int]) -> None:
        """If modules have been added or replaced, the model is followed anew. Sites keep their names and places.
        now: as `parts_of` gives them."""
        if now != self._modules:
            self.disarm()
            self.abandon()
            self._tracer = self._new_tracer()

    def begin_step(self, step: Step) -> None:
        self.step = self._into = step
        self.passes.clear()
        self.calls = self.backwards = 0
        self._ran = self._returned = False
        if not self._in_pass:
            self._tracer.reset()

    def finish(self) -> bool:
        """Ends the step. True if it was the first: sites and their structure are known from then on."""
        self._tracer.leave_mode()
        self.passes.settle(self.step)
        if self._tracer.settle():
            self.disarm()  # another set of hooks is needed, as is now known
        first, self._first = self._first, False
        return first

    # ---- one pass ------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Forgets a pass that has not ended: an interrupt skips even the hooks that are always called."""
        self._tracer.abandon()
        self._recomputation.clear()
        self._in_pass = self._open = False

    def open(self, *, again: bool = False) -> None:
        """A pass begins of which the model's own forward may be no part. What comes into its modules from elsewhere is
        the input. again: it goes on after a call of the model's own forward; functions are the loss's from here on."""
        self._in_pass = self._open = True
        self.calls += 1
        self._into = self.step
        self._measuring = self.gradients or self._always
        if self._measuring:
            self._tracer.open(self._options.examples, again=again)

    def close(self, output: Tensor | None = None) -> None:
        """Such a pass ends. output: what the loss looks at. Unless it is given, or a call of the model's own forward
        has returned it, what was measured last is taken for it."""
        if not self._open:  # this step is not measured, or measuring has failed
            return
        if self._measuring:
            self._tracer.close(output)
        self.abandon()
        self._measuring = False

    def enter(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, alone: bool, skip: bool = False
    ) -> None:
        """The model's own forward begins. alone: it is a pass by itself, which may turn out not to belong to the step.
        skip: it is known not to."""
        self._recomputation.clear()
        self._in_pass, self._open = True, False
        skip = skip or self.backwards >= _MOST_BACKWARDS
        self._measuring = not skip and (self.gradients or self._always)
        if self._measuring:
            self.calls += 1
            self._into = self.passes.begin(self.step) if alone and not self._always else self.step
            self._tracer.begin(args, kwargs, self._options.examples)

    def leave(self, output: Any, *, goes_on: bool) -> None:
        """The model's own forward ended, or raised. goes_on: the pass goes on, by `open(again=True)`."""
        if not self._in_pass or in_backward():
            return
        if self._measuring and (output is not None or sys.exc_info()[0] is None):
            self._tracer.end(output, goes_on=goes_on)
            if self._into is not self.step:
                self._watch(output)
            if self.squeezed.wanted:
                self._compare(output)
        else:
            self._tracer.leave_mode()
        self._in_pass = self._measuring = False
        self._into = self.step

    def _watch(self, output: Any) -> None:
        """A gradient of the output says that the pass belongs to the step."""
        tensor = next((t for t in tensors_in(output) if t.requires_grad), None)
        if tensor is not None:
            tensor.register_hook(functools.partial(self._confirm, self.step, self._into))

    def _compare(self, output: Any) -> None:
        """What goes into the loss with the gradient that comes back."""
        tensor = next((t for t in tensors_in(output) if t.requires_grad and t.dim() == 2), None)
        if tensor is not None and stats.is_plain(tensor):
            tensor.register_hook(self._guard(functools.partial(self.squeezed.saw, tensor.detach())))

    def _confirm_pass(self, step: Step, into: Step, _: Tensor | None = None) -> None:
        if step is not self.step:  # a graph kept alive beyond its step
            return
        self._returned = True
        if self._ran:
            self._ran = False
            self.backwards += 1
            if self.backwards == _MOST_BACKWARDS:
                self._too_many(self.backwards)
        if into is not step:
            self.passes.confirm(into, step)

    def check_attached(self, name: str) -> None:
        """Raises InputError for a name that another site has or will have."""
        taken = self.places.get(name)
        foreign = taken is not None and taken.node.type != "Tensor"
        if foreign or name in self._tracer.paths or name in ("input", "output"):
            raise InputError(
                f"attach(name={name!r}): an input, a module or the output is called so; choose another name"
            )

    def attach(self, tensor: Tensor, name: str) -> None:
        if self.wanted():
            self.node(self._tracer.attach(tensor, name), tensor, None)

    # ---- what the tracer tells -----------------------------------------------------------------------------

    def enters(self) -> None:
        """After a backward pass the model's parts begin another pass: of accumulation, where no step was made since."""
        if self._returned and not self._in_pass and not in_backward():
            self._returned = False
            self._tracer.reset()

    def stepped(self) -> None:
        """An optimizer has made its step; what runs now belongs to the next one of this round."""
        self._returned = False
        self.passes.stepped()

    def wanted(self) -> bool:
        """Whether a forward call outside or inside of the model's own forward is to be measured now."""
        if self.idle or self.backwards >= _MOST_BACKWARDS:
            return False
        if self._in_pass:
            return self._measuring
        self.enters()
        return not in_backward() and (self.gradients or self._always)

    def node(self, node: Node, tensor: Tensor, given: Any) -> None:
        if node.kind == "input":
            self._measure_input(node, tensor)
        elif node.site:
            place = self.places.get(node.name)
            if place is None:
                selected = self._options.selects(node.name)
                place = self.places[node.name] = Place(node, len(self.places) + 1, selected)
            place.node = node  # of a module that was replaced, another one
            self._ran = True
            if not self.gradients and node.module is not None:
                self._recomputation.ran_without_gradients(node.path, node.name)
            self._observe(place, tensor)

    def function(self, function: Any, args: Any, out: Any) -> None:
        if self._first and self._options.limit is None and breaks(function, args, out):
            where = {"module": self._tracer.path, "position": len(self.places)}
            self.breaks.append({"function": function.__name__, **where})

    def again(self, path: str, output: Any) -> None:
        """Reentrant checkpointing ran the first forward without gradients; its tensors with gradients come now."""
        call = self._recomputation.ran_again(path)
        tensor = next(tensors_in(output), None)
        if call is not None and tensor is not None and tensor.requires_grad:
            tensor.register_hook(functools.partial(self._take_late_gradient, self.step, call))

    # ---- measuring -----------------------------------------------------------------------------------------

    def _measure_input(self, node: Node, tensor: Tensor) -> None:
        options, name = self._options, node.name
        if "input" not in options.signals or tensor.numel() == 0 or not options.selects(name):
            return
        place = self.inputs.get(name)
        if place is None:
            place = self.inputs[name] = Place(node, 0, True, describe_input(tensor, node.channel_axis))
        floating = tensor.is_floating_point()
        fits = floating and len(node.shape) == tensor.dim()
        how = {
            "channel_axis": node.channel_axis if fits else None,
            "batch_axis": batch_axis(None, stats.shape_of(tensor), self._tracer.examples),
            "cosine": floating,
            "spread": options.limit is None and floating,
            "sample": options.sample if floating else 0,
        }
        self._reduce_or_hold("input", name, tensor, how)

    def _observe(self, place: Place, tensor: Tensor) -> None:
        """Measures the tensor of a known site, and its gradient when it comes."""
        if not place.selected or not (tensor.is_floating_point() or tensor.is_complex()):
            return
        options, step, node = self._options, self._into, place.node
        if "activation" in options.signals:
            shape = stats.shape_of(tensor)
            if shape == node.shape:
                channels, examples = node.channel_axis, node.batch_axis
            else:
                channels = node.channel_axis if len(node.shape) == tensor.dim() else None
                examples = batch_axis(node.module, shape, self._tracer.examples)
            exact = options.limit is None
            how = {
                "channel_axis": channels,
                "batch_axis": examples,
                "function": node.activation.range if node.activation is not None else None,
                "cosine": exact or not step.turn or step.turn % SELDOM == place.position % SELDOM,
                "spread": exact,
                "count_zeros": exact or not options.sample,
                "sample": options.sample,
            }
            self._reduce_or_hold("activation", node.name, tensor, how)
            if options.maps and node.activation is not None and self._first:
                self._keep_map(node, tensor)
        if "gradient" in options.signals and tensor.requires_grad:
            tensor.register_hook(functools.partial(self._take_gradient, self.step, step, node.name))

    def _reduce_or_hold(self, kind: str, name: str, tensor: Tensor, how: dict[str, Any]) -> None:
        """All of it at once; with a limit some examples, later."""
        step, limit = self._into, self._options.limit
        if limit is None:
            step.add(kind, name, stats.summarize(tensor, **how))
            return
        some, how["channel_axis"], how["batch_axis"] = stats.take_examples(
            tensor, how["channel_axis"], how["batch_axis"], limit, step.turn
        )
        step.hold(kind, name, some, how)

    def _keep_map(self, node: Node, tensor: Tensor) -> None:
        """Rows are examples (or tokens), columns units; a channel of an image counts when most of it does."""
        flat = node.activation.range if node.activation is not None else stats.Range()
        if flat.saturated == (None, None) or node.channel_axis is None or not stats.is_plain(tensor):
            return
        flags = stats.saturated(tensor, flat)
        if tensor.dim() == 4 and node.channel_axis == 1:
            flags = flags.float().mean((2, 3)) > 0.5
        else:
            flags = flags.movedim(node.channel_axis, -1).flatten(0, -2)
        self.saturation[node.name] = pack_map(flags[:64, :256].cpu().numpy())

    def _measure_gradient(self, step: Step, into: Step, name: str, gradient: Tensor) -> None:
        if step is not self.step:  # a graph kept alive beyond its step
            return
        self._confirm_pass(step, into)
        if name == self._tracer.main_output or self._is_first_of_scores(step, gradient):
            self.labels.saw(gradient)
        if self._options.limit is None:
            step.add("gradient", name, stats.summarize(gradient, sample=self._options.sample))
        else:
            step.add_flat("gradient", name, stats.take_sample(gradient, FLAT_SAMPLE))

    def _is_first_of_scores(self, step: Step, gradient: Tensor) -> bool:
        """Whether the model returns a loss, and this is the first gradient of a tensor in this step: that of what the
        loss looked at."""
        if gradient.dim() < 2 or self._scored is step:
            return False
        self._scored = step
        main = self._tracer.nodes.get(self._tracer.main_output or "")
        return main is None or not main.shape

    def _measure_late_gradient(self, step: Step, call: Recomputed, gradient: Tensor) -> None:
        name = self._recomputation.name_of(call)
        place = self.places.get(name or "")
        if name is not None and place is not None and place.selected and "gradient" in self._options.signals:
            self._measure_gradient(step, step, name, gradient)
