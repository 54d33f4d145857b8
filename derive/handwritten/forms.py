"""Matrices for every size: sums of words over the free algebra of entries.

    diag(m0) W diag(m1) W' ... diag(mn)     or     u v.T

with monomials between the letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from derive.handwritten.ring import Letter, Number, Poly, Ring, product
from derive.zero import BudgetError

__all__ = ["Form", "diag", "identity", "outer", "word"]


def word(ring: Ring, *letters: Letter) -> Form:
    """A product of matrices."""
    return Form(ring, {(*(x for letter in letters for x in ((), letter)), ()): 1})


def identity(ring: Ring) -> Form:
    """The identity matrix."""
    return Form(ring, {((),): 1})


def diag(v: Poly) -> Form:
    """The diagonal matrix of a vector."""
    return Form(v.ring, {(mono,): c for mono, c in v.terms.items()})


def outer(u: Poly, v: Poly) -> Form:
    """u v.T."""
    ring = u.ring
    terms: dict[Any, Number] = {}
    for a, c in u.terms.items():
        for b, e in v.terms.items():
            scalar, inner = ring.split(b)
            key = (product(a, scalar), None, inner)
            terms[key] = terms.get(key, 0) + c * e
    return Form(ring, terms).checked()


def _flipped(letter: Letter | None) -> Letter | None:
    return None if letter is None else (letter[0], not letter[1])


class Form:
    """A matrix: words from left to right, monomials between letters; a word with None in the middle is u v.T.

    Scalars stand in a word's first monomial.
    """

    __slots__ = ("ring", "terms")

    def __init__(self, ring: Ring, terms: Mapping[Any, Number]) -> None:
        self.ring = ring
        self.terms = {k: c for k, c in terms.items() if c}

    def checked(self) -> Form:
        """This, if it is small enough to work with."""
        if len(self.terms) > self.ring.max_terms:
            raise BudgetError(f"more than {self.ring.max_terms:,} words")
        return self

    def __add__(self, other: Any) -> Form:
        if not isinstance(other, Form):
            return NotImplemented
        terms = dict(self.terms)
        for key, value in other.terms.items():
            terms[key] = terms.get(key, 0) + value
        return Form(self.ring, terms).checked()

    def __neg__(self) -> Form:
        return Form(self.ring, {k: -c for k, c in self.terms.items()})

    def __sub__(self, other: Form) -> Form:
        return self + (-other)

    def __mul__(self, scale: Any) -> Form:
        """Times a scalar."""
        if not isinstance(scale, Poly | int | Fraction):
            return NotImplemented
        if not isinstance(scale, Poly):
            return Form(self.ring, {k: c * scale for k, c in self.terms.items()})
        terms: dict[Any, Number] = {}
        for mono, value in scale.terms.items():
            for word, c in self.terms.items():
                key = (product(word[0], mono), *word[1:])
                terms[key] = terms.get(key, 0) + value * c
        return Form(self.ring, terms).checked()

    __rmul__ = __mul__

    def __truediv__(self, scale: Any) -> Form:
        return self * self.ring.divide(scale if isinstance(scale, Poly) else self.ring.constant(scale))

    @property
    def T(self) -> Form:
        """The transpose."""
        return self._sum(self._reversed(word) for word in self.terms)

    def _sum(self, words: Iterable[Any]) -> Form:
        out: dict[Any, Number] = {}
        for word, value in zip(words, self.terms.values(), strict=True):
            out[word] = out.get(word, 0) + value
        return Form(self.ring, out)

    def _reversed(self, word: Any) -> Any:
        scalar, first = self.ring.split(word[0])
        turned: Any = tuple(_flipped(x) if i % 2 else x for i, x in enumerate((first, *word[1:])))[::-1]
        return (product(turned[0], scalar), *turned[1:])

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Poly):
            return self.applied(other)
        return self.multiplied(other) if isinstance(other, Form) else NotImplemented

    def applied(self, v: Poly) -> Poly:
        """This matrix times a vector."""
        out = self.ring.constant(0)
        for word, value in self.terms.items():
            out = out + self._word_applied(word, v) * value
        return out

    def _word_applied(self, word: Any, v: Poly) -> Poly:
        ring = self.ring
        out = v * Poly(ring, {word[-1]: 1})
        for i in range(len(word) - 2, 0, -2):
            inner = out
            out = ring.dot(inner, ring.constant(1)) if word[i] is None else ring.lin(word[i], inner)
            out = out * Poly(ring, {word[i - 1]: 1})
        return out

    def multiplied(self, other: Form) -> Form:
        """The product of two matrices."""
        if len(self.terms) * len(other.terms) > self.ring.max_terms:
            raise BudgetError(f"a product of {len(self.terms)} and {len(other.terms)} words")
        terms: dict[Any, Number] = {}
        for left, c in self.terms.items():
            for right, e in other.terms.items():
                for word, value in self._words_multiplied(left, right).terms.items():
                    terms[word] = terms.get(word, 0) + value * c * e
        return Form(self.ring, terms).checked()

    def _words_multiplied(self, left: Any, right: Any) -> Form:
        ring = self.ring
        if None in left:  # u (v.T M) = u (M.T v).T
            v = Form(ring, {self._reversed(right): 1}).applied(Poly(ring, {left[2]: 1}))
            return outer(Poly(ring, {left[0]: 1}), v)
        if None in right:  # (M u) v.T
            return outer(self._word_applied(left, Poly(ring, {right[0]: 1})), Poly(ring, {right[2]: 1}))
        scalar, first = ring.split(right[0])
        joined = (*left[:-1], product(left[-1], first), *right[1:])
        return Form(ring, {(product(joined[0], scalar), *joined[1:]): 1})

    @property
    def is_zero(self) -> bool:
        """Whether no word is left."""
        return not self.terms
