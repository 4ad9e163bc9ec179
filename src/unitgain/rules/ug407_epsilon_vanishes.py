"""UG407 epsilon-vanishes: the optimizer's eps is zero in the type of its state.

Source: Kingma and Ba, Adam (2015), for what eps is for; Micikevicius et al., Mixed precision training (2018), for what
half precision loses. That eps is rounded as the optimizer's own kernel rounds it is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found
from ._view import View
from ._words import show

ABOUT = About(
    code="UG407",
    name="epsilon-vanishes",
    rank=30,
    seen="The optimizer's eps rounds to zero in the type of its state or weights.",
    matters=(
        "Adam and optimizers like it divide by the root of the squared gradients plus eps. In half precision 1e-8 is "
        "zero, and the squares of small gradients are zero too, so that a weight with a small gradient is divided by "
        "zero and becomes NaN or infinite."
    ),
    source="Kingma and Ba, Adam, 2015; Micikevicius et al., Mixed precision training, 2018.",
    measured=(
        "eps of each parameter group, rounded to the type of the state that holds squared gradients; before the first "
        "step to the type of the weights. Fused kernels, which add eps in float32, are left out."
    ),
    action=(
        "Keep the weights and the optimizer's state in float32 and run the model under torch.autocast; if they are to "
        "stay in half precision, set eps=1e-4 (float16), or use bfloat16, in which 1e-8 is not zero."
    ),
    effect="No update is NaN or infinite.",
    verify="Check again with steps and this optimizer.",
    needs="steps",
    silent=("weights in half precision with float32 copies in the optimizer", "bfloat16", "SGD"),
    wrecks=True,
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """eps, the type in which it is zero, and how many of the model's parameters the group holds."""

    eps: float
    type: str
    parameters: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    optimizer = view.facts.optimizer
    if optimizer.groups is None:
        raise CannotJudge("no optimizer was given")
    without = [group for group in optimizer.groups if group.eps_zero_in is not None]
    if not without:
        return
    group, dtype = without[0], without[0].eps_zero_in or ""
    yield ABOUT.found(
        "error",
        None,
        f"{optimizer.name} divides by roots of squared gradients plus eps={show(group.eps)}, which is zero in "
        f"{dtype}",
        evidence=Evidence(group.eps, dtype, sum(len(g.parameters) for g in without)),
        cause=f"The weights or the optimizer's state are {dtype}, whose smallest number is larger than eps.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10)).half()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
x, y = torch.randn(256, 20).half(), torch.randint(10, (256,))
x[:, 0] = 0  # weights of this feature have no gradient: 0 / 0
report = ug.check(model, (x, y), steps=10, optimizer=optimizer)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
x, y = torch.randn(256, 20), torch.randint(10, (256,))
x[:, 0] = 0
report = ug.check(model, (x, y), steps=10, optimizer=optimizer)
"""
