"""The compiled time loop gives what the specification gives, for odd cells too; what lies on disk changes nothing."""

from __future__ import annotations

import itertools
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from odd_cells import cell_named
from problems import make_scene
from test_functions import BOUND, EVEN, LIMITS, POSITIVE, REFERENCE, domain, sample, ulps
from test_functions import ODD as ODD_FUNCTIONS

pytest.importorskip("numba")

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

import derive
from derive.adjoint import differentiate_step
from derive.program import cut
from numeric.fast import loop as fast_loop
from numeric.fast import store
from numeric.fast.functions import VECTOR_FUNCTIONS
from numeric.fast.loop import Loop
from numeric.fast.vector import Vec, Writer
from numeric.plan import Plans
from numeric.problem import check_problem
from numeric.refine import refine
from numeric.specification import Specification

UNITS = 64  # of roundoff, relative to the magnitudes of one step's terms


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BPTT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# ------------------------------------------------------------------------------------------------ vectors of numbers


def compiled_functions(dtype):
    """All functions at once: from x, (n,), to their values, (functions, n); n is a whole number of vectors."""

    @intrinsic
    def body(typing, given):
        def generate(context, builder, signature, values):
            x, y = (context.make_array(k)(context, builder, v) for k, v in zip(
                signature.args[0], cgutils.unpack_tuple(builder, values[0], 2), strict=True))  # fmt: skip
            (n,) = cgutils.unpack_tuple(builder, x.shape, 1)
            writer = Writer(builder, dtype)
            whole, align = writer.vector.as_pointer(), np.dtype(dtype).itemsize
            lanes = ir.Constant(n.type, writer.lanes)
            with cgutils.for_range(builder, builder.udiv(n, lanes)) as loop:
                k = builder.mul(loop.index, lanes)
                v = Vec(writer, builder.load(builder.bitcast(builder.gep(x.data, [k]), whole), align=align))
                for i, f in enumerate(VECTOR_FUNCTIONS.values()):
                    at = builder.add(builder.mul(n, ir.Constant(n.type, i)), k)
                    place = builder.bitcast(builder.gep(y.data, [at]), whole)
                    builder.store(f(v).value, place, align=align)
            return ir.Constant(ir.DoubleType(), 0.0)

        return types.float64(given), generate

    real = types.float64 if dtype == np.float64 else types.float32
    run = store.compiled_function(body, [types.Array(real, 1, "C"), types.Array(real, 2, "C")], f"functions {dtype}")

    def all_values(x):
        padded = np.zeros(-(-x.size // 8) * 8, dtype)
        padded[: x.size] = x
        y = np.empty((len(VECTOR_FUNCTIONS), padded.size), dtype)
        run((padded, y))
        return dict(zip(VECTOR_FUNCTIONS, y[:, : x.size], strict=True))

    return all_values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vector_functions_are_right_to_a_few_ulp_and_at_the_ends(dtype):
    functions = compiled_functions(dtype)
    assert set(VECTOR_FUNCTIONS) == set(REFERENCE)
    x = sample(dtype)[:: 1 + (dtype == np.float64)]
    values = functions(x)
    for name, exact in REFERENCE.items():
        inside = domain(name, x)
        chosen = functions(inside)[name] if name in POSITIVE else values[name]
        errors = ulps(exact, inside[::5], chosen[::5])
        assert errors.max() <= BOUND, f"{name}({inside[::5][np.argmax(errors)]!r}): {errors.max():.3g} ulp"
        if name in ODD_FUNCTIONS:
            np.testing.assert_array_equal(functions(-x)[name], -values[name], err_msg=name)
        if name in EVEN:
            np.testing.assert_array_equal(functions(-x)[name], values[name], err_msg=name)
    ends = functions(np.array([-np.inf, np.inf, np.nan, 0.0, -0.0], dtype))
    for name, limits in LIMITS.items():
        np.testing.assert_array_equal(ends[name][int(name in POSITIVE) : 2], limits[int(name in POSITIVE) :], name)
        assert np.isnan(ends[name][2]), name
        if name in ODD_FUNCTIONS and name != "dabs":
            np.testing.assert_array_equal(np.signbit(ends[name][3:]), [False, True], name)
    assert ends["log"][3] == ends["log"][4] == -np.inf


# ------------------------------------------------------------------------------------------------ passes


def converted(value, dtype):
    """Floating-point arrays of a scene in another precision."""
    if isinstance(value, dict):
        return {name: converted(x, dtype) for name, x in value.items()}
    return value if value is None or np.asarray(value).dtype.kind != "f" else np.asarray(value).astype(dtype)


class Case:
    """A scene run by a loop; sequences are alike in length, so that a segment has them all."""

    def __init__(self, scene, dtype="float64", *, full=True, refined=True, backward=None):
        for group in ("params", "inputs", "initial", "targets", "options"):
            setattr(scene, group, converted(getattr(scene, group), dtype))
        self.scene, self.cell, self.dtype, self.full = scene, scene.cell, dtype, full
        options = {**scene.options, "initial": scene.initial}
        problem = check_problem(self.cell, np.dtype(dtype), scene.params, scene.inputs, scene.targets, options)
        self.data, self.loss = problem.data, problem.loss
        active = frozenset(self.loss.given)
        program = backward or differentiate_step(cut(self.cell))
        plans = Plans(refine(program, active) if refined else program, active)
        last = scene.options["at"] == "last"
        given = scene.options.get("cotangents") or dict.fromkeys(active, scene.targets)
        classes = next(iter(given.values())).dtype.kind in "iu"
        self.loop = Loop(plans, dtype, self.loss.name, scene.options["at"], classes, full)
        self.targets = [np.ascontiguousarray(given[root]) for root in self.loop.roots]
        self.ends = np.full(self.data.batch, self.data.steps - 1) if last else None
        self.fixed = [list(self.data.params.values()), [np.ascontiguousarray(x) for x in self.data.inputs.values()]]

    def zeros(self, *names):
        shape = (self.data.steps, self.data.batch)
        return [np.zeros((*shape, self.data.sizes[self.cell.axes[n]]), self.dtype) for n in names]

    def run(self, *, cuts=None, batch=None):
        """Loss and derivatives by name; None for ``cuts`` is both passes in one call."""
        data, cell, batch = self.data, self.cell, batch or self.data.batch
        start = [data.initial[n].copy() for n in cell.states]
        carried = [np.zeros_like(s) for s in start]
        grads = [np.zeros_like(p) for p in self.fixed[0]]
        names = (*cell.inputs, *cell.states, *cell.outputs, *cell.states)
        derived = self.zeros(*names) if self.full else []
        scale, width = 1 / self.loss.count, self.loop.width(data.sizes)
        rest = (scale, self.ends, derived)
        room = lambda n: np.full(n * batch * width, np.nan, self.dtype)  # noqa: E731
        if cuts is None:
            tape = room(data.steps)
            spans = (0, data.steps, batch)
            total = self.loop.both(*self.fixed, start, tape, self.targets, carried, grads, *spans, *rest)
        else:
            total, tapes = 0.0, []
            for a, b in itertools.pairwise((0, *cuts, data.steps)):
                tapes.append((a, b, [s.copy() for s in start], room(b - a)))
                alone = [s.copy() for s in start]
                self.loop.forward(*self.fixed, start, tapes[-1][3], a, b, batch)
                self.loop.forward(*self.fixed, alone, np.empty(0, self.dtype), a, b, batch)
                for x, y in zip(start, alone, strict=True):
                    np.testing.assert_array_equal(x, y)
            for a, b, before, tape in reversed(tapes):
                given = (self.targets, carried, grads, a, b, batch, *rest)
                total += self.loop.backward(*self.fixed, before, tape, *given)
        found = {("params", n): g for n, g in zip(cell.parameters, grads, strict=True)}
        found |= {("initial", n): g for n, g in zip(cell.states, carried, strict=True)}
        groups = ["inputs"] * len(cell.inputs) + ["states"] * len(cell.states)
        groups += ["outputs"] * (len(cell.outputs) + len(cell.states))
        found |= {(g, n): x for g, n, x in zip(groups, names, derived, strict=False)}
        return total, found

    def check(self, found, *, units=UNITS):
        """Raise AssertionError unless loss and derivatives are those of the specification, run in float64."""
        total, arrays = found
        options = {**self.scene.options, "initial": self.scene.initial}
        wide = [converted(x, np.float64) for x in (self.scene.params, self.scene.inputs, self.scene.targets)]
        right = Specification(self.cell).backward(*wide, **converted(options, np.float64))
        u = float(np.finfo(self.dtype).eps) / 2
        assert abs(total - right.loss) <= units * u * max(1, abs(right.loss))
        for (group, name), x in arrays.items():
            exact, key = getattr(right, group)[name], name + "0" * (group == "initial")
            size = np.maximum(1, np.abs(exact)) if group in ("states", "outputs") else right.magnitude[key]
            tiny = float(np.finfo(self.dtype).tiny)
            wrong = np.abs(x - exact) / np.maximum(size, tiny)
            assert (wrong <= units * u).all(), f"{group} {name}: {np.nanmax(wrong) / u:.3g} units of roundoff"


def scene_of(name, seed=0, *, sizes=(9, 2, 17, 3, 5, 4), **more):
    cell = cell_named(name)
    more = {"steps": 21, "batch": 3, "loss": "linear", "scale": 0.7, **more}
    return make_scene(cell, seed, sizes=dict(zip(cell.dimensions, itertools.cycle(sizes))), **more)


#: What each adds: fused gates; several of everything; a delay line; states known before the loop; copies of products
#: and states; products with parameters; scalars of several sizes; every function.
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("lstm", "float32", {"loss": "softmax_cross_entropy"}),
    ("gru", "float64", {"loss": "squared_error", "at": "last", "reduction": "mean"}),
    ("several inputs, outputs and states", "float32", {}),
    ("states of inputs and of parameters that others read at once", "float64", {}),
    ("states that change places", "float64", {"loss": "softmax_cross_entropy", "at": "last"}),
    ("product read inside and outside of the loop", "float64", {"loss": "squared_error"}),
    ("matrices applied to scaled parameters", "float64", {}),
    ("scalars everywhere", "float32", {"loss": "squared_error", "reduction": "mean"}),
    ("functions", "float64", {"scale": 0.4, "steps": 5}),
]


@pytest.mark.parametrize(("name", "dtype", "more"), CASES, ids=[c[0] for c in CASES])
def test_both_passes_give_what_the_specification_gives(name, dtype, more):
    case = Case(scene_of(name, **more), dtype, refined=name != "lstm")
    # one step's magnitudes do not bound what a loss at the last step has gone through
    case.check(case.run(), units=UNITS * (16 if "at" in more else 1))


@pytest.fixture(scope="module")
def plain():
    """A small problem whose loop is compiled once."""
    return Case(scene_of("tanh_rnn", loss="softmax_cross_entropy", steps=37), full=False)


def test_time_may_be_cut_anywhere(plain):
    for cuts in ((), (1,), (5, 16, 32)):
        plain.check(plain.run(cuts=cuts))


def test_gradients_are_added_to_and_what_is_carried_in_counts(plain):
    whole, parts = plain.run(cuts=()), plain.run(cuts=(10,))
    for key, x in whole[1].items():
        np.testing.assert_allclose(parts[1][key], x, rtol=1e-12, atol=1e-14, err_msg=str(key))
    once = plain.run()[1]["params", "W_hh"]
    data, cell = plain.data, plain.cell
    start, carried = [data.initial[n] for n in cell.states], [np.zeros_like(data.initial[n]) for n in cell.states]
    grads = [np.ones_like(p) for p in plain.fixed[0]]
    tape = np.empty(data.steps * data.batch * plain.loop.width(data.sizes))
    plain.loop.both(*plain.fixed, start, tape, plain.targets, carried, grads, 0, data.steps, data.batch, 1.0)
    np.testing.assert_allclose(dict(zip(cell.parameters, grads, strict=True))["W_hh"], 1 + once, rtol=1e-12)


def test_only_the_first_sequences_of_a_batch_run(plain):
    scene = scene_of("tanh_rnn", loss="softmax_cross_entropy", steps=37)
    for group in ("inputs", "initial"):
        setattr(scene, group, {n: x[..., :2, :] for n, x in getattr(scene, group).items()})
    scene.targets = scene.targets[:, :2]
    fewer = Case(scene, full=False)
    fewer.loop = plain.loop
    right, found = fewer.run(cuts=(20,)), plain.run(cuts=(20,), batch=2)
    assert found[0] == pytest.approx(right[0], rel=1e-14)
    for key, x in right[1].items():
        same = found[1][key][: len(x)] if key[0] == "initial" else found[1][key]
        np.testing.assert_allclose(same, x, rtol=1e-12, atol=1e-14, err_msg=str(key))
    assert not found[1]["initial", "h"][2:].any()


def test_one_class_of_a_distribution_is_that_class():
    scene = scene_of("tanh_rnn", loss="softmax_cross_entropy", sizes=(4, 6, 11))
    right = Case(scene).run()
    size = scene.params["W_hy"].shape[0]
    scene.targets = np.eye(size)[scene.targets]
    case = Case(scene)
    found = case.run()
    case.check(found)
    assert found[0] == pytest.approx(right[0], rel=1e-14)
    for key, x in right[1].items():
        np.testing.assert_allclose(found[1][key], x, rtol=1e-12, atol=1e-14, err_msg=str(key))


def test_a_confident_prediction_keeps_its_digits():
    scene = scene_of("tanh_rnn", loss="softmax_cross_entropy", steps=1, batch=1, sizes=(3, 2, 4))
    scene.initial["h"][:] = 0
    scene.params["W_hy"][:] = 0
    scene.params["W_hy"][1] = 60 / np.abs(np.tanh(scene.params["W_xh"] @ scene.inputs["x"][0, 0] + scene.params["b"]))
    scene.params["W_hy"][1] *= np.sign(np.tanh(scene.params["W_xh"] @ scene.inputs["x"][0, 0] + scene.params["b"])) / 3
    scene.targets[:] = 1
    case = Case(scene)
    total, found = case.run()
    exact = (scene.params["W_hy"].shape[0] - 1) * np.exp(-60.0)
    assert total == pytest.approx(exact, rel=1e-12)
    assert np.abs(found["params", "W_hy"][1]).max() <= exact
    assert np.abs(found["params", "W_hy"][1]).min() > 0
    case.check((total, found))


# ------------------------------------------------------------------------------------------------ tiny and huge numbers


FADING = derive.parse(
    """g: scalar
h[t] = W @ h[t-1] + V.T @ x[t] + U @ x[t] + b*x[t] + g*x[t]
y[t] = h[t]""",
    "fading",
)


FADE = (0.036, 0.042, 0.05)


def fading(cotangent):
    """A problem over 200 steps whose derivatives fall by 20 to 28 a step; only early steps have an input."""
    scene = make_scene(FADING, 0, steps=200, batch=2, sizes={"H": 3}, loss="linear")
    scene.params["W"][:] = np.diag(FADE)
    scene.inputs["x"][60:] = 0
    for name, x in scene.options["cotangents"].items():
        x[:-1] = 0
        x[20] = cotangent * (name == "h")
    return scene


def test_a_gradient_that_vanishes_is_right():
    case = Case(fading(0.0))
    total, found = case.run()
    seed = sum(x[-1] for x in case.scene.options["cotangents"].values())
    np.testing.assert_allclose(found["initial", "h"], seed * np.array(FADE) ** 200, rtol=1e-13)
    case.check((total, found), units=400)  # 200 products
    case.check(case.run(cuts=(10, 30)), units=400)


def test_a_gradient_that_vanishes_and_gets_something_again_is_right():
    case = Case(fading(1e-235))  # as much as what comes from the last step, for one of the entries
    case.check(case.run(), units=400)


def test_a_number_that_is_none_does_not_stay_hidden(plain):
    plain.fixed[1][0][20, 1, 0], before = np.nan, plain.fixed[1][0][20, 1, 0]
    try:
        total, found = plain.run()
    finally:
        plain.fixed[1][0][20, 1, 0] = before
    assert np.isnan(total)
    assert all(np.isnan(found["params", n]).any() for n in plain.cell.parameters)


# ------------------------------------------------------------------------------------------------ must be rejected


@pytest.mark.parametrize("name", ["drop_recurrent", "transposed_carry"])
def test_a_wrong_backward_program_gives_wrong_derivatives(name):
    cell = derive.load("tanh_rnn")
    program = differentiate_step(cut(cell))
    wrong = planted(program, name)
    case = Case(scene_of("tanh_rnn", sizes=(3,)), full=True, refined=False, backward=wrong)
    with pytest.raises(AssertionError, match="units of roundoff"):
        case.check(case.run())


def planted(program, name):
    """A backward program without the path through time, or with W_hh where W_hh.T belongs."""
    (s,) = [s for s in program.flows if s.name == "h[t-1]"]
    (flow,) = program.flows[s]
    if name == "drop_recurrent":
        return program.replaced(flows={s: ()})
    return program.replaced(flows={s: (type(flow)(flow.source, flow.matrix, not flow.transposed),)})


# ------------------------------------------------------------------------------------------------ files and threads


def test_threads_do_not_disturb_each_other(plain):
    right = plain.run(cuts=())
    with ThreadPoolExecutor(4) as pool:
        for total, found in pool.map(lambda _: plain.run(cuts=()), range(16)):
            assert total == right[0]
            for key, x in right[1].items():
                np.testing.assert_array_equal(found[key], x)


def test_a_loop_is_taken_from_disk_without_being_written_again(plain, monkeypatch):
    right = plain.run()
    again = Loop(plain.loop.plans, "float64", "softmax_cross_entropy", "every", True, False)
    monkeypatch.setattr(fast_loop, "Frame", None)  # nothing can be written now
    plain_loop, plain.loop = plain.loop, again
    try:
        assert plain.run()[0] == right[0]
    finally:
        plain.loop = plain_loop
    changed = Loop(plain.loop.plans, "float32", "softmax_cross_entropy", "every", True, False)
    with pytest.raises(TypeError, match="NoneType"):
        changed.entry("both")


def compiled_here(directory, monkeypatch):
    """What a loop gives that is compiled with this directory as the cache."""
    monkeypatch.setenv("BPTT_CACHE", str(directory))
    case = Case(scene_of("neither", loss="squared_error", steps=3, batch=1, sizes=(2,)), full=False)
    case.check(case.run())


def test_damaged_files_are_replaced_or_done_without(tmp_path, monkeypatch):
    compiled_here(tmp_path, monkeypatch)
    kept = [p for p in (tmp_path / "__pycache__").iterdir() if p.suffix == ".nbc"]
    assert kept
    assert not list(tmp_path.glob("*.tmp"))
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    compiled_here(tmp_path, monkeypatch)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files here")
def test_a_directory_that_others_may_write_to_is_not_used(tmp_path, monkeypatch):
    mine, shared = tmp_path / "mine", tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("BPTT_CACHE", str(shared))
    assert store.cache_directory() is None
    monkeypatch.setenv("BPTT_CACHE", str(mine))
    assert store.cache_directory() == mine
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    (mine / "__pycache__").chmod(0o770)
    assert store.cache_directory() is None
    monkeypatch.setenv("BPTT_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("")
    assert store.cache_directory() is None
    monkeypatch.delenv("BPTT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.cache_directory() == tmp_path / "bptt"


def test_without_a_directory_the_loop_is_compiled_in_memory(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    compiled_here(tmp_path, monkeypatch)
    assert not list(tmp_path.glob("loop_*"))


def test_names_in_the_cache_do_not_depend_on_hashes():
    code = (
        "import derive; from derive.adjoint import differentiate_step; from derive.program import cut;"
        "from numeric.fast.schedule import schedule_of; from numeric.plan import Plans;"
        "from numeric.refine import refine;"
        "b = refine(differentiate_step(cut(derive.load('gru'))), frozenset({'y', 'h'}));"
        "print(schedule_of(Plans(b, frozenset({'y', 'h'})), full=True).described())"
    )
    run = [sys.executable, "-c", code]
    seeds = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2", "3")]
    texts = {subprocess.run(run, capture_output=True, text=True, check=True, env=env).stdout for env in seeds}
    assert len(texts) == 1


def test_numeric_is_importable_without_numba():
    code = "import sys; sys.modules['numba'] = None; import numeric, numeric.fast; print('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
