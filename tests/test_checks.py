"""Forward mode, differences, the noise scale, the dot-product law and the table: each agrees, and each can disagree."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hand_written import LOOPS
from odd_cells import ODD, cell_named
from problems import make_scene

import derive
import numeric
from derive.mistakes import plant
from derive.notation import FUNCTIONS, at
from numeric import sensitivity
from numeric.check import METHODS
from numeric.cross_check import find_outliers
from numeric.differences import central, complex_step, convergence, richardson
from numeric.dot_product import check_dot_product
from numeric.forward_mode import jvp
from numeric.nodewise import evaluator
from numeric.noise import LIMIT, UNIT, measure_noise, noise_scale
from numeric.noise_pass import NoisyPass
from numeric.noise_program import noise_program
from numeric.problem import check_problem
from numeric.rounding import rounding
from numeric.sensitivity import rtrl
from numeric.specification import Specification, by_name

U, SINGLE = UNIT["float64"], UNIT["float32"]
SHIPPED = derive.cells()
CELLS = (*SHIPPED, *ODD)


class Changed(numeric.Engine):
    """An engine whose backward pass ends with a change."""

    change = staticmethod(lambda result: None)

    def backward(self, *args, **options):
        result = super().backward(*args, **options)
        self.change(result)
        return result


def changed(name, change):
    engine = Changed(cell_named(name))
    engine.change = change
    return engine


def scene_of(name, seed=3, **options):
    cell = cell_named(name)
    sizes = {x: i + 2 for i, x in enumerate(cell.dimensions)}
    return make_scene(cell, seed, **({"steps": 4, "batch": 3, "sizes": sizes} | options))


def as_type(scene, dtype):
    """The arrays of a scene in another type; float32 numbers stay what they are in float64."""
    for part in (scene.params, scene.inputs, scene.initial, scene.options.get("cotangents", {})):
        part.update({n: np.asarray(x).astype(np.float32).astype(dtype) for n, x in part.items()})
    if scene.targets is not None and scene.targets.dtype.kind == "f":
        scene.targets = scene.targets.astype(np.float32).astype(dtype)
    return scene


def extent(scene):
    return {n: scene.options[n] for n in ("steps", "batch", "lengths") if n in scene.options}


def gradients(scene, engine):
    found = scene.backward(engine)
    return by_name(found.params, found.inputs, found.initial)


def scale_of(scene, **more):
    return noise_scale(
        scene.cell, scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options, **more
    )


def worst(found, right, scale, u=U):
    """The largest error in units of u sigma'; entries without noise must be equal."""
    units = [0.0]
    for n, s in scale.items():
        error = np.abs(np.asarray(found[n], float) - right[n])
        assert not error[s == 0].any(), n
        units.append(float((error[s > 0] / (u * s[s > 0])).max(initial=0)))
    return max(units)


def direction(scene, seed=1):
    random = np.random.default_rng(seed)
    points = by_name(scene.params, scene.inputs, scene.initial)
    return {n: random.normal(size=np.shape(p)) for n, p in points.items()}


# ------------------------------------------------------------------------------------------------------- forward mode


def by_complex_step(scene, v, h=1e-30):
    out = numeric.Engine(scene.cell, "complex128").forward(
        {n: p + 1j * h * v[n] for n, p in scene.params.items()},
        {n: x + 1j * h * v[n] for n, x in scene.inputs.items()},
        {n: s + 1j * h * v[f"{n}0"] for n, s in scene.initial.items()},
        **extent(scene),
    )
    return {n: y.imag / h for n, y in out.items()}


@pytest.mark.parametrize("name", CELLS)
def test_tangents_are_those_of_the_complex_step(name):
    scene = scene_of(name, ragged=True)
    engine, v = numeric.Engine(scene.cell), direction(scene)
    outputs, tangents = jvp(engine, scene.params, scene.inputs, v, initial=scene.initial, **extent(scene))
    plain = engine.forward(scene.params, scene.inputs, scene.initial, **extent(scene))
    right = by_complex_step(scene, v)
    assert list(outputs) == list(tangents) == list(plain)
    for n, y in plain.items():
        np.testing.assert_allclose(outputs[n], y, rtol=0, atol=64 * U * (1 + np.abs(y).max()))
        assert np.abs(tangents[n] - right[n]).max() <= 256 * U * (1 + np.abs(right[n]).max()), n
    assert any(t.any() for t in tangents.values()) == any(t.any() for t in right.values())


def test_tangents_in_every_type():
    scene = as_type(scene_of("lstm", ragged=True), np.float64)
    v = {n: x.astype(np.float32).astype(float) for n, x in direction(scene).items()}
    right = jvp(numeric.Engine("lstm"), scene.params, scene.inputs, v, initial=scene.initial, **extent(scene))[1]
    for dtype, u in (("float32", SINGLE), ("complex128", U)):
        own = as_type(scene_of("lstm", ragged=True), dtype)
        moves = {n: x.astype(dtype) for n, x in v.items()}
        found = jvp(numeric.Engine("lstm", dtype), own.params, own.inputs, moves, initial=own.initial, **extent(own))[1]
        for n, t in found.items():
            assert t.dtype == dtype
            assert np.abs(t - right[n]).max() <= 64 * u * np.abs(right[n]).max()


def test_what_is_left_out_does_not_move_and_padding_does_not_matter():
    scene = scene_of("gru", ragged=True)
    scene.options["lengths"] = np.array([4, 2, 1])
    engine, whole = numeric.Engine(scene.cell), direction(scene)

    def tangents(moves):
        return jvp(engine, scene.params, scene.inputs, moves, initial=scene.initial, **extent(scene))[1]

    parts = [tangents({n: x}) for n, x in whole.items()]
    for n, t in tangents(whole).items():
        np.testing.assert_allclose(sum(part[n] for part in parts), t, atol=1e-14)
        assert not tangents({})[n].any()
    ended = whole["x"].copy()
    ended[2:, 1] = ended[1:, 2] = np.nan
    for n, t in tangents(whole | {"x": ended}).items():
        np.testing.assert_array_equal(t, tangents(whole)[n])
    h, y = (tangents(whole)[n] for n in "hy")
    np.testing.assert_array_equal(h[1:, 2], np.broadcast_to(h[0, 2], h[1:, 2].shape))
    assert not y[1:, 2].any()


@pytest.mark.parametrize(
    ("tangents", "words"),
    [
        ({"W_hx": np.zeros((2, 3))}, "unknown tangent 'W_hx'; .*did you mean W_hh"),
        ({"h": np.zeros((3, 2))}, "unknown tangent 'h'; .*h0"),
        ({"W_hh": np.zeros((2, 3))}, r"tangents\['W_hh'\] has shape \(2, 3\); expected \(2, 2\)"),
        ({"x": np.zeros((4, 3))}, r"tangents\['x'\] has shape \(4, 3\); expected \(4, 3, 3\)"),
        ({"b": [np.nan, 0]}, r"tangents\['b'\], of shape \(2,\), holds nan"),
        (None, "tangents has type NoneType; expected a dict with any of W_hh"),
    ],
)
def test_a_direction_that_fits_nothing_is_refused(tangents, words):
    scene = scene_of("tanh_rnn")
    with pytest.raises(ValueError, match=words):
        jvp(numeric.Engine(scene.cell), scene.params, scene.inputs, tangents)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_recurrent_learning_gives_every_gradient(name, ragged):
    scene = scene_of(name, ragged=ragged, loss="softmax_cross_entropy", reduction="mean")
    engine = numeric.Engine(scene.cell)
    right = gradients(scene, engine)
    options = {"initial": scene.initial, **scene.options}
    loss, found = rtrl(engine, scene.params, scene.inputs, scene.targets, of=right, **options)
    assert worst(found, right, scale_of(scene)) < LIMIT
    assert loss == pytest.approx(scene.backward(engine).loss, rel=1e-13)


def test_recurrent_learning_in_small_chunks_and_of_some_tensors(monkeypatch):
    scene = scene_of("lstm_peephole", ragged=True)
    engine, options = numeric.Engine(scene.cell), {"initial": scene.initial, **scene.options}
    _, whole = rtrl(engine, scene.params, scene.inputs, **options)
    assert list(whole) == [*scene.params, *(f"{n}0" for n in scene.cell.states)]
    monkeypatch.setattr(sensitivity, "ROOM", 100)
    _, parts = rtrl(engine, scene.params, scene.inputs, of=("c0", "U_f", "p_o"), **options)
    assert list(parts) == ["c0", "U_f", "p_o"]
    for n, g in parts.items():
        np.testing.assert_allclose(g, whole[n], rtol=1e-13, atol=1e-15)
    with pytest.raises(ValueError, match="unknown tensor 'c'"):
        rtrl(engine, scene.params, scene.inputs, of=("c",), **options)


def test_recurrent_learning_does_not_look_at_the_backward_program():
    scene = scene_of("gru")
    wrong = next(iter(plant(derive.differentiate(scene.cell).backward)))
    options = {"initial": scene.initial, **scene.options}
    _, found = rtrl(numeric.Engine(scene.cell, backward=wrong.backward), scene.params, scene.inputs, **options)
    right = gradients(scene, numeric.Engine(scene.cell))
    assert worst(found, right, {n: s for n, s in scale_of(scene).items() if n in found}) < LIMIT


# -------------------------------------------------------------------------------------------------------- differences

SMOOTH = {
    "exp": (np.exp, 1.0),
    "sin": (lambda h: np.sin(1 + h), np.cos(1)),
    "steep": (lambda h: np.tanh(30 * h), 30.0),
    "steeper": (lambda h: np.tanh(3e4 * h), 3e4),
    "cubic": (lambda h: 2 + h + h**3, 1.0),
    "flat": (lambda h: 1 + 0 * h, 0.0),
    "pole nearby": (lambda h: 1 / (0.05 + h), -400.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_estimate_covers_the_error_and_is_small(name):
    f, right = SMOOTH[name]
    found = richardson(f, noise=4 * U * max(1, abs(f(0.0))))
    assert abs(found.value - right) <= found.error
    assert found.error <= 1e-6 * abs(right) + 1e-12
    assert complex_step(f) == pytest.approx(right, rel=4 * U)


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_a_kink_within_the_steps_is_no_surprise(distance):
    found = richardson(lambda h: abs(h - distance), noise=U)
    assert abs(found.value + 1) <= found.error


def test_noise_is_part_of_the_estimate():
    random = np.random.default_rng(0)
    found = richardson(lambda h: np.exp(h) + 1e-6 * random.uniform(-1, 1), noise=1e-6)
    assert 1e-12 < abs(found.value - 1) <= found.error < 1e-2


def test_orders_of_convergence_are_measured():
    found = convergence(lambda h: np.exp(h) + np.sin(3 * h), noise=8 * U)
    assert found.central_order == pytest.approx(2, abs=0.02)
    assert found.extrapolated_order == pytest.approx(4, abs=0.1)
    assert found.central[0] == central(lambda h: np.exp(h) + np.sin(3 * h), found.steps[0])
    kinked = convergence(lambda h: np.exp(h) * np.abs(h - 1e-3), noise=8 * U)
    assert abs(kinked.central_order - 2) > 0.1
    assert convergence(lambda h: 2 + 3 * h, noise=8 * U).central_order is None
    assert convergence(lambda h: h**3, noise=8 * U).extrapolated_order is None


# ---------------------------------------------------------------------------------------------------------- the noise

X, Y, Z = at("x"), at("y"), at("z")
EXPRESSIONS = {
    "difference": 1 - X,
    "sum": X + Y + Z + 2,
    "product": X * Y * Z,
    "mixture": (1 - X) * Y + X * Z,
    "power": (X + Y) ** 3,
    "quotient": (X + Y) / (3 + Z**2),
    "inside a function": FUNCTIONS["tanh"](X * Y + Z),
    "logarithm": FUNCTIONS["log"](4 + X * Y),
    "kinks": FUNCTIONS["relu"](X + Y) - FUNCTIONS["abs"](Z - X),
    "derivative": FUNCTIONS["sigmoid"].prime(X) * Y,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_the_rounding_of_an_expression_is_what_single_precision_shows(name):
    random = np.random.default_rng(5)
    points = {s: random.uniform(-2, 2, 4000).astype(np.float32) for s in (X, Y, Z)}
    exact = {s: p.astype(np.float64) for s, p in points.items()}
    run = evaluator({at("e"): EXPRESSIONS[name]})
    size = evaluator({at("r"): rounding(EXPRESSIONS[name], from_values=False)})(exact)[at("r")]
    error = np.abs(run(points)[at("e")].astype(np.float64) - run(exact)[at("e")]) / (SINGLE * size)
    assert 0.2 < error.max() < 4


def test_a_derivative_from_values_has_the_noise_of_the_values():
    x = np.array([0.1, 20.0])
    prime = FUNCTIONS["tanh"].prime(X)
    sizes = [evaluator({at("r"): rounding(prime, from_values=b)})({X: x})[at("r")] for b in (True, False)]
    np.testing.assert_allclose(sizes[0], 3 * np.tanh(x) ** 2 + 1 - np.tanh(x) ** 2)
    assert sizes[1][1] == pytest.approx(4 * np.exp(-40.0))


@pytest.mark.parametrize("name", CELLS)
def test_the_pass_without_noise_is_the_unfused_program(name):
    scene = scene_of(name, ragged=True, loss="squared_error")
    options = {"initial": scene.initial, **scene.options}
    problem = check_problem(scene.cell, np.dtype(float), scene.params, scene.inputs, scene.targets, options)
    clean = NoisyPass(noise_program(scene.cell, True), problem.data, problem.loss).clean
    right = scene.backward(Specification(scene.cell))
    assert clean.loss == pytest.approx(right.loss, rel=1e-14)
    for n, g in by_name(right.params, right.inputs, right.initial).items():
        assert np.abs(clean.gradients[n] - g).max() <= 64 * U * (right.magnitude[n].max() + 1e-300), n
        np.testing.assert_allclose(clean.magnitude[n], right.magnitude[n], rtol=1e-13)


CALIBRATION = [
    (name, {"loss": loss, "at": at_, "reduction": reduction, "ragged": ragged, "scale": scale})
    for i, name in enumerate((*SHIPPED, *ODD))
    for loss, at_, reduction, ragged, scale in (
        [
            ("softmax_cross_entropy", "every", "sum", True, 1.0),
            ("squared_error", "last", "mean", False, 2.0),
            ("linear", "every", "mean", True, 0.5),
        ]
        if name in SHIPPED
        else [(("softmax_cross_entropy", "squared_error", "linear")[i % 3], "every", "sum", i % 2 == 0, 1.0)]
    )
]


@pytest.mark.parametrize(("name", "options"), CALIBRATION)
def test_right_gradients_stay_within_the_limit(name, options):
    steps = 12 if name in SHIPPED else 6
    double, single = (as_type(scene_of(name, 7, steps=steps, **options), t) for t in (np.float64, np.float32))
    engine = numeric.Engine(double.cell)
    right = gradients(double, engine)
    scale = scale_of(double)
    plain = double.backward(Specification(double.cell))
    assert worst(by_name(plain.params, plain.inputs, plain.initial), right, scale) < LIMIT
    assert worst(gradients(single, numeric.Engine(double.cell, "float32")), right, scale, SINGLE) < LIMIT
    for n, s in scale_of(double, from_values=False).items():
        assert (s <= 3 * scale[n]).all(), n  # smaller, or the same but for what is drawn


def test_the_scale_is_that_of_the_entry_however_small_the_gradient_is():
    scene = scene_of("tanh_rnn", steps=60, batch=1, scale=0.5, at="last")
    scale, found = scale_of(scene)["x"], np.abs(gradients(scene, numeric.Engine(scene.cell))["x"])
    assert found[0].max() < 1e-26
    assert (scale[found > 0] < 1e4 * found[found > 0]).all()
    assert (scale > found / 8).all()


def test_the_scale_does_not_depend_on_how_many_entries_there_are():
    small, large = (scene_of("tanh_rnn", batch=1, steps=3, sizes={"H": 4, "D": d, "O": 2}) for d in (2, 300))
    large.params.update({n: small.params[n] for n in ("W_hh", "b", "W_hy")})
    large.params["W_xh"] = np.pad(small.params["W_xh"], ((0, 0), (0, 298)))
    large.inputs["x"] = np.pad(small.inputs["x"], ((0, 0), (0, 0), (0, 298)))
    large.initial, large.options = small.initial, small.options
    one, other = scale_of(small), scale_of(large)
    np.testing.assert_allclose(one["W_hh"], other["W_hh"], rtol=0.5)
    assert not other["W_xh"][:, 2:].any()  # of exact zeros


def test_noise_is_seeded_and_its_size_does_not_depend_on_the_seed():
    scene = scene_of("gru", ragged=True)
    first, again, other = (scale_of(scene, seed=s, runs=64) for s in (0, 0, 1))
    for n, s in first.items():
        np.testing.assert_array_equal(s, again[n])
        np.testing.assert_allclose(s, other[n], rtol=0.6)
    with pytest.raises(ValueError, match="runs is 0; expected a positive integer"):
        scale_of(scene, runs=0)


def test_runs_in_several_chunks_are_as_many(monkeypatch):
    scene = scene_of("gru")
    one = scale_of(scene, runs=64)
    monkeypatch.setattr("numeric.noise.ROOM", 5_000)
    for n, s in scale_of(scene, runs=64).items():
        np.testing.assert_allclose(s, one[n], rtol=0.6)


def test_noise_along_a_direction():
    scene = scene_of("lstm")
    problem = check_problem(
        scene.cell, np.dtype(float), scene.params, scene.inputs, None, {"initial": scene.initial, **scene.options}
    )
    one = np.zeros_like(scene.params["U_f"])
    one[1, 0] = 1.0
    found = measure_noise(scene.cell, problem, directions=[{"U_f": one}])
    assert found.along(0, {"U_f": 2.0}) == pytest.approx(2 * found.scale["U_f"][1, 0])


# ------------------------------------------------------------------------------------------------ the dot-product law


def law(scene, engine, **more):
    return check_dot_product(engine, scene.params, scene.inputs, initial=scene.initial, **extent(scene), **more)


@pytest.mark.parametrize("name", CELLS)
def test_the_dot_product_law_holds_in_double_and_in_single_precision(name):
    for dtype in ("float64", "float32"):
        scene = as_type(scene_of(name, ragged=True), dtype)
        rows = law(scene, numeric.Engine(scene.cell, dtype), directions=2)
        assert all(row.ok for row in rows), rows
    assert len({row.forward for row in rows}) == 2


@pytest.mark.parametrize("tensor", ["W_r", "U_z", "b_n", "W_y", "x", "h0"])
def test_the_law_sees_one_wrong_entry_in_any_tensor(tensor):
    def change(result):
        group = {"x": result.inputs, "h0": {"h0": result.initial["h"]}}.get(tensor, result.params)
        group[tensor].flat[1] *= 1 + 1e-10

    scene = scene_of("gru", ragged=False, steps=8, sizes={"H": 16, "D": 8, "O": 4})
    assert all(row.ok for row in law(scene, numeric.Engine("gru")))
    assert min(row.units for row in law(scene, changed("gru", change))) > LIMIT


def test_a_law_without_directions_is_refused():
    scene = scene_of("tanh_rnn")
    with pytest.raises(ValueError, match="directions is 0"):
        law(scene, numeric.Engine(scene.cell), directions=0)


# ----------------------------------------------------------------------------------------------------------- the table

MISTAKES = {w.mistake: w for w in reversed(list(plant(derive.differentiate(derive.load("tanh_rnn")).backward)))}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_method_sees_every_mistake_by_itself(mistake):
    scene = scene_of("tanh_rnn", 23, steps=4, batch=2, sizes={"H": 3, "D": 3, "O": 3})
    table = scene.check(numeric.Engine(scene.cell, backward=MISTAKES[mistake].backward), entries=4)
    for method in table.methods:
        wrong = [row for row in table.rows if row.method == method and not row.ok]
        assert wrong, method
        assert max(row.units for row in wrong) > 1e9
    assert not any(row.ok for row in table.laws)
    differing = {row.parameter for row in table.rows if not row.ok}
    assert {e.outliers for e in table.entries if e.parameter in differing} == {("engine",)}


def lost(result):
    result.inputs["x"][0], result.initial["h"][:] = 0, 0


def averaged(result):
    result.params.update({n: g / 2 for n, g in result.params.items()})


def slightly(result):
    result.params["W_hh"][1, 0] *= 1 + 1e-10


WRONG = {"first step lost": lost, "mean over the batch": averaged, "one entry, in the tenth digit": slightly}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_engine_is_named(wrong):
    scene = scene_of("tanh_rnn", steps=30, batch=2, scale=0.6, at="last", ragged=False)
    right = scene.check(numeric.Engine(scene.cell), entries=3)
    assert right.ok, f"\n{right}"
    table = scene.check(changed("tanh_rnn", WRONG[wrong]), entries=3)
    assert not table.ok
    bad = {row.parameter for row in table.rows if not row.ok}
    assert all(e.outliers == ("engine",) for e in table.entries if e.parameter in bad)
    assert "outlier engine" in str(table)
    assert not all(row.ok for row in table.laws)


HARD = {
    "vanishing": {"steps": 60, "batch": 1, "scale": 0.5, "at": "last"},
    "expanding": {"steps": 12, "scale": 4.0},
    "saturated": {"steps": 8, "scale": 60.0},
    "one step": {"steps": 1, "batch": 1},
    "ragged": {"steps": 7, "ragged": True},
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", ["tanh_rnn", "lstm"])
def test_right_engines_pass_where_it_is_hard(name, hard):
    scene = scene_of(name, 5, **HARD[hard])
    methods = METHODS if name == "tanh_rnn" else ("forward mode", "complex step", "dot-product law")
    table = scene.check(numeric.Engine(scene.cell), entries=2, methods=methods)
    assert table.ok, f"\n{table}"
    assert {e.outliers for e in table.entries} == {()}


def test_a_gradient_of_zero_must_be_zero():
    name = "parts that no loss reaches"
    scene = scene_of(name)
    scene.options["cotangents"] = {"y": scene.options["cotangents"]["y"]}
    table = scene.check(numeric.Engine(scene.cell), entries=2)
    assert table.ok, f"\n{table}"
    assert {e.noise for e in table.entries if e.parameter in "UPQe"} == {0.0}

    def change(result):
        result.params["U"][0, 0] = 1e-200

    table = scene.check(changed(name, change), entries=2)
    assert not table.ok
    assert [row.parameter for row in table.rows if row.method == "forward mode" and not row.ok] == ["U"]
    assert "inf!" in str(table)


def test_a_kink_at_the_point_is_told_from_a_wrong_gradient():
    scene = make_scene(
        derive.parse("h[t] = relu(W @ h[t-1] + V @ x[t])\ny[t] = R @ h[t]"),
        1,
        steps=3,
        batch=1,
        sizes={"H": 2, "D": 2, "O": 2},
    )
    scene.inputs["x"][:] = scene.initial["h"][:] = 0
    table = scene.check(numeric.Engine(scene.cell))
    assert {row.method for row in table.rows if not row.ok} == {"Richardson"}
    assert "outlier Richardson: difference quotients are no judge here" in str(table)


def test_the_majority_decides_and_a_wide_estimate_does_not():
    tight, wide = 1e-16, 1.0
    allowed = {"engine": tight, "unfused": tight, "forward": tight, "complex": tight, "Richardson": wide}
    values = dict.fromkeys(allowed, 1.0)
    assert find_outliers(values, allowed) == ()
    assert find_outliers(values | {"engine": 1.5}, allowed) == ("engine",)
    assert find_outliers(values | {"engine": np.nan}, allowed) == ("engine",)
    assert find_outliers(values | {"engine": 1.5, "unfused": 1.5}, allowed) is None  # Richardson is on both sides
    sharp = allowed | {"Richardson": 1e-9}
    assert find_outliers(values | {"engine": 1.5, "unfused": 1.5}, sharp) == ("engine", "unfused")
    assert find_outliers(values | {"engine": 1.5, "unfused": 2.5, "forward": 3.5}, sharp) is None


def test_a_wrong_derivation_is_told_from_a_wrong_engine(monkeypatch):
    scene = scene_of("tanh_rnn", sizes={"H": 3, "D": 3, "O": 3})
    wrong = MISTAKES["carry-not-transposed"].backward
    monkeypatch.setattr("numeric.check.Specification", lambda cell: Specification(cell, backward=wrong))
    table = scene.check(numeric.Engine(scene.cell, backward=wrong), entries=3)
    bad = {row.parameter for row in table.rows if not row.ok}
    assert {e.outliers for e in table.entries if e.parameter in bad} == {("engine", "unfused program")}
    assert "the derivation is wrong" in str(table)


def test_an_implementation_that_works_from_values_is_judged_by_their_noise():
    """1 - h^2 loses digits where a unit is saturated; that is the implementation's way, not its mistake."""
    scene = scene_of("tanh_rnn", steps=6, batch=1, sizes={"H": 5, "D": 3, "O": 2}, scale=20.0)
    scene.options["cotangents"] = {"y": scene.options["cotangents"]["y"]}
    right = gradients(scene, numeric.Engine("tanh_rnn"))
    initial = {n: s[0] for n, s in scene.initial.items()}
    found = LOOPS["tanh_rnn"](scene.params, scene.inputs["x"][:, 0], initial, scene.options["cotangents"]["y"][:, 0])
    values, functions = (
        worst(found, right, {n: s for n, s in scale_of(scene, from_values=b).items() if n in scene.params})
        for b in (True, False)
    )
    assert values < LIMIT < functions


@pytest.mark.parametrize(
    "text",
    [
        "h[t] = relu(h[t-1] + x[t])\ny[t] = abs(h[t] - 0.3)",
        "z[t] = cos(b - b)\nh[t] = tanh(W @ z[t] + h[t-1])",
        "h[t] = 3 + 0*x[t]\ny[t] = W @ h[t-1]",
        "a: scalar\nb: H\nc[t] = tanh(0.1*a) + b - b\nh[t] = W @ c[t] + h[t-1] + x[t]",
    ],
)
def test_cells_with_parts_that_do_not_move(text):
    cell = derive.parse(text)
    scene = make_scene(cell, 1, steps=3, batch=2, sizes=dict.fromkeys(cell.dimensions, 2), ragged=True)
    table = scene.check(numeric.Engine(cell), entries=2)
    assert table.ok, f"\n{table}"


@pytest.mark.parametrize("wrong", [False, True])
def test_the_table_fits_a_screen_and_is_plain_data(wrong):
    name = "gru"
    scene = scene_of(name, steps=3, batch=2, sizes={"H": 21, "D": 13, "O": 12}, loss="squared_error")
    engine = changed(name, averaged) if wrong else numeric.Engine(name)
    table = scene.check(engine, entries=1)
    lines = str(table).splitlines()
    assert max(map(len, lines)) <= 119
    assert lines[0].split("  ")[0] == "gradient by"
    assert lines[0].split()[-1] == "outlier"
    assert [line.split("[")[0] for line in lines[1 : 1 + len(table.entries)]] == [e.parameter for e in table.entries]
    assert ("all agree" in lines[-1]) is not wrong
    data = json.loads(json.dumps(table.to_json()))
    assert data["ok"] is not wrong
    assert {row["method"] for row in data["rows"]} == set(METHODS) - {"dot-product law"}
    assert {e["parameter"] for e in data["entries"]} == set(data["convergence"])
    assert len(data["dot_product_law"]) == 4
    orders = [c["extrapolated_order"] for c in data["convergence"].values() if c["extrapolated_order"] is not None]
    assert orders
    assert all(abs(order - 4) < 0.5 for order in orders)


def test_two_methods_that_differ_decide_nothing():
    scene = scene_of("tanh_rnn")
    table = scene.check(changed("tanh_rnn", averaged), entries=2, methods=("complex step",))
    assert {e.outliers for e in table.entries if e.parameter in scene.params} == {None}
    assert "undecided: no majority" in str(table)
    only = scene.check(changed("tanh_rnn", averaged), methods=("dot-product law",))
    assert not only.ok
    assert "the law fails" in str(only)
    assert scene.check(numeric.Engine("tanh_rnn"), methods=("dot-product law",)).ok
