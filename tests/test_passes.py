"""The laws of both passes: each sequence as if alone, one answer to one question, nothing else touched."""

from __future__ import annotations

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from odd_cells import ODD, cell_named
from problems import engine_of, make_scene
from turns import crossed

import derive
import numeric
from derive.mistakes import plant
from numeric.specification import Specification

U = 2.0**-53
CELLS = (*derive.cells(), *ODD)
GROUPS = ("params", "inputs", "initial", "states", "outputs")


def arrays(result):
    """Every array of a result by group and name."""
    return {(group, name): x for group in GROUPS for name, x in getattr(result, group).items()}


def assert_same(found, right):
    """Equal to the last bit."""
    assert found.loss == right.loss
    assert arrays(found).keys() == arrays(right).keys()
    for key, x in arrays(right).items():
        np.testing.assert_array_equal(arrays(found)[key], x, err_msg=str(key))


def assert_close(found, right, tolerance=2**12 * U):
    """Equal but for rounding, relative to the largest entry of each array (or one, where terms may cancel)."""
    assert abs(found.loss - right.loss) <= tolerance * max(1, abs(right.loss)) * 10
    for key, x in arrays(right).items():
        assert arrays(found)[key].shape == x.shape, key
        assert np.abs(arrays(found)[key] - x).max() <= tolerance * max(1, np.abs(x).max()), key


def scene_of(name, seed=0, *, steps=6, batch=3, sizes=None, **more):
    """A problem whose sizes are all different, or those given in turn."""
    cell = cell_named(name)
    pattern = itertools.cycle(sizes or range(2, 12))
    return make_scene(cell, seed, steps=steps, batch=batch, sizes=dict(zip(cell.dimensions, pattern)), **more)  # noqa: B905


# ----------------------------------------------------------------------------------------- loops written by hand


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def tanh_rnn(p, x, s):
    h = np.tanh(p["W_hh"] @ s["h"] + p["W_xh"] @ x + p["b"])
    return {"h": h, "y": p["W_hy"] @ h}


def lstm(p, x, s):
    i, f, o = (sigmoid(p[f"W_{g}"] @ x + p[f"U_{g}"] @ s["h"] + p[f"b_{g}"]) for g in "ifo")
    c = f * s["c"] + i * np.tanh(p["W_g"] @ x + p["U_g"] @ s["h"] + p["b_g"])
    h = o * np.tanh(c)
    return {"h": h, "c": c, "y": p["W_y"] @ h + p["b_y"]}


def lstm_peephole(p, x, s):
    i, f = (sigmoid(p[f"W_{g}"] @ x + p[f"U_{g}"] @ s["h"] + p[f"p_{g}"] * s["c"] + p[f"b_{g}"]) for g in "if")
    c = f * s["c"] + i * np.tanh(p["W_g"] @ x + p["U_g"] @ s["h"] + p["b_g"])
    h = sigmoid(p["W_o"] @ x + p["U_o"] @ s["h"] + p["p_o"] * c + p["b_o"]) * np.tanh(c)
    return {"h": h, "c": c, "y": p["W_y"] @ h + p["b_y"]}


def gru(p, x, s):
    r, z = (sigmoid(p[f"W_{g}"] @ x + p[f"U_{g}"] @ s["h"] + p[f"b_{g}"]) for g in "rz")
    h = (1 - z) * np.tanh(p["W_n"] @ x + p["U_n"] @ (r * s["h"]) + p["b_n"]) + z * s["h"]
    return {"h": h, "y": p["W_y"] @ h + p["b_y"]}


def gru_reset_after(p, x, s):
    r, z = (sigmoid(p[f"W_{g}"] @ x + p[f"U_{g}"] @ s["h"] + p[f"b_{g}"]) for g in "rz")
    h = (1 - z) * np.tanh(p["W_n"] @ x + p["b_n"] + r * (p["U_n"] @ s["h"] + p["c_n"])) + z * s["h"]
    return {"h": h, "y": p["W_y"] @ h + p["b_y"]}


STEPS = {f.__name__: f for f in (tanh_rnn, lstm, lstm_peephole, gru, gru_reset_after)}


def by_hand(step, cell, params, x, initial):
    """Outputs and states (T, size) of one sequence."""
    state, out = initial, []
    for now in x:
        found = step(params, now, state)
        state = {n: found[n] for n in cell.states}
        out.append(found)
    return {n: np.array([found[n] for found in out]) for n in out[0]}


def test_every_shipped_cell_has_a_loop_written_by_hand():
    assert set(STEPS) == set(derive.cells())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("name", STEPS)
def test_the_forward_pass_is_the_loop_written_by_hand(name, steps, batch):
    scene = scene_of(name, 1, steps=steps, batch=batch, sizes=(4, 3, 2), scale=2.0)
    found = engine_of(scene.cell).forward(scene.params, scene.inputs["x"], scene.initial)
    for b in range(batch):
        alone = {n: s[b] for n, s in scene.initial.items()}
        right = by_hand(STEPS[name], scene.cell, scene.params, scene.inputs["x"][:, b], alone)
        assert found.keys() == right.keys()
        for n, y in right.items():
            np.testing.assert_allclose(found[n][:, b], y, rtol=0, atol=64 * U)


@pytest.mark.parametrize("name", STEPS)
def test_a_loop_written_by_hand_tells_the_cells_apart(name):
    """The comparison above rejects another cell's loop, and this one with two of its parameters exchanged."""
    scene = scene_of(name, 1, sizes=(3,))
    found = engine_of(scene.cell).forward(scene.params, scene.inputs["x"], scene.initial)["h"][:, 0]
    alone = {n: s[0] for n, s in scene.initial.items()}
    square = [n for n, p in scene.params.items() if p.ndim == 2 and n not in ("W_y", "W_hy")]
    for first, second in itertools.combinations(square, 2):
        swapped = scene.params | {first: scene.params[second], second: scene.params[first]}
        wrong = by_hand(STEPS[name], scene.cell, swapped, scene.inputs["x"][:, 0], alone)["h"]
        assert np.abs(found - wrong).max() > 1e-4, (first, second)


# ---------------------------------------------------------------------------------- cells of every shape, every option


#: Every loss, place, reduction, ragged or not.
EVERY_OPTION = [
    {"loss": loss, "at": at, "reduction": reduction, "ragged": ragged}
    for loss in ("linear", "softmax_cross_entropy", "squared_error")
    for at in ("every", "last")
    for reduction in ("sum", "mean")
    for ragged in (False, True)
]


@pytest.mark.parametrize(("name", "sizes", "k"), crossed(CELLS, [None, (1,), (1, 3), (3, 1, 2)], range(3)))
def test_engine_unfused_program_and_complex_step_agree_on_cells_of_every_shape(name, sizes, k):
    """Also with sizes of one, where an array of a wrong shape would be broadcast and nobody would notice."""
    seed = CELLS.index(name)
    rng = np.random.default_rng([seed, k, *(sizes or ())])
    steps, batch = (1, 1) if k == 2 else (4, 2)
    scene = scene_of(name, seed, steps=steps, batch=batch, sizes=sizes, **EVERY_OPTION[rng.integers(len(EVERY_OPTION))])
    table = scene.check(engine_of(scene.cell), entries=1, seed=k, methods=("unfused program", "complex step"))
    assert table.ok, f"{scene.options}\n{table}"
    assert_close(scene.backward(engine_of(scene.cell)), scene.backward(Specification(scene.cell)))


@pytest.mark.parametrize("name", CELLS)
def test_a_loss_of_one_output_or_state_alone(name):
    """What the loss does not reach has a gradient of the right shape that is zero."""
    scene = scene_of(name, 2)
    engine, whole = engine_of(scene.cell), scene.options["cotangents"]
    parts = []
    for root in whole:
        scene.options["cotangents"] = {root: whole[root]}
        parts.append(scene.backward(engine))
        assert_close(parts[-1], scene.backward(Specification(scene.cell)))
    scene.options["cotangents"] = whole
    right = arrays(scene.backward(engine))
    for key, x in right.items():
        if key[0] != "outputs":
            assert all(arrays(part)[key].shape == x.shape for part in parts)
            np.testing.assert_allclose(sum(arrays(part)[key] for part in parts), x, rtol=1e-10, atol=1e-12)


def test_what_the_loss_does_not_reach_is_exactly_zero():
    scene = scene_of("parts that no loss reaches", 3)
    scene.options["cotangents"] = {"y": scene.options["cotangents"]["y"]}
    found = scene.backward(engine_of(scene.cell))
    for name, gradient in found.params.items():
        assert gradient.any() == (name in ("W", "V", "R")), name
    assert not found.initial["k"].any()
    assert not found.states["k"].any()
    cancelled = scene_of("parameters that cancel", 3)
    gradients = cancelled.backward(engine_of(cancelled.cell)).params
    assert {name for name, g in gradients.items() if not g.any()} == {"b", "c", "e"}


@pytest.mark.parametrize("name", CELLS)
def test_a_planted_backward_program_is_the_one_that_runs(name):
    """The engine and the unfused program give the same wrong numbers for it."""
    scene = scene_of(name, 4, steps=3, batch=2, sizes=(3,))
    right = scene.backward(engine_of(scene.cell))
    planted = list(plant(derive.differentiate(scene.cell).backward))
    different = 0
    for wrong in planted[:: max(1, len(planted) // 5)]:
        found = scene.backward(numeric.Engine(scene.cell, backward=wrong.backward))
        assert_close(found, scene.backward(Specification(scene.cell, backward=wrong.backward)))
        pairs = zip(arrays(found).values(), arrays(right).values(), strict=True)
        different += any(not np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)
    assert different > 0


# ------------------------------------------------------------------------------------------------------------ lengths

LENGTHS = np.array([6, 2, 3])
PADDING = np.arange(6)[:, None] >= LENGTHS


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize("name", CELLS)
def test_each_sequence_is_treated_as_if_it_were_alone(name, at):
    scene = scene_of(name, 5, at=at)
    scene.options["lengths"] = LENGTHS
    engine = engine_of(scene.cell)
    found, total = scene.backward(engine), dict.fromkeys(scene.params, 0)
    for b, n in enumerate(LENGTHS):
        part, one = copy.copy(scene), slice(b, b + 1)
        part.inputs = {k: x[:n, one] for k, x in scene.inputs.items()}
        part.initial = {k: s[one] for k, s in scene.initial.items()}
        cotangents = {k: c[one] if at == "last" else c[:n, one] for k, c in scene.options["cotangents"].items()}
        size = {} if scene.cell.inputs else {"steps": int(n), "batch": 1}
        part.options = {"loss": "linear", "at": at, "cotangents": cotangents, **size}
        alone = part.backward(engine)
        for (group, k), x in arrays(alone).items():
            if group == "params":
                total[k] = total[k] + x
            else:
                own = arrays(found)[group, k]
                here = own[one] if group == "initial" else own[:n, one]
                np.testing.assert_allclose(here, x, rtol=1e-12, atol=1e-13, err_msg=f"{group} {k}")
    for k, gradient in total.items():
        np.testing.assert_allclose(found.params[k], gradient, rtol=1e-10, atol=1e-12, err_msg=k)


@pytest.mark.parametrize("name", CELLS)
def test_states_freeze_outputs_and_gradients_are_zero_beyond_the_end(name):
    scene = scene_of(name, 6)
    scene.options["lengths"] = LENGTHS
    found = scene.backward(engine_of(scene.cell))
    for y in (found.outputs[n] for n in scene.cell.outputs):
        assert not y[PADDING].any()
    for b, n in enumerate(LENGTHS):
        for s in (found.outputs[n] for n in scene.cell.states):
            np.testing.assert_array_equal(s[n:, b], np.broadcast_to(s[n - 1, b], s[n:, b].shape))
    for gradient in (*found.inputs.values(), *found.states.values()):
        assert not gradient[PADDING].any()


@pytest.mark.parametrize("name", CELLS)
def test_what_stands_in_the_padding_has_no_influence_at_all(name):
    scene = scene_of(name, 7)
    scene.options["lengths"] = LENGTHS
    engine = engine_of(scene.cell)
    right, forward = (
        scene.backward(engine),
        engine.forward(scene.params, scene.inputs, scene.initial, LENGTHS, **_size(scene)),
    )
    for garbage in (np.nan, np.inf, 1e300, -7.0):
        for x in (*scene.inputs.values(), *scene.options["cotangents"].values()):
            x[PADDING] = garbage
        assert_same(scene.backward(engine), right)
        again = engine.forward(scene.params, scene.inputs, scene.initial, LENGTHS, **_size(scene))
        for n, y in forward.items():
            np.testing.assert_array_equal(again[n], y, err_msg=f"{n} with {garbage}")


def _size(scene):
    return {k: scene.options[k] for k in ("steps", "batch") if k in scene.options}


@pytest.mark.parametrize("name", CELLS)
def test_lengths_that_are_all_the_same_change_nothing(name):
    scene = scene_of(name, 8)
    right = scene.backward(engine_of(scene.cell))
    scene.options["lengths"] = [6, 6, 6]
    assert_same(scene.backward(engine_of(scene.cell)), right)


# ------------------------------------------------------------------------------------------------- types of numbers


def as_type(scene, dtype):
    """The same scene in another type."""
    out = copy.deepcopy(scene)
    for part in (out.params, out.inputs, out.initial, out.options["cotangents"]):
        part.update({n: x.astype(dtype) for n, x in part.items()})
    return out


@pytest.mark.parametrize(("name", "dtype", "ragged"), crossed(CELLS, ["float32", "complex128"], [False, True]))
def test_every_array_has_the_engines_type(name, dtype, ragged):
    scene = scene_of(name, 9, ragged=ragged)
    engine, own = engine_of(scene.cell, dtype), as_type(scene, dtype)
    found = own.backward(engine)
    for key, x in arrays(found).items():
        assert type(x) is np.ndarray, key
        assert x.dtype == dtype, key
    for x in engine.forward(own.params, own.inputs, own.initial, **_size(own)).values():
        assert x.dtype == dtype
    assert type(found.loss) is (complex if dtype == "complex128" else float)
    assert_close(found, scene.backward(engine_of(scene.cell)), 2.0**-12 if dtype == "float32" else 2**12 * U)
    if dtype == "complex128":
        assert not any(x.imag.any() for x in arrays(found).values())


# ------------------------------------------------------------------------------------- one question, one answer


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_result_is_the_callers_own_and_asking_changes_nothing(name, ragged):
    scene = scene_of(name, 10, ragged=ragged)
    parts = (scene.params, scene.inputs, scene.initial, scene.options["cotangents"])
    users = [x for part in parts for x in part.values()]
    before = [x.copy() for x in users]
    for x in users:
        x.setflags(write=False)
    engine = engine_of(scene.cell)
    first, second = scene.backward(engine), scene.backward(engine)
    assert_same(second, first)
    mine = arrays(second)
    for key, x in mine.items():
        assert x.flags.writeable, key
        assert not any(np.shares_memory(x, user) for user in users), key
    for (a, x), (b, y) in itertools.combinations(mine.items(), 2):
        assert not np.shares_memory(x, y), (a, b)
    for x in mine.values():
        x[...] = np.nan
    assert_same(scene.backward(engine), first)
    for x, copied in zip(users, before, strict=True):
        np.testing.assert_array_equal(x, copied)
    out = engine.forward(scene.params, scene.inputs, scene.initial, scene.options.get("lengths"), **_size(scene))
    for n, y in out.items():  # another program: products stand in other groups, and may be rounded otherwise
        np.testing.assert_allclose(y, first.outputs[n], rtol=2**-48, atol=2**-48)
        assert y.flags.writeable
        assert not any(np.shares_memory(y, user) for user in users)
    for x, y in itertools.combinations(out.values(), 2):
        assert not np.shares_memory(x, y)


@pytest.mark.parametrize("name", ["lstm", "gru", "scalars everywhere", "readout in several layers"])
def test_several_threads_may_use_one_engine(name):
    scenes = [scene_of(name, seed, steps=5 + seed % 3, ragged=seed % 2 == 0) for seed in range(6)]
    right = [scene.backward(numeric.Engine(scene.cell)) for scene in scenes]
    engine = numeric.Engine(scenes[0].cell)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda scene: scene.backward(engine), scenes * 4))
    for one, expected in zip(found, right * 4, strict=True):
        assert_same(one, expected)


@pytest.mark.parametrize("name", ["tanh_rnn", "constants"])
def test_a_copy_of_an_engine_gives_the_same_numbers(name):
    scene = scene_of(name, 11)
    engine = numeric.Engine(scene.cell)
    right = scene.backward(engine)
    for other in (copy.copy(engine), copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert (other.dtype, other.keep) == (engine.dtype, engine.keep)
        assert_same(scene.backward(other), right)


@pytest.mark.parametrize("name", CELLS)
def test_value_and_grad_is_a_part_of_the_backward_pass(name):
    scene = scene_of(name, 12, ragged=True)
    engine = numeric.Engine(scene.cell)
    right = scene.backward(engine)
    loss, grads = engine.value_and_grad(scene.params, scene.inputs, initial=scene.initial, **scene.options)
    assert loss == right.loss
    assert list(grads) == list(scene.cell.parameters)
    for n, gradient in grads.items():
        np.testing.assert_array_equal(gradient, right.params[n])


# ---------------------------------------------------------------------------------------------------- long and small


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru"])
def test_initial_states_left_out_are_zero(name):
    scene = scene_of(name, 13)
    engine = numeric.Engine(scene.cell)
    scene.initial = {}
    right = scene.backward(engine)
    scene.initial = {n: np.zeros((3, right.initial[n].shape[1])) for n in scene.cell.states}
    assert_same(scene.backward(engine), right)


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru_reset_after"])
def test_a_gradient_that_vanishes_keeps_its_digits(name):
    """Entry by entry, against the complex step: 1e-20 and less is right to fourteen digits."""
    scene = scene_of(name, 14, steps=40, batch=1, sizes=(3, 2, 2), at="last")
    scene.params.update({n: 0.1 * p for n, p in scene.params.items() if n.startswith(("W_hh", "U_"))})
    scene.params.update({n: p - 3 for n, p in scene.params.items() if n in ("b_f", "b_z")})
    scene.options["cotangents"] = {"h": scene.options["cotangents"]["h"]}
    found = scene.backward(numeric.Engine(scene.cell))
    engine, h = numeric.Engine(scene.cell, "complex128"), 1e-30
    for k in range(3):
        moved = as_type(scene, complex)
        moved.initial["h"][0, k] += 1j * h
        step = moved.backward(engine).loss.imag / h
        assert 0 < abs(step) < 1e-20
        assert abs(found.initial["h"][0, k] / step - 1) < 256 * U


@pytest.mark.parametrize("scale", [20.0, 200.0])
def test_saturated_gates_keep_their_digits(scale):
    scene = scene_of("lstm", 15, scale=scale)
    table = scene.check(numeric.Engine(scene.cell), entries=4, methods=("unfused program", "complex step"))
    assert table.ok, f"\n{table}"


def test_long_sequences_run():
    scene = scene_of("tanh_rnn", 16, steps=20_000, batch=1, sizes=(3, 2, 2))
    found = scene.backward(numeric.Engine(scene.cell))
    assert np.isfinite(found.loss)
    assert found.outputs["y"].shape[0] == 20_000


def test_numbers_that_overflow_do_so_quietly():
    engine = numeric.Engine(derive.parse("h[t] = h[t-1]**2 + x[t]"))
    found = engine.backward({}, np.full((40, 1, 2), 3.0), np.zeros((40, 1, 2)), loss="squared_error")
    assert found.loss == np.inf


def test_at_a_kink_the_derivative_is_zero():
    engine = numeric.Engine(derive.parse("h[t] = relu(W @ h[t-1] + x[t])\ny[t] = abs(h[t])"))
    ones = {"y": np.ones((3, 1, 2))}
    found = engine.backward({"W": np.zeros((2, 2))}, np.zeros((3, 1, 2)), loss="linear", cotangents=ones)
    assert not any(x.any() for x in arrays(found).values())
