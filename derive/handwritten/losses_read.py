"""Which loss a file speaks of: read from p[t], target[t] and the line that has them.

p[t] - target[t]             softmax cross-entropy, whose targets sum to one
y[t] - target[t]             half the squared error; twice that, the whole
(...)/T                      the mean over the steps
only dy[T], p[T], target[T]  the last step's loss alone
neither p nor target         any loss
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from derive.errors import CellError
from derive.handwritten.indices import Indices
from derive.handwritten.lines import Line, Script
from derive.handwritten.times import EVERY, LAST, When
from derive.handwritten.truth import LossRead
from derive.syntax import Call, Indexed, Number, Tree, walk

__all__ = ["read_loss"]


def read_loss(script: Script, indices: Indices, fits: Callable[[Line, LossRead], bool]) -> LossRead:
    """The loss of a file; ``fits`` says whether a line is right under a loss."""
    about = _lines_about_it(script)
    called = {t.name for x in about for t in walk(x.value) if isinstance(t, Call | Indexed)} & _words(script)
    given = {x.target.role for x in script.lines} & {"softmax"}
    softmax = bool(given) or bool(called & {"softmax", "p"})
    last = _is_last(script, indices)
    if not called and not softmax:
        return LossRead(last=last)
    kinds = [("softmax_cross_entropy", 1)]
    if not softmax:  # a target alone is that of a squared error, unless the softmax is written out
        kinds = [("squared_error", 1), ("squared_error", 2), *kinds]
    on = _on(script)
    options = [LossRead(kind, on, scale, mean, last) for mean in (False, True) for kind, scale in kinds]
    return max(options, key=lambda option: sum(fits(line, option) for line in about))


def _words(script: Script) -> set[str]:
    """Words that speak of the loss, where the cell has no value called so."""
    return {"p", "target", "softmax"} - set(script.cell.axes)


def _lines_about_it(script: Script) -> list[Line]:
    """Lines that speak of p or of the target, or use a definition that does."""
    words = _words(script)
    while True:
        found = [x for x in script.lines if any(getattr(t, "name", "") in words for t in walk(x.value))]
        more = {x.target.name for x in found if x.target.role == "own"} - words
        if not more:
            return found
        words |= more


def _indexed(script: Script) -> Iterator[tuple[Line, Indexed]]:
    for line in script.lines:
        for tree in (*_left(line.equation.target), *walk(line.value)):
            if isinstance(tree, Indexed):
                yield line, tree


def _left(tree: Tree) -> tuple[Tree, ...]:
    return (tree,) if isinstance(tree, Indexed) else ()


def _on(script: Script) -> str:
    """What p and target belong to: the output whose derivative has them, or the only one."""
    cell = script.cell
    seen = cell.outputs or cell.states[:1]
    for line in script.lines:
        slope = line.target.role in ("derivative", "local") and line.target.name in seen
        if slope and any(isinstance(t, Indexed) and t.name in _words(script) for t in walk(line.value)):
            return line.target.name
    called = [
        t.arguments[0] for x in script.lines for t in walk(x.value) if isinstance(t, Call) and t.name == "softmax"
    ]
    for tree in called:
        if isinstance(tree, Indexed) and tree.name in (*cell.outputs, *cell.states):
            return tree.name
    if len(seen) > 1:
        why = "this cell has several outputs, and nothing says which one the target belongs to"
        wanted = f"a line such as d{seen[0]}[t] = softmax({seen[0]}[t]) - target[t]"
        raise CellError(why, script.lines[0].equation.position, expected=wanted)
    return seen[0]


def _is_last(script: Script, indices: Indices) -> bool:
    """Whether the loss is that of the last step only.

    A line for dy[T] and none for dy[t], or one that says dy[t] = 0, settles it; otherwise everything that is said of
    the loss must be said at [T].
    """
    seen = script.cell.outputs or script.cell.states
    slopes = [
        x for x in script.lines if x.target.role in ("derivative", "local") and x.target.name in script.cell.outputs
    ]
    at_last = [x for x in slopes if x.target.when == When(LAST, 0)]
    general = [x for x in slopes if x.target.when is not None and x.target.when.anchor == EVERY and not _is_zero(x)]
    if at_last or general:
        return bool(at_last) and not general
    places = set()
    for line, tree in _indexed(script):
        reference = script.names.indexed(tree.name, tree.position)
        of_loss = (
            reference.role in ("derivative", "local")
            and reference.name in seen
            and reference.name in script.cell.outputs
        )
        if (of_loss or reference.role in ("softmax", "target")) and tree is not line.equation.target:
            places.add(indices.of(tree).anchor == LAST)
    return places == {True}


def _is_zero(line: Line) -> bool:
    return isinstance(line.value, Number) and line.value.value == 0
