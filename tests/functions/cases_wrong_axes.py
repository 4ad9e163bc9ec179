"""Cases of UG807: normalized along an axis that is not meant."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import CE, Arguments, Net, healthy, labels, sequences, sick, text, vectors
from torch import Tensor, nn

WORDS, WIDTH = 20, 16


def attention(run: Callable[..., Tensor], classes: int = 4, **parts: nn.Module) -> Net:
    """Tokens (B, T) -> logits (B, classes): run makes (B, T, WIDTH) of queries, keys and values."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        q, k, v = net.qkv(h).chunk(3, -1)
        return net.head((h + run(net, q, k, v)).mean(1))

    return Net(
        forward, embed=nn.Embedding(WORDS, WIDTH), qkv=nn.Linear(WIDTH, 3 * WIDTH), head=nn.Linear(WIDTH, classes),
        **parts,
    )  # fmt: skip


def read(model: nn.Module) -> Arguments:
    x, _ = text(48, 10, WORDS)
    return model, (x, x[:, 0] % 4), {"loss": CE}


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, WIDTH // 2)).transpose(1, 2)


@sick("UG807")
def softmax_over_the_queries() -> Arguments:
    return read(attention(lambda net, q, k, v: (q @ k.transpose(1, 2) / 4).softmax(1) @ v))


@sick("UG807")
def softmax_over_the_queries_of_two_heads() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = heads(q) @ heads(k).mT / 3
        weights = F.dropout(F.softmax(scores, dim=-2), 0.0)
        return (weights @ heads(v)).transpose(1, 2).flatten(2)

    return read(attention(run))


@sick("UG807")
def softmax_over_the_queries_in_an_einsum() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.einsum("bid,bjd->bij", q, k).div(4).softmax(1)
        return torch.einsum("bij,bjd->bid", weights, v)

    return read(attention(run))


@sick("UG807")
def scores_of_senders_and_receivers_over_receivers() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = F.leaky_relu(net.sent(q) + net.got(k).transpose(1, 2))
        return scores.softmax(1).bmm(v)

    return read(attention(run, sent=nn.Linear(WIDTH, 1), got=nn.Linear(WIDTH, 1)))


@sick("UG807")
def features_normalized_over_the_steps() -> Arguments:
    model = Net(
        lambda net, x: net.head(F.normalize(torch.relu(net.body(x))).amax(1)),
        body=nn.Linear(6, WIDTH), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    x = sequences(48, 10, 6)
    return model, (x, labels(x)), {"loss": CE}


@sick("UG807")
def recurrent_states_normalized_over_the_steps() -> Arguments:
    model = Net(
        lambda net, x: net.head(F.normalize(net.rnn(x)[0], dim=1)[:, -1]),
        rnn=nn.GRU(6, WIDTH, batch_first=True), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    x = sequences(48, 10, 6)
    return model, (x, labels(x)), {"loss": CE}


@sick("UG807")
def pairs_divided_by_the_norm_of_the_batch() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        a, b = net.one(x), net.two(x)
        return 10 * (a / a.norm()) @ (b / b.norm()).T

    x = vectors(48, 6)
    model = Net(run, one=nn.Linear(6, WIDTH), two=nn.Linear(6, WIDTH))
    return model, (x, torch.arange(48)), {"loss": CE}


@sick("UG807")
def cross_attention_over_the_queries() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asked = net.ask.expand(len(q), -1, -1)
        read = ((net.query(asked) @ k.transpose(-1, -2)) * 0.25).softmax(-2).matmul(v)
        return read.mean(1, keepdim=True).expand_as(q)

    ask = nn.Parameter(torch.randn(1, 5, WIDTH))
    model = attention(run, query=nn.Linear(WIDTH, WIDTH))
    model.register_parameter("ask", ask)
    return read(model)


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG807")
def softmax_over_the_keys() -> Arguments:
    return read(attention(lambda net, q, k, v: (q @ k.transpose(1, 2) / 4).softmax(2) @ v))


@healthy("UG807")
def values_on_the_left() -> Arguments:
    """(features, keys) @ (keys, queries): the weights are transposed, and so is their axis."""

    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (k @ q.transpose(1, 2) / 4).softmax(1)  # (batch, key, query)
        return (v.transpose(1, 2) @ weights).transpose(1, 2)

    return read(attention(run))


@healthy("UG807")
def attention_that_is_linear() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q.softmax(-1) @ (k.softmax(1).transpose(1, 2) @ v)

    return read(attention(run))


@healthy("UG807")
def slots_that_compete_for_the_steps() -> Arguments:
    """Slot attention: a softmax over the slots, and then a weighted mean over the steps."""

    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (net.slots.expand(len(q), -1, -1) @ k.transpose(1, 2)).softmax(1)
        weights = weights / weights.sum(2, keepdim=True)
        return (weights @ v).mean(1, keepdim=True).expand_as(q)

    model = attention(run)
    model.register_parameter("slots", nn.Parameter(torch.randn(1, 5, WIDTH)))
    return read(model)


@healthy("UG807")
def clusters_to_which_steps_are_assigned() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shares = net.assign(k).softmax(2)  # (batch, step, cluster)
        return (shares.transpose(1, 2) @ v).mean(1, keepdim=True).expand_as(q)

    return read(attention(run, assign=nn.Linear(WIDTH, 5)))


@healthy("UG807")
def covariances_of_features() -> Arguments:
    """Cross-covariance attention: features attend to each other, and are scaled along the steps on purpose."""

    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (batch, feature, step)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return ((3 * q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(1, 2)

    return read(attention(run))


@healthy("UG807")
def pictures_normalized_over_channels() -> Arguments:
    model = Net(
        lambda net, x: net.head(4 * F.normalize(torch.relu(net.conv(x)), dim=1).mean((2, 3))),
        conv=nn.Conv2d(1, WIDTH, 3), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    x = sequences(48, 10, 10)[:, None]
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG807")
def each_examples_own_norm() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        a = net.one(x)
        return net.head(4 * a / a.norm(dim=1, keepdim=True))

    x = vectors(48, 6)
    return Net(run, one=nn.Linear(6, WIDTH), head=nn.Linear(WIDTH, 4)), (x, labels(x)), {"loss": CE}


# ---- norms that are modules --------------------------------------------------------------------------------------


def states_of(norm: nn.Module, *, turned: bool = False) -> Arguments:
    """A GRU's states (B, T, WIDTH), normalized as they are or as (B, WIDTH, T)."""

    def forward(net: Net, x: Tensor) -> Tensor:
        h = net.rnn(x)[0]
        h = net.norm(h.transpose(1, 2)).transpose(1, 2) if turned else net.norm(h)
        return net.head(torch.relu(h).mean(1))

    x = sequences(48, 10, 6)
    model = Net(
        forward, rnn=nn.GRU(6, WIDTH, batch_first=True), norm=norm, head=nn.Linear(WIDTH, 4)
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": CE}


def words_of(norm: nn.Module, *, width: int = WIDTH) -> Arguments:
    x, _ = text(48, 10, WORDS)
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.body(net.embed(x)))).mean(1)),
        embed=nn.Embedding(WORDS, WIDTH), body=nn.Linear(WIDTH, width), norm=norm, head=nn.Linear(width, 4),
    )  # fmt: skip
    return model, (x, x[:, 0] % 4), {"loss": CE}


@sick("UG807", "norms")
def steps_taken_for_channels() -> Arguments:
    return states_of(nn.BatchNorm1d(10))


@sick("UG807", "norms")
def steps_of_words_taken_for_channels() -> Arguments:
    return words_of(nn.BatchNorm1d(10))


@sick("UG807", "norms")
def layer_norm_of_examples_too() -> Arguments:
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.body(x)))),
        body=nn.Linear(12, WIDTH), norm=nn.LayerNorm((64, WIDTH)), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    x = vectors(64)
    return model, (x, labels(x)), {"loss": CE}


@sick("UG807", "norms")
def layer_norm_of_examples_steps_and_features() -> Arguments:
    return states_of(nn.LayerNorm((48, 10, WIDTH)))


@healthy("UG807", "norms")
def channels_turned_to_axis_one() -> Arguments:
    return states_of(nn.BatchNorm1d(WIDTH), turned=True)


@healthy("UG807", "norms")
def layer_norm_of_steps_and_features() -> Arguments:
    return states_of(nn.LayerNorm((10, WIDTH)))


@healthy("UG807", "norms")
def channels_before_a_linear_layer_over_time() -> Arguments:
    """(batch, channel, time): linear layers mix times, and the channels are at axis 1."""
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.mix(x))).mean(2)),
        mix=nn.Linear(10, WIDTH), norm=nn.BatchNorm1d(6), head=nn.Linear(6, 4),
    )  # fmt: skip
    x = torch.randn(48, 6, 10)
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG807", "norms")
def words_read_by_convolutions() -> Arguments:
    x, _ = text(48, 10, WORDS)
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.conv(net.embed(x).transpose(1, 2)))).mean(2)),
        embed=nn.Embedding(WORDS, WIDTH), conv=nn.Conv1d(WIDTH, WIDTH, 3), norm=nn.BatchNorm1d(WIDTH),
        head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    return model, (x, x[:, 0] % 4), {"loss": CE}


@sick("UG807", "norms")
def steps_of_states_behind_a_linear_layer() -> Arguments:
    x = sequences(48, 10, 6)
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.body(net.rnn(x)[0]))).mean(1)),
        rnn=nn.LSTM(6, WIDTH, batch_first=True), body=nn.Linear(WIDTH, 24), norm=nn.BatchNorm1d(10),
        head=nn.Linear(24, 4),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": CE}


@sick("UG807", "norms")
def layer_norm_of_a_whole_batch_of_words() -> Arguments:
    return words_of(nn.LayerNorm((48, 10, WIDTH), elementwise_affine=False))


@healthy("UG807", "norms")
def features_of_all_steps_normalized_as_examples() -> Arguments:
    """(batch * step, feature): the features are at axis 1."""
    x, _ = text(48, 10, WORDS)
    model = Net(
        lambda net, x: net.head(torch.relu(net.norm(net.embed(x).flatten(0, 1))).unflatten(0, (-1, 10)).mean(1)),
        embed=nn.Embedding(WORDS, WIDTH), norm=nn.BatchNorm1d(WIDTH), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    return model, (x, x[:, 0] % 4), {"loss": CE}


@healthy("UG807", "norms")
def layer_norm_of_features_alone() -> Arguments:
    return words_of(nn.LayerNorm(WIDTH))
