"""Cases of UG811: an encoding of times or positions whose argument leaves its range."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from function_rows import MSE, Arguments, Net, chain, flat_ce, healthy, sick, text, values, vectors
from torch import Tensor, nn


def embed(t: Tensor, width: int = 32, base: float = 10000.0) -> Tensor:
    """(N,) -> (N, width), as diffusion models have it."""
    f = torch.exp(-math.log(base) * torch.arange(width // 2) / (width // 2))
    args = t[:, None].float() * f
    return torch.cat([torch.cos(args), torch.sin(args)], -1)


class Denoiser(nn.Module):
    """Noisy vectors and times -> the noise."""

    def __init__(self, encode: object, width: int = 32) -> None:
        super().__init__()
        self.encode = encode
        self.body, self.time = nn.Linear(12, 48), nn.Linear(width, 48)
        self.head = chain(48, 48, 12)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.head((self.body(x) + self.time(self.encode(t))).relu())  # type: ignore[operator]


def denoised(encode: object, t: Tensor | None = None, width: int = 32) -> Arguments:
    x, noise = vectors(128), torch.randn(128, 12)
    t = torch.randint(0, 1000, (128,)) if t is None else t
    share = (t.float() / t.float().max())[:, None]
    return Denoiser(encode, width), ((1 - share) * x + share * noise, t, noise), {"loss": MSE}


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG811")
def times_divided_twice_by_their_number() -> Arguments:
    return denoised(lambda t: embed(t / 1000 / 1000))


@sick("UG811")
def times_multiplied_twice() -> Arguments:
    """Scaled by 1000 once by the caller and once more inside."""
    return denoised(lambda t: embed(1000 * (t * 10)))


@sick("UG811")
def exponents_by_a_division_of_whole_numbers() -> Arguments:
    class Positions(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            place = torch.arange(64)[:, None]
            scale = 10000 ** (torch.arange(0, width, 2) // width)
            table = torch.zeros(64, width)
            table[:, 0::2], table[:, 1::2] = torch.sin(place / scale), torch.cos(place / scale)
            self.register_buffer("table", table)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table[: x.shape[1]]

    x, y = text()
    layer = nn.TransformerEncoderLayer(24, 2, 48, 0.0, batch_first=True)
    model = nn.Sequential(nn.Embedding(20, 24), Positions(24), layer, nn.Linear(24, 20))
    return model, (x, y.flip(0)), {"loss": flat_ce}


@sick("UG811")
def whole_times_round_the_circle() -> Arguments:
    """sin(2 pi t) of whole t."""

    def encode(t: Tensor) -> Tensor:
        a = 2 * math.pi * t[:, None].float() * torch.arange(1, 17)
        return torch.cat([a.sin(), a.cos()], 1)

    return denoised(encode)


@sick("UG811")
def fractions_that_become_the_first_index() -> Arguments:
    t = torch.rand(128) * 0.99
    model = nn.Embedding(1000, 32)
    rows = denoised(lambda t: model(t.long()), t)
    rows[0].table = model
    return rows


@sick("UG811")
def indices_held_at_the_last_row() -> Arguments:
    """Times up to 1000, and a table of ten."""
    table = nn.Embedding(10, 32)
    t = torch.randint(10, 1000, (128,))
    rows = denoised(lambda t: table(t.clamp(max=9)), t)
    rows[0].table = table
    return rows


@sick("UG811")
def one_frequency_for_all_channels() -> Arguments:
    def encode(t: Tensor) -> Tensor:
        i = torch.arange(16)
        f = 1.0 / 10000 ** (i.div(16, rounding_mode="floor"))
        a = torch.outer(t.float(), f)
        return torch.stack([a.sin(), a.cos()], -1).flatten(1)

    return denoised(encode)


@sick("UG811")
def coordinates_in_pixels_for_octaves() -> Arguments:
    """Frequencies of powers of two times pi, for coordinates between -1 and 1, get pixels."""
    where = torch.randint(0, 256, (256, 2))
    y = torch.sin(where / 40).prod(1, keepdim=True)
    f = 2.0 ** torch.arange(6) * math.pi

    def run(net: Net, x: Tensor) -> Tensor:
        a = (x[..., None] * f).flatten(1)
        return net.body(torch.cat([a.sin(), a.cos()], -1))

    return Net(run, body=chain(24, 48, 1, act=nn.Tanh)), (where, y), {"loss": MSE}


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG811")
def times_as_they_are_meant() -> Arguments:
    return denoised(embed)


@healthy("UG811")
def times_between_zero_and_one_and_a_factor() -> Arguments:
    return denoised(lambda t: embed(1000 * t), torch.rand(128))


@healthy("UG811")
def a_table_of_positions() -> Arguments:
    place = torch.arange(64)[:, None] * torch.exp(torch.arange(0, 24, 2) * (-math.log(10000.0) / 24))
    table = torch.zeros(64, 24)
    table[:, 0::2], table[:, 1::2] = place.sin(), place.cos()
    x, y = text()
    layer = nn.TransformerEncoderLayer(24, 2, 48, 0.0, batch_first=True)
    net = Net(
        lambda net, x: net.head(net.layer(net.embed(x) + net.table[: x.shape[1]])), embed=nn.Embedding(20, 24),
        layer=layer, table=table, head=nn.Linear(24, 20),
    )  # fmt: skip
    return net, (x, y.flip(0)), {"loss": flat_ce}


@healthy("UG811")
def turned_queries_and_keys() -> Arguments:
    """Rotary positions."""

    def turned(x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        f = 1.0 / 10000 ** (torch.arange(half) / half)
        a = torch.outer(torch.arange(x.shape[1]).float(), f)
        one, two = x[..., :half], x[..., half:]
        return torch.cat([one * a.cos() - two * a.sin(), one * a.sin() + two * a.cos()], -1)

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        q, k, v = net.qkv(h).chunk(3, -1)
        return net.head(h + F.scaled_dot_product_attention(turned(q), turned(k), v))

    x, y = text()
    return (
        Net(run, embed=nn.Embedding(20, 24), qkv=nn.Linear(24, 72), head=nn.Linear(24, 20)),
        (x, y.flip(0)),
        {"loss": flat_ce},
    )


@healthy("UG811")
def hours_and_days_over_years() -> Arguments:
    """Calendar features go round many times on purpose."""
    hours = torch.randint(0, 24 * 365 * 3, (256, 1))
    y = torch.sin(hours * 2 * math.pi / 24) + 0.1 * torch.randn(256, 1)
    periods = torch.tensor([24.0, 168.0, 730.5, 8766.0])

    def run(net: Net, x: Tensor) -> Tensor:
        a = 2 * math.pi * x / periods
        return net.body(torch.cat([a.sin(), a.cos()], 1))

    return Net(run, body=chain(8, 32, 1)), (hours, y), {"loss": MSE}


@healthy("UG811")
def random_frequencies_and_octaves() -> Arguments:
    where = torch.rand(256, 2) * 2 - 1
    y = torch.sin(4 * where).prod(1, keepdim=True)
    y = y / y.std()
    random, octaves = 8 * torch.randn(2, 16), 2.0 ** torch.arange(6) * math.pi

    def run(net: Net, x: Tensor) -> Tensor:
        a, b = 2 * math.pi * x @ random, (x[..., None] * octaves).flatten(1)
        return net.body(torch.cat([a.sin(), a.cos(), b.sin(), b.cos()], -1))

    return Net(run, body=chain(56, 48, 1)), (where, y), {"loss": MSE}


@healthy("UG811")
def sines_as_activations_and_token_types() -> Arguments:
    """Layers that end in sines, and indices that are all zero."""

    def run(net: Net, x: Tensor, kind: Tensor) -> Tensor:
        h = net.one(x) + net.kinds(kind)
        return net.two(torch.sin(3 * h)) + net.two(torch.cos(0.001 * h))

    x = vectors(64)
    net = Net(run, one=nn.Linear(12, 48), kinds=nn.Embedding(2, 48), two=nn.Linear(48, 1))
    return net, (x, torch.randint(2, (64,)), values(x)), {"loss": MSE}


@healthy("UG811")
def steps_that_become_indices() -> Arguments:
    t = torch.rand(128)
    table = nn.Embedding(100, 32)
    rows = denoised(lambda t: table((t * 100).long().clamp(0, 99)), t)
    rows[0].table = table
    return rows
