"""Data: fourth collection, half F."""

from __future__ import annotations

import torch.nn.functional as F
from registry import report
from samples import adam, glyphs, houses, mlp, scored
from torch import nn


@report(
    "data", "UG202", "UG104 UG306 UG405 UG504", area="medical pictures", action=r"NaN|finite|missing|which examples",
    steps=60,
    source="github.com/deepmedic/deepmedic/issues/66",
    cause="two pictures of the set hold some NaN: the loss is NaN from the batch on in which the first of them comes",
)  # fmt: skip
def two_scans_hold_nan(cured: bool):
    x, labels = glyphs(96, 6, 10, seed=1)
    x[41, 0, 3:5, 4] = x[77, 0, 6, 6] = 0.0 if cured else float("nan")
    model = nn.Sequential(nn.Flatten(), *mlp(100, 48, 6))
    batches = list(zip(x.split(16), labels.split(16), strict=True))
    kwargs = {"loss": F.cross_entropy, "data": batches, "steps": 20, "optimizer": adam(2e-3)}
    clean = x.nan_to_num()
    return model, batches[0], kwargs, scored(lambda out: F.cross_entropy(out, labels), clean)


@report(
    "data", area="molecules", action=r"statistics|training set|normali", steps=200, boundary=True,
    no_rule="the test set is normalized with its own mean and deviation", says=r"test set|statistics of the training",
    source="github.com/deepchem/deepchem/issues/51; khundman/telemanom/issues/23",
    cause="training and test set are each normalized by themselves, though the test set covers another range",
)  # fmt: skip
def test_set_normalized_by_itself(cured: bool):
    x, y = houses(512, 6, seed=2)
    raw = 2 + 3 * x
    order = x[:, 0].argsort()
    train, test = order[:384], order[384:]
    mean, deviation = raw[train].mean(0), raw[train].std(0)
    own, spread = (mean, deviation) if cured else (raw[test].mean(0), raw[test].std(0))
    score = scored(lambda out: F.mse_loss(out, y[test]), (raw[test] - own) / spread)
    return mlp(6, 48, 1), ((raw[train] - mean) / deviation, y[train]), {"loss": F.mse_loss}, score
