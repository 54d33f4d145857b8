"""One batch on many workers: the result of one, the same bits on any number of them, and a word where one is lost."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
from odd_cells import ODD
from test_optimize import assert_same as assert_same_fit
from test_optimize import small_fit
from test_passes import EVERY_OPTION, arrays, assert_close, assert_same, scene_of
from threadpoolctl import threadpool_info, threadpool_limits

import derive
import numeric
from numeric.blas_threads import one_blas_thread
from numeric.shard import ShardError, shard
from numeric.shard_work import Recipe, _engine, work

CELLS = (*derive.cells(), *ODD)


class Here(Executor):
    """Computes at once, in the caller's own thread."""

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class LastFirst(Executor):
    """Hands out the results of ``count`` parts in the reverse of their order."""

    def __init__(self, count):
        self.count, self.waiting = count, []

    def submit(self, function, /, *args, **kwargs):
        self.waiting.append((future := Future(), function, args))
        if len(self.waiting) == self.count:
            threading.Thread(target=self.run).start()
        return future

    def run(self):
        for future, function, args in reversed(self.waiting):
            future.set_result(function(*args))
            time.sleep(0.005)


@pytest.fixture(scope="module")
def processes():
    """Two processes that were not forked, and order their sets in another way."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "12345"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
        yield pool


# --------------------------------------------------------------------------------------------------- the same result


@pytest.mark.parametrize("name", CELLS)
def test_the_result_is_that_of_the_whole_batch(name):
    """For every cell, loss, place, reduction, ragged or not, in turn."""
    seed = CELLS.index(name)
    for k in range(4):
        scene = scene_of(name, seed, batch=5, **EVERY_OPTION[(seed + 7 * k) % len(EVERY_OPTION)])
        engine = numeric.Engine(scene.cell)
        sharded, right = shard(engine, Here(), shards=1 + k), scene.backward(engine)
        found = scene.backward(sharded)
        assert_close(found, right)
        assert type(found.loss) is type(right.loss)
        loss, grads = sharded.value_and_grad(
            scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options
        )
        assert loss == found.loss
        assert all(np.array_equal(grads[n], x) for n, x in found.params.items())
        given = [scene.options.get(n) for n in ("lengths", "steps", "batch")]
        out = sharded.forward(scene.params, scene.inputs, scene.initial, given[0], steps=given[1], batch=given[2])
        assert set(out) == set(right.outputs)
        for n, y in found.outputs.items():
            np.testing.assert_allclose(out[n], y, rtol=1e-10, atol=1e-13)


def test_it_is_the_sum_of_the_parts_in_their_order():
    """In double precision and rounded once: 2**24 + 1 + 1, where each 1 alone would be lost in float32."""
    engine = numeric.Engine(derive.parse("h[t] = b + 0*h[t-1]"), dtype="float32")
    g = np.array([2.0**24, 1, 1], "float32").reshape(1, 3, 1)
    options = {"loss": "linear", "cotangents": {"h": g}}
    _, grads = shard(engine, Here(), shards=3).value_and_grad({"b": np.zeros(1, "float32")}, **options)
    assert grads["b"][0] == 2.0**24 + 2
    scene = scene_of("lstm", 1, batch=7, loss="softmax_cross_entropy")
    engine, total = numeric.Engine("lstm"), 0
    for own in (slice(0, 2), slice(2, 4), slice(4, 7)):
        initial = {n: s[own] for n, s in scene.initial.items()}
        inputs = scene.inputs["x"][:, own]
        total = total + engine.value_and_grad(scene.params, inputs, scene.targets[:, own], initial=initial)[1]["U_f"]
    found = scene.backward(shard(engine, Here(), shards=3))
    np.testing.assert_array_equal(found.params["U_f"], total)


def test_a_mean_divides_by_the_count_of_the_whole_batch():
    """Parts with 9, 2 and 2 steps: a mean of their means would be another number."""
    engine = numeric.Engine(derive.parse("h[t] = b + 0*h[t-1]"))
    options = {"loss": "linear", "reduction": "mean", "lengths": [4, 5, 1, 1, 1, 1]}
    g = np.arange(30.0).reshape(5, 6, 1)
    sharded = shard(engine, Here(), shards=3)
    _, grads = sharded.value_and_grad({"b": np.zeros(1)}, cotangents={"h": g}, **options)
    counted = [g[t, b, 0] for b, n in enumerate(options["lengths"]) for t in range(n)]
    assert grads["b"][0] == sum(counted) / 13
    _, grads = sharded.value_and_grad({"b": np.zeros(1)}, cotangents={"h": g[0]}, at="last", steps=5, **options)
    assert grads["b"][0] == g[0].sum() / 6


@pytest.mark.parametrize(("batch", "shards", "cut"), [(1, 8, [1]), (8, 3, [2, 3, 3]), (5, 5, [1] * 5), (9, 1, [9])])
def test_the_cut_is_even_and_depends_on_batch_and_shards_alone(batch, shards, cut):
    seen = []

    class Watched(Here):
        def submit(self, function, /, *args):
            seen.append(args[2]["batch"])
            return super().submit(function, *args)

    scene = scene_of("gru", 2, batch=batch)
    scene.backward(shard(numeric.Engine("gru"), Watched(), shards=shards))
    assert seen == cut


@pytest.mark.parametrize("name", ["lstm", "gru", "scalars everywhere", "readout in several layers"])
def test_the_bits_do_not_depend_on_the_workers(name, processes):
    scene = scene_of(name, 3, batch=7, ragged=True, steps=9, sizes=(24, 17, 5), reduction="mean")
    engine = numeric.Engine(scene.cell)
    right = scene.backward(shard(engine, Here(), shards=4))
    for workers in (1, 2, 3):
        with ThreadPoolExecutor(workers) as pool:
            assert_same(scene.backward(shard(engine, pool, shards=4)), right)
    assert_same(scene.backward(shard(engine, LastFirst(4), shards=4)), right)
    assert_same(scene.backward(shard(engine, processes, shards=4)), right)
    with threadpool_limits(1):
        assert_same(scene.backward(shard(engine, Here(), shards=4)), right)
    assert any(not np.array_equal(x, arrays(right)[key]) for key, x in arrays(scene.backward(engine)).items())


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_every_type_of_numbers(dtype):
    scene = scene_of("lstm", 4, batch=3)
    for part in (scene.params, scene.inputs, scene.initial, scene.options["cotangents"]):
        part.update({n: x.astype(dtype) for n, x in part.items()})
    engine = numeric.Engine("lstm", dtype)
    found = scene.backward(shard(engine, Here(), shards=2))
    assert all(x.dtype == dtype for x in arrays(found).values())
    assert_close(found, scene.backward(engine), 2.0**-12 if dtype == "float32" else 2.0**-40)


def test_lists_and_class_indices_are_taken_as_by_the_engine():
    engine = numeric.Engine("tanh_rnn", "float32")
    params = engine.init(seed=0, D=2, H=3, O=2)
    x, options = np.ones((2, 3, 2)).tolist(), {"initial": {"h": np.zeros((3, 3)).tolist()}, "lengths": [1, 2, 1]}
    sharded = shard(engine, Here(), shards=2)
    for targets in ([[0, 1, 1], [1, 1, 0]], [[[1, 0], [0.5, 0.5], [0, 1]]] * 2):
        found = sharded.value_and_grad(params, x, targets, **options)[0]
        assert found == pytest.approx(engine.value_and_grad(params, x, targets, **options)[0], rel=1e-6)
    targets = [[0.25, 1.0], [0.5, 1.0], [1.0, 2.0]]
    options |= {"at": "last", "loss": "squared_error"}
    found = sharded.value_and_grad(params, x, targets, **options)[0]
    assert found == pytest.approx(engine.value_and_grad(params, x, targets, **options)[0], rel=1e-6)


def test_a_result_is_the_callers_own():
    scene = scene_of("tanh_rnn", 5)
    users = [*scene.params.values(), *scene.inputs.values(), *scene.initial.values()]
    for n in (1, 3):
        found = list(arrays(scene.backward(shard(numeric.Engine("tanh_rnn"), Here(), shards=n))).values())
        assert all(x.flags.writeable for x in found)
        assert not any(np.shares_memory(x, y) for i, x in enumerate(found) for y in (*users, *found[:i]))


# ----------------------------------------------------------------------------------------------------- the same errors

X, Y = np.zeros((4, 3, 2)), np.zeros((4, 3), int)


@pytest.mark.parametrize(
    "change",
    [
        {"params": {}},
        {"params": None},
        {"inputs": X[:, :, :1]},
        {"inputs": X[0]},
        {"inputs": X.astype("float32") * np.nan},
        {"inputs": None},
        {"targets": Y[:, :2]},
        {"targets": Y + 9},
        {"targets": None},
        {"lengths": [1, 2]},
        {"lengths": [0, 1, 2]},
        {"initial": {"h": np.zeros((2, 3))}},
        {"initial": {"c": np.zeros((3, 3))}},
        {"loss": "hinge"},
        {"reduction": "median"},
        {"at": "first"},
        {"on": "z"},
        {"legnths": [1, 2, 3]},
        {"batch": 4},
        {"cotangents": {"h": X}},
        {"loss": "linear", "targets": None, "cotangents": {"h": X}},
    ],
    ids=lambda change: "-".join(change),
)
def test_bad_input_is_told_as_without_shards(change):
    engine = numeric.Engine("tanh_rnn")
    given = {"params": engine.init(seed=0, D=2, H=3, O=2), "inputs": X, "targets": Y} | change
    with pytest.raises((ValueError, TypeError)) as right:
        engine.backward(**given)
    for method in ("backward", "value_and_grad"):
        with pytest.raises(type(right.value)) as found:
            getattr(shard(engine, Here(), shards=2), method)(**given)
        assert str(found.value) == str(right.value)


def test_arguments_that_cannot_be_are_refused():
    engine = numeric.Engine("tanh_rnn")
    for wrong in (0, -1, True, 2.0, "8", None):
        with pytest.raises(ValueError, match=r"shards is .*; expected a positive integer"):
            shard(engine, Here(), shards=wrong)
    for wrong in (0, -1.0, True, "1", float("nan")):
        with pytest.raises(ValueError, match=r"timeout is .*; expected a positive number of seconds"):
            shard(engine, Here(), timeout=wrong)
    with pytest.raises(TypeError, match=r"executor is 3; expected a concurrent.futures.Executor"):
        shard(engine, 3)
    backward = derive.differentiate(engine.cell).backward
    with pytest.raises(TypeError, match="backward pass of its own"):
        shard(numeric.Engine(engine.cell, backward=backward), Here())


# ------------------------------------------------------------------------------------------------------- what is sent


def test_an_engine_is_sent_as_text_and_made_once_by_each_worker():
    engine = numeric.Engine("lstm", "float32")
    recipe = Recipe.of(engine)
    sent = pickle.dumps(recipe)
    assert len(sent) < 2 * len(engine.cell.text) + 400
    assert pickle.loads(sent) == recipe
    made = _engine(pickle.loads(sent))
    assert made is _engine(recipe)
    assert made is not engine
    assert (made.cell, made.dtype, made.keep) == (engine.cell, engine.dtype, engine.keep)


def test_a_part_is_sent_its_own_sequences_only():
    sizes = []

    class Weighed(Here):
        def submit(self, function, /, *args):
            sizes.append(len(pickle.dumps(args, protocol=5)))
            return super().submit(function, *args)

    scene = scene_of("lstm", 6, batch=16, steps=50, sizes=(16, 8, 8))
    scene.backward(shard(numeric.Engine("lstm"), Weighed(), shards=8))
    batch = sum(x.nbytes for x in (*scene.inputs.values(), *scene.options["cotangents"].values()))
    assert max(sizes) < batch / 8 + sum(p.nbytes for p in scene.params.values()) + 8000


def test_a_worker_computes_with_one_blas_thread_and_puts_it_back():
    def threads():
        # another test may have loaded another library's BLAS
        found = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
        return {lib["num_threads"] for lib in [lib for lib in found if "numpy" in lib["filepath"]] or found}

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_blas_thread:
            assert threads() == {1}
            with one_blas_thread:
                assert threads() == {1}
            inside = threading.Thread(target=one_blas_thread.__enter__)
            inside.start()
            inside.join()
        assert threads() == {1}  # one is still inside
        one_blas_thread.__exit__(None, None, None)
        assert threads() == before
        seen = []
        engine = numeric.Engine("tanh_rnn")
        params = engine.init(seed=0, D=2, H=3, O=2)

        class Spy(numeric.Engine):
            def forward(self, *args, **kwargs):
                seen.append(threads())
                return super().forward(*args, **kwargs)

        shard(Spy("tanh_rnn"), Here(), shards=2).forward(params, X)
        assert seen == [{1}, {1}]
        assert threads() == before


# -------------------------------------------------------------------------------------------------------------- faults


def test_a_killed_process_is_an_error_that_names_the_part():
    """Killed between the third part and the fourth."""
    scene, engine = scene_of("tanh_rnn", 8, steps=10_000, batch=8, sizes=(3, 2, 2)), numeric.Engine("tanh_rnn")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        victim = pool.submit(os.getpid).result()

        class Killed(Executor):
            left = 3

            def submit(self, function, /, *args):
                future = pool.submit(function, *args)
                self.left -= 1
                if not self.left:
                    pool.submit(os.kill, victim, signal.SIGKILL)
                return future

        with pytest.raises(ShardError, match=r"^shard \d of 8, sequences (\d) to \1: a worker died") as caught:
            scene.backward(shard(engine, Killed()))
        assert isinstance(caught.value.__cause__, BrokenProcessPool)
        assert (1 <= caught.value.shard <= 8, caught.value.shards) == (True, 8)
        with pytest.raises(ShardError, match=r"^shard 1 of 8.*make a new executor and call again"):
            scene.backward(shard(engine, pool))


def killing(pool, step, batches):
    """Batches that kill a process of the pool before a step."""

    def killer(k):
        if k == step:
            os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        return batches(k)

    return killer


def test_a_fit_goes_on_after_a_killed_worker_to_the_same_result(tmp_path):
    from test_optimize import SMALL, small_batches

    file = tmp_path / "fit.npz"
    with ThreadPoolExecutor(1) as pool:
        right = small_fit(engine=shard(SMALL, pool, shards=3))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        options = {"engine": shard(SMALL, pool, shards=3), "batches": killing(pool, 4, small_batches)}
        with pytest.raises(ShardError, match="a worker died"):
            small_fit(**options, file=file, every=9)
    with np.load(file) as archive:
        assert len(archive["losses"]) == 3
    with ThreadPoolExecutor(2) as pool:
        assert_same_fit(small_fit(engine=shard(SMALL, pool, shards=3), file=file), right)
        with pytest.raises(numeric.FitError, match="another shards: 3; found now: 4"):
            small_fit(engine=shard(SMALL, pool, shards=4), file=file)
    with pytest.raises(numeric.FitError, match="another shards: 3; found now: None"):
        small_fit(file=file)


class Failing(Executor):
    """One thread; the k-th part raises, or is cancelled; parts wait for it."""

    def __init__(self, error, k):
        self.error, self.left, self.pool, self.ran = error, k, ThreadPoolExecutor(1), []
        self.submitted = threading.Event()

    def submit(self, function, /, *args):
        self.left -= 1
        if not self.left:
            return self.pool.submit(self.fail)
        return self.pool.submit(self.slow, function, args)

    def fail(self):
        raise self.error

    def slow(self, function, args):
        self.ran.append(args)
        time.sleep(0.02)
        return function(*args)


@pytest.mark.parametrize("error", [MemoryError("no room"), OSError("no disk"), TimeoutError("late"), ValueError("odd")])
def test_a_part_that_fails_is_named_and_those_that_have_not_begun_are_cancelled(error):
    scene, executor = scene_of("tanh_rnn", 9, batch=10), Failing(error, 2)
    with executor.pool:
        says = rf"^shard 2 of 10, sequences 1 to 1: {type(error).__name__}: {error}; nothing was changed$"
        with pytest.raises(ShardError, match=says) as caught:
            scene.backward(shard(numeric.Engine("tanh_rnn"), executor, shards=10))
    assert caught.value.__cause__ is error
    assert len(executor.ran) < 5


def test_a_cancelled_part_a_closed_executor_and_a_late_one_are_told():
    scene, engine = scene_of("tanh_rnn", 10), numeric.Engine("tanh_rnn")

    class Cancelled(Executor):
        def submit(self, function, /, *args):
            future = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with pytest.raises(ShardError, match="it was cancelled before it was computed") as caught:
        scene.backward(shard(engine, Cancelled()))
    assert isinstance(caught.value.__cause__, CancelledError)
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ShardError, match=r"shard 1 of 3.*after shutdown"):
        scene.backward(shard(engine, pool))

    class Never(Executor):
        def submit(self, function, /, *args):
            return Future()

    with pytest.raises(ShardError, match=r"shard 1 of 3, .*no result after 0.05 seconds; give a longer timeout"):
        scene.backward(shard(engine, Never(), timeout=0.05))


def test_an_interrupt_stays_one_and_cancels_the_rest():
    scene, executor = scene_of("tanh_rnn", 11, batch=10), Failing(KeyboardInterrupt(), 2)
    with executor.pool, pytest.raises(KeyboardInterrupt):
        scene.backward(shard(numeric.Engine("tanh_rnn"), executor, shards=10))
    assert len(executor.ran) < 5


def test_the_error_itself_may_be_sent():
    error = ShardError("shard 1 of 2", 1, 2)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(other), other.shard, other.shards) == ("shard 1 of 2", 1, 2)


def test_equal_calls_are_not_one_task():
    """A scheduler that knows a task by its arguments must not answer with what it holds of an earlier call."""
    numbers = []

    class Watched(Here):
        def submit(self, function, /, *args):
            assert function is work
            numbers.append(args[3])
            return super().submit(function, *args)

    scene, sharded = scene_of("gru", 12), shard(numeric.Engine("gru"), Watched(), shards=3)
    scene.backward(sharded)
    scene.backward(sharded)
    assert len(set(numbers)) == 6


# ----------------------------------------------------------------------------------------------------------------- fit


@pytest.mark.parametrize("truncate", [None, 4])
def test_a_fit_takes_it_for_an_engine(truncate):
    from test_optimize import SMALL

    with ThreadPoolExecutor(2) as pool:
        found = small_fit(engine=shard(SMALL, pool, shards=3), truncate=truncate)
    right = small_fit(truncate=truncate)
    np.testing.assert_allclose(found.losses, right.losses, rtol=1e-12)


def test_what_is_not_finite_is_named_in_a_fit_with_shards():
    engine = numeric.Engine(derive.parse("h[t] = h[t-1]**2 + x[t] + 0*b"))

    def batches(k):
        return {"inputs": np.full((20, 3, 1), 3.0), "targets": np.zeros((20, 3, 1))}

    options = {"optimizer": numeric.SGD(0.1), "steps": 1, "loss": "squared_error", "progress": False}
    with pytest.raises(numeric.FitError) as right:
        numeric.fit(engine, {"b": np.zeros(1)}, batches, **options)
    with pytest.raises(numeric.FitError) as found:
        numeric.fit(shard(engine, Here(), shards=2), {"b": np.zeros(1)}, batches, **options)
    assert str(found.value) == str(right.value)


def test_init_and_repr_are_the_engines():
    engine = numeric.Engine("gru")
    sharded = shard(engine, Here(), shards=3)
    sizes = {"D": 2, "H": 3, "O": 2}
    for name, p in engine.init(seed=5, **sizes).items():
        np.testing.assert_array_equal(sharded.init(seed=5, **sizes)[name], p)
    assert repr(sharded) == f"<{engine!r} in 3 shards by Here>"
