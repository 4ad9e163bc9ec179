"""One step after another: when one begins and ends, which are measured, and which hooks are on meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .._base import is_held, keep_out_of_copies
from ..graph import in_backward, is_compiled
from .failing import take_off
from .forward import Forward
from .loop import Loop
from .options import Options
from .parameters import parts_of
from .rounds import Rounds, named
from .step import Step
from .weights import Weights

Guard = Callable[..., Callable[..., Any]]


class Steps:
    """Only sampled steps have hooks on the model; in the others only the optimizers' steps are counted (without an
    optimizer, the passes).

    entrance  whose calls are the passes, where there is no optimizer: the model, or the compiled module around it
    finished  takes a step that has been measured, and whether it was the first
    rate      takes the learning rate of a step that is measured
    say       takes what the user should know, once each

    number    steps before the present one; samples: sampled steps so far
    """

    def __init__(
        self,
        model: nn.Module,
        entrance: nn.Module,
        optimizers: Sequence[Optimizer],
        options: Options,
        guard: Guard,
        *,
        finished: Callable[[Step, bool], None],
        rate: Callable[[float], None],
        say: Callable[[str], None],
    ):
        self._model, self._entrance, self._optimizers = model, entrance, tuple(optimizers)
        self._options, self._guard = options, guard
        self._finished, self._rate, self._say = finished, rate, say
        self.number = self.samples = 0
        self.current = Step(0, 0)
        self.forward = Forward(model, options, guard, self.current, self._too_many, always=not optimizers)
        self.weights = Weights(model, options, self._optimizers, self.current)
        self.loop = Loop(model, self._optimizers, say) if self._optimizers else None
        self.rounds = Rounds(self._optimizers, self)
        self.started = self.idle = False
        self.inside = False  # in a pass of `Probe.one_pass`
        self._begun = False  # a pass with gradients has begun in this step
        self._last_pass: int | None = None  # the step in which the last one began, where that is seen
        self._logged_before: dict[
            str, bool
        ] = {}  # metrics: whether they are logged before the optimizer's step
        self._ready: set[int] = set()  # optimizers whose gradients have been measured in this step
        self._permanent: list[RemovableHandle] = []
        self._let_into_copies: Callable[[], Any] = lambda: None  # these, which copies are to be without
        self._inside_graph = is_compiled(model) and entrance is model  # hooks on it are compiled with it
        self._depth = 0  # of `open`

    @property
    def sampled(self) -> bool:
        """Whether the present step is measured."""
        return self.number % self._options.every == 0

    @property
    def empty(self) -> bool:
        return self.current.empty and not self.forward.passes.any

    # ---- hooks ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.started = True
        if self._optimizers:
            self._permanent = self.rounds.hook(self._guard)
        elif not self._inside_graph:
            self._permanent = self._hook_calls(self._entrance)
            self._let_into_copies = keep_out_of_copies([self._entrance], self._permanent)
        elif not is_held():
            self._say(
                f"the {type(self._model).__name__} is compiled in place, so that without an optimizer its passes "
                "are not seen: give the optimizer, or put `with probe.step():` around each step"
            )
        if self.loop is not None:
            self.loop.start()
        self._arm_if_sampled()

    def stop(self) -> None:
        """Removes every hook."""
        self._remove_hooks()
        for handle in self._permanent:
            handle.remove()
        self._permanent.clear()
        self.forward.disarm()

    def give_up(self) -> None:
        """Removes every hook, perhaps in the midst of a pass or an optimizer's step, and forgets the present step."""
        self._remove_hooks()
        take_off(self._permanent)
        for optimizer in self._optimizers[:1]:  # whose step is no part of a pass
            handles: list[RemovableHandle] = []

            def release(*_: Any, handles: list[RemovableHandle] = handles) -> None:
                take_off(handles)
                self.forward.disarm()

            handles.append(optimizer.register_step_pre_hook(release))
        with contextlib.suppress(Exception):  # what failed may fail again
            self.begin(Step(self.number, self.samples))

    def _remove_hooks(self) -> None:
        self.started = False
        self.forward.abandon()
        self.forward.remove_hooks()
        self._let_into_copies()

    def refresh(self) -> None:
        """Modules or parameters may have been added or replaced."""
        modules, parameters = parts_of(self._model)
        if self.weights.renew(parameters) and self.loop is not None:
            self.loop.start()
        self.forward.renew(modules)
        self._arm_if_sampled()

    def _arm_if_sampled(self) -> None:
        if self.sampled and self.started:
            self._arm()

    def _arm(self) -> None:
        self.forward.arm(self._more_hooks)

    def _more_hooks(self, handles: list[RemovableHandle]) -> None:
        handles += self.weights.hook_gradients(self._guard)
        if self._optimizers or self._inside_graph:
            handles += self._hook_calls(self._model)
        if self.loop is not None:
            handles += self.loop.hook(self._guard)

    def _hook_calls(self, module: nn.Module) -> list[RemovableHandle]:
        left = self._guard(self._leave, passes=True)

        def leave(*given: Any) -> None:
            if not self.forward.threads.ends():
                left(*given)

        return [
            module.register_forward_pre_hook(self._guard(self.enter, passes=True), with_kwargs=True),
            module.register_forward_hook(leave, always_call=True),
        ]

    # ---- passes --------------------------------------------------------------------------------------------

    def enter(self, root: nn.Module | None, args: tuple[Any, ...] = (), kwargs: Any = None) -> None:
        """A pass begins: the model's own forward, or (root None) one of `Probe.one_pass`."""
        if in_backward() or self.idle:
            return
        forward = self.forward
        if not forward.threads.begins(forward.in_pass, forward.gradients):
            self._say(
                f"several threads run the {type(self._model).__name__} at the same time; what modules compute is "
                "measured in the first one only"
            )
            return
        if self.inside:  # in a pass that has begun
            if forward.armed:
                forward.enter(args, kwargs, alone=False)
            return
        forward.abandon()
        if self.loop is not None:
            self.loop.afterwards.entered(self.loop.steps)
        skip = False
        if forward.gradients:
            if not self._optimizers and not self._depth:
                if not self.empty:
                    self.finish()
                elif self._begun:
                    self._advance()
            elif self._optimizers and self.sampled:
                skip = forward.passes.moved(self.weights.trained())
                thrown_away = self.current.has("gradient") and not (self.rounds.begun or self.rounds.stepping)
                if thrown_away and not skip and self.weights.without_gradients():
                    # backward ran, its gradients were thrown away: a GradScaler skipped the optimizer's step, say
                    self.begin(Step(self.number, self.samples))
            self._begun = True
            self._last_pass = self.number
        if self.sampled:
            self._arm()
            if self.loop is not None and forward.gradients and not skip:
                self.loop.entered(self._model, (*args, *(kwargs or {}).values()))
            elif self.loop is not None and not forward.gradients and self.loop.steps:
                self.loop.looks.looked()
            if root is None:
                forward.open()
            else:
                forward.enter(args, kwargs, alone=True, skip=skip)

    def _leave(self, _: nn.Module, args: Any, output: Any) -> None:
        if self.idle:
            return
        goes_on = self.inside and output is not None and self.forward.armed and not in_backward()
        self.forward.leave(output, goes_on=goes_on)
        if goes_on:
            self.forward.open(again=True)

    def _too_many(self, backwards: int) -> None:
        if self._optimizers:
            missed = f"a step of {named(self._optimizers)}"
        else:
            missed = f"a call of the forward of {type(self._model).__name__}"
        self._say(
            f"{backwards} backward passes were seen without {missed}, so that it is not known where a step of your "
            "loop ends; measuring waits for it. Put `with probe.step():` around each step"
        )

    # ---- what the optimizers do ----------------------------------------------------------------------------

    def before(self, optimizer: Optimizer) -> None:
        if optimizer is self._optimizers[0]:
            rate = optimizer.param_groups[0].get("lr")
            if isinstance(rate, Tensor) and rate.device.type != "cpu":
                self.current.rate = rate.detach().clone()
            elif rate is not None:
                self._rate(float(rate))
        if self._options.signals & {"parameter", "update"}:
            self.weights.measure_values(optimizer)

    def gradients(self, optimizer: Optimizer) -> None:
        if not self._ready and self.loop is not None:
            self.loop.before_step()
        self._ready.add(id(optimizer))
        self.weights.measure_gradients(optimizer)

    def evaluated(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._ready and not self.forward.passes.moved(self.weights.trained()):
            self.gradients(optimizer)

    def after(self, optimizer: Optimizer) -> None:
        if id(optimizer) not in self._ready:
            self.gradients(optimizer)
        self.weights.after_step(optimizer)
        self.forward.stepped()

    def over(self) -> None:
        sampled = self.sampled
        if self.loop is not None:
            if sampled:
                self.loop.after_step(self.number)
            self.loop.counted()
            self.loop.waiting.stepped()
        if sampled:
            self.finish()
        else:
            self._advance()
        if self.loop is not None and self.sampled and self.started:
            self.loop.begin()

    # ---- steps ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """A step begins that `close` ends, whatever happens inside."""
        self._depth += 1
        if self._depth > 1 or not self.started:
            return
        if self._optimizers or not self.empty:
            self.begin(Step(self.number, self.samples))  # what there was belongs to no step
        self.rounds.held = True
        self.rounds.forget()
        if not self._optimizers and self.sampled:
            self._arm()
            self.weights.measure_values()

    def close(self, *, failed: bool = False) -> None:
        """failed: what was measured is kept only if the loop ends with it."""
        self._depth -= 1
        if self._depth or not self.started:
            return
        self.rounds.held = False
        if failed:
            return
        if not self._optimizers and self.sampled:
            self.weights.after_step(None)
        self.rounds.end()

    def finish(self) -> None:
        if not (self._optimizers or self.current.has("parameter")) and "parameter" in self._options.signals:
            self.weights.measure_values(compare=False)
        seen = self.forward.calls, self.forward.backwards, bool(self.forward.places)
        first = self.forward.finish()
        self._finished(self.current, first)
        self.samples += 1
        self._advance()
        if first:
            self._say_what_was_not_seen(*seen)

    def _say_what_was_not_seen(self, calls: int, backwards: int, sites: bool) -> None:
        kind = type(self._model)
        name, without = kind.__name__, kind.forward is nn.Module.forward  # ModuleList, ModuleDict
        if calls or (
            backwards and (without or hasattr(self._model, "training_step"))
        ):  # Lightning's call no forward
            return
        if sites:
            self._say(
                f"the forward of {name} itself was not called in the first step: its modules are measured, but "
                "neither the functions between them nor its input and output"
            )
        else:
            self._say(
                f"no module of {name} was called in the first step, so that only its parameters are measured: does the "
                "loop run a copy of it, or a scripted or exported one?"
            )

    def go_to(self, step: int) -> None:
        self.number = step - 1
        self._advance()

    def _advance(self) -> None:
        self.number += 1
        if not (self.sampled or self._begun or self.forward.armed) and self.empty:
            self.current.number = self.number  # nothing has been measured, and nothing will be
            return
        self.begin(Step(self.number, self.samples))
        if self.sampled and self.started:
            self.refresh()
        else:
            self.forward.disarm()

    def begin(self, step: Step) -> None:
        self._begun = False
        self._ready.clear()
        self.current = self.weights.step = step
        self.weights.forget()
        self.forward.begin_step(step)

    def end_of_loop(self, failed: bool) -> None:
        """Keeps the step that is not over if it tells something: of a loop that failed, or never made a step."""
        if self.loop is not None and not self._depth:
            self.loop.ends()
        if not self.empty and (failed or not self._optimizers or self.rounds.begun or not self.samples):
            self.finish()

    # ---- logging -------------------------------------------------------------------------------------------

    def step_of_log(self, names: Sequence[str]) -> dict[str, int]:
        """The step that metrics belong to which are logged now: that of the last forward pass with gradients, whether
        the optimizer has made it or not. Passes of steps that are not sampled are not seen: what is logged then is
        taken to be logged in the same place of the loop as in the last sampled step."""
        if self.loop is not None:
            self.loop.waiting.logged(names)
        if not self._optimizers:
            return dict.fromkeys(names, self.number if self._last_pass is None else self._last_pass)
        before = self._begun or self.forward.calls > 0 or self.forward.reached
        found = {}
        for name in names:
            if self.sampled:
                self._logged_before[name] = before
            now = self._logged_before.get(name, False)
            found[name] = self.number if now else max(self.number - 1, 0)
        return found
