"""Syntax tree to SymPy: the second reading of the same text.

A matrix expression left of ``@`` is taken apart until only ``lin(W, v)`` and ``lin(transpose(W), v)`` with single
matrices are left: (U @ W) v = U (W v), (V - V.T) v = V v - V.T v, (r*V) v = r * (V v), (r*V).T v = V.T (r * v).
"""

from __future__ import annotations

from sympy import Expr, I, Integer, Pow, Rational, nan, oo, pi, zoo

from derive.algebra import tree_size
from derive.dimensions import is_scaling
from derive.errors import CellError, Position
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.roles import shift_of
from derive.signs import holds, signs
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree
from derive.tokens import LIMITS
from derive.write import write

__all__ = ["Lowering", "lower"]

MAX_OPERATIONS = 2_000


def _raised(base: Expr, exponent: int) -> Expr:
    """``base ** exponent``; SymPy would ask of a sum, at any cost, whether it is infinite, and leave it as it is."""
    if base.is_Pow and base.exp.is_Integer:
        base, exponent = base.base, int(base.exp) * exponent
    return Pow(base, exponent, evaluate=False) if base.is_Add and exponent not in (0, 1) else base**exponent


def _shown(expression: Expr) -> str:
    return write(expression) if tree_size(expression) < 100 else "..."


class Lowering:
    """Trees of one cell to expressions in generic entries; each tree is read once.

    ``parameters`` maps each parameter to its sizes.
    """

    def __init__(self, parameters: dict[str, tuple[str, ...]]) -> None:
        self.scalars = {name: "scalar" for name, shape in parameters.items() if shape == ()}
        self.size: dict[Expr, int] = {}
        self.known: dict[int, Expr] = {}  # by the identity of a tree: trees are deep, so neither hashed nor compared

    def checked(self, expression: Expr, tree: Tree) -> Expr:
        """``expression``, if it is small enough to work with."""
        if tree_size(expression, self.size) > MAX_OPERATIONS:
            wanted = f"at most {MAX_OPERATIONS} operations an equation; name a part of it"
            raise CellError("the equation is too large", tree.position, expected=wanted)
        for part in (expression, *expression.args):
            number = part.as_coeff_Mul()[0]
            if max(abs(number.p), number.q) >= LIMITS.number:
                wanted = f"at most {LIMITS.digits + LIMITS.decimal_exponent} digits"
                raise CellError("a number is out of range", tree.position, expected=wanted)
            if part.is_Pow and abs(part.exp) > LIMITS.power:
                wanted = f"at most {LIMITS.power}"
                raise CellError("the exponent is too large", tree.position, found=str(part.exp), expected=wanted)
        return expression

    def vector(self, tree: Tree) -> Expr:
        """The value of a vector or scalar tree; raises :class:`CellError` for what is visibly undefined."""
        known = self.known.get(id(tree))
        if known is None:
            known = self.known[id(tree)] = self.checked(self.pointwise(tree), tree)
        return known

    def pointwise(self, tree: Tree) -> Expr:
        """One node of a tree, its parts read already or now."""
        match tree:
            case Number(value=value):
                return Rational(value.numerator, value.denominator)
            case Name(name=name):
                return pi if name == "pi" else parameter(name)
            case Indexed(name=name):
                return at(name, shift_of(tree))
            case Negative(operand=x):
                return -self.vector(x)
            case Power(base=base, exponent=n):
                return self.power(self.vector(base), n, tree.position)
            case Call(name=name, arguments=(x,)):
                return self.call(name, self.vector(x), tree.position)
            case Binary(sign="@", left=left, right=right):
                return self.product(left, self.vector(right), transposed=False)
            case Binary(sign=sign, left=left, right=right):
                return self.binary(sign, self.vector(left), self.vector(right), right.position)
        raise CellError("this has no value", tree.position, expected="a vector or a scalar")

    def binary(self, sign: str, a: Expr, b: Expr, position: Position) -> Expr:
        """``a sign b``, entry by entry."""
        if sign == "+":
            return a + b
        if sign == "-":
            return a - b
        if sign == "*":  # SymPy would ask of 0*b whether b is finite, at any cost
            return Integer(0) if a == 0 or b == 0 else a * b
        self.check_divisor(b, position)
        return a * _raised(b, -1)

    @staticmethod
    def check_divisor(e: Expr, position: Position) -> None:
        """Refuse what is 0, or a constant that may be."""
        if holds(e, "!= 0") is False:
            why = "division by zero" if signs(e) == {0} else "this divisor cannot be told from 0"
            raise CellError(why, position, found=_shown(e), expected="a divisor that is not 0")

    def power(self, base: Expr, exponent: int, position: Position) -> Expr:
        """``base ** exponent``."""
        if exponent < 0:
            self.check_divisor(base, position)
        return _raised(base, exponent)

    def call(self, name: str, x: Expr, position: Position) -> Expr:
        """``name(x)``."""
        if FUNCTIONS[name].positive and holds(x, "> 0") is False:
            why = "sqrt has no derivative at 0" if name == "sqrt" and x == 0 else f"{name} is undefined here"
            why = f"the argument of {name} cannot be told to be positive" if 1 in signs(x) else why
            raise CellError(why, position, found=f"{name}({_shown(x)})", expected="a positive argument")
        return FUNCTIONS[name](x)

    def product(self, matrix: Tree, v: Expr, *, transposed: bool) -> Expr:
        """(matrix) v, or (matrix).T v."""
        match matrix:
            case Name(name=name):
                w = parameter(name)
                out = lin(transpose(w) if transposed else w, v)
            case Negative(operand=x):
                out = -self.product(x, v, transposed=transposed)
            case Transposed(operand=x):
                out = self.product(x, v, transposed=not transposed)
            case Binary(sign="+" | "-" as sign, left=a, right=b):
                first, second = (self.product(x, v, transposed=transposed) for x in (a, b))
                out = self.binary(sign, first, second, matrix.position)
            case Binary(sign="@", left=a, right=b):
                outer, inner = (b, a) if transposed else (a, b)
                out = self.product(outer, self.product(inner, v, transposed=transposed), transposed=transposed)
            case Binary(sign="/", left=a, right=scale):
                out = self.binary("/", self.product(a, v, transposed=transposed), self.vector(scale), scale.position)
            case Binary(sign="*", left=a, right=b):
                if is_scaling(b, self.scalars) and not is_scaling(a, self.scalars):
                    a, b = b, a
                out = self.scaled(self.vector(a), b, v, transposed)
            case _:
                raise CellError("this is not a matrix", matrix.position, expected="a matrix expression left of '@'")
        return self.checked(out, matrix)

    def scaled(self, scale: Expr, matrix: Tree, v: Expr, transposed: bool) -> Expr:
        """(scale*matrix) v, or its transpose's product."""
        if transposed:
            return self.product(
                matrix, self.checked(self.binary("*", scale, v, matrix.position), matrix), transposed=True
            )
        return self.binary("*", scale, self.product(matrix, v, transposed=False), matrix.position)

    def equation(self, tree: Tree) -> Expr:
        """The right side of an equation."""
        expression = self.vector(tree)
        if expression.has(nan, zoo, oo, -oo, I):
            raise CellError("this is undefined", tree.position, found=_shown(expression), expected="a finite value")
        return expression


def lower(tree: Tree, parameters: dict[str, tuple[str, ...]]) -> Expr:
    """The right side of an equation as a SymPy expression in generic entries.

    ``parameters`` maps each parameter to its sizes.  Raises :class:`CellError` for what is visibly undefined.
    """
    return Lowering(parameters).equation(tree)
