"""The drawing of ``bptt flow``: gradient norms and singular values by lag, in the style of :mod:`reports.figures`.

Everything is drawn as a power of ten, so that norms beyond the range of floating-point numbers have their place too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.latex import name_latex
from reports.figures.style import DASHES, GRID, INK, LINES, MARKERS, End, drawn, label_ends, powers
from reports.flow import Experiment, Run

__all__ = ["flow_figure"]

LOG10 = float(np.log(10.0))
COLOURS = (*LINES, INK)
LEFT = 0.115
KEY = r"dashed: what theory gives at the fixed point, $\rho(J)^{T-t}$;  below, thick: the largest singular value"


def flow_figure(experiment: Experiment) -> str:
    """An SVG: norms of dL/ds_t and dL/dx_t above, the singular values of the Jacobian product below."""
    return drawn("gradient-flow", (8.4, 6.6), lambda figure: _draw(figure, experiment))


def _draw(figure: Any, experiment: Experiment) -> None:
    _norms(figure, experiment)
    _spectra(figure, experiment)
    figure.text(LEFT, 0.965, KEY, fontsize=11)


# ------------------------------------------------------------------------------------------------------------- norms


def _norms(figure: Any, experiment: Experiment) -> None:
    """One panel for the first state, one for the first input, if there is one."""
    panels = [name for name in (experiment.state, experiment.input) if name]
    width = (0.90 - LEFT) / len(panels) - 0.11
    for i, name in enumerate(panels):
        axes = figure.add_axes((LEFT + i * (width + 0.21), 0.58, width, 0.35))
        ends = [_norm(axes, run, name, j) for j, run in enumerate(experiment.runs)]
        _frame(axes, experiment.steps - 1)
        variable = name_latex(name)
        axes.set_ylabel(rf"norm of $\mathrm{{d}}\mathcal{{L}}/\mathrm{{d}}{variable}_t$")
        axes.set_xlabel(r"lag $T - t$ in steps")
        label_ends(axes, [end for end in ends if end is not None], gap=0.1, reach=0.04)


def _norm(axes: Any, run: Run, name: str, j: int) -> End | None:
    """A measured line, the theoretical rate dashed through its middle; returns height and text of its label."""
    logs = (run.flow.log_states | run.flow.log_inputs)[name] / LOG10
    lags, shown = run.flow.lags, np.isfinite(logs)
    if not shown.any():
        return None
    colour, every = COLOURS[j], max(1, len(lags) // 8)
    style = {"marker": MARKERS[j], "markevery": (j * every // 4, every), "markersize": 4.4}
    axes.plot(lags[shown], logs[shown], color=colour, alpha=0.85, linewidth=2.2, **style)
    if run.held and run.theory is not None and np.isfinite(run.theory):
        middle = int(lags[shown][shown.sum() // 2])
        line = logs[middle] + (lags - middle) * run.theory / LOG10
        axes.plot(lags, line, color=_over(colour), linestyle=DASHES[1], linewidth=0.9)
    return End(float(logs[shown][-1]), _radius(run), colour)


def _over(colour: str) -> str:
    """What is seen on a line of this colour."""
    return GRID if colour == INK else INK


def _radius(run: Run) -> str:
    return "" if run.scale is None else rf"$\rho = {run.scale:g}$"


# ----------------------------------------------------------------------------------------------------------- spectra


def _spectra(figure: Any, experiment: Experiment) -> None:
    """One panel a run, on one scale: every singular value thin, the largest one thick."""
    width = (0.99 - LEFT) / len(experiment.runs)
    panels: list[Any] = []
    for j, run in enumerate(experiment.runs):
        axes = figure.add_axes((LEFT + j * width, 0.09, width - 0.03, 0.35), sharey=panels[0] if panels else None)
        panels.append(axes)
        _spectrum(axes, run, j)
        _frame(axes, experiment.steps, ticks=3)
        axes.set_xlabel(r"lag $T - t$ in steps")
        axes.text(0.03, 1.03, _radius(run), transform=axes.transAxes, color=COLOURS[j])
        if j:
            axes.tick_params(labelleft=False)
    panels[0].set_ylim(*_range(experiment))
    states = "s" if len(experiment.sizes_of_states) > 1 else name_latex(experiment.state)
    ratio = rf"$\mathrm{{d}}{states}_T/\mathrm{{d}}{states}_t$"
    panels[0].set_ylabel(f"singular values of {ratio}")


def _spectrum(axes: Any, run: Run, j: int) -> None:
    logs = np.where(np.isfinite(run.product.log_singular), run.product.log_singular, np.nan) / LOG10
    lags = run.product.lags
    axes.plot(lags, logs[:, 1:], color=COLOURS[j], linewidth=0.7, alpha=0.75)
    axes.plot(lags, logs[:, 0], color=COLOURS[j], linewidth=2.2)
    if run.held and run.theory is not None and np.isfinite(run.theory):
        line = logs[-1, 0] + (lags - lags[-1]) * run.theory / LOG10
        axes.plot(lags, line, color=_over(COLOURS[j]), linestyle=DASHES[1], linewidth=0.9)


def _range(experiment: Experiment) -> tuple[float, float]:
    """Heights that show the leading singular values of every run; those far below leave the drawing."""
    found = np.concatenate([run.product.log_singular[:, :6].ravel() for run in experiment.runs]) / LOG10
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if found.size else (-1.0, 1.0)
    leading = [run.product.log_singular[:, 0] / LOG10 for run in experiment.runs]
    top = np.concatenate(leading)
    least = float(top[np.isfinite(top)].min()) if np.isfinite(top).any() else low
    low = max(low, least - 1.5 * max(high - least, 1.0))
    margin = 0.05 * max(high - low, 1.0)
    return low - margin, high + margin


def _frame(axes: Any, last: int, *, ticks: int = 5) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, prune="upper" if ticks < 5 else None))
    powers(axes.yaxis)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
