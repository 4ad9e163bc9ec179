"""Cases of UG809: lists that hold one module in every place."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from function_rows import CE, MSE, Arguments, Net, healthy, labels, pictures, sequences, sick, values, vectors
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, width: int = 24):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(torch.tanh(self.one(self.norm(x))))


def classify(body: nn.Module) -> Arguments:
    x = vectors(96)
    return nn.Sequential(nn.Linear(12, 24), body, nn.Linear(24, 4)), (x, labels(x)), {"loss": CE}


def in_turn(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    for block in net.blocks:
        x = block(x)
    return net.head(x)


def through(blocks: nn.Module) -> Arguments:
    x = vectors(96)
    model = Net(in_turn, stem=nn.Linear(12, 24), blocks=blocks, head=nn.Linear(24, 4))
    return model, (x, labels(x)), {"loss": CE}


def with_heads(heads: nn.ModuleList) -> Arguments:
    x = vectors(96)
    model = Net(
        lambda net, x: torch.cat([head(torch.tanh(net.stem(x))) for head in net.heads], 1),
        stem=nn.Linear(12, 24), heads=heads,
    )  # fmt: skip
    return model, (x, values(x, len(heads))), {"loss": MSE}


@sick("UG809")
def blocks_multiplied_in_a_sequential() -> Arguments:
    return classify(nn.Sequential(*[Block()] * 4))


@sick("UG809")
def blocks_multiplied_in_a_list() -> Arguments:
    return through(nn.ModuleList([Block()] * 3))


@sick("UG809")
def heads_multiplied() -> Arguments:
    return with_heads(nn.ModuleList([nn.Linear(24, 1)] * 3))


@sick("UG809")
def one_convolution_appended_twice() -> Arguments:
    x = pictures()
    conv, layers = nn.Conv2d(8, 8, 3, padding=1), nn.ModuleList()
    for _ in range(3):
        layers.append(conv)

    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for layer in net.layers:
            x = x + layer(torch.tanh(x))
        return net.head(x.mean((2, 3)))

    model = Net(run, stem=nn.Conv2d(3, 8, 3, padding=1), layers=layers, head=nn.Linear(8, 4))
    return model, (x, labels(x)), {"loss": CE}


@sick("UG809")
def layers_of_a_transformer_multiplied() -> Arguments:
    x = sequences(24, 8, 16)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    model = Net(
        lambda net, x: net.head(net.layers(x).mean(1)),
        layers=nn.Sequential(*[layer] * 2),
        head=nn.Linear(16, 4),
    )
    return model, (x, labels(x)), {"loss": CE}


@sick("UG809")
def experts_multiplied() -> Arguments:
    def run(net: Any, x: Tensor) -> Tensor:
        h = torch.tanh(net.stem(x))
        share = net.gate(h).softmax(1)
        return (torch.stack([expert(h) for expert in net.experts], 1) * share[..., None]).sum(1)

    x = vectors(96)
    experts = nn.ModuleList([nn.Linear(24, 4)] * 3)
    return (
        Net(run, stem=nn.Linear(12, 24), gate=nn.Linear(24, 3), experts=experts),
        (x, labels(x)),
        {"loss": CE},
    )


@healthy("UG809")
def blocks_made_one_by_one() -> Arguments:
    return classify(nn.Sequential(*(Block() for _ in range(4))))


@healthy("UG809")
def blocks_copied() -> Arguments:
    block = Block()
    blocks = [copy.deepcopy(block) for _ in range(3)]
    for one in blocks:
        nn.init.xavier_uniform_(one.one.weight)
    return through(nn.ModuleList(blocks))


@healthy("UG809")
def heads_made_one_by_one() -> Arguments:
    return with_heads(nn.ModuleList(nn.Linear(24, 1) for _ in range(3)))


@healthy("UG809")
def one_head_for_all_levels() -> Arguments:
    def run(net: Any, x: Tensor) -> Tensor:
        levels = [torch.tanh(net.stem(x))]
        for layer in net.layers:
            levels.append(levels[-1] + torch.tanh(layer(levels[-1])))
        return torch.stack([head(level) for head, level in zip(net.heads, levels)]).mean(0)

    x = vectors(96)
    model = Net(
        run, stem=nn.Linear(12, 24), layers=nn.ModuleList(nn.Linear(24, 24) for _ in range(2)),
        heads=nn.ModuleList([nn.Linear(24, 4)] * 3),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG809")
def one_block_called_in_a_loop() -> Arguments:
    x = vectors(96)

    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for _ in range(3):
            x = net.block(x)
        return net.head(x)

    return (
        Net(run, stem=nn.Linear(12, 24), block=Block(), head=nn.Linear(24, 4)),
        (x, labels(x)),
        {"loss": CE},
    )


@healthy("UG809")
def one_activation_in_many_places() -> Arguments:
    act = nn.GELU()
    layers = nn.ModuleList([act] * 3)

    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for linear, act in zip(net.linears, net.layers):
            x = x + act(linear(F.layer_norm(x, (24,))))
        return net.head(x)

    x = vectors(96)
    linears = nn.ModuleList(nn.Linear(24, 24) for _ in range(3))
    model = Net(run, stem=nn.Linear(12, 24), linears=linears, layers=layers, head=nn.Linear(24, 4))
    return model, (x, labels(x)), {"loss": CE}
