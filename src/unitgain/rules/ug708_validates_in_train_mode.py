"""UG708 validates-in-train-mode: passes without gradients, now and then between steps, are made in train mode.

Source: the documentation of torch.no_grad, which does not change the mode, and of torch.nn.Module.eval. When it counts
is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import MOST_KEPT, as_layer, listed, plural

ABOUT = About(
    code="UG708",
    name="validates-in-train-mode",
    rank=381,
    seen="Passes without gradients, as a validation makes them now and then, are made with the model in train mode.",
    matters=(
        "torch.no_grad() and torch.inference_mode() leave the mode as it is. In train mode dropout is on, so that the "
        "validation's loss is worse than the model, and differs each time; BatchNorm uses the validation batch's own "
        "statistics, and its running ones move towards data that it was not to see."
    ),
    source="PyTorch documentation: torch.no_grad; torch.nn.Module.eval.",
    measured=(
        "The mode of the model, and of what depends on it, at forward passes without gradients before sampled steps "
        "of the optimizer, but the first. Passes that come before most steps are another part of the training; so may "
        "single ones be that come at random."
    ),
    action="Call model.eval() before each validation, and model.train() after it.",
    effect="The validation's loss is that of the model as it will be used, and the running statistics are the data's.",
    verify="Train again with a Probe.",
    needs="run",
    silent=(
        "models in which nothing depends on the mode, or whose dropout and norms are in eval mode themselves",
        "passes without gradients before more than a third of the steps: a generator's for its critic, targets of its "
        "own, rollouts",
        "BatchNorm's statistics taken anew, where passes in eval mode follow",
        "passes before the first step",
    ),
)

STEPS = Threshold(2, "sampled steps with such passes before them: one may be a look by hand")
SHARE = Threshold(0.34, "of the sampled steps: what comes before more of them belongs to the training")
PASSES = Threshold(2, "passes before a step: of fewer the steps have to lie equally far apart")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """steps: sampled steps with passes without gradients in train mode before them, of `judged`; passes: how many in
    all; modules: whose output depends on the mode, at most 50."""

    steps: int
    judged: int
    passes: int
    modules: Sequence[str]


def judge(view: View) -> Iterator[Found[Evidence]]:
    loop = view.facts.loop
    looks = loop.looks
    if loop.steps is None or not view.training:
        raise CannotJudge("no optimizer was watched in a loop of your own: give it to the Probe")
    if looks.steps < STEPS or looks.evaluated or looks.steps > SHARE * looks.judged:
        return
    if looks.passes < PASSES * looks.steps and not looks.regular:
        return
    one = len(looks.modules) == 1
    yield ABOUT.found(
        "warning",
        looks.modules[0],
        f"{plural(looks.passes, 'pass')} without gradients before {looks.steps} of {looks.judged} sampled "
        f"steps, and none in eval mode: {listed(map(as_layer, looks.modules))} {'works' if one else 'work'} in them as "
        "in training",
        evidence=Evidence(looks.steps, looks.judged, looks.passes, looks.modules[:MOST_KEPT]),
        cause="These passes are a validation most likely; torch.no_grad() does not switch to eval mode.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(120):
        some = torch.randint(256, len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                validation = F.mse_loss(model(x[:256]), y[:256])
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=5) as probe:
    for step in range(120):
        model.train()
        some = torch.randint(256, len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            model.eval()
            with torch.no_grad():
                validation = F.mse_loss(model(x[:256]), y[:256])
report = ug.diagnose(probe.record)
"""
