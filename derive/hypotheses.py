"""Where a cell is defined and differentiable: read from the text, because SymPy simplifies such conditions away.

``x/x`` is 1 to SymPy and ``exp(log(x))`` is x; the condition x != 0 or x > 0 stays in the text, and is stated with
every proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sympy import Expr

from derive.lower import Lowering
from derive.notation import FUNCTIONS
from derive.signs import holds, is_constant
from derive.syntax import Binary, Call, Equation, Power, Tree, walk

__all__ = ["Hypothesis", "find_hypotheses"]


@dataclass(frozen=True)
class Hypothesis:
    """What a proof assumes: ``expression`` ``relation`` (``!= 0`` or ``> 0``); ``why`` says what needs it."""

    expression: Expr
    relation: str
    why: str
    equation: str
    line: int


def _conditions(tree: Tree) -> Iterator[tuple[Tree, str, str]]:
    for part in walk(tree):
        match part:
            case Binary(sign="/", right=divisor):
                yield divisor, "!= 0", "a divisor"
            case Power(base=base, exponent=n) if n < 0:
                yield base, "!= 0", "a divisor"
            case Call(name=name, arguments=(x,)) if FUNCTIONS[name].positive:
                yield x, "> 0", f"the argument of {name}"
            case Call(name=name, arguments=(x,)) if FUNCTIONS[name].kink:
                yield x, "!= 0", f"{name} has a kink at 0"


def find_hypotheses(equations: list[Equation], lowering: Lowering) -> tuple[Hypothesis, ...]:
    """Every condition of a cell's text that does not hold by itself, in the order of the text."""
    found: dict[tuple[Expr, str], Hypothesis] = {}
    for equation in equations:
        for tree, relation, why in _conditions(equation.value):
            expression = lowering.vector(tree)
            # A constant divisor or argument has been checked, and a kink does not matter at a constant.
            if not is_constant(expression) and not holds(expression, relation):
                line = equation.position[0]
                found.setdefault((expression, relation), Hypothesis(expression, relation, why, equation.text, line))
    return tuple(found.values())
