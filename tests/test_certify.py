"""Enclosures hold the exact value, are narrow, and say so honestly where they cannot be had."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import derive
import numeric
from numeric import certify as module
from numeric.ball_arrays import BallArithmetic, enclose
from numeric.ball_growth import bits_lost
from numeric.certify import certify, certify_problem
from numeric.problem import check_problem

LINEAR = "h[t] = W @ h[t-1] + U @ x[t]\ny[t] = V @ h[t]"


def expanding():
    """A long sequence through absolute weights of spectral radius two: about a bit a step is lost."""
    cell = derive.load("tanh_rnn")
    params, inputs, targets, options = problem_of(cell, T=120, B=1, scale=0.5, wide=8)
    inputs = {n: x / 10 for n, x in inputs.items()}
    return cell, check_problem(cell, np.dtype(float), params, inputs, targets, options)


def problem_of(cell, T=5, B=2, scale=1.0, seed=0, wide=0, **options):
    sizes = {letter: wide or 2 + k for k, letter in enumerate(cell.dimensions)}
    random = np.random.default_rng(seed)
    params = {n: scale * random.uniform(-1, 1, [sizes[x] for x in shape]) for n, shape in cell.parameters.items()}
    inputs = {n: random.standard_normal((T, B, sizes[cell.axes[n]])) for n in cell.inputs}
    targets = random.integers(0, sizes[cell.axes[cell.outputs[0]]], (T, B))
    return params, inputs, targets, options


def exactly(e):
    """hi + lo as fractions, entry by entry."""
    return [Fraction(a) + Fraction(b) for a, b in zip(e.hi.ravel().tolist(), e.lo.ravel().tolist(), strict=True)]


def test_whole_numbers_come_out_exact():
    """A linear cell at whole numbers: integer arithmetic gives the gradient, and no radius is left."""
    cell = derive.parse(LINEAR)
    W, U, V = ([[1, 2], [3, -1]], [[1], [2]], [[2, 1]])
    x, c = [[[3]], [[-2]], [[5]]], [[[1]], [[2]], [[-1]]]
    params = {"W": np.array(W, float), "U": np.array(U, float), "V": np.array(V, float)}
    found = certify(cell, params, np.array(x, float), loss="linear", cotangents={"y": np.array(c, float)})
    h, hs = np.zeros(2, int), [np.zeros(2, int)]
    for (row,) in x:
        h = np.array(W) @ h + np.array(U) @ row
        hs.append(h)
    carry, dW = np.zeros(2, int), np.zeros((2, 2), int)
    for t in reversed(range(3)):
        carry = carry + np.array(V).T @ c[t][0]
        dW += np.outer(carry, hs[t])
        carry = np.array(W).T @ carry
    assert (found.gradients["W"].hi == dW).all()
    assert (found.gradients["W"].log2_radius == -np.inf).all()
    assert found.certified


@pytest.mark.parametrize("name", ["tanh_rnn", "gru", "lstm_peephole"])
def test_an_enclosure_holds_what_more_bits_give(name, monkeypatch):
    cell = derive.load(name)
    params, inputs, targets, _ = problem_of(cell, lengths=None)
    lengths = np.array([5, 3])
    few = certify(cell, params, inputs, targets, lengths=lengths)
    monkeypatch.setattr(module, "FIRST", 700)
    many = certify(cell, params, inputs, targets, lengths=lengths)
    assert many.bits > few.bits
    for n, e in (*few.gradients.items(), *few.outputs.items(), ("", few.loss)):
        other = many.gradients.get(n) or many.outputs.get(n) or many.loss
        apart = [float(abs(a - b)) for a, b in zip(exactly(e), exactly(other), strict=True)]
        assert (np.array(apart) <= (e.radius + other.radius).ravel()).all(), n
        assert (e.log2_radius <= np.log2(np.abs(e.hi).max() + 1e-300) - 100).all(), n


def test_a_value_that_is_off_by_little_is_outside():
    """What rounding of float64 alone does is far outside of an enclosure: it is not wide for safety's sake."""
    cell = derive.load("tanh_rnn")
    params, inputs, targets, _ = problem_of(cell)
    found = certify(cell, params, inputs, targets)
    engine = numeric.Engine(cell, plain=True)
    _, grads = engine.value_and_grad(params, inputs["x"], targets)
    e = found.gradients["W_hh"]
    error = np.abs((grads["W_hh"] - e.hi) - e.lo)
    assert (error > e.radius).mean() > 0.5
    assert (error < 1e-14).all()


def test_precision_is_raised_until_an_expanding_sequence_is_enclosed():
    cell, problem = expanding()
    assert bits_lost(cell, problem) > 60
    found = certify_problem(cell, problem)
    assert found.bits > module.FIRST
    for e in found.gradients.values():
        assert (e.log2_radius <= np.log2(np.abs(e.hi).max()) - 100).all()


def test_the_prediction_spares_a_second_run(monkeypatch):
    cell, problem = expanding()
    runs = []
    inner = module._interpreted
    monkeypatch.setattr(module, "_interpreted", lambda *args: runs.append(1) or inner(*args))
    certify_problem(cell, problem)
    assert len(runs) == 1
    monkeypatch.setattr(module, "bits_lost", lambda *args: 0.0)
    certify_problem(cell, problem)
    assert len(runs) > 2  # without it, a second one


def test_large_problems_are_computed_in_longer_floats_and_say_so(monkeypatch):
    cell = derive.load("lstm")
    params, inputs, targets, options = problem_of(cell)
    problem = check_problem(cell, np.dtype(float), params, inputs, targets, options)
    right = certify_problem(cell, problem)
    monkeypatch.setattr(module, "LARGE", 0)
    found = certify_problem(cell, problem)
    assert right.certified
    assert not found.certified
    for n, e in found.gradients.items():
        apart = np.abs((e.hi - right.gradients[n].hi) + (e.lo - right.gradients[n].lo))
        assert (apart <= e.radius).all(), n


def test_a_kink_and_a_bad_domain_are_refused():
    cell = derive.parse("h[t] = relu(W @ h[t-1] + U @ x[t])\ny[t] = V @ h[t]")
    params = {"W": np.ones((1, 1)), "U": np.ones((1, 1)), "V": np.ones((1, 1))}
    with pytest.raises(ArithmeticError, match="kink"):
        certify(cell, params, np.zeros((2, 1, 1)), loss="linear", cotangents={"y": np.ones((2, 1, 1))})
    cell = derive.parse("h[t] = log(W @ h[t-1] + U @ x[t])\ny[t] = V @ h[t]")
    with pytest.raises(ArithmeticError):
        certify(cell, params, -np.ones((2, 1, 1)), loss="linear", cotangents={"y": np.ones((2, 1, 1))})


def test_truncated_gradients_are_enclosed():
    cell = derive.load("gru")
    params, inputs, targets, _ = problem_of(cell, T=7)
    found = certify(cell, params, inputs, targets, truncate=(2, 3))
    result = numeric.Engine(cell).backward(params, inputs, targets, truncate=(2, 3))
    for n, g in result.params.items():
        assert np.allclose(g, found.gradients[n].hi, rtol=1e-12, atol=1e-14), n


def test_arrays_of_balls_conform_or_say_why():
    a = enclose(np.ones((2, 3)))
    assert (a + enclose(np.ones(3))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"shape \(2,\) where \(2, 3\)"):
        a + enclose(np.ones(2))
    assert BallArithmetic().over_batch(a).entries == [2, 2, 2]
