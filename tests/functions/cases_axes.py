"""Cases of UG806: reshapes where axes should change places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    MSE,
    Arguments,
    Net,
    chain,
    healthy,
    labels,
    pictures,
    sequences,
    sick,
    values,
    vectors,
)
from torch import Tensor, nn


def last(n: int = 24, height: int = 10, width: int = 12, channels: int = 3) -> Tensor:
    """Pictures with channels last, as image libraries read them."""
    return torch.randn(n, height, width, channels)


def convolutions(first: object, channels: int = 3) -> Net:
    return Net(lambda net, x: net.head(F.relu(net.conv(first(x))).mean((2, 3))), conv=nn.Conv2d(channels, 16, 3),
               head=nn.Linear(16, 4))  # fmt: skip


@sick("UG806")
def pictures_reshaped_to_channels_first() -> Arguments:
    x = last()
    return convolutions(lambda x: x.reshape(-1, 3, 10, 12)), (x, labels(x)), {}


@sick("UG806")
def square_pictures_of_four_channels_viewed() -> Arguments:
    x = last(height=16, width=16, channels=4)
    return convolutions(lambda x: x.view(len(x), 4, 16, 16), 4), (x, labels(x)), {}


@sick("UG806")
def steps_viewed_as_channels() -> Arguments:
    x = sequences(24, 15, 6)
    model = Net(lambda net, x: net.head(F.relu(net.conv(x.contiguous().view(len(x), 6, 15))).amax(2)),
                conv=nn.Conv1d(6, 16, 3), head=nn.Linear(16, 4))  # fmt: skip
    return model, (x, labels(x)), {}


def attention(merge: object) -> Arguments:
    x = sequences(24, 10, 16)

    def run(net: Net, x: Tensor) -> Tensor:
        q, k, v = (p.view(len(x), -1, 4, 4).transpose(1, 2) for p in net.qkv(x).chunk(3, -1))
        return net.head((x + net.out(merge(F.scaled_dot_product_attention(q, k, v)))).mean(1))

    return Net(run, qkv=nn.Linear(16, 48), out=nn.Linear(16, 16), head=nn.Linear(16, 4)), (x, labels(x)), {}


@sick("UG806")
def heads_merged_as_they_lie() -> Arguments:
    return attention(lambda h: h.reshape(len(h), 10, 16))


@sick("UG806")
def pixels_viewed_as_tokens() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        tokens = net.patches(x).view(len(x), 16, 24)  # (N, 24, 4, 4)
        return net.head(net.encoder(tokens).mean(1))

    layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True)
    return Net(run, patches=nn.Conv2d(3, 24, 2, 2), encoder=layer, head=nn.Linear(24, 4)), (x, labels(x)), {}


@sick("UG806")
def columns_of_a_feature_map_reshaped_to_steps() -> Arguments:
    x = torch.randn(24, 1, 8, 20)

    def run(net: Net, x: Tensor) -> Tensor:
        features = F.relu(net.conv(x))  # (N, 12, 8, 20)
        return net.head(net.rnn(features.reshape(len(x), 20, 96))[0][:, -1])

    model = Net(
        run, conv=nn.Conv2d(1, 12, 3, padding=1), rnn=nn.GRU(96, 24, batch_first=True), head=nn.Linear(24, 1)
    )
    return model, (x, values(x)), {"loss": MSE}


@healthy("UG806")
def pictures_permuted_to_channels_first() -> Arguments:
    x = last()
    return convolutions(lambda x: x.permute(0, 3, 1, 2)), (x, labels(x)), {}


@healthy("UG806")
def heads_merged_behind_a_transpose() -> Arguments:
    return attention(lambda h: h.transpose(1, 2).reshape(len(h), 10, 16))


@healthy("UG806")
def pixels_flattened_and_transposed_to_tokens() -> Arguments:
    x = pictures()
    layer = nn.TransformerEncoderLayer(24, 4, 48, dropout=0.0, batch_first=True)
    model = Net(lambda net, x: net.head(net.encoder(net.patches(x).flatten(2).transpose(1, 2)).mean(1)),
                patches=nn.Conv2d(3, 24, 2, 2), encoder=layer, head=nn.Linear(24, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG806")
def two_steps_stacked_into_one() -> Arguments:
    x = sequences(24, 12, 6)
    model = Net(lambda net, x: net.head(net.rnn(x.reshape(len(x), 6, 12))[0][:, -1]), head=nn.Linear(24, 4),
                rnn=nn.GRU(12, 24, batch_first=True))  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG806")
def a_vector_that_becomes_a_picture() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.up(F.relu(net.first(x)).view(-1, 8, 4, 4)).flatten(1), first=nn.Linear(12, 128),
                up=nn.ConvTranspose2d(8, 1, 2, 2))  # fmt: skip
    return model, (x, torch.randn(len(x), 64)), {"loss": MSE}


@healthy("UG806")
def channels_shuffled_by_groups() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(net.a(x))
        n, c, height, width = h.shape
        h = h.view(n, 4, c // 4, height, width).transpose(1, 2).reshape(n, c, height, width)
        return net.head(F.relu(net.b(h)).mean((2, 3)))

    parts = {"a": nn.Conv2d(3, 16, 3), "b": nn.Conv2d(16, 16, 3, groups=4), "head": nn.Linear(16, 4)}
    return Net(run, **parts), (x, labels(x)), {}


@healthy("UG806")
def frames_folded_into_the_batch() -> Arguments:
    x = torch.randn(12, 5, 3, 8, 8)

    def run(net: Net, x: Tensor) -> Tensor:
        n, frames = x.shape[:2]
        h = F.relu(net.conv(x.view(n * frames, *x.shape[2:]))).mean((2, 3))
        return net.head(net.rnn(h.view(n, frames, -1))[0][:, -1])

    model = Net(run, conv=nn.Conv2d(3, 16, 3), rnn=nn.GRU(16, 16, batch_first=True), head=nn.Linear(16, 4))
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG806")
def windows_of_a_picture() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.first(x).permute(0, 2, 3, 1)  # (N, 8, 8, 16)
        n = len(h)
        windows = h.view(n, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16)
        windows = windows + net.mix(windows)
        h = windows.view(n, 2, 2, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, 16)
        return net.head(h.mean((1, 2)))

    return (
        Net(run, first=nn.Conv2d(3, 16, 1), mix=chain(16, 32, 16), head=nn.Linear(16, 4)),
        (x, labels(x)),
        {},
    )
