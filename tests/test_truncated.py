"""The laws of truncation: the full gradient without the terms that the windows drop, term by term."""

from __future__ import annotations

import doctest
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from problems import make_scene
from test_inplace import FAST, own_cache  # noqa: F401 - the fixture is used by all
from test_passes import arrays, assert_same

import derive
import numeric
from derive import truncate
from derive.truncate import dropped_by_chunks, dropped_by_window, dropped_by_windows, kept_by_chunks, pairs
from numeric import truncated

U = 2.0**-53
T, B = 7, 3
LENGTHS = np.array([7, 2, 5])
#: Windows and chunks, even and not, as long as the sequence and longer; (k1, k2) with k1 = k2 are chunks.
WINDOWS = ((1, 1), (2, 2), (3, 3), (5, 5), (1, 2), (1, 3), (2, 3), (2, 5), (3, 4), (4, 6), (1, 7), (2, 7), (3, 8))
CASES = [(name, at, ragged) for name in ("tanh_rnn", "lstm") for at in ("every", "last") for ragged in (False, True)]


def scene_of(name, at="every", ragged=False, *, steps=T, loss="softmax_cross_entropy", **more):
    cell = derive.load(name)
    sizes = dict(zip(cell.dimensions, (3, 4, 2), strict=False))
    scene = make_scene(cell, 1, steps=steps, batch=B, sizes=sizes, loss=loss, at=at, scale=2.0, **more)
    if ragged:
        scene.options["lengths"] = LENGTHS
    return scene


def truncated_pass(scene, engine, k):
    return engine.backward(
        scene.params, scene.inputs, scene.targets, initial=scene.initial, truncate=k, **scene.options
    )


# --------------------------------------------------------------------------------------------------- what is dropped


def test_the_examples_of_what_is_dropped_are_right():
    for module in (truncate, truncated):
        found = doctest.testmod(module)
        assert (found.failed, found.attempted > 0) == (0, True)


def test_windows_are_what_the_words_say():
    """Every k1 steps the last k1 losses are carried back over the last k2 steps: counted one by one."""
    for steps in range(1, 12):
        for k1 in range(1, steps + 2):
            for k2 in range(k1, steps + 3):
                kept = set()
                for window in truncated.windows(steps, k1, k2):
                    assert window.stop == min(steps, window.first + k1)
                    assert window.start <= window.first
                    kept |= {
                        (t + 1, j + 1)
                        for t in range(window.first, window.stop)
                        for j in range(window.start, window.stop)
                        if j <= t
                    }
                assert kept == set(pairs(steps)) - set(dropped_by_windows(steps, k1, k2))


def test_chunks_and_windows_are_the_ends_of_the_family():
    for steps in range(1, 12):
        for k in range(1, steps + 2):
            assert dropped_by_windows(steps, 1, k) == dropped_by_window(steps, k)
            assert dropped_by_windows(steps, k, k) == dropped_by_chunks(steps, k)
            assert set(kept_by_chunks(steps, k)) == set(pairs(steps)) - set(dropped_by_chunks(steps, k))
            assert set(dropped_by_windows(steps, 1, k)) <= set(dropped_by_windows(steps, k, k))
        assert not dropped_by_windows(steps, steps, steps)
    for bad in ((0, 1), (1, 0), (3, 0), (3, -1)):
        with pytest.raises(ValueError, match="at least one step"):
            dropped_by_chunks(*bad)


@cache
def terms(name, at, ragged):
    """The full gradient's terms by (t, j), the loss at t by the use at j: of parameters, inputs and states.

    The derivatives of the initial states by the loss at t are those of (t, 1).
    """
    scene, engine = scene_of(name, at, ragged), numeric.Engine(name, fast=False)
    ends = LENGTHS if ragged else np.full(B, T)
    forward = engine.forward(scene.params, scene.inputs, scene.initial)
    out = {}
    for t in range(1, T + 1):
        local = forward["y"][t - 1]
        local = np.exp(local - local.max(axis=1, keepdims=True))
        local /= local.sum(axis=1, keepdims=True)
        local[np.arange(B), scene.targets if at == "last" else scene.targets[t - 1]] -= 1
        local *= ((ends == t) if at == "last" else (ends >= t))[:, None]
        behind = {n: np.zeros_like(p) for n, p in scene.params.items()}
        for j in range(t, 0, -1):
            before = scene.initial if j == 1 else {s: forward[s][j - 2] for s in scene.cell.states}
            cotangents = np.zeros((t - j + 1, *local.shape))
            cotangents[-1] = local
            found = engine.backward(
                scene.params, scene.inputs["x"][j - 1 : t], loss="linear", cotangents={"y": cotangents}, initial=before
            )
            own = {("params", n): p - behind[n] for n, p in found.params.items()}
            own |= {("inputs", n): x[0] for n, x in found.inputs.items()}
            own |= {("states", n): x[0] for n, x in found.states.items()}
            own |= {("initial", n): x for n, x in found.initial.items()} if j == 1 else {}
            out[t, j], behind = own, found.params
    return out


def without(full, terms, dropped):
    """The arrays of a full gradient less the terms of some pairs."""
    out = {key: x.copy() for key, x in arrays(full).items()}
    for t, j in dropped:
        for (group, n), x in terms[t, j].items():
            part = out[group, n] if group in ("params", "initial") else out[group, n][j - 1]
            part -= x
    return out


def check_windows(name, at, ragged, engine, windows=WINDOWS):
    """Raise AssertionError unless exactly the terms are missing that should be."""
    scene = scene_of(name, at, ragged)
    full, known = scene.backward(engine), terms(name, at, ragged)
    for k1, k2 in windows:
        right = without(full, known, dropped_by_windows(T, k1, k2))
        found = truncated_pass(scene, engine, (k1, k2))
        loss, gradients = engine.value_and_grad(
            scene.params, scene.inputs, scene.targets, initial=scene.initial, truncate=(k1, k2), **scene.options
        )
        assert abs(loss - full.loss) + abs(found.loss - full.loss) <= 2**8 * U * full.loss
        assert list(gradients) == list(scene.cell.parameters)
        assert arrays(found).keys() == right.keys()
        for (group, n), x in right.items():
            units = 2**8 * U * max(1, np.abs(arrays(full)[group, n]).max())
            wrong = np.abs(arrays(found)[group, n] - x).max()
            assert wrong <= units, f"({k1}, {k2}): {group} {n}: {wrong:.3g}"
            if group == "params":
                assert np.abs(gradients[n] - x).max() <= units, f"({k1}, {k2}): {n}"


def test_the_terms_are_all_of_the_gradient():
    """Nothing is left of the full gradient without them, and each of them is something."""
    for case in CASES:
        full = scene_of(*case).backward(numeric.Engine(case[0], fast=False))
        for (group, n), x in without(full, terms(*case), pairs(T)).items():
            assert group == "outputs" or np.abs(x).max() <= 2**8 * U * np.abs(arrays(full)[group, n]).max(), (group, n)
        sizes = [np.abs(terms(*case)[pair]["inputs", "x"]).max() for pair in pairs(T)]
        assert case[1] == "last" or min(sizes) > 2**20 * U


@pytest.mark.parametrize(("name", "at", "ragged"), CASES)
def test_a_truncated_gradient_lacks_the_terms_that_its_windows_drop(name, at, ragged):
    check_windows(name, at, ragged, numeric.Engine(name, fast=False))


@pytest.mark.parametrize("keep", ["states", "starts", 4000])
def test_it_does_so_in_short_segments_and_little_memory(keep):
    for case in CASES[4:]:
        check_windows(*case, numeric.Engine("lstm", fast=False, segment=4, keep=keep), WINDOWS[::3])


@pytest.mark.parametrize("fast", FAST[1:])
def test_it_does_so_where_chunks_are_compiled(fast):
    for case in CASES[:2]:
        check_windows(*case, numeric.Engine("tanh_rnn", fast=fast), ((3, 3), (2, 3)))


@pytest.mark.parametrize("fast", FAST[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error", "linear"])
def test_windows_are_the_same_where_the_loop_is_compiled(fast, dtype, loss, monkeypatch):
    """Windows that overlap have no loss at their first steps; of all lengths, in one segment and in several."""
    from numeric.loop_session import LoopSession

    ran = []
    right = LoopSession._run
    monkeypatch.setattr(LoopSession, "_run", lambda self, *given: ran.append(given[0].begin) or right(self, *given))
    scene = scene_of("lstm", ragged=True, steps=T, loss=loss)
    for group in (scene.params, scene.inputs, scene.initial, scene.options.get("cotangents", {})):
        group.update({n: x.astype(dtype) for n, x in group.items()})
    scene.targets = scene.targets.astype(dtype) if loss == "squared_error" else scene.targets
    u = np.finfo(dtype).epsneg
    for k in ((1, 3), (2, 5), (3, 4)):
        known = truncated_pass(scene, numeric.Engine("lstm", dtype, fast=False), k)
        for more in ({}, {"segment": 4}, {"segment": 4, "keep": "states"}):
            found = truncated_pass(scene, numeric.Engine("lstm", dtype, fast=fast, **more), k)
            assert abs(found.loss - known.loss) <= 2**8 * u * max(1, abs(known.loss))
            for key, x in arrays(known).items():
                wrong = np.abs(arrays(found)[key] - x).max()
                assert wrong <= 2**8 * u * max(1, np.abs(x).max()), f"{k}: {key}: {wrong:.3g}"
    assert max(ran) > 0


@pytest.mark.parametrize("fast", FAST[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_that_vanish_before_the_losses_of_a_window_keep_their_digits(fast, dtype):
    """Carried back over 500 steps without a loss, down to 2**-498: what a subnormal number holds, not less."""
    engine, steps = numeric.Engine(derive.parse("h[t] = w * h[t-1] + x[t]"), dtype, fast=fast), 500
    x = np.ones((steps, 1, 1), dtype)
    params = {"w": np.full_like(engine.init(seed=0, **dict.fromkeys(engine.cell.dimensions, 1))["w"], 0.5)}
    targets = engine.forward(params, x)["h"]
    targets[-1] -= 1
    found = engine.backward(params, x, targets, loss="squared_error", truncate=(1, steps - 1))
    exact = (0.5 ** np.arange(steps - 1.0)[::-1]).astype(dtype)
    assert found.loss == 0.5
    np.testing.assert_array_equal(found.states["h"][1:, 0, 0], exact)


def _shifted(window):
    return replace(window, start=max(0, window.start - 1))


def _late(window):
    return replace(window, start=min(window.first, window.start + 1))


def _again(window):
    return replace(window, first=max(window.start, window.first - 1))


def _short(window):
    return replace(window, first=min(window.stop - 1, window.first + 1))


@pytest.mark.parametrize("wrong", [_shifted, _late, _again, _short], ids=lambda f: f.__name__[1:])
def test_a_wrong_window_is_noticed(wrong, monkeypatch):
    right = truncated.windows
    monkeypatch.setattr(truncated, "windows", lambda *k: map(wrong, right(*k)))
    for windows in (((2, 3),), ((2, 5),)):
        with pytest.raises(AssertionError):
            check_windows("lstm", "every", True, numeric.Engine("lstm", fast=False), windows)


def test_losses_of_other_sequences_are_noticed(monkeypatch):
    """At the last step: each sequence's loss belongs to the window in which it ends."""
    right = truncated._part_of_loss

    def all_of_them(loss, data, window, who):
        return replace(right(loss, data, window, who), counts=None)

    monkeypatch.setattr(truncated, "_part_of_loss", all_of_them)
    with pytest.raises(AssertionError):
        check_windows("lstm", "last", True, numeric.Engine("lstm", fast=False), ((2, 2),))


# ------------------------------------------------------------------------------------------------------ whole and parts


@pytest.mark.parametrize("k", [T, T + 1, 100, (1, T), (T, T), (3, 9), (2, 8), np.int64(T)])
@pytest.mark.parametrize(("name", "at", "ragged"), CASES)
def test_windows_as_long_as_the_sequence_are_the_whole_gradient(name, at, ragged, k):
    scene, engine = scene_of(name, at, ragged), numeric.Engine(name, fast=False)
    assert_same(truncated_pass(scene, engine, k), scene.backward(engine))


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error", "linear"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru"])
def test_chunks_are_calls_with_states_carried_over(name, k, loss):
    """The loop that everybody writes by hand; the last chunk may be shorter."""
    scene, engine = scene_of(name, loss=loss), numeric.Engine(name, fast=False)
    x, total, state = scene.inputs["x"], 0.0, scene.initial
    gradients = {n: np.zeros_like(p) for n, p in scene.params.items()}
    inputs = []
    for start in range(0, T, k):
        part = slice(start, start + k)
        given = {"loss": loss, "initial": state}
        if loss == "linear":
            given["cotangents"] = {n: c[part] for n, c in scene.options["cotangents"].items()}
        targets = None if loss == "linear" else scene.targets[part]
        value, found = engine.value_and_grad(scene.params, x[part], targets, **given)
        inputs.append(engine.backward(scene.params, x[part], targets, **given).inputs["x"])
        forward = engine.forward(scene.params, x[part], state)
        state = {n: forward[n][-1] for n in scene.cell.states}
        total += value
        for n, g in found.items():
            gradients[n] += g
    found = truncated_pass(scene, engine, k)
    assert abs(found.loss - total) <= 2**8 * U * max(1, abs(total))
    np.testing.assert_allclose(found.inputs["x"], np.concatenate(inputs), rtol=2**12 * U, atol=2**8 * U)
    for n, g in gradients.items():
        np.testing.assert_allclose(found.params[n], g, rtol=2**12 * U, atol=2**8 * U * np.abs(g).max(), err_msg=n)


@pytest.mark.parametrize("k", [2, 3, (2, 3)])
def test_a_mean_is_over_the_whole_sequence(k):
    for at, ragged in (("every", False), ("every", True), ("last", True)):
        scene, engine = scene_of("lstm", at, ragged), numeric.Engine("lstm", fast=False)
        total = truncated_pass(scene, engine, k)
        scene.options["reduction"] = "mean"
        mean = truncated_pass(scene, engine, k)
        count = B if at == "last" else LENGTHS.sum() if ragged else T * B
        np.testing.assert_allclose(mean.loss * count, total.loss, rtol=2**8 * U)
        for key, x in arrays(total).items():
            factor = 1 if key[0] == "outputs" else count
            np.testing.assert_allclose(arrays(mean)[key] * factor, x, rtol=2**8 * U, atol=2**4 * U)


@pytest.mark.parametrize("k", [1, 3, (1, 3), (2, 4)])
@pytest.mark.parametrize("at", ["every", "last"])
def test_each_sequence_is_truncated_as_if_it_were_alone(at, k):
    scene, engine = scene_of("lstm", at, True), numeric.Engine("lstm", fast=False)
    found, total = truncated_pass(scene, engine, k), {n: np.zeros_like(p) for n, p in scene.params.items()}
    for b, n in enumerate(LENGTHS):
        one = slice(b, b + 1)
        targets = scene.targets[one] if at == "last" else scene.targets[:n, one]
        initial = {s: x[one] for s, x in scene.initial.items()}
        x = scene.inputs["x"][:n, one]
        alone = engine.backward(scene.params, x, targets, at=at, initial=initial, truncate=k)
        for group in ("inputs", "states", "outputs"):
            for name, own in getattr(alone, group).items():
                mine = getattr(found, group)[name]
                np.testing.assert_allclose(mine[:n, one], own, rtol=1e-12, atol=1e-13)
                beyond = own[-1] if (group, name in scene.cell.states) == ("outputs", True) else 0
                np.testing.assert_allclose(mine[n:, one], np.broadcast_to(beyond, mine[n:, one].shape), atol=1e-13)
        for name, own in alone.initial.items():
            np.testing.assert_allclose(found.initial[name][one], own, rtol=1e-12, atol=1e-13)
        for name, own in alone.params.items():
            total[name] += own
    for name, g in total.items():
        np.testing.assert_allclose(found.params[name], g, rtol=1e-11, atol=1e-12)


def test_a_result_is_the_callers_own():
    scene, engine = scene_of("lstm", "every", True), numeric.Engine("lstm", fast=False)
    for k in (2, (2, 3)):
        first = truncated_pass(scene, engine, k)
        kept = pickle.loads(pickle.dumps(first))
        for x in arrays(truncated_pass(scene, engine, k)).values():
            x[...] = np.nan
        assert_same(first, kept)
        assert_same(truncated_pass(scene, engine, k), kept)


@pytest.mark.parametrize("k", [2, (1, 3)])
def test_cells_without_inputs_and_without_outputs_are_truncated_too(k):
    for text in ("h[t] = tanh(W @ h[t-1] + b)", "h[t] = tanh(W @ h[t-1] + b)\ny[t] = V @ h[t]"):
        cell = derive.parse(text)
        scene = make_scene(cell, 1, steps=5, batch=2, sizes=dict.fromkeys(cell.dimensions, 3), loss="squared_error")
        engine = numeric.Engine(cell, fast=False)
        found, full = truncated_pass(scene, engine, k), scene.backward(engine)
        np.testing.assert_allclose(found.loss, full.loss, rtol=2**8 * U)
        assert not np.allclose(found.params["W"], full.params["W"])
        assert_same(truncated_pass(scene, engine, 5), full)


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "k", [0, -1, True, False, 2.0, "2", (2,), (1, 2, 3), (0, 2), (1, True), ("1", 2), [1, 2], (1, 2.5)]
)
def test_what_is_no_number_of_steps_is_refused(k):
    scene = scene_of("tanh_rnn")
    engine = numeric.Engine("tanh_rnn", fast=False)
    for call in (engine.backward, engine.value_and_grad):
        with pytest.raises(ValueError, match="expected a number of steps k from 1 on, or a tuple"):
            call(scene.params, scene.inputs, scene.targets, truncate=k)


def test_windows_shorter_than_what_lies_between_them_are_refused():
    scene = scene_of("tanh_rnn")
    with pytest.raises(ValueError, match=r"truncate is \(3, 2\); expected k1 <= k2"):
        truncated_pass(scene, numeric.Engine("tanh_rnn", fast=False), (3, 2))


def test_engines_that_run_another_program_do_not_truncate():
    scene = scene_of("tanh_rnn")
    planted = derive.differentiate(scene.cell).backward
    for more in ({"plain": True}, {"dtype": "complex128"}, {"backward": planted}):
        with pytest.raises(ValueError, match="truncate does not go with the plain engine"):
            truncated_pass(scene, numeric.Engine("tanh_rnn", **more), 2)
