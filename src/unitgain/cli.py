"""The command line: parse, call, print. No maths.

Exit codes: 0 fine; 1 findings at or above --fail-on; 2 the input is wrong: one line on stderr; 3 a defect
in unitgain. `--debug` shows the traceback. Everything heavy is imported inside the command that needs it,
so that `unitgain --help` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ._version import __version__
from .errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from .diagnose.finding import Finding

FINDINGS, WRONG_INPUT, DEFECT, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 130, 141

app = typer.Typer(
    name="unitgain",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


class OptimizerName(str, Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never raises, never prints a traceback without --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        with typer.main.get_command(app).make_context("unitgain", arguments) as context:
            context.command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output, `head` say, has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # so that the flush at exit succeeds
        return BROKEN_PIPE
    except InputError as error:
        return _fail(WRONG_INPUT, str(error), error, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own errors; their class depends on typer's version
            return _fail(WRONG_INPUT, _usage(error), error, debug)
        if _memory_is_full(error):
            line = "out of memory; use fewer or smaller examples (--batch, --shape)"
            return _fail(WRONG_INPUT, line, error, debug)
        import torch

        versions = f"unitgain {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
        what = f"{type(error).__name__}: {error} ({versions})"
        line = f"a defect in unitgain, please report it with the output of --debug: {what}"
        return _fail(DEFECT, line, error, debug)


def _fail(code: int, line: str, error: BaseException, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print("unitgain: " + " ".join(line.split()), file=sys.stderr)
    return code


def _memory_is_full(error: Exception) -> bool:
    """torch says so with a class of its own on accelerators, and only in the message on a CPU."""
    name, text = type(error).__name__, str(error)
    return (
        name in ("MemoryError", "OutOfMemoryError")
        or "can't allocate memory" in text
        or "not enough memory" in text
    )


def _usage(error: Any) -> str:
    """Typer's message about options and arguments, with the place where help is."""
    message = error.format_message().replace("Value error, ", "").strip().rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "unitgain"
    return f"{message[:1].lower()}{message[1:]}; see {path} --help"


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # main() knows what to do


# ---- commands ----------------------------------------------------------------------------------------------


def _version(wanted: bool) -> None:
    if wanted:
        print(f"unitgain {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Measures how signals flow through a PyTorch network, says what is wrong, and why.

    \b
    Start here:
      unitgain demo
      unitgain check my_model.py:make_model --data batch.npz
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(short_help="Measure a model and say what is wrong with it.")
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A built-in model (see unitgain models), package.module:callable, path/to/file.py:callable, "
            "timm:NAME or torchvision:NAME.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="One batch: .safetensors, .npz, or a directory of images."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A known data set: names or fashion-mnist.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="N,C,H,W", help="Random input of this shape; resizes a directory of images."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="V", max=2**31, help="With --shape: token numbers from 0 to V-1.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=10**6, help="Examples to use. [default: 64; of a file, all]"),
    ] = None,
    normalize: Annotated[
        bool, typer.Option(help="Give image pixels mean 0 and standard deviation 1.", show_default=True)
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the model's class or function."),
    ] = None,
    loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1. auto: cross entropy for "
            "integer targets, mean squared error for float ones.",
            show_default=True,
        ),
    ] = "auto",
    steps: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rehearse N optimizer steps on a copy of the model.")
    ] = 0,
    optimizer: Annotated[
        OptimizerName | None, typer.Option(help="For --steps. [default: sgd]", show_choices=True)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate for --steps. [default: sgd 0.01, else 0.001]"),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Only these rules: UG101,UG3 (a prefix) or names."),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODES", help="Not these rules.")] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 for findings this severe.", show_default=True)
    ] = FailOn.error,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Accept the findings in this file; only new ones count."),
    ] = None,
    write_baseline: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings to such a file.")
    ] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the interactive report.")] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the JSON report; - prints it instead of the text."),
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as an SQLite file.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="D", help="cpu, cuda, cuda:1, mps, ...", show_default=True)
    ] = "cpu",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of new weights and random input.", show_default=True)
    ] = 0,
    debug: Debug = False,
) -> None:
    """Measure a model on one batch and say what is wrong with it, and why.

    \b
    Examples:
      unitgain check char_mlp_original --dataset names
      unitgain check my_model.py:make_model --data batch.npz --html report.html
      unitgain check timm:resnet50 --shape 4,3,160,160 --loss cross_entropy
      unitgain check my_gpt.py:GPT --shape 4,128 --tokens 50257 --steps 10 --optimizer adamw --lr 3e-4
    """
    from .diagnose.baseline import load_baseline, new_findings, save_baseline

    inputs = [target.rpartition(":")[0], data, baseline]
    outputs = {"--html": html, "--json": json, "--record": record, "--write-baseline": write_baseline}
    _check_outputs({option: path for option, path in outputs.items() if path is not None}, inputs)
    make_optimizer = _optimizer(optimizer, lr, steps)
    selected, ignored = _codes("--select", select), _codes("--ignore", ignore)
    accepted = load_baseline(baseline) if baseline is not None else None
    silent = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with silent:  # a model that prints must not spoil the JSON
        import torch

        from .checkup import LOSSES
        from .checkup import check as run_check
        from .targets import did_you_mean, load_batch, load_model, parse_settings

        if loss != "auto" and loss not in LOSSES:
            raise InputError(f"--loss {loss}: unknown{did_you_mean(loss, ['auto', *LOSSES])}")
        place = _device(device)
        with _busy("checking"):
            torch.manual_seed(seed)
            model = load_model(target, parse_settings(settings or []))
            try:
                model.to(place)
            except (RuntimeError, NotImplementedError) as error:
                raise InputError(f"--device {device}: the model cannot be moved there: {error}") from error
            given = load_batch(
                model, data=data, dataset=dataset, shape=shape, tokens=tokens, count=batch, loss=loss,
                seed=seed, normalize=normalize,
            )  # fmt: skip
            report = run_check(
                model, given, loss, steps=steps, optimizer=make_optimizer,
                select=selected, ignore=ignored,
            )  # fmt: skip
    if json == "-":
        print(report.to_json())
    else:
        _Console().print(report)
    for option, path in (("--html", html), ("--json", json)):
        if path is not None and path != "-":
            report.save(path)
            _note(f"{option[2:]} report written: {path}")
    if record is not None:
        report.record.save(record)
        _note(f"record written: {record}")
    if write_baseline is not None:
        save_baseline(write_baseline, report.findings)
        _note(f"baseline written: {write_baseline}")
    counted = report.findings
    if accepted is not None:
        counted = new_findings(report.findings, accepted)
        known = len(report.findings) - len(counted)
        _note(f"baseline {baseline}: {known} of {len(report.findings)} findings accepted, {len(counted)} new")
    if _severe(counted, fail_on):
        raise typer.Exit(FINDINGS)


@app.command()
def rules(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A rule's code or name.")] = None,
    debug: Debug = False,
) -> None:
    """List the rules, or explain one.

    \b
    Example:
      unitgain rules UG101
    """
    from .diagnose.catalogue import CATALOGUE, explain

    if code is not None:
        print(explain(code))
        return
    _Console().print(_table(("code", "name", "seen"), [(e.code, e.name, e.seen) for e in CATALOGUE.values()]))


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Like char*.")] = "*",
    debug: Debug = False,
) -> None:
    """List the built-in models.

    \b
    Example:
      unitgain models 'char*'
    """
    from . import models as registry
    from .targets import did_you_mean

    names = registry.names(pattern)
    if not names:
        raise InputError(
            f"pattern {pattern!r}: no built-in model matches{did_you_mean(pattern, registry.names())}"
        )
    rows = [(name, f"{_parameters(registry.create, name):,}", registry.describe(name)) for name in names]
    _Console().print(_table(("name", ">parameters", "description"), rows))


data_app = typer.Typer(rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.callback(invoke_without_command=True)
def _data(context: typer.Context, debug: Debug = False) -> None:
    """List the data sets that are here, or fetch one.

    \b
    Example:
      unitgain data
    """
    if context.invoked_subcommand is not None:
        return
    from .data import sources

    rows = []
    for source in sources():
        size = f"{source.size / 1e6:,.1f} MB"
        where = f"{source.source}: {source.path}" if source.path else f"unitgain data fetch {source.name}"
        rows.append((source.name, source.status, size, source.description, where))
    _Console().print(_table(("name", "status", ">size", "description", "from"), rows))


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="names or fashion-mnist.")],
    debug: Debug = False,
) -> None:
    """Download a data set into your cache; every file's SHA-256 is checked.

    \b
    Example:
      unitgain data fetch fashion-mnist
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from .data import fetch as fetch_data

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = _Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=done, total=total)

        path = fetch_data(name, progress=show)
    print(path)


@app.command(short_help="Show a sick network, its cure, and what that is worth.")
def demo(
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The report to write.", show_default=True)
    ] = "demo-report.html",
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of each network.", show_default=True)
    ] = 4000,
    debug: Debug = False,
) -> None:
    """Show a sick network, why it is sick, its cure, and what the cure is worth (under a minute).

    \b
    Example:
      unitgain demo --out demo-report.html
    """
    _check_outputs({"--out": out}, [])
    from .demo import run

    run(out, steps=steps, console=_Console())


# ---- before the work: is everything right that can be known? -----------------------------------------------

_SUFFIXES = {"--html": (".html", ".htm"), "--out": (".html", ".htm"), "--json": (".json",)}


def _check_outputs(outputs: dict[str, str], inputs: Sequence[str | None]) -> None:
    """Refuses an output that cannot be written, or would overwrite something, before the work is done."""
    read = {os.path.realpath(path) for path in inputs if path}
    written: dict[str, str] = {}
    for option, path in outputs.items():
        if option == "--json" and path == "-":
            continue
        if not path or path.startswith("-"):
            raise InputError(f"{option} {path!r}: a file name is expected after {option}")
        suffixes = _SUFFIXES.get(option)
        if suffixes and not path.lower().endswith(suffixes):
            raise InputError(f"{option} {path}: the name must end in {suffixes[0]}")
        folder, real = os.path.dirname(path) or ".", os.path.realpath(path)
        if os.path.isdir(path):
            raise InputError(f"{option} {path}: this is a folder; give the name of a file in it")
        if not os.path.isdir(folder):
            raise InputError(f"{option} {path}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK) or (
            os.path.exists(path) and not os.access(path, os.W_OK)
        ):
            raise InputError(f"{option} {path}: no permission to write there; choose another place")
        if option == "--record" and os.path.exists(path):
            raise InputError(f"{option} {path}: the file exists; choose a new name or delete it first")
        if real in read:
            raise InputError(f"{option} {path}: this is an input of the command; choose another name")
        if real in written:
            raise InputError(f"{option} {path}: {written[real]} writes the same file; choose another name")
        written[real] = option


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


def _optimizer(name: OptimizerName | None, lr: float | None, steps: int) -> Callable[[Any], Any] | None:
    """A function from parameters to the optimizer, None if nothing was asked for."""
    if name is None and lr is None:
        return None
    if not steps:
        option = f"--lr {lr}" if name is None else f"--optimizer {name.value}"
        raise InputError(f"{option}: it matters only when steps are rehearsed; add --steps 10")
    name = name or OptimizerName.sgd
    rate = lr if lr is not None else 0.01 if name is OptimizerName.sgd else 0.001
    if not 0 < rate < float("inf"):
        raise InputError(f"--lr {rate}: a learning rate is a number above 0, like 0.01")
    from torch import optim

    kind = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}[name.value]
    return lambda parameters: kind(parameters, lr=rate)


def _codes(option: str, values: list[str] | None) -> list[str] | None:
    """--select UG2,UG303 --select dead-units -> the codes of all of them; an unknown one is refused."""
    if not values:
        return None
    from .diagnose.catalogue import resolve

    return sorted(resolve([word for value in values for word in value.split(",")], option))


# ---- after it ----------------------------------------------------------------------------------------------


def _severe(findings: Sequence[Finding], fail_on: FailOn) -> bool:
    levels = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on.value]
    return any(finding.severity in levels for finding in findings)


@contextlib.contextmanager
def _busy(text: str) -> Iterator[None]:
    """A spinner on stderr where a person looks at it."""
    console = _Console(stderr=True)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; a column whose name begins with > is aligned to the right."""
    from rich.markup import escape

    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        right = column.startswith(">")
        table.add_column(
            column.lstrip(">"), justify="right" if right else "left", no_wrap=index == 0, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _parameters(create: Callable[[str], nn.Module], name: str) -> int:
    """Parameter count, without memory for the weights where the model can be built without them."""
    import torch

    try:
        with torch.device("meta"):
            model = create(name)
    except Exception:  # draws from a generator of its own, say
        model = create(name)
    return sum(p.numel() for p in model.parameters())
