"""What holds for every cell: the induction over time, the sum over the batch, and the functions' derivative rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy
from sympy import Expr, Function, Integer, Symbol

from derive.notation import FUNCTIONS, applications
from derive.obligations import Outcome
from derive.zero import is_zero

__all__ = ["check_batch", "check_rule", "check_time", "functions_of", "step_of_induction"]

_S1, _S2, _THETA, _U1, _U2, _V = sympy.symbols("s1 s2 theta u1 u2 v", real=True)


@dataclass(frozen=True)
class _Generic:
    """A function near a point up to first order: all that a first derivative can see (the chain rule)."""

    name: str
    arguments: tuple[Symbol, ...]

    def slope(self, argument: Symbol) -> Symbol:
        return Symbol(f"d{self.name}/d{argument}", real=True)

    def value(self) -> Expr:
        return Symbol(f"{self.name}(0)", real=True) + sum((self.slope(a) * a for a in self.arguments), Integer(0))


# S_t = l(s_t, y_t) + S_{t+1}(s_t, theta), with s_t = (F1, F2) and y_t = G functions of (s_{t-1}, theta)
_F1, _F2, _G = (_Generic(name, (_S1, _S2, _THETA)) for name in ("F1", "F2", "G"))
_LOCAL, _LATER = _Generic("l", (_U1, _U2, _V)), _Generic("S", (_U1, _U2, _THETA))

Recursion = Callable[[Symbol], Expr]


def recursion(direct: Symbol) -> Expr:
    """(dF/d.).T e + dS_{t+1}/d. : the recursion as it is used."""
    e1, e2 = (_LOCAL.slope(u) + _LATER.slope(u) for u in (_U1, _U2))
    own = _LATER.slope(_THETA) if direct == _THETA else Integer(0)
    return _F1.slope(direct) * e1 + _F2.slope(direct) * e2 + _G.slope(direct) * _LOCAL.slope(_V) + own


def overwritten(direct: Symbol) -> Expr:
    """A wrong recursion: what comes from later steps overwrites the local loss."""
    return recursion(direct) - sum((f.slope(direct) * _LOCAL.slope(u) for f, u in ((_F1, _U1), (_F2, _U2))), Integer(0))


def assigned(direct: Symbol) -> Expr:
    """A wrong recursion: theta's gradient is assigned at each step and not accumulated."""
    return recursion(direct) - (_LATER.slope(_THETA) if direct == _THETA else Integer(0))


def step_of_induction(stated: Recursion) -> bool:
    """Whether a recursion is the derivative of S_t by both states and theta, for a generic step."""
    whole = (_LOCAL.value() + _LATER.value()).subs(
        {_U1: _F1.value(), _U2: _F2.value(), _V: _G.value()}, simultaneous=True
    )
    return all(is_zero(whole.diff(direct) - stated(direct)) for direct in (_S1, _S2, _THETA))


def check_time() -> Outcome:
    """The induction step holds, and two wrong recursions are rejected by the same check."""
    if not step_of_induction(recursion):
        return False, "the derivative of the generic step is not the recursion"
    for wrong in (overwritten, assigned):
        if step_of_induction(wrong):
            return False, f"the check also accepts a wrong recursion ({wrong.__name__})"
    return True, ""


def check_batch() -> Outcome:
    """The derivative of a sum over sequences is the sum of the derivatives, and not their mean."""
    theta = Symbol("theta", real=True)
    parts = [Function(f"S{b}")(theta) for b in (1, 2, 3)]
    total = sum(parts, Integer(0)).diff(theta)
    right = sum((part.diff(theta) for part in parts), Integer(0))
    if total != right:
        return False, f"{total} is not {right}"
    return (False, "the check also accepts the mean") if total == right / 3 else (True, "")


def functions_of(expressions: list[Expr]) -> tuple[str, ...]:
    """Names of the functions that occur, in the order of the language's table."""
    found = {type(a).__name__ for e in expressions for a in applications(e)}
    return tuple(name for name in FUNCTIONS if name in found)


def check_rule(name: str) -> Outcome:
    """The derivative rule of a function against SymPy's derivative of the same function in SymPy's own terms.

    Both sides of 0 are looked at, so that relu and abs are compared away from their kink.
    """
    rule = FUNCTIONS[name]
    x = Symbol("x", positive=True)
    for point in (x, -x)[: 1 if rule.positive else 2]:
        builtin = rule.builtin(point).diff(x) / point.diff(x)
        for form in (rule.prime(point), rule.closed(point, rule(point))):
            if not is_zero(_in_language(form.doit()) - _in_language(builtin.doit())):
                return False, f"{name}'({point}) is {form} here and {builtin} in SymPy's terms"
    return True, ""


_BUILTIN = {sympy.tanh: "tanh", sympy.exp: "exp", sympy.log: "log", sympy.sin: "sin", sympy.cos: "cos"}


def _in_language(e: Expr) -> Expr:
    """SymPy's own functions as the language's, which the zero test knows."""
    if not e.args:
        return e
    parts = [_in_language(a) for a in e.args]
    if e.is_Pow and e.exp == sympy.Rational(1, 2):
        return FUNCTIONS["sqrt"](parts[0])
    if e.is_Pow and e.exp == sympy.Rational(-1, 2):
        return 1 / FUNCTIONS["sqrt"](parts[0])
    return FUNCTIONS[_BUILTIN[e.func]](*parts) if e.func in _BUILTIN else e.func(*parts)
