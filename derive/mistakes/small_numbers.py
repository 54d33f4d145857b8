"""Small rational numbers for every leaf, in balls: what differs there is certainly different.

Numbers have an order, which values modulo a prime have not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import flint
from sympy import Symbol

from derive.balls import Balls

__all__ = ["Numbers", "apart", "number"]


def number(name: object) -> str:
    """The rational number that a leaf or a cotangent has in a counterexample: drawn once for its name.

    >>> number("W_hh[1,1]")
    '-514/500'
    """
    source = random.Random(str(name))
    return f"{source.choice('+-')}{source.randint(1, 997)}/500"


class Numbers(Balls):
    """The algebra of balls, a leaf at its :func:`number`; ``named`` are those that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.named: dict[str, str] = {}

    def generator(self, symbol: object) -> Any:
        """The number of a leaf."""
        self.named[str(symbol)] = number(symbol)
        return flint.arb(flint.fmpq(*map(int, number(symbol).split("/"))))


def apart(derived: Mapping[Symbol, Any], right: Mapping[Symbol, Any]) -> Iterator[tuple[Symbol, Any, Any]]:
    """The entries at which the balls of two gradients do not meet; one that is not there is zero."""
    for s in dict.fromkeys((*derived, *right)):
        a, b = (flint.arb(gradient.get(s, 0)) for gradient in (derived, right))
        if a.is_finite() and b.is_finite() and not (a - b).contains(0):
            yield s, a, b
