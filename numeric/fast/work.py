"""The work of a segment of time as data: operations, the fields that they read and write, sums over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sympy import Expr, Symbol

__all__ = ["Apply", "Entrywise", "Field", "Op", "Outers", "Schedule", "Summed", "made_by", "reads_of"]


@dataclass(frozen=True)
class Entrywise:
    """Assignments in order, all of size ``axis``; ``stores`` are those that something else reads."""

    axis: str
    steps: tuple[tuple[Symbol, Expr], ...]
    stores: tuple[Symbol, ...] = ()


@dataclass(frozen=True)
class Apply:
    """``results``, side by side, = M ``operand`` for each of ``matrices`` (name, transposed); added where ``adds``."""

    results: tuple[Symbol, ...]
    matrices: tuple[tuple[str, bool], ...]
    operand: Symbol
    adds: bool = False


@dataclass(frozen=True)
class Outers:
    """d ``operand``.T summed over rows, for each d of ``sources``; ``targets`` are (matrix, transposed)."""

    operand: Symbol
    sources: tuple[Symbol, ...]
    targets: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Summed:
    """``expression`` summed over rows, and over entries for a scalar ``parameter``."""

    parameter: str
    axis: str
    expression: Expr
    scalar: bool


Op = Entrywise | Apply


@dataclass(frozen=True)
class Field:
    """A vector with a place of its own in each row of ``space``: "tape", "scratch" or "carried"."""

    symbol: Symbol
    axis: str
    space: str


@dataclass(frozen=True)
class Schedule:
    """All of it; ``stages`` by the names above, ``same`` says which symbol stands for a copy.

    ``in_place`` are the states for which what goes to the step before may overwrite what came from the step after.
    """

    stages: dict[str, tuple[Op, ...]]
    outers: tuple[Outers, ...]
    sums: tuple[Summed, ...]
    fields: tuple[Field, ...]
    same: dict[Symbol, Symbol]
    axes: dict[Symbol, str]
    in_place: tuple[str, ...]

    def described(self) -> str:
        """Everything as text, from which the name in the cache is made."""
        same, axes = (sorted((str(s), str(x)) for s, x in of.items()) for of in (self.same, self.axes))
        return repr((self.stages, self.outers, self.sums, self.fields, same, axes, self.in_place))


def reads_of(op: Op) -> set[Symbol]:
    """What an operation reads."""
    return {op.operand} if isinstance(op, Apply) else {s for _, e in op.steps for s in e.free_symbols}


def made_by(op: Op) -> Sequence[Symbol]:
    """What an operation stores."""
    return op.results if isinstance(op, Apply) else op.stores
