"""What a library computes in, measured: its name for a type proves nothing.

tanh(A B) of fixed matrices, in the type claimed, against the same in 64 bits more: an error of float32's size in what
is called float64 means that something on the way was float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from numeric.arguments import Array

__all__ = ["effective_dtype", "product_error"]


class Multiplies(Protocol):
    """Something that computes tanh(A B) in a type of its own."""

    @property
    def name(self) -> str:
        """What it is called."""

    def product(self, a: Array, b: Array, dtype: str) -> Array:
        """tanh(A B), in the type claimed."""


_SIZE = 24
#: Errors, relative to the largest term of a sum, below which a product may be one of the type.
_LIMITS = {"float64": 2.0**-44, "float32": 2.0**-16, "float16": 2.0**-5}
_KNOWN: dict[tuple[str, str], str] = {}


def effective_dtype(library: Multiplies, dtype: str) -> str:
    """The type in which a library computes what it calls ``dtype``: the widest that its error allows.

    "unknown" where there is none, or where the library refuses the type and returns NaN.  Measured once for each
    library's name and type.
    """
    key = (library.name, dtype)
    if key not in _KNOWN:
        error = product_error(library, dtype)
        fitting = [name for name, limit in _LIMITS.items() if error <= limit and _bits(name) <= _bits(dtype)]
        _KNOWN[key] = fitting[0] if fitting else "unknown"
    return _KNOWN[key]


def product_error(library: Multiplies, dtype: str) -> float:
    """The largest error of tanh(A B), whose terms are of size one, in the type claimed."""
    a, b = _matrices()
    found = library.product(a, b, dtype).astype(np.longdouble)
    return float(np.abs(found - np.tanh(a.astype(np.longdouble) @ b.astype(np.longdouble))).max())


def _bits(dtype: str) -> int:
    return int(dtype.removeprefix("float"))


@lru_cache(maxsize=1)
def _matrices() -> tuple[Array, Array]:
    """Numbers that float16 holds exactly, so that only the product is rounded; sums stay where tanh is steep."""
    random = np.random.default_rng(0)
    a, b = random.integers(-512, 512, (2, _SIZE, _SIZE)) / 512.0
    return a + 1 / 1024, b / _SIZE
