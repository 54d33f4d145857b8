"""The result of a measurement: numbers by name, each with what it is, how far it may differ, and what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from reports.document import Block, Code, Parts, Quantity, Table

__all__ = ["ROUNDING", "Measurement", "Number", "counted", "measured"]

#: How far apart two machines' rounding errors of the same computation may be.
ROUNDING = 1e3

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Number:
    """One number: what it is in words, and what theory expects it to be, where theory says anything.

    ``signed`` says that it may be below zero, as counts, norms and times may not.
    """

    quantity: Quantity
    says: Parts
    expected: Quantity | None = None
    signed: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """From the least to the most that it may be on another machine.

        >>> Number(Quantity(-2.0, 2.0), ("a rate",)).interval
        (-4.0, -1.0)
        """
        value, spread = self.quantity.value, self.quantity.spread
        if value == 0:  # exactly zero, or it would have been given as a rounding error
            return 0.0, 0.0
        if math.isinf(spread):
            return (0.0, math.inf) if value > 0 else (-math.inf, 0.0)
        low, high = sorted((value / spread, value * spread))
        return low, high


def counted(value: int, *says: object, expected: int | None = None) -> Number:
    """A number that is the same everywhere: a count.

    >>> counted(3, "steps").quantity.shown
    '3'
    """
    wanted = None if expected is None else Quantity(float(expected), 1.0, ",.0f")
    return Number(Quantity(float(value), 1.0, ",.0f"), says, wanted)  # type: ignore[arg-type]


def measured(
    value: float,
    spread: float,
    form: str,
    *says: object,
    expected: float | None = None,
    apart: float = 0.0,
    signed: bool = False,
) -> Number:
    """A number that may differ by the factor ``spread``; what is expected may by ``apart``, if that is said."""
    wanted = None if expected is None else Quantity(float(expected), apart or spread, form)
    return Number(Quantity(float(value), spread, form), says, wanted, signed)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Measurement:
    """Numbers by the names that relations call them, the setting in which they were measured, and further blocks."""

    numbers: Mapping[str, Number]
    setting: Parts
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        for name in self.numbers:
            if not _NAME.fullmatch(name):
                raise ValueError(f"a number's name is small letters, digits and underscores; found {name!r}")

    @property
    def table(self) -> Table:
        """All numbers, with what was expected beside them where something was; the setting is not said again."""
        told = any(number.expected is not None for number in self.numbers.values())
        rows = tuple(_row(name, number, told) for name, number in self.numbers.items())
        head: tuple[Parts, ...] = (("name",), ("what it is",), ("measured",), *((("expected",),) if told else ()))
        return Table(head, rows, "llr" + "r" * told)


def _row(name: str, number: Number, told: bool) -> tuple[Parts, ...]:
    expected: Parts = ("",) if number.expected is None else (number.expected,)
    return (Code(name),), number.says, (number.quantity,), *((expected,) if told else ())
