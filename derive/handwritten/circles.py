"""Lines that need one another in a circle: they would say nothing, and be right whatever they say.

A line for t that reads a name at t + s is an arrow of weight s.  A recursion goes one way in time: where arrows come
back to where they began, all ways round go forwards, or all go backwards.  A way round of weight 0, or two that could
cancel, is a circle.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from derive.errors import CellError
from derive.handwritten.indices import Indices
from derive.handwritten.lines import Line, Script
from derive.handwritten.times import EVERY, When
from derive.syntax import Call, Indexed, Name, Tree, children, walk

__all__ = ["check_circles"]

_ABOUT = ("truncated", "jacobian", "immediate")  # a name inside of these only says of what


class Node(NamedTuple):
    """What a line is about; ``when`` is t for every step, a single step, or None."""

    role: str
    name: str
    when: When | None


class Arrow(NamedTuple):
    """A line needs another one, ``shift`` steps later."""

    start: Node
    end: Node
    shift: int


def check_circles(script: Script, indices: Indices) -> None:
    """Refuse lines that need themselves; raises :class:`CellError` that shows the circle."""
    for line in script.lines:
        _check_jacobian(line)
    lines = {_node(line): line for line in script.lines if line.target.role != "jacobian"}
    arrows = [a for line in lines.values() for a in _arrows(line, script, indices, lines)]
    for node, line in lines.items():
        if _comes_round(node, arrows, 1) and _comes_round(node, arrows, -1):
            shown = " needs ".join(lines[n].text.partition("=")[0].strip() for n in _round(node, arrows))
            wanted = "an equation that does not come back to its own left side; a recursion goes one way, by [t+1]"
            raise CellError("equations go in a circle", line.equation.position, found=shown, expected=wanted)


def _check_jacobian(line: Line) -> None:
    """Refuse a Jacobian that is said to be something made of itself."""
    left = line.equation.target
    for tree in walk(line.value) if line.target.role == "jacobian" else ():
        if tree == left:
            found = f"{line.text.partition('=')[0].strip()} on both sides"
            raise CellError("equations go in a circle", tree.position, found=found, expected="its factors")


def _node(line: Line) -> Node:
    when = line.target.when
    return Node(
        line.target.role, line.target.name, When(EVERY, 0) if when is not None and when.anchor == EVERY else when
    )


def _arrows(line: Line, script: Script, indices: Indices, lines: dict[Node, Line]) -> Iterator[Arrow]:
    start = _node(line)
    for tree, low in _reads(line.value, indices, {}):
        if isinstance(tree, Indexed):
            reference, when = script.names.indexed(tree.name, tree.position), indices.of(tree)
            if when.anchor in low:
                when = low[when.anchor].moved(when.shift)
            ends = [n for n in lines if (n.role, n.name) == (reference.role, reference.name)]
            if when.anchor == EVERY and start.when == When(EVERY, 0):
                yield from (Arrow(start, n, when.shift + line.offset) for n in ends if n.when == When(EVERY, 0))
            elif start.when is None:
                yield from (Arrow(start, n, 0) for n in ends)
            else:
                yield from (Arrow(start, n, 0) for n in ends if n.when == when)
        elif isinstance(tree, Name):
            of = script.names.gradient(tree.name)
            wanted = (of.role, of.name) if of is not None else ("own", tree.name)
            yield from (Arrow(start, n, 0) for n in lines if (n.role, n.name) == wanted and n.when is None)


def _reads(tree: Tree, indices: Indices, low: dict[str, When]) -> Iterator[tuple[Tree, dict[str, When]]]:
    """Names whose value is used, with the earliest time that each variable of a sum stands for."""
    if isinstance(tree, Call) and tree.name in _ABOUT:
        return
    yield tree, low
    over = indices.ranges.get(id(tree))
    if isinstance(tree, Call) and over is not None:
        bounds = [low.get(w.anchor, w).moved(w.shift if w.anchor in low else 0) for w in (over.first, over.last)]
        relative = [b for b in bounds if b.anchor == EVERY]
        earliest = min(relative, key=lambda b: b.shift, default=bounds[0])
        yield from _reads(tree.arguments[0], indices, {**low, over.variable: earliest})
        return
    for child in children(tree):
        yield from _reads(child, indices, low)


def _comes_round(node: Node, arrows: list[Arrow], sign: int) -> bool:
    """Whether a way from a node back to it has weight 0 or more, or, by ``sign``, 0 or less."""
    count = len({a.start for a in arrows} | {a.end for a in arrows})
    best: dict[Node, int] = {}
    for a in (a for a in arrows if a.start == node):
        best[a.end] = max(best.get(a.end, -4 * count), sign * a.shift)
    for _ in range(count):
        for a in arrows:
            if a.start in best and a.start != node:
                best[a.end] = max(best.get(a.end, -4 * count), min(best[a.start] + sign * a.shift, 4 * count))
    return best.get(node, -1) >= 0


def _round(node: Node, arrows: list[Arrow]) -> list[Node]:
    """A way round, for a message."""
    paths, seen = [[node]], {node}
    while paths:
        path = paths.pop(0)
        for a in arrows:
            if a.start == path[-1] and a.end == node:
                return [*path, node]
            if a.start == path[-1] and a.end not in seen:
                seen.add(a.end)
                paths.append([*path, a.end])
    return [node, node]
