"""Where a cell is defined and differentiable: read from the text, because SymPy simplifies such conditions away.

``x/x`` is 1 to SymPy and ``exp(log(x))`` is x; the condition x != 0 or x > 0 stays in the text, and is stated with every proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sympy import Expr, pi

from derive.lower import lower
from derive.notation import FUNCTIONS
from derive.syntax import Binary, Call, Equation, Number, Power, Tree, walk

__all__ = ["Hypothesis", "find_hypotheses", "is_positive"]


@dataclass(frozen=True)
class Hypothesis:
    """``expression`` must satisfy ``relation`` (``!= 0`` or ``> 0``) for the proof to say anything; ``why`` says where."""

    expression: Expr
    relation: str
    why: str
    equation: str
    line: int


def is_positive(expression: Expr, *, strictly: bool = True) -> bool:
    """Whether an expression is visibly positive (or at least 0) for all real values of its symbols."""
    if expression.is_Rational or expression is pi:
        return bool(expression > 0 or (not strictly and expression == 0))
    if expression.is_Add:
        parts = expression.args
        return all(is_positive(a, strictly=False) for a in parts) and (not strictly or any(map(is_positive, parts)))
    if expression.is_Mul:
        return all(is_positive(a, strictly=strictly) for a in expression.args)
    if expression.is_Pow and expression.exp.is_Integer:
        return is_positive(expression.base, strictly=strictly) or (not strictly and expression.exp.is_even)
    name = type(expression).__name__
    if name in ("exp", "sigmoid", "softplus"):
        return True
    return name in ("abs", "relu", "sqrt") and (not strictly and name != "sqrt" or is_positive(expression.args[0]))


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


def find_hypotheses(equations: list[Equation], parameters: dict[str, tuple[str, ...]]) -> tuple[Hypothesis, ...]:
    """Every condition of a cell's text that does not hold by itself, in the order of the text."""
    found: dict[tuple[Expr, str], Hypothesis] = {}
    for equation in equations:
        for tree, relation, why in _conditions(equation.value):
            if isinstance(tree, Number):
                continue
            expression = lower(tree, parameters)
            if not is_positive(expression):
                line = equation.position[0]
                found.setdefault((expression, relation), Hypothesis(expression, relation, why, equation.text, line))
    return tuple(found.values())
