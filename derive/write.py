"""SymPy to text in the cell language: the inverse of reading.

    text -> tree -> SymPy -> text

Every expression that the language can say is written so that reading it again gives the same expression.
"""

from __future__ import annotations

import sympy
from sympy import Expr, Symbol

from derive.notation import FUNCTIONS, lin, matrix_of

__all__ = ["write"]

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)

# SymPy's own functions, as the language calls them.
_BUILTIN = {
    sympy.tanh: "tanh", sympy.exp: "exp", sympy.log: "log", sympy.sin: "sin", sympy.cos: "cos",
    sympy.Abs: "abs", sympy.erf: "erf",
}  # fmt: skip


def write(expression: Expr) -> str:
    """``expression`` in the cell language.

    Raises ValueError for what the language cannot say.

    >>> from derive.notation import at, parameter, lin, FUNCTIONS
    >>> write(FUNCTIONS["tanh"](lin(parameter("W"), at("h", -1)) + parameter("b")))
    'tanh(b + W @ h[t-1])'
    """
    return _write(sympy.sympify(expression, strict=True), _SUM)


def _write(e: Expr, level: int) -> str:
    text, own = _parts(e)
    return f"({text})" if own < level else text


def _parts(e: Expr) -> tuple[str, int]:
    """Text of an expression and how tightly it binds."""
    if isinstance(e, Symbol):
        return e.name, _ATOM
    if e is sympy.pi:
        return "pi", _ATOM
    if e.is_Rational:
        return _rational(e)
    if e.is_Add:
        return _add(e), _SUM
    if e.is_Mul:
        return _mul(e)
    if e.is_Pow:
        return _pow(e)
    if isinstance(e, lin):
        name, transposed = matrix_of(e)
        # As in Python, '@' and '*' bind alike and from the left, so the vector needs brackets unless it is one thing.
        return f"{name}{'.T' if transposed else ''} @ {_write(e.args[1], _UNARY)}", _PRODUCT
    name = _BUILTIN.get(e.func, type(e).__name__)
    if len(e.args) == 1 and (name in FUNCTIONS or name[1:] in FUNCTIONS):
        return f"{name}({_write(e.args[0], _SUM)})", _ATOM
    raise ValueError(
        f"the cell language cannot say {e!r}; expected sums, products, integer powers, lin and {', '.join(FUNCTIONS)}"
    )


def _rational(e: Expr) -> tuple[str, int]:
    if e.q == 1:
        return str(e.p), _ATOM if e.p >= 0 else _UNARY
    return f"{e.p}/{e.q}", _PRODUCT


def _add(e: Expr) -> str:
    terms = sorted(e.as_ordered_terms(), key=lambda term: bool(term.could_extract_minus_sign()))
    text = _write(terms[0], _PRODUCT)
    for term in terms[1:]:
        if term.could_extract_minus_sign():
            text += f" - {_write(-term, _UNARY if (-term).is_Add else _PRODUCT)}"
        else:
            text += f" + {_write(term, _PRODUCT)}"
    return text


def _mul(e: Expr) -> tuple[str, int]:
    if e.could_extract_minus_sign():
        return f"-{_write(-e, _UNARY)}", _UNARY
    above, below = e.as_numer_denom()
    if below.is_Number and not (above.is_Number or above.is_Mul):
        return f"{_write(above, _UNARY)}/{_write(below, _POWER)}", _PRODUCT
    factors = sympy.Mul.make_args(above)
    text = "*".join(_write(f, _UNARY) for f in factors)
    for f in sympy.Mul.make_args(below):
        text += f"/{_write(f, _POWER)}" if f != 1 else ""
    return text, _PRODUCT


def _pow(e: Expr) -> tuple[str, int]:
    if e.exp == sympy.Rational(1, 2):
        return f"sqrt({_write(e.base, _SUM)})", _ATOM
    if not e.exp.is_Integer:
        raise ValueError(f"the cell language cannot say {e!r}; expected a power by an integer")
    if e.exp == -1:
        return f"1/{_write(e.base, _POWER)}", _PRODUCT
    return f"{_write(e.base, _ATOM)}**{e.exp}", _POWER
