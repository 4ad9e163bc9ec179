"""Facts: what is known about a run beyond its sites, as typed objects. The schema is in docs/reference/record.md.

Whoever measures fills a `Facts` and stores it with `record.set_facts`; rules and reports read `record.facts`. What is
not known is None, or NaN where it is a measured number, and is left out of the file.

Reading is tolerant, since a record may be older or newer than this code, and is untrusted: a missing key, an unknown
one and a value of the wrong type all leave the field at "not known".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .comparison import BatchesFacts, ComparisonFacts, LabelFacts
from .function import CutFacts, FunctionFacts
from .loop import DiedFacts, LoopFacts, OptimizerFacts

UNKNOWN = math.nan
"""A number in facts that was not measured; comparisons with it are false."""


def _stored_as(key: str) -> Any:
    """A field, not known by default, whose key in the file differs from its name here."""
    return field(default=None, metadata={"key": key})


@dataclass(frozen=True)
class ParameterCount:
    """How many numbers a model has to learn, and how many it has at all."""

    trainable: int | None = None
    all: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """name: the model's class; modules: how many there are, the model itself included."""

    name: str | None = _stored_as("class")
    parameters: ParameterCount = ParameterCount()
    modules: int | None = None


@dataclass(frozen=True)
class LossFacts:
    """kind: "cross_entropy", "mse" or "other"; value: of the first pass. A loss that is NaN has the value NaN; None
    means that no loss was measured."""

    name: str | None = None
    kind: str | None = None
    value: float | None = None


@dataclass(frozen=True)
class TargetFacts:
    """kind: "class_index", "probabilities" or "float"; count: targets that are not ignored; mean and std (biased) of
    floating-point targets only. Where the loss broadcasts outputs and targets of different shapes: the targets' shape,
    that of the outputs (against), and the one over which it compares them (broadcast); otherwise none is kept."""

    kind: str | None = None
    classes: int | None = None
    count: int | None = None
    mean: float = UNKNOWN
    std: float = UNKNOWN
    shape: tuple[int, ...] | None = None
    broadcast: tuple[int, ...] | None = None
    against: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OutputFacts:
    """What the loss is given, reduced to numbers; values that are not finite count as 0 in all but `nonfinite`.

    site               of the tensor, among the activations
    row_sum_error      largest deviation from 1 of a row's sum over the classes; not known if a value is negative
    exp_row_sum_error  the same of exp(value): 0 for log-probabilities
    nonfinite          how many values are NaN or infinite
    spread             rms over examples of the deviation from the mean example, divided by rms
    zero_head          whether the weights of the module that gives the output are all zero
    even_loss          cross entropy of these logits if every class were the right one equally often
    """

    site: str | None = None
    shape: tuple[int, ...] | None = None
    class_axis: int | None = None
    row_sum_error: float = UNKNOWN
    exp_row_sum_error: float = UNKNOWN
    min: float = UNKNOWN
    max: float = UNKNOWN
    absmax: float = UNKNOWN
    rms: float = UNKNOWN
    nonfinite: int | None = None
    spread: float = UNKNOWN
    examples: int | None = None
    zero_head: bool | None = None
    even_loss: float = UNKNOWN


@dataclass(frozen=True)
class GradientFacts:
    """How many trainable parameters there are (of), and how many of them got a gradient that is not zero (reached).

    cuts       where gradients of parameters that got none were cut
    terms      where terms of the loss were cut that depend on the outputs and send no gradient
    left_out   parameters of whole modules that this pass does not train by design: a generator whose output the critic
               gets detached beside real examples, a target network beside the network that it copies
    """

    reached: int | None = None
    of: int | None = None
    cuts: tuple[CutFacts, ...] = ()
    terms: tuple[CutFacts, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipFacts:
    """max_norm: the largest norm of all gradients together that a rehearsal allowed; clipped: in how many of its steps
    the norm was above that. Neither is known where gradients were not clipped."""

    max_norm: float = UNKNOWN
    clipped: int | None = None


@dataclass(frozen=True)
class CouplingInMode:
    """Whether an example's output changes when the other examples of its batch are exchanged, in one mode.

    difference    largest difference of its outputs, divided by their largest magnitude
    site, module  the first module at whose output the example differs: its name and its type
    batch_norm    whether that module is a BatchNorm
    function      the first function between or in modules whose output differs for the example: "softmax"
    axis          over which it computes, where it was given one
    where         the line of the caller's code that calls it
    place         whether the others are the same, and only the example's place among them is another
    """

    differs: bool = False
    difference: float = UNKNOWN
    site: str | None = None
    module: str | None = None
    batch_norm: bool = False
    function: str | None = None
    axis: int | None = None
    where: str | None = None
    place: bool = False


@dataclass(frozen=True)
class CouplingFacts:
    """In evaluation and in training mode, with `rows` examples a pass; or the reason why it is not known.

    random   whether a pass in evaluation mode draws random numbers
    """

    rows: int | None = None
    eval: CouplingInMode = CouplingInMode()
    train: CouplingInMode = CouplingInMode()
    reason: str | None = None
    random: bool | None = None


@dataclass(frozen=True)
class BatchNormFacts:
    """Running statistics of one BatchNorm against those of the batch.

    momentum      weight of the newest batch; None: plain averages
    tracked       batches seen before this one
    mean_gap      |batch mean - running mean| in running standard deviations, median over channels
    log_variance  |ln(batch variance / running variance)|, median over channels
    at_start      whether the running means are all 0 and the variances all 1, as a new module's are
    """

    site: str = ""
    momentum: float | None = None
    tracked: int = 0
    mean_gap: float = UNKNOWN
    log_variance: float = UNKNOWN
    at_start: bool = False


@dataclass(frozen=True)
class UnitFacts:
    """Of one weight: how many units it has, how many of them are copies of another, and how many of those get the
    other's gradient too."""

    units: int = 0
    copies: int = 0
    same_gradient: int = field(default=0, metadata={"key": "learn_alike"})


@dataclass(frozen=True)
class Facts:
    """All that is known beyond the sites.

    mode             "check" (a look at a model) or "training" (a run that was watched)
    rehearsed_steps  optimizer steps that `check` took
    fresh_batches    whether these were made on different batches
    gradient_source  "loss", or "random" where a random direction stood in for the loss's gradient
    unblocked        parameters whose gradient is exactly zero now, and is not once zero-initialized ones have moved
    same_units       {weight: UnitFacts} of the layers that have copies; None: units were not compared
    comparison       what the loss compares; labels: of which classes batches are; batches: whether
                     a rehearsal's are all the same. All in comparison.py
    loop             what happens around the model in training; died: {layer: its units that died}. Both in loop.py
    function         what function the model computes, in function.py
    not_rewound      what the check found in the model and could not put back after running it; None if nothing

    >>> facts = Facts.from_json({"mode": "check", "loss": {"kind": "mse", "value": "inf"}, "from the future": 1})
    >>> facts.loss.value, facts.target.classes, facts.to_json()
    (inf, None, {'mode': 'check', 'loss': {'kind': 'mse', 'value': inf}})
    """

    mode: str | None = None
    model: ModelFacts = ModelFacts()
    rehearsed_steps: int | None = None
    fresh_batches: bool | None = None
    loss: LossFacts = LossFacts()
    target: TargetFacts = TargetFacts()
    output: OutputFacts = OutputFacts()
    gradients: GradientFacts = GradientFacts()
    gradient_source: str | None = None
    unblocked: tuple[str, ...] | None = None
    optimizer: OptimizerFacts = OptimizerFacts()  # noqa: RUF009 (it is frozen)
    clip: ClipFacts = ClipFacts()
    coupling: CouplingFacts = CouplingFacts()
    batch_norms: tuple[BatchNormFacts, ...] | None = None
    same_units: Mapping[str, UnitFacts] | None = None
    comparison: ComparisonFacts = ComparisonFacts()  # noqa: RUF009 (it is frozen)
    labels: LabelFacts = LabelFacts()  # noqa: RUF009
    batches: BatchesFacts = BatchesFacts()  # noqa: RUF009
    loop: LoopFacts = LoopFacts()  # noqa: RUF009
    died: Mapping[str, DiedFacts] | None = None
    function: FunctionFacts = FunctionFacts()  # noqa: RUF009
    not_rewound: tuple[str, ...] | None = None

    @classmethod
    def from_json(cls, body: Any) -> Facts:
        """The facts in a JSON value, whatever it holds."""
        try:
            return _read(cls, body)
        except _Unreadable:
            return cls()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, without what is not known."""
        return _plain(self)

    @property
    def classes(self) -> int:
        """Number of classes of a classifier trained by cross entropy; 0 where there is none, or it is not known."""
        return self.target.classes or 0 if self.loss.kind == "cross_entropy" else 0

    @property
    def loss_of_a_constant(self) -> float:
        """The loss of the best output that is the same for every example: ln C for cross entropy, the variance of the
        targets for mean squared error. NaN where it is not known."""
        if self.classes >= 2:
            return math.log(self.classes)
        return self.target.std**2 if self.loss.kind == "mse" else UNKNOWN


@dataclass(frozen=True)
class Break:
    """A function called between modules that made NaN or infinity out of finite tensors.

    module    path of the module in whose forward it was called
    position  execution order of the site before it
    """

    function: str = ""
    module: str = ""
    position: int = -1

    @classmethod
    def from_json(cls, body: Any) -> tuple[Break, ...]:
        """The list that a record keeps under the meta key "breaks"."""
        rows = body if isinstance(body, list) else []
        return tuple(_read(cls, row) for row in rows if isinstance(row, Mapping))


# ---- JSON ----------------------------------------------------------------------------------------------------

T = TypeVar("T")


class _Unreadable(Exception):
    """A value of another type than the field has."""


@cache
def _schema(kind: type) -> dict[str, tuple[str, Any]]:
    """{field: (its key in the file, its type)} of a dataclass."""
    hints = get_type_hints(kind)
    return {f.name: (f.metadata.get("key", f.name), hints[f.name]) for f in fields(kind)}


def _read(kind: Any, value: Any) -> Any:
    """A JSON value as a field of this type; raises _Unreadable if it is none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):  # X | None
        return None if value is None else _read(arguments[0], value)
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_object(kind, value)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_read(arguments[0], item) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {str(key): _read(arguments[1], item) for key, item in value.items()}
    if kind in (int, float):
        return _read_number(kind, value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    raise _Unreadable


def _read_object(kind: type[T], value: Any) -> T:
    if not isinstance(value, Mapping):
        raise _Unreadable
    known = {}
    for name, (key, hint) in _schema(kind).items():
        if key in value:
            try:
                known[name] = _read(hint, value[key])
            except _Unreadable:
                continue
    return kind(**known)


def _read_number(kind: type[int] | type[float], value: Any) -> float:
    """JSON has no NaN and no infinity: they are kept as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Unreadable
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        raise _Unreadable
    try:
        number = float(value)
    except OverflowError as error:  # a whole number of more than 300 digits
        raise _Unreadable from error
    if kind is float:
        return UNKNOWN if math.isnan(number) else number
    if not number.is_integer():
        raise _Unreadable
    return int(number)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        schema, given = _schema(type(value)), [(f, getattr(value, f.name)) for f in fields(value)]
        return {schema[f.name][0]: _plain(item) for f, item in given if not _is_unknown(item, f.default)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def is_blank(facts: Any) -> bool:
    """Whether nothing is known of what these facts are about: every field is as it is in `type(facts)()`."""
    return repr(facts) == repr(type(facts)())


def _is_unknown(value: Any, default: Any) -> bool:
    if value is None:
        return True
    if is_dataclass(value):
        return repr(value) == repr(default)  # with NaN, from Python 3.13 on equal dataclasses are not ==
    return isinstance(value, float) and math.isnan(value) and isinstance(default, float)
