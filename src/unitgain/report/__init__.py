"""Report: terminal, plots, one HTML page, JSON. Drawing libraries load when they are first used."""

from .report import Report

__all__ = ["Report"]
