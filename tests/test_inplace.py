"""The laws of the in-place pass: the lambdified program's numbers, the same for equal questions, in room of its own."""

from __future__ import annotations

import ast
import copy
import gc
import itertools
import pickle
import re
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from odd_cells import ODD, cell_named
from problems import make_scene
from test_passes import arrays, assert_same
from turns import crossed

import derive
import numeric
from derive.adjoint import differentiate_step
from derive.mistakes import plant
from derive.program import cut
from numeric import emit, functions, inplace, passes, refine, session, storage
from numeric.graph import AFTER, LOOP, Graph
from numeric.plan import Plans
from numeric.specification import Specification

CELLS = (*derive.cells(), *ODD)
DTYPES = ("float64", "float32")
UNITS = 64  # of roundoff, relative to the magnitudes of one step's terms
LOSSES = tuple(
    {"loss": loss, "at": at, "reduction": reduction}
    for loss in ("linear", "softmax_cross_entropy", "squared_error")
    for at in ("every", "last")
    for reduction in ("sum", "mean")
)
NEVER = 1 << 60
FAST = [
    pytest.param(False, id="numpy"),
    pytest.param(True, id="loop", marks=pytest.mark.skipif(not passes.numba_is_there(), reason="needs the extra fast")),
]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """A place for compiled loops that the workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BPTT_CACHE", str((base.parent if base.name.startswith("popen") else base) / "loops"))
        yield


def converted(value, dtype):
    """Floating-point arrays of a scene in another precision."""
    if isinstance(value, dict):
        return {name: converted(x, dtype) for name, x in value.items()}
    return value if value is None or np.asarray(value).dtype.kind != "f" else np.asarray(value).astype(dtype)


def scene_of(cell, turn, dtype="float64", *, steps=5, sizes=None, **more):
    """A scene in ``dtype``; loss, number of sequences and sizes take turns."""
    cell = cell_named(cell) if isinstance(cell, str) else cell
    pattern = itertools.cycle(sizes or ((1,) if turn % 3 == 0 else range(2, 12)))
    more = {"batch": 1 + turn % 5, "scale": 0.7, **LOSSES[5 * turn % len(LOSSES)], **more}
    scene = make_scene(cell, turn, steps=steps, sizes=dict(zip(cell.dimensions, pattern)), **more)  # noqa: B905
    for group in ("params", "inputs", "initial", "targets", "options"):
        setattr(scene, group, converted(getattr(scene, group), dtype))
    return scene


class Truth:
    """What the lambdified program gives for a scene, and the magnitudes that rounding is measured by."""

    def __init__(self, scene, dtype="float64", *, entrywise=False):
        self.dtype, self.u, self.entrywise = dtype, float(np.finfo(dtype).eps) / 2, entrywise
        self.plain = scene.backward(numeric.Engine(scene.cell, dtype, plain=True))
        wide = [converted(x, "float64") for x in (scene.params, scene.inputs, scene.targets)]
        options = converted({**scene.options, "initial": scene.initial}, "float64")
        self.exact = Specification(scene.cell).backward(*wide, **options)

    def magnitude(self, group, name):
        """What an array's error is relative to: the terms of one step, of each entry or of the largest."""
        if group == "outputs":
            return np.maximum(1, np.abs(self.exact.outputs[name]))
        if group == "states":  # sums of terms that may cancel
            return np.maximum(1, np.abs(self.exact.states[name]).max())
        size = self.exact.magnitude[name + "0" * (group == "initial")]
        return np.maximum(size if self.entrywise else size.max(), float(np.finfo(self.dtype).tiny))

    def check(self, found, *, units=UNITS):
        """Raise AssertionError unless every number is right to some units."""
        assert type(found.loss) is float
        assert abs(found.loss - self.plain.loss) <= units * self.u * max(1, abs(self.plain.loss))
        mine = arrays(found)
        assert mine.keys() == arrays(self.plain).keys()
        for key, right in arrays(self.plain).items():
            assert (mine[key].dtype, mine[key].shape) == (self.dtype, right.shape), key
            wrong = np.abs(mine[key].astype(float) - right) / self.magnitude(*key)
            assert (wrong <= units * self.u).all(), f"{key}: {np.max(wrong) / self.u:.3g} units of roundoff"


# --------------------------------------------------------------------------------------------- the lambdified numbers


@pytest.mark.parametrize(("name", "dtype", "ragged"), crossed(CELLS, DTYPES, [False, True]))
def test_both_programs_give_the_same_numbers_however_time_is_cut(name, dtype, ragged, monkeypatch):
    """In segments of any length, with factors computed in the loop or after it, rows in stretches or at once."""
    turn = 4 * CELLS.index(name) + 2 * DTYPES.index(dtype) + ragged
    scene = scene_of(name, turn, dtype, ragged=ragged)
    truth = Truth(scene, dtype)
    monkeypatch.setattr(inplace, "_CHUNK", 1 if turn % 4 < 2 else 1 << 18)
    monkeypatch.setattr(inplace, "_COPY", 1 if turn % 3 else 64)
    for k, rows in enumerate((1, 2, 7, 4096)):
        eager = (k + turn) % 2 == 0
        monkeypatch.setattr(passes, "_EAGER", 0 if eager else NEVER)
        engine = numeric.Engine(scene.cell, dtype, segment=rows, fast=False)
        truth.check(scene.backward(engine))
        assert {key[2] for key in engine._passes.compiled} == {eager}
    loss, grads = engine.value_and_grad(
        scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options
    )
    right = truth.plain
    truth.check(numeric.Result(loss, grads, right.inputs, right.initial, right.states, right.outputs))
    lengths = scene.options.get("lengths")
    size = {k: scene.options[k] for k in ("steps", "batch") if k in scene.options}
    forward = engine.forward(scene.params, scene.inputs, scene.initial, lengths, **size)
    truth.check(numeric.Result(loss, grads, right.inputs, right.initial, right.states, forward))


@pytest.mark.skipif(not passes.numba_is_there(), reason="needs the extra fast")
@pytest.mark.parametrize("name", ["lstm", "several inputs, outputs and states", "readout in several layers"])
def test_compiled_kernels_give_the_same_numbers(name, monkeypatch):
    """The form for matrices that are too large for the compiled loop."""
    monkeypatch.setattr(passes, "_LOOP_WORK", -1)
    monkeypatch.delenv("BPTT_FAST")
    for turn in (1, 7):
        scene = scene_of(name, turn, ragged=turn == 7, loss="linear", at="every")
        engine = numeric.Engine(scene.cell, segment=7)
        Truth(scene).check(scene.backward(engine))
        assert all(compiled.fused for compiled in engine._passes.compiled.values())


def test_eager_passes_have_less_left_for_after_the_loop():
    plans = Plans(refine.refine(differentiate_step(cut(derive.load("lstm"))), frozenset("y")), frozenset("y"))
    count = [{p: sum(op.phase == p for op in Graph(plans, eager=e).live) for p in (LOOP, AFTER)} for e in (False, True)]
    assert count[1][AFTER] < count[0][AFTER]
    assert sum(count[0].values()) == sum(count[1].values())


def _no_buffer_outlives_its_first_reader(patch):
    patch.setattr(storage.Storage, "_dies", lambda self, a, op: a.axis == op.axis and op.kind != "gather")


def _tapes_are_shared_by_all_segments(patch):
    right = storage.Storage._assign

    def assign(self):
        right(self)
        for buffer in self.buffers:
            buffer.tape = False

    patch.setattr(storage.Storage, "_assign", assign)


def _only_the_first_segment_counts(patch):
    right = inplace.Bound.add

    def add(self, inputs):
        self.workspace.totals.clear()
        right(self, inputs)

    patch.setattr(inplace.Bound, "add", add)


def _nothing_is_carried_into_the_segment_before(patch):
    right = session.Session.visit

    def visit(self, segment, slot, passed):
        for buffer in self.compiled.storage.carries.values():
            self.workspace.work[buffer.index][...] = 0
        return right(self, segment, slot, passed)

    patch.setattr(session.Session, "visit", visit)


def _the_last_rows_are_left_out(patch):
    patch.setattr(inplace, "_CHUNK", 1)
    patch.setattr(inplace.Bound, "_chunks", lambda self, widest: [slice(0, min(16, self.rows))])


def _derivatives_are_taken_from_the_argument(patch):
    patch.setitem(emit._OWN, "dsigmoid", lambda x, value, out, scratch: emit.dsigmoid(value, value, out, scratch))
    patch.setattr(emit, "_LOST", 2.0)


def _a_factor_of_two_is_one_of_them(patch):
    right = refine._Refiner.factor
    patch.setattr(passes, "refined_plans", passes.refined_plans.__wrapped__)  # not the plans that are made already
    patch.setattr(refine._Refiner, "factor", lambda self, e, source: right(self, e.args[0] if e.is_Mul else e, source))


MISTAKES = (
    _no_buffer_outlives_its_first_reader,
    _tapes_are_shared_by_all_segments,
    _only_the_first_segment_counts,
    _nothing_is_carried_into_the_segment_before,
    _the_last_rows_are_left_out,
    _derivatives_are_taken_from_the_argument,
    _a_factor_of_two_is_one_of_them,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__[1:])
def test_a_mistake_in_the_pass_is_noticed(mistake, monkeypatch):
    mistake(monkeypatch)
    wrong = 0
    for name in ("lstm", "gru", "states in a chain"):
        scene = scene_of(name, 1, steps=9, batch=3, sizes=(2, 3, 4), loss="linear", at="every")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "_EAGER", NEVER)
            rows = 27 if mistake is _the_last_rows_are_left_out else 6
            found = scene.backward(numeric.Engine(scene.cell, segment=rows, fast=False))
        try:
            Truth(scene).check(found)
        except AssertionError:
            wrong += 1
    assert wrong


# -------------------------------------------------------------------------------------------------- tails and strides


def sample(dtype):
    """Arguments of every size, up to where derivatives underflow."""
    rng = np.random.default_rng(0)
    most = -np.log(np.finfo(dtype).tiny) / 2.1
    return np.concatenate([rng.normal(size=400), rng.uniform(-most, most, 600), [0.0, 1e-30, -1e-30]]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_derivative_keeps_its_digits_in_the_tails(name, dtype):
    """From the value where that loses six bits at most; alone, and beside others that lose more."""
    x, u = sample(dtype), float(np.finfo(dtype).eps) / 2
    order = np.argsort(np.abs(x))
    derivative, value = getattr(emit, f"d{name}"), getattr(functions, name)
    for part in (x, *np.split(x[order], [200, 400, 410, 600])):
        out, scratch = np.empty_like(part), np.empty_like(part)
        derivative(part, value(part), out, scratch)
        right = getattr(functions, f"d{name}")(part.astype(float))
        assert (np.abs(out - right) <= 2**9 * u * right).all()
        inplace_ = value(part)
        derivative(part, inplace_, inplace_, scratch)
        np.testing.assert_array_equal(inplace_, out)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_derivative_from_the_value_alone_is_noticed(name, monkeypatch):
    monkeypatch.setattr(emit, "_LOST", 0.0)
    with pytest.raises(AssertionError):
        test_a_derivative_keeps_its_digits_in_the_tails(name, "float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["tanh_rnn", "lstm", "lstm_peephole", "gru", "gru_reset_after", "readout in several layers"]
)
def test_saturated_gates_keep_their_digits(name, dtype):
    """Entry by entry, relative to the terms of a step, which are as small as the tails are.

    A pre-activation of size a is rounded by a u, which moves what is exponentially small by as much.
    """
    for turn, scale in ((1, 5.0), (2, 30.0), (4, 30.0)):
        scene = scene_of(name, turn, dtype, scale=scale, sizes=(3, 2, 2), steps=4)
        truth = Truth(scene, dtype, entrywise=True)
        truth.check(scene.backward(numeric.Engine(scene.cell, dtype, fast=False)), units=2**10 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_derivative_that_vanishes_keeps_its_digits_until_it_is_flushed(dtype):
    """Along hundreds of steps, down to a few thousand times the smallest normal number; then it is zero."""
    u, tiny = float(np.finfo(dtype).eps) / 2, float(np.finfo(dtype).tiny)
    engine, steps = numeric.Engine("tanh_rnn", dtype, fast=False), 400
    scene = scene_of("tanh_rnn", 1, dtype, steps=steps, batch=2, sizes=(1,), loss="linear", at="last")
    scene.params["W_hh"][...] = 0.1 if dtype == "float64" else 0.7
    found = scene.backward(engine)
    right = scene.backward(numeric.Engine("tanh_rnn", dtype, plain=True))
    for n in ("inputs", "states"):
        for x, y in zip(getattr(found, n).values(), getattr(right, n).values(), strict=True):
            kept = np.abs(y) > 2**13 * tiny * max(1, np.abs(y[-1]).max())
            assert 20 < kept.all(axis=(1, 2)).sum() < steps
            assert (np.abs(x - y)[kept] <= 8 * steps * u * np.abs(y[kept])).all()
            assert not x[: steps // 16].any()


def strided(dtype):
    """Views of one column, and of some columns, of arrays of every small width."""
    for rows, width in itertools.product((1, 2, 3, 5, 17), range(1, 20)):
        for first, last in ((0, 1), (width // 2, width), (0, width)):
            whole = np.linspace(-3, 3, rows * width).astype(dtype).reshape(rows, width)
            yield whole[:, first:last], functions.sigmoid(whole[:, first:last])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sigmoid_in_place_is_right_for_every_stride(dtype):
    for x, right in strided(dtype):
        emit.sigmoid(x, x)
        np.testing.assert_allclose(x, right, rtol=8 * np.finfo(dtype).eps)


def negating_in_place(x, out):
    """A sigmoid that NumPy 2.4.6 gets wrong where a column of four or eight is negated."""
    np.negative(x, out)
    np.exp(out, out)
    np.add(out, 1, out)
    np.divide(1, out, out)


@pytest.mark.parametrize("dtype", DTYPES)
def test_negating_in_place_would_be_noticed_where_numpy_gets_it_wrong(dtype, monkeypatch):
    width = {"float32": 4, "float64": 8}[dtype]
    column = np.arange(5.0 * width).astype(dtype).reshape(5, width)[:, :1]
    right = -column.copy()
    if np.array_equal(np.negative(column, column), right):
        pytest.skip("this NumPy negates in place")
    monkeypatch.setattr(emit, "sigmoid", negating_in_place)
    with pytest.raises(AssertionError):
        test_the_sigmoid_in_place_is_right_for_every_stride(dtype)
    if dtype == "float32":  # three gates and what is added to them are four columns
        monkeypatch.setitem(emit._OWN, "sigmoid", negating_in_place)
        with pytest.raises(AssertionError):
            test_layers_of_one_unit("lstm_peephole", dtype, 5)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", derive.cells())
def test_layers_of_one_unit(name, dtype, batch):
    """Each gate is a column of a buffer of several."""
    for turn in range(2):
        scene = scene_of(name, turn, dtype, sizes=(1,), batch=batch, scale=1.0)
        Truth(scene, dtype).check(scene.backward(numeric.Engine(scene.cell, dtype, fast=False)))


# ---------------------------------------------------------------------------------------------- the regrouped program


@pytest.mark.parametrize("name", CELLS)
def test_regrouping_changes_no_number(name):
    """The regrouped program, run by the lambdified engine and by the unfused one."""
    scene = scene_of(name, CELLS.index(name), loss="linear", at="every", batch=2)
    truth = Truth(scene)
    refined = refine.refine(differentiate_step(cut(scene.cell)), frozenset(scene.options["cotangents"]))
    truth.check(scene.backward(numeric.Engine(scene.cell, backward=refined)))
    truth.check(scene.backward(Specification(scene.cell, backward=refined)))


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_after", "several inputs, outputs and states"])
def test_regrouping_a_wrong_program_gives_its_wrong_numbers(name):
    """What is regrouped is what was handed in, and not the right answer."""
    scene = scene_of(name, 1, loss="linear", at="every", steps=2, batch=1, sizes=(2,))
    right = scene.backward(numeric.Engine(scene.cell, plain=True))
    planted = list(plant(derive.differentiate(scene.cell).backward))
    different = 0
    for wrong in planted[:: max(1, len(planted) // 6)]:
        refined = refine.refine(wrong.backward, frozenset(scene.options["cotangents"]))
        expected = scene.backward(Specification(scene.cell, backward=wrong.backward))
        found = scene.backward(Specification(scene.cell, backward=refined))
        for key, x in arrays(expected).items():
            np.testing.assert_allclose(arrays(found)[key], x, rtol=1e-9, atol=1e-11)
        different += any(not np.allclose(x, arrays(right)[key]) for key, x in arrays(expected).items())
    assert different


# ------------------------------------------------------------------------------------------------- the text of a pass

HOSTILE = """
    run[t] = sigmoid(eval @ v0[t-1] + exec @ arrays[t] + add)
    zip[t] = tanh(getattr @ (run[t]*v0[t-1]) + __builtins__ @ arrays[t] + v1*copyto[t-1])
    v0[t] = (1 - run[t])*zip[t] + run[t]*v0[t-1]
    copyto[t] = sigmoid(__import__ @ v0[t] + own_sigmoid)*copyto[t-1] + zip[t]
    out[t] = open @ v0[t] + matmul*(f_tanh @ copyto[t])"""

OWN = r"v\d+|run|arrays|count|flush|zip|f_\w+|own_\w+|add|subtract|multiply|divide|tanh|exp|sqrt|copyto|matmul"
PARTS = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.For, ast.Return, ast.Assign, ast.Expr, ast.Call, ast.Tuple,
    ast.Name, ast.Load, ast.Store, ast.Attribute, ast.Constant, ast.UnaryOp, ast.USub, ast.Not, ast.If, ast.BinOp,
    ast.BitAnd, ast.AugAssign, ast.Add,
)  # fmt: skip


def check_text(source):
    """Raise AssertionError for text that could do anything but call NumPy on the pass's own arrays."""
    for part in ast.walk(ast.parse(source)):
        assert type(part) in PARTS, ast.dump(part)
        match part:
            case ast.Name(id=name) | ast.arg(arg=name):
                assert re.fullmatch(OWN, name), name
                own = re.fullmatch(r"f_(\w+)|own_(\w+)", name)
                assert own is None or own[1] in functions.FUNCTIONS or own[2] in emit._OWN, name
            case ast.Attribute(attr=name):
                assert name == "dot"
            case ast.Constant(value=number):
                assert type(number) is int
            case ast.FunctionDef(name=name):
                assert (name, part.decorator_list) == ("run", [])


def sources(engine):
    return [
        routine.source
        for compiled in engine._passes.compiled.values()
        for routine in (compiled.const, compiled.forward, compiled.after, compiled.reverse)
    ]


def hostile():
    return derive.parse("\n".join(map(str.strip, HOSTILE.strip().splitlines())), "hostile")


@pytest.mark.parametrize("eager", [0, NEVER])
def test_the_text_of_a_pass_has_no_name_of_the_cell(eager, monkeypatch):
    monkeypatch.setattr(passes, "_EAGER", eager)
    for cell in (hostile(), *map(cell_named, CELLS)):
        engine = numeric.Engine(cell, fast=False)
        scene_of(cell, 1, loss="linear", steps=2, batch=1, sizes=(2,)).backward(engine)
        assert sources(engine)
        for text in sources(engine):
            check_text(text)
    for text in (
        "import os", "def run(arrays):\n    x = arrays", "run(v0.__class__)", "exec(v0)", "v0['x']", "lambda v0: v0",
        "v0.dot(1, 'x')", "f_open(v0)", "own_exec(v0)", "def run(arrays):\n    yield v0", "(v0 := v1)", "open", "1.5",
        "count = None", "v0 += [1]",
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check_text(text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_names_that_the_text_uses_itself_are_no_danger(dtype):
    for turn in range(4):
        scene = scene_of(hostile(), turn, dtype, ragged=turn % 2 == 0)
        Truth(scene, dtype).check(scene.backward(numeric.Engine(scene.cell, dtype, segment=4, fast=False)))


# ------------------------------------------------------------------------------------------------- nothing grows with T


def growth(engine, batch):
    """By how much the peak of a warm call is higher at 2T than at T, in bytes."""
    params, random = engine.init(seed=0, D=3, H=8, O=4), np.random.default_rng(0)
    peaks = []
    for steps in (1200, 2400):  # NumPy's own buffers are full when there are 8192 numbers
        x, targets = random.normal(size=(steps, batch, 3)), random.integers(0, 4, (steps, batch))
        engine.value_and_grad(params, x, targets)
        gc.collect()
        tracemalloc.start()
        engine.value_and_grad(params, x, targets)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return peaks[1] - peaks[0]


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "gru"])
@pytest.mark.parametrize("fast", FAST)
def test_a_warm_call_allocates_nothing_that_grows_with_time(fast, name):
    engine = numeric.Engine(name, fast=fast, segment=1 << 20)
    for batch in (1, 4):
        assert growth(engine, batch) < 3000


def test_an_array_of_all_steps_is_noticed(monkeypatch):
    right = session.Session.inputs
    monkeypatch.setattr(session.Session, "inputs", lambda *a: {n: x.copy() for n, x in right(*a).items()})
    assert growth(numeric.Engine("tanh_rnn", fast=False, segment=1 << 20), 1) > 3 * 8 * 1000


# ------------------------------------------------------------------------------------------------- equal questions


def ask(engine, scene):
    """A lean answer and a whole one."""
    whole = scene.backward(engine)
    lean = engine.value_and_grad(scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options)
    return whole, lean


def assert_same_answers(found, right):
    assert_same(found[0], right[0])
    assert found[1][0] == right[1][0]
    assert list(found[1][1]) == list(right[1][1])
    for n, gradient in right[1][1].items():
        np.testing.assert_array_equal(found[1][1][n], gradient, err_msg=n)


SHAPES = ((5, 3, False), (2, 1, False), (5, 3, True), (1, 4, False), (9, 2, True), (7, 3, False), (5, 3, True))


def various(name, losses):
    """Scenes of more shapes than buffers are kept for; some are alike but for what they hold, or for their lengths."""
    return [
        scene_of(
            name, k, steps=steps, batch=batch, ragged=ragged, sizes=(3, 2, 4), at="every", loss=losses[k % len(losses)]
        )
        for k, (steps, batch, ragged) in enumerate(SHAPES)
    ]


@pytest.mark.parametrize(
    ("name", "losses", "fast"),
    [
        ("lstm", ("linear", "softmax_cross_entropy", "squared_error"), False),
        ("several inputs, outputs and states", ("linear", "softmax_cross_entropy"), False),
        pytest.param("tanh_rnn", ("softmax_cross_entropy",), True, marks=FAST[1].marks),
    ],
)
def test_an_answer_depends_on_no_other_question(name, losses, fast):
    """Not on those before it, even if they overflowed or were refused, and not on those in other threads."""
    scenes = various(name, losses)
    fresh = [ask(numeric.Engine(scene.cell, segment=6, fast=fast), scene) for scene in scenes]
    engine = numeric.Engine(scenes[0].cell, segment=6, fast=fast)
    for k in (0, 1, 2, 6, 3, 4, 5, 0, 2, 6, 0):
        assert_same_answers(ask(engine, scenes[k]), fresh[k])
        broken = copy.deepcopy(scenes[k])
        broken.params = {n: 1e308 * np.sign(p) for n, p in broken.params.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert not np.isfinite(broken.backward(engine).loss)
        broken.params["b" if "b" in broken.params else next(iter(broken.params))][...] = np.nan
        with pytest.raises(ValueError, match="nan"):
            broken.backward(engine)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda scene: ask(engine, scene), scenes * 3))
    for found, right in zip(answers, fresh * 3, strict=True):
        assert_same_answers(found, right)


def test_a_buffer_that_is_not_cleared_is_noticed(monkeypatch):
    right = session.Session.begin

    def begin(self, loss):
        carried = {k: self.workspace.work[b.index].copy() for k, b in self.compiled.storage.carries.items()}
        right(self, loss)
        for k, b in self.compiled.storage.carries.items():
            self.workspace.work[b.index][...] = carried[k]

    monkeypatch.setattr(session.Session, "begin", begin)
    with pytest.raises(AssertionError):
        test_an_answer_depends_on_no_other_question("lstm", ("linear",), False)


def misaligned(x):
    """The same numbers one byte off."""
    room = bytearray(x.nbytes + 1)
    out = np.frombuffer(room, x.dtype, offset=1).reshape(x.shape)
    out[...] = x
    assert x.itemsize == 1 or not out.flags.aligned
    return out


def read_only(x):
    out = x.copy()
    out.setflags(write=False)
    return out


def every_second(x):
    room = np.full((*x.shape, 2), 7, x.dtype)
    room[..., 0] = x
    return room[..., 0]


FORMS = {
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "misaligned": misaligned,
    "every second number": every_second,
    "backwards": lambda x: x[::-1].copy()[::-1] if x.ndim else x,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "list": np.ndarray.tolist,
    "memoryview": lambda x: memoryview(x.copy()) if x.ndim else x,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fast", FAST)
def test_numbers_do_not_depend_on_how_they_lie_in_memory(fast, form):
    change = FORMS[form]
    name, many = ("tanh_rnn", 1) if fast else ("lstm", 2)
    for dtype, loss in itertools.product(DTYPES[:many], ("softmax_cross_entropy", "squared_error")[:many]):
        engine = numeric.Engine(name, dtype, fast=fast)
        scene = scene_of(name, 1, dtype, batch=3, sizes=(4, 3, 2), loss=loss, at="every")
        for initial in (scene.initial, {}):
            scene.initial = initial
            right = ask(engine, scene)
            other = copy.copy(scene)
            other.params = {n: change(p) for n, p in scene.params.items()}
            other.inputs = change(scene.inputs["x"])
            other.initial = {n: change(s) for n, s in initial.items()}
            other.targets = change(scene.targets)
            for one in (scene, other, other, scene):
                assert_same_answers(ask(engine, one), right)


@pytest.mark.parametrize("kind", ["int8", "uint16", "int32", "int64", "uint64"])
def test_integers_are_numbers_like_others(kind):
    scene = scene_of("lstm", 1, batch=3, sizes=(4, 3, 2), loss="softmax_cross_entropy", at="every")
    for group in (scene.params, scene.inputs, scene.initial):
        group.update({n: np.abs(np.rint(2 * x)) for n, x in group.items()})
    engine = numeric.Engine("lstm", fast=False)
    right = ask(engine, scene)
    other = copy.copy(scene)
    other.params, other.inputs, other.initial = (
        {n: x.astype(kind) for n, x in group.items()} for group in (scene.params, scene.inputs, scene.initial)
    )
    other.targets = scene.targets.astype(kind)
    assert_same_answers(ask(engine, other), right)
    other.params, other.inputs = scene.params, scene.inputs["x"]
    for _ in range(2):
        assert_same_answers(ask(engine, other), right)


# ------------------------------------------------------------------------------------------------ calls like an earlier


class Known:
    """A call that an engine has seen already, by its arrays."""

    def __init__(self, dtype="float64", classes=4, kind="int64", loss="softmax_cross_entropy", **options):
        self.engine = numeric.Engine("tanh_rnn", dtype, fast=False)
        self.params, random = self.engine.init(seed=0, D=2, H=3, O=classes), np.random.default_rng(0)
        self.inputs = random.normal(size=(5, 3, 2)).astype(dtype)
        self.targets = random.integers(0, 4, (5, 3)).astype(kind)
        if loss == "squared_error":
            self.targets = random.normal(size=(5, 3, classes)).astype(dtype)
        self.options = {"loss": loss, **options}
        self.call()
        self.problem()

    def call(self):
        return self.engine.value_and_grad(self.params, self.inputs, self.targets, **self.options)

    def problem(self):
        """Whether the call is recognised."""
        recogniser = self.engine._recogniser
        key = recogniser.key(self.params, self.inputs, self.targets, self.options)
        return recogniser.find(key, self.params, self.inputs, self.targets)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["W_hh", "b", "inputs", "targets"])
def test_no_call_with_a_number_that_is_not_finite_is_recognised(where, bad, dtype):
    for index in (0, -1):
        known = Known(dtype, loss="squared_error")
        assert known.problem() is not None
        array = known.params.get(where) if where in known.params else getattr(known, where)
        array.reshape(-1)[index] = bad
        with pytest.raises(ValueError, match=f"{where}|x, of shape"):
            known.call()
        array.reshape(-1)[index] = 0.25
        known.call()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("classes", [4, 200, 300])
def test_no_call_with_a_class_that_there_is_not_is_recognised(classes, kind):
    known, limits = Known(classes=classes, kind=kind), np.iinfo(kind)
    assert known.problem() is not None
    for bad in {-1, -100, limits.min, classes, classes + 1, limits.max}:
        if not limits.min <= bad <= limits.max or 0 <= bad < classes:
            continue
        for index in (0, -1):
            known.targets.reshape(-1)[index] = bad
            with pytest.raises(ValueError, match="targets, of shape"):
                known.call()
            known.targets.reshape(-1)[index] = 1
            known.call()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("where", ["W_xh", "inputs", "targets"])
def test_numbers_whose_squares_overflow_are_numbers(where, dtype):
    known = Known(dtype, loss="squared_error")
    array = known.params.get(where) if where in known.params else getattr(known, where)
    array.reshape(-1)[:2] = 3e19 if dtype == "float32" else 1e160
    wide = converted(known.params, "float64"), known.inputs.astype(float), known.targets.astype(float)
    expected = numeric.Engine("tanh_rnn", plain=True).value_and_grad(*wide, **known.options)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # in float64 the loss itself overflows
            found = known.call()
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        for n, gradient in expected[1].items():
            np.testing.assert_allclose(found[1][n], gradient, rtol=1e-4, atol=1e-6 * np.abs(gradient).max())


def test_what_an_array_holds_now_is_what_counts():
    """A recognised call takes nothing from the earlier one but its shapes."""
    known, random = Known(), np.random.default_rng(1)
    for _ in range(3):
        for p in known.params.values():
            p[...] = random.normal(size=p.shape)
        known.inputs[...] = random.normal(size=known.inputs.shape)
        known.targets[...] = random.integers(0, 4, known.targets.shape)
        for more in ({}, {"at": "last"}, {"reduction": "mean"}, {"reduction": "sum"}, {"on": "y"}):
            targets = known.targets[-1] if more.get("at") == "last" else known.targets
            fresh = numeric.Engine("tanh_rnn", fast=False)
            right = fresh.value_and_grad(known.params, known.inputs, targets, **more)
            backwards = dict(reversed(known.params.items()))
            for params in (known.params, backwards):
                found = known.engine.value_and_grad(params, known.inputs, targets, **more)
                assert found[0] == right[0]
                assert list(found[1]) == list(right[1])
                for n, gradient in right[1].items():
                    np.testing.assert_array_equal(found[1][n], gradient)


def test_a_call_that_is_not_alike_goes_the_long_way():
    known = Known()
    assert known.problem() is not None
    for wrong in (
        {"params": {**known.params, "other": known.params["b"]}},
        {"params": {n: p for n, p in known.params.items() if n != "b"}},
        {"params": {**known.params, "b": known.params["b"][:2]}},
        {"inputs": known.inputs[:, :2]},
        {"inputs": known.inputs[..., :1]},
        {"targets": known.targets[:3]},
        {"targets": known.targets.astype(float)},
    ):
        arguments = {"params": known.params, "inputs": known.inputs, "targets": known.targets, **wrong}
        with pytest.raises(ValueError):  # noqa: PT011
            known.engine.value_and_grad(**arguments)
    with pytest.raises(TypeError, match="unknown option"):
        known.engine.value_and_grad(known.params, known.inputs, known.targets, los="squared_error")


# ------------------------------------------------------------------------------------------------------------- pickling


@pytest.mark.parametrize(
    "settings",
    [
        {"plain": True},
        {"segment": 7, "fast": False, "keep": "states", "layout": "columns"},
        {"keep": 20_000, "dtype": "float32", "segment": 1, "fast": False},
        pytest.param({"fast": True}, marks=FAST[1].marks),
        {},
    ],
    ids=str,
)
def test_a_copy_keeps_every_setting(settings):
    engine = numeric.Engine("tanh_rnn", **settings)
    scene = scene_of("tanh_rnn", 1, str(engine.dtype), batch=2, loss="softmax_cross_entropy")
    right = None if settings.get("fast") else ask(engine, scene)
    for other in (copy.copy(engine), copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        names = ("cell", "dtype", "keep", "plain", "segment", "fast", "layout")
        assert [getattr(other, n) for n in names] == [getattr(engine, n) for n in names]
        inner = ("keep", "rows", "fast", "dtype", "layout")
        assert [getattr(other._passes, n) for n in inner] == [getattr(engine._passes, n) for n in inner]
        if right is not None:
            assert_same_answers(ask(other, scene), right)


@pytest.mark.parametrize(("keep", "B"), [("all", 1), ("all", 40), ("states", 3)])
def test_what_is_carried_may_go_through_a_matrix_at_once(keep, B):
    """A state that only the next step reads hands on, through a matrix, what was handed to it and nothing else."""
    cell = derive.parse("a[t] = x[t]\nb[t] = W @ a[t-1] + U @ d[t-1]\nd[t] = x[t]\nc[t] = V @ b[t-1]\ny[t] = c[t]")
    engine = numeric.Engine(cell, fast=False, keep=keep)
    sizes = {letter: 3 + i for i, letter in enumerate(cell.dimensions)}
    x = np.random.default_rng(0).normal(size=(5, B, sizes[cell.axes["x"]]))
    y = np.random.default_rng(1).normal(size=(5, B, sizes[cell.axes["y"]]))
    options = {"loss": "linear", "at": "every", "cotangents": {"y": y}}
    assert numeric.check_gradients(engine, engine.init(seed=0, **sizes), x, **options).ok
