"""Exact arithmetic at one random point: integers modulo a prime, function values drawn by lot.

A difference that is not zero at a point is not zero.  A difference that is zero at a random point is zero but for a
chance of (degree / 2^61): evidence, not proof, at sizes where polynomials would be too large.  (J. T. Schwartz, "Fast
probabilistic algorithms for verification of polynomial identities", Journal of the ACM 27 (1980) 701-717.)
"""

from __future__ import annotations

import random
from typing import Any

from sympy import Expr, pi

from derive.algebra import CLOSED

__all__ = ["PRIME", "Residue", "Sample"]

PRIME = 2**61 - 1


class Residue:
    """An integer modulo :data:`PRIME`."""

    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n % PRIME

    def __add__(self, other: Any) -> Residue:
        return Residue(self.n + (other.n if isinstance(other, Residue) else other))

    def __sub__(self, other: Any) -> Residue:
        return Residue(self.n - (other.n if isinstance(other, Residue) else other))

    def __rsub__(self, other: int) -> Residue:
        return Residue(other - self.n)

    def __mul__(self, other: Any) -> Residue:
        return Residue(self.n * (other.n if isinstance(other, Residue) else other))

    def __truediv__(self, other: Any) -> Residue:
        return self * Residue(other if isinstance(other, int) else other.n).inverse()

    def __rtruediv__(self, other: int) -> Residue:
        return other * self.inverse()

    def __pow__(self, n: int) -> Residue:
        return Residue(pow(self.n, n, PRIME))

    def __neg__(self) -> Residue:
        return Residue(-self.n)

    __radd__, __rmul__ = __add__, __mul__

    def inverse(self) -> Residue:
        """1/n; raises ZeroDivisionError for zero."""
        if self.n == 0:
            raise ZeroDivisionError("division by a value that is zero at the random point")
        return Residue(pow(self.n, -1, PRIME))

    @property
    def is_zero(self) -> bool:
        """Whether this is zero at the point."""
        return self.n == 0


class Sample:
    """The algebra of values at one random point; every symbol and every function value is drawn once, by ``seed``."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.symbols: dict[object, Residue] = {}

    def draw(self, *key: object) -> Residue:
        """A residue drawn once for its key."""
        return Residue(random.Random(f"{self.seed}/{key}").getrandbits(61))

    def generator(self, key: object) -> Residue:
        """The value of a symbol."""
        if key not in self.symbols:
            self.symbols[key] = self.draw("symbol", str(key))
        return self.symbols[key]

    def number(self, value: Expr) -> Residue:
        """A rational number; pi is drawn."""
        return self.draw("pi") if value is pi else Residue(int(value.p)) / Residue(int(value.q))

    def call(self, name: str, x: Any) -> Residue:
        """A function value: by its closed form, or drawn, the same for the same argument."""
        if name in CLOSED:
            return CLOSED[name](x, self.call)
        return self.draw(name, x.n if isinstance(x, Residue) else x)
