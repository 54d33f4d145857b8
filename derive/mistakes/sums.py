"""Wrong losses and wrong sums over time, as expressions.

    dl/dy        an expression in p, y and target; the right ones are p - target and y - target
    dL/dtheta    every * (g(1) + ... + g(T)) + first * g(1) + last * g(T)  (+ a multiple of theta)

A row is one wrong expression; the right sum has every = 1, first = last = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer, Rational, Symbol

from derive.notation import FUNCTIONS, at

__all__ = ["LOSS_EDITS", "STEPS", "SUM_EDITS", "LossEdit", "SumEdit"]

STEPS = Symbol("T")

P, Y, TARGET = at("p"), at("y"), at("target")
ZERO, ONE, TWO = Integer(0), Integer(1), Integer(2)


@dataclass(frozen=True)
class LossEdit:
    """A wrong derivative of one step's loss by y; p is softmax(y)."""

    mistake: str
    says: str
    loss: str
    wrong: Expr


@dataclass(frozen=True)
class SumEdit:
    """A wrong combination of a parameter's terms g(t), t = 1..T; ``weight`` adds a multiple of the parameter."""

    mistake: str
    says: str
    every: Expr = ONE
    first: Expr = ZERO
    last: Expr = ZERO
    weight: bool = False


_CROSS, _SQUARED = "softmax_cross_entropy", "squared_error"
_E, _D = P - TARGET, Y - TARGET

LOSS_EDITS: tuple[LossEdit, ...] = (
    LossEdit("loss-sign", "target[t] - p[t] should be p[t] - target[t]", _CROSS, TARGET - P),
    LossEdit("loss-form", "p[t] + target[t] should be p[t] - target[t]", _CROSS, P + TARGET),
    LossEdit("loss-form", "1 should be target[t]: every class counts as the true one", _CROSS, P - 1),
    LossEdit("loss-form", "the factor p[t]*(1 - p[t]) is too much", _CROSS, _E * P * (1 - P)),
    LossEdit("loss-form", "only the true class has a gradient", _CROSS, TARGET * _E),
    LossEdit("loss-form", "softmax over the wrong axis: p[t] is 1 for one sequence", _CROSS, 1 - TARGET),
    LossEdit("loss-form", "target[t] is not subtracted", _CROSS, P),
    LossEdit("loss-form", "p[t] is missing", _CROSS, -TARGET),
    LossEdit("loss-form", "the derivative by p, softmax's own is missing", _CROSS, -TARGET / P),
    LossEdit("loss-form", "y[t] should be p[t]: softmax is missing", _CROSS, _D),
    LossEdit("loss-form", "p[t] should be log(p[t])", _CROSS, FUNCTIONS["log"](P) - TARGET),
    LossEdit("loss-form", "the term is counted twice", _CROSS, 2 * _E),
    LossEdit("loss-sign", "target[t] - y[t] should be y[t] - target[t]", _SQUARED, TARGET - Y),
    LossEdit("loss-form", "y[t] + target[t] should be y[t] - target[t]", _SQUARED, Y + TARGET),
    LossEdit("loss-form", "1 should be target[t]", _SQUARED, Y - 1),
    LossEdit("loss-form", "2*(y[t] - target[t]), the derivative of the square without its half", _SQUARED, 2 * _D),
    LossEdit("loss-form", "(y[t] - target[t])/2 should be y[t] - target[t]", _SQUARED, _D / 2),
    LossEdit("loss-form", "the factor y[t]*(1 - y[t]) of a sigmoid is too much", _SQUARED, _D * Y * (1 - Y)),
    LossEdit("loss-form", "the factor 1 - y[t]**2 of a tanh is too much", _SQUARED, _D * (1 - Y**2)),
    LossEdit("loss-form", "the factor p[t]*(1 - p[t]) is too much", _SQUARED, _D * P * (1 - P)),
    LossEdit("loss-form", "p[t] should be y[t]: there is no softmax", _SQUARED, _E),
    LossEdit("loss-form", "target[t] is not subtracted", _SQUARED, Y),
    LossEdit("loss-form", "the square should be differentiated", _SQUARED, _D**2),
)

SUM_EDITS: tuple[SumEdit, ...] = (
    SumEdit("reduction", "divided by T: a mean over time for a sum", 1 / STEPS),
    SumEdit("reduction", "multiplied by T: a sum over time for a mean", STEPS),
    SumEdit("first-step-lost", "the term of t = 1 is missing", first=-ONE),
    SumEdit("last-step-lost", "the term of t = T is missing", last=-ONE),
    SumEdit("assign-for-accumulate", "= for +=: only the term of t = 1, the last that is computed", ZERO, first=ONE),
    SumEdit("assign-for-accumulate", "= for +=: only the term of t = T", ZERO, last=ONE),
    SumEdit("regulariser-left-in", "a multiple of the parameter is added", weight=True),
    SumEdit("sign", "the sign is wrong", -ONE),
    SumEdit("doubled", "everything is counted twice", TWO),
    SumEdit("halved", "everything is halved", Rational(1, 2)),
    SumEdit("first-step-doubled", "the term of t = 1 is counted twice", first=ONE),
    SumEdit("last-step-doubled", "the term of t = T is counted twice", last=ONE),
)
