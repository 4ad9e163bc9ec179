"""The code to copy beside a finding: its prescription's numbers as Python, or the repair that does it by itself."""

from __future__ import annotations

from collections.abc import Mapping

from ..rules import CATALOGUE, Finding

_ONE_BY_ONE = 3  # parameters up to which each has a line of its own


def code_of(finding: Finding) -> str:
    """Lines that do what a finding prescribes; "" where its rule gives words only.

    Names are written as Python writes them, so that none can be more than a name.

    >>> from unitgain.rules import Finding, Prescription
    >>> print(code_of(Finding("UG501", "updates-too-large", "error", None, "", prescription=Prescription(rate=0.1))))
    for group in optimizer.param_groups:
        group["lr"] *= 0.1
    """
    lines: list[str] = []
    given = finding.prescription
    if given is not None:
        lines += _of_parameters(given.scale, "mul_") + _of_parameters(given.shift, "add_")
        changes = [f'    group["lr"] *= {given.rate:.4g}'] if given.rate != 1 else []
        changes += [f"    group[{key!r}] = {value:.4g}" for key, value in given.options.items()]
        lines += ["for group in optimizer.param_groups:", *changes] if changes else []
    if not lines and finding.auto:
        lines = [f'repair = ug.fix(model, batch, loss=loss, only=["{finding.code}"])', "print(repair)"]
    if any("torch." in line for line in lines):
        lines.insert(0, "import torch")
    return "\n".join(lines)


def check_of(finding: Finding, training: bool = False) -> str:
    """The lines that ask this rule again; training: of the record of one, which a check of a few steps is not."""
    if finding.code not in CATALOGUE:
        return ""
    if training:
        asked = f'print(ug.diagnose(probe.record, select=["{finding.code}"]))'
        return f"with ug.Probe(model, optimizer) as probe:\n    ...  # your training loop\n{asked}"
    steps = ", steps=20, optimizer=optimizer" if CATALOGUE[finding.code].needs != "batch" else ""
    return f'print(ug.check(model, batch, loss=loss{steps}, select=["{finding.code}"]))'


def _of_parameters(numbers: Mapping[str, float], method: str) -> list[str]:
    if not numbers:
        return []
    if len(numbers) <= _ONE_BY_ONE:
        rows = [f"    model.get_parameter({name!r}).{method}({x:.4g})" for name, x in numbers.items()]
    else:
        rows = [
            "    for name, number in {",
            *(f"        {name!r}: {x:.4g}," for name, x in numbers.items()),
            "    }.items():",
            f"        model.get_parameter(name).{method}(number)",
        ]
    return ["with torch.no_grad():", *rows]
