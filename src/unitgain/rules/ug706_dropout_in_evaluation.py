"""UG706 dropout-in-evaluation: evaluation mode does not turn a dropout off.

Source: PyTorch's documentation of torch.nn.functional.dropout, whose training=True is the default, and of
scaled_dot_product_attention, whose dropout_p is applied in either mode; Gal and Ghahramani (2016) for dropout that is
meant to stay on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..record import DrawFacts
from ._rule import About, BaseEvidence, CannotJudge, Found
from ._view import View
from ._words import plural, show

ABOUT = About(
    code="UG706",
    name="dropout-in-evaluation",
    rank=556,
    seen="A dropout is drawn in evaluation mode too.",
    matters="Every prediction is another one, and each is worse than that of the whole network.",
    source=(
        "PyTorch documentation of torch.nn.functional.dropout and scaled_dot_product_attention; Srivastava et al., "
        "Dropout, 2014, section 4."
    ),
    measured=(
        "Two examples go through the model in evaluation mode if that draws random numbers, and every call of a "
        "dropout function of torch is looked at: the module that makes it, and that module's mode."
    ),
    action="Give F.dropout training=self.training, or use nn.Dropout made in __init__.",
    effect="The same output for the same input in evaluation mode.",
    verify="Call model.eval() and the model twice on one batch: the outputs are equal.",
    silent=(
        "dropout modules of a Bayesian network, left in training mode or with a forward of their own",
        "calls in which training= is written: for information",
        "other random numbers: samples of a posterior, noise, Gumbel choices",
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """calls: how many dropouts; function, probability, where: of the first; made: whether a module that was made in
    forward calls it."""

    calls: int
    function: str
    probability: float
    where: str | None
    made: bool


def judge(view: View) -> Iterator[Found[Evidence]]:
    draws = view.facts.function.draws
    if draws is None:
        if view.facts.coupling.random is not False:
            raise CannotJudge("whether evaluation mode drops anything: the model was not run in it")
        return
    unmeant = [draw for draw in draws if not draw.meant]
    for severity, found in (("warning", unmeant), ("info", draws)):
        if found:
            yield _found(severity, found[0], len(found))
            return


def _found(severity: str, draw: DrawFacts, calls: int) -> Found[Evidence]:
    where = f" ({draw.where})" if draw.where else f" in {draw.site or draw.module}"
    more = f" and {plural(calls - 1, 'more call')}" if calls > 1 else ""
    name = "F." + draw.function if "attention" not in draw.function else draw.function
    if draw.made:
        cause = "A module that is made in forward is in training mode, and model.eval() does not know it."
        remedy = f"Make the dropout of {draw.where or 'forward'} once, in __init__, as self.dropout = nn.Dropout(p)."
    elif draw.function == "scaled_dot_product_attention":
        cause = "scaled_dot_product_attention applies dropout_p in either mode."
        remedy = f"Give {name}{where} dropout_p=self.dropout if self.training else 0.0."
    else:
        cause = f"{name} drops unless it is told training=False, whatever mode the model is in."
        remedy = f"Give {name}{where} training=self.training."
    if draw.meant:
        cause = "training= is written in the call; a network that is to be sampled does so on purpose."
    return ABOUT.found(
        severity,
        draw.site or None,
        f"in evaluation mode {name}{where} drops with probability {show(draw.probability)}{more}",
        evidence=Evidence(calls, draw.function, draw.probability, draw.where, draw.made),
        cause=cause,
        remedy=remedy,
    )


EXPLAINED_BY = ()

BAD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(F.dropout(F.relu(self.first(x)), 0.5))


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(20, 64), nn.Linear(64, 10)

    def forward(self, x):
        return self.last(F.dropout(F.relu(self.first(x)), 0.5, training=self.training))


report = ug.check(Net(), (torch.randn(256, 20), torch.randint(10, (256,))))
"""
