"""Which case reveals which known mistake: a matrix of filled and empty signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.figures.style import GRID, INK, LINES, drawn
from reports.measure import Revealed

__all__ = ["mistakes_figure", "rows_of"]

ROW, HEAD, FOOT, WIDTH = 0.2, 1.42, 0.12, 6.4
LEFT = 2.42


def rows_of(study: Revealed) -> tuple[list[str], Any]:
    """The mistakes that some case does not show, a row each, and one row for all others."""
    certain = set(study.certain)
    chosen = [i for i, m in enumerate(study.mistakes) if m not in certain]
    names, shows = [study.mistakes[i] for i in chosen], [study.shows[i] for i in chosen]
    if certain:
        rest = [row for m, row in zip(study.mistakes, study.shows, strict=True) if m in certain]
        names.append(f"each of {len(certain)} others" if names else f"each of {len(certain)}")
        shows.append(np.max(rest, axis=0))
    return names, np.array(shows).reshape(len(names), len(study.cases))


def mistakes_figure(study: Revealed) -> str:
    """A row a mistake, a column a case: a square where it is revealed, a ring where it stays hidden."""
    names, shows = rows_of(study)
    height = HEAD + FOOT + ROW * len(names)
    return drawn("mistakes-revealed", (WIDTH, height), lambda figure: _draw(figure, study, names, shows, height))


def _draw(figure: Any, study: Revealed, names: list[str], shows: Any, height: float) -> None:
    axes = figure.add_axes((LEFT / WIDTH, FOOT / height, (WIDTH - LEFT - 0.55) / WIDTH, ROW * len(names) / height))
    axes.set_axis_off()
    axes.set_xlim(-0.6, len(study.cases) - 0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for y, name in enumerate(names):
        axes.plot([-0.6, len(study.cases) - 0.4], [y, y], color=GRID, linewidth=0.6, zorder=0)
        axes.text(-0.8, y, name, ha="right", va="center", fontsize=10.5, clip_on=False)
    for x, name in enumerate(study.cases):
        axes.text(x - 0.1, -0.85, name, rotation=52, ha="left", va="bottom", rotation_mode="anchor", fontsize=10.5)
    _signs(axes, shows == 1, marker="s", color=LINES[0], markersize=7.2)
    _signs(axes, shows == 0, marker="o", color=INK, markersize=5.2, markerfacecolor="none", markeredgewidth=0.9)


def _signs(axes: Any, where: Any, **style: Any) -> None:
    y, x = np.nonzero(where)
    axes.plot(x, y, linestyle="none", clip_on=False, **style)
