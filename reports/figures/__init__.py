"""The drawings of the reports, one file each, in one style: vector graphics that read without colour."""

from reports.figures.differences import differences_figure
from reports.figures.gradient_norm import norm_figure
from reports.figures.growth import growth_figure
from reports.figures.mistakes import mistakes_figure
from reports.figures.singular_values import spectrum_figure
from reports.figures.style import standalone
from reports.figures.truncation import truncation_figure
from reports.figures.unrolled import unrolled_figure

__all__ = [
    "differences_figure",
    "growth_figure",
    "mistakes_figure",
    "norm_figure",
    "spectrum_figure",
    "standalone",
    "truncation_figure",
    "unrolled_figure",
]
