"""What a pass is made of, whatever the model does with its tensors."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unitgain import InputError
from unitgain.graph import Graph, Listener, Node, Tracer, trace


class Written(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.weight, self.bias = nn.Parameter(torch.randn(6, 6)), nn.Parameter(torch.zeros(6))
        self.written = forward

    def forward(self, x: Tensor):
        return self.written(self, x)


def traced(forward, *shape: int) -> Graph:
    return trace(Written(forward), torch.randn(shape or (4, 6)))


def test_functional_activations_keep_their_slopes_and_work_in_place_or_not() -> None:
    graph = traced(lambda m, x: m.b(F.leaky_relu_(m.a(x), 0.3)))
    slope = graph.before("b").function
    assert slope is not None
    assert float(slope(torch.tensor(-1.0))) == pytest.approx(-0.3)


def test_a_tensor_changed_in_place_is_another_tensor_afterwards() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        y = m.a(x)
        kept = y
        y.relu_()
        return m.b(kept)

    assert traced(forward)["b"].inputs == (":relu",)


def test_what_is_written_into_a_part_of_a_tensor_is_in_the_whole() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        y = torch.zeros(4, 6)
        y[:, :3] = m.a(x)[:, :3]
        y[:, 3:].add_(m.b(x)[:, 3:])
        return y

    assert {"a", "b"} <= {n.name for n in traced(forward).path("input", "output")}


def test_views_are_the_same_tensor_and_arithmetic_is_not() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        y = m.a(x)
        moved = y.view(2, 12).reshape(4, 6).t().contiguous().T.clone().to(torch.float64).float()
        return m.b(moved) + F.linear(2 * y, m.weight)

    graph = traced(forward)
    assert graph["b"].inputs == ("a",)
    assert (graph[":linear"].inputs, graph[":linear"].sources) == ((), ("a",))


def test_bare_parameters_with_their_bias_and_tied_weights() -> None:
    graph = traced(lambda m, x: torch.tanh(x @ m.weight + m.bias) @ m.weight.t())
    assert [(w.name, w.node.parameters) for w in graph.weights()] == [
        (":matmul", ("weight", "bias")),
        (":matmul#2", ("weight",)),
    ]


def test_weights_computed_from_parameters_are_their_parameters() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        rows = m.weight - m.weight.mean(1, keepdim=True)
        return F.linear(torch.relu(x), rows / rows.norm(dim=1, keepdim=True))

    (found,) = traced(forward).weights()
    assert (found.node.parameters, found.before.label, found.node.sources) == (
        ("weight",),
        "relu",
        (":relu",),
    )


def test_modules_in_loops_have_a_node_for_each_call() -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        for _ in range(40):
            x = torch.tanh(m.a(x))
        return x

    graph = traced(forward)
    assert len(graph.weights()) == 40
    assert graph["a#40"].sources == (":tanh#39",)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_parts_are_followed(reentrant: bool) -> None:
    def forward(m: Written, x: Tensor) -> Tensor:
        return x + checkpoint(lambda y: m.b(torch.relu(m.a(y))), x.requires_grad_(), use_reentrant=reentrant)

    (branch,) = traced(forward).branches
    assert branch.nodes == ("a", ":relu", "b")


def test_what_an_autograd_function_of_ones_own_makes_is_known() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    assert traced(lambda m, x: m.b(Double.apply(m.a(x))))["b"].sources == ("a",)


class Between(nn.Module):
    """A part whose inside cannot be followed, between two layers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first, self.part, self.last = nn.Linear(6, 6), part, nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.part(self.first(x)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_parts_are_opaque_nodes() -> None:
    part = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    graph = trace(Between(torch.jit.script(part)), torch.randn(4, 6))
    assert [(n.name, n.kind) for n in graph] == [
        ("input", "input"), ("first", "module"), ("part", "opaque"), ("last", "module"),
    ]  # fmt: skip
    assert graph.before("last").kind == "other"
    assert not graph["part"].site  # scripted modules take no hooks of their own
    assert [n.name for n in graph.path("input", "last")] == ["first", "part"]


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_parts_are_seen_through_under_plain_names(in_place: bool) -> None:
    part = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    if in_place:
        part.compile(backend="eager")
    model = Between(part if in_place else torch.compile(part, backend="eager"))
    graph = trace(model, torch.randn(4, 6))
    assert [n.name for n in graph] == ["input", "first", "part.0", "part.1", "last"]
    assert graph["part.0"].parameters == ("part.0.weight", "part.0.bias")
    assert (type(model.part).__name__ == "OptimizedModule") is not in_place


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_model_is_looked_through_and_a_scripted_one_refused() -> None:
    assert len(trace(torch.compile(nn.Linear(6, 6)), torch.randn(4, 6)).weights()) == 1
    with pytest.raises(InputError, match="scripted, which cannot be followed"):
        trace(torch.jit.script(nn.Linear(6, 6)), torch.randn(4, 6))


def test_tuples_dictionaries_and_nothing_as_outputs() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor):
            y = self.fc(x)
            return y, None, {"twice": y * 2}, y.argmax(1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts, self.head = Parts(), nn.Linear(6, 2)

        def forward(self, x: Tensor):
            first, _, more, index = self.parts(x)
            return {"logits": self.head(more["twice"]), "index": index, "features": first}

    graph = trace(Net(), torch.randn(3, 6))
    assert graph["head"].sources == ("parts.fc",)
    assert graph.outputs == ("head", "parts.fc")
    assert graph.output is graph["head"]


def test_nested_tensors_pass_through() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=True)

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = model, nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(
                self.encoder(x, src_key_padding_mask=torch.tensor([[False] * 4, [False] * 3 + [True]]))
            )

    assert len(trace(Padded(), torch.randn(2, 4, 8)).branches) == 2

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nested = torch.nested.nested_tensor([x[0, :2], x[1]])
            return torch.nested.to_padded_tensor(self.fc(nested), 0.0)

    assert trace(Nested(), torch.randn(2, 4, 8))["fc"].shape == (2, 4, 8)


def test_multihead_attention_is_one_node_with_the_weights_inside() -> None:
    graph = trace(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 4, 8))
    node = graph["self_attn"]
    assert (node.role, node.weighted) == ("attention", True)
    assert "self_attn.out_proj.weight" in node.parameters
    assert "self_attn.out_proj" not in graph.nodes


def test_a_model_that_is_a_leaf_itself() -> None:
    graph = trace(nn.Linear(4, 2), torch.randn(3, 4))
    assert [n.name for n in graph] == ["input", "output"]
    assert graph.head() is graph["output"]
    bare = traced(lambda m, x: torch.tanh(x @ m.weight))
    assert bare.after(":matmul").label == "tanh"


def test_a_listener_sees_tensors_as_they_were_and_may_replace_them() -> None:
    class Doubles(Listener):
        def __init__(self) -> None:
            self.seen: dict[str, float] = {}

        def node(self, node: Node, tensor: Tensor, given: object) -> Tensor | None:
            self.seen[node.name] = float(tensor.min())
            return 2 * tensor if node.name == "0" else None

    model, listener = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True)), Doubles()
    x = torch.randn(4, 6)
    expected = torch.relu(2 * model[0](x))
    tracer = Tracer(model, listener)
    with tracer.armed_for((x,), {}) as end:
        out = model(x)
        end(out)
    assert torch.equal(out, expected)
    assert listener.seen["0"] < 0
    assert listener.seen["1"] == 0
    assert tracer.graph()["1"].inputs == ("0",)


def test_a_known_graph_is_only_named_and_a_pass_that_differs_is_followed_again() -> None:
    class Names(Listener):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def node(self, node: Node, tensor: Tensor, given: object) -> None:
            self.seen.append(node.name)

    class Deeper(nn.Module):
        depth = 1

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.depth):
                x = torch.tanh(self.fc(x))
            return x

    model, listener = Deeper(), Names()
    tracer = Tracer(model, listener)

    def run() -> list[str]:
        listener.seen.clear()
        x = torch.randn(4, 6)
        tracer.arm()
        tracer.begin((x,), {})
        tracer.end(model(x))
        if tracer.settle():
            tracer.disarm()
        return list(listener.seen)

    shallow, deep = ["input", "fc", ":tanh"], ["input", "fc", ":tanh", "fc#2", ":tanh#2"]
    assert run() == shallow
    assert tracer.settled
    assert run() == shallow
    model.depth = 2
    assert run() == shallow  # what is not known is not told of
    assert not tracer.settled
    assert run() == deep
    assert tracer.graph()["fc#2"].inputs == (":tanh",)
    tracer.disarm()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_nothing_is_left_behind_whether_it_ends_well_or_not() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.drop, self.fails = nn.BatchNorm1d(6), nn.Dropout(0.5), False

        def forward(self, x: Tensor) -> Tensor:
            y = self.drop(self.norm(x))
            if self.fails:
                raise RuntimeError("in the middle")
            return y

    model = Fragile().eval()
    before = {n: b.clone() for n, b in model.named_buffers()}
    x, state = torch.randn(4, 6), torch.get_rng_state()
    for fails in (False, True):
        model.fails = fails
        if fails:
            with pytest.raises(
                InputError, match=r"raised RuntimeError in forward on inputs of shape \(4, 6\)"
            ):
                trace(model, x)
        else:
            trace(model, x)
        assert not any(m.training for m in model.modules())
        assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
        assert torch.equal(state, torch.get_rng_state())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert not nn.modules.module._global_forward_hooks
        assert torch._C._len_torch_function_stack() == 0


def test_threads_that_run_torch_functions_do_not_disturb() -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.wait(1e-4):
            torch.tanh(torch.randn(3))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        names = [n.name for n in traced(lambda m, x: m.b(m.a(x)))]
    finally:
        stop.set()
        thread.join()
    assert names == ["input", "a", "b"]


def test_inputs_in_lists_have_names_of_their_own() -> None:
    class Several(nn.Module):
        def forward(self, pair, z, *, more):
            return pair[0] + pair[1] + z + more[0] + more[1]

    tracer = Tracer(Several(), Listener())
    a = torch.randn(2, 3)
    with tracer.armed_for(([a, a + 1], a + 2), {"more": [a + 3, a + 4]}) as end:
        end(tracer.model([a, a + 1], a + 2, more=[a + 3, a + 4]))
    assert [n.name for n in tracer.graph() if n.kind == "input"] == [
        "input", "input[1]", "input[2]", "input[more.0]", "input[more.1]",
    ]  # fmt: skip


def test_what_cannot_be_traced_is_said() -> None:
    with pytest.raises(InputError, match=r"expected an nn\.Module"):
        trace(3, torch.randn(2))
    with pytest.raises(InputError, match="lazy parameters"):
        trace(nn.LazyLinear(3), torch.randn(2, 3))


def test_modules_called_input_and_output_are_no_input_and_no_output() -> None:
    layers = [
        ("input", nn.Linear(4, 8)),
        ("relu", nn.ReLU()),
        ("output", nn.Linear(8, 8)),
        ("tanh", nn.Tanh()),
    ]
    graph = trace(nn.Sequential(OrderedDict(layers)), torch.randn(5, 4))
    assert [node.name for node in graph] == ["input (of the model)", "input", "relu", "output", "tanh"]
    assert {w.name: (w.before.kind, w.after.kind) for w in graph.weights()} == {
        "input": ("data", "activation"),
        "output": ("activation", "activation"),
    }
