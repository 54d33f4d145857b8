"""What a statement says about measured numbers: relations such as ``chunks < 0.5 * whole``, read and decided.

A relation holds if it does for everything that the numbers may be on other machines, and fails if it fails for all of
that; in between it is too near to be decided by measuring.  Nothing is evaluated: a side is a number, a name, or a
number times a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from derive.claims import ClaimError
from derive.errors import nearest
from reports.measurements.measurement import Measurement, Number

__all__ = ["Relation", "Side", "decide", "read_relation"]

LARGEST = 1e18  # the largest number that a relation may name
SIGNS = ("<=", ">=", "==", "<", ">")

_SIDE = re.compile(r"\s*(?:(?P<factor>-?\d+(?:\.\d+)?(?:e-?\d+)?))?\s*(?P<times>\*)?\s*(?P<name>[a-z][a-z0-9_]*)?\s*")
_RELATION = re.compile(r"(?P<left>[^<>=]{1,80})(?P<sign><=|>=|==|<|>)(?P<right>[^<>=]{1,80})")


@dataclass(frozen=True)
class Side:
    """``factor`` times the number called ``name``; the factor alone where there is no name."""

    factor: float
    name: str = ""

    def interval(self, numbers: Mapping[str, Number]) -> tuple[float, float]:
        """What it may be."""
        if not self.name:
            return self.factor, self.factor
        low, high = sorted(self.factor * x for x in numbers[self.name].interval)
        return low, high

    def span(self, numbers: Mapping[str, Number]) -> tuple[float, float]:
        """What it could be whatever is measured: a count or a norm is not below zero."""
        if not self.name:
            return self.factor, self.factor
        number = numbers[self.name]
        ends = -math.inf if number.signed or number.quantity.value < 0 else 0.0, math.inf
        low, high = sorted(self.factor * x for x in ends)
        return low, high


@dataclass(frozen=True)
class Relation:
    """``left`` ``sign`` ``right``, and the text that said it."""

    left: Side
    sign: str
    right: Side
    text: str

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers that it speaks of."""
        return tuple(side.name for side in (self.left, self.right) if side.name)


def read_relation(text: str) -> Relation:
    """A relation from its text; raises :class:`ClaimError` for anything else.

    >>> read_relation("chunks < 0.5 * whole").right
    Side(factor=0.5, name='whole')
    """
    match = _RELATION.fullmatch(text) if len(text) <= 160 else None
    sides = [_side(match[key]) for key in ("left", "right")] if match else [None]
    if match is None or None in sides or not any(side.name for side in sides if side):
        wanted = f"two sides with one of {', '.join(SIGNS)} between them, such as chunks < 0.5 * whole"
        raise ClaimError("this is no relation", field="relation", found=text, expected=wanted)
    left, right = (side for side in sides if side)
    if left.name == right.name or not all(0 < abs(s.factor) <= LARGEST for s in (left, right) if s.name):
        wanted = f"two different numbers, neither times zero or more than {LARGEST:g}"
        raise ClaimError("this relation cannot fail", field="relation", found=text, expected=wanted)
    if max(abs(left.factor), abs(right.factor)) > LARGEST:
        raise ClaimError("out of range", field="relation", found=text, expected=f"numbers up to {LARGEST:g}")
    return Relation(left, match["sign"], right, " ".join(text.split()))


def _side(text: str) -> Side | None:
    match = _SIDE.fullmatch(text)
    if match is None or not (match["factor"] or match["name"]):
        return None
    if (match["times"] is not None) != (match["factor"] is not None and match["name"] is not None):
        return None
    return Side(float(match["factor"] or 1.0), match["name"] or "")


def decide(relation: Relation, found: Measurement) -> bool | None:
    """Whether the relation holds; None where the numbers are too near to tell on every machine.

    Raises :class:`ClaimError` for a name that the measurement has no number for.

    >>> from reports.measurements.measurement import counted, measured
    >>> numbers = {"a": counted(1), "b": measured(1.5, 2.0, ".1f")}
    >>> [decide(read_relation(r), Measurement(numbers, ())) for r in ("a < 2", "a >= 2", "a < b", "a < 3 * b")]
    [True, False, None, True]
    """
    for name in relation.names:
        if name not in found.numbers:
            wanted = ", ".join(found.numbers)
            near = nearest(name, found.numbers)
            raise ClaimError(
                "nothing of this name is measured", field="relation", found=name, expected=wanted, near=near
            )
    if _cannot_fail(relation, found.numbers):
        wanted = "a relation that some measurement would break"
        raise ClaimError("this relation cannot fail", field="relation", found=relation.text, expected=wanted)
    (a, b), (c, d) = relation.left.interval(found.numbers), relation.right.interval(found.numbers)
    match relation.sign:
        case "<":
            return True if b < c else False if a >= d else None
        case "<=":
            return True if b <= c else False if a > d else None
        case ">":
            return True if a > d else False if b <= c else None
        case ">=":
            return True if a >= d else False if b < c else None
    return True if a == b == c == d else False if b < c or d < a else None


def _cannot_fail(relation: Relation, numbers: Mapping[str, Number]) -> bool:
    """Whether a relation holds for whatever its numbers could be."""
    (a, b), (c, d) = relation.left.span(numbers), relation.right.span(numbers)
    return {"<": b < c, "<=": b <= c, ">": a > d, ">=": a >= d, "==": False}[relation.sign]
