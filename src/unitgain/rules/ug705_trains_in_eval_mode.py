"""UG705 trains-in-eval-mode: after a validation, or from the start, the model is in eval mode, and is trained.

Source: the documentation of torch.nn.Module.eval. When it counts is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import ModeFacts
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import MOST_KEPT, listed

ABOUT = About(
    code="UG705",
    name="trains-in-eval-mode",
    rank=380,
    seen=(
        "The optimizer makes steps with the whole model in eval mode, after it had been in train mode, or from the "
        "start, where its BatchNorm has never seen a batch."
    ),
    matters=(
        "model.eval() for a validation lasts until model.train() is called. Until then dropout is off and BatchNorm "
        "uses, and does not update, its running statistics: the network is trained as another one than before, "
        "overfits, and its statistics no longer fit its weights. A new BatchNorm does not normalize at all in eval "
        "mode: its running mean is 0, its variance 1."
    ),
    source="PyTorch, documentation of torch.nn.Module.eval and train.",
    measured=(
        "The mode of the model and of all its modules at the forward passes of sampled steps. Only models with dropout "
        "or running statistics are judged."
    ),
    action="Call model.train() after each validation, or at the beginning of each training step.",
    effect="Dropout works again, and running statistics follow the weights.",
    verify="Train again with a Probe.",
    needs="run",
    silent=(
        "a BatchNorm, or another part, that is kept in eval mode while the rest is in train mode",
        "a model that is in eval mode from the first step on, where its BatchNorm holds statistics of data or it has "
        "only dropout",
        "passes in eval mode that no optimizer step follows",
    ),
)

STEPS = Threshold(3, "sampled steps in eval mode: fewer may be meant")
SHARE = Threshold(0.1, "of the sampled steps: after a validation that is forgotten it is most of them")


@dataclass(frozen=True)
class AfterAValidation(BaseEvidence):
    """eval: sampled steps in eval mode; train: those in train mode; since: the first of the last series of the former,
    where the run ends in it; modules: whose output depends on the mode, at most 50."""

    eval: int
    train: int
    modules: tuple[str, ...]
    since: int | None = None


@dataclass(frozen=True)
class FromTheStart(BaseEvidence):
    """eval: sampled steps, all in eval mode; untouched: norms that have never seen a batch, at most 50."""

    eval: int
    untouched: tuple[str, ...]


Evidence = AfterAValidation | FromTheStart


def judge(view: View) -> Iterator[Found[Evidence]]:
    loop = view.facts.loop
    mode = loop.mode
    if loop.steps is None or not view.training:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    if mode.untouched and not mode.train and mode.before >= STEPS:
        yield _from_the_start(mode)
    if not mode.modules or mode.eval < STEPS or mode.eval < SHARE * (mode.eval + mode.train):
        return
    since = "" if mode.since is None else f"; from step {mode.since} on, all were"
    yield ABOUT.found(
        "warning",
        mode.modules[0],
        f"{mode.eval} of {mode.eval + mode.train} sampled steps were made with the whole model in eval mode{since} "
        f"({listed(mode.modules)} {'works' if len(mode.modules) == 1 else 'work'} otherwise there)",
        evidence=AfterAValidation(mode.eval, mode.train, mode.modules[:MOST_KEPT], mode.since),
        cause="model.eval() was called, for a validation most likely, and model.train() not after it.",
    )


def _from_the_start(mode: ModeFacts) -> Found[Evidence]:
    one = len(mode.untouched) == 1
    return ABOUT.found(
        "warning",
        mode.untouched[0],
        f"all {mode.before} sampled steps were made with the whole model in eval mode, and "
        f"{listed(mode.untouched)} "
        f"{'has' if one else 'have'} never seen a batch in train mode: the running mean is 0 and the variance 1, "
        "so that nothing is normalized",
        evidence=FromTheStart(mode.before, mode.untouched[:MOST_KEPT]),
        cause="model.eval() was called before training, or model.train(False).",
        remedy="Call model.train() before training, and after each validation.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
model.train()
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(80):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                validation = F.mse_loss(model(x), y)
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(80):
        model.train()
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                validation = F.mse_loss(model(x), y)
report = ug.diagnose(probe.record)
"""
