"""The signs of the cell language: time-indexed symbols, the product ``lin(W, v)`` and the functions a cell may use.

Every vector is one real SymPy symbol that stands for its entry at a generic index k; SymPy arithmetic on such symbols
is pointwise arithmetic on vectors.  ``lin(W, v)`` is the entry (W v)_k, opaque to SymPy, and the functions below never
evaluate themselves: what the author wrote stays visible, and no constant can grow while an expression is being built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy
from sympy import Expr, Function, Integer, Rational, Symbol

__all__ = [
    "FUNCTIONS",
    "PRIMES",
    "Elementary",
    "applications",
    "at",
    "column",
    "diag",
    "entry_sum",
    "lin",
    "matrix",
    "matrix_of",
    "outer",
    "parameter",
    "time_of",
    "time_sum",
    "transpose",
]


@cache
def at(name: str, shift: int = 0) -> Symbol:
    """The vector ``name`` at time t + shift, as its entry at a generic index.

    >>> at("h", -1)
    h[t-1]
    """
    return Symbol(f"{name}[t{shift:+d}]" if shift else f"{name}[t]", real=True)


@cache
def parameter(name: str) -> Symbol:
    """A parameter: a matrix when it is the first argument of :class:`lin`, otherwise a vector or a scalar."""
    return Symbol(name, real=True)


def time_of(symbol: Symbol) -> tuple[str, int | None]:
    """Name and time shift of a symbol; the shift is None for a parameter.

    >>> time_of(at("c", -1)), time_of(parameter("b"))
    (('c', -1), ('b', None))
    """
    name, bracket, index = symbol.name.partition("[")
    return (name, int(index[1:-1] or "0")) if bracket else (name, None)


class transpose(Function):  # noqa: N801 - a mathematical sign, named as it is written
    """W.T, only as the first argument of :class:`lin`."""

    nargs = 1


class lin(Function):  # noqa: N801
    """(W v)_k, the matrix-vector product at a generic index; opaque to SymPy's calculus."""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> Expr:
        """Refuse: a scalar derivative of a matrix product has no meaning at one index."""
        raise TypeError("lin(W, v) has no pointwise derivative; its adjoint rule is in derive.adjoint")


def matrix_of(product: Expr) -> tuple[str, bool]:
    """Name of the matrix of a ``lin`` and whether it is transposed."""
    matrix = product.args[0]
    if isinstance(matrix, transpose):
        return matrix.args[0].name, True
    return matrix.name, False


@dataclass(frozen=True)
class Elementary:
    """One function of the cell language, with what the proof has to trust about it.

    ``prime`` is the derivative at x as it is computed; ``closed`` says the same derivative with elementary signs only,
    as a function of (x, f(x)), which is what papers print and what the proof computes with.
    """

    name: str
    prime: Callable[[Expr], Expr]
    closed: Callable[[Expr, Expr], Expr]
    builtin: Callable[[Expr], Expr]  # the same function in SymPy's own terms
    latex: str
    kink: bool = False  # no derivative at 0
    positive: bool = False  # needs a positive argument

    def __call__(self, x: Expr) -> Expr:
        """Apply the function to an expression."""
        return _CLASSES[self.name](x)


_CLASSES: dict[str, Any] = {}


def _define(name: str, derivative: Callable[[Expr], Expr]) -> Any:
    """A SymPy function that never evaluates and differentiates by ``derivative``."""

    def fdiff(self: Any, argindex: int = 1) -> Expr:
        return derivative(self.args[0])

    def as_builtin(self: Any, **_: Any) -> Expr:
        return (FUNCTIONS[name].builtin if name in FUNCTIONS else PRIMES[name])(self.args[0].doit())

    def evalf(self: Any, precision: int) -> Expr:
        return as_builtin(self)._eval_evalf(precision)

    body: dict[str, Any] = {
        "nargs": 1,
        "fdiff": fdiff,
        "doit": as_builtin,
        "_eval_evalf": evalf,
        "__module__": __name__,
    }
    # Real, and no more than that: were it a number, SymPy would evaluate exp(exp(exp(100))) to see its sign.
    body |= {"is_real": True, "is_number": False}
    _CLASSES[name] = type(name, (Function,), body)
    return _CLASSES[name]


def __getattr__(name: str) -> Any:
    """The functions of the language by their names, which is how expressions are pickled."""
    if name in _CLASSES:
        return _CLASSES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _sign(name: str) -> Callable[[Expr], Expr]:
    """The function of a name, looked up when it is applied: the rows below refer to one another."""

    def apply(x: Expr) -> Expr:
        return _CLASSES[name](x)

    return apply


_HALF = Rational(1, 2)

# One row a function.  The derivatives that need their own accurate numerics (dtanh, dsigmoid, ...) are functions too.
_TABLE = (
    Elementary("tanh", _sign("dtanh"), lambda x, y: 1 - y**2, sympy.tanh, r"\tanh"),
    Elementary("sigmoid", _sign("dsigmoid"), lambda x, y: y * (1 - y), lambda x: 1 / (1 + sympy.exp(-x)), r"\sigma"),
    Elementary(
        "relu",
        _sign("drelu"),
        lambda x, y: _sign("drelu")(x),
        lambda x: sympy.Max(x, 0),
        r"\operatorname{relu}",
        kink=True,
    ),
    Elementary(
        "softplus",
        _sign("sigmoid"),
        lambda x, y: _sign("sigmoid")(x),
        lambda x: sympy.log(1 + sympy.exp(x)),
        r"\operatorname{softplus}",
    ),
    Elementary("exp", _sign("exp"), lambda x, y: y, sympy.exp, r"\exp"),
    Elementary("log", lambda x: 1 / x, lambda x, y: 1 / x, sympy.log, r"\log", positive=True),
    Elementary("sin", _sign("cos"), lambda x, y: _sign("cos")(x), sympy.sin, r"\sin"),
    Elementary("cos", lambda x: -_sign("sin")(x), lambda x, y: -_sign("sin")(x), sympy.cos, r"\cos"),
    Elementary(
        "sqrt",
        lambda x: _HALF / _sign("sqrt")(x),
        lambda x, y: _HALF / y,
        sympy.sqrt,
        r"\operatorname{sqrt}",
        positive=True,
    ),
    Elementary("abs", _sign("dabs"), lambda x, y: _sign("dabs")(x), sympy.Abs, r"\operatorname{abs}", kink=True),
    Elementary(
        "erf",
        _sign("derf"),
        lambda x, y: 2 * _sign("exp")(-(x**2)) / _sign("sqrt")(sympy.pi),
        sympy.erf,
        r"\operatorname{erf}",
    ),
    Elementary(
        "softsign",
        _sign("dsoftsign"),
        lambda x, y: (1 + _sign("abs")(x)) ** -2,
        lambda x: x / (1 + sympy.Abs(x)),
        r"\operatorname{softsign}",
    ),
)

FUNCTIONS: dict[str, Elementary] = {row.name: row for row in _TABLE}

for _row in _TABLE:
    _define(_row.name, _row.prime)

# The derivatives that are functions of their own: what each equals, in SymPy's own terms.
PRIMES: dict[str, Callable[[Expr], Expr]] = {
    "dtanh": lambda x: 1 - sympy.tanh(x) ** 2,
    "dsigmoid": lambda x: sympy.exp(-x) / (1 + sympy.exp(-x)) ** 2,
    "drelu": lambda x: sympy.Heaviside(x, 0),
    "dabs": sympy.sign,
    "derf": lambda x: 2 * sympy.exp(-(x**2)) / sympy.sqrt(sympy.pi),
    "dsoftsign": lambda x: (1 + sympy.Abs(x)) ** -2,
}

_define("dtanh", lambda x: -2 * _sign("tanh")(x) * _sign("dtanh")(x))
_define("dsigmoid", lambda x: (1 - 2 * _sign("sigmoid")(x)) * _sign("dsigmoid")(x))
_define("drelu", lambda x: Integer(0))
_define("dabs", lambda x: Integer(0))
_define("derf", lambda x: -2 * x * _sign("derf")(x))
_define("dsoftsign", lambda x: -2 * _sign("dabs")(x) * (1 + _sign("abs")(x)) ** -3)


def applications(expression: Expr) -> list[Expr]:
    """The applications of elementary functions in ``expression``, inner ones first."""
    found = [e for e in sympy.postorder_traversal(expression) if type(e) in _CLASSES.values()]
    return list(dict.fromkeys(found))


class outer(Function):  # noqa: N801
    """a b.T, a matrix; only under :class:`time_sum`."""

    nargs = 2


class time_sum(Function):  # noqa: N801
    """The sum over time (and over the sequences of the batch)."""

    nargs = 1


class entry_sum(Function):  # noqa: N801
    """The sum over entries: what a scalar parameter receives from a vector."""

    nargs = 1


class diag(Function):  # noqa: N801
    """The diagonal matrix of a vector; a matrix, so it does not commute."""

    nargs = 1
    is_commutative = False


class column(Function):  # noqa: N801
    """A vector at the right end of a product of matrices."""

    nargs = 1
    is_commutative = False


@cache
def matrix(name: str, transposed: bool = False) -> Symbol:
    """A parameter matrix as an operator in a product whose order matters."""
    return Symbol(f"{name}.T" if transposed else name, commutative=False)
