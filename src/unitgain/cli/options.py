"""The options that several commands share: the model and the batch, and what becomes of a report.

A command takes them as one argument of a dataclass below; `with_shared_options` shows the command line its fields.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_type_hints

import typer

from .._base import InputError, busy, console, did_you_mean, is_quiet, note, quietly, say
from .errors import FINDINGS
from .help import MODEL, REPORT
from .output import check_outputs

if TYPE_CHECKING:
    from ..rules import Finding

_Command = TypeVar("_Command", bound=Callable[..., None])


def with_shared_options(command: _Command) -> _Command:
    """The command with each parameter that is annotated with a dataclass of options replaced by its fields' options."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    blocks: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind))
            continue
        blocks[parameter.name] = kind
        types = get_type_hints(kind, include_extras=True)
        for f in fields(kind):
            parameters.append(
                inspect.Parameter(f.name, parameter.kind, default=f.default, annotation=types[f.name])
            )

    @wraps(command)
    def with_fields(**given: Any) -> None:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in blocks.items()
        }
        command(**given, **made)

    del with_fields.__wrapped__  # typer would look at the command itself
    with_fields.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_fields.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_fields  # type: ignore[return-value]


def with_quiet(command: _Command) -> _Command:
    """The command with --quiet: it prints its result and no notes."""
    hints = get_type_hints(command, include_extras=True)
    given = inspect.signature(command).parameters.values()
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in given]
    parameters.append(
        inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
    )

    @wraps(command)
    def quiet_or_not(*, quiet: bool = False, **rest: Any) -> None:
        with quietly() if quiet else contextlib.nullcontext():
            command(**rest)

    del quiet_or_not.__wrapped__
    quiet_or_not.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    quiet_or_not.__annotations__ = {p.name: p.annotation for p in parameters}
    return quiet_or_not  # type: ignore[return-value]


class Format(str, Enum):
    text = "text"
    json = "json"
    markdown = "markdown"
    sarif = "sarif"
    junit = "junit"
    github = "github"


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


TARGET = (
    "A built-in model (see unitgain models), package.module:callable, path/to/file.py:callable, timm:NAME or "
    "torchvision:NAME."
)
Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET)]
LOSSES = "auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1."
LossName = Annotated[str, typer.Option(metavar="NAME", help=LOSSES)]
Rate = Annotated[
    float | None,
    typer.Option(metavar="RATE", help="Learning rate. [default: sgd and momentum 0.1, else 0.001]"),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the result alone, in a line where it can be said in one.")
]


@dataclass(frozen=True)
class Subject:
    """What a model is made with and run on."""

    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="One batch: .safetensors, .npz, or a directory of images.",
            rich_help_panel=MODEL,
        ),
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A known data set: names or fashion-mnist.",
            rich_help_panel=MODEL,
        ),
    ] = None
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="N,C,H,W",
            help="Random input of this shape; resizes a directory of images.",
            rich_help_panel=MODEL,
        ),
    ] = None
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="V", max=2**31, help="With --shape: token numbers from 0 to V-1.", rich_help_panel=MODEL
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            metavar="N",
            min=1,
            max=10**6,
            help="Examples to use. [default: 64; of a file, all]",
            rich_help_panel=MODEL,
        ),
    ] = None
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize/--no-normalize",
            " /--raw",
            help="Give image pixels mean 0 and standard deviation 1; --raw leaves them in 0..1.",
            show_default=True,
            rich_help_panel=MODEL,
        ),
    ] = True
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An argument of the model's class or function.",
            rich_help_panel=MODEL,
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Put these weights into the model: .safetensors.", rich_help_panel=MODEL
        ),
    ] = None
    device: Annotated[
        str,
        typer.Option(
            metavar="D", help="cpu, cuda, cuda:1, mps, ...", show_default=True, rich_help_panel=MODEL
        ),
    ] = "cpu"
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**63 - 1,
            help="Of new weights and random input.",
            show_default=True,
            rich_help_panel=MODEL,
        ),
    ] = 0

    def load_model(self, target: str, loss: str = "auto", *, weights: bool = True) -> Any:
        """The model on its device; weights: put --weights into it."""
        import torch

        from .._batch import LOSSES
        from ..targets import load_model, load_weights, parse_settings

        if loss != "auto" and loss not in LOSSES:
            raise InputError(f"--loss {loss}: unknown{did_you_mean(loss, ['auto', *LOSSES])}")
        place = _device(self.device)
        torch.manual_seed(self.seed)
        model = load_model(target, parse_settings(self.settings or []))
        if weights and self.weights is not None:
            load_weights(model, self.weights)
        try:
            model.to(place)
        except (RuntimeError, NotImplementedError) as error:
            raise InputError(f"--device {self.device}: the model cannot be moved there: {error}") from error
        return model

    def load(self, target: str, loss: str = "auto", *, weights: bool = True) -> tuple[Any, Any]:
        """(model on its device, batch); weights: put --weights into it."""
        from ..models import NormFreeNet, calibrate_
        from ..targets import load_batch

        model = self.load_model(target, loss, weights=weights)
        given = load_batch(
            model, data=self.data, dataset=self.dataset, shape=self.shape, tokens=self.tokens, count=self.batch,
            loss=loss, seed=self.seed, normalize=self.normalize,
        )  # fmt: skip
        if isinstance(model, NormFreeNet) and model.wiring == "calibrated" and self.weights is None:
            calibrate_(model, given)
        if self.data is not None and os.path.isdir(self.data):
            note(f"--data {self.data}: {_images(given)}")
        return model, given

    def load_source(self, target: str, loss: str = "auto", *, weights: bool = True) -> tuple[Any, Any]:
        """(model on its device, examples to train on and held-out ones); weights: put --weights into it."""
        from ..targets import load_source

        if self.tokens is not None:
            raise InputError(f"--tokens {self.tokens}: it goes with --shape, for random token numbers")
        model = self.load_model(target, loss, weights=weights)
        return model, load_source(
            model,
            data=self.data,
            dataset=self.dataset,
            count=self.batch,
            seed=self.seed,
            normalize=self.normalize,
        )

    def further_batches(self, model: Any, loss: str = "auto") -> Any:
        """Batches of --dataset for rehearsed steps, others than the one that is checked; None of a single batch."""
        from ..targets import Batches

        if self.dataset is None:
            return None
        return Batches(model, self.dataset, count=self.batch, seed=self.seed, normalize=self.normalize)

    def inputs(self, *targets: str | None) -> list[str | None]:
        """The files that are read, which no output may overwrite."""
        return [*(file_of(target) for target in targets if target), self.data, self.weights]

    def chosen(self) -> dict[str, Any]:
        """{option: value} of what differs from the default, but for the device and the seed."""
        values = {
            "--data": self.data, "--dataset": self.dataset, "--shape": self.shape, "--tokens": self.tokens,
            "--batch": self.batch, "--set": self.settings, "--weights": self.weights,
            "--no-normalize": not self.normalize,
        }  # fmt: skip
        return {option: value for option, value in values.items() if value}


class _Report(Protocol):
    def lines(self) -> list[str]: ...
    def to_json(self) -> str: ...
    def save(self, path: str, /) -> None: ...


@dataclass(frozen=True)
class Judging:
    """The loss, the limits, and where the report goes."""

    loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{LOSSES} auto: cross entropy for integer targets, mean squared error for float ones.",
            show_default=True,
            rich_help_panel=REPORT,
        ),
    ] = "auto"
    fail_on: Annotated[
        FailOn,
        typer.Option(
            "--fail-on",
            help="Exit with 1 for findings this severe.",
            show_default=True,
            rich_help_panel=REPORT,
        ),
    ] = FailOn.error
    html: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the interactive report.",
            rich_help_panel=REPORT,
        ),
    ] = None
    json: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the JSON report; - prints it instead of the text.",
            rich_help_panel=REPORT,
        ),
    ] = None
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="What is printed; markdown: short evidence to act on; sarif, junit and github: for code hosts and CI.",
            show_default=True,
            rich_help_panel=REPORT,
        ),
    ] = Format.text

    @property
    def printed(self) -> Format:
        return Format.json if self.json == "-" else self.format

    def check_outputs(
        self,
        others: Mapping[str, str | None],
        inputs: Sequence[str | None],
        suffixes: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Refuses outputs that cannot be written; others: {option: path} of the command's own."""
        outputs = {"--html": self.html, "--json": self.json, **others}
        check_outputs({o: path for o, path in outputs.items() if path is not None}, inputs, suffixes)

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Around the work: a spinner, and nothing that a model prints goes into JSON or Markdown."""
        plain = self.printed == Format.text
        with contextlib.nullcontext() if plain else contextlib.redirect_stdout(sys.stderr), busy(what):
            yield

    def show(self, report: _Report) -> None:
        """Prints the report in the format that is asked for, and writes the files that the options name."""
        if self.printed == Format.text and is_quiet():
            for line in report.lines():
                say(line)
        elif self.printed == Format.text:
            console().print(report)
        else:
            say(getattr(report, f"to_{self.printed.value}")().rstrip("\n"), most=sys.maxsize)
        for option, path in (("html", self.html), ("json", self.json)):
            if path is not None and path != "-":
                report.save(path)
                note(f"{option} report written: {path}")

    def exit(self, findings: Sequence[Finding]) -> None:
        """Ends with exit code 1 if a finding is as severe as --fail-on says."""
        levels = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[self.fail_on.value]
        if any(finding.severity in levels for finding in findings):
            raise typer.Exit(FINDINGS)


def file_of(target: str) -> str:
    """The part of a target before the callable's name: a file that must not be written over."""
    return target.rpartition(":")[0]


def source_of(target: str) -> str | None:
    """The file that a target names, relative to the working directory where it lies in it."""
    file = file_of(target)
    if not file.endswith(".py") or not os.path.isfile(file):
        return None
    shown = os.path.relpath(file)
    return file if shown.startswith("..") else shown


def _images(batch: Any) -> str:
    """What a folder turned out to hold: "64 images (3, 32, 32) of 10 classes"."""
    images, labels = batch if isinstance(batch, tuple) else (batch, None)
    classes = "without class folders" if labels is None else f"of {len(labels.unique())} classes"
    return f"{len(images)} images {tuple(images.shape[1:])} {classes}"


def _device(name: str) -> Any:
    import torch

    known = "cpu, cuda, cuda:0 or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: unknown; it is {known}, for example") from error
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:
        raise InputError(f"--device {name}: not available here; --device cpu always is") from error
    return device


def codes(option: str, values: list[str] | None) -> list[str] | None:
    """--select UG2,UG303 --select dead-units -> the codes of all of them; an unknown one is refused."""
    if not values:
        return None
    from ..rules import resolve

    return sorted(resolve([word for value in values for word in value.split(",")], option))
