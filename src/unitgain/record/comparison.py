"""Facts about what the loss compares: what outputs can be, what the loss takes them for, and the targets' values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

UNKNOWN = math.nan


@dataclass(frozen=True)
class ReshapeFacts:
    """A view or reshape of an activation that gives an axis another place without moving a value: its name, the line of
    the caller's code, both shapes, and the size of that axis."""

    function: str = ""
    where: str | None = None
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    size: int = 0


@dataclass(frozen=True)
class AxisFacts:
    """A call that normalizes an activation along an axis that is not meant: its name, the line of the caller's code,
    the
    shape, the axis (None: all of them), and of what kind it is.

    kind    "attention", "sum", "gate", "pool": weights that sum to one along another axis than the one they are summed
            over, by a matmul, of products, of a gate, and of heads that pool a sequence; "heads": scores of the heads
            of one step; "steps": features scaled along the steps; "batch": by one number for the whole
            batch; "classes": the classes of one-hot targets, taken along another axis
    right   of "classes": the axis along which they are
    """

    function: str = ""
    where: str | None = None
    kind: str = ""
    shape: tuple[int, ...] = ()
    axis: int | None = None
    right: int | None = None


@dataclass(frozen=True)
class ScoreFacts:
    """A softmax of attention scores: the function, the line of the caller's code, the weights' shape, the share of its
    rows whose weights are nearly one-hot (flat), the standard deviation of the scores, the width of queries and keys,
    and whether the scores were scaled."""

    function: str = ""
    where: str | None = None
    shape: tuple[int, ...] = ()
    flat: float = UNKNOWN
    std: float = UNKNOWN
    width: int = 0
    scaled: bool = False


@dataclass(frozen=True)
class TwiceFacts:
    """A softmax or sigmoid of what has passed one already, in the loss or in a loss function of torch: both names
    ("softmax", "cross_entropy"), what the second takes ("scores" or "logits", as in AskedFacts), and the line of the
    caller's code that calls it."""

    first: str = ""
    second: str = ""
    takes: str = ""
    where: str | None = None

    @property
    def is_softmax(self) -> bool:
        """Whether it is a softmax of a softmax."""
        return self.takes == "scores" and self.first in ("softmax", "softmin", "gumbel_softmax")


@dataclass(frozen=True)
class DoubledFacts:
    """A sum of an activation and itself: the line of the caller's code, and its shape."""

    where: str | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class CrossedFacts:
    """A product, sum or error of two tensors that broadcasting compares all with all, and that is then summed as a
    whole: the function, the line of the caller's code, and both shapes."""

    function: str = ""
    where: str | None = None
    one: tuple[int, ...] = ()
    two: tuple[int, ...] = ()


@dataclass(frozen=True)
class DiscardedFacts:
    """A call whose result is dropped on the spot: the function, the line of the caller's code, and the result's
    shape."""

    function: str = ""
    where: str | None = None
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class EncodingFacts:
    """An encoding of times or positions that tells nothing, or little, of them.

    kind      "slow": less than a turn at the highest of frequencies that grow by one factor; "same": one frequency in
              all channels; "constant": the same waves for arguments that differ; "turns":
              whole turns; "aliased": many turns at the lowest frequency; "index": one index for values that differ
    function  "sin", "cos", "table" of a buffer, or what made one index of all; where: the line of the caller's code, or
              the buffer's name; shape: of the argument, the table or the indices
    reach     the largest argument of "constant", the turns of "aliased"; values: different ones, of "index"
    """

    kind: str = ""
    function: str = ""
    where: str | None = None
    shape: tuple[int, ...] = ()
    reach: float = UNKNOWN
    values: int = 0


@dataclass(frozen=True)
class PlaceFacts:
    """Of one target: its place, the place of the output that the loss compares it with, and both shapes.

    where   the line of the caller's code that changes the outputs' shape in the loss, where one does
    """

    target: tuple[int, ...] = ()
    output: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    where: str | None = None


@dataclass(frozen=True)
class DropFacts:
    """A call of dropout in train mode: the function, the probability with which it drops, of how many values of an
    example (of a step of a sequence, a query of attention), the line of the caller's code, and the module's path."""

    function: str = ""
    probability: float = UNKNOWN
    values: int = 0
    where: str | None = None
    site: str = ""


@dataclass(frozen=True)
class FurtherFacts:
    """An output beside the one that is compared with the targets, which its last function keeps at zero or more: its
    place among the outputs, that function, and whether the loss is lower at values below zero."""

    place: int = 0
    function: str = ""
    beyond: bool | None = None


@dataclass(frozen=True)
class EntropyFacts:
    """A term of the loss that makes the entropy of a softmax of the outputs small: the line of the caller's code, and
    whether the loss is that of a policy, in which probabilities of single classes rise by some examples and fall by
    others."""

    where: str | None = None
    policy: bool = False


@dataclass(frozen=True)
class TermFacts:
    """A term of the loss with the wrong sign: the line of the caller's code that computes it, and whether it is added
    (and largest where outputs equal the targets) or subtracted (and smallest there)."""

    where: str | None = None
    added: bool = True


@dataclass(frozen=True)
class LatentFacts:
    """A code that the model draws of its outputs, mean + deviation * noise.

    narrowest  the least deviation that it can have, where that is about one or more
    wanted     the deviation at which the loss's divergence is lowest, where that is another one than one
    variance   of the Gaussian likelihood that the loss is that of: what its squared means cost, over what its squared
               errors do
    largest    variance of the targets along the direction in which they vary most
    """

    narrowest: float = UNKNOWN
    wanted: float = UNKNOWN
    variance: float = UNKNOWN
    largest: float = UNKNOWN


@dataclass(frozen=True)
class OverflowFacts:
    """A function that makes infinity out of finite values in float16: its name, the line of the caller's code, and the
    largest value that went in."""

    function: str = ""
    where: str | None = None
    largest: float = UNKNOWN


@dataclass(frozen=True)
class ReachFacts:
    """What the output's last function can give, whatever the weights and the inputs are.

    function          its name ("sigmoid"); None where nothing limits the output, or it could not be followed
    low, high         no value is smaller or larger; infinite where there is no limit
    log_probabilities whether the exponentials of the batch's outputs sum to one along some axis
    softmax_over_one  shapes that a softmax was taken of over an axis of one, which a layer with one unit made
    rectified, behind   the function without negative values ("relu") of what goes into the output's last softmax or
                sigmoid, and which of these it is
    reshapes    in the place of a transpose, in the model; axes: normalized along wrong ones; twice: squeezed a second
                time; doubled: added to themselves; None where it was not looked at
    reshaped    the line of the caller's code that first changes the outputs' shape in the loss
    drops       calls of dropout in train mode; further: outputs that a last function keeps at zero or more; scores:
                softmaxes of attention scores; overflow: the first function of the model that overflows in float16
    crossed     sums of all with all, where each was meant to meet its own; discarded: calls whose result is dropped;
                encodings: of times and positions, which tell nothing of them
    """

    function: str | None = None
    low: float = UNKNOWN
    high: float = UNKNOWN
    log_probabilities: bool | None = None
    softmax_over_one: tuple[tuple[int, ...], ...] | None = None
    rectified: str | None = None
    behind: str | None = None
    reshapes: tuple[ReshapeFacts, ...] | None = None
    axes: tuple[AxisFacts, ...] | None = None
    twice: tuple[TwiceFacts, ...] | None = None
    doubled: tuple[DoubledFacts, ...] | None = None
    reshaped: str | None = None
    drops: tuple[DropFacts, ...] | None = None
    further: tuple[FurtherFacts, ...] | None = None
    scores: tuple[ScoreFacts, ...] | None = None
    overflow: OverflowFacts | None = None
    crossed: tuple[CrossedFacts, ...] | None = None
    discarded: tuple[DiscardedFacts, ...] | None = None
    encodings: tuple[EncodingFacts, ...] | None = None


@dataclass(frozen=True)
class AskedFacts:
    """What the loss is, found by calling it on made-up outputs and targets.

    takes       what it takes the outputs for: "scores" (it applies a softmax), "logits" (a sigmoid), "probabilities"
                (their logarithm), "log_probabilities" (it is linear in them), "overlap" (Dice, Jaccard), "values" (it
                grows with the distance from the targets); None: none of these, or it could not be asked
    power       of the distance, for "values": 2 squared, 1 absolute error
    constant    whether it is the same for all outputs
    lowest      the lowest loss that it gave for right answers; `within`: for right answers that the output can give
    negative    the lowest loss that it gave for these targets, if below zero and not so with targets clipped to 0..1
    backwards   whether right answers to these targets cost more than none, and not so with targets clipped to 0..1
    row_sum     whether dividing each row of targets by its sum changes it
    of_zeros    the loss of these targets if every output is zero: that of an even guess, with the loss's own weights
    falls       whether it goes on falling, in proportion, as one of its outputs moves on against its slope
    extremes    whether, for targets that are distributions, answers ever more certain than these cost ever less
    over        the axis of the outputs along which it applies a softmax
    classes     where that is another one: the axis along which the targets say that the classes lie
    silent_label  of targets of two whole values: the one at whose outputs it does not look; of class numbers, the
                class at whose rows it does not look
    repels      whether it rises with the output of each example's own class, and with those of the others
    not_corners whether it takes boxes as corners, and they are given as a place and a size
    highest     whether right answers to these targets cost more than all others
    critic      whether it is linear in the outputs, and of two targets falls by the outputs of one and rises by the
                others'
    """

    takes: str | None = None
    power: float = UNKNOWN
    constant: bool | None = None
    lowest: float = UNKNOWN
    within: float = UNKNOWN
    negative: float = UNKNOWN
    backwards: bool | None = None
    row_sum: bool | None = None
    of_zeros: float = UNKNOWN
    extremes: bool | None = None
    falls: bool | None = None
    over: int | None = None
    classes: int | None = None
    silent_label: float = UNKNOWN
    highest: bool | None = None
    critic: bool | None = None
    repels: bool | None = None
    not_corners: bool | None = None


@dataclass(frozen=True)
class LossCallFacts:
    """One call of a loss function of torch, inside of the model or of the loss.

    function, where   its name, and the line of the caller's code
    given, target     of a divergence: what the values are, "probabilities", "log_probabilities" or "scores" (neither,
                      and some are above zero); None: not known
    log_target        whether it was told that its targets are logarithms
    rectified, behind as in ReachFacts: of what goes into its own softmax or sigmoid, or into the one before it
    labels, counted   class indices, and how many of them it does not ignore
    weights, counts   {class: its weight}, {class: its labels}, where it is given weights
    told              of targets that are distributions, or are smoothed by the function: by how many nats their entropy
                      is below that of an even one, mean of the rows
    instead           both values of the targets, of a loss of -1 and 1 that is given 0 and 1, or the other way round
    """

    function: str = ""
    where: str | None = None
    given: str | None = None
    target: str | None = None
    log_target: bool | None = None
    rectified: str | None = None
    behind: str | None = None
    labels: int | None = None
    counted: int | None = None
    weights: Mapping[str, float] | None = None
    counts: Mapping[str, int] | None = None
    told: float = UNKNOWN
    instead: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TargetValueFacts:
    """The targets' finite values, class indices included, without those that are ignored.

    whole       whether all are whole numbers
    different   how many different ones there are, at most 1000
    rarest, commonest    count of the rarest and the commonest value, divided by the average count
    rows        how many rows of classes there are (one target for each output); one_hot: share of those with a single
                1 and zeros; several: of those with zeros and more than one 1; blank: of zeros alone
    distributions    whether the targets are not negative and their rows sum to one
    beyond      share of the targets that the output cannot reach, and that the loss misses there
    is_input    whether the targets are one of the inputs
    one_for_all whether all outputs of an example have the same target, another one for other examples
    labels      number of examples, where each has one label; same_label: the label, where it is that of all;
                own_place: whether each label is the example's own place in the batch
    """

    count: int | None = None
    min: float = UNKNOWN
    max: float = UNKNOWN
    mean: float = UNKNOWN
    std: float = UNKNOWN
    rms: float = UNKNOWN
    whole: bool | None = None
    different: int | None = None
    rarest: float = UNKNOWN
    commonest: float = UNKNOWN
    rows: int | None = None
    one_hot: float = UNKNOWN
    several: float = UNKNOWN
    blank: float = UNKNOWN
    distributions: bool | None = None
    beyond: float = UNKNOWN
    is_input: bool | None = None
    one_for_all: bool | None = None
    labels: int | None = None
    same_label: int | None = None
    own_place: bool | None = None


@dataclass(frozen=True)
class FeatureFacts:
    """Of one input with floating-point values.

    features    along the axis of features; empty: which of them are NaN or infinite in all examples while others are
                not; constant: which have one value in all examples, and not zero
    same        whether all examples are the same; one_value: whether all values are
    vectors     whether an example is one row of features
    order       the shape in which neighbouring values are alike, where that is another one; smoother: how many times
    """

    site: str = ""
    examples: int = 0
    features: int = 0
    empty: tuple[int, ...] | None = None
    constant: tuple[int, ...] | None = None
    same: bool = False
    one_value: bool = False
    vectors: bool = False
    order: tuple[int, ...] | None = None
    smoother: float = UNKNOWN


@dataclass(frozen=True)
class LabelFacts:
    """Of the sampled batches of a classifier whose labels are known: how many (batches), how many of them hold labels
    of one class only (of_one_class), how many different classes those are (different), and the cross entropy of a guess
    by the classes' frequencies in all of them, in nats (guess). Of the first sampled steps (compared): in how many
    probabilities went into a cross entropy (again), None where in none."""

    batches: int | None = None
    of_one_class: int | None = None
    different: int | None = None
    guess: float = UNKNOWN
    compared: int | None = None
    again: int | None = None


@dataclass(frozen=True)
class BrokenFacts:
    """NaN or infinity in the first batch whose loss is not finite: which of the data's it is (batch; 0 is the one that
    is checked), the tensor (the name of an input, or "targets"), the share of its values, and the first examples that
    hold them."""

    batch: int
    tensor: str
    share: float
    examples: tuple[int, ...]


@dataclass(frozen=True)
class BatchesFacts:
    """Of a rehearsal on data of several batches: how many it was given (batches), whether all of them are the same
    (repeated), and the label of all examples of all batches, the one that is checked included, if it is one. Of any
    check: what is broken in a batch."""

    batches: int | None = None
    repeated: bool | None = None
    label: int | None = None
    broken: BrokenFacts | None = None


@dataclass(frozen=True)
class ComparisonFacts:
    """`check` only: what the outputs can be, what the loss is, the targets' values, the inputs' features, calls of
    torch's loss functions, one of them whose arguments changed places (swapped), a target that is compared with
    another place of the outputs than its own, a term that makes an entropy small, one of several terms that has the
    wrong sign, and a code that the model draws."""

    reach: ReachFacts = ReachFacts()
    asked: AskedFacts = AskedFacts()
    targets: TargetValueFacts = TargetValueFacts()
    inputs: tuple[FeatureFacts, ...] | None = None
    calls: tuple[LossCallFacts, ...] | None = None
    swapped: LossCallFacts | None = None
    place: PlaceFacts | None = None
    entropy: EntropyFacts | None = None
    term: TermFacts | None = None
    latent: LatentFacts | None = None
