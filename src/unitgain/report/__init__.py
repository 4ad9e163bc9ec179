"""Report: terminal, plots, one HTML page, JSON. Drawing libraries load when they are first used."""

from . import plots
from .batch_jitter import BatchJitter
from .fix_report import Action, FixReport, Skipped
from .json_report import dumps, plain
from .landscape import Landscape
from .lesson import Chapter, Lesson
from .normfree_page import audit_page, conversion_page
from .plots._all import draw_all
from .plots._style import new_figure, save_figure
from .report import Report, save_text
from .saved import Saved
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
    "Saved",
    "Setting",
    "Skipped",
    "WhatIf",
    "audit_page",
    "conversion_page",
    "draw_all",
    "dumps",
    "plain",
    "plots",
    "save_text",
]
