"""Data: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, houses, mlp, scored, series
from torch import nn


@report(
    "data", "UG202", "UG104 UG306 UG405", area="spatial transcriptomics", action=r"NaN|finite|missing|which examples",
    steps=100,
    source="github.com/ratschlab/DeepSpot/issues/9; circleAhn/TESLA-tf/issues/1",
    cause="spots without a cell have no counts to divide by: their features are NaN, and so is the loss",
)  # fmt: skip
def empty_spots_are_nan(cured: bool):
    x, y = houses(128, 10, seed=1)
    counts = torch.ones(128, 1)
    counts[[7, 50, 90]] = 0
    x = x * counts / counts  # zero over zero
    if cured:
        x = x.nan_to_num()
    return mlp(10, 48, 1), (x, y), {"loss": F.mse_loss}


@report(
    "data", area="time series", action=r"reshape|transpos|view|order|permute", steps=150, rate=5e-3,
    no_rule="windows are reshaped to time first where they should be transposed: each holds parts of others",
    says=r"reshape|transpos|scrambl|neighbour",
    source="github.com/jessicayung/blog-code-snippets/issues/6",
    cause="windows (example, time) become (time, example) by a view: the values of one window go to several",
)  # fmt: skip
def windows_viewed_not_transposed(cured: bool):
    windows = series(96, 13, 1, seed=2)[..., 0]
    x, y = windows[:, :12], windows[:, 12:]
    time_first = x.T if cured else x.reshape(12, 96)
    x = time_first.T[..., None].contiguous()  # as an LSTM that takes time first sees it
    model = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(1, 16, batch_first=True),
        head=nn.Linear(16, 1),
    )
    return model, (x, y), {"loss": F.mse_loss}, scored(lambda out: F.mse_loss(out, y), x)
