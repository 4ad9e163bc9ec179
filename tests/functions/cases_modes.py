"""Cases of UG706 (dropout in evaluation mode) and UG603 (an example's place in its batch)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from function_rows import (
    BCE_LOGITS,
    MSE,
    Arguments,
    Net,
    chain,
    flat_ce,
    healthy,
    labels,
    pictures,
    sequences,
    sick,
    text,
    values,
    vectors,
)
from torch import Tensor, nn

# ---- UG706: dropout that evaluation mode does not turn off -------------------------------------------------------


@sick("UG706")
def dropout_as_a_function_by_default() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(F.dropout(F.relu(net.a(x)), 0.5)), a=nn.Linear(12, 64), b=nn.Linear(64, 4)
    )
    return model, (x, labels(x)), {}


@sick("UG706")
def dropout_made_in_forward() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(net.a(x)), 2).flatten(1)
        return net.b(nn.Dropout(0.3)(h))

    return Net(run, a=nn.Conv2d(3, 16, 3), b=nn.Linear(144, 4)), (x, labels(x)), {}


class SelfAttention(nn.Module):
    """Dropout of the attention's weights by a number, as scaled_dot_product_attention takes it."""

    def __init__(self, width: int, dropout: float, always: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout, self.always = dropout, always

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        p = self.dropout if self.always or self.training else 0.0
        return self.out(F.scaled_dot_product_attention(q, k, v, dropout_p=p))


def _attending(always: bool) -> Arguments:
    x = sequences(width=16)
    model = Net(
        lambda net, x: net.head((x + net.attention(net.norm(x))).mean(1)),
        norm=nn.LayerNorm(16),
        attention=SelfAttention(16, 0.1, always),
        head=nn.Linear(16, 4),
    )
    return model, (x, labels(x)), {}


@sick("UG706")
def dropout_of_attention_weights_in_either_mode() -> Arguments:
    return _attending(True)


@sick("UG706")
def dropout_of_whole_channels() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        return net.c(F.dropout2d(F.relu(net.b(F.relu(net.a(x)))), p=0.2).mean((2, 3)))

    parts = {"a": nn.Conv2d(3, 16, 3, padding=1), "b": nn.Conv2d(16, 32, 3, padding=1), "c": nn.Linear(32, 1)}
    return Net(run, **parts), (x, values(x)), {"loss": MSE}


@sick("UG706")
def dropout_of_embedded_words() -> Arguments:
    x, y = text()
    model = Net(
        lambda net, x: net.head(net.rnn(F.dropout(net.embed(x), p=net.p))[0]),
        embed=nn.Embedding(20, 32), rnn=nn.LSTM(32, 32, batch_first=True), head=nn.Linear(32, 20), p=0.25,
    )  # fmt: skip
    return model, (x, y), {"loss": flat_ce}


class DroppingBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.layers = nn.LayerNorm(width), chain(width, 2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.dropout(self.layers(self.norm(x)), 0.1, True)


@sick("UG706")
def dropout_of_torch_itself_in_each_block() -> Arguments:
    x = vectors()
    return (
        nn.Sequential(nn.Linear(12, 32), *(DroppingBlock(32) for _ in range(3)), nn.Linear(32, 4)),
        (x, labels(x)),
        {},
    )


@sick("UG706")
def alpha_dropout_made_in_forward() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(nn.AlphaDropout(p=0.1)(F.selu(net.a(x)))),
        a=nn.Linear(12, 48),
        b=nn.Linear(48, 2),
    )
    return model, (x, (values(x, 2) > 0).float()), {"loss": BCE_LOGITS}


@sick("UG706")
def dropout_of_message_passing() -> Arguments:
    x, edges = vectors(40), (torch.rand(40, 40) < 0.2).float()
    adjacency = edges / edges.sum(1, keepdim=True).clamp(min=1)
    model = Net(
        lambda net, x: net.b(net.adjacency @ F.dropout(F.relu(net.a(net.adjacency @ x)), 0.5)),
        a=nn.Linear(12, 32), b=nn.Linear(32, 4), adjacency=adjacency,
    )  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG706")
def dropout_as_a_function_in_training() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(F.dropout(F.relu(net.a(x)), 0.5, net.training)), a=nn.Linear(12, 64), b=nn.Linear(64, 4)
    )  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG706")
def dropout_of_attention_weights_in_training() -> Arguments:
    return _attending(False)


@healthy("UG706")
def a_sample_from_the_posterior_in_either_mode() -> Arguments:
    x = vectors()

    def run(net: Net, x: Tensor) -> Tensor:
        mean, log_variance = net.encoder(x).chunk(2, 1)
        return net.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))

    return Net(run, encoder=chain(12, 32, 8), decoder=chain(4, 32, 12)), (x, x.clone()), {"loss": MSE}


class AlwaysDropout(nn.Dropout):
    """Dropout for samples of a Bayesian network."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, True)


@healthy("UG706")
def dropout_of_a_bayesian_network() -> Arguments:
    x = vectors()
    return (
        nn.Sequential(nn.Linear(12, 64), nn.ReLU(), AlwaysDropout(0.2), nn.Linear(64, 1)),
        (x, values(x)),
        {"loss": MSE},
    )


class KeepsDropping(nn.Sequential):
    def train(self, mode: bool = True) -> KeepsDropping:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.training = True
        return self


@healthy("UG706")
def dropout_modules_that_stay_in_training_mode() -> Arguments:
    x = vectors()
    return (
        KeepsDropping(nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 4)),
        (x, labels(x)),
        {},
    )


@healthy("UG706")
def a_prenet_whose_dropout_is_meant_for_either_mode() -> Arguments:
    x = sequences(width=12)

    def run(net: Net, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(net.a(x)), p=0.5, training=True)
        return net.out(net.rnn(x)[0])

    model = Net(run, a=nn.Linear(12, 32), rnn=nn.GRU(32, 32, batch_first=True), out=nn.Linear(32, 12))
    return model, (x, x.roll(-1, 1)), {"loss": MSE}


@healthy("UG706")
def choices_by_gumbel_noise() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(F.gumbel_softmax(net.a(x), tau=1.0) @ net.book), a=chain(12, 32, 6), b=nn.Linear(16, 4),
        book=nn.Parameter(torch.randn(6, 16)),
    )  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG706")
def dropout_of_nothing() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(F.dropout(F.relu(net.a(x)), 0.0)), a=nn.Linear(12, 64), b=nn.Linear(64, 4)
    )
    return model, (x, labels(x)), {}


# ---- UG603: positions that are counted over the batch ------------------------------------------------------------


def waves(most: int, width: int) -> Tensor:
    """Sinusoidal positions (most, width)."""
    place, step = torch.arange(most)[:, None], torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
    return torch.stack([torch.sin(place * step), torch.cos(place * step)], -1).flatten(1)


def _transformer(positions: object, learned: bool, words: int = 16, width: int = 24) -> Net:
    layer = nn.TransformerEncoderLayer(width, 4, 48, dropout=0.0, batch_first=True)
    table = {"places": nn.Embedding(64, width)} if learned else {"waves": waves(64, width)}
    return Net(positions, embed=nn.Embedding(words, width), head=nn.Linear(width, 3), **table,
               encoder=nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))  # fmt: skip


def _sentences(n: int = 24, steps: int = 9) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 16, (n, steps))
    return x, (x == 3).sum(1).clamp(max=2)


PLACE = "place in the batch"


@sick("UG603", PLACE)
def learned_positions_of_the_examples() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.head(net.encoder(net.embed(x) + net.places(torch.arange(len(x)))[:, None]).mean(1))

    return _transformer(run, True), _sentences(), {}


@sick("UG603", PLACE)
def sinusoidal_positions_for_time_first() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.embed(x)
        return net.head(net.encoder(x + net.waves[: x.size(0)].unsqueeze(1)).mean(1))

    return _transformer(run, False), _sentences(), {}


@sick("UG603", PLACE)
def positions_that_run_on_over_all_rows() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        places = torch.arange(x.numel()).view_as(x) % 64
        return net.head(net.encoder(net.embed(x) + net.waves[places]).mean(1))

    return _transformer(run, False), _sentences(7), {}


@sick("UG603", PLACE)
def one_embedding_for_each_row() -> Arguments:
    x = vectors(40)
    model = Net(
        lambda net, x: net.b(F.relu(net.a(x) + net.rows[: len(x)])), a=nn.Linear(12, 32), b=nn.Linear(32, 4),
        rows=nn.Parameter(torch.randn(64, 32)),
    )  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG603", PLACE)
def a_ramp_over_the_rows_of_a_batch() -> Arguments:
    x = sequences(24, 10, 6)

    def run(net: Net, x: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, x.shape[0])[:, None, None].expand(-1, x.shape[1], 1)
        return net.head(net.rnn(torch.cat([x, ramp], -1))[0][:, -1])

    return Net(run, rnn=nn.GRU(7, 24, batch_first=True), head=nn.Linear(24, 4)), (x, labels(x)), {}


@sick("UG603", PLACE)
def a_decay_along_the_wrong_axis() -> Arguments:
    x = sequences(24, 10, 6)

    def run(net: Net, x: Tensor) -> Tensor:
        return net.head((net.a(x) * 0.9 ** torch.arange(len(x))[:, None, None]).sum(1))

    return Net(run, a=nn.Linear(6, 24), head=nn.Linear(24, 1)), (x, values(x)), {"loss": MSE}


@healthy("UG603", PLACE)
def learned_positions_of_the_words() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.head(net.encoder(net.embed(x) + net.places(torch.arange(x.shape[1]))).mean(1))

    return _transformer(run, True), _sentences(), {}


@healthy("UG603", PLACE)
def sinusoidal_positions_of_time_first_words() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.embed(x.t())
        return net.head(net.encoder((x + net.waves[: x.size(0)].unsqueeze(1)).transpose(0, 1)).mean(1))

    return _transformer(run, False), _sentences(), {}


@healthy("UG603", PLACE)
def grids_that_are_the_same_for_each_picture() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, x.shape[2])
        grid = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij")).expand(len(x), -1, -1, -1)
        return net.b(F.relu(net.a(torch.cat([x, grid], 1))).mean((2, 3)))

    return Net(run, a=nn.Conv2d(5, 16, 3), b=nn.Linear(16, 4)), (x, labels(x)), {}


@healthy("UG603", PLACE)
def boxes_with_the_number_of_their_picture() -> Arguments:
    x = pictures()

    def run(net: Net, x: Tensor) -> Tensor:
        features = F.relu(net.a(x))
        which = torch.arange(len(x)).repeat_interleave(2)  # two windows a picture
        return net.b(features[which].view(len(x), 2, *features.shape[1:]).mean((1, 3, 4)))

    return Net(run, a=nn.Conv2d(3, 16, 3), b=nn.Linear(16, 4)), (x, labels(x)), {}


@healthy("UG603", PLACE)
def states_that_begin_at_random() -> Arguments:
    x = sequences(24, 10, 6)

    def run(net: Net, x: Tensor) -> Tensor:
        return net.head(net.rnn(x, torch.randn(1, len(x), 24))[0][:, -1])

    return Net(run, rnn=nn.GRU(6, 24, batch_first=True), head=nn.Linear(24, 4)), (x, labels(x)), {}


@healthy("UG603", PLACE)
def noise_levels_drawn_in_forward() -> Arguments:
    x = vectors(40)

    def run(net: Net, x: Tensor) -> Tensor:
        level = torch.rand(len(x), 1)
        return net.layers(torch.cat([x + level * torch.randn_like(x), level], 1))

    return Net(run, layers=chain(13, 48, 12)), (x, x.clone()), {"loss": MSE}
