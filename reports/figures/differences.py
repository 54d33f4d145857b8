"""The error of difference quotients and of the complex step against the step size: two V shapes and a floor."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.figures.style import DASHES, INK, drawn, measured_style, powers
from reports.measure import Differences

__all__ = ["differences_figure"]

LOW, HIGH = -16.6, 1.2


def differences_figure(study: Differences) -> str:
    """Relative errors as markers, truncation h^2 and rounding 1/h as lines."""
    return drawn("difference-errors", (6.4, 4.1), lambda figure: _draw(figure, study))


def _draw(figure: Any, study: Differences) -> None:
    axes = figure.add_axes((0.125, 0.14, 0.855, 0.71))
    h = np.log10(np.array(study.steps))
    series = (
        ("central differences", study.central),
        ("Richardson", study.richardson),
        ("complex step", study.complex_step),
    )
    for i, (label, errors) in enumerate(series):
        heights = np.clip(np.log10(np.where(np.isfinite(errors), errors, np.nan)), None, HIGH)
        style = measured_style(i, hollow=i == 2)
        axes.plot(h, heights, zorder=3, clip_on=False, label=label, **(style | {"markersize": 4.4}))
    _theory(axes, study, h)
    axes.set_xlim(h[0], h[-1])
    axes.set_ylim(LOW, HIGH)
    powers(axes.xaxis, 6)
    powers(axes.yaxis, 8)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(r"step size $h$")
    axes.set_ylabel("relative error")
    _key(axes)


def _theory(axes: Any, study: Differences, h: Any) -> None:
    """Rounding from the left, truncation from the right, drawn where they are what one sees."""
    rounding = np.log10(study.rounding) - h if study.rounding > 0 else np.full_like(h, np.nan)
    truncation = np.log10(study.curvature) + 2 * h if study.curvature > 0 else np.full_like(h, np.nan)
    seen = np.fmax(rounding, truncation)
    texts = (r"rounding, $u\,|\mathcal{L}| / h$", r"truncation, $\sim h^2$")
    for line, dashes, text in zip((rounding, truncation), (DASHES[1], DASHES[0]), texts, strict=True):
        shown = np.where((line <= HIGH) & (line >= LOW) & (line >= seen - 2.5), line, np.nan)
        if np.isfinite(shown).any():
            axes.plot(h, shown, color=INK, linestyle=dashes, linewidth=0.9, label=text)


def _key(axes: Any) -> None:
    """Above the chart, where no point can be: markers in the first line, lines in the second."""
    found, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, found, strict=True))
    order = [labels[i] for i in (0, 3, 1, 4, 2) if i < len(labels)]
    style = {"ncols": 3, "frameon": False, "handletextpad": 0.4, "columnspacing": 2.2, "labelspacing": 0.3}
    handles = [by_label[label] for label in order]
    axes.legend(handles, order, loc="lower left", bbox_to_anchor=(-0.02, 1.01), borderaxespad=0, **style)
