"""The pages of a conversion and of an audit, from their dictionaries alone: a saved report.json is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .sheet import Chart, Line, Section, bullets, folded, page, paragraph, table
from .text import number, percent

_ARMS = {"original": "zero", "stripped": "backward", "converted": "forward"}
_HOW = {
    "absorbed": "absorbed by the layer before it", "forward": "absorbed by the layer behind it",
    "affine": "a scale and a shift stay", "removed": "removed", "refused": "refused",
}  # fmt: skip
_MODES = {"train": "to train from scratch", "preserve": "to fine-tune", "fold": "for inference"}
_ORDER = ("refused", "affine", "forward", "absorbed", "removed")


def conversion_page(data: Mapping[str, Any]) -> str:
    """data: `ConversionReport.to_dict()`."""
    mode = data["mode"]
    sections = [Section("Before and after", _before_and_after(data)), _training(data)]
    if data["blocks"]:
        sections.append(_variances(data["blocks"]))
    sections.append(_norms(data))
    if data["notes"]:
        sections.append(Section("Notes", bullets(data["notes"])))
    action, code = _next(mode, data["examples"])
    return page(
        data["model"], "conversion report", [f"mode {mode}", _MODES[mode]], data["status"], data["verdict"], action,
        code, sections,
    )  # fmt: skip


def audit_page(data: Mapping[str, Any]) -> str:
    """data: `AuditReport.to_dict()`."""
    facts = [f"{data['examples']} examples"] if data["examples"] else []
    rows = [
        ("Forward and backward, seconds", *map(number, data["seconds"])),
        ("Kept for the backward pass, MB", *(number(b / 1e6) for b in data["saved_bytes"])),
    ]
    columns = ("", "as it is", "with fixed scales and shifts", 'after convert(mode="preserve")')
    share = percent(data["time_share"]) if data["time_share"] else "no measurable part"
    cost = paragraph(
        f"Batch statistics take {share} of a step on this device; the same step differs by "
        f"{percent(data['time_noise'])} from time to time. Adaptive gradient clipping, for the converted network, adds "
        f"{number(data['clipping_seconds'])} seconds to a step."
    ) + table(columns, rows)
    moves = [
        ("With the other examples of the batch drawn anew, in training", data["coupling"]),
        ("The same in evaluation, where it should be rounding", data["coupling_eval"]),
        ("Between training (without dropout) and evaluation", data["train_eval_gap"]),
    ]
    moved = table(("an output differs", "rms, relative"), [(n, _digits(v)) for n, v in moves])
    if data["untrained"]:
        moved += paragraph(
            "Running statistics are still those of initialization: evaluation says nothing yet."
        )
    sections = [Section("What can be done", bullets(data["advice"]))] if data["advice"] else []
    sections += [Section("Cost", cost), Section("Dependence", moved)]
    norms = data["norms"]
    if norms:
        sections.append(_noise(norms))
    if data["sizes"]:
        sections.append(_sizes(data["sizes"], data["examples"]))
    if data["left"]:
        sections.append(_left(data["left"]))
    action = code = ""
    if data["batch_norms"]:
        action = "Take BatchNorm out and see what becomes of the network."
        untrained = data["untrained"]
        mode = "" if untrained else ', "preserve"'
        other = (
            'one that is trained: mode="preserve"' if untrained else "to train from scratch: without the mode"
        )
        code = f"print(ug.normfree.convert(model, batch{mode}))  # {other}"
    return page(
        data["model"], "normalization audit", facts, data["status"], data["verdict"], action, code, sections
    )


# ---- of a conversion ---------------------------------------------------------------------------------------


def _next(mode: str, examples: int | None) -> tuple[str, str]:
    """examples: of the batch that was converted with, which stands for one step's."""
    if mode == "fold":
        return (
            "Deploy it: trace, export or script it. It is in evaluation what it was.",
            'torch.export.save(torch.export.export(model.eval(), (images,)), "model.pt2")',
        )
    head = ", exclude=()" if mode == "train" else ""
    return "Train it with adaptive gradient clipping.", "\n".join(
        (
            "optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)  # the notes say which lr to try",
            f"clipping = ug.normfree.clipping_for({examples or 128})  # the examples of one step",
            f"ug.optim.AGC(optimizer, model, clipping=clipping{head})  # in every optimizer.step() from now on",
        )
    )


def _before_and_after(data: Mapping[str, Any]) -> str:
    rows = [
        ("Batch normalization runs in a pass", *map(number, data["batch_norms"])),
        ("One example's output depends on the others by (rms, relative)", *map(_digits, data["coupling"])),
        ("Parameters", *(f"{n:,}" for n in data["parameters"])),
    ]
    if data["seconds"] is not None:
        rows.append(("Forward and backward, seconds", *map(number, data["seconds"])))
    if data["standardized"]:
        rows.append(("Layers standardized", "0", number(data["standardized"])))
    if data["distance"] is not None:
        said = "Outputs differ by (rms, relative, float64, evaluation)"
        rows.append((said, "", _digits(data["distance"])))
    return table(("", "before", "after"), rows)


def _training(data: Mapping[str, Any]) -> Section:
    training, title = data["training"], "A short training"
    if training is None:
        why = (
            "A folded network is not trained." if data["mode"] == "fold" else "Not tried; ask with steps=50."
        )
        return Section(title, paragraph(why))
    held = any(arm["held"] for arm in training["arms"])
    lines = []
    for arm in training["arms"]:
        ys, xs = arm["held"] or arm["losses"], None
        if arm["held"]:
            xs = range(0, len(ys) * training["held_every"], training["held_every"])
        lines.append(Line(arm["name"], ys, _ARMS[arm["name"]], xs))
    what = "Loss on the half of the batch that was held out" if held else "Loss before each step"
    chart = Chart(
        "Loss", f"{what}, each arm at the best of its rates.", lines, range(training["steps"]), unit="step"
    )
    rows = [
        (
            arm["name"], number(arm["level"]), _rate(arm["rate"]), "yes" if arm["agc"] else "no",
            arm["error"] or ", ".join(f"{_rate(r)}: {number(v) or 'diverged'}" for r, v in arm["tried"]),
        )
        for arm in training["arms"]
    ]  # fmt: skip
    columns = ("", "loss", "rate", "AGC", "loss by rate")
    said = bullets(training["summary"]) + paragraph(training["conditions"])
    return Section(title, said + table(columns, rows, text=(4,)), [chart])


def _variances(blocks: Sequence[Mapping[str, Any]]) -> Section:
    columns = {
        "before": ("data, before", "zero", False), "after": ("data, after", "forward", False),
        "noise_before": ("noise, before (dashed)", "zero", True),
        "noise_after": ("noise, after (dashed)", "forward", True),
    }  # fmt: skip
    lines = [
        Line(name, [b[key] for b in blocks], color, dash=dash)
        for key, (name, color, dash) in columns.items()
        if any(b[key] is not None for b in blocks)
    ]
    names = [b["name"] for b in blocks]
    chart = Chart(
        "Channel variance per block", "In training, without dropout. Near one is good; a steady slope compounds.",
        lines, range(1, len(blocks) + 1), names, log=True, guide=1,
    )  # fmt: skip
    head = ("block", *(name for name, *_ in columns.values()))
    rows = [(b["name"], *(number(b[key]) for key in columns)) for b in blocks]
    return Section("Variance", folded("As numbers", table(head, rows)), [chart])


def _norms(data: Mapping[str, Any]) -> Section:
    changes = sorted(data["changes"], key=lambda c: _ORDER.index(c["how"]))
    rows = [(c["path"], c["kind"], _HOW[c["how"]], ", ".join(c["into"]), c["why"]) for c in changes]
    head = ("norm", "class", "what became of it", "into", "why")
    shown = table(head, rows, text=(1, 2, 3, 4)) if rows else paragraph("There was none to convert.")
    if not rows and data["edits"]:
        shown = paragraph(f"There was none to convert; {len(data['edits'])} layers were made plain.")
    left = _left(data["left"])
    rest = f"<h3>{left.title}</h3>{left.html}" if data["left"] else ""
    if data["classes_left"]:
        rest += paragraph(f"Classes of unitgain in the model: {', '.join(data['classes_left'])}.")
    return Section("Norms", shown + rest)


def _left(left: Mapping[str, str]) -> Section:
    said = paragraph("They treat each example by itself.")
    return Section("Left alone", said + table(("norm", "class"), left.items(), text=(1,)))


# ---- of an audit -------------------------------------------------------------------------------------------


def _noise(norms: Sequence[Mapping[str, Any]]) -> Section:
    lines = [
        Line("mean", [n["mean_noise"] for n in norms], "forward"),
        Line("log variance", [n["var_noise"] for n in norms], "backward"),
    ]
    chart = Chart(
        "Noise of the batch's statistics", "Standard error of the mean, in standard deviations, and of the variance's "
        "logarithm, from what each becomes when one example is left out.",
        lines, range(1, len(norms) + 1), [n["path"] for n in norms], log=True,
    )  # fmt: skip
    rows = []
    for n in norms:
        why = ", ".join(n["into"]) if n["fold"] == "forward" else n["why"]
        noise = (number(n[key]) for key in ("values", "mean_noise", "var_noise"))
        rows.append((n["path"], *noise, _HOW[n["fold"]], why))
    head = ("norm", "values per channel", "noise of the mean", "of the variance", "fold", "into, or why")
    return Section("Norms", table(head, rows, text=(4, 5)), [chart])


def _sizes(sizes: Sequence[Mapping[str, Any]], examples: int) -> Section:
    rows = [
        (
            s["size"],
            *(
                ("~" if s["estimated"] and s[key] is not None else "") + number(s[key])
                for key in ("mean_noise", "var_noise")
            ),
            *(number(s[key]) for key in ("seconds", "frozen_seconds", "preserved_seconds")),
        )
        for s in sizes
    ]
    head = (
        "batch size",
        "noise of the mean",
        "of the variance",
        "seconds a step",
        "with fixed scales",
        "after preserve",
    )
    said = paragraph("Noise is the median over norms.")
    if any(s["estimated"] for s in sizes):
        said = paragraph(
            f"Noise is the median over norms; ~ is estimated from this batch of {examples}, by 1/sqrt(batch size)."
        )
    return Section("Batch sizes", said + table(head, rows))


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _digits(value: float | None) -> str:
    """Two digits: what is said of a difference."""
    if not value:
        return "not measured" if value is None else "0"
    return f"{value:.1e}" if value < 0.001 else f"{value:.2g}"


__all__ = ["audit_page", "conversion_page"]
