"""The norm of a loss's gradient by a state against the time lag: measured as markers, the rate of theory as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from derive.latex import name_latex
from reports.figures.style import DASHES, INK, LINES, End, drawn, label_ends, measured_style, powers
from reports.measure import Curve

__all__ = ["norm_figure", "radius_text"]

LOG10 = float(np.log(10.0))
EVERY = 5


def norm_figure(curves: Sequence[Curve]) -> str:
    """The norm of dL/ds against the lag on a logarithmic axis, one kind of marker a network, hollow for other states.

    The line of each network falls or rises by rho(J) at every lag, through the middle of the first state's markers.
    """
    return drawn("gradient-norm", (6.4, 3.9), lambda figure: _draw(figure, curves))


def radius_text(curve: Curve) -> str:
    """What tells a network from the others: the spectral radius of its Jacobian, or that of its matrices."""
    if curve.rate == curve.rate:
        return rf"$\rho(J) = {curve.radius:.2f}$"
    return "" if curve.scale is None else rf"$\rho(W) = {curve.scale:.2f}$"


def _draw(figure: Any, curves: Sequence[Curve]) -> None:
    states = list(curves[0].logs)
    axes = figure.add_axes((0.125, 0.15, 0.665, 0.82 if len(states) == 1 else 0.75))
    ends = [_curve(axes, curve, i) for i, curve in enumerate(curves)]
    axes.set_xlim(0, len(curves[0].logs[states[0]]) - 1)
    axes.margins(y=0.06)
    powers(axes.yaxis)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(r"lag $T - t$ in steps")
    axes.set_ylabel(r"norm of $\mathrm{d}\mathcal{L}/\mathrm{d}s_t$")
    label_ends(axes, [end for end in ends if end is not None])
    if len(states) > 1:
        _states(axes, states)


def _curve(axes: Any, curve: Curve, i: int) -> End | None:
    colour, end = LINES[i % 3], None
    for j, (state, logs) in enumerate(curve.logs.items()):
        heights = np.where(np.isfinite(logs), logs, np.nan) / LOG10
        lags = np.arange(len(heights))
        if not np.isfinite(heights).any():
            continue
        shown = slice(j * EVERY // 2, None, EVERY)
        axes.plot(lags[shown], heights[shown], zorder=3, clip_on=False, **measured_style(i, hollow=j > 0))
        if end is None:
            _theory(axes, curve, state, i)
            last = np.flatnonzero(np.isfinite(heights))[-1]
            end = End(float(heights[last]), radius_text(curve), colour)
    return end


def _theory(axes: Any, curve: Curve, state: str, i: int) -> None:
    """rho(J)^lag, at the height that fits the second half best."""
    logs = curve.logs[state]
    lags, half = np.arange(len(logs)), len(logs) // 2
    if not (curve.held and np.isfinite(curve.rate) and np.isfinite(logs[half:]).any()):
        return
    offset = np.nanmean(np.where(np.isfinite(logs), logs - lags * curve.rate, np.nan)[half:])
    axes.plot(lags, (offset + lags * curve.rate) / LOG10, color=LINES[i % 3], linestyle=DASHES[i % 4], linewidth=1.3)


def _states(axes: Any, states: Sequence[str]) -> None:
    """Which state has which marker."""
    from matplotlib.lines import Line2D

    style = {"linestyle": "none", "marker": "o", "color": INK}
    filled = Line2D([], [], **style)  # type: ignore[arg-type]
    hollow = Line2D([], [], **style, markerfacecolor="none")  # type: ignore[arg-type]
    others = ", ".join(f"${name_latex(s)}$" for s in states[1:4]) + (" ..." if len(states) > 4 else "")
    labels = [f"by ${name_latex(states[0])}$", f"by {others}"]
    options = {"ncols": 2, "frameon": False, "handletextpad": 0.1, "columnspacing": 1.0}
    axes.legend([filled, hollow], labels, loc="lower left", bbox_to_anchor=(-0.02, 0.98), borderaxespad=0, **options)
