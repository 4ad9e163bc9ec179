"""Axes, masks and the graph, in the idioms of other networks. Cases go to halves G and H in turn (registry.py)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from parts import BasicBlock, Block, Gpt, GraphNet, Recurrent
from registry import variant
from samples import (
    Net,
    chains,
    clusters,
    encoder,
    glyphs,
    houses,
    mlp,
    molecules,
    sentences,
    series,
    standard,
)
from torch import Tensor, nn

# The batch taken for another axis --------------------------------------------------------------------------------


@variant(
    "graph",
    "UG603",
    "",
    action=r"batch_first|axis|batch|transpose",
    cause="MultiheadAttention without batch_first inside of a block attends over the batch",
)
def block_attends_over_the_batch(cured: bool):
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attend = nn.LayerNorm(24), nn.MultiheadAttention(24, 4, batch_first=cured)
            self.mlp = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(x)
            x = x + self.attend(h, h, h, need_weights=False)[0]
            return x + self.mlp(x)

    x = series(32, 16, 3, seed=1)
    y = standard(x[:, 2, 0] * x[:, -1, 1])
    model = Net(
        lambda net, x: net.head(net.layers(net.embed(x))[:, -1]).squeeze(-1),
        embed=nn.Linear(3, 24),
        layers=nn.Sequential(Layer(), Layer()),
        head=nn.Linear(24, 1),
    )
    return model, (x, y), {"loss": F.mse_loss}


@variant(
    "graph",
    "UG603",
    "",
    action=r"batch_first|axis|batch|transpose",
    cause="a bidirectional GRU over text takes the batch for time",
)
def bidirectional_network_over_the_batch(cured: bool):
    text, _, labels = sentences(40, 12, 20, 4, seed=2)

    def run(net: Net, text: Tensor) -> dict[str, Tensor]:
        states = net.rnn(net.embed(text))[0]
        return {"logits": net.head(states.max(1).values)}

    model = Net(
        run,
        embed=nn.Embedding(20, 16),
        rnn=nn.GRU(16, 16, bidirectional=True, batch_first=cured),
        head=nn.Linear(32, 4),
    )
    return model, (text, labels), {"loss": lambda out, y: F.cross_entropy(out["logits"], y)}


@variant(
    "graph",
    "UG603",
    "",
    action=r"batch_first|axis|batch|transpose",
    cause="TransformerEncoder's default takes (time, batch, width), and tokens are pooled over axis 1",
)
def encoder_over_the_batch(cured: bool):
    text, _, labels = sentences(24, 12, 20, 4, seed=3)
    model = Net(
        lambda net, t: net.head(net.encoder(net.embed(t)).mean(1)),
        embed=nn.Embedding(20, 32),
        encoder=encoder(32, 2, batch_first=cured),
        head=nn.Linear(32, 4),
    )
    return model, (text, labels), {"loss": nn.CrossEntropyLoss()}


@variant(
    "graph",
    "UG603 UG807",
    "",
    action=r"axis|batch|dim",
    cause="the gate among experts is a softmax over axis 0",
)
def gate_over_the_batch(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        gate = F.softmax(net.gate(x), dim=1 if cured else 0)
        return torch.einsum("ne,neo->no", gate, torch.stack([expert(x) for expert in net.experts], 1))

    x, y = houses(48, 8, seed=4)
    model = Net(run, gate=nn.Linear(8, 4), experts=nn.ModuleList(mlp(8, 24, 1) for _ in range(4)))
    return model, (x, y), {"loss": F.mse_loss}


# Weights that are not registered ---------------------------------------------------------------------------------


@variant(
    "graph",
    "UG801",
    "",
    action=r"ModuleDict|ModuleList|register|Parameter",
    cause="the layers of each kind of edge live in a dictionary",
)
def layers_in_a_dictionary(cured: bool):
    class Relational(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kinds = {"near": nn.Linear(6, 24), "own": nn.Linear(6, 24)}
            self.kinds = nn.ModuleDict(kinds) if cured else kinds
            self.head = nn.Linear(24, 1)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            return self.head(F.elu(self.kinds["near"](edges @ nodes) + self.kinds["own"](nodes))).sum((1, 2))

    nodes, edges = molecules(48, 8, 6, seed=1)
    y = standard((edges @ nodes[..., :1]).sin().sum((1, 2)))
    return Relational(), (nodes, edges, y), {"loss": F.mse_loss}


@variant(
    "graph",
    "UG801",
    "",
    action=r"Parameter|register",
    cause="position embeddings are a tensor with requires_grad, not a Parameter",
)
def positions_as_a_plain_tensor(cured: bool):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.blocks = nn.Embedding(20, 32), nn.Sequential(Block(32), Block(32))
            places = 0.02 * torch.randn(1, 12, 32)
            self.places = nn.Parameter(places) if cured else places.requires_grad_()
            self.head = nn.Linear(32, 4)

        def forward(self, text: Tensor) -> Tensor:
            return self.head(self.blocks(self.embed(text) + self.places).mean(1))

    text, _, labels = sentences(48, 12, 20, 4, seed=2)
    return Model(), (text, labels), {"loss": F.cross_entropy}


@variant(
    "graph",
    "UG801",
    "",
    action=r"forward|register|ModuleList|__init__|Parameter",
    cause="a layer is made anew in every forward",
)
def layer_made_in_forward(cured: bool):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU())
            self.out = nn.Linear(32, 6)
            self.hidden = nn.Linear(288, 32) if cured else None

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).flatten(1)
            hidden = self.hidden or nn.Linear(x.shape[1], 32).to(x.device)
            return self.out(F.relu(hidden(x)))

    x, labels = glyphs(48, 6, 12, seed=3)
    return Model(), (x, labels), {"loss": F.cross_entropy}


@variant(
    "graph",
    "UG801",
    "",
    action=r"ModuleList|register",
    cause="the two critics of an ensemble live in a tuple of a submodule",
)
def critics_in_a_tuple(cured: bool):
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            twins = tuple(mlp(8, 32, 1) for _ in range(2))
            self.twins = nn.ModuleList(twins) if cured else twins

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([q(x) for q in self.twins]).min(0).values

    x, y = houses(64, 8, seed=4)
    model = Net(
        lambda net, x: {"q": net.twins(net.body(x))},
        body=nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)),
        twins=Twins(),
    )
    return model, (x, y), {"loss": lambda out, y: F.mse_loss(out["q"], y)}


# Models that see what they should predict ------------------------------------------------------------------------


@variant(
    "graph",
    "UG802",
    "",
    action=r"causal|mask|later|future|bidirectional",
    cause="a bidirectional LSTM as a language model reads the next word",
)
def bidirectional_language_model(cured: bool):
    text = chains(16, 17, 30, seed=1)
    net = Recurrent(16, 30, words=30, every=True, bidirectional=not cured)
    return (
        Net(lambda net, t: net.net(t).transpose(1, 2), net=net),
        (text[:, :-1], text[:, 1:]),
        {"loss": F.cross_entropy},
    )


@variant(
    "graph",
    "UG802",
    "",
    action=r"causal|mask|later|future",
    cause="triu(2): every token sees one token too many",
)
def mask_one_too_late(cured: bool):
    text = chains(16, 17, 30, seed=2)
    return Gpt(30, causal=1 if cured else 2), {"idx": text[:, :-1], "targets": text[:, 1:]}, {"loss": None}


@variant(
    "graph",
    "UG802",
    "",
    action=r"causal|mask|later|future|pad",
    cause="convolutions over time are padded on both sides",
)
def convolutions_see_both_sides(cured: bool):
    def run(net: Net, text: Tensor) -> Tensor:
        x = net.embed(text).transpose(1, 2)
        for conv in net.convs:
            x = x + F.gelu(conv(F.pad(x, (2, 0) if cured else (1, 1))))
        return net.head(x.transpose(1, 2)).flatten(0, 1)

    text = chains(16, 17, 30, seed=3)
    model = Net(
        run,
        embed=nn.Embedding(30, 32),
        convs=nn.ModuleList(nn.Conv1d(32, 32, 3) for _ in range(3)),
        head=nn.Linear(32, 30),
    )
    return model, (text[:, :-1], text[:, 1:]), {"loss": lambda out, y: F.cross_entropy(out, y.flatten())}


@variant(
    "graph",
    "UG802",
    "",
    action=r"causal|mask|later|future",
    cause="the next value of every channel is forecast at every step by attention without a mask",
)
def forecast_without_a_mask(cured: bool):
    x = series(24, 17, 3, seed=4)
    model = Net(
        lambda net, x: net.head(net.blocks(net.embed(x) + net.places)),
        embed=nn.Linear(3, 32),
        places=nn.Parameter(0.02 * torch.randn(16, 32)),
        blocks=nn.Sequential(*[Block(32, causal=1 if cured else None) for _ in range(2)]),
        head=nn.Linear(32, 3),
    )
    return model, (x[:, :-1], x[:, 1:]), {"loss": F.mse_loss}


# No function between layers --------------------------------------------------------------------------------------


@variant(
    "architecture",
    "UG803",
    "UG110",
    action=r"activation|nonlinear|function between",
    cause="convolutions and BatchNorm without any activation",
)
def convolutions_without_activations(cured: bool):
    act = nn.ReLU if cured else nn.Identity
    layers = [
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        act(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        act(),
    ]
    x, labels = glyphs(64, 6, 12, seed=1)
    return (
        Net(
            lambda net, x: net.fc(net.features(x).mean((2, 3))),
            features=nn.Sequential(*layers),
            fc=nn.Linear(16, 6),
        ),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@variant(
    "architecture",
    "UG803",
    "UG110",
    action=r"activation|nonlinear|function between",
    cause="self.act is made and never called, in a residual network for tables",
)
def activation_never_called(cured: bool):
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down, self.act = nn.Linear(32, 64), nn.Linear(64, 32), nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            h = self.up(x)
            return x + self.down(self.act(h) if cured else h)

    x, y = houses(96, 8, seed=2)
    return (
        nn.Sequential(nn.Linear(8, 32), Layer(), Layer(), nn.Dropout(0.1), nn.Linear(32, 1)),
        (x, y),
        {"loss": F.mse_loss},
    )


@variant(
    "architecture",
    "UG803",
    "UG110",
    action=r"activation|nonlinear|function between",
    cause="a graph network multiplies adjacency and weights, with no function between",
)
def graph_network_without_activations(cured: bool):
    nodes, edges = molecules(48, 8, 6, seed=3)
    y = standard((nodes[..., :1] * nodes[..., 1:2]).sin())
    return GraphNet(6, 1, act=F.relu if cured else lambda x: x), (nodes, edges, y), {"loss": F.mse_loss}


@variant(
    "architecture",
    "UG803",
    "UG110",
    action=r"activation|nonlinear|function between",
    cause="F.relu(x) is called and its result is thrown away",
)
def activation_thrown_away(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        for layer in net.layers[:-1]:
            x = layer(x)
            y = F.relu(x)
            x = y if cured else x
        return net.layers[-1](x).view(-1, 2, 3)

    x, labels = clusters(96, 12, 3, seed=4)
    two = torch.stack([labels, (labels + (x[:, 0] * x[:, 1] > 0).long()) % 3], 1)
    model = Net(run, layers=nn.ModuleList([nn.Linear(12, 48), nn.Linear(48, 48), nn.Linear(48, 6)]))
    return model, (x, two), {"loss": lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten())}


# Axes of softmax, view for permute -------------------------------------------------------------------------------


@variant(
    "graph",
    "UG807",
    "",
    action=r"softmax|axis|dim|quer|key",
    cause="softmax(dim=2) of scores (batch, head, query, key): over queries",
)
def heads_share_keys_among_queries(cured: bool):
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(32, 96)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (t.unflatten(-1, (4, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            weights = F.softmax(q @ k.mT * 8**-0.5, dim=3 if cured else 2)
            return x + (weights @ v).transpose(1, 2).flatten(2)

    x = series(32, 14, 3, seed=1)
    y = standard(x[:, 2, :1] * x[:, 7, 1:2])
    return (
        Net(
            lambda net, x: net.head(net.attend(net.embed(x))[:, -1]),
            embed=nn.Linear(3, 32),
            attend=nn.Sequential(Attend(), Attend()),
            head=mlp(32, 32, 1),
        ),
        (x, y),
        {"loss": F.mse_loss},
    )


@variant(
    "graph",
    "UG806 UG603",
    "",
    action=r"permute|transpos|view|reshape|axis",
    cause="(batch, channel, height, width) is viewed as (batch, token, channel) for attention",
)
def picture_viewed_as_tokens(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        f = net.stem(x)
        n, c, h, w = f.shape
        tokens = f.flatten(2).transpose(1, 2) if cured else f.view(n, h * w, c)
        return net.head(net.blocks(tokens).mean(1))

    x, labels = glyphs(32, 6, 12, seed=2)
    stem = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), BasicBlock(32, 32))
    return (
        Net(run, stem=stem, blocks=nn.Sequential(Block(32)), head=nn.Linear(32, 6)),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@variant(
    "graph",
    "UG806 UG603",
    "",
    action=r"permute|transpos|view|reshape|axis",
    cause="LSTM outputs (time, batch, width) are viewed as (batch, time * width)",
)
def states_viewed_across_the_batch(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        out, _ = net.rnn(x.transpose(0, 1))
        out = out.transpose(0, 1) if cured else out
        return net.head(out.reshape(len(x), -1))

    x = series(32, 12, 2, seed=3)
    return (
        Net(run, rnn=nn.LSTM(2, 16), head=nn.Linear(192, 1)),
        (x, standard(x[:, 4, :1])),
        {"loss": F.mse_loss},
    )


@variant(
    "graph",
    "UG806 UG603",
    "",
    action=r"permute|transpos|view|reshape|axis",
    cause="heads are split by a view to (batch, head, token, width) without a transposition",
)
def heads_split_without_transposing(cured: bool):
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

        def split(self, x: Tensor) -> Tensor:
            n, t, _ = x.shape
            return x.view(n, t, 4, 8).transpose(1, 2) if cured else x.view(n, 4, t, 8)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            y = F.scaled_dot_product_attention(q, k, v)
            y = y.transpose(1, 2).reshape(x.shape) if cured else y.reshape(x.shape)
            return x + y

    text, _, labels = sentences(48, 12, 20, 4, seed=4)
    model = Net(
        lambda net, t: net.head(net.attend(net.embed(t)).mean(1)),
        embed=nn.Embedding(20, 32),
        attend=nn.Sequential(Attend(), nn.LayerNorm(32), Attend()),
        head=nn.Linear(32, 4),
    )
    return model, (text, labels), {"loss": F.cross_entropy}
