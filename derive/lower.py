"""Syntax tree to SymPy: the second reading of the same text.

A matrix expression left of ``@`` is taken apart until only ``lin(W, v)`` and ``lin(transpose(W), v)`` with single matrices
are left: (U @ W) v = U (W v), (V - V.T) v = V v - V.T v, (r*V) v = r * (V v), (r*V).T v = V.T (r * v).
"""

from __future__ import annotations

from sympy import Expr, Rational, pi, preorder_traversal

from derive.dimensions import is_scaling
from derive.errors import CellError, Position
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.roles import shift_of
from derive.syntax import LIMITS, Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree

__all__ = ["lower"]

MAX_OPERATIONS = 4_000
MAX_BITS = 4_000


class _Lowering:
    def __init__(self, kinds: dict[str, tuple[str, ...]]) -> None:
        self.scalars = {name: "scalar" for name, shape in kinds.items() if shape == ()}
        self.size: dict[Expr, int] = {}

    def operations(self, expression: Expr) -> int:
        """Nodes of the tree that ``expression`` would print as, counted on the shared form."""
        known = self.size.get(expression)
        if known is None:
            known = self.size[expression] = 1 + sum(self.operations(a) for a in expression.args)
        return known

    def checked(self, expression: Expr, tree: Tree) -> Expr:
        if self.operations(expression) > MAX_OPERATIONS:
            wanted = f"at most {MAX_OPERATIONS} operations an equation; name a part of it"
            raise CellError("the equation is too large", tree.position, expected=wanted)
        for number in [expression, *expression.args]:
            if isinstance(number, Rational) and max(abs(number.p).bit_length(), number.q.bit_length()) > MAX_BITS:
                raise CellError("a number is out of range", tree.position, expected="numbers that can be written out")
        return expression

    def vector(self, tree: Tree) -> Expr:
        return self.checked(self.pointwise(tree), tree)

    def pointwise(self, tree: Tree) -> Expr:
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
        raise CellError("this has no value", tree.position)

    def binary(self, sign: str, a: Expr, b: Expr, position: Position) -> Expr:
        if sign == "+":
            return a + b
        if sign == "-":
            return a - b
        if sign == "*":
            return a * b
        if b.is_zero:
            raise CellError("division by zero", position, found=f"the divisor {b}")
        return a / b

    def power(self, base: Expr, exponent: int, position: Position) -> Expr:
        if exponent < 0 and base.is_zero:
            raise CellError("division by zero", position, found=f"{base}**{exponent}")
        inner = max((abs(int(e.exp)) for e in preorder_traversal(base) if e.is_Pow and e.exp.is_Integer), default=1)
        if inner * abs(exponent) > LIMITS.power:
            raise CellError(
                "the exponent is too large",
                position,
                found=f"{inner} times {exponent}",
                expected=f"at most {LIMITS.power}",
            )
        return base**exponent

    def call(self, name: str, x: Expr, position: Position) -> Expr:
        if FUNCTIONS[name].positive and (x.is_zero or (x.is_number and x.is_negative)):
            wanted = "a positive argument"
            if name == "log" or not x.is_zero:
                raise CellError(f"{name} is undefined here", position, found=f"{name}({x})", expected=wanted)
            raise CellError("sqrt has no derivative at 0", position, found="sqrt(0)", expected=wanted)
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
                out = first + second if sign == "+" else first - second
            case Binary(sign="@", left=a, right=b):
                outer, inner = (b, a) if transposed else (a, b)
                out = self.product(outer, self.product(inner, v, transposed=transposed), transposed=transposed)
            case Binary(sign="/", left=a, right=scale):
                out = self.binary("/", self.product(a, v, transposed=transposed), self.vector(scale), scale.position)
            case Binary(sign="*", left=a, right=b):
                if is_scaling(b, self.scalars) and not is_scaling(a, self.scalars):
                    a, b = b, a
                scale = self.vector(a)
                out = (
                    self.product(b, scale * v, transposed=True)
                    if transposed
                    else scale * self.product(b, v, transposed=False)
                )
            case _:
                raise CellError("this is not a matrix", matrix.position)
        return self.checked(out, matrix)


def lower(tree: Tree, parameters: dict[str, tuple[str, ...]]) -> Expr:
    """The right side of an equation as a SymPy expression in generic entries.

    ``parameters`` maps each parameter to its sizes.  Raises :class:`CellError` for what is visibly undefined.
    """
    expression = _Lowering(parameters).vector(tree)
    if any(n.is_Number and not n.is_finite for n in preorder_traversal(expression)):
        raise CellError("this is undefined", tree.position, found=str(expression), expected="a finite value")
    return expression
