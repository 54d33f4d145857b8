"""Five independent ways to one number: they agree on every cell, and stop agreeing when the derivation is wrong.

The brute-force symbolic gradient, the engine, the complex step, Richardson differences and loops written by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
from hand_written import LOOPS
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from problems import make_scene, scenes
from strategies import cell_texts
from turns import ALL, drawing

import derive
import numeric
from derive.mistakes import MISTAKES, plant
from numeric.explicit import explicit_gradient, explicit_jacobian
from numeric.run import Reverse
from numeric.specification import Specification

U = 2.0**-53
CELLS = derive.cells()


def relative(a, b, scale=None):
    """Largest difference relative to the largest entry of b."""
    scale = np.abs(b).max(initial=0) if scale is None else scale
    return np.abs(np.asarray(a) - b).max(initial=0) / (scale or 1.0)


@drawing(12, 25)
@given(scenes())
def test_engine_unfused_program_forward_mode_complex_step_and_differences_agree(scene):
    table = scene.check(numeric.Engine(scene.cell), entries=3)
    assert table.ok, f"\n{table}"


# Plain diff takes seconds for a gated cell; two steps of size one, and one of size two, see every path.
@pytest.mark.parametrize(("steps", "size"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("name", CELLS if ALL else ("tanh_rnn", "lstm", "gru_reset_after"))
def test_engine_agrees_with_the_brute_force_symbolic_gradient(name, steps, size):
    cell = derive.load(name)
    sizes = dict.fromkeys(cell.dimensions, size)
    scene = make_scene(cell, 5, steps=steps, batch=1, sizes=sizes)
    found = scene.backward(numeric.Engine(cell))
    cotangents = [{n: c[t, 0] for n, c in scene.options["cotangents"].items()} for t in range(steps)]
    inputs, initial = {n: x[:, 0] for n, x in scene.inputs.items()}, {n: x[0] for n, x in scene.initial.items()}
    right = explicit_gradient(cell, scene.params, inputs, initial, cotangents, sizes)
    scale = Specification(cell).backward(scene.params, scene.inputs, initial=scene.initial, **scene.options).magnitude
    for parameter, gradient in found.params.items():
        assert relative(gradient, right[parameter], scale[parameter].max()) < 64 * U, parameter
    assert relative(found.inputs["x"][:, 0], right["x"]) < 64 * U
    for state in cell.states:
        assert relative(found.initial[state][0], right[f"{state}0"]) < 64 * U


@pytest.mark.parametrize("name", LOOPS)
@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 12),
    sizes=st.tuples(*[st.integers(1, 7)] * 3),
    batch=st.integers(1, 3),
)
def test_engine_agrees_with_the_loop_written_by_hand(name, seed, steps, sizes, batch):
    cell = derive.load(name)
    scene = make_scene(cell, seed, steps=steps, batch=batch, sizes=dict(zip("DHO", sizes, strict=True)))
    scene.options["cotangents"] = {"y": scene.options["cotangents"]["y"]}
    found = scene.backward(numeric.Engine(cell))
    alone = [
        LOOPS[name](
            scene.params,
            scene.inputs["x"][:, b],
            {n: s[b] for n, s in scene.initial.items()},
            scene.options["cotangents"]["y"][:, b],
        )
        for b in range(batch)
    ]
    for parameter, gradient in found.params.items():
        parts = np.array([g[parameter] for g in alone])
        assert relative(gradient, parts.sum(0), np.abs(parts).sum(0).max()) < 512 * U, parameter
    assert relative(found.inputs["x"], np.stack([g["x"] for g in alone], 1)) < 512 * U
    for state in cell.states:
        assert relative(found.initial[state], np.stack([g[f"{state}0"] for g in alone])) < 512 * U


def rows_of_jacobian(cell, scene, last):
    """ds_T/ds_0 row by row: the gradient by initial states of one entry of the last states."""
    engine, rows = numeric.Engine(cell), []
    for s in cell.states:
        for k in range(scene.initial[s].shape[1]):
            one = {n: np.zeros_like(x) for n, x in scene.initial.items()}
            one[s][:, k] = 1.0
            inputs = {n: x[:last] for n, x in scene.inputs.items()}
            found = engine.backward(
                scene.params, inputs, loss="linear", at="last", cotangents=one, initial=scene.initial
            )
            rows.append(np.concatenate([found.initial[n][0] for n in cell.states]))
    return np.array(rows)


def step_jacobian(cell, scene, t, state):
    """J_t at given states, column by column, by the complex step of one forward step."""
    engine, h = numeric.Engine(cell, "complex128"), 1e-30
    params = {n: p.astype(complex) for n, p in scene.params.items()}
    columns = []
    for s in cell.states:
        for k in range(state[s].shape[1]):
            moved = {n: v.astype(complex) for n, v in state.items()}
            moved[s][0, k] += 1j * h
            out = engine.forward(params, {n: x[t : t + 1] + 0j for n, x in scene.inputs.items()}, moved)
            columns.append(np.concatenate([out[n][0, 0].imag / h for n in cell.states]))
    return np.array(columns).T


@pytest.mark.parametrize("name", CELLS)
def test_the_jacobian_product_in_its_order_is_the_derivative_of_the_last_state_by_the_first(name):
    cell, steps = derive.load(name), 5
    scene = make_scene(cell, 7, steps=steps, batch=1, sizes={"H": 3, "D": 2, "O": 2}, scale=1.5)
    states = numeric.Engine(cell).forward(scene.params, scene.inputs, scene.initial)
    right, wrong = np.eye(3 * len(cell.states)), np.eye(3 * len(cell.states))
    for t in range(steps):
        previous = {n: scene.initial[n] if t == 0 else states[n][t - 1] for n in cell.states}
        j = step_jacobian(cell, scene, t, previous)
        right, wrong = j @ right, wrong @ j
    found = rows_of_jacobian(cell, scene, steps)
    assert relative(found, right) < 256 * U
    assert relative(found, wrong) > 1e-3  # the other order is another matrix


@pytest.mark.parametrize("name", CELLS)
def test_the_lambdified_jacobian_is_the_engines(name):
    cell = derive.load(name)
    steps, size = (2, 2) if name == "tanh_rnn" else (2, 1)
    sizes = dict.fromkeys(cell.dimensions, size)
    scene = make_scene(cell, 3, steps=steps, batch=1, sizes=sizes)
    inputs, initial = {n: x[:, 0] for n, x in scene.inputs.items()}, {n: x[0] for n, x in scene.initial.items()}
    right = explicit_jacobian(cell, scene.params, inputs, initial, steps, sizes)
    assert relative(rows_of_jacobian(cell, scene, steps), right) < 64 * U


@pytest.mark.parametrize("name", CELLS)
def test_forward_mode_gives_the_whole_gradient(name):
    cell = derive.load(name)
    scene = make_scene(cell, 11, steps=4, batch=2, sizes={"H": 2, "D": 2, "O": 1}, ragged=True)
    table = scene.check(numeric.Engine(cell), entries=10**6, methods=("forward mode",))
    assert table.ok, f"\n{table}"


@pytest.mark.parametrize("name", CELLS)
def test_the_dot_product_law_at_full_size(name):
    """<J v, w> = <v, J.T w>, with J v by the complex step of the forward pass."""
    cell = derive.load(name)
    scene = make_scene(cell, 13, steps=60, batch=8, sizes={"H": 256, "D": 32, "O": 16})
    rng = np.random.default_rng(17)
    weights = scene.options["cotangents"]
    back = scene.backward(numeric.Engine(cell))
    v = {n: rng.normal(size=p.shape) for n, p in scene.params.items()}
    v0 = {n: rng.normal(size=s.shape) for n, s in scene.initial.items()}
    vx = {n: rng.normal(size=x.shape) for n, x in scene.inputs.items()}
    h = 1e-30
    out = numeric.Engine(cell, "complex128").forward(
        {n: p + 1j * h * v[n] for n, p in scene.params.items()},
        {n: x + 1j * h * vx[n] for n, x in scene.inputs.items()},
        {n: s + 1j * h * v0[n] for n, s in scene.initial.items()},
    )
    terms = [(out[n].imag / h) * w for n, w in weights.items()]
    left = sum(t.sum() for t in terms)
    parts = [*((v[n], back.params[n]) for n in v), *((v0[n], back.initial[n]) for n in v0), (vx["x"], back.inputs["x"])]
    right = sum((a * b).sum() for a, b in parts)
    scale = np.sqrt(sum((t**2).sum() for t in terms))
    assert abs(left - right) < 2**12 * U * scale


# a cell that fails says enough: shrinking it would prove hundreds of others
@settings(drawing(3, 12), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(text=cell_texts(), seed=st.integers(0, 10**6))
def test_random_cells_are_proven_and_their_engine_agrees_with_the_complex_step(text, seed):
    cell = derive.parse(text)
    proof = derive.prove(derive.differentiate(cell))
    assert proof.holds, f"{text}\n{proof}"
    rng = np.random.default_rng(seed)
    sizes = {letter: int(rng.integers(1, 4)) for letter in cell.dimensions}
    scene = make_scene(cell, seed, steps=3, batch=2, sizes=sizes, ragged=True)
    table = scene.check(numeric.Engine(cell), entries=2, methods=("unfused program", "forward mode", "complex step"))
    assert table.ok, f"{text}\n{table}"


@pytest.mark.parametrize("name", CELLS)
def test_float32_is_right_to_its_own_rounding(name):
    cell = derive.load(name)
    scene = make_scene(cell, 19, steps=20, batch=4, sizes={"H": 12, "D": 5, "O": 3})
    single = make_scene(cell, 19, steps=20, batch=4, sizes={"H": 12, "D": 5, "O": 3})
    for part in (single.params, single.inputs, single.initial, single.options["cotangents"]):
        part.update({n: x.astype(np.float32) for n, x in part.items()})
    for part, rounded in (
        (scene.params, single.params),
        (scene.inputs, single.inputs),
        (scene.initial, single.initial),
    ):
        part.update({n: x.astype(np.float64) for n, x in rounded.items()})
    scene.options["cotangents"] = {n: c.astype(np.float64) for n, c in single.options["cotangents"].items()}
    right, found = scene.backward(numeric.Engine(cell)), single.backward(numeric.Engine(cell, "float32"))
    for parameter, gradient in found.params.items():
        assert gradient.dtype == np.float32
        error = relative(gradient.astype(np.float64), right.params[parameter])
        assert 0 < error < 512 * 2.0**-24, parameter


# ------------------------------------------------------------------------------ what the checks above must reject


def planted(name):
    """One place of every known mistake that applies to a cell."""
    right = derive.differentiate(derive.load(name)).backward
    first = {}
    for wrong in plant(right):
        first.setdefault(wrong.mistake, wrong)
    return first


ENGINES = ("tanh_rnn", "gru", "lstm_peephole")


def test_every_known_mistake_of_a_step_is_planted_into_an_engine():
    assert {m.name for m in MISTAKES} == {mistake for name in ENGINES for mistake in planted(name)}


@pytest.mark.parametrize("name", ENGINES)
def test_wrong_derivations_planted_into_the_engine_disagree(name):
    cell = derive.load(name)
    # square, so that a transposed matrix does not give itself away by its shape
    scene = make_scene(cell, 23, steps=4, batch=2, sizes={"H": 3, "D": 3, "O": 3})
    accepted = []
    for mistake, wrong in planted(name).items():
        table = scene.check(numeric.Engine(cell, backward=wrong.backward), entries=4, methods=("complex step",))
        accepted += [mistake] if table.ok else []
    assert accepted == []


class Detached(Reverse):
    """The carry is lost at the borders of chunks of four steps."""

    def carry(self, t, carried):
        return {n: 0 * d for n, d in carried.items()} if t % 4 == 0 and t else carried


class Forwards(Reverse):
    """The backward loop runs forward in time."""

    def order(self):
        return range(self.data.steps)


class FirstStepLost(Reverse):
    """The term of the first step is dropped."""

    def order(self):
        return range(1, self.data.steps)[::-1]


class BatchMean(Reverse):
    """Gradients are averaged over the batch."""

    def parameters(self):
        return {n: g / self.data.batch for n, g in super().parameters().items()}


@pytest.mark.parametrize("wrong", [Detached, Forwards, FirstStepLost, BatchMean])
@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru_reset_after"])
def test_wrong_loops_planted_into_the_engine_disagree(name, wrong):
    cell = derive.load(name)
    scene = make_scene(cell, 29, steps=6, batch=2, sizes={"H": 3, "D": 2, "O": 2})
    engine = numeric.Engine(cell)
    assert scene.check(engine, entries=4, methods=("complex step",)).ok
    engine.reverse = wrong
    assert not scene.check(engine, entries=4, methods=("complex step",)).ok
