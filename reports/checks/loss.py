"""Closed forms of a loss: a formula of one entry, summed over the entries, and its gradient by y.

The formula is written for entry k, ``-target[t]*log(p[t])``; p is the softmax of y.  With g = p dF/dp, entry by entry,

    d/dy (sum over k of F_k) = dF/dy + g - p (sum over k of g_k)

because dp_k/dy_j = p_k (1_{jk} - p_j).  Where g is a multiple of the target and of p, its sum is known for every size;
elsewhere the sum is differentiated entry by entry at two sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import product
from typing import Any

from sympy import Add, Expr, Integer, Rational, Symbol

from derive.algebra import evaluate
from derive.balls import BITS, Balls, precision
from derive.claims import ClaimError
from derive.errors import CellError
from derive.handwritten.counterexample import number
from derive.hypotheses import Hypothesis
from derive.notation import FUNCTIONS, at
from derive.parse import parse
from derive.signs import holds
from derive.zero import BudgetError, is_zero
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Code, Math, Parts, Table

__all__ = ["check_loss"]

Y, P, TARGET = at("y"), at("p"), at("target")
MASS = Symbol("S", real=True)  # the sum of the target's entries
_NAMES = {Y, P, TARGET}
_EXP = FUNCTIONS["exp"]


def check_loss(given: Mapping[str, Any]) -> Evidence:
    """``formula`` of entry k; ``that`` is "gradient", with ``gradient``, or "defined" for every y.

    ``y`` is "any" real number, or "softmax" where y itself is said to hold probabilities; ``masses``: the targets sum
    to "one" or to "any" number.

    >>> check_loss({"formula": "-target[t]*log(p[t])", "that": "gradient", "gradient": "p[t] - target[t]"}).level
    'proven, every size'
    >>> check_loss({"formula": "-target[t]*log(y[t])", "that": "defined"}).holds
    False
    """
    arguments = Arguments(given)
    formula, conditions = _entry(arguments.text("formula"), "formula")
    that = arguments.choice("that", ("gradient", "defined"))
    put = {Y: P} if arguments.choice("y", ("any", "softmax"), "any") == "softmax" else {}
    one = arguments.choice("masses", ("one", "any"), "one") == "one"
    closed = _entry(arguments.text("gradient"), "gradient")[0] if that == "gradient" else None
    arguments.done()
    if closed is None:
        return _defined(conditions, put)
    return _gradient(formula.xreplace(put), closed.xreplace(put), one)


def _entry(text: str, field: str) -> tuple[Expr, tuple[Hypothesis, ...]]:
    """A formula of y[t], p[t] and target[t], entry by entry, and the conditions under which it is defined."""
    if "\n" in text.strip() or "=" in text:
        raise ClaimError("one formula", field=field, found=text, expected="an expression such as p[t] - target[t]")
    try:
        cell = parse(f"z: O\ns[t] = s[t-1]*(y[t] + p[t] + target[t])\nz[t] = {text.strip()}", "loss")
    except CellError as error:
        raise ClaimError(str(error).replace("line 3, ", ""), field=field) from None
    found = cell.equations["z"]
    if not found.free_symbols <= _NAMES or found.atoms(type(Y)) - _NAMES:
        other = ", ".join(sorted(str(s) for s in found.free_symbols - _NAMES))
        raise ClaimError("unknown name", field=field, found=other, expected="y[t], p[t] and target[t]")
    return found, tuple(c for c in cell.hypotheses if "kink" not in c.why)


# ----------------------------------------------------------------------------------------------- where it is defined


def _defined(conditions: tuple[Hypothesis, ...], put: Mapping[Symbol, Expr]) -> Evidence:
    """Whether every condition of the formula holds by its form, whatever the outputs are."""
    softmax = {P: _EXP(Symbol("p", real=True))}  # a softmax is a positive number
    for condition in conditions:
        expression = condition.expression.xreplace(dict(put))
        if not holds(expression.xreplace(softmax), condition.relation):
            return _undefined(expression, condition)
    return Evidence(True, "proven, every size", ("It is defined whatever the outputs are: a softmax is positive.",))


def _undefined(expression: Expr, condition: Hypothesis) -> Evidence:
    for y, target in product((-1, 0, 1, -2), (1, 0)):
        value = expression.xreplace({Y: Integer(y), P: Rational(1, 2), TARGET: Integer(target)})
        if value.is_Rational and (value == 0 or (condition.relation == "> 0" and value < 0)):
            rows: tuple[tuple[Parts, ...], ...] = (
                (("sizes",), (Math(r"T = 1,\, O = 1"),)),
                (("entries",), (Code(f"y = {y}, target = {target}"),)),
                (("as printed",), (f"{condition.why} is {value}: there is no such number",)),
            )
            table = Table((("smallest counterexample",), ("",)), rows, "ll")
            said = f"It is not defined for every output: {condition.why} may be {value}."
            return Evidence(False, "proven, every size", (said,), (table,))
    return Evidence(None, "not decided", ("Neither a proof nor a counterexample was found.",))


# ---------------------------------------------------------------------------------------------------- the gradient


def _gradient(formula: Expr, closed: Expr, one: bool) -> Evidence:
    """The closed form against the derivative: for every size where the sum is known, else at two sizes."""
    try:
        general = _every_size(formula, one)
        if general is not None and is_zero(general - closed):
            masses = "targets that sum to one" if one else "any targets"
            return Evidence(True, "proven, every size", (f"It is the derivative, for every size and {masses}.",))
        if general is None and all(_at_size(formula, closed, size, one) for size in (1, 2, 3)):
            return Evidence(True, "proven, at a size", ("It is the derivative, for up to three entries.",))
    except BudgetError as error:
        return Evidence(None, "not decided", (f"Not decided within its budget: {error}.",))
    found = next(_differences(formula, closed, one), None)
    if found is None:
        return Evidence(None, "not decided", ("Neither a proof nor a counterexample was found.",))
    return Evidence(False, "proven, at a size", ("It is not the derivative of this loss.",), (found,))


def _every_size(formula: Expr, one: bool) -> Expr | None:
    """The derivative by entry k, or None where a sum over the entries is not known."""
    g = P * formula.diff(P)
    a, b = g.diff(TARGET), g.diff(P)
    if not is_zero(g - a * TARGET - b * P) or (a.free_symbols | b.free_symbols):
        a, b = _multiples(g)
        if a is None or b is None:
            return None
    return formula.diff(Y) + g - P * (a * (1 if one else MASS) + b)


def _multiples(g: Expr) -> tuple[Expr | None, Expr | None]:
    """Rational a and b with g = a target + b p, found at points and then proven."""
    points = [{TARGET: Rational(1), P: Rational(1, 3)}, {TARGET: Rational(0), P: Rational(1, 2)}]
    values = [g.xreplace(point) for point in points]
    if not all(v.is_Rational for v in values):
        return None, None
    b = 2 * values[1]
    a = values[0] - b / 3
    return (a, b) if is_zero(g - a * TARGET - b * P) else (None, None)


def _explicit(formula: Expr, size: int, one: bool) -> tuple[Expr, list[Symbol], list[Expr], list[Expr]]:
    """The loss of some entries; y, p and the target, entry by entry."""
    y = [Symbol(f"y{k}", real=True) for k in range(size)]
    target: list[Expr] = [Symbol(f"target{k}", real=True) for k in range(size)]
    if one:
        target[-1] = 1 - Add(*target[:-1])
    exponentials = [_EXP(v) for v in y]
    p = [e / Add(*exponentials) for e in exponentials]
    return Add(*(_put(formula, k, y, p, target) for k in range(size))), y, p, target


def _put(e: Expr, k: int, y: list[Any], p: list[Any], target: list[Any]) -> Expr:
    return e.xreplace({Y: y[k], P: p[k], TARGET: target[k]})


def _at_size(formula: Expr, closed: Expr, size: int, one: bool) -> bool:
    loss, y, p, target = _explicit(formula, size, one)
    return is_zero([loss.diff(y[k]) - _put(closed, k, y, p, target) for k in range(size)])


def _differences(formula: Expr, closed: Expr, one: bool) -> Iterator[Table]:
    """Small networks' outputs at which the two certainly differ, as tables."""
    for size in (1, 2, 3):
        loss, y, p, target = _explicit(formula, size, one)
        for k in range(size):
            right, yours = loss.diff(y[k]), _put(closed, k, y, p, target)
            for point in product((0, 1, -1), repeat=size):
                for goal in _targets(size, one):
                    values = {**_at_point(y, point), **_at_point(target, goal)}
                    a, b = _ball(yours, values), _ball(right, values)
                    if a is not None and b is not None and (a - b).is_finite() and not (a - b).contains(0):
                        yield _table(point, goal, k, a, b)


def _targets(size: int, one: bool) -> list[tuple[int, ...]]:
    """One class each; and, where they need not sum to one, two of them and none."""
    hot = [tuple(int(j == k) for j in range(size)) for k in range(size)]
    return hot if one else [*hot, (1,) * size, (0,) * size, (2,) * size]


def _at_point(symbols: list[Any], values: Any) -> dict[Symbol, Fraction]:
    return {s: Fraction(v) for s, v in zip(symbols, values, strict=True) if isinstance(s, Symbol)}


def _ball(e: Expr, values: Mapping[Symbol, Fraction]) -> Any:
    with precision(BITS):
        try:
            balls = Balls()
            return balls.number(Rational(0)) + evaluate(e, lambda s: balls.number(Rational(values[s])), balls)
        except (ZeroDivisionError, ValueError):
            return None


def _table(point: tuple[int, ...], goal: tuple[int, ...], k: int, yours: Any, right: Any) -> Table:
    y, target = (", ".join(map(str, values)) for values in (point, goal))
    rows: tuple[tuple[Parts, ...], ...] = (
        (("sizes",), (Math(rf"T = 1,\, O = {len(point)}"),)),
        (("entries",), (Code(f"y = ({y}), target = ({target})"),)),
        (("as printed",), (Code(f"dy[{k + 1}] = {number(yours)}"),)),
        (("true",), (Code(f"dy[{k + 1}] = {number(right)}"),)),
    )
    return Table((("smallest counterexample",), ("",)), rows, "ll")
