"""Planted defects: optimizers that do not hold the model's parameters, or whose numbers do not fit them."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from networks import Recurrent, Transformer, cnn, images, mlp, series, tokens, vectors
from row import Case, given, sick
from torch import nn


def half(case: Case) -> Case:
    inputs, target = case.batch
    return replace(case, model=case.model.half(), batch=(inputs.half(), target))


def adam(rate: float = 1e-3, **more):
    return lambda model: torch.optim.Adam(model.parameters(), rate, **more)


def momentum(rate: float, decay: float):
    return lambda model: torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=decay)


def last_only(model: nn.Module) -> torch.optim.Optimizer:
    *_, weight, bias = model.parameters()
    return torch.optim.Adam([weight, bias], 1e-3)


def before_a_copy(case: Case) -> Case:
    optimizer = torch.optim.Adam(copy.deepcopy(case.model).parameters(), 1e-3)
    return replace(case, steps=6, optimizer=optimizer)


ROWS = (
    sick("mlp-adam-in-half-precision", "UG407", lambda: half(given(Case(mlp(), vectors()), adam(1e-4), 10))),
    sick("rnn-rmsprop-in-half-precision", "UG407", lambda: half(given(
        Case(Recurrent(), series()), lambda m: torch.optim.RMSprop(m.parameters(), 1e-4), 10
    ))),
    sick("cnn-adamw-in-half-precision-without-steps", "UG407", lambda: half(given(
        Case(cnn(), images()), lambda m: torch.optim.AdamW(m.half().parameters(), 1e-3), 0
    ))),
    sick("mlp-decay-of-a-half", "UG507", lambda: given(Case(mlp(), vectors()), momentum(0.1, 0.5), 40)),
    sick("cnn-decay-of-one", "UG507", lambda: given(Case(cnn(), images()), momentum(0.03, 1.0), 40)),
    sick("transformer-decay-of-a-hundred", "UG507", lambda: given(
        Case(Transformer(), tokens()), lambda m: torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=100.0), 40
    )),
    sick("mlp-optimizer-of-the-head", "UG701", lambda: given(Case(mlp(), vectors()), last_only)),
    sick("cnn-optimizer-of-the-head-without-steps", "UG701", lambda: given(Case(cnn(), images()), last_only, 0)),
    sick("rnn-optimizer-of-a-copy", "UG701", lambda: before_a_copy(Case(Recurrent(), series()))),
)  # fmt: skip
