"""The drawings of a verdict: every error in units of rounding noise, on a logarithmic axis with the limit on it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from derive.latex import name_latex
from numeric.noise import LIMIT
from numeric.oracle.distances import Distance
from reports.figures.style import DASHES, GRID, INK, LINES, MARKERS, PAPER, drawn

__all__ = ["MOST_LINES", "MOST_TENSORS", "step_figure", "tensor_figure", "tensor_latex"]

MOST_TENSORS, MOST_LINES = 24, 4

#: Powers of ten between which errors are drawn: what is smaller, or infinite, stands at the edge.
_LEFT, _RIGHT = -2.0, 18.0


def tensor_latex(tensor: str, parameters: Collection[str] = ()) -> str:
    """What a tensor of a judging is, as LaTeX; ``parameters`` are names that may end in 0 themselves."""
    if tensor == "loss":
        return r"\mathcal{L}"
    kind, _, name = tensor.rpartition(".")
    if kind == "trace" and name.startswith("dL_d"):
        kind, name = "", name.removeprefix("dL_d")
    if kind:
        return name_latex(name)
    initial = name.endswith("0") and name not in parameters
    return rf"\mathrm{{d}}\mathcal{{L}}/\mathrm{{d}}{name_latex(name[:-1], '0') if initial else name_latex(name)}"


def tensor_figure(groups: Sequence[tuple[str, Sequence[Distance]]]) -> str:
    """One row a tensor, one mark a case; a triangle beyond the limit."""
    return drawn("errors", (7.0, 0.95 + 0.27 * len(groups)), lambda figure: _rows(figure, groups))


def _rows(figure: Any, groups: Sequence[tuple[str, Sequence[Distance]]]) -> None:
    height = 0.95 + 0.27 * len(groups)
    axes = figure.add_axes((0.17, 0.56 / height, 0.80, 1 - 0.82 / height))
    right = max([_place(d.units) for _, found in groups for d in found] + [2.0]) + 0.6
    for row, (_, found) in enumerate(groups):
        for wrong in (False, True):
            places = [_place(d.units) for d in found if (d.units > LIMIT) is wrong]
            axes.plot(places, [row] * len(places), clip_on=False, **_style(wrong))
    axes.set_xlim(_LEFT - 0.2, right)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_yticks(range(len(groups)), [_label(name) for name, _ in groups])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.axvline(math.log10(LIMIT), color=INK, linestyle=DASHES[1], linewidth=0.9)
    axes.text(math.log10(LIMIT), -0.75, f"limit {LIMIT:g}", ha="center", va="bottom", fontsize=11)
    _error_axis(axes.xaxis, right)
    axes.set_xlabel("error of the worst entry, in units of rounding noise")


def _label(tensor: str) -> str:
    return f"{'traced ' if tensor.startswith('trace.') else ''}${tensor_latex(tensor)}$"


def _style(wrong: bool) -> dict[str, Any]:
    colour = LINES[2] if wrong else LINES[0]
    face = colour if wrong else PAPER
    return {"linestyle": "none", "marker": MARKERS[2 if wrong else 0], "color": colour, "markerfacecolor": face}


def _place(units: float) -> float:
    return min(max(math.log10(units), _LEFT), _RIGHT) if units > 0 else _LEFT


def _error_axis(axis: Any, top: float) -> None:
    """Powers of ten; what is smaller than all of them, and what is infinite, at the edges."""
    each = max(1, round(top / 5))
    ticks = [_LEFT, *(float(t) for t in range(0, min(int(top), int(_RIGHT) - each) + 1, each))]
    names = [rf"$\leq 10^{{{_LEFT:.0f}}}$", *(rf"$10^{{{t:.0f}}}$" for t in ticks[1:])]
    if top >= _RIGHT:
        ticks, names = [*ticks, _RIGHT], [*names, r"$\infty$"]
    axis.set_ticks(ticks, names)


def step_figure(found: Sequence[Distance]) -> str:
    """The worst entry's error at each time step, one line a tensor."""
    return drawn("steps", (7.0, 3.4), lambda figure: _lines(figure, found[:MOST_LINES]))


def _lines(figure: Any, found: Sequence[Distance]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes((0.145, 0.16, 0.685, 0.78))
    for k, d in enumerate(found):
        steps, places = range(1, len(d.steps) + 1), [_place(x) for x in d.steps]
        colour = LINES[k % len(LINES)]
        style = {"linestyle": DASHES[k % len(DASHES)], "marker": MARKERS[k % len(MARKERS)]}
        axes.plot(steps, places, color=colour, label=_label(d.tensor), clip_on=False, **style)
    axes.axhline(math.log10(LIMIT), color=INK, linestyle=DASHES[1], linewidth=0.9)
    axes.text(1.02, math.log10(LIMIT), f"limit {LIMIT:g}", transform=axes.get_yaxis_transform(), va="center")
    top = max([_place(x) for d in found for x in d.steps] + [2.0]) + 0.5
    axes.set_ylim(_LEFT - 0.3, top)
    axes.set_xlim(0.5, len(found[0].steps) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    _error_axis(axes.yaxis, top)
    axes.set_xlabel(r"time step $t$")
    axes.set_ylabel("error in units of noise")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0.0, fontsize=11)
