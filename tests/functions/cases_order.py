"""UG802 (sees the future) and UG603 (examples depend on each other): which axis is the time, which the examples."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
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

WORDS, WIDTH = 20, 16


class Language(nn.Module):
    """Tokens (B, T) -> logits (B, T, words): embeddings, places, a body, a head."""

    def __init__(self, body: Any, first: bool = True, **parts: nn.Module):
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.place = nn.Parameter(
            0.1 * torch.randn(12, 1, WIDTH) if not first else 0.1 * torch.randn(12, WIDTH)
        )
        self.body = body
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self, self.embed(x) + self.place[: x.shape[-1]]))


def _encoder(first: bool = True) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=first, norm_first=True)


def _mask(size: int, diagonal: int = 1) -> Tensor:
    return torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal)


def _spoken(model: nn.Module, loss: Any = flat_ce) -> Arguments:
    return model, text(), {"loss": loss}


# ---- UG802 -----------------------------------------------------------------------------------------------------


@sick("UG802")
def transformer_without_a_mask() -> Arguments:
    return _spoken(Language(lambda net, x: net.block(x), block=_encoder()))


@sick("UG802")
def lstm_of_both_directions() -> Arguments:
    return _spoken(
        Language(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(WIDTH, 8, batch_first=True, bidirectional=True))
    )


@sick("UG802")
def convolution_centred_on_the_token() -> Arguments:
    return _spoken(
        Language(
            lambda net, x: torch.relu(net.conv(x.transpose(1, 2))).transpose(1, 2),
            conv=nn.Conv1d(WIDTH, WIDTH, 3, padding=1),
        )
    )


@sick("UG802")
def mean_of_all_tokens_added() -> Arguments:
    return _spoken(
        Language(lambda net, x: torch.relu(net.fc(x + x.mean(1, keepdim=True))), fc=nn.Linear(WIDTH, WIDTH))
    )


@sick("UG802")
def mask_off_by_one() -> Arguments:
    return _spoken(Language(lambda net, x: net.block(x, src_mask=_mask(x.shape[1], 2)), block=_encoder()))


@sick("UG802")
def flattened_logits_and_targets() -> Arguments:
    x, t = text()
    model = Language(lambda net, x: net.block(x), block=_encoder())
    whole = Net(lambda net, x: net.inner(x).flatten(0, 1), inner=model)
    return whole, (x, t.flatten()), {"loss": CE}


@sick("UG802")
def classes_on_the_second_axis() -> Arguments:
    model = Language(lambda net, x: net.rnn(x)[0], rnn=nn.GRU(WIDTH, 8, batch_first=True, bidirectional=True))
    return Net(lambda net, x: net.inner(x).transpose(1, 2), inner=model), text(), {"loss": CE}


@sick("UG802")
def labels_are_the_tokens_and_the_model_shifts() -> Arguments:
    inner = Language(lambda net, x: net.block(x), block=_encoder())

    def run(net: Any, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = net.inner(input_ids)
        return {"loss": flat_ce(logits[:, :-1], labels[:, 1:]), "logits": logits}

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return run(self, input_ids, labels)

    x = text()[0]
    return Named(), {"input_ids": x, "labels": x.clone()}, {}


@sick("UG802")
def forecast_of_the_next_value_from_both_sides() -> Arguments:
    whole = torch.randn(24, 13, 4).cumsum(1) / 3
    model = Net(lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.GRU(4, 16, batch_first=True, bidirectional=True),
                head=nn.Linear(32, 4))  # fmt: skip
    return model, (whole[:, :-1].contiguous(), whole[:, 1:].contiguous()), {}


@sick("UG802")
def time_first_transformer_without_a_mask() -> Arguments:
    whole = torch.randint(0, WORDS, (13, 16))
    model = Net(lambda net, x: net.head(net.block(net.embed(x) + net.place)), embed=nn.Embedding(WORDS, WIDTH),
                place=nn.Parameter(0.1 * torch.randn(12, 1, WIDTH)), block=_encoder(False),
                head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (whole[:-1].contiguous(), whole[1:].contiguous()), {"loss": flat_ce}


@sick("UG802")
def decoder_that_sees_its_own_future() -> Arguments:
    source, (given, t) = torch.randint(0, WORDS, (16, 9)), text()
    model = Net(lambda net, s, x: net.head(net.decode(net.embed(x) + net.place, net.embed(s))),
                embed=nn.Embedding(WORDS, WIDTH), place=nn.Parameter(0.1 * torch.randn(12, WIDTH)),
                decode=nn.TransformerDecoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=True),
                head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (source, given, t), {"loss": flat_ce}


@sick("UG802")
def norm_over_the_time() -> Arguments:
    return _spoken(
        Language(
            lambda net, x: net.norm(net.rnn(x)[0].transpose(1, 2)).transpose(1, 2),
            rnn=nn.LSTM(WIDTH, WIDTH, batch_first=True),
            norm=nn.InstanceNorm1d(WIDTH, affine=True),
        )
    )


@healthy("UG802")
def transformer_with_a_mask() -> Arguments:
    return _spoken(Language(lambda net, x: net.block(x, src_mask=_mask(x.shape[1])), block=_encoder()))


@healthy("UG802")
def lstm_of_one_direction() -> Arguments:
    return _spoken(Language(lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(WIDTH, WIDTH, batch_first=True)))


@healthy("UG802")
def convolution_of_the_past() -> Arguments:
    return _spoken(
        Language(
            lambda net, x: torch.relu(net.conv(F.pad(x.transpose(1, 2), (2, 0)))).transpose(1, 2),
            conv=nn.Conv1d(WIDTH, WIDTH, 3),
        )
    )


@healthy("UG802")
def hidden_words_to_be_guessed() -> Arguments:
    x = text()[0]
    hidden = torch.rand(x.shape) < 0.2
    given = torch.where(hidden, 0, x)
    t = torch.where(hidden, x, -100)
    return Language(lambda net, x: net.block(x), block=_encoder()), (given, t), {"loss": flat_ce}


@healthy("UG802")
def a_tag_for_each_word() -> Arguments:
    x = text()[0]
    model = Language(
        lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(WIDTH, 8, batch_first=True, bidirectional=True)
    )
    return model, (x, (x * 7 + 3) % WORDS), {"loss": flat_ce}


@healthy("UG802")
def encoder_of_both_sides_and_a_masked_decoder() -> Arguments:
    source, (given, t) = torch.randint(0, WORDS, (16, 9)), text()
    model = Net(lambda net, s, x: net.head(net.decode(net.embed(x) + net.place, net.encode(net.embed(s)),
                                                      tgt_mask=_mask(12))),
                embed=nn.Embedding(WORDS, WIDTH), place=nn.Parameter(0.1 * torch.randn(12, WIDTH)),
                encode=_encoder(), decode=nn.TransformerDecoderLayer(WIDTH, 2, 32, dropout=0.0, batch_first=True),
                head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (source, given, t), {"loss": flat_ce}


@healthy("UG802")
def labels_are_the_tokens_and_the_model_is_masked() -> Arguments:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Language(lambda net, x: net.block(x, src_mask=_mask(x.shape[1])), block=_encoder())

        def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.inner(input_ids)
            return {"loss": flat_ce(logits[:, :-1], labels[:, 1:]), "logits": logits}

    x = text()[0]
    return Named(), {"input_ids": x, "labels": x.clone()}, {}


@healthy("UG802")
def forecast_of_the_next_value_from_the_past() -> Arguments:
    whole = torch.randn(24, 13, 4).cumsum(1) / 3
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.GRU(4, 16, batch_first=True), head=nn.Linear(16, 4)
    )
    return model, (whole[:, :-1].contiguous(), whole[:, 1:].contiguous()), {}


@healthy("UG802")
def time_first_lstm() -> Arguments:
    whole = torch.randint(0, WORDS, (13, 16))
    model = Net(lambda net, x: net.head(net.rnn(net.embed(x))[0]), embed=nn.Embedding(WORDS, WIDTH),
                rnn=nn.LSTM(WIDTH, WIDTH), head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (whole[:-1].contiguous(), whole[1:].contiguous()), {"loss": flat_ce}


@healthy("UG802")
def repeating_what_was_read() -> Arguments:
    x = text()[0]
    return Language(lambda net, x: net.block(x), block=_encoder()), (x, x.clone()), {"loss": flat_ce}


@healthy("UG802")
def mean_of_the_tokens_so_far() -> Arguments:
    def body(net: Any, x: Tensor) -> Tensor:
        so_far = x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return torch.relu(net.fc(so_far + x))

    return _spoken(Language(body, fc=nn.Linear(WIDTH, WIDTH)))


# ---- UG603 -----------------------------------------------------------------------------------------------------


def _read(layer: nn.Module, read: Any, width: int = 16, out: int = 1) -> Net:
    """A recurrent layer or the like, what is read off its output, and a head."""

    def run(net: Any, x: Tensor) -> Tensor:
        h = net.layer(x)
        return net.head(read(h[0] if isinstance(h, tuple) else h))

    return Net(run, layer=layer, head=nn.Linear(width, out))


@sick("UG603")
def lstm_and_one_target_an_example() -> Arguments:
    x = sequences()
    return _read(nn.LSTM(6, 16), lambda h: h[:, -1]), (x, values(x)), {}


@sick("UG603")
def gru_and_the_mean_over_time() -> Arguments:
    x = sequences()
    return _read(nn.GRU(6, 16), lambda h: h.mean(1)), (x, values(x)), {}


@sick("UG603")
def plain_rnn_and_targets_with_two_more_axes() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]).unsqueeze(1), rnn=nn.RNN(6, 16), head=nn.Linear(16, 1)
    )
    return model, (x, values(x).unsqueeze(1)), {}


@sick("UG603")
def transformer_layer_with_time_first() -> Arguments:
    x = sequences(width=16)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)
    return _read(layer, lambda h: h.mean(1)), (x, values(x)), {}


@sick("UG603")
def attention_with_time_first() -> Arguments:
    x = sequences(width=16)
    model = Net(lambda net, x: net.head(torch.relu(x + net.attend(x, x, x)[0]).mean(1)),
                attend=nn.MultiheadAttention(16, 2), head=nn.Linear(16, 1))  # fmt: skip
    return model, (x, values(x)), {}


@sick("UG603")
def words_in_both_directions() -> Arguments:
    x = torch.randint(0, WORDS, (24, 9))
    model = Net(lambda net, x: net.head(net.rnn(net.embed(x))[0][:, -1]), embed=nn.Embedding(WORDS, WIDTH),
                rnn=nn.LSTM(WIDTH, 8, bidirectional=True), head=nn.Linear(16, 1))  # fmt: skip
    return (
        model,
        (x, (x.float().mean(1, keepdim=True) > 9.5).float()),
        {"loss": F.binary_cross_entropy_with_logits},
    )


@sick("UG603")
def states_reshaped_across_examples() -> Arguments:
    x = sequences()
    model = Net(lambda net, x: net.head(net.rnn(x.transpose(0, 1))[0].reshape(len(x), -1)), rnn=nn.LSTM(6, 16),
                head=nn.Linear(160, 1))  # fmt: skip
    return model, (x, values(x)), {}


@sick("UG603")
def as_many_steps_as_examples() -> Arguments:
    x = sequences(16, 16)
    return _read(nn.LSTM(6, 16), lambda h: h[:, -1]), (x, values(x)), {}


@sick("UG603")
def as_many_steps_as_examples_and_classes() -> Arguments:
    x = sequences(12, 12)
    return _read(nn.GRU(6, 16), lambda h: h[:, -1], out=4), (x, labels(x)), {}


@sick("UG603")
def features_divided_by_their_norm_over_the_batch() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(5 * F.normalize(net.a(x), dim=0)), a=nn.Linear(12, 32), b=nn.Linear(32, 4)
    )
    return model, (x, labels(x)), {}


@sick("UG603")
def softmax_over_the_batch() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.b(net.a(x) * torch.softmax(net.g(x), 0) * 32), a=nn.Linear(12, 32),
                g=nn.Linear(12, 32), b=nn.Linear(32, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG603")
def layernorm_of_the_transposed() -> Arguments:
    x = vectors(32)

    def run(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.b(torch.relu(F.layer_norm(h.t(), (len(h),)).t()))

    return Net(run, a=nn.Linear(12, 32), b=nn.Linear(32, 4)), (x, labels(x)), {}


@sick("UG603")
def standardized_by_hand_over_the_batch() -> Arguments:
    x = pictures()

    def run(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        h = (h - h.mean(0)) / (h.std(0) + 1e-5)
        return net.b(torch.relu(h).mean((2, 3)))

    return Net(run, a=nn.Conv2d(3, 16, 3), b=nn.Linear(16, 4)), (x, labels(x)), {}


@sick("UG603")
def language_model_over_the_examples() -> Arguments:
    x, t = text()
    model = Net(lambda net, x: net.head(net.rnn(net.embed(x))[0]), embed=nn.Embedding(WORDS, WIDTH),
                rnn=nn.LSTM(WIDTH, WIDTH), head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (x, t), {"loss": flat_ce}


@healthy("UG603")
def lstm_with_batch_first() -> Arguments:
    x = sequences()
    return _read(nn.LSTM(6, 16, batch_first=True), lambda h: h[:, -1]), (x, values(x)), {}


@healthy("UG603")
def time_first_data() -> Arguments:
    x = sequences(10, 24)
    return _read(nn.LSTM(6, 16), lambda h: h[-1]), (x, values(x.transpose(0, 1))), {}


@healthy("UG603")
def time_first_words_through_attention() -> Arguments:
    x = torch.randint(0, WORDS, (9, 24))
    model = Net(lambda net, x: net.head(net.block(net.embed(x)).mean(0)), embed=nn.Embedding(WORDS, WIDTH),
                block=nn.TransformerEncoderLayer(WIDTH, 2, 32, dropout=0.0), head=nn.Linear(WIDTH, 1))  # fmt: skip
    return model, (x, values(x.float().t() / 6 - 1.6)), {}


@healthy("UG603")
def transposed_on_the_way_in() -> Arguments:
    x = sequences()
    model = Net(
        lambda net, x: net.head(net.rnn(x.transpose(0, 1))[0][-1]), rnn=nn.GRU(6, 16), head=nn.Linear(16, 1)
    )
    return model, (x, values(x)), {}


@healthy("UG603")
def features_divided_by_their_norm() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.b(5 * F.normalize(net.a(x), dim=1)), a=nn.Linear(12, 32), b=nn.Linear(32, 4)
    )
    return model, (x, labels(x)), {}


@healthy("UG603")
def a_target_for_each_step_time_first() -> Arguments:
    x = sequences(10, 24)
    model = Net(lambda net, x: net.head(net.rnn(x)[0]), rnn=nn.LSTM(6, 16), head=nn.Linear(16, 1))
    return model, (x, x[..., :1].cumsum(0) / 3), {}


@healthy("UG603")
def as_many_steps_as_examples_time_first() -> Arguments:
    x = sequences(16, 16)
    return _read(nn.LSTM(6, 16), lambda h: h[-1]), (x, values(x.transpose(0, 1))), {}


@healthy("UG603")
def batchnorm_network() -> Arguments:
    x = vectors()
    model = nn.Sequential(nn.Linear(12, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    return model, (x, labels(x)), {}


@healthy("UG603")
def time_first_language_model() -> Arguments:
    whole = torch.randint(0, WORDS, (13, 16))
    model = Net(lambda net, x: net.head(net.rnn(net.embed(x))[0]), embed=nn.Embedding(WORDS, WIDTH),
                rnn=nn.GRU(WIDTH, WIDTH), head=nn.Linear(WIDTH, WORDS))  # fmt: skip
    return model, (whole[:-1].contiguous(), whole[1:].contiguous()), {"loss": flat_ce}


@healthy("UG603")
def similarities_in_the_loss() -> Arguments:
    x = vectors(32)

    def loss(o: Tensor, t: Tensor) -> Tensor:
        z = F.normalize(o, dim=1)
        return CE(z @ F.normalize(t, dim=1).t() / 0.5, torch.arange(len(z)))

    return chain(12, 32, 8), (x, x[:, :8] + 0.1 * torch.randn(32, 8)), {"loss": loss}


@healthy("UG603")
def two_sums_over_pixels_and_channels() -> Arguments:
    x = pictures()
    model = Net(lambda net, x: net.b(torch.relu(net.a(x)).flatten(2).softmax(2).amax(2) * 10), a=nn.Conv2d(3, 16, 3),
                b=nn.Linear(16, 4))  # fmt: skip
    return model, (x, labels(x)), {}
