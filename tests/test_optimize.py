"""Clipping, updates, and a fit that learns, goes on from its file, and says what went wrong."""

from __future__ import annotations

import doctest
import errno
import importlib
import io
import os
import resource
import subprocess
import sys
import time
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning import BASELINE, TEXT, adding, characters, learn_adding, learn_characters
from odd_cells import ODD
from problems import make_scene, sizes_of

import derive
import numeric
from derive.notation import at
from numeric.checkpoint_file import Snapshot, read_snapshot
from numeric.nonfinite import first_nonfinite
from numeric.nonfinite_search import Recursion, Search
from numeric.problem import check_problem
from numeric.progress_bar import Bar
from numeric.specification import Specification
from numeric.trainer import Trainer
from numeric.training_batch import Objective

# ------------------------------------------------------------------------------------------------------------ clipping

entries = st.floats(allow_nan=False, allow_infinity=False)
gradients = st.fixed_dictionaries(
    {"W": st.lists(entries, min_size=4, max_size=4), "b": st.lists(entries, min_size=1, max_size=3), "alpha": entries}
).map(lambda g: {"W": np.array(g["W"]).reshape(2, 2), "b": np.array(g["b"]), "alpha": np.array(g["alpha"])})
bounds = st.floats(1e-280, 1e300)


def exact_square(grads):
    """The square of the global norm."""
    return sum(Fraction(float(x)) ** 2 for g in grads.values() for x in g.flat)


@given(gradients, bounds)
def test_clipped_norm_is_the_smaller_of_norm_and_bound(grads, most):
    clipped, norm = numeric.clip_by_norm(grads, most)
    square, part = exact_square(grads), Fraction(1, 10**13)
    if np.isfinite(norm) and norm > 1e-300:
        assert abs(Fraction(norm) ** 2 - square) <= part * square
    expected = square if norm <= most else Fraction(most) ** 2
    assert abs(exact_square(clipped) - expected) <= part * expected


@given(gradients, bounds)
def test_clipping_by_norm_keeps_direction_shape_and_its_arguments(grads, most):
    before = {name: g.copy() for name, g in grads.items()}
    clipped, norm = numeric.clip_by_norm(grads, most)
    largest = max(abs(g).max() for g in grads.values())
    for name, g in grads.items():
        assert np.array_equal(g, before[name])
        assert not np.may_share_memory(g, clipped[name])
        assert clipped[name].shape == g.shape
        if largest and abs(largest) > 1e-290:
            top = max(abs(x).max() for x in clipped.values())
            assert np.allclose(clipped[name] / top, g / largest, rtol=1e-13, atol=1e-16)
        if norm <= most:
            assert np.array_equal(clipped[name], g)


@pytest.mark.parametrize(
    ("entry", "count", "norm"),
    [(1e300, 4, 2e300), (1e-300, 4, 2e-300), (5e-324, 1, 5e-324), (1.5e308, 4, np.inf), (0.0, 3, 0.0)],
)
def test_norm_neither_overflows_nor_underflows_on_the_way(entry, count, norm):
    clipped, found = numeric.clip_by_norm({"W": np.full(count, entry)}, 1.0)
    assert found == pytest.approx(norm, rel=1e-14)
    assert np.linalg.norm(clipped["W"]) == pytest.approx(min(1.0, norm), rel=1e-14)


def test_norm_is_global_and_not_that_of_each_array():
    clipped, norm = numeric.clip_by_norm({"W": np.array([[3.0]]), "b": np.array([4.0])}, 1.0)
    assert (norm, float(clipped["W"][0, 0]), float(clipped["b"][0])) == pytest.approx((5.0, 0.6, 0.8), rel=1e-15)


@given(gradients, bounds)
def test_clipping_by_value_is_a_scalar_loop(grads, most):
    clipped = numeric.clip_by_value(grads, most)
    for name, g in grads.items():
        assert [float(x) for x in clipped[name].flat] == [min(max(float(x), -most), most) for x in g.flat]
        assert clipped[name].shape == g.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [lambda g, m: numeric.clip_by_norm(g, m)[0], numeric.clip_by_value])
def test_clipping_keeps_the_dtype(clip, dtype):
    assert clip({"a": np.array(3, dtype)}, 1.0)["a"].dtype == dtype
    assert clip({"a": np.array(0.5, dtype)}, 1.0)["a"].dtype == dtype
    assert clip({}, 1.0) == {}
    assert clip({"a": np.full(2, 3e38, dtype)}, 1e300)["a"].tolist() == [np.array(3e38, dtype)] * 2
    assert clip({"a": np.zeros((0, 2), dtype)}, 1.0)["a"].shape == (0, 2)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("clip", [numeric.clip_by_norm, numeric.clip_by_value])
def test_what_is_not_finite_has_no_direction(clip, bad):
    with pytest.raises(ValueError, match=rf"gradient of U.* holds {bad} at \(1,\)"):
        clip({"W": np.ones(2), "U": np.array([1.0, bad])}, 1.0)
    with pytest.raises(ValueError, match="grads has type list; expected a dict of arrays"):
        clip([1.0], 1.0)
    for most in (0, -1.0, abs(bad), "1", True, None):
        with pytest.raises(ValueError, match=r"most is .*; expected a positive finite number"):
            clip({"W": np.ones(2)}, most)


# ------------------------------------------------------------------------------------------------------------- updates


def sgd_loop(theta, gs, rate, momentum=0.0, nesterov=False):
    """One scalar, by hand."""
    v = 0.0
    for g in gs:
        v = momentum * v + g
        theta = theta - rate * (g + momentum * v if nesterov else v)
    return theta


def adam_loop(theta, gs, rate, betas=(0.9, 0.999), eps=1e-8):
    """One scalar, by hand."""
    m = v = 0.0
    for k, g in enumerate(gs, 1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * (g * g)
        theta = theta - rate * (m / (1 - betas[0] ** k)) / ((v / (1 - betas[1] ** k)) ** 0.5 + eps)
    return theta


def follow(optimizer, theta, gs):
    """The parameters after an update with each of the gradients."""
    params = {"W": np.array(theta)}
    state = optimizer.init(params)
    for g in gs:
        params, state = optimizer.update(params, {"W": np.array(g)}, state)
    assert state.updates == len(gs)
    return params["W"]


OPTIMIZERS = [
    (numeric.SGD(0.1), sgd_loop, {"rate": 0.1}),
    (numeric.SGD(0.1, 0.9), sgd_loop, {"rate": 0.1, "momentum": 0.9}),
    (numeric.SGD(0.1, 0.9, True), sgd_loop, {"rate": 0.1, "momentum": 0.9, "nesterov": True}),
    (numeric.Adam(0.01), adam_loop, {"rate": 0.01}),
    (numeric.Adam(0.3, (0.5, 0.25), 0.1), adam_loop, {"rate": 0.3, "betas": (0.5, 0.25), "eps": 0.1}),
    (numeric.Adam(0.3, (0.0, 0.0)), adam_loop, {"rate": 0.3, "betas": (0.0, 0.0)}),
]


@pytest.mark.parametrize(("optimizer", "loop", "settings"), OPTIMIZERS)
def test_an_update_is_its_formula_entry_by_entry(optimizer, loop, settings):
    rng = np.random.default_rng(0)
    theta, gs = rng.normal(size=(3, 2)), rng.normal(size=(7, 3, 2))
    found = follow(optimizer, theta, gs)
    expected = [[loop(theta[i, j], gs[:, i, j], **settings) for j in range(2)] for i in range(3)]
    assert found == pytest.approx(np.array(expected), rel=1e-14, abs=0)


def test_gradient_descent_on_a_parabola_is_a_geometric_series():
    params, sgd = {"W": np.array([3.0])}, numeric.SGD(0.25)
    state = sgd.init(params)
    for _ in range(20):
        params, state = sgd.update(params, params, state)  # the gradient of W**2/2 is W
    assert params["W"][0] == pytest.approx(3 * 0.75**20, rel=1e-14)


def constant_gradient(optimizer, g=-2.5, count=12):
    """How far a constant gradient has moved a parameter, in units of the rate."""
    return float(follow(optimizer, 0.0, [g] * count)) / optimizer.rate


def momentum_sum(count, mu, first):
    return sum((1 - mu**j) / (1 - mu) for j in range(first, count + first))


CLOSED = [
    (numeric.SGD(0.125), 2.5 * 12),
    (numeric.SGD(0.125, 0.5), 2.5 * momentum_sum(12, 0.5, 1)),
    (numeric.SGD(0.125, 0.5, True), 2.5 * momentum_sum(12, 0.5, 2)),
    (numeric.Adam(0.125, (0.9, 0.999), 0.5), 12 * 2.5 / 3.0),  # mhat = g and vhat = g**2 at every update
]


@pytest.mark.parametrize(("optimizer", "distance"), CLOSED)
def test_a_constant_gradient_moves_by_the_closed_form(optimizer, distance):
    assert constant_gradient(optimizer) == pytest.approx(distance, rel=1e-13)


def test_a_wrong_update_is_seen():
    """The closed forms reject Adam without bias correction or with eps inside the root, and Nesterov with the old v."""

    def uncorrected(k, m, v):
        return m / (v**0.5 + 0.5)

    def inside(k, m, v):
        return m / (1 - 0.9**k) / (v / (1 - 0.999**k) + 0.5) ** 0.5

    def right(k, m, v):
        return m / (1 - 0.9**k) / ((v / (1 - 0.999**k)) ** 0.5 + 0.5)

    def distance(step):
        return sum(step(k, 2.5 * (1 - 0.9**k), 6.25 * (1 - 0.999**k)) for k in range(1, 13))

    assert distance(right) == pytest.approx(CLOSED[3][1], rel=1e-13)
    assert distance(uncorrected) != pytest.approx(CLOSED[3][1], rel=1e-3)
    assert distance(inside) != pytest.approx(CLOSED[3][1], rel=1e-3)
    assert CLOSED[1][1] != pytest.approx(CLOSED[2][1], rel=1e-3)


def test_adam_does_not_depend_on_the_gradients_scale():
    rng = np.random.default_rng(1)
    theta, gs = rng.normal(size=4), rng.normal(size=(9, 4))
    adam = numeric.Adam(0.1, eps=1e-300)
    assert follow(adam, theta, 2.0**40 * gs) == pytest.approx(follow(adam, theta, gs), rel=1e-13)


@pytest.mark.parametrize(("optimizer", "loop", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_update_keeps_dtypes_shapes_and_its_arguments(optimizer, loop, settings, dtype):
    params = {"W": np.ones((2, 3), dtype), "alpha": np.array(0.5, dtype)}
    grads = {name: np.full_like(p, 0.25) for name, p in params.items()}
    state = optimizer.init(params)
    first = optimizer.update(params, grads, state)
    again = optimizer.update(params, grads, state)
    for name, p in params.items():
        assert p.dtype == dtype
        assert np.all(grads[name] == 0.25)
        for new, _ in (first, again):
            assert (new[name].dtype, new[name].shape) == (p.dtype, p.shape)
            assert isinstance(new[name], np.ndarray)
        assert np.array_equal(first[0][name], again[0][name])
    for kind, of in first[1].moments.items():
        assert all(of[n].dtype == dtype and of[n].shape == p.shape for n, p in params.items())
        assert all(not x.any() for x in state.moments[kind].values())


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: numeric.SGD(0), "rate is 0"),
        (lambda: numeric.SGD(np.nan), "rate is nan"),
        (lambda: numeric.SGD("0.1"), "rate is '0.1'"),
        (lambda: numeric.SGD(0.1, 1.0), "momentum is 1.0; expected a number from 0 to below 1"),
        (lambda: numeric.SGD(0.1, nesterov=True), "plain gradient descent"),
        (lambda: numeric.Adam(-1), "rate is -1"),
        (lambda: numeric.Adam(0.1, (0.9, 1.0)), r"betas\[1\] is 1.0"),
        (lambda: numeric.Adam(0.1, 0.9), "betas is 0.9; expected two numbers"),
        (lambda: numeric.Adam(0.1, eps=0), "eps is 0"),
        (lambda: numeric.SGD(10**400), "rate has 401 digits; expected a positive finite number"),
        (lambda: numeric.SGD(np.inf), "rate is inf"),
        (lambda: numeric.SGD(0.1, 0.9, "no"), "nesterov is 'no'; expected True or False"),
        (lambda: numeric.Adam(0.1, (np.nan, 0.9)), r"betas\[0\] is nan"),
    ],
)
def test_settings_that_cannot_be_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_what_does_not_belong_to_the_parameters_is_refused():
    adam, params = numeric.Adam(0.1), {"W": np.ones((2, 2))}
    state = adam.init(params)
    with pytest.raises(ValueError, match=r"gradient of W has shape \(2,\); expected \(2, 2\)"):
        adam.update(params, {"W": np.ones(2)}, state)
    with pytest.raises(ValueError, match="unknown gradient 'w'; expected W"):
        adam.update(params, {"w": np.ones(2)}, state)
    with pytest.raises(ValueError, match="missing gradient of W"):
        adam.update(params, {}, state)
    with pytest.raises(ValueError, match="the state holds the moments none; expected m, v"):
        adam.update(params, params, numeric.SGD(0.1).init(params))
    with pytest.raises(ValueError, match="complex128; expected real"):
        adam.init({"W": np.ones(2, complex)})
    for wrong in (None, {"m": params}):
        with pytest.raises(ValueError, match="expected an UpdateState: make it with init"):
            adam.update(params, params, wrong)
    with pytest.raises(ValueError, match="has made -1 updates"):
        adam.update(params, params, numeric.UpdateState(-1, state.moments))
    with pytest.raises(ValueError, match="the state holds the moments m, v; expected none"):
        numeric.SGD(0.1).update(params, params, state)
    for call in (lambda: adam.init([1]), lambda: adam.update(params, [1], state), lambda: adam.update(None, {}, state)):
        with pytest.raises(ValueError, match="expected a dict of arrays, by parameter"):
            call()
    single = {"W": np.ones(2, "float32")}
    tiny = numeric.Adam(0.1, eps=1e-300)
    with pytest.raises(ValueError, match="eps is 1e-300, which is zero in float32, the dtype of W"):
        tiny.update(single, single, tiny.init(single))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [numeric.SGD(0.1, 0.9), numeric.Adam(0.1)])
def test_a_moment_shrinks_to_zero_and_not_to_a_denormal_number(optimizer, dtype):
    """0.9 times the smallest denormal numbers is rounded to the same again: it would stay there for ever."""
    tiny = np.finfo(dtype).tiny
    params = {"W": np.ones(3, dtype), "alpha": np.array(1, dtype)}
    moments = {k: {n: np.full_like(p, 1.05 * tiny) for n, p in params.items()} for k in optimizer.init(params).moments}
    state, zero = numeric.UpdateState(5, moments), {n: 0 * p for n, p in params.items()}
    for _ in range(60):
        params, state = optimizer.update(params, zero, state)
    left = [x for of in state.moments.values() for x in of.values()]
    assert all(np.all((x == 0) | (np.abs(x) >= tiny)) for x in left)
    assert not np.any([x.any() for x in left[:2]])  # the first moments, or the velocity
    assert all(np.isfinite(p).all() for p in params.values())


@pytest.mark.parametrize("module", ["optimize", "fit", "progress_bar", "nonfinite", "shard"])
def test_the_examples_in_docstrings_are_true(module):
    found = doctest.testmod(importlib.import_module(f"numeric.{module}"))
    assert found.attempted
    assert not found.failed


# ------------------------------------------------------------------------------------------------------------ learning


def test_the_adding_problem_is_learned_over_100_steps():
    found, engine = learn_adding()
    x, target = adding(seed=8, batch=512)(1)  # never seen
    y = engine.forward(found.params, x)["y"][-1]
    assert np.mean((y - target) ** 2) < 0.02 < BASELINE / 8


def test_marks_before_the_window_cannot_be_learned():
    """Truncated to its last 10 steps, the gradient never sees the first mark: no better than the baseline."""
    found, _ = learn_adding(truncate=10, steps=120)
    assert 2 * found.losses[-40:].mean() > 0.75 * BASELINE


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "letters.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize(("truncate", "steps"), [(None, 160), (16, 80)])
def test_a_text_is_learned_in_full_and_truncated(text, truncate, steps):
    found, _ = learn_characters(text, truncate=truncate, steps=steps)
    letters = characters(text)[1]
    assert found.losses[0] > 0.9 * np.log(letters)  # nats a character, as good as guessing
    assert found.losses[-10:].mean() < 0.35


# --------------------------------------------------------------------------------------------------- what a step means

SMALL = numeric.Engine("lstm")


def small_batches(k, steps=6):
    rng = np.random.default_rng([3, k])
    return rng.normal(size=(steps, 4, 2)), rng.integers(0, 3, (steps, 4))


def small_params():
    return SMALL.init(seed=1, D=2, H=5, O=3)


def small_fit(**options):
    given = {"optimizer": numeric.Adam(0.05), "steps": 5, "progress": False} | options
    engine, batches = given.pop("engine", SMALL), given.pop("batches", small_batches)
    return numeric.fit(engine, given.pop("params", small_params()), batches, **given)


def assert_same(a, b):
    """Two fits are the same, bit for bit."""
    assert (a.step, a.state.updates) == (b.step, b.state.updates)
    assert a.losses.tobytes() == b.losses.tobytes()
    for name in a.params:
        assert a.params[name].tobytes() == b.params[name].tobytes()
    for kind, of in a.state.moments.items():
        assert all(x.tobytes() == b.state.moments[kind][name].tobytes() for name, x in of.items())


def test_a_step_is_gradient_clipping_and_update():
    params, sgd = small_params(), numeric.SGD(0.5, 0.9)
    state = sgd.init(params)
    losses = []
    for k in range(1, 6):
        loss, grads = SMALL.value_and_grad(params, *small_batches(k), reduction="mean")
        grads, _ = numeric.clip_by_norm(numeric.clip_by_value(grads, 0.05), 0.1)
        params, state = sgd.update(params, grads, state)
        losses.append(loss)
    assert_same(small_fit(optimizer=sgd, clip=0.1, clip_value=0.05), numeric.Fit(5, params, state, np.array(losses)))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_truncated_training_hands_on_states_and_updates_after_each_chunk(reduction):
    params, sgd = small_params(), numeric.SGD(0.1)
    state, losses = sgd.init(params), []
    for k in (1, 2):
        (x, targets), states, total = small_batches(k), {}, 0.0
        for start, stop in ((0, 4), (4, 6)):
            result = SMALL.backward(params, x[start:stop], targets[start:stop], initial=states, reduction=reduction)
            params, state = sgd.update(params, result.params, state)
            states = {name: result.outputs[name][-1] for name in ("h", "c")}
            total += result.loss * ((stop - start) / 6 if reduction == "mean" else 1)
        losses.append(total)
    found = small_fit(optimizer=sgd, steps=2, truncate=4, reduction=reduction)
    assert_same(found, numeric.Fit(2, params, state, np.array(losses)))


def test_a_chunk_that_holds_all_steps_is_full_training():
    assert_same(small_fit(truncate=6), small_fit())
    assert_same(small_fit(truncate=100), small_fit())


def test_a_loss_at_the_last_step_updates_after_the_last_chunk_only():
    def batches(k):
        x, targets = small_batches(k)
        return x, targets[-1]

    x, targets = batches(1)
    params, sgd = small_params(), numeric.SGD(0.1)
    out = SMALL.forward(params, x[:4])
    options = {"initial": {n: out[n][-1] for n in ("h", "c")}, "at": "last", "reduction": "mean"}
    loss, grads = SMALL.value_and_grad(params, x[4:], targets, **options)
    params, state = sgd.update(params, grads, sgd.init(params))
    found = small_fit(optimizer=sgd, steps=1, truncate=4, at="last", batches=batches)
    assert_same(found, numeric.Fit(1, params, state, np.array([loss])))


def test_a_batch_may_be_ragged_or_without_inputs():
    def ragged(k):
        x, targets = small_batches(k)
        return {"inputs": {"x": x}, "targets": targets, "lengths": [6, 2, 3, 1]}

    assert np.isfinite(small_fit(batches=ragged).losses).all()
    with pytest.raises(ValueError, match="lengths and truncate do not go together"):
        small_fit(batches=ragged, truncate=3)
    engine = numeric.Engine(derive.parse("h[t] = tanh(W @ h[t-1] + b)"))

    def free(k):
        return {"targets": np.full((6, 2, 3), 0.5)}

    options = {"engine": engine, "batches": free, "loss": "squared_error", "params": engine.init(seed=0, H=3)}
    assert small_fit(**options, steps=30).losses[-1] < 0.1 * small_fit(**options, steps=1).losses[0]
    assert small_fit(**options, steps=30, truncate=3).losses[-1] < 0.1 * small_fit(**options, steps=1).losses[0]


@pytest.mark.parametrize("cut", [lambda x, y: (x[:4], y), lambda x, y: (x, y[:4]), lambda x, y: (3.0, y)])
def test_a_batch_is_checked_as_a_whole_before_it_is_cut(cut):
    """Truncated, six targets for four steps would else be no error: each chunk has its own."""
    with pytest.raises(ValueError, match="expected") as right:
        small_fit(batches=lambda k: cut(*small_batches(k)))
    with pytest.raises(ValueError, match="expected") as found:
        small_fit(batches=lambda k: cut(*small_batches(k)), truncate=2)
    assert str(found.value) == str(right.value)


def test_batches_that_end_are_told_and_what_is_done_is_saved(tmp_path):
    supply = iter([small_batches(k) for k in (1, 2, 3)])
    with pytest.raises(numeric.FitError, match=r"step 4: batches\(4\) gives nothing any more") as caught:
        small_fit(batches=lambda k: next(supply), file=tmp_path / "fit.npz", every=9)
    assert_same(caught.value.reached, small_fit(steps=3))
    assert_same(small_fit(file=tmp_path / "fit.npz"), small_fit())


def test_shapes_may_change_from_batch_to_batch_where_the_parameters_allow():
    def changing(k):
        x, targets = small_batches(k, steps=k)
        return x[:, : 1 + k % 3], targets[:, : 1 + k % 3]

    assert np.isfinite(small_fit(batches=changing).losses).all()
    with pytest.raises(ValueError, match=r"x has shape \(6, 4, 1\); expected \(T, B, D\) with D = 2"):
        small_fit(batches=lambda k: (small_batches(k)[0][:, :, : 1 if k == 3 else 2], small_batches(k)[1]))


class Plain:
    """An optimizer of the user's own."""

    def __init__(self, update):
        self.change = update

    def __repr__(self):
        return "Plain()"

    def init(self, params):
        return numeric.UpdateState()

    def update(self, params, grads, state):
        return self.change(params), state


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: {n: x.tolist() for n, x in p.items()}, r"Plain\(\) gave W_i of type list; expected an array"),
        (lambda p: {n: x[:1] for n, x in p.items()}, r"Plain\(\) gave W_i of shape \(1, 2\)"),
        (lambda p: {n: x.astype("float32") for n, x in p.items()}, r"W_i of shape \(5, 2\) and float32; expected"),
        (lambda p: {"W_i": p["W_i"]}, r"Plain\(\) gave no \(params, UpdateState\)"),
        (lambda p: None, r"Plain\(\) gave no \(params, UpdateState\)"),
        (lambda p: p["b_i"].__iadd__(1), "read-only"),
    ],
)
def test_an_optimizer_of_ones_own_is_looked_at(change, says):
    params = small_params()
    with pytest.raises(ValueError, match=says):
        small_fit(optimizer=Plain(change), params=params)
    assert all(np.array_equal(x, params[n]) for n, x in small_params().items())


def test_settings_that_are_too_long_for_a_file_are_refused_when_it_is_written(tmp_path):
    optimizer = Plain(lambda params: dict(params))
    type(optimizer).__repr__, old = (lambda self: "x" * (1 << 21)), type(optimizer).__repr__
    try:
        with pytest.raises(numeric.FitError, match=r"step 1 cannot be saved: the settings have .* repr must be short"):
            small_fit(optimizer=optimizer, file=tmp_path / "fit.npz")
    finally:
        type(optimizer).__repr__ = old
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(ValueError, match="cannot hold a null character"):
        small_fit(file="a\0b")


def test_what_the_callback_gets_is_read_only_and_what_is_returned_is_not():
    seen = []
    found = small_fit(callback=seen.append)
    assert [f.step for f in seen] == [1, 2, 3, 4, 5]
    assert str(found).startswith("step 5, loss ")
    with pytest.raises(ValueError, match="read-only"):
        seen[0].params["b_f"][0] = 1
    found.params["b_f"][0] = 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"every": 0}, "every is 0"),
        ({"truncate": 0}, "truncate is 0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip_value": np.inf}, "clip_value is inf"),
        ({"at": "end"}, "at is 'end'"),
        ({"batches": lambda k: 3}, "batches gave int"),
        ({"batches": lambda k: {"input": 3}}, "unknown array of a batch 'input'.*did you mean inputs"),
        ({"params": {}}, "missing parameter W_i"),
        ({"engine": numeric.Engine("lstm", dtype="complex128")}, "complex128; a fit needs float64 or float32"),
        ({"engine": "lstm"}, "engine is 'lstm'; expected a numeric.Engine"),
        ({"optimizer": numeric.Adam}, "optimizer is <class .*; expected one such as"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected one such as"),
        ({"params": None}, "params has type NoneType; expected a dict of W_i"),
        ({"batches": [1]}, "batches has type list; expected a function"),
        ({"batches": lambda k: None}, "batches gave NoneType"),
        ({"callback": 3}, "callback is 3; expected a function"),
        ({"clip": 10**400}, "clip has 401 digits; expected a positive finite number"),
        ({"batches": lambda k: (small_batches(k)[0][:0], small_batches(k)[1][:0])}, "T = 0; expected at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_refused_and_leave_no_file(options, says, tmp_path):
    with pytest.raises((ValueError, TypeError), match=says):
        small_fit(file=tmp_path / "fit.npz", **options)
    assert not list(tmp_path.iterdir())


def test_the_bar_is_on_stderr_and_can_be_left_out(capsys, monkeypatch):
    small_fit(progress=True)
    assert capsys.readouterr() == ("", "")  # not a terminal, and too short for a line

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    small_fit(progress=True)
    assert "fit 5/5 [========================] loss " in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    monkeypatch.setattr("sys.stderr", silent := Terminal())
    small_fit(progress=False)
    assert not silent.getvalue()
    monkeypatch.setattr("sys.stderr", None)
    with Bar(2) as bar:
        bar(1, 0.5)


# ---------------------------------------------------------------------------------------------------------- resumption


@pytest.mark.parametrize("options", [{}, {"truncate": 4}, {"optimizer": numeric.SGD(0.1, 0.9), "clip": 0.1}])
@pytest.mark.parametrize("every", [1, 3])
def test_a_fit_that_goes_on_is_one_without_a_break(options, every, tmp_path):
    file = tmp_path / "fit.npz"
    for steps in (0, 2, 2, 5):
        found = small_fit(steps=steps, file=file, every=every, **options)
    assert_same(found, small_fit(**options))
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]


def test_the_file_wins_over_the_parameters_that_are_given(tmp_path):
    small_fit(steps=3, file=tmp_path / "fit.npz")
    other = {name: 0 * p for name, p in small_params().items()}
    assert_same(small_fit(file=tmp_path / "fit.npz", params=other), small_fit())


def test_float32_goes_on_as_well(tmp_path):
    options = {
        "engine": (engine := numeric.Engine("gru", dtype="float32")),
        "params": engine.init(seed=0, D=2, H=5, O=3),
        "batches": lambda k: tuple(a.astype("float32") if a.dtype.kind == "f" else a for a in small_batches(k)),
    }
    small_fit(steps=2, file=tmp_path / "fit.npz", **options)
    assert_same(small_fit(file=tmp_path / "fit.npz", **options), small_fit(**options))


def test_a_file_that_forgets_is_seen(tmp_path):
    """Momentum or the number of updates lost on the way: the fit that goes on is not the one without a break."""
    file = tmp_path / "fit.npz"
    small_fit(steps=2, file=file)
    with np.load(file) as archive:
        arrays = dict(archive)
    np.savez(file, **{n: 0 * x if n.startswith("moments") else x for n, x in arrays.items()})
    with pytest.raises(AssertionError):
        assert_same(small_fit(file=file), small_fit())
    about = arrays["about"].tobytes().replace(b'"updates": 2', b'"updates": 0')
    np.savez(file, **arrays | {"about": np.frombuffer(about, np.uint8)})
    with pytest.raises(AssertionError):
        assert_same(small_fit(file=file), small_fit())


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
import test_optimize as laws

file, seed = Path(sys.argv[1]), random.Random(1)
expected = laws.small_fit(steps=40)
reached = kills = 0
while reached < 30:
    child = os.fork()
    if not child:
        laws.small_fit(steps=40, file=file, callback=lambda fit: time.sleep(0.001))
        os._exit(0)
    time.sleep(seed.uniform(0, 0.04 * (1 + kills / 10)))  # on a slow machine, more time for a step
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if file.exists():
        with np.load(file, allow_pickle=False) as archive:
            assert len(archive["losses"]) >= reached
            reached = len(archive["losses"])
laws.assert_same(laws.small_fit(steps=40, file=file), expected)
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fit_that_is_killed_at_any_moment_goes_on_to_the_same_result(tmp_path):
    here = Path(__file__).parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", KILLED, str(tmp_path / "fit.npz")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3


class Interrupter:
    """Raises KeyboardInterrupt at the n-th line that the loop, its file or its bar executes."""

    files = ("fit.py", "trainer.py", "checkpoint_file.py", "progress_bar.py", "optimize.py")

    def __init__(self, n):
        self.left, self.hit = n, False

    def __call__(self, frame, event, argument):
        path = Path(frame.f_code.co_filename)
        return self.line if path.parent.name == "numeric" and path.name in self.files else None

    def line(self, frame, event, argument):
        if event == "line" and not self.hit:
            self.left -= 1
            if self.left < 0:
                self.hit = True
                raise KeyboardInterrupt
        return self.line


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of an open file, let go of by the interrupt
def test_an_interrupt_at_any_line_loses_at_most_the_step_in_flight(tmp_path):
    engine = numeric.Engine("tanh_rnn")
    options = {"engine": engine, "params": engine.init(seed=0, D=2, H=2, O=3), "every": 3, "steps": 4}
    options |= {"optimizer": numeric.SGD(0.1)}
    expected = small_fit(**options)
    n, old = 0, sys.gettrace()
    while True:
        file, asked = tmp_path / f"{n}.npz", []
        interrupter = Interrupter(n)
        sys.settrace(interrupter)
        try:
            small_fit(**options, file=file, batches=lambda k, asked=asked: asked.append(k) or small_batches(k))
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(old)
        if not interrupter.hit:
            break
        if asked and asked[-1] > 1:  # then the steps before are finished
            with np.load(file, allow_pickle=False) as archive:
                assert len(archive["losses"]) >= asked[-1] - 1, n
        assert_same(small_fit(**options, file=file), expected)
        n += 1 if n < 50 else 7
    assert n > 300


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.fixture
def saved(tmp_path):
    """A file that holds 3 steps."""
    small_fit(steps=3, file=tmp_path / "fit.npz")
    return tmp_path / "fit.npz"


def refused(file, says, **options):
    """A fit that refuses a file and leaves it as it is."""
    before = file.read_bytes()
    with pytest.raises(numeric.FitError, match=says):
        small_fit(file=file, **options)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": numeric.SGD(0.1)}, r"another optimizer: Adam\(rate=0.05,.*; found now: SGD\(rate=0.1,"),
        ({"optimizer": numeric.Adam(0.1)}, r"another optimizer: Adam\(rate=0.05"),
        ({"engine": numeric.Engine("lstm", dtype="float32")}, "another dtype: float64; found now: float32"),
        ({"clip": 1.0}, "another clip: None; found now: 1.0"),
        ({"truncate": 3}, "another truncate: None; found now: 3; give"),
        ({"at": "last"}, "another at: every; found now: last"),
        ({"params": SMALL.init(seed=1, D=2, H=6, O=3)}, r"params/\w+ has shape \(5, 2\).*; expected \(6, 2\)"),
        ({"steps": 2}, "holds 3 steps, and steps is 2; ask for at least 3"),
    ],
)
def test_a_file_of_another_fit_is_refused(saved, options, says):
    if "engine" in options:
        options = options | {"params": options["engine"].init(seed=1, D=2, H=5, O=3)}
    refused(saved, says, **options)


def test_a_file_of_another_cell_is_refused_by_the_line_that_differs(saved):
    cell = derive.parse(derive.load("lstm").text.replace("o[t]*tanh(c[t])", "o[t]*c[t]"))
    says = r"another cell: h\[t\] = o\[t\]\*tanh\(c\[t\]\); found now: h\[t\] = o\[t\]\*c\[t\]; give the same"
    refused(saved, says, engine=numeric.Engine(cell))


def reader():
    """What a fit of 3 steps reads from a file."""
    trainer = Trainer(SMALL, numeric.Adam(0.05), Objective("softmax_cross_entropy", "every", None, "mean"))
    begin = trainer.begin(small_params())
    start = Snapshot(0, begin.params, begin.state, np.zeros(0))
    return lambda file: read_snapshot(file, start, trainer.settings(), 3)[0]


def contents(found):
    moments = {f"{k} {n}": x.tobytes() for k, of in found.state.moments.items() for n, x in of.items()}
    params = {n: x.tobytes() for n, x in found.params.items()}
    return found.step, found.state.updates, found.losses.tobytes(), params, moments


def test_a_damaged_file_is_refused_or_read_as_it_was(saved):
    whole, rng, read = saved.read_bytes(), np.random.default_rng(0), reader()
    right = contents(read(saved))
    for data in [*(whole[:n] for n in range(0, len(whole), 61)), b"a text\n" * 50, b"\x80\x04]\x94."]:
        saved.write_bytes(data)
        with pytest.raises(numeric.FitError, match=r"damaged|differ"):
            read(saved)
        assert saved.read_bytes() == data
    refusals = 0
    for k in range(0, len(whole), 29):
        saved.write_bytes(whole[:k] + bytes([whole[k] ^ (1 << int(rng.integers(8)))]) + whole[k + 1 :])
        try:
            found = read(saved)
        except numeric.FitError:
            refusals += 1
        else:
            assert contents(found) == right  # a bit that means nothing: a date in the archive
    assert refusals > len(whole) / 29 / 2


@pytest.mark.parametrize(
    "about",
    [
        b"[" * 100_000,
        b'{"format": 1, "step": ' + b"9" * 100_000 + b"}",
        b'{"format": 1, "step": NaN, "updates": 1}',
        b'{"format": 1, "step": true, "updates": 1}',
        b'{"format": 1, "step": -1, "updates": 1}',
        b'{"format": 1, "step": 3, "updates": 3, "settings": [1]}',
        b'{"format": 2, "step": 3, "updates": 3}',
        b"\xff\xfe",
        b"3",
        b"",
    ],
    ids=range(10),
)
def test_what_a_file_says_of_itself_is_not_believed(saved, about):
    with np.load(saved) as archive:
        arrays = dict(archive)
    np.savez(saved, **arrays | {"about": np.frombuffer(about, np.uint8)})
    refused(saved, "damaged, or not the file of a fit")


def test_nothing_in_a_file_is_unpickled_or_larger_than_it_may_be(saved, tmp_path):
    class Loud:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    with np.load(saved) as archive:
        arrays = dict(archive)
    np.savez(saved, **arrays | {"about": np.array([Loud()], object)})
    refused(saved, "damaged")
    np.savez(saved, **arrays | {"params/b_f": np.array([Loud()], object)})
    refused(saved, "params/b_f has shape")
    assert not (tmp_path / "run").exists()
    np.savez(saved, **arrays | {"params/b_f": np.zeros(10**6)})
    refused(saved, r"params/b_f has shape \(1000000,\)")
    np.savez_compressed(saved, **arrays)
    refused(saved, "uncompressed")
    np.savez(saved, **arrays | {"params/b_f": np.full(5, np.nan)})
    refused(saved, "params/b_f is not finite")
    np.savez(saved, **{n: x for n, x in arrays.items() if n != "params/b_f"})
    refused(saved, "params/b_f differ")
    saved.write_bytes(b"\0" * (1 << 26))
    with pytest.raises(numeric.FitError, match="expected at most"):
        small_fit(file=saved)


def test_a_header_that_promises_too_much_is_refused(saved):
    with zipfile.ZipFile(saved) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["losses.npy"] = entries["losses.npy"].replace(b"'shape': (3,)", b"'shape': (9,)")
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    refused(saved, r"losses has shape \(9,\)")
    entries["losses.npy"] = entries["losses.npy"].replace(b"'shape': (9,)", b"'shape': (3,)") + b"more"
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    refused(saved, "losses has 28 bytes; expected 24")


@pytest.mark.parametrize("where", ["a folder", "a pipe", "no folder", "a file as folder", "a system folder"])
def test_a_place_that_cannot_be_written_is_said_after_one_step(where, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "plain").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    file, says = {
        "a folder": (tmp_path / "there", "not a regular file"),
        "a pipe": (tmp_path / "pipe", "not a regular file"),
        "no folder": (tmp_path / "nowhere" / "fit.npz", "step 1 cannot be saved: No such file or directory"),
        "a file as folder": (tmp_path / "plain" / "fit.npz", "Not a directory"),
        "a system folder": (Path("/proc/fit.npz"), "step 1 cannot be saved"),
    }[where]
    with pytest.raises(numeric.FitError, match=says):
        small_fit(file=file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_and_an_unreadable_file_are_said(saved):
    saved.parent.chmod(0o500)
    with pytest.raises(
        numeric.FitError, match="step 4 cannot be saved: Permission denied; the file still holds step 3"
    ):
        small_fit(file=saved)
    saved.parent.chmod(0o700)
    saved.chmod(0)
    with pytest.raises(numeric.FitError, match="cannot be read: Permission denied"):
        small_fit(file=saved)


def test_a_full_disk_keeps_the_old_file_and_the_result_in_memory(saved, monkeypatch):
    before = saved.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        says = "step 4 cannot be saved: No space left on device; the file still holds step 3; make room"
        with pytest.raises(numeric.FitError, match=says) as caught:
            small_fit(file=saved)
    assert_same(caught.value.reached, small_fit(steps=4))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["fit.npz"]
    assert_same(small_fit(file=saved), small_fit())


@pytest.mark.parametrize("call", ["open", "fdopen", "fsync", "chmod", "replace"])
def test_a_disk_that_is_full_at_any_call_keeps_the_old_file(saved, monkeypatch, call):
    before = saved.read_bytes()

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(numeric.FitError, match="step 4 cannot be saved: No space left on device") as caught:
            small_fit(file=saved)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["fit.npz"]
    assert_same(caught.value.reached, small_fit(steps=4))


def test_two_fits_on_one_file_do_not_overwrite_each_other(saved, tmp_path):
    """The slower one would put an earlier step in place of a later one."""

    def other(fit):
        if fit.step == 4:
            small_fit(file=saved, steps=9)

    with pytest.raises(
        numeric.FitError, match=r"step 5 cannot be saved: it was written by somebody else.*own"
    ) as caught:
        small_fit(file=saved, callback=other)
    assert_same(caught.value.reached, small_fit())
    assert_same(small_fit(file=saved, steps=9), small_fit(steps=9))
    with pytest.raises(numeric.FitError, match="step 1 cannot be saved: it was written by somebody else"):
        small_fit(file=(new := tmp_path / "new.npz"), batches=lambda k: new.write_bytes(b"mine") and small_batches(k))
    assert new.read_bytes() == b"mine"


def test_a_file_that_is_removed_on_the_way_is_written_again(saved):
    small_fit(file=saved, callback=lambda fit: saved.unlink() if fit.step == 4 else None)
    assert_same(small_fit(file=saved), small_fit())


def test_a_write_that_stops_half_way_keeps_the_old_file(saved):
    before, (soft, hard) = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(numeric.FitError, match="step 4 cannot be saved: File too large"):
            small_fit(file=saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["fit.npz"]


def test_a_full_disk_does_not_hide_the_interrupt(saved, monkeypatch):
    def stop(fit):
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        if fit.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        small_fit(file=saved, steps=9, every=9, callback=stop)
    assert "step 5 cannot be saved: full; the file still holds step 4" in caught.value.__notes__[0]


def test_what_a_killed_run_left_behind_is_removed_once_it_is_old(saved):
    names = ("0123456789abcdef", "fedcba9876543210", "backup", "npz.0123456789abcdef")
    old, new, *others = (saved.parent / f".fit.npz.{word}.tmp" for word in names)
    for left in (old, new, *others):
        left.write_bytes(b"half")
    for left in (old, *others):
        os.utime(left, (time.time() - 3600,) * 2)
    small_fit(file=saved)
    assert not old.exists()
    assert new.exists()
    assert all(other.exists() for other in others)  # these are not its own


def test_a_link_and_permissions_stay(saved):
    saved.chmod(0o640)
    link = saved.parent / "link.npz"
    link.symlink_to(saved)
    small_fit(file=link)
    assert link.is_symlink()
    assert saved.stat().st_mode & 0o777 == 0o640
    assert_same(small_fit(file=saved), small_fit())


# ---------------------------------------------------------------------------------------------------------- inf and nan

LINEAR = "h[t] = W @ x[t] + U @ h[t-1]"
SQUARING = "h[t] = W @ x[t] + (U @ h[t-1])**2"
WAVE = "a[t] = W @ x[t]\nh[t] = sin(a[t]**2) + U @ h[t-1]"
GATE = "e[t] = exp(W @ x[t])\nh[t] = e[t]/(1 + e[t]) + U @ h[t-1]"


def one_unit(text, W, U, x, *, fail=3, target=0.0, optimizer=None, **options):
    """A fit of one unit that is fed zeros, and at step ``fail`` the numbers x."""
    engine = numeric.Engine(derive.parse(text))
    params = {"W": np.array([[W]]), "U": np.array([[U]])}

    def batches(k):
        inputs = np.reshape(np.array(x, float) if k == fail else np.zeros(len(x)), (-1, 1, 1))
        given = np.full_like(inputs, target if k == fail else 0.0)
        own = {"cotangents": {"h": given}} if options["loss"] == "linear" else {"targets": given}
        return {"inputs": inputs} | own

    options = {"loss": "squared_error", "steps": 5, "progress": False} | options
    return numeric.fit(engine, params, batches, optimizer=optimizer or numeric.SGD(1e-3), **options)


CASES = {
    "a state": ((SQUARING, 1.0, 1.0, [1e100, 0, 0, 0, 0, 0]), {"loss": "linear", "target": 1.0}, "h", 3, "forwards"),
    "an intermediate": ((GATE, 1.0, 0.5, [0, 0, 0, 1e4, 0, 0]), {}, "e", 4, "forwards"),
    "the loss": ((LINEAR, 1.0, 0.5, [0, 1e160, 0, 0, 0, 0]), {}, "loss", 2, "the loss, summed"),
    "a derivative": ((LINEAR, 1.0, 1e100, [0.0] * 6), {"target": 1.0}, "dL/dh", 2, "backwards from t = 6"),
    "an intermediate's": (
        (WAVE, 1.0, 0.0, [0, 1e150, 0, 0, 0, 0]),
        {"target": 1e170, "loss": "linear"},
        "dL/da",
        2,
        "backwards from t = 6",
    ),
    "a parameter's": (
        (LINEAR, 1e-300, 0.0, [1e200] * 6),
        {"target": 1e200, "loss": "linear"},
        "dL/dW",
        6,
        "summed over time, is inf from t = 6 on, backwards from t = 6",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_inf_or_nan_is_named_and_the_steps_before_are_saved(case, tmp_path):
    arguments, options, tensor, when, says = CASES[case]
    options = options | {"file": tmp_path / "fit.npz", "every": 4}
    with pytest.raises(numeric.FitError, match=f"^step 3: .*{says}") as caught:
        one_unit(*arguments, **options)
    assert (caught.value.step, caught.value.tensor, caught.value.time) == (3, tensor, when)
    assert caught.value.reached.step == 2
    with np.load(tmp_path / "fit.npz") as archive:
        assert len(archive["losses"]) == 2


@pytest.mark.parametrize("case", ["a state", "an intermediate", "the loss"])
@pytest.mark.parametrize("truncate", [1, 2, 4])
def test_truncated_the_time_step_is_that_of_the_batch(case, truncate):
    arguments, options, tensor, when, _ = CASES[case]
    with pytest.raises(numeric.FitError) as caught:
        one_unit(*arguments, **options, truncate=truncate)
    tensor = "U @ h[t-1]" if case == "a state" and truncate < 4 else tensor  # U was updated at t = 2
    assert (caught.value.step, caught.value.tensor, caught.value.time) == (3, tensor, when)


def test_a_chunk_without_a_loss_is_looked_at_as_well():
    engine = numeric.Engine(derive.parse(SQUARING))
    params = {"W": np.array([[1.0]]), "U": np.array([[1.0]])}
    x = np.reshape([1e100, 0, 0, 0, 0, 0], (6, 1, 1))
    options = {"optimizer": numeric.SGD(1e-3), "steps": 1, "loss": "squared_error", "at": "last", "progress": False}
    with pytest.raises(numeric.FitError) as caught:
        numeric.fit(engine, params, lambda k: (x, np.zeros((1, 1))), truncate=4, **options)
    assert (caught.value.tensor, caught.value.time) == ("h", 3)


EVERY_CELL = pytest.mark.parametrize("cell", [*map(derive.load, derive.cells()), *ODD.values()], ids=lambda c: c.name)


@EVERY_CELL
def test_what_is_looked_through_is_what_the_engine_computes(cell):
    """Outputs, derivatives and gradients, in any cell of the language, ragged."""
    scene = make_scene(cell, 0, steps=4, batch=2, sizes=sizes_of(cell, np.random.default_rng(0)), ragged=True)
    right = scene.backward(numeric.Engine(cell))
    options = scene.options | {"initial": scene.initial}
    problem = check_problem(cell, np.dtype("float64"), scene.params, scene.inputs, scene.targets, options)
    search = Search(cell, problem.data, tuple(scene.options["cotangents"]))
    assert search.forwards() is None
    inside = np.arange(4)[:, None, None] < np.asarray(options["lengths"])[None, :, None]
    for name, x in search.outputs().items():
        assert np.where(inside, x, 0) == pytest.approx(np.where(inside, right.outputs[name], 0), rel=1e-12, abs=1e-14)
    recursion, d = Recursion(search.nodes.program, problem.data), {}
    for t in (3, 2, 1, 0):
        here = {n: np.where(inside, c, 0)[t] for n, c in scene.options["cotangents"].items()}
        d[t] = dict(recursion.step(search.values(t), here, inside[t]))
    for name, x in (right.states | right.inputs).items():
        found = np.stack([d[t][at(name)] for t in range(4)])
        assert found == pytest.approx(np.where(inside, x, 0), rel=1e-11, abs=1e-13)
    for name, x in right.params.items():
        assert recursion.sums[name] == pytest.approx(x, rel=1e-11, abs=1e-13)
    for name, x in right.initial.items():
        assert recursion.carried[name] == pytest.approx(x, rel=1e-11, abs=1e-13)


def first_in_the_specification(scene, cell):
    """Step, sequence and entry of the first bad number of the unfused program, run sequence by sequence."""
    specification, options = Specification(cell), scene.options | {"initial": scene.initial}
    problem = check_problem(cell, specification.dtype, scene.params, scene.inputs, scene.targets, options)
    with np.errstate(all="ignore"):
        tapes = [specification.sequence(problem.data, b) for b in range(problem.data.batch)]
        for t in range(problem.data.steps):
            for node in specification.program.nodes:
                for b, tape in enumerate(tapes):
                    if t < len(tape) and not (good := np.isfinite(tape[t][node.symbol])).all():
                        return "forward", t + 1, b, int(np.flatnonzero(~good)[0])
    return None


@pytest.mark.parametrize("scale", [1.0, 1e100, 1e200, 1e300])
@EVERY_CELL
def test_the_first_of_the_values_is_that_of_the_unfused_program(cell, scale):
    sizes = sizes_of(cell, np.random.default_rng(1))
    scene = make_scene(cell, 1, steps=5, batch=3, sizes=sizes, ragged=True, scale=scale)
    options = {n: x for n, x in scene.options.items() if n in ("lengths", "steps", "batch")}
    found = first_nonfinite(numeric.Engine(cell), scene.params, scene.inputs, initial=scene.initial, **options)
    expected = first_in_the_specification(scene, cell)
    assert (found and (found.direction, found.step, found.sequence, found.entry)) == expected


CHAIN = derive.parse("h[t] = W @ h[t-1] + x[t]")


def in_chain(W, x, g, dtype="float64", **options):
    """The first inf or nan of a chain of one unit with the linear loss."""
    arrays = {"inputs": np.reshape(x, (-1, 1, 1)), "cotangents": {"h": np.reshape(g, (-1, 1, 1))}}
    arrays["inputs"] = arrays["inputs"].astype(dtype)
    arrays["cotangents"]["h"] = arrays["cotangents"]["h"].astype(dtype)
    return first_nonfinite(
        numeric.Engine(CHAIN, dtype), {"W": np.array([[W]], dtype)}, loss="linear", **arrays | options
    )


@pytest.mark.parametrize(("dtype", "power", "first"), [("float64", 100, 3), ("float32", 30, 5), ("complex128", 60, 1)])
def test_the_first_derivative_is_the_last_in_time(dtype, power, first):
    """dL/dh[t] = W**(7 - t) at t = 7, 6, ... for W = 10**power: beyond what the type can hold from ``first`` down."""
    found = in_chain(10.0**power, [0.0] * 7, [0.0] * 6 + [1.0], dtype)
    assert power * (7 - first) > np.log10(np.finfo(dtype).max) > power * (6 - first)
    assert (found.tensor, found.step, found.sequence, found.entry) == ("dL/dh", first, 0, 0)
    assert (found.direction, found.begins) == ("backward", 7)
    assert str(found) == f"dL/dh[t] is {found.value} at t = {first} (sequence 0, entry 0), backwards from t = 7"
    assert found.later(3).step == first + 3


def test_the_derivative_by_an_initial_state_is_at_step_zero():
    found = in_chain(1e200, [0.0, 0.0], [0.0, 1.0])
    assert (found.tensor, found.step) == ("dL/dh", 0)


def test_a_derivative_by_an_input_is_named_last():
    engine = numeric.Engine(derive.parse("h[t] = b + 1e200*x[t] + 0*h[t-1]"))
    options = {"loss": "linear", "cotangents": {"h": np.full((3, 1, 1), 1e200)}}
    found = first_nonfinite(engine, {"b": np.zeros(1)}, np.zeros((3, 1, 1)), **options)
    assert (found.tensor, found.step) == ("dL/dx", 3)
    options["cotangents"]["h"][:] = 1e308
    found = first_nonfinite(engine, {"b": np.zeros(1)}, np.zeros((3, 1, 1)), **options)
    assert (found.tensor, found.step, found.sequence) == ("dL/db", 2, None)
    assert str(found) == "dL/db, summed over time, is inf from t = 2 on, backwards from t = 3"


def test_the_sequence_is_named_and_padding_is_not_looked_at():
    engine = numeric.Engine(derive.parse("h[t] = W @ h[t-1] + x[t]\ny[t] = exp(h[t])"))
    x = np.zeros((5, 4, 2))
    x[1, 2, 1] = 1e3
    x[3, 0, 0] = 1e3
    params = {"W": np.eye(2)}
    found = first_nonfinite(engine, params, x)
    assert (found.tensor, found.step, found.sequence, found.entry, found.value) == ("y", 2, 2, 1, np.inf)
    found = first_nonfinite(engine, params, x, lengths=[5, 5, 1, 5])
    assert (found.step, found.sequence, found.entry) == (4, 0, 0)
    assert first_nonfinite(engine, params, x, lengths=[3, 5, 1, 5]) is None
    targets = np.zeros((5, 4, 2))
    assert first_nonfinite(engine, params, x, targets, loss="squared_error", lengths=[3, 5, 1, 5]) is None


def test_what_is_undefined_in_the_padding_is_nobodys():
    """Padding is zero, and 1/0 there is neither a value nor a derivative of any sequence."""
    engine = numeric.Engine(derive.parse("h[t] = b/x[t] + 0.5*h[t-1]"))
    x = np.ones((4, 2, 1))
    given = {"loss": "squared_error", "targets": np.zeros((4, 2, 1)), "lengths": [4, 2]}
    assert first_nonfinite(engine, {"b": np.ones(1)}, x, **given) is None
    x[3, 0] = 0
    found = first_nonfinite(engine, {"b": np.ones(1)}, x, **given)
    assert (found.tensor, found.step, found.sequence) == ("h", 4, 0)


@pytest.mark.parametrize("at", ["every", "last"])
def test_a_loss_is_named_with_the_step_and_the_sequence_that_it_overflows_with(at):
    lengths = [4, 2, 3]
    targets = np.zeros((4, 3, 1)) if at == "every" else np.zeros((3, 1))
    targets[(1, 1) if at == "every" else 1] = 1e160
    options = {"loss": "squared_error", "at": at, "lengths": lengths, "reduction": "mean"}
    found = first_nonfinite(numeric.Engine(CHAIN), {"W": np.zeros((1, 1))}, np.zeros((4, 3, 1)), targets, **options)
    assert (found.tensor, found.step, found.sequence, found.value) == ("loss", 2, 1, np.inf)
    assert str(found).startswith("the loss, summed over time, is inf from t = 2 on (sequence 1), though all")


def test_what_is_asked_of_the_engine_is_its_cell_and_its_dtype():
    """So that an engine may ask, in a pass of its own, where its own result was lost."""

    class Described:
        cell, dtype = CHAIN, np.dtype("float64")

    x = np.full((3, 1, 1), 1e308)
    assert str(first_nonfinite(Described(), {"W": np.ones((1, 1))}, x)).startswith("h[t] is inf at t = 2")
    with pytest.raises(ValueError, match="x has shape"):
        first_nonfinite(Described(), {"W": np.ones((1, 1))}, x[0])


def test_a_part_of_an_equation_is_named_as_it_is_written():
    engine = numeric.Engine("tanh_rnn")
    params = engine.init(seed=0, D=2, H=3, O=2)
    params["b"][1] = 1e308
    params["W_xh"][1] = 1e200
    found = first_nonfinite(engine, params, np.full((3, 1, 2), 1e200))
    assert str(found) == "W_xh @ x[t], a part of h[t], is inf at t = 1 (sequence 0, entry 1), forwards from t = 1"
    params["W_xh"][1] = 1e308
    found = first_nonfinite(engine, params, np.full((3, 1, 2), 0.5))
    assert str(found) == "a_h[t], a part of h[t], is inf at t = 1 (sequence 0, entry 1), forwards from t = 1"


def test_an_update_that_overflows_is_named():
    with pytest.raises(numeric.FitError, match=r"step 3: W after the update is not finite") as caught:
        one_unit(LINEAR, 1.0, 0.5, [1e3] * 6, optimizer=numeric.SGD(1e306))
    assert (caught.value.step, caught.value.tensor) == (3, "W")
    with pytest.raises(numeric.FitError, match=r"the moment v of W after the update is not finite"):
        one_unit(LINEAR, 1e-300, 0.0, [1e100] * 6, target=1e100, loss="linear", optimizer=numeric.Adam(0.1))


def test_a_batch_that_is_not_finite_is_an_error_that_saves_what_is_done(tmp_path):
    with pytest.raises(ValueError, match=r"x, of shape .* holds nan"):
        one_unit(LINEAR, 1.0, 0.5, [0.0, np.nan], file=tmp_path / "fit.npz", every=9)
    with np.load(tmp_path / "fit.npz") as archive:
        assert len(archive["losses"]) == 2
