"""The elementwise functions, measured in units in the last place against balls of 200 bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import flint
import numpy as np
import pytest
from flint import acb, arb
from hypothesis import given, settings
from hypothesis import strategies as st

from derive.notation import FUNCTIONS as TABLE
from derive.notation import PRIMES
from numeric.functions import FUNCTIONS, Array, Elementwise

Ball = Callable[[Any], Any]

BOUND = 4  # units in the last place of the exact value; below the normal range, smallest subnormals
STEP_BOUND = 6  # the same for the imaginary part of a complex step, a product of several factors

balls = flint.ctx.workprec(200)


def decay(x: Any) -> Any:
    """exp(-|x|), the one exponential that never overflows."""
    return (-abs(x)).exp()


def sign(x: Any) -> int:
    return (x > 0) - (x < 0)


REFERENCE: dict[str, Ball] = {
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: (1 if x >= 0 else decay(x)) / (1 + decay(x)),
    "relu": lambda x: x if x > 0 else arb(0),
    "softplus": lambda x: (x if x > 0 else 0) + decay(x).log1p(),
    "exp": lambda x: (x if x < 2000 else arb(2000)).exp(),  # infinite in float64 either way
    "log": lambda x: x.log(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "sqrt": lambda x: x.sqrt(),
    "abs": lambda x: abs(x),
    "erf": lambda x: x.erf(),
    "softsign": lambda x: x / (1 + abs(x)),
    "dtanh": lambda x: 4 * decay(2 * x) / (1 + decay(2 * x)) ** 2,
    "dsigmoid": lambda x: decay(x) / (1 + decay(x)) ** 2,
    "drelu": lambda x: arb(x > 0),
    "dabs": lambda x: arb(sign(x)),
    "derf": lambda x: 2 / arb.pi().sqrt() * (-x * x).exp(),
    "dsoftsign": lambda x: 1 / (1 + abs(x)) ** 2,
}

DERIVATIVE: dict[str, Ball] = {
    "tanh": REFERENCE["dtanh"],
    "sigmoid": REFERENCE["dsigmoid"],
    "relu": REFERENCE["drelu"],
    "softplus": REFERENCE["sigmoid"],
    "exp": REFERENCE["exp"],
    "log": lambda x: 1 / x,
    "sin": REFERENCE["cos"],
    "cos": lambda x: -x.sin(),
    "sqrt": lambda x: 1 / (2 * x.sqrt()),
    "abs": REFERENCE["dabs"],
    "erf": REFERENCE["derf"],
    "softsign": REFERENCE["dsoftsign"],
    "dtanh": lambda x: -2 * x.tanh() * REFERENCE["dtanh"](x),
    "dsigmoid": lambda x: -(x / 2).tanh() * REFERENCE["dsigmoid"](x),
    "drelu": lambda x: arb(0),
    "dabs": lambda x: arb(0),
    "derf": lambda x: -2 * x * REFERENCE["derf"](x),
    "dsoftsign": lambda x: -2 * sign(x) / (1 + abs(x)) ** 3,
}

# The analytic continuation from each side of 0, for complex arguments well inside the strip |Im z| < pi/2.
CONTINUATION: dict[str, Ball] = {
    "tanh": lambda z: z.tanh(),
    "sigmoid": lambda z: 1 / (1 + (-z).exp()),
    "relu": lambda z: z if z.real > 0 else acb(0),
    "softplus": lambda z: (1 + z.exp()).log(),
    "exp": lambda z: z.exp(),
    "log": lambda z: z.log(),
    "sin": lambda z: z.sin(),
    "cos": lambda z: z.cos(),
    "sqrt": lambda z: z.sqrt(),
    "abs": lambda z: z * sign(z.real),
    "erf": lambda z: z.erf(),
    "softsign": lambda z: z / (1 + z * sign(z.real)),
    "dtanh": lambda z: 1 / z.cosh() ** 2,
    "dsigmoid": lambda z: 1 / (2 * (z / 2).cosh()) ** 2,
    "drelu": lambda z: acb(z.real > 0),
    "dabs": lambda z: acb(sign(z.real)),
    "derf": lambda z: 2 / acb.pi().sqrt() * (-z * z).exp(),
    "dsoftsign": lambda z: 1 / (1 + z * sign(z.real)) ** 2,
}

ODD = ("tanh", "sin", "erf", "softsign", "dabs")
EVEN = ("cos", "abs", "dtanh", "dsigmoid", "derf", "dsoftsign")
POSITIVE = ("log", "sqrt")

every_function = pytest.mark.parametrize("name", FUNCTIONS)
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def domain(name: str, x: Array) -> Array:
    """The part of x, or of its absolute values, where the function is defined."""
    x = np.abs(x) if name in POSITIVE else x
    return x[x > 0] if name == "log" else x


def sample(dtype: Any, *, seed: int = 7, size: int = 2000) -> Array:
    """Numbers of either sign over the whole finite range: all magnitudes, where functions bend, tails, edges."""
    rng, limits = np.random.default_rng(seed), np.finfo(dtype)
    exponents = rng.uniform(np.log2(limits.smallest_subnormal), limits.maxexp, size)
    with np.errstate(under="ignore", over="ignore"):
        everywhere = np.ldexp(rng.uniform(0.5, 1, size), np.ceil(exponents).astype(int)).astype(dtype)
    bends = np.exp2(rng.uniform(-12, 10, size)).astype(dtype)
    tails = rng.uniform(0, 110 if dtype == np.float32 else 750, size).astype(dtype)
    grid = np.concatenate([np.arange(0, 800, 7), np.arange(0, 40), np.arange(0, 10, 1 / 16)]).astype(dtype)
    edges = np.array([limits.max, limits.tiny, limits.smallest_subnormal, np.nextafter(limits.tiny, 0, dtype=dtype)])
    subnormals = rng.integers(1, 2**20, size // 10).astype(dtype) * limits.smallest_subnormal
    x = np.concatenate([everywhere, bends, tails, grid, edges, subnormals]).astype(dtype)
    return np.concatenate([x, -x])


@balls
def ulps(exact: Ball, x: Array, y: Array) -> Array:
    """|y - exact(x)| in units in the last place of exact(x), rounded up; infinite for a wrong type or infinity."""
    if y.dtype != x.dtype:
        return np.full(x.shape, np.inf)
    values = [exact(arb(a)) for a in x.tolist()]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.array([float(v.mid()) for v in values]).astype(y.dtype)
        units = np.spacing(np.abs(rounded)).tolist()
    return np.array([distance(*row) for row in zip(values, rounded.tolist(), units, y.tolist(), strict=True)])


def distance(value: Any, rounded: float, unit: float, y: float) -> float:
    """|y - value| in units, the radius of the ball included, so that a reference too wide to judge is a failure."""
    if not (np.isfinite(rounded) and np.isfinite(y)):
        return 0 if y == rounded else np.inf
    return float(((arb(y) - value) / arb(unit)).abs_upper())


def check_accuracy(f: Elementwise, name: str, x: Array, *, bound: float = BOUND) -> None:
    """Raise AssertionError, with the worst place, unless f is right to ``bound`` units at every x."""
    errors = ulps(REFERENCE[name], x, f(x))
    worst = int(np.argmax(errors))
    assert errors[worst] <= bound, f"{name}({x[worst]!r}): {errors[worst]:.3g} ulp"


def check_complex_step(f: Elementwise, name: str, x: Array, eps: float) -> None:
    """Raise AssertionError unless f(x + i eps) = f(x) + i eps f'(x), each part to a few units."""
    z = np.empty(x.shape, np.complex128)
    z.real, z.imag = x, eps
    values = f(z)
    parts = [(REFERENCE[name], values.real, BOUND), (lambda x: DERIVATIVE[name](x) * arb(eps), values.imag, STEP_BOUND)]
    for exact, part, bound in parts:
        errors = ulps(exact, x, part)
        worst = int(np.argmax(errors))
        assert errors[worst] <= bound, f"{name}({z[worst]!r}) = {values[worst]!r}: {errors[worst]:.3g} ulp"


def naive_sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------------ accuracy


def test_the_table_of_the_cell_language_is_covered() -> None:
    assert set(FUNCTIONS) == set(TABLE) | set(PRIMES) == set(REFERENCE)


@every_function
@both_precisions
def test_error_is_a_few_ulp_over_the_whole_range(name: str, dtype: Any) -> None:
    check_accuracy(FUNCTIONS[name], name, domain(name, sample(dtype)))


@every_function
@given(st.data())
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_error_is_a_few_ulp_at_any_number(name: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    finite = st.floats(width=8 * dtype().itemsize, allow_nan=False, allow_infinity=False)
    x = domain(name, np.array(data.draw(st.lists(finite, min_size=10, max_size=30)), dtype))
    if x.size:
        check_accuracy(FUNCTIONS[name], name, x)


@pytest.mark.parametrize(
    ("name", "x", "value"),
    [
        ("sigmoid", -100.0, 3.720075976020836e-44),
        ("dtanh", 20.0, 1.6993417021166356e-17),
        ("dsigmoid", -700.0, 9.859676543759771e-305),
        ("softplus", -700.0, 9.859676543759771e-305),
        ("derf", 26.0, 2.9470349932662695e-294),
        ("erf", 1e-300, 1.1283791670955126e-300),
        ("dsoftsign", 1e160, 1e-320),
    ],
)
def test_tails_keep_their_digits(name: str, x: float, value: float) -> None:
    for signed in (x, -x) if name in EVEN else (x,):
        np.testing.assert_allclose(FUNCTIONS[name](np.float64(signed)), value, rtol=1e-14, atol=5e-324)


LIMITS = {
    "tanh": (-1, 1),
    "sigmoid": (0, 1),
    "relu": (0, np.inf),
    "softplus": (0, np.inf),
    "exp": (0, np.inf),
    "log": (np.nan, np.inf),
    "sin": (np.nan, np.nan),
    "cos": (np.nan, np.nan),
    "sqrt": (np.nan, np.inf),
    "abs": (np.inf, np.inf),
    "erf": (-1, 1),
    "softsign": (-1, 1),
    "dtanh": (0, 0),
    "dsigmoid": (0, 0),
    "drelu": (0, 1),
    "dabs": (-1, 1),
    "derf": (0, 0),
    "dsoftsign": (0, 0),
}


@every_function
@both_precisions
def test_values_at_infinity_are_the_limits(name: str, dtype: Any) -> None:
    x = np.array([np.inf] if name in POSITIVE else [-np.inf, np.inf], dtype)
    np.testing.assert_array_equal(FUNCTIONS[name](x), np.array(LIMITS[name][-x.size :], dtype))


@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_nan_gives_nan(name: str, dtype: Any) -> None:
    values = FUNCTIONS[name](np.full(33, np.nan, dtype))
    assert np.isnan(values.real).all()


# ------------------------------------------------------------------------------------------------ laws


@both_precisions
@pytest.mark.parametrize("name", ODD)
def test_odd_functions_keep_the_sign_even_of_zero(name: str, dtype: Any) -> None:
    x, f = sample(dtype), FUNCTIONS[name]
    np.testing.assert_array_equal(f(-x), -f(x))
    if name != "dabs":
        assert np.signbit(f(dtype(-0.0)))
        assert not np.signbit(f(dtype(0.0)))


@both_precisions
@pytest.mark.parametrize("name", EVEN)
def test_even_functions_ignore_the_sign(name: str, dtype: Any) -> None:
    x, f = sample(dtype), FUNCTIONS[name]
    np.testing.assert_array_equal(f(-x), f(x))


@both_precisions
def test_reflections_about_zero(dtype: Any) -> None:
    x, f = np.clip(sample(dtype), -1e30, 1e30), FUNCTIONS
    ulp = np.finfo(dtype).eps
    np.testing.assert_allclose(f["sigmoid"](x) + f["sigmoid"](-x), 1, rtol=4 * ulp)
    np.testing.assert_array_equal(f["relu"](x) - f["relu"](-x), x)
    np.testing.assert_array_equal(f["relu"](x) + f["relu"](-x), f["abs"](x))
    np.testing.assert_array_equal(f["drelu"](x) - f["drelu"](-x), f["dabs"](x))
    difference = f["softplus"](x) - f["softplus"](-x)
    assert (np.abs(difference - x) <= 4 * ulp * f["softplus"](np.abs(x))).all()


@both_precisions
def test_derivatives_at_a_kink_are_zero(dtype: Any) -> None:
    for zero in (dtype(0.0), dtype(-0.0)):
        assert FUNCTIONS["drelu"](zero) == FUNCTIONS["dabs"](zero) == 0
        for name in ("relu", "abs"):
            assert FUNCTIONS[name](np.complex128(complex(zero, 1e-200))) == 0


# ------------------------------------------------------------------------------------------------ complex arguments


def away_from_singularities(name: str, x: Array, eps: float) -> Array:
    """Drop what a complex step cannot resolve: |x| not much above eps at a kink or a branch point, and log's zero."""
    x = domain(name, x)
    x = x[np.abs(x) > 1e12 * eps] if name in (*POSITIVE, "softsign", "dsoftsign") else x[x != 0]
    return x[x != 1] if name == "log" else x


@every_function
@pytest.mark.parametrize("eps", [1e-200, 1e-20])
def test_complex_step_gives_the_derivative(name: str, eps: float) -> None:
    check_complex_step(FUNCTIONS[name], name, away_from_singularities(name, sample(np.float64, size=300), eps), eps)


@every_function
@balls
def test_complex_values_are_the_analytic_continuation(name: str) -> None:
    rng = np.random.default_rng(11)
    scales = np.repeat([1e-3, 1, 6, 20], 60)
    x = scales * rng.uniform(-1, 1, scales.size)
    z = (np.abs(x) if name in POSITIVE else x) + 1j * rng.uniform(-1, 1, scales.size)
    for point, value in zip(z.tolist(), FUNCTIONS[name](z).tolist(), strict=True):
        exact = CONTINUATION[name](acb(point))
        error = float(abs(acb(value) - exact).mid())
        assert error <= 1e-13 * float(abs(exact).mid()), f"{name}({point}): {error:.3g}"


# ------------------------------------------------------------------------------------------------ arrays and warnings


@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (3, 4), (2, 1, 3)])
def test_type_and_shape_are_kept_and_the_argument_is_not_touched(name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 0.75, dtype)
    y = FUNCTIONS[name](x)
    assert (np.shape(y), y.dtype) == (shape, dtype)
    assert not np.shares_memory(x, y)
    assert (x == 0.75).all()


@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_scalars_and_strided_arrays_give_what_arrays_give(name: str, dtype: Any) -> None:
    x = domain(name, np.linspace(-3, 3, 12).reshape(3, 4)).reshape(-1, 4).astype(dtype)
    y = FUNCTIONS[name](x)
    assert FUNCTIONS[name](x[0, 1]).dtype == dtype
    ulp = np.finfo(dtype).eps
    np.testing.assert_allclose(FUNCTIONS[name](x[0, 1]), y[0, 1], rtol=8 * ulp)
    np.testing.assert_allclose(FUNCTIONS[name](x.T[::2]), y.T[::2], rtol=8 * ulp)


@every_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_no_floating_point_signal_is_raised(name: str, dtype: Any) -> None:
    x = sample(np.float32 if dtype == np.float32 else np.float64, size=200)
    x = domain(name, np.concatenate([np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], x.dtype), x])).astype(dtype)
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        FUNCTIONS[name](x)
        for point in x[:9]:
            FUNCTIONS[name](point)


@both_precisions
@pytest.mark.parametrize(("name", "x"), [("log", -1.0), ("log", 0.0), ("sqrt", -1.0)])
def test_arguments_outside_the_domain_warn(name: str, x: float, dtype: Any) -> None:
    with pytest.warns(RuntimeWarning):
        value = FUNCTIONS[name](np.array([x], dtype))
    assert not np.isfinite(value).any()


# ------------------------------------------------------------------------------------------------ must be rejected


NAIVE: list[tuple[str, str, Elementwise]] = [
    ("dtanh", "1 - tanh^2", lambda x: 1 - np.tanh(x) ** 2),
    ("dtanh", "1 / cosh^2", lambda x: 1 / np.cosh(x) ** 2),
    ("sigmoid", "1 / (1 + exp(-x))", naive_sigmoid),
    ("sigmoid", "(1 + tanh(x/2)) / 2", lambda x: 0.5 * (1 + np.tanh(x / 2))),
    ("sigmoid", "exp(x) / (1 + exp(x))", lambda x: np.exp(x) / (1 + np.exp(x))),
    ("dsigmoid", "s (1 - s)", lambda x: naive_sigmoid(x) * (1 - naive_sigmoid(x))),
    ("softplus", "log(1 + exp(x))", lambda x: np.log(1 + np.exp(x))),
    ("softplus", "log1p(exp(x))", lambda x: np.log1p(np.exp(x))),
    ("derf", "exp(-x^2)", lambda x: (2 / np.pi**0.5 * np.exp(-x * x)).astype(x.dtype)),
    ("erf", "1 - erfc", lambda x: 1 - (1 - FUNCTIONS["erf"](x))),
    ("dsoftsign", "1 / q^2", lambda x: 1 / (1 + np.abs(x)) ** 2),
]


@pytest.mark.parametrize(("name", "formula", "f"), NAIVE)
@both_precisions
def test_naive_forms_are_rejected(name: str, formula: str, f: Elementwise, dtype: Any) -> None:
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="ulp"):
        check_accuracy(f, name, sample(dtype))


def test_a_result_wider_than_its_argument_is_rejected() -> None:
    with pytest.raises(AssertionError, match="ulp"):
        check_accuracy(lambda x: FUNCTIONS["erf"](x.astype(np.float64)), "erf", sample(np.float32))


@every_function
@both_precisions
def test_an_error_of_six_ulp_is_rejected(name: str, dtype: Any) -> None:
    def off(x: Array) -> Array:
        y = FUNCTIONS[name](x)
        return y + 6 * np.spacing(y)

    with pytest.raises(AssertionError, match="ulp"):
        check_accuracy(off, name, domain(name, np.linspace(-3, 3, 25, dtype=dtype)))


UNSAFE: list[tuple[str, str, Elementwise]] = [
    ("abs", "modulus", lambda z: np.abs(z).astype(z.dtype)),
    ("tanh", "real part only", lambda z: np.tanh(z.real).astype(z.dtype)),
    ("sigmoid", "(1 + tanh(z/2)) / 2", lambda z: 0.5 * (1 + np.tanh(z / 2))),
    ("dtanh", "1 - tanh^2", lambda z: 1 - np.tanh(z) ** 2),
    ("softplus", "log(1 + exp(z))", lambda z: np.log(1 + np.exp(z))),
    ("softsign", "z / (1 + abs z)", lambda z: z / (1 + FUNCTIONS["abs"](z))),
]


@pytest.mark.parametrize(("name", "formula", "f"), UNSAFE)
def test_forms_unsafe_for_the_complex_step_are_rejected(name: str, formula: str, f: Elementwise) -> None:
    x = away_from_singularities(name, sample(np.float64, size=300), 1e-20)
    with np.errstate(all="ignore"), pytest.raises(AssertionError, match="ulp"):
        check_complex_step(f, name, x, 1e-20)
