"""Follows forward passes of a model: hooks on its modules, and a torch function mode for what happens between them.

Hooks see modules. `torch.tanh(self.fc1(x))` and `x + self.branch(x)` happen between them, and are what questions about
a network are about. So while a pass runs, a torch function mode sees every call of a torch function as well. Why not
torch.fx or export: they fail on control flow that depends on data. Why not the order of registration: it is wrong at
every branch, for every functional activation, and where layers are registered out of order.

The first passes are *followed*: nodes and residual branches are written down. Once `settle` has been called the graph
is known, and nodes are only *named*: the mode then looks at activations, norms and the like alone, and is off if the
model has none between its modules, and on only inside of the modules that call such functions; hooks sit on what is
measured and do nothing but look up a name. A pass in which a node turns up that is not known makes the tracer follow
again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from .._batch import named_inputs, tensors_in
from . import modules
from .branch import Branch
from .branches import branches_of
from .frame import Frame
from .graph import Graph
from .listener import Listener
from .modes import Following, Guard, Naming, plain_guard
from .node import Node
from .operations import Call
from .recorder import Recorder


class Tracer:
    """Follows the passes of a model and tells a listener of each node.

    guard        wraps every hook, so that an error in it does not stop training, say
    theory       nodes carry their elementwise functions; unknown modules without parameters are tried out
    exact        factors that are tensors are read, for which an accelerator has to be waited for
    most_calls   further calls of one module in one pass share the last node
    failed_in    path of the innermost module whose forward raised
    """

    def __init__(
        self,
        model: nn.Module,
        listener: Listener,
        *,
        guard: Guard | None = None,
        theory: bool = False,
        exact: bool = True,
        most_calls: int | None = None,
    ):
        self.model, self._listener = model, listener
        self._guard = guard or plain_guard
        self._recorder = Recorder(model, theory=theory, exact=exact, most_calls=most_calls)
        self._branches: dict[tuple[str, str | None], Branch] = {}
        self._outputs: dict[str, None] = {}
        self._main_output: str | None = None
        self.settled = False
        self.armed = False
        self.failed_in: str | None = None
        self._handles: list[RemovableHandle] = []
        self._frames: list[Frame] = []
        self._known: dict[str, list[dict[str, Node]]] = {}  # path -> per call its nodes by suffix
        self._mode: TorchFunctionMode | None = None
        self._callers: frozenset[str] = (
            frozenset()
        )  # of a known graph: modules that call functions that are sites
        self._open = False  # in a pass that `open` began
        self._entered = 0  # tensors that came into it from outside
        self._root_is_leaf = not modules.measured_children(model)
        self._root_is_layer = self._root_is_leaf and modules.role_of(model) != "other"
        self._given: tuple[Any, Any] = ((), {})

    @property
    def nodes(self) -> dict[str, Node]:
        return self._recorder.nodes

    @property
    def paths(self) -> frozenset[str]:
        """Of all modules that are measured."""
        return self._recorder.paths

    @property
    def following(self) -> bool:
        """Whether passes are followed, and a mode is on."""
        return self._mode is not None

    @property
    def handles(self) -> list[RemovableHandle]:
        """Of its hooks."""
        return self._handles

    @property
    def path(self) -> str:
        """Of the module whose forward is running."""
        return self._frames[-1].path if self._frames else ""

    @property
    def examples(self) -> int | None:
        """The batch size of the pass."""
        return self._recorder.examples

    @property
    def main_output(self) -> str | None:
        """Name of the node that a loss looks at; None before the first pass has ended."""
        return self._main_output

    def graph(self) -> Graph:
        """What has been understood so far."""
        return Graph(
            type(self.model).__name__, self._recorder.nodes.values(), tuple(self._branches.values()),
            tuple(self._outputs), self._main_output, self._recorder.ends,
        )  # fmt: skip

    # ---- hooks ---------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Hooks every module that is needed. Passes begin and end where `begin` and `end` are called."""
        if self.armed:
            return
        self.armed = True
        guard = self._guard
        scripted: dict[int, str] = {}
        for path, module, leaf, block in modules.walk(self.model):
            if isinstance(module, torch.jit.ScriptModule):
                scripted[id(module)] = path
                continue  # takes no hooks
            is_root = path == ""  # whose output is looked at by `end`
            if (leaf or block) and not is_root and path not in self._recorder.whole:
                if self.settled:
                    known = guard(functools.partial(self._leave_known, path))
                    self._handles.append(module.register_forward_hook(known))
                else:
                    leave = guard(functools.partial(self._leave, path, leaf))
                    self._handles.append(module.register_forward_hook(leave, with_kwargs=True))
            if not is_root and (not self.settled or self._calls(path)):
                enter = guard(functools.partial(self._enter, path, leaf))
                self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=not self.settled))
                self._handles.append(module.register_forward_hook(guard(self._pop), always_call=True))
        # a compiled part warns of hooks on all modules, so that beside one scripted parts are not seen
        if scripted and not self.settled and not any(map(modules.is_compiled, self.model.modules())):
            hook = guard(functools.partial(self._leave_scripted, scripted))
            self._handles.append(nn.modules.module.register_module_forward_hook(hook))

    def disarm(self) -> None:
        self.armed = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def attach(self, tensor: Tensor, name: str) -> Node:
        """Makes a tensor between modules and functions a node of this name."""
        return self._recorder.attach(tensor, name)

    @contextmanager
    def armed_for(self, args: Any, kwargs: Any) -> Iterator[Callable[[Any], None]]:
        """One pass: hooks and mode are on inside. The output is to be given to the function that it yields."""
        self.arm()
        try:
            self._guard(self.begin)(args, kwargs)
            yield self._guard(self.end)
        finally:
            self.abandon()
            self.disarm()

    def settle(self) -> bool:
        """The graph is known: from now on nodes are named, unless passes differ from each other. True if hooks must be
        set anew for that."""
        known = bool(self._recorder.nodes) and not self._recorder.varies  # there may have been no pass yet
        before, self.settled = self.settled, known
        if self.settled and not before:
            functions = (
                n for n in self._recorder.nodes.values() if n.site and n.kind in ("function", "product")
            )
            self._callers = frozenset(node.path for node in functions)
            for node in self._recorder.nodes.values():
                if node.site and node.module is not None:
                    calls = self._known.setdefault(node.path, [])
                    while len(calls) < node.call:
                        calls.append({})
                    calls[node.call - 1][self._recorder.suffixes.get(node.name, "")] = node
        return before != self.settled

    def reset(self) -> None:
        """Calls are counted from one again: a step begins (for modules that are called outside the model's forward)."""
        if not self._frames:
            self._recorder.reset()

    # ---- one pass ------------------------------------------------------------------------------------------

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any], examples: int | None = None) -> None:
        """A pass begins with these inputs. examples: the batch size, None: the first axis of the first input."""
        self.abandon()
        recorder = self._recorder
        named = [(recorder.unique(label, ""), t) for label, t in named_inputs(args, kwargs)]
        if examples is None and named and named[0][1].dim():
            examples = named[0][1].size(0)
        recorder.examples = examples
        if self.settled:
            recorder.reset()
            inputs = [(recorder.nodes[n], t) for n, t in named if n in recorder.nodes]
        else:
            inputs = recorder.begin(named)
        self._tell_inputs(inputs)
        self._given = args, kwargs
        self._follow()

    def open(self, examples: int | None = None, *, again: bool = False) -> None:
        """A pass begins of which the model's own forward may be no part: it ends with `close`. What its modules are
        given and none of them has made is the input. Such passes are followed always, as they tend to differ.

        again  the pass continues after the model's own forward; functions belong to the loss from here on
        """
        self._recorder.varies = self._open = True
        if again:
            self._push_root()
            return
        self.abandon()
        self._recorder.examples, self._open = examples, True
        self._recorder.begin([])
        self._follow()

    def close(self, output: Tensor | None = None) -> None:
        """A pass that `open` began ends. output: what the loss looks at; without it, what was measured last."""
        self.leave_mode()
        if output is not None:
            self._see_first(output, output)
        elif self._main_output is None:
            last = [
                n for n in self.nodes.values() if n.site and n.role not in ("loss", "softmax") and n.shape
            ]
            self._main_output = last[-1].name if last else None
        self._find_branches()
        self.abandon()

    def _tell_inputs(self, inputs: list[tuple[Node, Tensor]]) -> None:
        for node, tensor in inputs:
            self._tell(tensor, Call((), {}))
            self._listener.node(node, tensor, None)

    def _push_root(self) -> None:
        inside = self._recorder.inside_of("", self.model, self._root_is_leaf)
        self._frames.append(Frame("", self.model, inside))

    def _follow(self) -> None:
        self._push_root()
        if not self.settled or "" in self._callers:
            self._enter_mode()

    def _enter_mode(self) -> None:
        kind = Naming if self.settled else Following
        self._mode = kind(self._recorder, self._listener, self._guard, self._frames)
        self._mode.__enter__()

    def _calls(self, path: str) -> bool:
        """Whether functions called in this module have to be told from those of one that is looked at."""
        return any(caller in ("", path) or path.startswith(f"{caller}.") for caller in self._callers)

    def end(self, output: Any, *, goes_on: bool = False) -> None:
        """The pass ended with this output; None if it raised. goes_on: `open(again=True)` follows."""
        self.leave_mode()
        if output is not None and not self.settled:
            self._see_output(output)
        elif output is not None and self._root_is_layer:
            self._leave_known("", self.model, None, output)
        elif output is not None and (node := self.nodes.get(self._recorder.output_name)) is not None:
            first = _first(output)
            if first is not None and node.module is self.model:
                self._listener.node(node, first, None)
        if not self.settled:
            self._find_branches()
        if goes_on:
            self._frames.clear()
        else:
            self.abandon()

    def _find_branches(self) -> None:
        for branch in branches_of(self._recorder.sums, self._recorder.nodes):
            self._branches.setdefault((branch.sum, branch.end), branch)

    def abandon(self) -> None:
        """Forgets a pass that has not ended: an interrupt skips even the hooks that are always called."""
        self.leave_mode()
        self._open, self._entered = False, 0
        self._frames.clear()
        self._given = (), {}
        self._recorder.reset()

    def _see_output(self, output: Any) -> None:
        recorder, first = self._recorder, _first(output)
        if self._root_is_layer:
            self._leave("", True, self.model, *self._given, output)
        elif first is not None:
            self._see_first(first, output)
        for tensor in tensors_in(output):
            value = recorder.values.of(tensor)
            if value is not None:
                self._outputs.update(dict.fromkeys(value.sources))
        if self._main_output is None and first is not None:
            self._main_output = recorder.output_name

    def _see_first(self, first: Tensor, output: Any) -> None:
        """The tensor that a loss looks at is a node already, or becomes the node of the model's own output."""
        recorder = self._recorder
        value = recorder.values.of(first)
        if value is not None and value.direct and recorder.nodes[value.sources[0]].site:
            self._main_output = self._main_output or value.sources[0]
        if self._main_output in (None, recorder.output_name):
            self._main_output = recorder.output_name
            node = recorder.root(self.model, first)
            self._tell(first, Call((output,), {}))
            self._listener.node(node, first, None)

    def leave_mode(self) -> None:
        """Takes the mode off, which stays on where a pass was interrupted."""
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)

    # ---- modules -------------------------------------------------------------------------------------------

    def _enter(self, path: str, leaf: bool, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if not self._frames:
            self._listener.enters()
        if self._open and len(self._frames) == 1 and self._listener.wanted():
            self._see_entering(args, kwargs)
        frame = Frame(path, module, self._recorder.inside_of(path, module, leaf))
        if self.settled:
            if self._mode is None and path in self._callers and self._in_pass and not in_backward():
                frame.outermost = True
                self._enter_mode()
        elif self._mode is not None:
            frame.call = self._recorder.count(f"{path}()")
            frame.given = self._recorder.known_signal((args, kwargs))
        self._frames.append(frame)
        self.failed_in = None  # whatever raised before was caught

    @property
    def _in_pass(self) -> bool:
        return bool(self._frames) and self._frames[0].module is self.model

    def _see_entering(self, args: Any, kwargs: Any) -> None:
        """Of what a module is called with in an open pass, what no module of the model has made."""
        fresh: list[tuple[str, Tensor]] = []
        for tensor in tensors_in((args, kwargs)):
            known = self._recorder.values.of(tensor) is not None or any(tensor is t for _, t in fresh)
            if not known:
                label = f"input[{self._entered}]" if self._entered else "input"
                fresh.append((self._recorder.unique(label, ""), tensor))
                self._entered += 1
        self._tell_inputs(self._recorder.inputs(fresh))

    def _pop(self, _module: nn.Module, _args: Any, output: Any) -> None:
        frame = self._frames.pop() if self._frames else None
        path = "" if frame is None else frame.path
        if frame is not None and frame.outermost:
            self.leave_mode()
        if frame is not None and output is not None and self._mode is not None and not self.settled:
            frame.last = self._recorder.known_signal(output)
        # hooks that are always called get None when forward raised; but a module may also return it
        if output is None and self.failed_in is None and sys.exc_info()[0] is not None:
            self.failed_in = path

    def _leave_known(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        listener = self._listener
        if in_backward():
            listener.again(path, output)
        elif listener.wanted():
            number = self._recorder.count(path) - 1
            calls = self._known.get(path, ())
            known = calls[number] if number < len(calls) else {}
            if type(output) is Tensor and "" in known:
                listener.node(known[""], output, None)
                return
            for suffix, tensor in modules.outputs_of(module, output):
                if suffix in known:
                    listener.node(known[suffix], tensor, None)
                else:
                    self._recorder.varies = True

    def _leave(self, path: str, leaf: bool, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if in_backward():
            self._listener.again(path, output)
            return None
        if not self._listener.wanted():
            return None
        frame = self._frames[-1] if self._frames and self._frames[-1].module is module else None
        call = self._recorder.count(path)
        given = (args, kwargs)
        for node, tensor in self._recorder.module(frame, path, module, leaf, given, output, call):
            self._tell(tensor, Call(args, kwargs))
            changed = self._listener.node(node, tensor, given)
            if isinstance(changed, Tensor):
                value = self._recorder.values.of(tensor)
                output = _replaced(output, tensor, changed)
                if value is not None:
                    self._recorder.values.put(changed, value)
                return output
        return None

    def _tell(self, tensor: Tensor, call: Call) -> None:
        value = self._recorder.values.of(tensor)
        if value is not None:
            self._listener.value(value, tensor, call)

    def _leave_scripted(self, scripted: dict[int, str], module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in scripted and self._frames:
            self._recorder.scripted(scripted[id(module)], module, args, output)


def _first(output: Any) -> Tensor | None:
    """The first tensor of a model's output that is not a single number."""
    return next((t for t in tensors_in(output) if t.is_floating_point() and t.dim()), None)


def in_backward() -> bool:
    """Whether autograd runs a backward pass now, in which a checkpointed part runs its forward again."""
    return torch._C._current_graph_task_id() != -1


def in_vmap() -> bool:
    """Whether torch.func.vmap runs now: single values of its tensors cannot be read."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return any(
        level.key() == functorch.TransformType.Vmap for level in functorch.get_interpreter_stack() or ()
    )


def _replaced(output: Any, first: Tensor, changed: Tensor) -> Any:
    if output is first:
        return changed
    if isinstance(output, tuple) and type(output) is tuple:
        return tuple(changed if item is first else item for item in output)
    if isinstance(output, list):
        return [changed if item is first else item for item in output]
    first.copy_(changed)
    return output
