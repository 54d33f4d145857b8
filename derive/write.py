"""SymPy to text in the cell language: the inverse of reading.

    text -> tree -> SymPy -> text

Every expression that the language can say is written so that reading it again gives the same expression.
"""

from __future__ import annotations

import re

import sympy
from sympy import Expr, Integer, Rational, Symbol

from derive.algebra import tree_size
from derive.notation import FUNCTIONS, PRIMES, lin, transpose
from derive.tokens import LIMITS

__all__ = ["write"]

_SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(5)

# SymPy's own functions, as the language calls them.
_BUILTIN = {
    sympy.tanh: "tanh", sympy.exp: "exp", sympy.log: "log", sympy.sin: "sin", sympy.cos: "cos",
    sympy.Abs: "abs", sympy.erf: "erf",
}  # fmt: skip

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(\[(?:[tT](?:[+-][0-9]+)?|[0-9]+)\])?")
_DEPTH = 2 * LIMITS.height
_ROW = LIMITS.height // 2  # a longer sum is written as a sum of sums


def write(expression: Expr) -> str:
    """``expression`` in the cell language.

    Raises ValueError for what the language cannot say.

    >>> from derive.notation import at, parameter, lin, FUNCTIONS
    >>> write(FUNCTIONS["tanh"](lin(parameter("W"), at("h", -1)) + parameter("b")))
    'tanh(b + W @ h[t-1])'
    """
    try:
        e = sympy.sympify(expression, strict=True)
    except sympy.SympifyError:
        raise _unsayable(expression, "a SymPy expression") from None
    if not isinstance(e, Expr):
        raise _unsayable(e, "an expression")
    _check_size(e)
    _check_exact(e)
    return _write(e, _SUM)


def _unsayable(e: object, expected: str) -> ValueError:
    return ValueError(f"the cell language cannot say {str(e)[:200]!r}; expected {expected}")


def _check_size(e: Expr) -> None:
    """Refuse what would not fit into a text: parts may be shared, and written out they are not."""
    level, depth = {e}, 0
    while level:
        level, depth = {a for part in level for a in part.args}, depth + 1
        if depth > _DEPTH:
            raise ValueError(f"the expression is nested too deeply; expected at most {_DEPTH} levels")
    if tree_size(e) > LIMITS.tokens:
        raise ValueError(f"the expression is too large; expected at most {LIMITS.tokens} parts")


def _check_exact(e: Expr) -> None:
    """Refuse floats, numbers too large to be written, and operators: a matrix stands in ``lin`` alone."""
    if e.has(sympy.Float):
        raise _unsayable(e, "exact numbers, such as sympy.Rational(1, 2) in place of 0.5")
    if any(max(abs(n.p), n.q) >= LIMITS.number for n in e.atoms(Rational)):
        raise ValueError(f"the cell language cannot say a number of more than {len(str(LIMITS.number)) - 1} digits")
    if not e.is_commutative:
        raise _unsayable(e, "vectors, which commute; a matrix stands in lin(W, v)")


def _write(e: Expr, level: int) -> str:
    text, own = _parts(e)
    return f"({text})" if own < level else text


def _parts(e: Expr) -> tuple[str, int]:
    """Text of an expression and how tightly it binds."""
    if isinstance(e, Symbol):
        return _name(e), _ATOM
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
        # As in Python, '@' and '*' bind alike and from the left, so the vector needs brackets unless it is one thing,
        # or a product itself: U @ V @ x is U (V x).
        matrix, v = e.args
        return f"{_matrix(matrix)} @ {_write(v, _PRODUCT if isinstance(v, lin) else _UNARY)}", _PRODUCT
    return _call(e), _ATOM


def _name(symbol: Expr) -> str:
    """A symbol's name, which may be no more than a name: text that is written is read again."""
    if not isinstance(symbol, Symbol) or _NAME.fullmatch(symbol.name) is None:
        raise _unsayable(symbol, "a name, such as derive.at('h', -1) or derive.parameter('W')")
    return str(symbol.name)


def _matrix(e: Expr) -> str:
    name = _name(e.args[0] if isinstance(e, transpose) else e)
    if "[" in name:
        raise _unsayable(e, "a parameter as the matrix of lin")
    return f"{name}.T" if isinstance(e, transpose) else name


def _call(e: Expr) -> str:
    if e is sympy.E:
        return "exp(1)"
    if e.func is sympy.Max and len(e.args) == 2 and 0 in e.args:
        return f"relu({_write(e.args[1 - e.args.index(0)], _SUM)})"
    name = _BUILTIN.get(e.func, type(e).__name__)
    if len(e.args) != 1 or (name not in FUNCTIONS and name not in PRIMES):
        raise _unsayable(e, f"sums, products, integer powers, lin and {', '.join(FUNCTIONS)}")
    return f"{name}({_write(e.args[0], _SUM)})"


def _rational(e: Rational) -> tuple[str, int]:
    if e < 0:
        return f"-{_write(-e, _PRODUCT)}", _PRODUCT
    if e.q != 1:
        return f"{_write(Integer(e.p), _PRODUCT)}/{_write(Integer(e.q), _POWER)}", _PRODUCT
    return _integer(int(e.p))


def _integer(n: int) -> tuple[str, int]:
    """Digits, as a sum of numbers where there are more than one number may have."""
    terms: list[str] = []
    while n >= 10**LIMITS.digits or not terms:
        below = max(0, len(str(n)) - LIMITS.digits)
        lead, n = divmod(n, 10**below)
        while below and lead % 10 == 0 and below < LIMITS.decimal_exponent:
            lead, below = lead // 10, below + 1
        terms.append(f"{lead}e{below}" if below else str(lead))
    terms += [str(n)] if n else []
    return " + ".join(terms), _ATOM if len(terms) == 1 else _SUM


def _is_negative(e: Expr) -> bool:
    return bool(e.as_coeff_Mul()[0] < 0)


def _add(e: Expr) -> str:
    terms = sorted(e.args, key=_is_negative)
    rows = [terms[i : i + _ROW] for i in range(0, len(terms), _ROW)]
    return _row(terms) if len(rows) == 1 else " + ".join(f"({_row(row)})" for row in rows)


def _row(terms: list[Expr]) -> str:
    text = _write(terms[0], _PRODUCT)
    for term in terms[1:]:
        text += f" - {_write(-term, _PRODUCT)}" if _is_negative(term) else f" + {_write(term, _PRODUCT)}"
    return text


def _mul(e: Expr) -> tuple[str, int]:
    if _is_negative(e):
        text = _write(-e, _PRODUCT)
        return f"-({text})" if text.startswith("(") else f"-{text}", _PRODUCT
    number, rest = e.as_coeff_Mul()
    above = sorted((f for f in sympy.Mul.make_args(rest) if not _is_divisor(f)), key=lambda f: f.is_Add)
    below = [1 / f for f in sympy.Mul.make_args(rest) if _is_divisor(f)]
    p, q = ([Integer(n)] if n != 1 else [] for n in (number.p, number.q))
    # Read from the left, a number next to a sum would be multiplied out: then it goes last.
    first, last = (p[:0], p) if above and above[0].is_Add else (p, p[:0])
    text = "*".join(_write(f, _UNARY) for f in (*first, *above)) or "1"
    text += "".join(f"/{_write(f, _POWER)}" for f in below)
    return text + "".join(f"*{_write(f, _UNARY)}" for f in last) + "".join(f"/{_write(f, _POWER)}" for f in q), _PRODUCT


def _is_divisor(e: Expr) -> bool:
    return bool(e.is_Pow and e.exp.is_Rational and e.exp < 0)


def _pow(e: Expr) -> tuple[str, int]:
    if not (2 * e.exp).is_Integer:
        raise _unsayable(e, "a power by an integer")
    if _is_divisor(e):
        return f"1/{_write(1 / e, _POWER)}", _PRODUCT
    if e.exp.is_Integer:
        return f"{_write(e.base, _ATOM)}**{e.exp}", _POWER
    root = f"sqrt({_write(e.base, _SUM)})"
    return (root, _ATOM) if e.exp == Rational(1, 2) else (f"{root}**{2 * e.exp}", _POWER)
