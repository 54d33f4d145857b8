"""The derivation: the frozen, numbered sequence of steps from a cell's equations to every gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from derive.adjoint import Backward, backward_of
from derive.cell import Cell
from derive.cost import Cost, count_cost
from derive.program import Program
from derive.steps import Step, write_steps

__all__ = ["Derivation", "Step", "differentiate"]


@dataclass(frozen=True, eq=False)
class Derivation:
    """Everything that was derived from a cell.

    ``steps`` is the derivation to be read, ``program`` and ``backward`` the same as data, ``cost`` its cost.
    """

    cell: Cell
    program: Program
    backward: Backward
    steps: tuple[Step, ...]
    cost: Cost

    def __repr__(self) -> str:
        return f"<Derivation of {self.cell.name}: {len(self.steps)} steps>"

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    def _repr_latex_(self) -> str:
        return "\n".join(f"$${step.latex}\\tag{{{step.number}}}$$" for step in self.steps)

    def _repr_html_(self) -> str:
        """What a notebook shows: the steps, typeset."""
        from derive.notebook import derivation_html

        return derivation_html(self)


def differentiate(cell: Cell) -> Derivation:
    """Derive backpropagation through time for a cell; the same cell is derived once.

    Raises TypeError for anything that is not a :class:`Cell`.

    >>> import derive
    >>> d = differentiate(derive.load("tanh_rnn"))
    >>> print(next(step for step in d.steps if step.sentence.startswith("h[t]")).equation.rhs)
    dl[t]/dh[t] + lin(transpose(W_hh), da_h[t+1]) + lin(transpose(W_hy), dy[t])
    """
    if not isinstance(cell, Cell):
        raise TypeError(
            f"differentiate takes a Cell; found {type(cell).__name__}; use derive.load or derive.parse first"
        )
    return _derived(cell, cell.title)


@lru_cache(maxsize=32)
def _derived(cell: Cell, _title: str) -> Derivation:
    backward = backward_of(cell)
    cost = count_cost(backward)
    return Derivation(cell, backward.program, backward, write_steps(cell, backward.program, backward, cost), cost)
