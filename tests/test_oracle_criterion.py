"""The criterion: what rounding explains agrees, what it does not disagrees, and what it hides is said to be hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import derive
from numeric.oracle import Case, judge
from numeric.oracle.criterion import LIMITS, compare, truth_of
from numeric.oracle.families import default_cases, low_precision_cases
from tests.implementations import engine

# An exponential gate that scales numerator and normaliser alike: from rest, the gradient by b is zero by symmetry.
SYMMETRIC = """
z[t] = tanh(W @ x[t])
f[t] = sigmoid(U @ x[t])
i[t] = exp(b)
c[t] = f[t]*c[t-1] + i[t]*z[t]
n[t] = f[t]*n[t-1] + i[t]
h[t] = c[t]/n[t]
"""


def symmetric_case():
    cell = derive.parse(SYMMETRIC, "symmetric")
    random = np.random.default_rng(0)
    sizes = dict.fromkeys(cell.dimensions, 3)
    params = {n: random.uniform(-1, 1, [sizes[x] for x in shape]) for n, shape in cell.parameters.items()}
    x = random.standard_normal((6, 2, 3))
    rest = {n: np.zeros((2, 3)) for n in cell.states}
    cotangents = {"h": random.standard_normal((6, 2, 3))}
    purpose = "a gradient that is zero by symmetry"
    return cell, Case(
        "symmetric", "own", purpose, cell.name, cell.text, params, {"x": x}, rest, loss="linear", cotangents=cotangents
    )


def test_a_gradient_that_is_zero_by_symmetry_is_judged_by_its_noise():
    cell, case = symmetric_case()
    truth = truth_of(case)
    assert np.abs(truth.exact.gradients["b"].hi).max() < 1e-40
    found = engine(case, fast=False)["grads"]["b"]
    assert found.any()  # noise, beside noise
    assert compare("b", found, truth, case).status == "agrees"
    assert compare("b", np.zeros(3), truth, case).status == "agrees"
    assert compare("b", found + 1e-9, truth, case).status == "disagrees"
    assert judge(lambda c: engine(c, fast=False), cell, cases=[case]).status == "agrees"


def test_zero_because_nothing_arrives_must_be_zero():
    case = next(c for c in default_cases(derive.load("tanh_rnn")) if c.id == "impulse-T")
    truth = truth_of(case)
    exact = truth.exact.gradients["W_hh"].hi
    zero = np.argwhere((truth.noise["W_hh"] == 0) & (exact == 0))
    assert zero.size
    spoilt = exact.copy()
    spoilt[tuple(zero[0])] = 1e-300
    assert compare("W_hh", exact, truth, case).status == "agrees"
    assert compare("W_hh", spoilt, truth, case).status == "disagrees"


@pytest.mark.parametrize("units", [0.5, 8.0, 40.0, 1e9])
def test_an_error_is_what_it_is_in_units_of_noise(units):
    case = default_cases(derive.load("gru"))[0]
    truth = truth_of(case)
    exact, noise = truth.exact.gradients["U_n"].hi, truth.noise["U_n"]
    found = exact.copy()
    found[1, 2] += units * noise[1, 2]
    measured = compare("U_n", found, truth, case)
    assert measured.where == (1, 2) or units < 1
    assert measured.most == pytest.approx(units, abs=1)
    expected = "agrees" if units <= 16 else "suspect" if units <= truth.lax else "disagrees"
    assert measured.status == expected


def test_types_of_few_bits_have_two_roundoffs():
    pytest.importorskip("ml_dtypes")
    cases = low_precision_cases(derive.load("lstm"))
    assert {c.dtype for c in cases} == {"float16", "bfloat16"}
    for case in cases:
        truth = truth_of(case)
        for name in case.params:
            exact = truth.exact.gradients[name].hi
            import ml_dtypes

            rounded = exact.astype(getattr(ml_dtypes, case.dtype, case.dtype)).astype(np.float64)
            assert compare(name, rounded, truth, case).status == "agrees"
            single = replace(case, accumulate=case.dtype)  # where the sum is in few bits, too, there is more noise
            assert (truth_of(single).noise[name] >= truth.noise[name]).all()
            break
        assert compare("W_i", -truth.exact.gradients["W_i"].hi, truth, case).status in ("disagrees", "suspect")


def test_noise_of_the_whole_tensor_leaves_nothing_to_judge():
    cell = derive.parse("h[t] = 8*sin(8*h[t-1] + W @ x[t])")
    random = np.random.default_rng(0)
    case = Case(
        "chaos", "own", "grows by a factor of sixty a step", cell.name, cell.text, {"W": np.ones((2, 2))},
        {"x": random.standard_normal((14, 1, 2))}, {"h": np.zeros((1, 2))}, loss="linear",
        cotangents={"h": random.standard_normal((14, 1, 2))},
    )  # fmt: skip
    verdict = judge(lambda c: engine(c, fast=False), cell, cases=[case])
    assert verdict.status == "undecidable"
    assert "nothing tells right from wrong" in str(verdict)


def test_units_are_those_of_ieee():
    assert LIMITS["float32"].unit == np.finfo(np.float32).eps / 2
    assert LIMITS["float16"].unit == np.finfo(np.float16).eps / 2
