"""Arrows between places of a drawing: quadratic curves that go around what stands in their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

__all__ = ["Arrow", "Shape", "route"]

BOWS = (0.0, 26.0, -26.0, 42.0, -42.0, 60.0, -60.0, 84.0, -84.0)
SAMPLES = 40


@dataclass(frozen=True)
class Shape:
    """A place: a rectangle around (x, y) with rounded corners; a circle where nothing else is left of it."""

    x: float
    y: float
    half_width: float
    half_height: float
    corner: float

    def distance(self, x: float, y: float) -> float:
        """How far a point is from the outline; negative within."""
        dx = abs(x - self.x) - self.half_width + self.corner
        dy = abs(y - self.y) - self.half_height + self.corner
        return hypot(max(dx, 0.0), max(dy, 0.0)) + min(max(dx, dy), 0.0) - self.corner


@dataclass(frozen=True)
class Arrow:
    """A quadratic curve from one point to another, bent by ``bow`` to the left of its way."""

    x0: float
    y0: float
    x1: float
    y1: float
    bow: float = 0.0

    @property
    def normal(self) -> tuple[float, float]:
        """A unit vector to the left of the way, as one sees it with y pointing down."""
        length = hypot(self.x1 - self.x0, self.y1 - self.y0) or 1.0
        return (self.y1 - self.y0) / length, -(self.x1 - self.x0) / length

    @property
    def control(self) -> tuple[float, float]:
        """The middle control point."""
        nx, ny = self.normal
        return (self.x0 + self.x1) / 2 + 2 * self.bow * nx, (self.y0 + self.y1) / 2 + 2 * self.bow * ny

    def at(self, s: float) -> tuple[float, float]:
        """The point at s from 0 to 1."""
        cx, cy = self.control
        a, b, c = (1 - s) ** 2, 2 * s * (1 - s), s**2
        return a * self.x0 + b * cx + c * self.x1, a * self.y0 + b * cy + c * self.y1

    def points(self) -> list[tuple[float, float]]:
        """The curve as points."""
        return [self.at(i / SAMPLES) for i in range(SAMPLES + 1)]

    def shifted(self, by: float) -> Arrow:
        """The same curve to the left of itself."""
        nx, ny = self.normal
        return Arrow(self.x0 + by * nx, self.y0 + by * ny, self.x1 + by * nx, self.y1 + by * ny, self.bow)

    def moved(self, dx: float, dy: float = 0.0) -> Arrow:
        """The same curve elsewhere."""
        return Arrow(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy, self.bow)

    def reverse(self) -> Arrow:
        """The same curve the other way."""
        return Arrow(self.x1, self.y1, self.x0, self.y0, -self.bow)

    def between(self, first: Shape, last: Shape, gap: float) -> tuple[float, float]:
        """From where to where the curve is outside of the shapes at its ends, as parts of its way."""
        inside = [i / 200 for i in range(201)]
        start = next((s for s in inside if first.distance(*self.at(s)) > gap), 0.0)
        end = next((s for s in reversed(inside) if last.distance(*self.at(s)) > gap), 1.0)
        return start, end

    def path(self, start: float, end: float) -> str:
        """The part of the curve as SVG."""
        (x0, y0), (x1, y1) = self.at(start), self.at(end)
        cx, cy = self.control
        ax, ay = self.x0 + (cx - self.x0) * start, self.y0 + (cy - self.y0) * start
        bx, by = cx + (self.x1 - cx) * start, cy + (self.y1 - cy) * start
        mx, my = ax + (bx - ax) * end, ay + (by - ay) * end
        if self.bow == 0:
            return f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"
        return f"M{x0:.1f} {y0:.1f}Q{mx:.1f} {my:.1f} {x1:.1f} {y1:.1f}"

    def head(self, end: float, length: float, half: float) -> str:
        """The triangle at the end, whose tip is there."""
        x, y = self.at(end)
        px, py = self.at(max(end - 0.04, 0.0))
        size = hypot(x - px, y - py) or 1.0
        ux, uy = (x - px) / size, (y - py) / size
        bx, by = x - length * ux, y - length * uy
        return f"M{x:.1f} {y:.1f}L{bx + half * uy:.1f} {by - half * ux:.1f}L{bx - half * uy:.1f} {by + half * ux:.1f}Z"


def route(start: tuple[float, float], end: tuple[float, float], around: Sequence[Shape], room: float) -> Arrow:
    """The straightest curve from one point to another that keeps ``room`` to what stands around."""

    def cost(bow: float) -> float:
        points = Arrow(*start, *end, bow).points()
        near = sum(max(0.0, room - shape.distance(x, y)) for shape in around for x, y in points)
        return near + 0.02 * abs(bow)

    return Arrow(*start, *end, min(BOWS, key=cost))
