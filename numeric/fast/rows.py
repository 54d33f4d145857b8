"""What a compiled function is handed, and the rows that it goes through: plain records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba.core import cgutils, types

from numeric.fast.code import Int, Place

__all__ = ["Argument", "Array", "Row", "Steps", "unpack"]


@dataclass(frozen=True)
class Argument:
    """One argument: a ``role`` (parameter, input, state, ...), the name in it, and how many dimensions it has."""

    role: str
    name: str = ""
    ndim: int | None = None  # None: a number


@dataclass(frozen=True)
class Array:
    """An array that was handed in."""

    place: Place
    shape: tuple[Int, ...]


@dataclass(frozen=True)
class Steps:
    """Consecutive steps of a chunk, from ``t``: rows of tape and scratch, and the rows of the step before the first."""

    t: Int
    count: Int
    tape: Place
    previous: Place
    scratch: Place


@dataclass(frozen=True)
class Row:
    """One sequence at one step; ``number`` counts the rows of the steps that are gone through."""

    steps: Steps
    r: Int
    number: Int
    tape: Place
    previous: Place
    scratch: Place
    carried: Place


def unpack(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Data and shape of an array, or a number as it is."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    return array.data, cgutils.unpack_tuple(builder, array.shape, kind.ndim)
