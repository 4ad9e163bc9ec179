"""Loss functions: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import adam, clusters, mlp, scored, seeded
from torch import Tensor


@report(
    "loss", area="reinforcement learning", action=r"entropy|sign|minus", steps=150, rate=5e-3,
    may="UG106 UG119 UG504",
    no_rule="the entropy of the policy is added to the loss: it is made small where it was to be kept large",
    says=r"entropy",
    source="github.com/nebuly-ai/optimate/pull/250; google-deepmind/open_spiel/issues/962; "
    "MrSyee/pg-is-all-you-need/issues/37",
    cause="the bonus for the policy's entropy has the wrong sign: the policy is driven to one action",
)  # fmt: skip
def entropy_bonus_with_wrong_sign(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        logp = out.log_softmax(1)
        entropy = -(logp.exp() * logp).sum(1).mean()
        gained = (logp.exp().gather(1, y[:, :1].long()) * y[:, 1:]).mean() * 4
        return -gained + (-0.3 if cured else 0.3) * entropy

    state, kind = clusters(256, 8, 4, 0.4, seed=51)
    g = seeded(52)
    action = torch.randint(0, 4, (256, 1), generator=g)
    good = (action[:, 0] == kind) | (action[:, 0] == (kind + 1) % 4)  # two actions are equally good
    y = torch.cat([action.float(), good[:, None] * 1.0 - 0.5], 1)
    fair = 0.5 * (F.one_hot(kind, 4) + F.one_hot((kind + 1) % 4, 4))
    score = scored(lambda out: (out.softmax(1) - fair).abs().sum(1).mean(), state)
    return mlp(8, 32, 4), (state, y), {"loss": loss}, score


@report(
    "loss", area="self-supervision", action=r"sign|minus|negative|1 -|opposite|away", steps=120, rate=3e-3,
    may="UG106 UG119 UG110 UG502",
    no_rule="cosine similarity is minimized where it was to be maximized: outputs turn away from their targets",
    says=r"sign|minus|opposite|away from",
    source="github.com/Kim-Minseon/RoCL/issues/3",
    cause="the loss is the cosine similarity itself, without its minus: features are driven apart",
)  # fmt: skip
def similarity_without_minus(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        alike = F.cosine_similarity(out, y, dim=1).mean()
        return 1 - alike if cured else alike

    g = seeded(56)
    x = torch.randn(192, 8, generator=g)
    y = torch.tanh(x @ torch.randn(8, 6, generator=g))
    return (
        mlp(8, 48, 6),
        (x, y),
        {"loss": loss},
        scored(lambda out: 1 - F.cosine_similarity(out, y).mean(), x),
    )


@report(
    "loss", "UG119", "UG106 UG504 UG501 UG108", area="orientation of pictures", steps=150, rate=5e-3,
    action=r"minimum|negative|period|wrap|modulo|range|without end",
    source="github.com/pidahbus/deep-image-orientation-angle-detection/issues/4",
    cause="min(|p - t|, 360 - |p - t|) is negative for predictions beyond a turn, and falls without end",
)  # fmt: skip
def angle_beyond_a_turn(cured: bool):
    def around(out: Tensor, y: Tensor) -> Tensor:
        apart = (out - y).abs()
        apart = apart % 2 if cured else apart
        return torch.minimum(apart, 2 - apart).mean()

    g = seeded(59)
    angle = torch.rand(192, 1, generator=g) * 2 - 1  # in halves of a turn
    x = torch.cat([(3.1416 * angle).cos(), (3.1416 * angle).sin()], 1) * 1.4 + 0.2 * torch.randn(
        192, 2, generator=g
    )

    def truly(out: Tensor) -> Tensor:
        apart = (out - angle).abs() % 2
        return torch.minimum(apart, 2 - apart).mean()

    kwargs = {"loss": around, "steps": 20, "optimizer": adam(5e-3)}
    return mlp(2, 48, 1), (x, angle), kwargs, scored(truly, x)
