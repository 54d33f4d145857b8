"""When: time indices of backward equations.

h[t]  h[t-1]  dh[t+1]       relative to the line's own t
h[0]  da[1]                 counted from the first step
dh[T]  dh[T+1]              counted from the last step
J[k]  h[k+1]                relative to a variable of sum(..., k, 1, T) or prod(..., k, T, t+1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from derive.errors import CellError, Position
from derive.syntax import Binary, Name, Number, Tree

__all__ = ["EVERY", "LAST", "START", "When", "read_when", "resolve"]

EVERY, LAST, START = "t", "T", ""


@dataclass(frozen=True, order=True)
class When:
    """``anchor`` + ``shift``; the anchor is t, T, a bound variable, or nothing for a step counted from 0."""

    anchor: str
    shift: int

    def moved(self, by: int) -> When:
        """``by`` steps later."""
        return When(self.anchor, self.shift + by)

    def __str__(self) -> str:
        if not self.anchor:
            return str(self.shift)
        return f"{self.anchor}{self.shift:+d}" if self.shift else self.anchor


def read_when(tree: Tree, shown: str, variables: frozenset[str] = frozenset()) -> When:
    """The time that an index says; raises :class:`CellError` with what to write instead."""
    found = _read(tree)
    if found is None:
        wanted = f"{shown}[t-1], {shown}[t], {shown}[t+1], or a step such as [1] or [T]"
        raise CellError("this is not a time index", tree.position, found=f"{shown}[...]", expected=wanted)
    if found.anchor not in (EVERY, LAST, START, *variables):
        wanted = "t, T, a number, or the variable of the sum or product that this stands in"
        raise CellError("unknown time index", tree.position, found=f"{shown}[{found}]", expected=wanted)
    _check_reach(found, shown, tree.position)
    return found


def _read(tree: Tree) -> When | None:
    match tree:
        case Name(name=name):
            return When(name, 0)
        case Number(value=n) if n.denominator == 1:
            return When(START, int(n))
        case Binary(sign="+" | "-" as sign, left=Name(name=name), right=Number(value=n)) if n.denominator == 1:
            return When(name, int(n) if sign == "+" else -int(n))
    return None


def _check_reach(when: When, shown: str, position: Position) -> None:
    if when.anchor == LAST and -3 <= when.shift <= 1:
        return
    if when.anchor == START and 0 <= when.shift <= 3:
        return
    if when.anchor not in (LAST, START) and -1 <= when.shift <= 1:
        return
    found = f"{shown}[{when}]"
    if when.anchor in (LAST, START):
        wanted = "a step from 0 to 3, or from T-3 to T+1; steps between are [t]"
        raise CellError("a step outside of the sequence, or far inside it", position, found=found, expected=wanted)
    near = f"{shown}[{when.anchor}{'+1' if when.shift > 0 else '-1'}]"
    wanted = f"{near}: a recursion goes one step at a time; what comes from further away, {near} has collected"
    raise CellError("an equation reaches one step forward or back", position, found=found, expected=wanted)


def resolve(when: When, env: Mapping[str, When]) -> When:
    """A time with its variable replaced by what it stands for."""
    base = env.get(when.anchor)
    return when if base is None else base.moved(when.shift)
