"""The one style of all drawings: ink, lines that differ without colour, labels that do not overlap, and lean SVG.

Text is drawn as paths, so that a figure looks the same everywhere, and the same numbers give the same bytes.  Ink,
paper, grid and line colours are CSS variables with a fallback: a page may set them, :func:`standalone` puts the
fallbacks in.  What was measured is drawn as markers, what theory says as lines.
"""

from __future__ import annotations

import html
import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = [
    "DASHES",
    "GRID",
    "INK",
    "LINES",
    "MARKERS",
    "PAPER",
    "End",
    "described",
    "drawn",
    "label_ends",
    "label_panel",
    "measured_style",
    "powers",
    "quiet",
    "spread",
    "standalone",
    "with_variables",
]

# What matplotlib is given, the variable that replaces it, and the fallback.
INK, GRID, PAPER = "#010203", "#010204", "#010208"
LINES = ("#010205", "#010206", "#010207")
_VARIABLES = {
    INK: ("--figure-ink", "#22252a"),
    GRID: ("--figure-grid", "#d9dbdf"),
    LINES[0]: ("--figure-first", "#1f5f99"),
    LINES[1]: ("--figure-second", "#2d7a4f"),
    LINES[2]: ("--figure-third", "#b4471f"),
    PAPER: ("--figure-paper", "#ffffff"),
}
MARKERS = ("o", "s", "^", "D")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1.5, 2)))

_STYLE = {
    "svg.hashsalt": "bptt",
    "svg.fonttype": "path",
    "font.family": "STIXGeneral",
    "font.size": 12.5,
    "mathtext.fontset": "stix",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.8,
}


def drawn(stem: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """What ``draw`` puts on a matplotlib figure of ``size`` inches, as SVG; ``stem`` begins the ids in it."""
    with quiet():
        import matplotlib
        from matplotlib.figure import Figure

        defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
        with matplotlib.rc_context({**defaults, **_STYLE}):
            figure = Figure(figsize=size)
            draw(figure)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", transparent=True)
    return _clean(buffer.getvalue().decode("utf-8"), stem)


@contextmanager
def quiet() -> Iterator[None]:
    """Without matplotlib's remarks about its cache folder and fonts, which say nothing about the figure."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# -------------------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class End:
    """Where a line ends, in the units of its axis, and what stands beside it."""

    height: float
    text: str
    colour: str


def label_ends(axes: Any, ends: Sequence[End], *, gap: float = 0.072, reach: float = 0.055) -> None:
    """A label at the right end of each line, moved apart where they would overlap; ``gap`` is in parts of the axis."""
    to_axes = axes.transScale + axes.transLimits
    found = [(min(max(float(to_axes.transform((1.0, e.height))[1]), 0.0), 1.0), e) for e in ends if e.text]
    placed = sorted(found, key=lambda pair: pair[0])
    for (at, end), height in zip(placed, spread([at for at, _ in placed], gap), strict=True):
        axes.annotate(
            end.text,
            xy=(1.0, at),
            xytext=(1.0 + reach, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=end.colour,
            arrowprops={"arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 1},
            annotation_clip=False,
        )


def label_panel(axes: Any, text: str, colour: str = INK) -> None:
    """What a panel shows, over its left corner."""
    axes.text(0.0, 1.04, text, transform=axes.transAxes, color=colour, va="bottom")


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, in order, moved apart to ``gap`` and kept within 0 and 1.

    >>> spread([0.0, 0.0, 0.9], 0.25)
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


def measured_style(k: int, *, hollow: bool = False) -> dict[str, Any]:
    """How the k-th measured series looks: markers of its own shape and colour, and no line."""
    colour = LINES[k % len(LINES)]
    face = PAPER if hollow else colour
    return {"linestyle": "none", "marker": MARKERS[k % len(MARKERS)], "color": colour, "markerfacecolor": face}


def powers(axis: Any, most: int = 7) -> None:
    """An axis whose numbers are logarithms to base ten, labelled with the powers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))


def _power(value: float) -> str:
    """A power of ten; the number itself where the exponent is no integer, for a short axis.

    >>> _power(-3.0), _power(-0.3)
    ('$10^{-3}$', '0.5')
    """
    return rf"$10^{{{value:.0f}}}$" if abs(value - round(value)) < 1e-9 else f"{10**value:.2g}"


# ----------------------------------------------------------------------------------------------------------------- SVG


def _clean(svg: str, stem: str) -> str:
    """The drawing and its labels: no declaration or metadata, a size from the view box, colours as variables."""
    svg = svg[svg.index("<svg") :]
    labels = _labels(svg)
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(<svg [^>]*?)\s(?:width|height)=\"[^\"]*\"", r"\1", svg)
    svg = re.sub(r"(<svg [^>]*?)\s(?:width|height)=\"[^\"]*\"", r"\1", svg)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
    svg = described(_lean(_own_ids(with_variables(_hoisted(svg)), stem)), labels)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip()) + "\n"


def _labels(svg: str) -> list[str]:
    """What is written in a drawing, ticks apart: what matplotlib says in a comment beside the outlines of letters."""
    said = dict.fromkeys(html.unescape(text) for text in re.findall(r"<!-- (.*?) -->", svg, flags=re.DOTALL))
    return [text for text in said if re.search(r"[A-Za-z]", re.sub(r"\\[a-z]+", "", text))]


def described(svg: str, labels: Sequence[str]) -> str:
    """The drawing with its labels, which are outlines in it, as text: for programs, and for who hears it."""
    end = svg.index(">") + 1
    return f"{svg[:end]}\n<desc>{html.escape('; '.join(labels), quote=False)}</desc>{svg[end:]}" if labels else svg


def with_variables(svg: str) -> str:
    """The drawing with each colour of this module as a CSS variable with its fallback."""
    for colour, (name, fallback) in _VARIABLES.items():
        svg = svg.replace(colour, f"var({name}, {fallback})")
    return svg


def _own_ids(svg: str, stem: str) -> str:
    """Only ids that something refers to, each beginning with the stem: two figures stand on one page."""
    used = list(dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)))
    name = {old: f"{stem}-{i}" for i, old in enumerate(used)}
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{name[m[1]]}"' if m[1] in name else "", svg)
    return re.sub(r'(href="#|url\(#)([^")]+)', lambda m: m[1] + name[m[2]], svg)


def _hoisted(svg: str) -> str:
    """The style that all markers of a series share, once, at their group."""

    def once(match: re.Match[str]) -> str:
        styles = set(re.findall(r' style="([^"]*)"', match[2]))
        if len(styles) != 1 or len(re.findall("<use", match[2])) != len(re.findall(" style=", match[2])):
            return match[0]
        return f'<g{match[1]} style="{styles.pop()}">' + re.sub(r' style="[^"]*"', "", match[2]) + "</g>"

    return re.sub(r"<g((?: clip-path=\"[^\"]*\")?)>\s*((?:<use [^>]*/>\s*)+)</g>", once, svg)


def _lean(svg: str) -> str:
    """Coordinates of paths and places to a hundredth of a point, which nobody sees."""

    def shorter(match: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), match[0])

    return re.sub(r'(?<=\s)(?:x|y|d|points|width|height)="[^"]*"', shorter, svg)


def standalone(svg: str, title: str = "", numbers: str = "") -> str:
    """The figure as a file of its own: on white paper, with the fallback colours.

    ``title`` is what it shows in words, ``numbers`` what is drawn; both are kept in it as text.
    """
    svg = re.sub(r"var\(--[a-z-]+, (#[0-9a-f]{6})\)", r"\1", svg)
    end = svg.index(">") + 1
    paper = '\n <rect width="100%" height="100%" fill="#ffffff"/>'
    told = "".join(
        f"\n<{tag}>{html.escape(text, quote=False)}</{tag}>"
        for tag, text in (("title", title), ("metadata", numbers))
        if text
    )
    return '<?xml version="1.0" encoding="utf-8"?>\n' + svg[:end] + told + paper + svg[end:]
