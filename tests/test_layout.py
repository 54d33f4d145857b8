"""The laws of the two layouts: the same numbers to rounding, the same bits however much memory there is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from test_inplace import CELLS, DTYPES, NEVER, Truth, arrays, ask, assert_same_answers, scene_of

import numeric
from numeric import columns, emit, inplace, passes, storage
from numeric.forward_mode import jvp
from numeric.turned import copy_turned

NEEDS_NUMBA = pytest.mark.skipif(not passes.numba_is_there(), reason="needs the extra fast")


def in_columns(cell, dtype="float64", **more):
    return numeric.Engine(cell, dtype, layout="columns", **{"fast": False, **more})


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CELLS)
def test_columns_give_the_same_numbers_however_time_is_cut(name, dtype, ragged, monkeypatch):
    """As the lambdified program does; features are copied one, some or all at a time, steps as well."""
    turn = 4 * CELLS.index(name) + 2 * DTYPES.index(dtype) + ragged
    scene = scene_of(name, turn, dtype, ragged=ragged)
    truth = Truth(scene, dtype)
    for k, rows in enumerate((1, 7, 4096)):
        monkeypatch.setattr(passes, "_EAGER", 0 if (k + turn) % 2 == 0 else NEVER)
        monkeypatch.setattr(columns, "_BLOCK", 1 << 8 * k)
        monkeypatch.setattr(columns, "_LEAST", 1 + 2 * k)
        monkeypatch.setattr(emit, "BLOCK_ROWS", 1 << 2 * k)
        monkeypatch.setattr(inplace, "_TURN", 1 << 4 * ((k + turn) % 3))
        engine = in_columns(scene.cell, dtype, segment=rows)
        truth.check(scene.backward(engine))
        assert all(compiled.columns for compiled in engine._passes.compiled.values())


@NEEDS_NUMBA
@pytest.mark.parametrize("name", ["lstm", "several inputs, outputs and states", "readout in several layers"])
def test_compiled_kernels_in_columns_give_the_same_numbers(name, monkeypatch):
    """With a number for each feature and without, of more and of fewer sequences than a register holds."""
    monkeypatch.setattr(passes, "_LOOP_WORK", -1)
    monkeypatch.delenv("BPTT_FAST")
    for turn, batch in ((1, 1), (7, 3), (2, 19)):
        dtype = DTYPES[turn % 2]
        scene = scene_of(name, turn, dtype, ragged=turn == 7, batch=batch, loss="linear", at="every")
        engine = in_columns(scene.cell, dtype, fast=None, segment=7)
        Truth(scene, dtype).check(scene.backward(engine))
        assert all(compiled.fused and compiled.columns for compiled in engine._passes.compiled.values())


@pytest.mark.parametrize("layout", passes.LAYOUTS)
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "several inputs, outputs and states"])
def test_every_memory_plan_gives_the_same_bits_within_a_layout(name, layout):
    for ragged in (False, True):
        scene = scene_of(name, 7, steps=23, batch=4, ragged=ragged, loss="linear", at="every")
        engine = numeric.Engine(scene.cell, fast=False, segment=8, layout=layout)
        right, loss = arrays(scene.backward(engine)), scene.backward(engine).loss
        for keep in ("starts", 40_000):
            other = numeric.Engine(scene.cell, keep=keep, fast=False, segment=8, layout=layout)
            found = scene.backward(other)
            assert found.loss == loss
            for key, x in arrays(found).items():
                np.testing.assert_array_equal(x, right[key])


def test_tangents_and_outputs_of_forward_mode_agree():
    scene = scene_of("lstm", 1, steps=6, batch=3, ragged=True)
    lengths, random = scene.options.get("lengths"), np.random.default_rng(0)
    tangents = {n: random.normal(size=p.shape) for n, p in scene.params.items()}
    found = [
        jvp(
            numeric.Engine(scene.cell, fast=False, layout=layout), scene.params, scene.inputs, tangents, lengths=lengths
        )
        for layout in passes.LAYOUTS
    ]
    for one, other in zip(*found, strict=True):
        for n, x in one.items():
            np.testing.assert_allclose(other[n], x, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("truncate", [2, (2, 5)], ids=str)
def test_truncated_passes_agree(truncate):
    for ragged in (False, True):
        scene = scene_of("gru", 2, steps=9, batch=3, ragged=ragged, loss="linear", at="every")
        scene.options["truncate"] = truncate
        one, other = (arrays(scene.backward(numeric.Engine("gru", fast=False, layout=x))) for x in passes.LAYOUTS)
        for key, x in one.items():
            np.testing.assert_allclose(other[key], x, rtol=1e-11, atol=1e-12)


def test_calls_of_other_shapes_between_do_not_matter():
    """Room that is kept is used again by shorter and longer batches."""
    engine = in_columns("lstm", segment=6)
    scenes = [
        scene_of("lstm", 1, steps=s, batch=b, ragged=r) for s, b, r in ((9, 4, True), (3, 2, False), (7, 1, True))
    ]
    right = [ask(in_columns("lstm", segment=6), scene) for scene in scenes]
    for _ in range(2):
        for scene, answer in zip(scenes, right, strict=True):
            assert_same_answers(ask(engine, scene), answer)


# ----------------------------------------------------------------------------------------------------------- the choice


def chosen(dtype, batch, H, **settings):
    engine = numeric.Engine("lstm", dtype, fast=False, **settings)
    params = engine.init(seed=0, D=1, H=H, O=2)
    engine.value_and_grad(params, np.ones((2, batch, 1), dtype), np.zeros((2, batch), int))
    return {compiled.columns for compiled in engine._passes.compiled.values()}


def test_the_layout_is_chosen_by_dtype_and_sizes():
    assert chosen("float32", 2, 256) == {True}
    assert chosen("float32", 2, 255) == {False}
    assert chosen("float32", 1, 256) == {False}
    assert chosen("float64", 2, 256) == {False}
    assert chosen("float32", 2, 256, layout="rows") == {False}
    assert chosen("float64", 2, 4, layout="columns") == {True}


def test_a_layout_is_checked_and_kept_by_copies():
    for wrong in ("row", 1, True, ("rows",)):
        with pytest.raises(ValueError, match="layout is"):
            numeric.Engine("tanh_rnn", layout=wrong)
    for layout in (None, *passes.LAYOUTS):
        engine = numeric.Engine("tanh_rnn", layout=layout)
        for other in (copy.copy(engine), copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
            assert (other.layout, other._passes.layout) == (layout, layout)


# ------------------------------------------------------------------------------------------------------ wrong views


def _a_step_is_read_as_rows(patch):
    patch.setattr(inplace, "one_step", lambda flat, batch, width: flat[: batch * width].reshape(batch, width))


def _all_steps_are_read_as_rows(patch):
    def wrong(flat, steps, batch, width):
        return flat[: steps * batch * width].reshape(steps, batch, width)

    patch.setattr(inplace, "all_steps", wrong)


def _states_in_sums_are_those_of_the_step_itself(patch):
    right = columns.ColumnSums.operand

    def operand(self, k, inputs, states):
        found = right(self, k, inputs, states)
        ref = self.workspace.compiled.outers[k].operand
        return (
            states[self.workspace.compiled.place(ref).buffer.index][-self.rows :] if ref.kind == "previous" else found
        )

    patch.setattr(columns.ColumnSums, "operand", operand)


def _what_is_carried_keeps_the_shape_of_fewer_sequences(patch):
    patch.setattr(inplace.Bound, "take_carried", lambda self: None)


def _readouts_of_columns_are_taken_for_rows(patch):
    patch.setattr(storage.Storage, "_touched", lambda self, call: [])


MISTAKES = (
    _a_step_is_read_as_rows,
    _all_steps_are_read_as_rows,
    _states_in_sums_are_those_of_the_step_itself,
    _what_is_carried_keeps_the_shape_of_fewer_sequences,
    _readouts_of_columns_are_taken_for_rows,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__[1:])
def test_a_wrong_view_is_noticed(mistake, monkeypatch):
    scene = scene_of("lstm", 1, steps=9, batch=4, sizes=(2, 3, 5), ragged=True, loss="linear", at="every")
    truth = Truth(scene)
    truth.check(scene.backward(in_columns(scene.cell, segment=8)))
    mistake(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        truth.check(scene.backward(in_columns(scene.cell, segment=8)))


# ---------------------------------------------------------------------------------------------------- transposed copies


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (70, 1), (33, 64), (100, 65), (3, 4)])
def test_a_turned_copy_is_a_copy(shape):
    x = np.arange(float(shape[0] * shape[1])).reshape(shape)
    for source in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        for order in "CF":
            out = np.full(shape, np.nan, order=order)
            copy_turned(source, out)
            np.testing.assert_array_equal(out, x)
    whole = np.zeros((3, 5))
    copy_turned(np.ones(5), whole[1])
    np.testing.assert_array_equal(whole, [[0] * 5, [1] * 5, [0] * 5])
