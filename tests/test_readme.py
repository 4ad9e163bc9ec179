"""What the README and the tutorial say is run, and prints what they show.

In a document, in order, in one folder and one Python session:

- a ```python block is executed; one that begins with "# name.py" is a file, and is written
- a ```text block is (part of) what the Python blocks before it printed
- a ```console block holds commands ("$ ...") and (part of) their output; ```sh blocks hold commands only

A comment before a block, <!-- not run: REASON -->, keeps it from being run.

Only `unitgain` commands are run, and `echo $?`. Lines of dots stand for what is left out. Numbers may differ by 5%,
since processors add in different orders.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import math
import re
import shlex
import textwrap
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest
import typer

import unitgain
from unitgain import cli
from unitgain.rules import CATALOGUE

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    p.relative_to(ROOT).as_posix() for p in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.fixture
def fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no data but what the package holds, as the documents assume."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNITGAIN_DATA", raising=False)
    monkeypatch.setenv("UNITGAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_the_table_of_rules_has_every_group() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (UG\d)xx \|", text, re.M) == sorted({code[:3] for code in CATALOGUE})


def test_every_plot_has_its_picture() -> None:
    text = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    shown = re.findall(r"^`ug\.plots\.(\w+)\(.*?^!\[.*?\]\(images/plots/(\w+)\.png\)$", text, re.M | re.S)
    assert sorted(shown) == sorted((name, name) for name in unitgain.plots.__all__)


def test_no_figure_is_older_than_what_it_is_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    assert list(importlib.import_module("check_figures").faults()) == []


# run elsewhere: integrations/ by tests/integrations/test_pages.py, a rule's examples and the page that adds one by
# tests/rules/test_rule_files.py
ELSEWHERE = re.compile(r"docs/(integrations/|reference/rules/UG|contributing/add-a-rule\.md)")


@pytest.mark.parametrize(
    "document",
    [d for d in DOCUMENTS if BLOCK.search((ROOT / d).read_text(encoding="utf-8")) and not ELSEWHERE.match(d)],
)
def test_what_the_document_shows_is_what_happens(document: str, fresh_folder: Path) -> None:
    run_document((ROOT / document).read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", [*DOCUMENTS, "src/unitgain/cli/train.py"])
def test_torchrun_takes_no_run_for_its_own_run_path(document: str) -> None:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if re.match(r"[\s$]*torchrun ", line)]
    assert not [line for line in commands if "--run" in line]


def run_document(text: str) -> None:
    session: dict[str, object] = {"__name__": "document"}
    printed = ""
    text = re.sub(r"^<!-- not run: \w.{9,} -->\n+```.*?^```$", "", text, flags=re.M | re.S)
    for language, block in BLOCK.findall(text):
        if language == "python":
            named = re.match(r"# ([\w/]+\.py)\n", block)
            if named:
                Path(named[1]).write_text(block, encoding="utf-8")
                continue
            with captured() as out:
                exec(compile(block, "document", "exec"), session)
            printed = out.getvalue()
        elif language == "text":
            assert_shown(block, printed)
        elif language in ("console", "sh"):
            run_console(block, language)
        else:
            raise AssertionError(f"a block of {language}, which nothing checks")


def run_console(block: str, language: str) -> None:
    code = 0
    parts = re.split(r"^\$ ", block, flags=re.M)[1:] if language == "console" else block.splitlines()
    for part in parts:
        command, _, shown = part.partition("\n")
        words = shlex.split(command, comments=True)
        if words == ["echo", "$?"]:
            assert shown.strip() == str(code)
        elif words and words[0] == "unitgain":
            with captured() as out:
                code = cli.main(words[1:])
            assert code in (0, 1), f"{command} exits with {code}: {out.getvalue()}"
            assert_shown(shown, out.getvalue())
        else:
            assert language == "sh", f"{command} is shown with its output, but cannot be run here"


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield out


def assert_shown(shown: str, printed: str) -> None:
    """Every line shown was printed, in the same order."""
    lines = iter(printed.splitlines())
    for wanted in shown.splitlines():
        if wanted.strip() and wanted.strip() != "...":
            assert any(alike(wanted, line) for line in lines), f"not printed: {wanted!r}, in:\n{printed}"


def alike(wanted: str, printed: str) -> bool:
    if NUMBER.sub("#", wanted).split() != NUMBER.sub("#", printed).split():
        return False
    pairs = zip(NUMBER.findall(wanted), NUMBER.findall(printed))
    return all(
        math.isclose(float(a.replace(",", "")), float(b.replace(",", "")), rel_tol=0.05, abs_tol=0.001)
        for a, b in pairs
    )


def test_a_document_that_shows_something_else_fails(fresh_folder: Path) -> None:
    run_document("```python\nprint('loss 3.30')\n```\n```text\nloss 3.40\n```\n")
    with pytest.raises(AssertionError, match=r"not printed: .loss 4\.1."):
        run_document("```python\nprint('loss 3.30')\n```\n```text\nloss 4.1\n```\n")
    with pytest.raises(AssertionError, match="exits with 2"):
        run_document("```sh\nunitgain check no_such_model --shape 2,2\n```\n")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_names_in_a_document_lead_somewhere(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:")):
            assert (path.parent / target).exists(), f"{document} links to {target}, which is not there"
    for name in re.findall(r"\bug\.([a-zA-Z_.]+\w)", text):
        if name != "plots.NAME":
            attrgetter(name)(unitgain)


def test_the_python_reference_states_the_signatures_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8").split())
    functions = {f"ug.{n}": getattr(unitgain, n) for n in ("check", "Probe", "diagnose")}
    functions |= {n: getattr(unitgain.plots, n) for n in unitgain.plots.__all__}
    for name, function in functions.items():
        stated = re.search(rf" {re.escape(name)}\((.*?)\)(?: ->| [a-zA-Z#]|$)", text)
        assert stated, f"{name} is not in the reference"
        names = list(inspect.signature(function).parameters)
        assert [n for n in re.findall(r"(?:^|, )(\w+)(?==|,|$)", stated[1]) if not n.isdigit()] == names


# ---- short blocks, indented and without an output ------------------------------------------------------------

# An indented paragraph that compiles is a program. Each runs in a session of its own, in which a model, a batch and an
# optimizer are there, and what GIVEN adds for its page. Lines of three dots stand for a training step. What cannot run
# here says why in a comment before it: <!-- not run: REASON -->.

SETUP = """
import rich, torch, unitgain, unitgain as ug
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
batch = torch.randn(32, 8), torch.arange(32) % 3
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def goes_on():
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
_REPORT = "ug.check(model, batch).record.save('run.sqlite', overwrite=True)"
_IMAGES = "images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10; batch = images, labels\n"
# what the blocks of a page take for granted
GIVEN = {
    "agc": "goes_on(); parameters = list(model.parameters())",
    "api": _REPORT
    + """
model[0].weight.data *= 20
before = after = report = ug.check(model, batch)
finding, diagnosis, record = report.findings[0], report.diagnosis, report.record
loss, a, b = torch.tensor(1.0), batch[0], batch[0]
probe = ug.Probe(model, optimizer)
probe.start()
goes_on()
""",
    "data": "generator = torch.Generator().manual_seed(0)",
    "graph": "from unitgain.graph import trace\ngraph = trace(model, batch)",
    "image-recipes": _IMAGES
    + "model, batches, classes = ug.models.create('resnet_tiny'), [batch], list('abcdefghij')",
    "normalizer-free": _IMAGES,
    "normfree": _IMAGES
    + """
def make_model():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))
model, loader = make_model(), [batch] * 2
new = make_model()
report = ug.normfree.convert(new, batch)
torch.save(new.state_dict(), 'weights.pt')
""",
    "report": _REPORT,
    "spp": "model, batch = ug.models.create('nf_resnet_tiny'), torch.randn(4, 3, 32, 32)\n"
    "batchnorm = normalizer_free = ug.spp(model, batch)",
}
SMALL = {
    "nf_resnet50": "nf_resnet_tiny",
    '"nfnet_f0"': '"nfnet_tiny"',
    "steps=60": "steps=4",
    "224, 224": "32, 32",
}
NOT_RUN = re.compile(r"<!-- not run: \w.{9,} -->\n\n$")


def paragraphs(document: str) -> list[str]:
    """The indented blocks of a page that nothing marks as one that cannot run."""
    text = BLOCK.sub("", (ROOT / document).read_text(encoding="utf-8"))
    found = re.finditer(r"(?<=\n\n)(?:    .*\n)+(?=\n|\Z)", text)
    return [textwrap.dedent(m[0]) for m in found if not NOT_RUN.search(text[: m.start()])]


def is_python(paragraph: str) -> bool:
    """Whether it is a piece of a program: a signature, a formula and a command are none."""
    try:
        compile(paragraph, "document", "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if any(map(is_python, paragraphs(d)))])
def test_indented_python_runs(document: str, fresh_folder: Path) -> None:
    for paragraph in filter(is_python, paragraphs(document)):
        session: dict[str, object] = {"__name__": "document"}
        exec(compile(SETUP + GIVEN.get(Path(document).stem, ""), "setup", "exec"), session)
        written = re.sub(r"(^ *|: )\.\.\.", r"\1goes_on()", paragraph, flags=re.M)
        for large, small in SMALL.items():
            written = written.replace(large, small)
        with captured():
            exec(compile(written, document, "exec"), session)


def commands() -> list[str]:
    """Every `unitgain` command of the documentation that stands on a line of its own; a synopsis is none."""
    found = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        shown = [
            line[2:] for _, block in BLOCK.findall(text) for line in block.splitlines() if line[:2] == "$ "
        ]
        scripts = [block for language, block in BLOCK.findall(text) if language == "sh"]
        lines = re.sub(r"\\\n *", "", "\n".join([*scripts, *paragraphs(document)])).splitlines()
        for line in shown + lines:
            command = re.match(r"(?:torchrun .* -m )?unitgain (\w.*?)(?: &|   .*)?$", line)
            if command and not re.search(r" \[|\bTARGET\b|\bRUN\b", line):
                found.append(command[1])
    return found


def test_every_command_of_the_documentation_is_one() -> None:
    found = commands()
    assert len(found) > 50
    for command in found:
        group, words = typer.main.get_command(cli.app), shlex.split(command, comments=True)
        while words and hasattr(group, "resolve_command"):
            name, group, words = group.resolve_command(typer.Context(group), words)
        group.make_context(name, words)  # raises what the command line would say


def test_a_block_that_does_not_run_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "A\n\n    nothing.here()\n\n<!-- not run: needs two processes -->\n\n    b()\n\nB\n\n    c()\n"
    )
    assert paragraphs(str(page)) == ["nothing.here()\n", "c()\n"]
