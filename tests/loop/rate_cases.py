"""Trainings for what UG501, UG502 and UG507 say of a whole run: units that large steps killed, a loss that creeps, and
a decay in Adam's gradient that outweighs the loss. Written after the rules, by someone who had not written them; what
the first run said is in README.md."""

from __future__ import annotations

import torch
from loop_cases import (
    CE,
    MSE,
    adam,
    chain,
    conv_net,
    encoder,
    lstm_net,
    numbers,
    pictures,
    series,
    sgd,
    table,
    texts,
    train,
)
from torch import nn

from case_rows import Rows
from unitgain.rules import Diagnosis

_rows = Rows()
sick, healthy, ROWS = _rows.sick, _rows.healthy, _rows.rows


# ---- UG507: a decay that is added to the gradient, under optimizers that divide by its size ------------------------


@sick("UG507")
def adam_with_the_decay_of_adamw() -> Diagnosis:
    m = chain(12, 64, 4)
    return train(m, adam(m, 1e-3, weight_decay=0.1), table(), CE, 300)


@sick("UG507")
def rmsprop_with_a_decay_of_a_fifth() -> Diagnosis:
    m = chain(12, 48, 48, 1, act=nn.Tanh)
    return train(m, torch.optim.RMSprop(m.parameters(), 1e-3, weight_decay=0.2), numbers(), MSE, 300)


@sick("UG507")
def nadam_on_series_with_a_decay_of_a_tenth() -> Diagnosis:
    m = lstm_net()
    return train(m, torch.optim.NAdam(m.parameters(), 2e-3, weight_decay=0.1), series(), MSE, 300)


@sick("UG507")
def an_encoder_under_adam_with_a_tenth() -> Diagnosis:
    m = encoder()
    return train(m, adam(m, 1e-3, weight_decay=0.1), texts(), CE, 300)


@healthy("UG507")
def adam_with_a_hundredth_which_costs_little() -> Diagnosis:
    m = chain(12, 64, 4)
    return train(m, adam(m, 1e-3, weight_decay=0.01), table(), CE, 300)


@healthy("UG507")
def adamw_with_its_own_decay() -> Diagnosis:
    m = chain(12, 64, 4)
    return train(m, torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0.1), table(), CE, 300)


@healthy("UG507")
def rmsprop_with_a_decay_of_a_thousandth() -> Diagnosis:
    m = chain(12, 48, 48, 1, act=nn.Tanh)
    return train(m, torch.optim.RMSprop(m.parameters(), 1e-3, weight_decay=1e-3), numbers(), MSE, 300)


# ---- UG502: a loss that falls by the same little at every step -----------------------------------------------------


@sick("UG502")
def sgd_at_three_ten_thousandths() -> Diagnosis:
    m = chain(12, 64, 4)
    return train(m, sgd(m, 3e-4), table(), CE, 300, every=2)


@sick("UG502")
def a_regression_at_a_ten_thousandth() -> Diagnosis:
    m = chain(12, 48, 48, 1)
    return train(m, sgd(m, 1e-4), numbers(), MSE, 300, every=2)


@healthy("UG502")
def sgd_at_a_rate_that_learns() -> Diagnosis:
    m = chain(12, 64, 4)
    return train(m, sgd(m, 0.1), table(), CE, 300, every=2)


@healthy("UG502")
def nothing_to_be_learnt_at_a_good_rate() -> Diagnosis:
    m, (x, _) = chain(12, 48, 1), numbers()
    return train(m, adam(m, 5e-4), (x, torch.randn(len(x), 1)), MSE, 300, every=2)


# ---- UG501: units that steps of a size killed ----------------------------------------------------------------------


@sick("UG501")
def a_rate_that_kills_in_the_first_steps() -> Diagnosis:
    m = chain(12, 128, 128, 4)
    return train(m, sgd(m, 3.0), table(), CE, 200, every=2)


@sick("UG501")
def adam_at_a_third_kills_pictures() -> Diagnosis:
    m = conv_net()
    return train(m, adam(m, 0.3), pictures(), CE, 150, every=2)


@sick("UG501")
def momentum_kills_a_regression() -> Diagnosis:
    m = chain(12, 96, 96, 1)
    return train(m, sgd(m, 0.3, momentum=0.95), numbers(), MSE, 200, every=2)


@healthy("UG501")
def a_large_rate_that_kills_nothing() -> Diagnosis:
    m = chain(12, 128, 128, 4, act=nn.GELU)
    return train(m, sgd(m, 0.2), table(), CE, 200, every=2)


@healthy("UG501")
def momentum_at_a_rate_for_it() -> Diagnosis:
    m = chain(12, 96, 96, 1)
    return train(m, sgd(m, 0.01, momentum=0.9), numbers(), MSE, 200, every=2)
