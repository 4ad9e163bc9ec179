"""Training and evaluation mode: third collection, half D."""

from __future__ import annotations

import torch.nn.functional as F
from registry import report
from samples import clusters, scored
from torch import nn


@report(
    "mode", area="convnet", action=r"dropout|drop", steps=150, rate=3e-3, may="UG304 UG110 UG504",
    no_rule="the share of units to keep is given as the share to drop: nine of ten are dropped",
    says=r"dropout|drops",
    source="github.com/hunkim/DeepLearningZeroToAll/issues/204; titu1994/Inception-v4/issues/5; "
    "pudae/tensorflow-densenet/pull/22",
    cause="the dropout layer takes the rate that is dropped, and is given what was meant to be kept: 0.9",
)  # fmt: skip
def kept_share_given_as_dropped(cured: bool):
    x, labels = clusters(192, 16, 8, 0.7, seed=92)
    rate = 0.1 if cured else 0.9
    layers = [nn.Linear(16, 48), nn.ReLU(), nn.Dropout(rate), nn.Linear(48, 48), nn.ReLU(), nn.Dropout(rate)]
    model = nn.Sequential(*layers, nn.Linear(48, 8))
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)
