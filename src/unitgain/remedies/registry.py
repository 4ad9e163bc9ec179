"""The remedies that `fix` tries by itself, under the names by which rules call them.

A remedy says which findings it is for (cures); a rule says which remedies it has, the one with the best expected effect
first (ABOUT.remedies in its file). A test compares the two. To add one: write the function, register it here, and name
it in the rules that it cures.

Rescaling comes before drawing anew in the rules' lists, since it keeps what the weights' directions may hold. Whatever
is tried is measured afterwards, so that a list may be optimistic: what does not help is undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._base import InputError
from ..graph import trace
from ..rules import Finding
from .centering import center_units_
from .head import scale_head_
from .init import init_
from .lsuv import lsuv_
from .membership import hold_parameters_
from .outputs import drop_last_function_, log_softmax_last_, scale_outputs_, sigmoid_for_softmax_
from .report import RemedyReport
from .residual import scale_residual_branches_, zero_residual_ends_
from .structure import break_symmetry_, recalibrate_, remove_redundant_bias_, standardize_weights_
from .subject import State, Subject

Work = Callable[[Subject, Finding], RemedyReport]


@dataclass(frozen=True)
class Applied:
    """What became of applying a remedy.

    changes   one line for each tensor that was changed; empty if it did not apply, and then nothing was changed
    problems  what could not be done, one line each: beside the changes, or the reason why there are none
    before    the state before, for the way back
    """

    changes: tuple[str, ...]
    problems: tuple[str, ...]
    before: State

    @property
    def reason(self) -> str:
        """Why it did not apply."""
        return "; ".join(self.problems) or "it found nothing to change"

    def undo(self) -> None:
        """Puts model and batch back, bit for bit."""
        self.before.restore()


@dataclass(frozen=True)
class Remedy:
    """One way to repair a finding.

    name        by which rules call it: "scale-head"
    title       what it does, in a few words
    cures       codes of the findings that it is for
    work        applies it in place and says what it did; raises InputError where it does not apply
    redraws     whether it draws weights anew or rescales many: nothing for a model that has been trained
    when_asked  whether it is only applied for findings that were asked for by code
    other_loss  whether the loss means something else afterwards, so that it cannot be compared with the one before
    refutes     whether the finding is refuted where a training with it goes no better; else it is one of several ways,
                and check(prove=True) does not try it
    """

    name: str
    title: str
    cures: tuple[str, ...]
    work: Work
    redraws: bool = False
    when_asked: bool = False
    other_loss: bool = False
    refutes: bool = True

    def apply(self, subject: Subject, finding: Finding) -> Applied:
        """Applies it to the model, or to the batch. Where it does not apply, all is as it was."""
        before = subject.state()
        try:
            done = self.work(subject, finding)
        except InputError as error:
            before.restore()
            return Applied((), (str(error),), before)
        except BaseException:
            before.restore()
            raise
        if not done.changes:
            before.restore()
        changes = (f"{c.name}: rms {c.before:.3g} -> {c.after:.3g}, {c.reason}" for c in done.changes)
        said = done.problems if done.changes else [*done.problems, *done.notes]
        return Applied(tuple(changes), tuple(said), before)


REMEDIES: dict[str, Remedy] = {}


def register(
    name: str,
    title: str,
    *,
    cures: tuple[str, ...],
    redraws: bool = False,
    when_asked: bool = False,
    other_loss: bool = False,
    refutes: bool = True,
) -> Callable[[Work], Work]:
    """Registers the decorated function (subject, finding) -> RemedyReport as a remedy."""

    def registered(work: Work) -> Work:
        assert name not in REMEDIES, f"remedy {name} is registered twice"
        REMEDIES[name] = Remedy(name, title, cures, work, redraws, when_asked, other_loss, refutes)
        return work

    return registered


# ---- weights -------------------------------------------------------------------------------------------------

SCALE = ("UG301", "UG302", "UG307", "UG401", "UG402")  # the scale over depth


@register("scale-head", "scale the last layer down", cures=("UG101",), redraws=True)
def _scale_head(subject: Subject, finding: Finding) -> RemedyReport:
    return scale_head_(subject.model, subject.batch)


@register(
    "center-units",
    "set the biases so that the inputs of units are centered (center_units_)",
    cures=("UG303", "UG304"),
    redraws=True,
)
def _center_units(subject: Subject, finding: Finding) -> RemedyReport:
    return center_units_(subject.model, subject.batch)


@register(
    "lsuv",
    "scale every layer to std 1 on this batch (lsuv_)",
    cures=(*SCALE, "UG303", "UG304", "UG305", "UG404", "UG605", "UG607"),
    redraws=True,
)
def _lsuv(subject: Subject, finding: Finding) -> RemedyReport:
    return _then_scale_head(subject, _scaled(subject))


@register(
    "init",
    "draw the weights anew with the right gains (init_)",
    cures=(*SCALE, "UG303", "UG304", "UG305", "UG404", "UG605", "UG606"),
    redraws=True,
)
def _init(subject: Subject, finding: Finding) -> RemedyReport:
    return _then_scale_head(subject, _drawn(subject))


@register(
    "init-lsuv",
    "draw the weights anew, then scale them on this batch (init_, lsuv_)",
    cures=(*SCALE, "UG303", "UG304", "UG605", "UG607"),
    redraws=True,
)
def _init_lsuv(subject: Subject, finding: Finding) -> RemedyReport:
    drawn = _drawn(subject)
    return _then_scale_head(subject, drawn, _scaled(subject))


@register(
    "scale-branches",
    "scale the residual branches by 1/sqrt(their number)",
    cures=(*SCALE, "UG607"),
    redraws=True,
)
def _scale_branches(subject: Subject, finding: Finding) -> RemedyReport:
    return scale_residual_branches_(subject.model, subject.batch)


@register(
    "init-scale-branches",
    "draw the weights anew and scale the residual branches",
    cures=(*SCALE, "UG607"),
    redraws=True,
)
def _init_scale_branches(subject: Subject, finding: Finding) -> RemedyReport:
    drawn = _drawn(subject)
    return _then_scale_head(subject, drawn, scale_residual_branches_(subject.model, subject.batch))


@register("zero-branch-ends", "start the residual branches at zero", cures=(*SCALE, "UG607"), redraws=True)
def _zero_branch_ends(subject: Subject, finding: Finding) -> RemedyReport:
    return zero_residual_ends_(subject.model, subject.batch)


@register("break-symmetry", "draw the units anew that are copies", cures=("UG606",), redraws=True)
def _break_symmetry(subject: Subject, finding: Finding) -> RemedyReport:
    return break_symmetry_(subject.model, subject.batch)


@register("standardize-weights", "standardize the weights (scaled_std_)", cures=("UG305",), redraws=True)
def _standardize_weights(subject: Subject, finding: Finding) -> RemedyReport:
    return standardize_weights_(subject.model, subject.batch)


def _drawn(subject: Subject) -> RemedyReport:
    return init_(subject.model, batch=subject.batch)


def _scaled(subject: Subject) -> RemedyReport:
    """LSUV; in a residual network without norms, branches end so much smaller that their sum has the scale of one.

    The projections inside attention, which LSUV does not reach, are drawn anew: too large ones leave an output of the
    right scale and gradients that explode in the softmax.
    """
    graph = trace(subject.model, subject.batch)
    inside = sorted({w.node.path for w in graph.weights() if w.node.role == "attention"})
    drawn = init_(subject.model, batch=subject.batch, only=inside) if inside else RemedyReport("")
    without_norm = [b for b in graph.branches if not any(graph[name].role == "norm" for name in b.nodes)]
    std = len(without_norm) ** -0.5 if without_norm else None
    return _joined(drawn, lsuv_(subject.model, subject.batch, branch_std=std))


def _then_scale_head(subject: Subject, *done: RemedyReport) -> RemedyReport:
    """A classifier whose last layer was given std 1 too would be confident, and wrong, at its first guess."""
    reports = list(done)
    if subject.classifies:
        reports.append(scale_head_(subject.model, subject.batch))
    return _joined(*reports)


def _joined(*reports: RemedyReport) -> RemedyReport:
    return RemedyReport(
        reports[0].title,
        [change for report in reports for change in report.changes],
        problems=[problem for report in reports for problem in report.problems],
    )


# ---- last functions ------------------------------------------------------------------------------------------


@register(
    "drop-last-function",
    "return what goes into the last function (drop_last_function_)",
    cures=("UG103", "UG105", "UG108", "UG115"),
)
def _drop_last_function(subject: Subject, finding: Finding) -> RemedyReport:
    if finding.evidence.get("behind"):
        raise InputError(
            f"drop-last-function: {finding.evidence['function']} stands before the last function; drop it by hand"
        )
    return drop_last_function_(subject.model, subject.batch)


@register("sigmoid-for-softmax", "take a sigmoid in place of the last softmax", cures=("UG112",))
def _sigmoid_for_softmax(subject: Subject, finding: Finding) -> RemedyReport:
    return sigmoid_for_softmax_(subject.model, subject.batch)


@register(
    "log-softmax", "return log-probabilities (log_softmax_last_)", cures=("UG106", "UG111"), other_loss=True
)
def _log_softmax(subject: Subject, finding: Finding) -> RemedyReport:
    given = finding.evidence.get("given")  # to a call of kl_div
    if finding.evidence.get("takes") != "log_probabilities" and given not in ("probabilities", "scores"):
        raise InputError(
            "log-softmax: the loss or its targets are at fault here, and no change of the model helps"
        )
    return log_softmax_last_(subject.model, subject.batch)


@register(
    "scale-outputs", "scale the outputs to the targets (scale_outputs_)", cures=("UG109",), refutes=False
)
def _scale_outputs(subject: Subject, finding: Finding) -> RemedyReport:
    mean, std = (float(finding.evidence[key]) for key in ("mean", "std"))
    return scale_outputs_(subject.model, mean, std if std > 0 else float(finding.evidence["rms"]))


@register(
    "hold-parameters", "take the missing parameters into the optimizer (hold_parameters_)", cures=("UG701",)
)
def _hold_parameters(subject: Subject, finding: Finding) -> RemedyReport:
    if not subject.optimizers:
        raise InputError(
            "hold-parameters: the optimizer is made by a function; make it from all parameters there"
        )
    return hold_parameters_(subject.model, subject.optimizers)


# ---- input, structure, statistics ----------------------------------------------------------------------------


@register("normalize-input", "normalize the input", cures=("UG201",))
def _normalize_input(subject: Subject, finding: Finding) -> RemedyReport:
    return RemedyReport("normalize the input", [subject.normalize_input(finding.site)])


@register("remove-bias", "remove the bias", cures=("UG601",), when_asked=True)
def _remove_bias(subject: Subject, finding: Finding) -> RemedyReport:
    return remove_redundant_bias_(subject.model, subject.batch)


@register(
    "recalibrate",
    "recalibrate the running statistics on this batch",
    cures=("UG604", "UG703"),
    when_asked=True,
)
def _recalibrate(subject: Subject, finding: Finding) -> RemedyReport:
    return recalibrate_(subject.model, [subject.batch])
