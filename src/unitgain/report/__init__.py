"""Report: terminal, plots, one HTML page, JSON. Drawing libraries load when they are first used."""

from . import plots
from .batch_jitter import BatchJitter
from .fix_report import Action, FixReport, Skipped
from .landscape import Landscape
from .lesson import Chapter, Lesson
from .plots._all import draw_all
from .plots._style import save_figure
from .report import Report
from .spp import Curve, spp_curve
from .whatif import Setting, WhatIf

__all__ = [
    "Action",
    "BatchJitter",
    "Chapter",
    "FixReport",
    "Landscape",
    "Lesson",
    "Report",
    "Setting",
    "Skipped",
    "WhatIf",
    "draw_all",
    "plots",
]
