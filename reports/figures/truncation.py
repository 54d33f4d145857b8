"""The bias of truncated backpropagation through time against its length: measured, and by the dropped terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.figures.style import DASHES, INK, LINES, drawn, measured_style, powers
from reports.measure import Truncation

__all__ = ["truncation_figure"]


def truncation_figure(study: Truncation) -> str:
    """Relative bias against k, one kind of marker a form; lines are the sums of the dropped terms."""
    return drawn("truncation-bias", (6.4, 3.7), lambda figure: _draw(figure, study))


def _draw(figure: Any, study: Truncation) -> None:
    axes = figure.add_axes((0.125, 0.15, 0.84, 0.82))
    forms = (
        ("chunks", "chunks of $k$ steps", study.chunks, study.chunks_predicted),
        ("windows", "each loss back over $k$ steps", study.windows, study.windows_predicted),
    )
    k = np.array(study.lengths)
    for i, (_, label, measured, predicted) in enumerate(forms):
        axes.plot(k, _log(predicted), color=LINES[2 * i], linestyle=DASHES[i], linewidth=1.3)
        style = measured_style(2 * i, hollow=i > 0)
        axes.plot(k, _log(measured), zorder=3, clip_on=False, label=label, **style)
    axes.plot([], [], color=INK, linewidth=1.0, label="lines: the dropped terms, summed")
    powers(axes.yaxis)
    axes.set_xlim(0.5, study.steps)
    axes.set_xticks([1, *range(5, study.steps + 1, 5)])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(r"truncation length $k$ in steps")
    axes.set_ylabel(r"relative bias $\|g_k - g\| \,/\, \|g\|$")
    axes.legend(loc="best", frameon=False, handletextpad=0.4, borderaxespad=0.4)


def _log(values: tuple[float, ...]) -> Any:
    """Logarithms to base ten; nothing where nothing is lost."""
    found = np.array(values)
    with np.errstate(divide="ignore"):
        return np.where(found > 1e-15, np.log10(found), np.nan)
