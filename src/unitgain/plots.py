"""Drawing functions: each takes a Record and returns a matplotlib Figure.

    figure = ug.plots.stats_over_depth(report.record)
    figure.savefig("depth.png")

matplotlib loads when the first one is called.
"""

from .report.plots_agc import agc
from .report.plots_depth import gradient_ratio, stats_over_depth
from .report.plots_distribution import color_dim, dead_chart, histograms, saturation_map
from .report.plots_spp import spp
from .report.plots_theory import theory_over_depth
from .report.plots_time import stats_over_time, update_ratio
from .report.plots_training import training

__all__ = [
    "agc",
    "color_dim",
    "dead_chart",
    "gradient_ratio",
    "histograms",
    "saturation_map",
    "spp",
    "stats_over_depth",
    "stats_over_time",
    "theory_over_depth",
    "training",
    "update_ratio",
]
