"""Syntax tree to text: the inverse of :mod:`derive.syntax`, with the fewest brackets.

    text -> tree -> text -> the same tree

A tree is put in brackets where it binds more loosely than its place asks for:

    sum < product < unary < power < postfix < atom

Sums and products are read from left to right, so a right operand must bind more tightly than its sign does.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from fractions import Fraction

from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree
from derive.tokens import LIMITS

__all__ = ["unparse", "unparse_equation"]

_SUM, _PRODUCT, _UNARY, _POWER, _POSTFIX, _ATOM = range(6)
_SIGNS = {"+": " + ", "-": " - ", "*": "*", "/": "/", "@": " @ "}
_DECIMAL = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_OVER = ("sum", "prod")  # their second and later arguments are indices


def unparse(tree: Tree) -> str:
    """``tree`` as text; reading the text gives an equal tree.

    Raises ValueError for a tree that no text gives, such as a transpose of a transpose.

    >>> from derive.syntax import parse_lines
    >>> unparse(parse_lines("y = ((-a)*(b*c) - ((W.T) @ (h[t - 1])))")[0][0].value)
    '-a*(b*c) - W.T @ h[t-1]'
    """
    return _text(tree, _SUM)


def unparse_equation(target: Tree, value: Tree) -> str:
    """``target = value`` as one line of text.

    >>> from derive.syntax import parse_lines
    >>> equation = parse_lines("da[t]=(dh[t])*(1-h[t]**2)")[0][0]
    >>> unparse_equation(equation.target, equation.value)
    'da[t] = dh[t]*(1 - h[t]**2)'
    """
    return f"{unparse(target)} = {unparse(value)}"


def _text(tree: Tree, place: int, *, close: bool = False) -> str:
    """Text of a tree in a place that asks for a binding; ``close`` leaves out spaces, as in an index."""
    text, own = _parts(tree, close)
    return f"({text})" if own < place else text


def _parts(tree: Tree, close: bool) -> tuple[str, int]:
    """Text of a tree without outer brackets, and how tightly it binds."""
    match tree:
        case Number():
            text = _number(tree)  # 2.T reads as the number 2. and a letter
            return text, _POSTFIX if text.isdigit() else _ATOM
        case Name(name=name):
            return name, _ATOM
        case Indexed(name=name, index=index):
            return f"{name}[{_text(index, _SUM, close=True)}]", _ATOM
        case Negative(operand=x):
            return f"-{_text(x, _POWER, close=close)}", _UNARY
        case Power(base=x, exponent=n):
            return f"{_text(x, _POSTFIX, close=close)}**{n}", _POWER
        case Transposed(operand=Transposed()):
            raise ValueError("the language cannot say a transpose of a transpose; expected the matrix itself")
        case Transposed(operand=x):
            return f"{_text(x, _ATOM, close=close)}.T", _ATOM
        case Call(name=name, arguments=arguments):
            return f"{name}({', '.join(_argument(name, i, x) for i, x in enumerate(arguments))})", _ATOM
        case Binary(sign=sign, left=a, right=b) if sign in _SIGNS:
            own = _SUM if sign in "+-" else _PRODUCT
            middle = sign if close else _SIGNS[sign]
            return f"{_text(a, own, close=close)}{middle}{_text(b, own + 1, close=close)}", own
    raise ValueError(f"the language cannot say {tree!r}")


def _argument(name: str, place: int, tree: Tree) -> str:
    return _text(tree, _SUM, close=place > 0 and name in _OVER)


def _number(number: Number) -> str:
    """The number as it was written; if that is another number, its shortest decimal."""
    value = number.value
    if _reads_as(number.text, value):
        return number.text
    with localcontext(prec=LIMITS.digits):
        decimal = str((Decimal(value.numerator) / Decimal(value.denominator)).normalize())
    text = next((text for text in (str(value), decimal) if _reads_as(text, value)), None)
    if text is None:
        raise ValueError(f"the language cannot say the number {value}; expected a decimal, or a quotient of two")
    return text


def _reads_as(text: str, value: Fraction) -> bool:
    digits = sum(c.isdigit() for c in text.lower().partition("e")[0])
    return digits <= LIMITS.digits and _DECIMAL.fullmatch(text) is not None and Fraction(text) == value
