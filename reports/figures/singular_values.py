"""The singular values of the Jacobian product against the time lag, one panel a network, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from derive.latex import name_latex
from reports.figures.gradient_norm import LOG10, radius_text
from reports.figures.style import INK, LINES, MARKERS, drawn, label_panel, powers
from reports.measure import Curve

__all__ = ["spectrum_figure"]

LEFT, RIGHT, GAP = 0.125, 0.985, 0.05


def spectrum_figure(curves: Sequence[Curve]) -> str:
    """Every singular value thin, the largest with markers, and rho(J)^lag as a dashed line."""
    return drawn("singular-values", (6.4, 3.3), lambda figure: _draw(figure, curves))


def _draw(figure: Any, curves: Sequence[Curve]) -> None:
    width = (RIGHT - LEFT + GAP) / len(curves)
    low, high = _range(curves)
    for i, curve in enumerate(curves):
        axes = figure.add_axes((LEFT + i * width, 0.17, width - GAP, 0.71))
        _panel(axes, curve, i)
        axes.set_ylim(low, high)
        powers(axes.yaxis)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(r"lag $T - t$")
        label_panel(axes, radius_text(curve), LINES[i % 3])
        if i:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(rf"singular values of {_product(curves[0])}")


def _product(curve: Curve) -> str:
    name = next(iter(curve.logs)) if len(curve.logs) == 1 else "s"
    name = "s" if r"\mathrm" in name_latex(name) else name  # a long name is longer than the axis
    return rf"$\partial {name_latex(name, 'T')} / \partial {name_latex(name, 't')}$"


def _panel(axes: Any, curve: Curve, i: int) -> None:
    logs = np.where(np.isfinite(curve.log_singular), curve.log_singular, np.nan) / LOG10
    colour, lags = LINES[i % 3], curve.lags
    axes.plot(lags, logs[:, 1:], color=colour, linewidth=0.7)
    axes.plot(lags, logs[:, 0], color=colour, marker=MARKERS[i % 4], linewidth=1.8, markersize=4.2, clip_on=False)
    axes.set_xlim(0, lags[-1])
    axes.set_xticks([0, lags[-1] // 2, lags[-1]])
    if curve.held and np.isfinite(curve.rate) and np.isfinite(logs[-1, 0]):
        line = logs[-1, 0] + (np.array([0, lags[-1]]) - lags[-1]) * curve.rate / LOG10
        axes.plot([0, lags[-1]], line, color=INK, linestyle=(0, (4, 2.5)), linewidth=0.9)


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Heights that show the leading half of the singular values; those far below leave the drawing."""
    leading = [c.log_singular[:, : max(1, c.log_singular.shape[1] // 2)].ravel() for c in curves]
    found = np.concatenate(leading) / LOG10
    found = found[np.isfinite(found)]
    if not found.size:
        return -1.0, 1.0
    tops = np.concatenate([c.log_singular[:, 0] for c in curves]) / LOG10
    least, high = float(tops[np.isfinite(tops)].min(initial=0.0)), float(found.max())
    low = max(float(found.min()), least - 2 * max(high - least, 1.0))
    margin = 0.06 * max(high - low, 1.0)
    return low - margin, high + margin
