"""UG121 latent-prior: what a variational model draws cannot be what its divergence asks for, or tells nothing.

Source: Kingma and Welling, Auto-encoding variational Bayes (2014), for the divergence; Lucas et al., Don't blame the
ELBO (2019), for when a linear model's code collapses. How the deviation is followed and the loss asked is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import View
from ._words import show

ABOUT = About(
    code="UG121",
    name="latent-prior",
    rank=151,
    seen=(
        "The code that a variational model draws cannot be narrower than its prior, is held to another deviation than "
        "one, or costs more than it can tell."
    ),
    matters=(
        "A code whose noise is as wide as the prior tells nothing of the input. Where loss and model take one output "
        "for different things (a variance, its logarithm, a deviation), new samples are drawn from another "
        "distribution than the one that was learnt. Where the error is averaged over the values and the divergence "
        "is summed, it is cheapest to ignore the code: the posterior collapses."
    ),
    source="Kingma and Welling, Auto-encoding variational Bayes, 2014; Lucas et al., Don't blame the ELBO!, 2019.",
    measured=(
        "What random normal numbers are multiplied with, and then added to, in one pass; the functions that make it of "
        "one of the outputs. The loss is called on codes of mean zero and many deviations: at which is it lowest? And "
        "how much do squared errors and squared means cost: their ratio is the variance of the Gaussian likelihood "
        "that this is the loss of; a direction of the data with less variance is not worth coding."
    ),
    action="Make loss and model take the same output for the logarithm of the variance, and sum both terms alike.",
    effect="Codes differ from one another by more than their noise, and samples from the prior look like data.",
    verify="Check again; the divergence per dimension should be above zero after some training.",
    silent=(
        "priors that are learnt, or given by an output",
        "a divergence with a small factor, or none",
        "likelihoods that are no squares: they are not asked whether the code is worth its cost",
        "losses that the model computes itself",
    ),
    exact=True,
)

ALL = Threshold(1.0, "times the largest variance of the targets: above, no direction of them is worth coding")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """deviation: the least that the model can draw with, or the one at which the divergence is lowest; variance: of the
    likelihood that the loss is that of; largest: of the targets, along the direction in which they vary most."""

    deviation: float | None = None
    variance: float | None = None
    largest: float | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    latent, site = view.facts.comparison.latent, view.facts.output.site
    if latent is None:
        raise CannotJudge(
            "no code that is drawn with a deviation of one of the outputs, or the loss could not be asked"
        )
    if latent.narrowest > 0:
        yield ABOUT.found(
            "error",
            site,
            f"the noise of the code cannot have a deviation below {show(latent.narrowest)}, whatever is learnt, and "
            "the prior's is one",
            evidence=Evidence(deviation=latent.narrowest),
            cause="A function that gives no negative values (softplus, ReLU) makes the logarithm of the variance, so "
            "that no code is narrower than the prior.",
            remedy="Drop that function and take the layer's output for the logarithm of the variance; or take what "
            "softplus gives for the deviation itself, without the exponential.",
        )
    elif latent.wanted > 0:
        yield ABOUT.found(
            "warning",
            site,
            f"the divergence in the loss is lowest where the model draws its code with a deviation of "
            f"{show(latent.wanted)}, and that of a standard normal prior is one",
            evidence=Evidence(deviation=latent.wanted),
            cause="The loss takes an output for another thing than the model: for the deviation or the variance where "
            "it is its logarithm, or the formula of the divergence lacks a factor.",
            remedy="Compute the divergence of what the model draws: with log_var, whose deviation is exp(log_var / 2), "
            "-0.5 * (1 + log_var - mean ** 2 - log_var.exp()).sum(1).mean().",
        )
    elif latent.variance > ALL * latent.largest:
        yield ABOUT.found(
            "warning",
            site,
            f"error and divergence are weighed as if the data had noise of variance {show(latent.variance)}, and along "
            f"no direction do the targets vary by more than {show(latent.largest)}: the loss is lowest where the code "
            "tells nothing",
            evidence=Evidence(variance=latent.variance, largest=latent.largest),
            cause="The squared error is averaged over all values, where the divergence is summed over the code: the "
            "divergence outweighs it, and the posterior collapses to the prior.",
            remedy="Sum the squared error over the values of an example, as the divergence is summed "
            "(((out - x) ** 2).flatten(1).sum(1).mean()), or multiply the divergence by a factor (beta) below "
            f"{show(latent.largest / latent.variance)}.",
        )


EXPLAINED_BY = ()

BAD = """
class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decode = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, 1)
        code = mean + (log_var / 2).exp() * torch.randn_like(mean)
        return self.decode(code), mean, log_var


def loss(outputs, x):
    out, mean, log_var = outputs
    divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
    return F.mse_loss(out, x) + divergence  # a mean over 32 values beside a sum over 4


x = torch.randn(256, 4) @ torch.randn(4, 32) / 4
report = ug.check(Coder(), (x, x), loss)
"""

GOOD = """
class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
        self.decode = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, 1)
        code = mean + (log_var / 2).exp() * torch.randn_like(mean)
        return self.decode(code), mean, log_var


def loss(outputs, x):
    out, mean, log_var = outputs
    divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1).mean()
    return 10 * ((out - x) ** 2).sum(1).mean() + divergence


x = torch.randn(256, 4) @ torch.randn(4, 32) / 4
report = ug.check(Coder(), (x, x), loss)
"""
