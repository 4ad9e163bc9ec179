"""Two panels side by side, as an SVG with a background of its own that is light on light pages and dark on dark ones.

Everything is drawn in the inks below, and the SVG names them as variables, whose values depend on the reader's theme.
Pictures within it (matrices) have transparent pixels where there is nothing, and two inks that both themes can bear.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ._example import Example

Draw = Callable[[Axes, Example, str], str]
"""(axes, example, ink) -> a few words with what was measured, for the panel's title."""

BAD, BETTER, INK, GUIDE, GRID, PAPER, BAND = (
    "#d55e00", "#0072b2", "#24292f", "#6e7781", "#e1e4e8", "#fefefe", "#dff0e3",
)  # fmt: skip
_ON_DARK = {BAD: "#ff9a4d", BETTER: "#5cb8f0", INK: "#e6e8eb", GUIDE: "#a5adb8", GRID: "#3a3f4b", PAPER: "#1d2026",
            BAND: "#24402c"}  # fmt: skip
_NAMES = {
    BAD: "bad",
    BETTER: "better",
    INK: "ink",
    GUIDE: "guide",
    GRID: "grid",
    PAPER: "paper",
    BAND: "band",
}

_BORNE = {BETTER: "#1e88c9"}  # pixels cannot follow the theme: a blue that dark pages can bear too

WIDTH, HEIGHT = 540, 225  # of the drawing; it is shown at SHOWN pixels, or as wide as the page is
SHOWN = 680
_SETTINGS = {
    "svg.fonttype": "none", "svg.hashsalt": "unitgain", "image.interpolation": "none",
    "font.size": 11, "axes.titlesize": 11.5, "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": GUIDE, "xtick.color": GUIDE, "ytick.color": GUIDE, "axes.facecolor": PAPER,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "lines.linewidth": 1.6,
    "legend.frameon": False, "legend.fontsize": 10, "legend.handlelength": 1.2, "axes.formatter.useoffset": False,
    "xtick.major.size": 3, "ytick.major.size": 3, "xtick.minor.size": 0, "ytick.minor.size": 0,
}  # fmt: skip


def side_by_side(draw: Draw, bad: Example, good: Example, *, share: bool) -> tuple[str, str, str]:
    """(SVG, what was measured in the bad example, and in the better one). share: one y axis for both."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained", facecolor=PAPER)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.06, wspace=0.05)  # pyright: ignore
        panels = figure.subplots(1, 2, sharey=share)
        notes = []
        for axes, example, ink, name in (
            (panels[0], bad, BAD, "Example"),
            (panels[1], good, BETTER, "Better"),
        ):
            note = draw(axes, example, ink)
            axes.set_title(f"{name}: {note}" if note else name, loc="left", color=ink, fontweight="bold")
            notes.append(note)
        if share:
            panels[1].set_ylabel("")
        written = io.StringIO()
        figure.savefig(written, format="svg", facecolor=PAPER, metadata={"Date": None, "Creator": None})
    return written.getvalue(), notes[0], notes[1]


def finished(svg: str, sentence: str, stamp: str) -> str:
    """The SVG with inks that follow the theme, what is seen in a sentence, and a stamp of what it was made of."""
    for ink, name in _NAMES.items():
        svg = svg.replace(ink, f"var(--{name})")
    inks = [";".join(f"--{_NAMES[ink]}:{value}" for ink, value in values.items())
            for values in (dict(zip(_NAMES, _NAMES)), _ON_DARK)]  # fmt: skip
    style = f"<style>:root{{{inks[0]}}}@media(prefers-color-scheme:dark){{:root{{{inks[1]}}}}}</style>"
    head = f"<title>{escape(sentence)}</title>\n<!-- drawn from {stamp} -->\n{style}\n"
    svg = re.sub(r"<metadata>.*?</metadata>\n?", "", svg, flags=re.S)
    svg = re.sub(
        r'width="[\d.]+pt" height="[\d.]+pt"',
        f'width="{SHOWN}" height="{round(SHOWN * HEIGHT / WIDTH)}"',
        svg,
        count=1,
    )
    svg = re.sub(r"<!--(?! drawn).*?-->\n?", "", svg, flags=re.S)
    svg = re.sub(r"(<svg [^>]*>)\n", lambda found: f"{found[1]}\n{head}", svg, count=1, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, 'DejaVu Sans', sans-serif", svg)
    svg = re.sub(r'(?<=[ (])(d|x|y|transform|points)="[^"]*"', _rounded, svg)
    return re.sub(r"[ \t]+$", "", svg, flags=re.M)


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a pixel."""
    return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), attribute[0])


# ---- what several kinds of pictures need ---------------------------------------------------------------------


def labels(axes: Axes, x: str, y: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def whole_numbers(axes: Axes, x: bool = True, y: bool = False) -> None:
    for axis in [axes.xaxis] * x + [axes.yaxis] * y:
        axis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def from_zero(axes: Axes) -> None:
    """The y axis begins at zero, and still reaches as far as either panel needs."""
    axes.axhline(0, lw=0)
    axes.margins(y=0.02)


def guide(axes: Axes, value: float, text: str, *, upright: bool = False, below: bool = False) -> None:
    """A dotted line at a limit, with its name."""
    behind = {"boxstyle": "square,pad=0.1", "fc": PAPER, "ec": "none", "alpha": 0.75}
    words = {"textcoords": "offset points", "fontsize": 10, "color": GUIDE, "bbox": behind}
    if upright:
        axes.axvline(value, color=GUIDE, lw=1.1, ls=":")
        axes.annotate(text, (value, 1), xycoords=("data", "axes fraction"), xytext=(4, -2), va="top", **words)
        return
    axes.axhline(value, color=GUIDE, lw=1.1, ls=":")
    place = {"xytext": (0, -3 if below else 3), "ha": "right", "va": "top" if below else "bottom"}
    axes.annotate(text, (1, value), xycoords=("axes fraction", "data"), **place, **words)


def matrix(axes: Axes, values: np.ndarray, ink: str, x: str, y: str, *, signed: bool = False) -> None:
    """A matrix as cells: the larger, the stronger the ink; signed ones from orange over nothing to blue. What is
    not finite is violet."""
    inks = ((-1.0, BAD, 1.0), (0.0, BAD, 0.0), (0.0, BETTER, 0.0), (1.0, BETTER, 1.0))
    inks = inks if signed else ((-1.0, ink, 0.0), (1.0, ink, 1.0))
    shades = [((place + 1) / 2, (*to_rgb(_BORNE.get(shade, shade)), alpha)) for place, shade, alpha in inks]
    colors = LinearSegmentedColormap.from_list("inks", shades)
    colors.set_bad("#8250df")
    values = np.where(np.isfinite(values), values, np.nan)
    top = np.nanmax(np.abs(values)) if np.isfinite(values).any() else 1.0
    axes.imshow(values, cmap=colors, vmin=-top if signed else 0.0, vmax=top or 1.0, aspect="auto")
    axes.spines[["top", "right"]].set_visible(True)
    whole_numbers(axes, y=True)
    labels(axes, x, y)


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def short(value: float) -> str:
    """Three digits, of small numbers two; powers of ten from 10,000 on."""
    if value == 0:
        return "0"
    if 100 <= abs(value) < 10000:
        return f"{value:.0f}"
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"
