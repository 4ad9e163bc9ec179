"""Cases of UG707: dropout that leaves next to nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
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


def dropped(p: float, width: int = 32, kind: type[nn.Module] = nn.Dropout) -> Arguments:
    x = vectors()
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), kind(p), nn.Linear(width, 4)), (x, labels(x)), {}


def writer(p: float, **further: float) -> Arguments:
    """A transformer that writes text; further: dropout of attention."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.drop(net.embed(x))
        q, k, v = net.qkv(net.norm(h)).chunk(3, -1)
        chance = further.get("attention", 0.0) if net.training else 0.0
        h = h + net.drop(F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=chance))
        return net.head(h)

    x, y = text()
    parts = {"embed": nn.Embedding(20, 32), "norm": nn.LayerNorm(32), "qkv": nn.Linear(32, 96)}
    return Net(run, **parts, drop=nn.Dropout(p), head=nn.Linear(32, 20)), (x, y), {"loss": flat_ce}


@sick("UG707")
def keep_share_into_a_module() -> Arguments:
    return dropped(0.9)


@sick("UG707")
def keep_share_into_the_function() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.head(F.dropout(net.body(x).relu(), p=0.95, training=net.training)),
        body=chain(12, 64),
        head=nn.Linear(64, 4),
    )
    return model, (x, labels(x)), {}


@sick("UG707")
def nine_of_ten_channels() -> Arguments:
    x = pictures()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout2d(0.9), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 4),
    )  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG707")
def keep_share_in_a_transformer() -> Arguments:
    return writer(0.9)


@sick("UG707")
def keep_share_in_attention() -> Arguments:
    return writer(0.1, attention=0.9)


@sick("UG707")
def keep_share_of_self_normalizing_layers() -> Arguments:
    x = vectors()
    model = nn.Sequential(
        nn.Linear(12, 48), nn.SELU(), nn.AlphaDropout(0.95), nn.Linear(48, 48), nn.SELU(), nn.AlphaDropout(0.95),
        nn.Linear(48, 1),
    )  # fmt: skip
    return model, (x, values(x)), {"loss": MSE}


@sick("UG707")
def keep_share_between_recurrent_layers() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(6, 16, 2, batch_first=True, dropout=0.9),
        head=nn.Linear(16, 4),
    )
    return model, (x, labels(x)), {"loss": CE}


@sick("UG707")
def keep_share_in_an_encoder_layer() -> Arguments:
    x = sequences(width=16)
    model = Net(
        lambda net, x: net.head(net.body(x).mean(1)),
        body=nn.TransformerEncoderLayer(16, 2, 32, dropout=0.9, batch_first=True),
        head=nn.Linear(16, 4),
    )
    return model, (x, labels(x)), {"loss": CE}


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG707")
def half_of_a_wide_layer() -> Arguments:
    return dropped(0.5, 256)


@healthy("UG707")
def one_in_ten_of_a_transformer() -> Arguments:
    return writer(0.1, attention=0.1)


@healthy("UG707")
def eight_of_ten_before_the_head_of_a_trunk() -> Arguments:
    """As networks for video have it."""
    return dropped(0.8, 64)


@healthy("UG707")
def nine_of_ten_of_a_layer_of_thousands() -> Arguments:
    """As two-stream networks have it: hundreds of units are left."""
    return dropped(0.9, 4096)


@healthy("UG707")
def most_of_the_input_is_masked() -> Arguments:
    """A denoising autoencoder."""
    x = vectors(64, 40)
    model = Net(lambda net, x: net.body(F.dropout(x, 0.9, net.training)), body=chain(40, 64, 40))
    return model, (x, x.clone()), {"loss": MSE}


@healthy("UG707")
def high_dropout_that_is_off() -> Arguments:
    """Written in the network, and switched off until it overfits."""
    x = vectors()
    model = Net(
        lambda net, x: net.head(F.dropout(net.body(x).relu(), 0.95, training=False)),
        body=chain(12, 64),
        head=nn.Linear(64, 4),
    )
    return model, (x, labels(x)), {}


@healthy("UG707")
def recurrent_layers_with_a_half() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(6, 16, 2, batch_first=True, dropout=0.5),
        head=nn.Linear(16, 4),
    )
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG707")
def channels_of_pictures_at_a_fifth() -> Arguments:
    x = pictures()
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Dropout2d(0.2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 4),
    )  # fmt: skip
    torch.manual_seed(1)
    return model, (x, labels(x)), {}
