"""Zero is decided exactly: what is called zero is zero, and the identities that derivations need are found."""

from __future__ import annotations

import flint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer, Rational, pi

from derive.balls import Balls, precision
from derive.notation import FUNCTIONS, at
from derive.zero import Budget, BudgetError, Field, is_zero

X, Y, Z = at("x"), at("y"), at("z")
F = {name: FUNCTIONS[name] for name in FUNCTIONS}
tanh, sigmoid, exp, softplus = F["tanh"], F["sigmoid"], F["exp"], F["softplus"]

IDENTITIES = {
    "expansion": (X + Y) ** 3 - X**3 - 3 * X**2 * Y - 3 * X * Y**2 - Y**3,
    "fractions": 1 / (X - Y) - (X + Y) / (X**2 - Y**2),
    "tanh is odd": tanh(X - Y) + tanh(Y - X),
    "sigmoid of minus x": sigmoid(-X) - (1 - sigmoid(X)),
    "sigmoid by tanh": sigmoid(X) - (1 + tanh(X / 2)) / 2,
    "sigmoid by exp": sigmoid(X) - exp(X) / (1 + exp(X)),
    "tanh prime": tanh(X).diff(X) - (1 - tanh(X) ** 2),
    "sigmoid prime": sigmoid(X).diff(X) - sigmoid(X) * sigmoid(-X),
    "softsign prime": F["softsign"](X).diff(X) - 1 / (1 + F["abs"](X)) ** 2,
    "exp of a sum": exp(X + Y) - exp(X) * exp(Y),
    "exp of a difference": exp(X - Y) * exp(Y) - exp(X),
    "softplus": softplus(X) - softplus(-X) - X,
    "softplus prime": softplus(X).diff(X) - 1 / (1 + exp(-X)),
    "equal arguments": tanh((X + Y) ** 2) - tanh(X**2 + 2 * X * Y + Y**2),
    "erf is odd": F["erf"](-X) + F["erf"](X),
}

NEAR = {
    "a tiny constant": (X + Rational(1, 10)) ** 2 - X**2 - X / 5 - Rational(1, 100) + Rational(1, 10**30),
    "tanh squared": tanh(X) ** 2 - 1,
    "wrong sign": sigmoid(-X) - sigmoid(X),
    "exp of a product": exp(X * Y) - exp(X) * exp(Y),
    "sine for tanh": F["sin"](X) - tanh(X),
    "pi for 22/7": pi - Rational(22, 7),
    "tanh at x": tanh(X) - X,
    "another argument": tanh(X + Y) - tanh(X - Y),
}


@pytest.mark.parametrize("e", IDENTITIES.values(), ids=IDENTITIES)
def test_identities_are_found(e):
    assert is_zero(e)


@pytest.mark.parametrize("e", NEAR.values(), ids=NEAR)
def test_near_identities_are_not(e):
    assert not is_zero(e)


ALL = [*F, "dtanh", "dsigmoid", "drelu", "dabs", "derf", "dsoftsign"]


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("name", ALL)
@given(value=st.fractions(-3, 3, max_denominator=8).filter(bool), shift=st.integers(-2, 2))
@settings(max_examples=10)
def test_every_relation_that_the_field_uses_is_true(name, level, value, shift):
    """f(u) as the field writes it, by atoms and relations, has the value of f(u)."""
    if name in ("log", "sqrt"):
        value = abs(value)
    field = Field(40, Budget(), level=level)
    x = field.generator("x")
    sign = 1 if name in ("log", "sqrt") else -1
    for u, at_point in ((x, value), (sign * x, sign * value), (x * x + abs(shift), value**2 + abs(shift))):
        written = field.call(name, u)
        with precision(200):
            point = {field.index["x"]: flint.arb(flint.fmpq(value.numerator, value.denominator))}
            found = evaluated(field, written, point)
            argument = flint.arb(flint.fmpq(at_point.numerator, at_point.denominator))
            assert found.overlaps(flint.arb(Balls().call(name, argument))), (name, u)
            assert found.rad() < 1e-30


def evaluated(field, quotient, point):
    """A quotient's value, each atom computed from its argument."""

    def generator(i):
        if i not in point:
            if i in field.arguments:
                name, u = field.arguments[i]
                point[i] = Balls().call(name, evaluated(field, u, point))
            else:
                assert field.names[i] == "pi"
                point[i] = flint.arb.pi()
        return point[i]

    def polynomial(p):
        out = flint.arb(0)
        for powers, coefficient in p.to_dict().items():
            term = flint.arb(coefficient)
            for i, n in enumerate(powers):
                if n:
                    term *= generator(i) ** int(n)
            out += term
        return out

    above = polynomial(quotient.above)
    return above if quotient.below is None else above / polynomial(quotient.below)


@st.composite
def expressions(draw, depth=3):
    if depth == 0:
        return draw(st.sampled_from([X, Y, Integer(1), Integer(-2), Rational(1, 3)]))
    a, b = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    kind = draw(st.sampled_from(["+", "*", "tanh", "sigmoid", "exp", "softplus", "sin", "cos"]))
    if kind in "+*":
        return a + b if kind == "+" else a * b
    return FUNCTIONS[kind](a)


@settings(max_examples=60)
@given(a=expressions(), b=expressions(), c=expressions(depth=1))
def test_rearranged_expressions_differ_by_zero_and_moved_ones_do_not(a, b, c):
    assert is_zero((a + b) * c - (c * b + a * c))
    assert not is_zero((a + b) * c - (c * b + a * c) + Rational(1, 7))


def test_a_budget_is_kept():
    with pytest.raises(BudgetError):
        is_zero((X + Y + Z + exp(X)) ** 60 - 1 - (X - Y + tanh(Z)) ** 60 * (X + 2 * Y + Z) ** 30, Budget(size=20_000))
