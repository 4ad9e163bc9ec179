"""What the Probe sees of every kind of model: its sites, their channel axes, and gradients that arrive."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from unitgain import Probe
from unitgain.record import Record


def probed(model: nn.Module, *args, loss=None, steps: int = 2, **kwargs) -> Record:
    """Trains for two steps (the second one without following functions, if there are none) and checks both."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for _ in range(steps):
            out = model(*args, **kwargs)
            (loss(out) if loss else out.square().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
    record = probe.record
    assert record.steps() == list(range(steps))
    for kind in ("activation", "gradient"):
        for step in range(1, steps):
            assert list(record.values(kind, step)) == list(record.values(kind, 0)), (
                "sites differ between steps"
            )
    return record


def names(record: Record, kind: str = "activation") -> list[str]:
    return list(record.values(kind, 0))


def axes(record: Record) -> dict[str, int | None]:
    return {s.name: s.channel_axis for s in record.sites("activation")}


def batch_axes(record: Record) -> dict[str, int | None]:
    return {s.name: s.attributes.get("batch_axis") for s in record.sites("activation")}


def assert_gradients_everywhere(record: Record, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert set(names(record)) - set(names(record, "gradient")) == but
    assert all(v["absmax"] > 0 for v in record.values("gradient", 0).values())


def test_mlp() -> None:
    record = probed(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 5)), torch.randn(6, 3, 4)
    )
    assert names(record) == ["0", "1", "2", "3"]
    assert axes(record) == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert_gradients_everywhere(record, but={"0"})  # the input needs no gradient, so its view has none
    assert record.site("activation", "3").attributes["output"] is True
    assert record.site("activation", "2").attributes["inputs"] == ["1"]
    assert record.site("activation", "2").attributes["function"] == "tanh"
    assert record.site("activation", "2").attributes["bounds"] == [-1, 1]
    assert record.value("activation", "2", "units") == 8
    assert record.site("parameter", "1.weight").attributes["site"] == "1"


def test_cnn_and_in_place_activations() -> None:
    """bn -> ReLU(inplace=True): bn's statistics are those before the ReLU, its gradient that of its own output."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 7),
    )
    x = torch.randn(5, 3, 6, 6)
    kept: dict[str, torch.Tensor] = {}
    reference = nn.Sequential(*list(model)[:2], nn.ReLU(), *list(model)[3:])
    handle = reference[1].register_forward_hook(lambda m, i, o: kept.update(bn=o) or o.retain_grad())
    reference(x).square().mean().backward()
    handle.remove()
    model.zero_grad()
    record = probed(model, x)
    assert axes(record) == {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1}
    assert_gradients_everywhere(record)
    bn = record.values("activation", 0)["1"]
    assert bn["min"] == pytest.approx(float(kept["bn"].detach().min()))
    assert bn["zero"] < 0.01
    assert record.values("activation", 0)["2"]["min"] == 0
    assert record.value("gradient", "1", "rms") == pytest.approx(
        float(kept["bn"].grad.square().mean().sqrt()), rel=1e-4
    )
    assert record.value("gradient", "1", "zero") == pytest.approx(
        float((kept["bn"].grad == 0).float().mean()), abs=1e-6
    )
    assert record.site("activation", "1").attributes["subtracts_mean"] == "channel"


def test_channels_last_cnn_has_the_same_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    x = torch.randn(5, 3, 8, 8)
    plain = probed(model, x, steps=1).values("activation", 0)
    other = probed(
        model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last), steps=1
    )
    for name, values in other.values("activation", 0).items():
        for statistic in ("std", "channel_var", "sq_channel_mean"):
            assert values[statistic] == pytest.approx(plain[name][statistic], rel=1e-2), (name, statistic)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent(cell, batch_first: bool) -> None:
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 6)
            self.rnn = cell(6, 7, num_layers=2, batch_first=batch_first, bidirectional=True)
            self.head = nn.Linear(14, 11)

        def forward(self, tokens):
            out, _state = self.rnn(self.embed(tokens))
            return self.head(out)

    tokens = torch.randint(0, 11, (4, 9) if batch_first else (9, 4))
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, strict=True, examples=4, every=1) as probe:
        model(tokens).square().mean().backward()
        optimizer.step()
    record = probe.record
    assert names(record) == ["embed", "rnn", "head"]
    assert axes(record) == {"embed": 2, "rnn": 2, "head": 2}
    assert batch_axes(record) == dict.fromkeys(("embed", "rnn", "head"), 0 if batch_first else 1)
    assert_gradients_everywhere(record)
    assert record.site("activation", "rnn").attributes["role"] == "recurrent"
    assert record.site("parameter", "rnn.weight_ih_l0").attributes["site"] == "rnn"


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x)[:, 0])


def test_transformer_encoder() -> None:
    record = probed(Encoder(), torch.randn(4, 5, 8))
    assert_gradients_everywhere(record)
    for site in ("self_attn", "linear1", "linear1:relu", "linear2", "norm2"):
        name = f"encoder.layers.1.{site}" if ":" not in site else "encoder.layers.1:relu"
        assert record.site("activation", name) is not None, name
        assert axes(record)[name] == 2
    assert record.site("activation", "encoder.layers.0.self_attn").attributes["role"] == "attention"
    assert not any("out_proj" in n for n in names(record)), "its forward never runs"
    projection = record.site("parameter", "encoder.layers.0.self_attn.out_proj.weight")
    assert projection.attributes["site"] == "encoder.layers.0.self_attn"


def test_transformer_encoder_on_its_fast_path() -> None:
    """In eval mode without gradients torch runs fused kernels, unless hooks change that; a Probe must survive both."""
    model = Encoder().eval()
    x = torch.randn(4, 5, 8)
    with torch.no_grad():
        bare = model(x)
        with Probe(model, strict=True, every=1) as probe:
            out = model(x)
            probe.flush()
    torch.testing.assert_close(out, bare)
    assert record_has(probe.record, "head")
    assert probe.record.values("gradient") == {}


def record_has(record: Record, name: str) -> bool:
    return name in record.values("activation", 0)


def test_multihead_attention_alone() -> None:
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            out, _weights = self.attention(x, x, x)
            return self.norm(x + out)

    record = probed(Block(), torch.randn(5, 4, 8))
    assert names(record) == ["attention", "norm"]
    assert_gradients_everywhere(record)
    assert record.site("activation", "norm").attributes["subtracts_mean"] == "layer"


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
def test_gpt2_and_bert(torchvision_operators: None) -> None:
    from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

    gpt = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=31, n_positions=12))
    tokens = torch.randint(0, 31, (3, 7))
    record = probed(gpt, input_ids=tokens, labels=tokens, loss=lambda out: out.loss)
    assert {"transformer.wte", "transformer.h.0.attn.c_attn", "transformer.h.1.mlp.act", "lm_head"} <= set(
        names(record)
    )
    assert_gradients_everywhere(
        record, but=set(names(record)) - set(names(record, "gradient")) & set(names(record))
    )
    assert {a for n, a in axes(record).items() if ":" not in n} == {2}
    assert set(names(record)) - set(names(record, "gradient")) == set()
    wte = record.site("parameter", "transformer.wte.weight")
    assert wte.attributes["aliases"] == ["lm_head.weight"]
    assert wte.attributes["role"] == "embedding"
    assert record.site("parameter", "transformer.h.0.mlp.c_fc.weight").attributes["fan_in"] == 16
    assert record.site("activation", "lm_head").attributes["output"] is True
    branches = {s.name for s in record.sites("activation") if s.attributes.get("block") == "branch"}
    assert {"transformer.h.0.attn.resid_dropout", "transformer.h.1.mlp.dropout"} <= branches
    assert names(record, "input") == ["input[input_ids]", "input[labels]"]

    config = BertConfig(
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_size=16,
        intermediate_size=32,
        vocab_size=31,
        num_labels=3,
    )
    bert = BertForSequenceClassification(config)
    mask = torch.ones(3, 7, dtype=torch.long)
    record = probed(
        bert, input_ids=tokens, attention_mask=mask, labels=torch.tensor([0, 1, 2]), loss=lambda out: out.loss
    )
    assert {"bert.embeddings.LayerNorm", "bert.encoder.layer.1.intermediate.dense", "classifier"} <= set(
        names(record)
    )
    assert record.site("activation", "classifier").attributes["output"] is True
    assert axes(record)["classifier"] == 1
    assert set(names(record)) - set(names(record, "gradient")) == set()


def test_modules_used_several_times_are_sites_of_their_own() -> None:
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(6, 6), nn.Tanh()

        def forward(self, x):
            for _ in range(3):
                x = self.act(self.fc(x))
            return x

    record = probed(Twice(), torch.randn(4, 6))
    assert names(record) == ["fc", "act", "fc#2", "act#2", "fc#3", "act#3"]
    assert_gradients_everywhere(record)
    assert [s.attributes["call"] for s in record.sites("activation")] == [1, 1, 2, 2, 3, 3]
    assert record.value("gradient", "fc", "rms") != record.value("gradient", "fc#3", "rms")


def test_tied_weights_are_one_parameter() -> None:
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.embed(x))

    record = probed(Tied(), torch.randint(0, 10, (5,)))
    assert names(record, "parameter") == ["embed.weight"]
    assert record.site("parameter", "embed.weight").attributes["aliases"] == ["head.weight"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_are_counted_once_and_have_gradients(reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self, on: bool):
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.block = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
            self.on = on

        def forward(self, x):
            x = self.first(x)
            return checkpoint(self.block, x, use_reentrant=reentrant) if self.on else self.block(x)

    torch.manual_seed(0)
    model = Checkpointed(True)
    x = torch.randn(4, 6)
    record = probed(model, x)
    model.on = False
    plain = probed(model, x)
    assert names(record) == ["first", "block.0", "block.1", "block.2"]
    assert sorted(names(record, "gradient")) == sorted(names(plain, "gradient"))
    for name in names(plain):
        assert record.value("activation", name, "count", 1) == 24
        assert record.value("gradient", name, "count", 1) == 24
        assert record.value("gradient", name, "rms") == pytest.approx(
            plain.value("gradient", name, "rms"), rel=1e-2
        )


def test_unused_parameters_and_modules() -> None:
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "idle": nn.Linear(4, 4)})
    model.forward = lambda x: model["used"](x)
    record = probed(model, torch.randn(3, 4))
    assert names(record) == ["used"]
    assert "idle.weight" in names(record, "parameter")
    assert "idle.weight" not in names(record, "parameter_gradient")
    assert "idle.weight" not in names(record, "update")


def test_models_on_bare_parameters_with_functions() -> None:
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.randn(27, 4))
            self.w1, self.w2 = (
                nn.Parameter(torch.randn(12, 20) * 0.1),
                nn.Parameter(torch.randn(20, 27) * 0.1),
            )

        def forward(self, tokens):
            h = torch.tanh(self.c[tokens].view(len(tokens), -1) @ self.w1)
            return h @ self.w2

    record = probed(Bare(), torch.randint(0, 27, (8, 3)))
    assert names(record)[:3] == [":matmul", ":tanh", ":matmul#2"]
    assert axes(record)[":tanh"] == 1
    assert record.value("activation", ":tanh", "units") == 20
    assert record.site("activation", ":tanh").attributes["function"] == "tanh"
    assert record.site("activation", ":matmul#2").attributes["output"] is True
    assert_gradients_everywhere(record)


def test_functional_activations_inside_modules() -> None:
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.fc2(torch.tanh(torch.sigmoid(self.fc1(x).relu_())))

    record = probed(nn.Sequential(Block(), nn.Linear(3, 2)), torch.randn(4, 6))
    assert names(record) == ["0.fc1", "0:relu", "0:sigmoid", "0:tanh", "0.fc2", "1"]
    assert record.site("activation", "0:relu").attributes["inputs"] == ["0.fc1"]
    assert record.site("activation", "0:tanh").attributes["inputs"] == ["0:sigmoid"]
    assert_gradients_everywhere(record)


def test_parametrized_layers() -> None:
    parametrized = nn.utils.parametrizations
    model = nn.Sequential(
        parametrized.weight_norm(nn.Linear(6, 5)), nn.ReLU(), parametrized.spectral_norm(nn.Linear(5, 3))
    )
    record = probed(model, torch.randn(4, 6))
    assert names(record) == ["0", "1", "2"]
    assert_gradients_everywhere(record)
    assert any("original" in n for n in names(record, "parameter"))


def test_compiled_parts_are_measured_under_plain_names() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = torch.compile(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), backend="eager")
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(F.relu(self.inside(x)))

    record = probed(Net(), torch.randn(4, 6))
    assert names(record) == ["inside.0", "inside.1", ":relu", "head"]
    assert_gradients_everywhere(record)
    assert names(record, "update")[:2] == ["inside.0.weight", "inside.0.bias"]


def test_a_compiled_model_is_measured_as_what_it_was_made_from() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)), backend="eager")
    record = probed(model, torch.randn(4, 6))
    assert names(record) == ["0", "1", "2"]
    assert_gradients_everywhere(record)
    assert names(record, "update") == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_data_parallel_wrappers_are_looked_through() -> None:
    record = probed(nn.DataParallel(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), torch.randn(3, 4))
    assert names(record) == ["0", "1"]
    assert names(record, "parameter") == ["0.weight", "0.bias"]


def test_tuple_dict_and_none_outputs() -> None:
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            y = self.fc(x)
            return y, None, {"inner": y * 2}, y.argmax(1), y * 3

    class Nothing(nn.Module):
        def forward(self, x):
            return None

    class Named(nn.Module):
        def forward(self, x):
            return {"logits": x * 2, "index": x.argmax(1), "extra": x * 5}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts, self.nothing, self.named = Parts(), Nothing(), Named()

        def forward(self, x):
            first, _, inner, _, last = self.parts(x)
            self.nothing(x)
            return self.named(first + inner["inner"] + last)

    record = probed(
        Net(), torch.randn(3, 4), loss=lambda out: out["logits"].sum() + out["extra"].square().sum()
    )
    found = names(record)
    assert {"parts.fc", "named", "named[extra]"} <= set(found)
    assert not any("index" in n for n in found)
    assert_gradients_everywhere(record)


def test_models_without_tensors_in_their_output() -> None:
    class Accumulates(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            self.fc(x).sum().backward()
            return "done"

    model = Accumulates()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        model(torch.randn(3, 4))
        optimizer.step()
    assert names(probe.record) == ["fc"]


def test_unusual_dtypes_are_measured_or_left_out_but_never_crash() -> None:
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.flat = nn.Linear(4, 4), nn.Flatten()
            self.mask = nn.Parameter(torch.ones(4, dtype=torch.int8), requires_grad=False)
            self.spectrum = nn.Parameter(torch.randn(4, dtype=torch.complex64))
            self.small = nn.Parameter(torch.ones(4, dtype=torch.float16))
            self.empty = nn.Parameter(torch.empty(0))

        def forward(self, x, index, flag):
            y = self.fc(x) * self.mask * self.small
            self.flat(index)
            return torch.fft.ifft(torch.fft.fft(y) * self.spectrum).real

    record = probed(Odd(), torch.randn(3, 4), torch.zeros(3, 2, dtype=torch.long), True)
    assert names(record) == ["fc", "output"]
    assert {"mask", "spectrum", "small"} <= set(names(record, "parameter"))
    assert record.site("input", "input[1]").attributes["integer"] is True


def test_scalar_zero_dimensional_and_empty_activations() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.scale, self.none = nn.Linear(4, 1), nn.Hardtanh(), nn.Tanh()

        def forward(self, x):
            self.none(x[:, :0])
            return self.scale(self.fc(x).mean())

    record = probed(Net(), torch.randn(3, 4))
    assert record.value("activation", "scale", "count") == 1
    assert record.value("activation", "none", "count") == 0


def test_other_batch_sizes_and_ranks_later_on() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        for shape in ((8, 4), (3, 4), (1, 4), (2, 5, 4), (4,)):
            model(torch.randn(shape)).square().mean().backward()
            optimizer.step()
    steps, counts = probe.record.series("activation", "0", "count")
    assert steps.tolist() == [0, 1, 2, 3, 4]
    assert counts.tolist() == [32, 12, 4, 40, 4]


def test_functions_and_branches_in_threads_do_not_disturb() -> None:
    """A data loader's thread runs torch functions while forward is followed."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    stop = threading.Event()

    def busy() -> None:
        while not stop.wait(1e-4):
            torch.tanh(torch.randn(3))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        record = probed(model, torch.randn(3, 4), steps=5)
    finally:
        stop.set()
        thread.join()
    assert names(record) == ["0", "1"]


def test_include_exclude_signals_and_attach() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.probe: Probe | None = None

        def forward(self, x):
            middle = self.a(x) ** 3
            return self.b(self.probe.attach(middle, "middle") if self.probe else middle)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(
        model,
        optimizer,
        include=("a*", "middle"),
        exclude=("*.bias",),
        signals=("activation", "gradient", "update"),
        strict=True,
        every=1,
    ) as probe:
        model.probe = probe
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert names(probe.record) == ["a", "middle"]
    assert names(probe.record, "gradient") == ["a", "middle"]
    assert names(probe.record, "update") == ["a.weight"]
    assert names(probe.record, "parameter") == []


def blocks(record: Record) -> tuple[set[str], set[str]]:
    marked = [(s.name, s.attributes.get("block")) for s in record.sites("activation")]
    return {n for n, b in marked if b == "branch"}, {n for n, b in marked if b == "block"}


@pytest.mark.reference
def test_residual_ends_of_resnets(torchvision_operators: None) -> None:
    import timm
    import torchvision

    images = torch.randn(2, 3, 32, 32)
    record = probed(torchvision.models.resnet18(num_classes=4), images, steps=2)
    branches, ends = blocks(record)
    expected = {f"layer{i}.{j}.bn2" for i in range(1, 5) for j in (0, 1)}
    assert branches == expected, "identity and projection shortcuts alike"
    assert len(ends) == 8
    assert not [n for n in names(record) if n == "layer1.0"], (
        "a block that returns its last ReLU is no site of its own"
    )

    record = probed(timm.create_model("resnet18", num_classes=4), images, steps=2)
    branches, ends = blocks(record)
    assert len(branches) == 8
    assert {n.split(".")[2] for n in branches} <= {"bn2", "drop_path", "aa", "se"}
    assert ends == {f"layer{i}.{j}.act2" for i in range(1, 5) for j in (0, 1)}
