"""Whole gates' gradients in another order, as another framework would have them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from derive.cell import Cell
from derive.notation import FUNCTIONS, at
from derive.program import Pointwise, Program, cut
from derive.unroll import Gradient, Problem

__all__ = ["TURNS", "gate_groups", "permuted"]

Order = Callable[[int], tuple[int, ...]]


def gate_groups(cell: Cell, program: Program) -> tuple[tuple[str, ...], ...]:
    """The parameters of each gate, in the order of the text; the same places hold the same sizes.

    A gate is an equation that is one function's value, neither a state nor an output.
    """
    groups: list[list[str]] = []
    for name in cell.equations:
        node = program.node[at(name)]
        inner = isinstance(node, Pointwise) and type(node.expression).__name__ in FUNCTIONS
        if inner and name in cell.intermediates:
            read = {s.name for s in cell.equations[name].free_symbols}
            groups.append([p for p in cell.parameters if p in read])
    shapes = [[cell.parameters[p] for p in group] for group in groups]
    common = [s for s in dict.fromkeys(shapes[0] if shapes else ()) if all(s in own for own in shapes)]
    return tuple(
        tuple(group[own.index(s)] for s in common) for group, own in zip(groups, shapes, strict=True) if common
    )


@lru_cache(maxsize=64)
def _groups(cell: Cell) -> tuple[tuple[str, ...], ...]:
    return gate_groups(cell, cut(cell))


def permuted(order: Order) -> Callable[[Gradient, Problem, int], Gradient]:
    """Whole gates' gradients in another order: gate k gets what belongs to gate order[k]."""

    def result(found: Gradient, problem: Problem, batch: int) -> Gradient:
        groups = _groups(problem.cell)
        given = {
            own: other
            for k, j in enumerate(order(len(groups)))
            for own, other in zip(groups[k], groups[j], strict=True)
        }
        return {key: found[(given.get(key[0], key[0]), *key[1:])] for key in found}

    return result


def _exchanged(*pair: int) -> Order:
    """Two gates exchanged, where a cell has as many."""

    def order(n: int) -> tuple[int, ...]:
        i, j = pair
        return tuple(j if k == i else i if k == j else k for k in range(n)) if max(pair) < n else tuple(range(n))

    return order


TURNS: tuple[tuple[str, Order], ...] = (
    *(
        (f"the gradients of gates {i + 1} and {j + 1} of the text are exchanged", _exchanged(i, j))
        for i in range(4)
        for j in range(i + 1, 4)
    ),
    ("the gates' gradients are one place further on", lambda n: tuple((k + 1) % n for k in range(n))),
    ("the gates' gradients are one place further back", lambda n: tuple((k - 1) % n for k in range(n))),
    ("the gates' gradients are in reverse order", lambda n: tuple(reversed(range(n)))),
)
