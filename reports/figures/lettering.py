"""Mathematics as paths in an SVG of our own: every glyph once, placed as often as it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.figures.style import INK, PAPER, quiet

__all__ = ["Box", "Lettering"]

_CODES = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
_POINTS = {1: 1, 2: 1, 3: 2, 4: 3, 79: 1}
_GRAIN = 10  # glyph outlines are kept to a tenth of matplotlib's units, of which a letter is about 60 high


@dataclass(frozen=True)
class Box:
    """A rectangle: its centre and half its width and height."""

    x: float
    y: float
    half_width: float
    half_height: float

    def overlaps(self, other: Box, gap: float = 0.0) -> bool:
        """Whether two rectangles have a point in common, or are nearer than ``gap``."""
        across = abs(self.x - other.x) < self.half_width + other.half_width + gap
        return across and abs(self.y - other.y) < self.half_height + other.half_height + gap


class Lettering:
    """The texts of one drawing, in mathematical notation between dollar signs; ``stem`` begins the ids of glyphs."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.outlines: dict[str, str] = {}
        self.glyphs: dict[str, Any] = {}
        self.said: list[str] = []

    def measured(self, text: str, size: float) -> tuple[float, float, float]:
        """Width, height and how much of the height is below the line."""
        width, height, depth, _ = self._set(text, size)
        return width, height, depth

    def box(self, text: str, size: float, x: float, y: float) -> Box:
        """What a text takes that is centred at a point."""
        width, height, _ = self.measured(text, size)
        return Box(x, y, width / 2, height / 2)

    def centred(self, text: str, size: float, x: float, y: float, *, colour: str = INK, halo: bool = False) -> str:
        """The text around a point; ``halo`` clears the paper around it."""
        width, height, depth, placed = self._set(text, size)
        self.said.append(text)
        left, base = x - width / 2, y + height / 2 - depth
        uses = "".join(_use(name, left + dx, base - dy, scale) for name, dx, dy, scale in placed)
        around = ""
        if halo and placed:
            stroke = 5.0 / placed[0][3]
            around = f'<g fill="{PAPER}" stroke="{PAPER}" stroke-width="{stroke:.0f}">{uses}</g>'
        return f'{around}<g fill="{colour}">{uses}</g>'

    def definitions(self) -> str:
        """The outlines that the texts use."""
        return "<defs>" + "".join(f'<path id="{i}" d="{d}"/>' for i, d in self.outlines.items()) + "</defs>"

    def _set(self, text: str, size: float) -> tuple[float, float, float, list[tuple[str, float, float, float]]]:
        with quiet():
            import matplotlib
            from matplotlib.font_manager import FontProperties
            from matplotlib.textpath import text_to_path

            with matplotlib.rc_context({"mathtext.fontset": "stix"}):
                font = FontProperties(family="STIXGeneral", size=size)
                width, height, depth = text_to_path.get_text_width_height_descent(text, font, ismath=True)
                found, outlines, bars = text_to_path.get_glyphs_mathtext(font, text, glyph_map=self.glyphs)
        self.glyphs.update(outlines)
        scale = size / text_to_path.FONT_SCALE
        placed = [(self._name(key), x * scale, y * scale, scale * own / _GRAIN) for key, x, y, own in found]
        placed += [(self._bar(*bar), 0.0, 0.0, scale / _GRAIN) for bar in bars]
        return width, height, depth, placed

    def _name(self, key: str) -> str:
        known = list(self.glyphs)
        name = f"{self.stem}-{known.index(key)}"
        if name not in self.outlines:
            self.outlines[name] = _path(*self.glyphs[key])
        return name

    def _bar(self, vertices: Any, codes: Any) -> str:
        """A fraction's bar, or the like."""
        d = _path(vertices, codes)
        name = next((n for n, known in self.outlines.items() if known == d), f"{self.stem}-b{len(self.outlines)}")
        self.outlines[name] = d
        return name


def _use(name: str, x: float, y: float, scale: float) -> str:
    return f'<use href="#{name}" transform="translate({x:.1f} {y:.1f}) scale({scale:.4f} {-scale:.4f})"/>'


def _path(vertices: Any, codes: Any) -> str:
    out, i = [], 0
    while i < len(codes):
        letter, count = _CODES[int(codes[i])], _POINTS[int(codes[i])]
        points = (
            "" if letter == "Z" else " ".join(f"{_GRAIN * x:.0f} {_GRAIN * y:.0f}" for x, y in vertices[i : i + count])
        )
        out.append(letter + points)
        i += count
    return "".join(out)
