"""Coefficients of the polynomials that stand for functions, computed when they are needed and nowhere written down.

A polynomial interpolates its function at the Chebyshev points of an interval, with 300 bits; its largest error is then
within a small factor of the best polynomial's (L. N. Trefethen, "Approximation Theory and Approximation Practice", SIAM
2013, chapter 16).  Only then are the coefficients rounded to float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any

import flint

from derive.balls import precision

__all__ = ["CURVES", "coefficients", "parts"]

_BITS = 300
_FLINT = Lock()  # its precision is global


def _atanh_tail(v: Any) -> Any:
    """(atanh(s) / s - 1) / v at v = s^2."""
    s = v.sqrt()
    return (((1 + s) / (1 - s)).log() / (2 * s) - 1) / v


ERFCX_CENTRE = 2  # u = (x - 2) / (x + 2)


def _erfcx(u: Any) -> Any:
    """exp(x^2) erfc(x) at x = 2 (1 + u) / (1 - u)."""
    x = ERFCX_CENTRE * (1 + u) / (1 - u)
    return (x * x).exp() * x.erfc()


#: What is interpolated, as functions of balls; each is smooth on its interval.
CURVES: dict[str, Callable[[Any], Any]] = {
    "exp": lambda r: flint.arb(1) / 2 if r.contains(0) else (r.exp() - 1 - r) / r**2,
    "atanh": _atanh_tail,
    "sin": lambda v: (v.sqrt().sin() / v.sqrt() - 1) / v,
    "cos": lambda v: (v.sqrt().cos() - 1 + v / 2) / v**2,
    "erf": lambda v: v.sqrt().erf() / v.sqrt(),
    "erfcx": _erfcx,
}


@lru_cache(maxsize=64)
def coefficients(curve: str, low: float, high: float, count: int) -> tuple[float, ...]:
    """``count`` coefficients, the constant first, for one of ``CURVES`` from ``low`` to ``high``."""
    with _FLINT, precision(_BITS):
        angles = [(flint.arb(2 * i + 1) / (2 * count) * flint.arb.pi()).cos() for i in range(count)]
        middle, half = (flint.arb(high) + flint.arb(low)) / 2, (flint.arb(high) - flint.arb(low)) / 2
        points = [middle + half * a for a in angles]
        powers = flint.arb_mat([[x**k for k in range(count)] for x in points])
        values = flint.arb_mat([[CURVES[curve](x)] for x in points])
        solved = powers.solve(values)
        return tuple(float(solved[k, 0].mid()) for k in range(count))


@lru_cache(maxsize=64)
def parts(constant: str, *bits: int) -> tuple[float, ...]:
    """ln 2 or pi/2 as a sum of numbers of so many bits each, so that small multiples of all but the last are exact."""
    with _FLINT, precision(_BITS):
        rest = flint.arb(2).log() if constant == "ln2" else flint.arb.pi() / 2
        out = []
        for n in bits:
            scale = flint.arb(2) ** (n - int((rest.log() / flint.arb(2).log()).floor().unique_fmpz()) - 1)
            part = (rest * scale).floor().unique_fmpz()
            out.append(float(flint.arb(part) / scale))
            rest = rest - flint.arb(part) / scale
        return tuple(out)
