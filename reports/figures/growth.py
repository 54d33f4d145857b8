"""Time and memory of one gradient against the number of steps: measured as markers, the cost polynomials as lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.figures.style import DASHES, LINES, drawn, label_panel, measured_style
from reports.measure import Growth
from reports.measure.cost import BYTES

__all__ = ["growth_figure"]


def growth_figure(study: Growth) -> str:
    """Two panels with logarithmic axes: seconds, and bytes."""
    return drawn("time-and-memory", (6.4, 3.3), lambda figure: _draw(figure, study))


def _draw(figure: Any, study: Growth) -> None:
    steps = [p.steps for p in study.points]
    time = figure.add_axes((0.105, 0.17, 0.375, 0.71))
    _panel(time, steps, [1e3 * p.seconds for p in study.points], 0)
    _line(time, steps, [1e3 * study.rate * p.work for p in study.points], 0)
    label_panel(time, "milliseconds")
    _remark(time, "line: operations counted,\none rate fitted", 0)
    memory = figure.add_axes((0.605, 0.17, 0.375, 0.71))
    _panel(memory, steps, [p.bytes / 1e6 for p in study.points], 2)
    _line(memory, steps, [BYTES * p.stored / 1e6 for p in study.points], 2)
    label_panel(memory, "megabytes")
    if study.points[-1].stored:
        _remark(memory, "line: numbers counted,\n8 bytes each", 2)


def _panel(axes: Any, steps: list[int], values: list[float], k: int) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.plot(steps, values, zorder=3, clip_on=False, **measured_style(k))
    axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(r"steps $T$")


def _line(axes: Any, steps: list[int], values: list[float], k: int) -> None:
    if np.min(values) > 0:
        axes.plot(steps, values, color=LINES[k], linestyle=DASHES[k // 2], linewidth=1.3)


def _remark(axes: Any, text: str, k: int) -> None:
    """What the line is, in the free corner under it."""
    axes.text(0.99, 0.04, text, transform=axes.transAxes, ha="right", va="bottom", color=LINES[k], fontsize=10.5)
