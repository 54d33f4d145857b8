"""Sums of words as SymPy operator expressions: diagonals and matrices in products whose order matters."""

from __future__ import annotations

import sympy
from sympy import Add, Expr, Integer, Mul

from derive.notation import diag, matrix
from derive.words import Words, plain

__all__ = ["operator"]


def operator(words: Words) -> Expr:
    """A sum of words as a SymPy operator expression: diagonals and matrices in a product whose order matters."""
    terms: list[Expr] = []
    for letters, coefficient in words.items():
        parts = Add.make_args(coefficient)
        if not all(_by_slot(part) for part in parts):
            parts = Add.make_args(sympy.expand(coefficient))
        for part in parts:
            slots = _by_slot(part) or {0: part}
            factors: list[Expr] = []
            for k in range(len(letters), -1, -1):
                if k in slots and slots[k] != 1:
                    factors.append(diag(slots[k]))
                if k:
                    name, transposed = letters[k - 1]
                    factors.append(matrix(name.replace("d ", "d"), transposed))
            terms.append(
                Mul(slots.get(None, Integer(1)), *factors) if factors else Mul(slots.get(None, Integer(1)), IDENTITY)
            )
    return Add(*terms)


IDENTITY = matrix("I")


def _by_slot(product: Expr) -> dict[int | None, Expr] | None:
    """A product's factors by the slot they stand in (None: scalars); None where a factor mixes slots."""
    found: dict[int | None, Expr] = {}
    for factor in Mul.make_args(product):
        plains = {s: plain(s) for s in factor.free_symbols}
        slots = {k for _, k in plains.values() if k is not None}
        if len(slots) > 1:
            return None
        slot = slots.pop() if slots else None
        found[slot] = found.get(slot, Integer(1)) * factor.xreplace({s: p for s, (p, _) in plains.items()})
    return found
