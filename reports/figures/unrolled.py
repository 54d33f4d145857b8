"""The unrolled graph: a column a step, a lane a state; thin arrows compute, thick dashed ones carry the gradient back.

The gradient is that of all losses by one early state, along every way that it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from derive.derivation import Derivation
from derive.latex import name_latex
from reports.figures.curve import Arrow, Shape, route
from reports.figures.graph import Unrolled, unrolled
from reports.figures.lettering import Box, Lettering
from reports.figures.style import INK, LINES, PAPER, described, with_variables

__all__ = ["marked_state", "shown_steps", "unrolled_figure"]

STEM = "unrolled-graph"
BACK = LINES[2]
SIZE, SMALL = 16.0, 12.5
RADIUS, LANE, APART, MARGIN = 19.0, 92.0, 4.2, 34.0

Place = tuple[str, int]


def unrolled_figure(derivation: Derivation) -> str:
    """The drawing of any cell."""
    return _Drawing(derivation).svg()


def shown_steps(graph: Unrolled) -> int:
    """How many steps are drawn."""
    return 4 if len(graph.states) == 1 and max(len(graph.outputs), len(graph.inputs)) < 3 else 3


def marked_state(graph: Unrolled) -> str | None:
    """The state whose gradient is drawn: the one that most edges carry back to step 1; None where none does."""
    ways = {s: len(graph.reaching(s, 1, shown_steps(graph))) for s in graph.states}
    best = max(ways.values())
    declared = [s for s in graph.states[::-1] if ways[s] == best]
    return declared[0] if best else None


class _Drawing:
    """Places first, then arrows, then labels where nothing else is."""

    def __init__(self, derivation: Derivation) -> None:
        self.cell, self.graph, self.letters = derivation.cell, unrolled(derivation.program), Lettering(STEM)
        self.steps = shown_steps(self.graph)
        self.marked = marked_state(self.graph)
        self.ways = self.graph.reaching(self.marked, 1, self.steps) if self.marked else set()
        self.shapes: dict[Place, Shape] = {}
        self.routes: dict[tuple[str, int, str], Arrow] = {}
        self.taken: list[Box] = []
        self._place()

    # ---------------------------------------------------------------------------------------------------------- places

    def _place(self) -> None:
        graph = self.graph
        crowd = max(len(graph.outputs), len(graph.inputs), 1)
        beside = max([self._width(n) for n in (*graph.outputs, *graph.inputs)] or [2 * RADIUS]) + 14
        states = max(self._width(n) for n in graph.states)
        self.column = max(172.0 if len(graph.states) > 1 else 148.0, crowd * beside + 70, states + 120)
        self.left = MARGIN + states / 2 + 8
        self.loss_y = 34.0
        self.output_y = self.loss_y + 72
        top = (self.output_y if graph.outputs else self.loss_y) + 84
        self.lane_y = {n: top + LANE * i for i, n in enumerate(reversed(graph.states))}
        self.input_y = max(self.lane_y.values()) + 82
        for t in range(self.steps + 1):
            for n, y in self.lane_y.items():
                self.shapes[n, t] = self._shape(n, self.left + t * self.column, y, given=t == 0)
            if t:
                self._row(graph.outputs, t, self.output_y, beside, given=False)
                self._row(graph.inputs, t, self.input_y, beside, given=True)
                self.shapes["", t] = self._shape("", self.left + t * self.column, self.loss_y, given=False)
        self.bottom = self.input_y + RADIUS if graph.inputs else max(self.lane_y.values()) + RADIUS

    def _row(self, names: tuple[str, ...], t: int, y: float, beside: float, *, given: bool) -> None:
        for i, n in enumerate(names):
            x = self.left + t * self.column + (i - (len(names) - 1) / 2) * beside
            self.shapes[n, t] = self._shape(n, x, y, given=given)

    def _label(self, name: str, t: int | str) -> str:
        return rf"$\ell_{{{t}}}$" if not name else f"${name_latex(name, str(t))}$"

    def _width(self, name: str) -> float:
        return max(2 * RADIUS, self.letters.measured(self._label(name, 0), SIZE)[0] + 18)

    def _shape(self, name: str, x: float, y: float, *, given: bool) -> Shape:
        return Shape(x, y, self._width(name) / 2, RADIUS, 5.0 if given else RADIUS)

    # ---------------------------------------------------------------------------------------------------------- arrows

    def _edges(self) -> Iterator[tuple[Place, Place]]:
        for t in range(1, self.steps + 1):
            yield from self.graph.at_step(t)

    def _route(self, source: Place, target: Place) -> Arrow:
        """The way of an edge; the same at every step."""
        key = (source[0], source[1] - target[1], target[0])
        if key not in self.routes:
            t = 2
            a, b = self.shapes[source[0], t + key[1]], self.shapes[target[0], t]
            around = [s for place, s in self.shapes.items() if s not in (a, b) and abs(place[1] - t) < 2]
            self.routes[key] = route((a.x, a.y), (b.x, b.y), around, 9.0).moved(-2 * self.column)
        return self.routes[key].moved(target[1] * self.column)

    def _arrows(self) -> Iterator[str]:
        thin, heads, thick, ends = [], [], [], []
        for source, target in self._edges():
            way = self._route(source, target)
            back = (source, target) in self.ways
            forward = way.shifted(-APART) if back else way
            start, end = forward.between(self.shapes[source], self.shapes[target], 2.5)
            thin.append(forward.path(start, end))
            heads.append(forward.head(end, 6.5, 2.6))
            if back:
                carried = way.shifted(APART).reverse()
                start, end = carried.between(self.shapes[target], self.shapes[source], 2.5)
                thick.append(carried.path(start, end - 0.03))
                ends.append(carried.head(end, 9.5, 4.6))
        yield f'<path d="{"".join(thin)}" fill="none" stroke="{INK}" stroke-width="0.9"/>'
        yield f'<path d="{"".join(heads)}" fill="{INK}"/>'
        if thick:
            style = f'stroke="{BACK}" stroke-width="2.3" stroke-dasharray="6.5 3"'
            yield f'<path d="{"".join(thick)}" fill="none" {style}/>'
            yield f'<path d="{"".join(ends)}" fill="{BACK}"/>'

    # ---------------------------------------------------------------------------------------------------------- labels

    def _places(self) -> Iterator[str]:
        for (name, t), s in self.shapes.items():
            strong = name in self.graph.states and t > 0
            is_marked = (name, t) == (self.marked, 1)
            stroke, width = (BACK, 2.8) if is_marked else (INK, 1.5 if strong else 0.9)
            yield _rectangle(s, f'fill="{PAPER}" stroke="{stroke}" stroke-width="{width}"')
            yield self.letters.centred(self._label(name, t), SIZE, s.x, s.y)

    def _labels(self) -> Iterator[str]:
        """The derivatives on the edges: of every step for one state, of the last step for several."""
        self.taken += [Box(s.x, s.y, s.half_width + 2, s.half_height + 2) for s in self.shapes.values()]
        several = len(self.graph.states) > 1
        for source, target in self._edges():
            if (source, target) not in self.ways:
                continue
            within = source[0] in self.graph.states and target[0] in self.graph.states
            if within and not several:
                yield self._on(source, target, f"$J_{target[1]}$", SIZE)
            elif target[1] == self.steps:
                text = rf"$\partial {self._bare(target)} / \partial {self._bare(source)}$"
                yield self._on(source, target, text, SMALL)
        yield from self._weights()

    def _weights(self) -> Iterator[str]:
        """The matrices on the edges into step 1."""
        for edge in self.graph.edges:
            if edge.matrices:
                names = [name_latex(m) for m in edge.matrices[:3]] + ([r"\ldots"] if len(edge.matrices) > 3 else [])
                places = (edge.source, 1 + edge.shift), (edge.target, 1)
                yield self._on(*places, f"${', '.join(names)}$", SMALL, INK)

    def _bare(self, place: Place) -> str:
        return self._label(*place).strip("$")

    def _on(self, source: Place, target: Place, text: str, size: float, colour: str = BACK) -> str:
        """A label beside an edge, where it covers least."""
        way = self._route(source, target)
        width, height, _ = self.letters.measured(text, size)
        nx, ny = way.normal
        found = []
        for rank, s in enumerate((0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74)):
            x, y = way.at(s)
            for side in (1.0, -1.0):
                away = abs(nx) * width / 2 + abs(ny) * height / 2 + APART + 6
                box = Box(x + side * nx * away, y + side * ny * away, width / 2, height / 2)
                found.append((self._covered(box) + 0.4 * rank + (0.3 if side < 0 else 0.0), rank, side, box))
        box = min(found, key=lambda f: f[:3])[3]
        self.taken.append(box)
        return self.letters.centred(text, size, box.x, box.y, colour=colour, halo=True)

    @cached_property
    def _lines(self) -> list[tuple[float, float]]:
        """Points along every edge."""
        return [p for source, target in self._edges() for p in self._route(source, target).points()]

    def _covered(self, box: Box) -> float:
        """How much of the drawing a label would cover."""
        bad = 40.0 * sum(box.overlaps(other, 1.5) for other in self.taken)
        near = APART + 1.5
        wide, high = box.half_width + near, box.half_height + near
        bad += 1.5 * sum(abs(x - box.x) < wide and abs(y - box.y) < high for x, y in self._lines)
        return bad + (100.0 if box.x + box.half_width > self.right - 4 else 0.0)

    # ----------------------------------------------------------------------------------------------------------- whole

    @property
    def right(self) -> float:
        """How far labels may go."""
        return max(s.x + s.half_width for s in self.shapes.values()) + 78.0

    def _sum_of_losses(self) -> str:
        text = rf"$\mathcal{{L}} = \ell_1 + \cdots + \ell_{{{self.steps}}}$"
        width, _, _ = self.letters.measured(text, SIZE)
        return self.letters.centred(text, SIZE, max(MARGIN, 10) + width / 2, self.loss_y)

    def _key(self, y: float) -> Iterator[str]:
        """What the arrows are, and what J is where no edge alone is it."""
        x, ink = MARGIN, [(INK, "computes", 0.9, "")]
        if self.marked:
            which = name_latex(self.marked, "1")
            ink.append((BACK, rf"carries $\mathrm{{d}}\mathcal{{L}}/\mathrm{{d}}{which}$ back", 2.3, "6.5 3"))
        for colour, text, width, dashes in ink:
            arrow = Arrow(x, y, x + 40, y) if colour == INK else Arrow(x + 40, y, x, y)
            style = f' stroke-dasharray="{dashes}"' if dashes else ""
            end = 1.0 if colour == INK else 0.82
            yield f'<path d="{arrow.path(0, end)}" stroke="{colour}" stroke-width="{width}"{style}/>'
            length, half = (6.5, 2.6) if colour == INK else (9.5, 4.6)
            yield f'<path d="{arrow.head(1.0, length, half)}" fill="{colour}"/>'
            wide = self.letters.measured(text, SMALL + 1)[0]
            yield self.letters.centred(text, SMALL + 1, x + 50 + wide / 2, y)
            x += 50 + wide + 34
        if self.marked:
            own = self.graph.states[0] if len(self.graph.states) == 1 else "s"
            text = rf"$J_t = \partial {name_latex(own, 't')} / \partial {name_latex(own, 't-1')}$"
            if own == "s":
                names = ", ".join(name_latex(n) for n in self.cell.states)
                text = text[:-1] + rf",\ s = ({names})$"
            wide = self.letters.measured(text, SMALL + 1)[0]
            yield self.letters.centred(text, SMALL + 1, x + wide / 2, y)
            x += wide
        self.key_end = x

    def _brackets(self) -> Iterator[str]:
        """J_t under the gap between two steps, where it is made of several edges."""
        y = self.bottom + 30
        for t in range(1, self.steps + 1):
            x1, x0 = self.left + t * self.column, self.left + (t - 1) * self.column
            ends = f"M{x0:.1f} {y - 7:.1f}v7H{x1:.1f}v-7"
            yield f'<path d="{ends}" fill="none" stroke="{BACK}" stroke-width="1"/>' if t > 1 else ""
            if t > 1:
                yield self.letters.centred(f"$J_{t}$", SIZE, (x0 + x1) / 2, y + 15, colour=BACK)

    def svg(self) -> str:
        """The whole drawing."""
        brackets = list(self._brackets()) if self.marked and len(self.graph.states) > 1 else []
        key_y = self.bottom + (78 if brackets else 44)
        parts = [*self._arrows(), *self._places(), *self._labels(), self._sum_of_losses(), *brackets, *self._key(key_y)]
        ends = [*(box.x + box.half_width for box in self.taken), self.key_end]
        width, height = max(ends) + MARGIN, key_y + 22
        view = f'viewBox="0 0 {width:.0f} {height:.0f}" stroke-linejoin="round"'
        body = "\n".join(p for p in (self.letters.definitions(), *parts) if p)
        svg = with_variables(f'<svg xmlns="http://www.w3.org/2000/svg" {view}>\n{body}\n</svg>\n')
        return described(svg, self.letters.said)


def _rectangle(s: Shape, style: str) -> str:
    corner = f'x="{s.x - s.half_width:.1f}" y="{s.y - s.half_height:.1f}" rx="{s.corner:g}"'
    return f'<rect {corner} width="{2 * s.half_width:.1f}" height="{2 * s.half_height:.1f}" {style}/>'
