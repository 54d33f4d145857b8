"""Drawings as SVG: the same bytes for the same numbers, readable without colour, on light and dark paper.

Text is drawn as paths, so that a figure looks the same everywhere.  Ink, grid and line colours are CSS variables with a
fallback: a page may set them, :func:`standalone` puts the fallbacks in.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from derive.latex import name_latex
from reports.measure import Curve

__all__ = ["norm_figure", "standalone"]

# What matplotlib is given, the variable that replaces it, and the fallback.
_INK, _GRID = "#010203", "#010204"
_LINES = ("#010205", "#010206", "#010207")
_VARIABLES = {
    _INK: ("--figure-ink", "#22252a"),
    _GRID: ("--figure-grid", "#d9dbdf"),
    _LINES[0]: ("--figure-first", "#1f5f99"),
    _LINES[1]: ("--figure-second", "#2d7a4f"),
    _LINES[2]: ("--figure-third", "#b4471f"),
}
_MARKERS = ("o", "s", "^")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1.5, 2)))

_STYLE = {
    "svg.hashsalt": "bptt",
    "svg.fonttype": "path",
    "font.family": "STIXGeneral",
    "font.size": 12.5,
    "mathtext.fontset": "stix",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.8,
}


def norm_figure(curves: Sequence[Curve]) -> str:
    """The norm of dL/ds against the lag, one line a state and spectral radius, on a logarithmic axis."""
    with _quiet():
        import matplotlib
        from matplotlib.figure import Figure

        defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
        with matplotlib.rc_context({**defaults, **_STYLE}):
            figure = Figure(figsize=(6.2, 4.1))
            axes = figure.add_axes((0.13, 0.14, 0.66, 0.83))
            _draw(axes, curves)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", transparent=True)
    return _clean(buffer.getvalue().decode("utf-8"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without matplotlib's remarks about its cache folder and fonts, which say nothing about the figure."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _draw(axes: Any, curves: Sequence[Curve]) -> None:
    states = list(dict.fromkeys(c.state for c in curves))
    radii = list(dict.fromkeys(c.radius for c in curves))
    ends = []
    for curve in curves:
        i, j = radii.index(curve.radius), states.index(curve.state)
        lags = np.arange(len(curve.norms))
        values = np.where((curve.norms > 0) & np.isfinite(curve.norms), curve.norms, np.nan)
        colour = _LINES[i % 3]
        axes.plot(
            lags,
            values,
            color=colour,
            linestyle=_DASHES[j % 4],
            marker=_MARKERS[i % 3],
            markevery=(2 + 3 * j, 10),
            markerfacecolor=colour if j == 0 else "none",
        )
        ends.append((float(values[np.isfinite(values)][-1]), _label(curve, len(states) > 1), colour))
    _frame(axes, len(curves[0].norms))
    _label_ends(axes, ends)


def _frame(axes: Any, steps: int) -> None:
    from matplotlib.ticker import LogLocator, MultipleLocator, NullLocator

    axes.set_yscale("log")
    axes.set_xlim(0, steps - 1)
    axes.xaxis.set_major_locator(MultipleLocator(10))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(r"lag $T - t$ in steps")
    axes.set_ylabel(r"norm of $\mathrm{d}\mathcal{L}/\mathrm{d}s_t$")


def _label(curve: Curve, named: bool) -> str:
    state = f"${name_latex(curve.state)}$"
    radius = "" if curve.radius is None else rf"$\rho = {curve.radius:g}$"
    return ", ".join(part for part in (state if named or not radius else "", radius) if part)


def _label_ends(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """A label at the end of each line, moved apart where they would overlap."""
    low, high = np.log10(axes.get_ylim())
    placed = sorted(((np.log10(y) - low) / (high - low), y, label, colour) for y, label, colour in ends)
    heights = _spread([p[0] for p in placed], gap=0.072)
    for (at, _, label, colour), height in zip(placed, heights, strict=True):
        axes.annotate(
            label,
            xy=(1.0, at),
            xytext=(1.055, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, in order, moved apart to ``gap`` and kept within 0 and 1.

    >>> _spread([0.0, 0.0, 0.9], 0.25)
    [0.0, 0.25, 0.9]
    """
    out: list[float] = []
    for height in heights:
        out.append(max(height, out[-1] + gap) if out else height)
    excess = out[-1] - 1.0 if out else 0.0
    for i in range(len(out) - 1, -1, -1):
        if excess <= 0:
            break
        ceiling = 1.0 if i == len(out) - 1 else out[i + 1] - gap
        out[i] = min(out[i], ceiling)
    return out


def _clean(svg: str) -> str:
    """Only the drawing: no declaration, comment or metadata, a size from the view box, colours as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(<svg [^>]*?)\s(?:width|height)=\"[^\"]*\"", r"\1", svg)
    svg = re.sub(r"(<svg [^>]*?)\s(?:width|height)=\"[^\"]*\"", r"\1", svg)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    for colour, (name, fallback) in _VARIABLES.items():
        svg = svg.replace(colour, f"var({name}, {fallback})")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def standalone(svg: str) -> str:
    """The figure as a file of its own: on white paper, with the fallback colours."""
    svg = re.sub(r"var\(--[a-z-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    end = svg.index(">") + 1
    paper = '\n <rect width="100%" height="100%" fill="#ffffff"/>'
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg[:end] + paper + svg[end:]
