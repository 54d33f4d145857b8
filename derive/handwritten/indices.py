"""Every index of a script, read once: which time each value is taken at, and over which times sums run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from derive.errors import CellError
from derive.handwritten.lines import Line, Script
from derive.handwritten.times import When, read_when
from derive.syntax import Call, Indexed, Name, Tree, children, walk

__all__ = ["Indices", "Range", "read_indices"]

RANGED = ("sum", "prod")
MOST_BELOW = 60


@dataclass(frozen=True)
class Range:
    """``variable`` from ``first`` to ``last``, which may be the larger or the smaller one."""

    variable: str
    first: When
    last: When


@dataclass(frozen=True)
class Indices:
    """The time of every indexed tree and the range of every sum and product, by the identity of the tree."""

    when: dict[int, When]
    ranges: dict[int, Range]

    def of(self, tree: Tree) -> When:
        """The time of an indexed tree."""
        return self.when[id(tree)]


def read_indices(script: Script) -> Indices:
    """Read every index; raises :class:`CellError` for one that means no time."""
    found = Indices({}, {})
    for line in script.lines:
        for tree, variables in _indexed(line.value, frozenset(), found):
            found.when[id(tree)] = _checked(read_when(tree.index, tree.name, variables), tree, line, script)
    _check_chain(script)
    return found


def _check_chain(script: Script) -> None:
    """Refuse a definition that is built on more others than can be followed."""
    reads = {
        x.target.name: {t.name for t in walk(x.value) if isinstance(t, Indexed | Name)} & script.names.own
        for x in script.lines
        if x.target.role == "own"
    }
    for name in reads:
        reached: set[str] = set()
        waiting = [name]
        while waiting:
            more = reads.get(waiting.pop(), set()) - reached
            reached |= more
            waiting += more
        if len(reached) > MOST_BELOW:
            line = script.defining(name)[0]
            why, found = "definitions are nested too deeply", f"{name}, built on {len(reached)} others"
            wanted = f"at most {MOST_BELOW} definitions below another"
            raise CellError(why, line.equation.position, found=found, expected=wanted)


def _checked(when: When, tree: Indexed, line: Line, script: Script) -> When:
    reference = script.names.indexed(tree.name, tree.position)
    of_a_step = reference.role in ("derivative", "local", "softmax", "target")
    if when == When("", 0) and of_a_step and reference.name not in script.cell.states:
        why = f"there is no {tree.name}[0]: only states have an initial value"
        raise CellError(why, tree.position, found=f"{tree.name}[0]", expected=f"{tree.name}[1]")
    return when


def _indexed(tree: Tree, variables: frozenset[str], found: Indices) -> Iterator[tuple[Indexed, frozenset[str]]]:
    if isinstance(tree, Indexed):
        yield tree, variables
    if isinstance(tree, Call) and tree.name in RANGED and len(tree.arguments) == 4:
        body, variable, first, last = tree.arguments
        if not isinstance(variable, Name) or variable.name in ("t", "T"):
            wanted = f"{tree.name}(J[k], k, ...)"
            raise CellError("the variable is a name of its own", variable.position, expected=wanted)
        bounds = [read_when(bound, "a bound", variables) for bound in (first, last)]
        found.ranges[id(tree)] = Range(variable.name, *bounds)
        yield from _indexed(body, variables | {variable.name}, found)
        return
    for child in children(tree):
        yield from _indexed(child, variables, found)
