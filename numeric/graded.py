"""A product of triangular matrices over thousands of steps, and its singular values, without overflow.

The product is kept as  diag(2^e) M,  the rows of M of size one and e integers of any size.  Its singular values come
from one-sided Jacobi rotations of the rows, which never mix the scales of two rows: with rows x 2^p and y 2^q, q <= p,

    a = x.x,  b = y.y,  g = x.y,  d = q - p,   w = 2^(d+1) g / (b 4^d - a),   tau = w 2^-d / (1 + sqrt(1 + w^2))
    x' = c (x - 4^d tau y),    y' = c (y + tau x),    c = 1 / sqrt(1 + 4^d tau^2)

and a row far below another is only made orthogonal to it; a QR of M.T beforehand leaves few rotations to do.  The
relative error of every singular value, the smallest included, is about u times the condition number of M alone,
whatever the exponents e.

J. Demmel, K. Veselic, "Jacobi's method is more accurate than QR", SIAM Journal on Matrix Analysis and Applications 13
(1992) 1204-1245; G. W. Stewart, "On graded QR decompositions of products of matrices", Electronic Transactions on
Numerical Analysis 3 (1995) 39-49.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from numeric.arguments import Array

__all__ = ["LOG2", "Graded"]

LOG2 = float(np.log(2.0))
SWEEPS = 40

#: Exponents beyond this are zero or infinite in any arithmetic with numbers of size one.
FAR = 2_000


class Graded:
    """diag(2^exponents) rows, an (n, n) matrix; at first the identity."""

    def __init__(self, size: int) -> None:
        self.rows = np.eye(size)
        self.exponents = np.zeros(size, np.int64)

    def multiply(self, r: Array) -> None:
        """Put an upper triangular matrix to the left."""
        size = np.where(r != 0, np.frexp(r)[1] + self.exponents, np.iinfo(np.int64).min // 2).max(axis=1)
        size[size < np.iinfo(np.int64).min // 4] = 0
        weights = _times_power(r, self.exponents - size[:, None])
        self.rows, self.exponents = _normal(weights @ self.rows, size)

    def log_singular_values(self) -> Array:
        """Natural logarithms of the singular values (n,), the largest first; -inf for zero."""
        rows, exponents = self._turned()
        for _ in range(SWEEPS):
            worst = 0.0
            for first, second in _rounds(len(rows)):
                worst = max(worst, _rotate(rows, exponents, first, second))
                rows, exponents = _normal(rows, exponents)
            if worst <= len(rows) * np.finfo(np.float64).eps:
                break
        with np.errstate(divide="ignore"):
            found = np.log(np.linalg.norm(rows, axis=1)) + exponents * LOG2
        return np.sort(found)[::-1]

    def _turned(self) -> tuple[Array, Array]:
        """The transpose times an orthogonal matrix, whose rows are nearly orthogonal where the exponents differ.

        With M.T = Q N, N upper triangular, (2^e M).T = Q N 2^e; e descends.
        """
        order = np.argsort(-self.exponents, kind="stable")
        e = self.exponents[order]
        _, n = np.linalg.qr(self.rows[order].T)
        return _normal(_times_power(n, e - e[:, None]), e)


def _times_power(x: Array, e: Array) -> Array:
    return np.ldexp(x, np.clip(e, -FAR, FAR).astype(np.int32))


def _normal(rows: Array, exponents: Array) -> tuple[Array, Array]:
    """The same matrix with the largest entry of each row in [1/2, 1)."""
    e = np.frexp(np.abs(rows).max(axis=1))[1]
    return np.ldexp(rows, -e[:, None]), exponents + e


def _rounds(n: int) -> Iterator[tuple[Array, Array]]:
    """All pairs of n rows, in rounds of disjoint pairs: one stays, the others go round (the circle method)."""
    players = np.arange(n + n % 2)
    half = len(players) // 2
    for _ in range(len(players) - 1):
        pairs = np.stack([players[:half], players[half:][::-1]])
        yield tuple(pairs[:, (pairs < n).all(axis=0)])
        players[1:] = np.roll(players[1:], 1)


def _rotate(rows: Array, exponents: Array, first: Array, second: Array) -> float:
    """Make each pair of rows orthogonal; returns the largest cosine that there was between two."""
    squares = (rows * rows).sum(axis=1)
    with np.errstate(divide="ignore"):
        size = exponents + 0.5 * np.log2(squares)
    swap = size[first] < size[second]
    p, q = np.where(swap, second, first), np.where(swap, first, second)
    a, b, g = squares[p], squares[q], (rows[p] * rows[q]).sum(axis=1)
    live = (a > 0) & (b > 0) & (g != 0)
    if not live.any():
        return 0.0
    p, q, a, b, g = p[live], q[live], a[live], b[live], g[live]
    d = exponents[q] - exponents[p]
    less = a - _times_power(b, 2 * d)
    equal = less <= 0  # but for rounding, as p is the larger one
    slope = -2 * g / np.where(equal, 1, less)  # w 2^-d
    turned = slope / (1 + np.hypot(1, _times_power(slope, d)))
    tau = np.where(equal, _times_power(-np.sign(g), np.where(equal, -d, 0)), turned)
    down = _times_power(tau, 2 * d)
    c = (1 / np.sqrt(1 + down * tau))[:, None]
    x, y = rows[p], rows[q]
    rows[p], rows[q] = c * (x - down[:, None] * y), c * (y + tau[:, None] * x)
    return float((np.abs(g) / np.sqrt(a * b)).max())
