"""Gradient flow: norms by lag, Jacobian products, exponents, the rates of theory, and the command that draws them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from odd_cells import ODD, cell_named
from problems import make_scene
from turns import crossed

import derive
import numeric
from numeric.graded import Graded
from numeric.linearize import follow
from numeric.spectra import haar
from reports import cli
from reports.cli import main

LINEAR = "h[t] = A @ h[t-1] + B @ x[t]"
LOG_HALF = float(np.log(0.5))
CELLS = (*derive.cells(), *ODD)


def cell_of(name):
    return derive.load(name) if name in derive.cells() else cell_named(name)


def scene_of(name, **options):
    cell = cell_of(name)
    return make_scene(
        cell, 3, **({"steps": 6, "batch": 3, "sizes": {x: i + 2 for i, x in enumerate(cell.dimensions)}} | options)
    )


def linear(a, steps):
    """An engine for h[t] = A h[t-1] + B x[t], its parameters and inputs of zeros."""
    engine = numeric.Engine(derive.parse(LINEAR))
    return engine, {"A": np.asarray(a, float), "B": np.ones((len(a), 1))}, np.zeros((steps, 1, 1))


def last_step(size):
    return {"loss": "linear", "at": "last", "cotangents": {"h": np.ones((1, size))}}


# ------------------------------------------------------------------------------------------------------ gradient norms


@pytest.mark.parametrize(("name", "at", "ragged"), crossed(CELLS, ["every", "last"], [False, True]))
def test_norms_are_those_of_the_backward_pass(name, at, ragged):
    scene = scene_of(name, at=at, ragged=ragged)
    engine = numeric.Engine(scene.cell)
    result = scene.backward(engine)
    for b in range(3):
        steps = int(scene.options["lengths"][b]) if ragged else 6
        found = numeric.flow(engine, scene.params, scene.inputs, sequence=b, initial=scene.initial, **scene.options)
        assert list(found.lags) == list(range(steps))
        for norms, logs, gradients in (
            (found.states, found.log_states, result.states),
            (found.inputs, found.log_inputs, result.inputs),
        ):
            assert set(norms) == set(logs) == set(gradients)
            for n, gradient in gradients.items():
                expected = np.linalg.norm(gradient[:steps, b], axis=-1)[::-1]
                np.testing.assert_allclose(norms[n], expected, rtol=1e-13, atol=0)
                np.testing.assert_allclose(np.exp(logs[n]), norms[n], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru"])
def test_a_ragged_sequence_flows_as_it_does_alone(name):
    scene = scene_of(name, at="last", ragged=True)
    engine = numeric.Engine(scene.cell)
    lengths = scene.options["lengths"]
    for b, steps in enumerate(lengths):
        whole = numeric.flow(engine, scene.params, scene.inputs, sequence=b, initial=scene.initial, **scene.options)
        own = {n: x[:steps, b : b + 1] for n, x in scene.inputs.items()}
        start = {n: s[b : b + 1] for n, s in scene.initial.items()}
        cotangents = {n: c[b : b + 1] for n, c in scene.options["cotangents"].items()}
        alone = numeric.flow(engine, scene.params, own, initial=start, loss="linear", at="last", cotangents=cotangents)
        for n, logs in alone.log_states.items():
            np.testing.assert_allclose(whole.log_states[n], logs, rtol=1e-12, atol=1e-12)
        there = numeric.lyapunov(engine, scene.params, own, initial=start)
        here = numeric.lyapunov(engine, scene.params, scene.inputs, initial=scene.initial, lengths=lengths, sequence=b)
        np.testing.assert_allclose(here, there, atol=1e-9)


def test_ten_thousand_contracting_steps_do_not_underflow():
    engine, params, inputs = linear(0.5 * np.eye(3), 10_001)
    found = numeric.flow(engine, params, inputs, **last_step(3))
    expected = np.log(3) / 2 + 10_000 * LOG_HALF
    assert found.states["h"][-1] == 0.0
    assert found.log_states["h"][-1] == pytest.approx(expected, rel=1e-12)
    assert found.log_inputs["x"][-1] == pytest.approx(np.log(3) + 10_000 * LOG_HALF, rel=1e-12)
    assert found.rate("h") == pytest.approx(LOG_HALF, rel=1e-12)
    assert found.rate("x", first=0) == pytest.approx(LOG_HALF, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_thousand_expanding_steps_do_not_overflow(dtype):
    engine = numeric.Engine(derive.parse(LINEAR), dtype)
    params = {"A": np.array([[3.0, 1.0], [0.0, 2.0]], dtype), "B": np.ones((2, 1), dtype)}
    cotangents = {"h": np.array([[1.0, 0.0]], dtype)}
    found = numeric.flow(
        engine, params, np.zeros((10_001, 1, 1), dtype), loss="linear", at="last", cotangents=cotangents
    )
    assert found.states["h"][-1] == np.inf
    # A.T^n e_1 = 3^n (1, 1 - (2/3)^n)
    assert found.log_states["h"][-1] == pytest.approx(
        10_000 * np.log(3) + np.log(2) / 2, rel=1e-12 if dtype == "float64" else 1e-6
    )


def test_each_step_adds_its_part_at_its_own_scale():
    engine, params, inputs = linear(0.5 * np.eye(2), 3_000)
    cotangents = {"h": np.zeros((3_000, 1, 2))}
    cotangents["h"][-1] = 1.0
    cotangents["h"][99] = 3.0  # where what came from the end is 2^-2900
    found = numeric.flow(engine, params, inputs, loss="linear", at="every", cotangents=cotangents)
    assert found.log_states["h"][2_900 - 1] == pytest.approx(np.log(2) / 2 + 2_899 * LOG_HALF, rel=1e-12)
    assert found.log_states["h"][2_900] == pytest.approx(np.log(3) + np.log(2) / 2, rel=1e-12)


def test_what_is_lost_beside_another_state_is_not_called_zero():
    engine = numeric.Engine(derive.parse("a[t] = 0.25*a[t-1] + x[t]\nb[t] = b[t-1] + x[t]\nc[t] = c[t-1] + x[t]"))
    cotangents = {"a": np.ones((1, 2)), "b": np.ones((1, 2))}
    found = numeric.flow(engine, {}, np.zeros((1_000, 1, 2)), loss="linear", at="last", cotangents=cotangents)
    assert np.isnan(found.log_states["a"][-1])
    assert np.isnan(found.states["a"][600:]).all()
    np.testing.assert_allclose(found.log_states["a"][:400], np.log(2) / 2 + 2 * np.arange(400) * LOG_HALF, rtol=1e-12)
    np.testing.assert_allclose(found.states["b"], np.sqrt(2), rtol=1e-15)
    assert (found.log_states["c"] == -np.inf).all()
    assert np.isnan(found.rate("c"))
    alone = numeric.flow(
        engine, {}, np.zeros((1_000, 1, 2)), loss="linear", at="last", cotangents={"a": np.ones((1, 2))}
    )
    assert alone.rate("a") == pytest.approx(2 * LOG_HALF, rel=1e-12)


# ------------------------------------------------------------------------------------------------------- the Jacobian


def complex_step_jacobian(engine, params, previous, inputs):
    """ds_t/ds_{t-1}, one column an entry, with no derivation."""
    columns = []
    own = {n: x.astype(complex)[None, None] for n, x in inputs.items()}
    size = {} if own else {"steps": 1, "batch": 1}
    for name, s in previous.items():
        for j in range(len(s)):
            start = {n: v.astype(complex)[None] for n, v in previous.items()}
            start[name][0, j] += 1e-30j
            out = engine.forward({n: p.astype(complex) for n, p in params.items()}, own, start, **size)
            columns.append(np.concatenate([out[n][0, 0].imag / 1e-30 for n in previous]))
    return np.array(columns).T


@pytest.mark.parametrize("name", CELLS)
def test_the_step_jacobian_is_that_of_the_complex_step(name):
    scene = scene_of(name)
    size = {n: scene.options[n] for n in ("steps", "batch") if n in scene.options}
    stepper, path = follow(numeric.Engine(scene.cell), scene.params, scene.inputs, 1, initial=scene.initial, **size)
    found = list(stepper.along(path))
    engine = numeric.Engine(scene.cell, "complex128")
    for t, jacobian in enumerate(found):
        here = ({n: x[t] for n, x in xs.items()} for xs in (path.previous, path.inputs))
        expected = complex_step_jacobian(engine, scene.params, *here)
        np.testing.assert_allclose(jacobian, expected, rtol=0, atol=1e-14 * max(1, np.abs(expected).max()))
    np.testing.assert_array_equal(list(stepper.along(path, backwards=True))[::-1], found)


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "lstm_peephole", "gru", "gru_reset_after"])
def test_the_product_is_that_of_dense_matrices(name):
    scene = scene_of(name, steps=5)
    engine, lags = numeric.Engine(scene.cell), [1, 2, 5]
    stepper, path = follow(engine, scene.params, scene.inputs, 2, initial=scene.initial)
    found = numeric.jacobian_product(engine, scene.params, scene.inputs, lags=lags, sequence=2, initial=scene.initial)
    dense = list(stepper.along(path))
    for k, logs in zip(lags, found.log_singular, strict=True):
        product = np.linalg.multi_dot([np.eye(stepper.size), *dense[::-1][:k], np.eye(stepper.size)])
        values = np.linalg.svd(product, compute_uv=False)
        np.testing.assert_allclose(np.exp(logs), values, rtol=1e-10, atol=1e-13 * values[0])


def test_a_slightly_wrong_jacobian_is_seen():
    scene = scene_of("tanh_rnn", steps=5)
    engine = numeric.Engine(scene.cell)
    right = numeric.jacobian_product(engine, scene.params, scene.inputs, initial=scene.initial).log_singular
    other = scene.params | {"W_hh": scene.params["W_hh"] @ np.diag([1.0, 1 + 1e-9])}
    wrong = numeric.jacobian_product(engine, other, scene.inputs, initial=scene.initial).log_singular
    assert np.abs(right - wrong).max() > 1e-10


# ---------------------------------------------------------------------------------------------------- known exponents


@pytest.mark.parametrize("steps", [1, 7, 10_000])
def test_a_normal_matrix_has_the_moduli_of_its_eigenvalues(steps):
    eigenvalues = np.array([1.75, -1.2, 0.9, 0.4, 0.05])
    basis = haar(5, seed=1)
    engine, params, inputs = linear(basis * eigenvalues @ basis.T, steps)
    expected = np.log(np.abs(eigenvalues))
    found = numeric.jacobian_product(engine, params, inputs)
    np.testing.assert_allclose(found.log_singular[0] / steps, expected, rtol=0, atol=1e-13)
    if steps > 500:
        exponents = numeric.lyapunov(engine, params, inputs, discard=500)
        np.testing.assert_allclose(exponents, expected, rtol=0, atol=1e-12)


def test_powers_of_a_matrix_that_is_not_normal():
    a = np.array([[0.5, 1.0], [0.0, 2.0]])
    for n in (1, 3, 20):
        engine, params, inputs = linear(a, n)
        found = numeric.jacobian_product(engine, params, inputs).log_singular[0]
        largest = np.linalg.norm(np.linalg.matrix_power(a, n), 2)
        np.testing.assert_allclose(found, [np.log(largest), -np.log(largest)], rtol=0, atol=1e-12)  # det A = 1


def test_an_orthogonal_matrix_has_exponents_zero():
    engine, params, inputs = linear(np.zeros((6, 6)), 10_000)
    params = numeric.with_orthogonal(params, "A", seed=4)
    np.testing.assert_allclose(numeric.lyapunov(engine, params, inputs), 0, atol=1e-13)
    np.testing.assert_allclose(numeric.jacobian_product(engine, params, inputs).log_singular, 0, atol=1e-9)


def test_a_singular_matrix_has_an_exponent_of_minus_infinity():
    engine, params, inputs = linear(np.zeros((3, 3)), 10)
    assert (numeric.jacobian_product(engine, params, inputs).log_singular == -np.inf).all()
    assert (numeric.lyapunov(engine, params, inputs) == -np.inf).all()


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru"])
def test_the_sum_of_exponents_is_the_mean_log_determinant(name):
    scene = scene_of(name, steps=40)
    engine = numeric.Engine(scene.cell)
    stepper, path = follow(engine, scene.params, scene.inputs, 0, initial=scene.initial)
    dets = np.array([np.linalg.slogdet(jacobian)[1] for jacobian in stepper.along(path)])
    for discard in (0, 15):
        found = numeric.lyapunov(engine, scene.params, scene.inputs, initial=scene.initial, discard=discard)
        assert found.sum() == pytest.approx(dets[discard:].mean(), rel=1e-11)
        assert (np.diff(found) <= 0).all()
    product = numeric.jacobian_product(engine, scene.params, scene.inputs, initial=scene.initial)
    assert product.log_singular.sum() == pytest.approx(dets.sum(), rel=1e-11)


def test_singular_values_of_any_scale_are_right():
    """A product whose factors are known: (U D_1 V)(V.T D_2 W) with D far beyond the range of float64."""
    size, steps = 6, 900
    bases = [haar(size, seed=s) for s in range(steps + 1)]
    diagonal = np.array([1e3, 1.0, 0.999, 0.5, 1e-3, 1e-4])
    graded, q = Graded(size), haar(size, seed=99)
    for t in range(steps):
        q, r = np.linalg.qr((bases[t + 1] * diagonal) @ bases[t].T @ q)
        graded.multiply(r)
    expected = steps * np.log(diagonal)
    np.testing.assert_allclose(graded.log_singular_values(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(graded.log_singular_values()[:4], expected[:4], rtol=0, atol=1e-9)


# --------------------------------------------------------------------------------------------------- theory, beside it


def settled(name, rho, seed=0):
    """A cell at its fixed point without input, for 400 steps: all that a measurement takes."""
    engine = numeric.Engine(name)
    params = numeric.with_spectral_radius(engine.init(seed=seed, D=3, H=12, O=2), "W_hh", rho)
    step = np.zeros((1, 1, 3))
    start = numeric.fixed_point(engine, params, step)
    return engine, params, np.zeros((400, 1, 3)), start, numeric.theoretical_rate(engine, params, step, initial=start)


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_a_fixed_point_gradients_change_at_the_theoretical_rate(rho, seed):
    engine, params, inputs, start, theory = settled("tanh_rnn", rho, seed)
    options = {"loss": "squared_error", "at": "last", "initial": start}
    found = numeric.flow(engine, params, inputs, np.ones((1, 2)), **options)
    exponents = numeric.lyapunov(engine, params, inputs, initial=start, discard=100)
    bound = numeric.norm_bound(params, "W_hh")
    assert found.rate("h") == pytest.approx(theory, abs=2e-3)
    assert found.rate("x") == pytest.approx(theory, abs=2e-3)
    assert exponents[0] == pytest.approx(theory, abs=2e-2)
    assert theory < bound
    assert (np.diff(found.log_states["h"]) <= bound + 1e-12).all()
    assert theory < np.log(rho) + 1e-12


@pytest.mark.parametrize(("regime", "rho"), numeric.REGIMES.items())
def test_the_regimes_at_the_origin(regime, rho):
    """Without input and bias tanh stays at zero, where J is W_hh itself."""
    engine = numeric.Engine("tanh_rnn")
    params = engine.init(seed=2, D=3, H=12, O=2) | {"b": np.zeros(12)}
    options = {"loss": "squared_error", "at": "last"}
    step, inputs, target = np.zeros((1, 1, 3)), np.zeros((10_000, 1, 3)), np.ones((1, 2))
    for made in (
        numeric.with_spectral_radius(params, "W_hh", rho),
        numeric.with_orthogonal(params, "W_hh", rho),
    ):
        assert numeric.theoretical_rate(engine, made, step) == pytest.approx(np.log(rho), abs=1e-14)
        rate = numeric.flow(engine, made, inputs, target, **options).rate("h")
        assert rate == pytest.approx(np.log(rho), abs=1e-6)
    assert {"vanishing": rate < -0.1, "critical": abs(rate) < 1e-6, "exploding": rate > 0.1}[regime]


def test_an_unstable_fixed_point_is_found_and_left():
    engine, params, inputs, start, theory = settled("tanh_rnn", 1.5)
    assert theory > 0
    moved = engine.forward(params, inputs[:1], start)["h"][0] - start["h"]
    assert np.abs(moved).max() < 1e-13
    assert np.abs(engine.forward(params, inputs, start)["h"][-1] - start["h"]).max() > 0.01
    held = numeric.flow(engine, params, inputs[:50], np.ones((1, 2)), loss="squared_error", at="last", initial=start)
    assert held.rate("h") == pytest.approx(theory, abs=2e-2)


@pytest.mark.parametrize("name", derive.cells())
def test_every_shipped_cell_has_a_fixed_point_with_its_rate(name):
    engine = numeric.Engine(name)
    params = engine.init(seed=1, D=3, H=8, O=2)
    step = np.full((1, 1, 3), 0.3)
    start = numeric.fixed_point(engine, params, step)
    moved = engine.forward(params, step, start)
    assert all(np.abs(moved[n][0] - s).max() < 1e-13 for n, s in start.items())
    inputs = np.repeat(step, 300, axis=0)
    found = numeric.flow(engine, params, inputs, np.ones((1, 2)), loss="squared_error", at="last", initial=start)
    theory = numeric.theoretical_rate(engine, params, step, initial=start)
    assert found.rate("h") == pytest.approx(theory, abs=5e-3)


def test_a_fixed_point_of_a_cell_without_inputs():
    engine = numeric.Engine(derive.parse("h[t] = cos(h[t-1])\nV: (H, H)\ny[t] = V @ h[t]"))
    found = numeric.fixed_point(engine, {"V": np.eye(2)}, initial={"h": np.ones((1, 2))})
    np.testing.assert_allclose(found["h"], 0.7390851332151607, rtol=1e-14)
    rate = numeric.theoretical_rate(engine, {"V": np.eye(2)}, initial=found)
    assert rate == pytest.approx(np.log(np.sin(0.7390851332151607)), rel=1e-12)


def test_scaled_matrices_have_what_was_asked_for():
    params = {"A": np.arange(9.0).reshape(3, 3), "B": np.ones((3, 2)), "C": np.eye(3, dtype="float32")}
    found = numeric.with_spectral_radius(params, ["A", "C"], 0.7)
    assert np.abs(np.linalg.eigvals(found["A"])).max() == pytest.approx(0.7, rel=1e-14)
    assert found["B"] is params["B"]
    assert found["C"].dtype == np.float32
    turned = numeric.with_orthogonal(params, ("A", "C"), 0.7)
    np.testing.assert_allclose(turned["A"].T @ turned["A"], 0.49 * np.eye(3), atol=1e-15)
    assert np.abs(turned["A"] - turned["C"]).max() > 0.1
    np.testing.assert_array_equal(params["A"], np.arange(9.0).reshape(3, 3))
    assert numeric.norm_bound({"W": np.diag([3.0, -4.0])}, "W", slope=0.25) == pytest.approx(0.0)


# -------------------------------------------------------------------------------------------------------------- errors


def fails(what, *words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as caught:
        what()
    for word in words[1:]:
        assert word in str(caught.value)


def test_every_error_says_what_was_found_and_what_is_expected():
    engine, params, inputs = linear(np.eye(2), 5)
    options = last_step(2)
    for call in (
        lambda **more: numeric.flow(engine, params, inputs, **options, **more),
        lambda **more: numeric.jacobian_product(engine, params, inputs, **more),
        lambda **more: numeric.lyapunov(engine, params, inputs, **more),
    ):
        for wrong in (1, -1, True, 0.0, None):
            fails(
                lambda call=call, wrong=wrong: call(sequence=wrong), f"sequence is {wrong!r}", "from 0 to 0", "B is 1"
            )
    for wrong in ([], [0], [2, 1], [6], [1.5], 3):
        fails(lambda wrong=wrong: numeric.jacobian_product(engine, params, inputs, lags=wrong), "lags is", "T = 5")
    for wrong in (5, -1, 1.0, True):
        fails(lambda wrong=wrong: numeric.lyapunov(engine, params, inputs, discard=wrong), "discard is", "T is 5")
    single, many = numeric.Engine(engine.cell, "float32"), numeric.Engine(engine.cell, "complex128")
    fails(lambda: numeric.lyapunov(single, params, inputs), "float64", "float32")
    fails(lambda: numeric.flow(many, params, inputs, **options), "real", "complex128")
    fails(lambda: numeric.flow(engine, params, inputs, **options).rate("q"), "unknown state or input 'q'", "h, x")
    with pytest.raises(TypeError, match="at"):
        numeric.flow(engine, params, inputs, att="last")


def test_what_is_not_finite_is_named():
    engine = numeric.Engine(derive.parse("h[t] = A @ h[t-1]**2 + B @ x[t]"))
    params, inputs = {"A": np.eye(2), "B": np.ones((2, 1))}, np.full((20, 1, 1), 9.0)
    for call in (
        lambda: numeric.flow(engine, params, inputs, **last_step(2)),
        lambda: numeric.lyapunov(engine, params, inputs),
    ):
        fails(call, "the state h of sequence 0 is not finite from t = 10 on", "fewer steps")
    engine = numeric.Engine(derive.parse("h[t] = sqrt(h[t-1]) + x[t]"))
    fails(lambda: numeric.lyapunov(engine, {}, np.ones((3, 1, 2))), "the step Jacobian is not finite at t = 1")


def test_a_jacobian_of_too_many_words_is_an_error_in_numbers_too(monkeypatch):
    monkeypatch.setattr("derive.words.MAX_WORDS", 1)
    engine = numeric.Engine(derive.parse(derive.load("gru").text, "gru_again"))  # no Jacobian of it is kept yet
    params = engine.init(D=1, H=2, O=1)
    fails(lambda: numeric.lyapunov(engine, params, np.zeros((3, 1, 1))), "the step Jacobian of gru", "words")


def test_what_cannot_be_scaled_is_named():
    params = {"A": np.triu(np.ones((3, 3)), 1), "B": np.ones((3, 2)), "W": np.eye(2)}
    for scale in (numeric.with_spectral_radius, numeric.with_orthogonal):
        fails(lambda scale=scale: scale(params, "W_hh", 1.0), "unknown parameter 'W_hh'")
        fails(lambda scale=scale: scale(params, "B", 1.0), "B has shape (3, 2)", "square")
        for rho in (-1.0, np.inf, np.nan):
            fails(lambda scale=scale, rho=rho: scale(params, "W", rho), f"rho is {rho!r}", "finite")
    fails(lambda: numeric.with_spectral_radius(params, "A", 1.0), "A has spectral radius 0")
    fails(lambda: numeric.norm_bound(params, "W", slope=-1.0), "slope is -1.0")


def test_a_fixed_point_that_is_not_there_is_said():
    engine = numeric.Engine(derive.parse("h[t] = h[t-1] + x[t]"))
    fails(lambda: numeric.fixed_point(engine, {}, np.ones((1, 1, 2))), "no fixed point was found")
    fails(lambda: numeric.fixed_point(engine, {}, np.ones((3, 1, 2))), "T = 1 and B = 1", "T = 3")
    found = numeric.fixed_point(engine, {}, np.zeros((1, 1, 2)))
    assert numeric.theoretical_rate(engine, {}, np.zeros((1, 1, 2)), initial=found) == 0.0


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BPTT_DEBUG", raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_the_table_is_printed_and_the_drawing_written(capsys):
    assert main(["flow", "tanh_rnn"]) == 0
    shown = capsys.readouterr().out
    rows = re.findall(r"^ +([\d.]+) +([+-][\d.]+) +([+-][\d.]+) +(\w+)", shown, re.M)
    assert [row[0] for row in rows] == ["0.8", "1", "1.25"]
    assert all(float(measured) == pytest.approx(float(theory), abs=2e-3) for _, measured, theory, _ in rows)
    assert [rows[0][3], rows[2][3]] == ["vanishes", "explodes"]
    assert shown.endswith("tanh_rnn-flow.svg: norms and singular values by time lag\n")
    drawing = Path("tanh_rnn-flow.svg").read_text(encoding="utf-8")
    assert drawing.startswith("<?xml")
    assert "<text" not in drawing
    assert os.listdir() == ["tanh_rnn-flow.svg"]


@pytest.mark.usefixtures("here")
def test_the_same_drawing_every_time():
    for name in ("a.svg", "b.svg"):
        assert main(["flow", "gru", "--steps", "20", "--size", "3", "--scale", "0.5", "-o", name]) == 0
    assert Path("a.svg").read_bytes() == Path("b.svg").read_bytes()


@pytest.mark.usefixtures("here")
def test_json_holds_everything_and_writes_no_file_unless_asked(capsys):
    command = ["flow", "lstm", "--json", "--steps", "12", "--size", "3", "--scale", "0.5", "2", "--seed", "3"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert os.listdir() == []
    assert (found["cell"], found["steps"], found["seed"], found["sizes"]["H"]) == ("lstm", 12, 3, 3)
    assert found["scaled"] == ["U_i", "U_f", "U_g", "U_o"]
    assert [run["spectral_radius"] for run in found["runs"]] == [0.5, 2.0]
    run = found["runs"][0]
    assert set(run["measured"]) == set(run["log_norms"]) == {"h", "c", "x"}
    assert len(run["log_norms"]["h"]) == len(run["lags"]) == 12
    assert len(run["lyapunov_exponents"]) == len(run["log_singular_values"][0]) == 6
    assert run["product_lags"][-1] == 12
    assert main([*command, "-o", "x.svg"]) == 0
    assert os.listdir() == ["x.svg"]


@pytest.mark.parametrize("arguments", [["--size", "1"], ["--steps", "2"], ["--scale", "1", "2", "3", "4"]])
@pytest.mark.usefixtures("here")
def test_the_smallest_and_the_fullest_are_drawn(arguments):
    assert main(["flow", "lstm", "--steps", "8", "--size", "2", "-o", "x.svg", *arguments]) == 0
    assert Path("x.svg").stat().st_size > 10_000


@pytest.mark.usefixtures("here")
def test_sequences_that_leave_their_fixed_point_are_marked(capsys):
    assert main(["flow", "tanh_rnn", "--steps", "300", "--scale", "0.5", "4"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^ +4 .*\* explodes", shown, re.M)
    assert "*: the fixed point is unstable" in shown


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("a[t] = x[t] + a[t-1]\ny[t] = a[t]", 0, "nothing is scaled"),
        ("h[t] = relu(W @ h[t-1] + b)", 0, "spectral radius of W"),
        ("alpha: scalar\nh[t] = tanh(alpha*h[t-1] + x[t])\nc[t] = W @ c[t-1] + h[t]", 0, "spectral radius of W"),
        ("a[t] = x[t] + a[t-1] + 1", 0, "no fixed point was found"),
        ("y[t] = V @ x[t]\nh[t] = tanh(W @ h[t-1])", 4, "spectral radius of W"),
    ],
)
def test_any_cell_is_drawn(text, status, words, here, capsys):
    (here / "my.cell").write_text(text)
    assert main(["flow", "my.cell", "--steps", "15", "--size", "4"]) == status
    assert words in capsys.readouterr().out
    assert (here / "my-flow.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lsmt"], ["lsmt", "lstm"]),
        (["lstm", "--steps", "1"], ["steps", "from 2 to", "'1'"]),
        (["lstm", "--size", "many"], ["size", "from 1 to 256", "'many'"]),
        (["lstm", "--seed", "-1"], ["seed"]),
        (["lstm", "--scale", "0"], ["spectral radius", "'0'"]),
        (["lstm", "--scale", "nan"], ["spectral radius", "'nan'"]),
        (["lstm", "--scale", "wide"], ["spectral radius", "'wide'"]),
        (["lstm", "--scale", "1", "2", "3", "4", "5"], ["5 values", "at most 4"]),
        (["lstm", "-o", "x.png"], ["x.png", ".svg"]),
        (["lstm", "-o", "folder.svg"], ["folder.svg", "directory"]),
        (["lstm", "-o", "no/where/x.svg"], ["no/where"]),
        (["own.svg", "-o", "own.svg"], ["own.svg", "itself"]),
        (["plain.cell", "--scale", "1"], ["--scale has nothing to scale"]),
        (["log.cell"], ["not finite from t = 1"]),
    ],
)
def test_bad_usage_is_one_line(arguments, words, here, capsys):
    (here / "folder.svg").mkdir()
    (here / "own.svg").write_text("h[t] = tanh(h[t-1])")
    (here / "plain.cell").write_text("h[t] = tanh(h[t-1]) + x[t]")
    (here / "log.cell").write_text("h[t] = log(h[t-1]) + x[t]")
    before = sorted(os.listdir())
    assert main(["flow", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("bptt: error: ")
    assert all(word in line for word in words), line
    assert sorted(os.listdir()) == before


def test_its_help_has_examples_that_are_understood(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["flow", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "Exit status" in text
    examples = re.findall(r"^  bptt (flow .*)$", text, re.M)
    assert len(examples) == 2
    assert all(cli._parser().parse_args(line.split()).run for line in examples)
