"""Threads: the number of BLAS threads is put back, and parts of a batch side by side give what the whole gives."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from odd_cells import ODD
from test_inplace import FAST, own_cache  # noqa: F401 - the fixture is used by all
from test_passes import EVERY_OPTION, arrays, assert_close, assert_same, scene_of
from threadpoolctl import threadpool_info, threadpool_limits

import derive
import numeric
from numeric import blas_threads, parts
from numeric.blas_threads import BlasThreads, one_blas_thread
from numeric.session import Session
from numeric.shard_work import Recipe

CELLS = (*derive.cells(), *ODD)


def numbers():
    """BLAS threads of what NumPy uses; SciPy may have brought a library of its own when it was imported later."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    own = [library for library in found if "numpy" in library["filepath"]]
    return [library["num_threads"] for library in own or found]


@pytest.fixture
def two():
    """Two BLAS threads, or a skipped test where there is no BLAS that has them."""
    with threadpool_limits(2, user_api="blas"):
        if 2 not in numbers():
            pytest.skip("no BLAS with threads")
        yield numbers()


def alone(found):
    return all(number == 1 for number in found)


class Watched:
    """Notes the BLAS threads inside passes, and fails in them if it is told to."""

    def __init__(self, monkeypatch, fail=None):
        self.seen = []
        right = Session.begin

        def begin(session, loss):
            self.seen.append(numbers())
            if fail is not None:
                raise fail
            right(session, loss)

        monkeypatch.setattr(Session, "begin", begin)


# --------------------------------------------------------------------------------------------------------- BLAS threads


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_pass_has_one_blas_thread_and_puts_the_number_back(two, monkeypatch, threads):
    watched, scene = Watched(monkeypatch), scene_of("lstm", loss="softmax_cross_entropy")
    engine = numeric.Engine("lstm", threads=threads)
    scene.backward(engine)
    engine.value_and_grad(scene.params, scene.inputs, scene.targets)
    engine.backward(scene.params, scene.inputs, scene.targets, truncate=(1, 2))
    engine.forward(scene.params, scene.inputs)
    assert len(watched.seen) > 2
    assert all(map(alone, watched.seen))
    assert numbers() == two


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_is_put_back_after_an_exception(two, monkeypatch, threads):
    watched, scene = Watched(monkeypatch, KeyboardInterrupt()), scene_of("lstm")
    with pytest.raises(KeyboardInterrupt):
        scene.backward(numeric.Engine("lstm", threads=threads))
    assert watched.seen
    assert all(map(alone, watched.seen))
    assert numbers() == two


def test_the_number_is_put_back_when_the_last_thread_leaves(two):
    """Whichever entered first: threadpoolctl by itself does not hear a thread while another that changed it lives."""
    gates = [threading.Event() for _ in range(6)]

    def inside(enter, leave, left):
        gates[enter].wait(10)
        with one_blas_thread:
            gates[enter + 1].set()
            gates[leave].wait(10)
        gates[left].set()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(inside, 0, 3, 4), pool.submit(inside, 1, 5, 2)
        gates[0].set()
        assert gates[2].wait(10)
        gates[3].set()
        first.result(10)
        assert alone(numbers())
        gates[5].set()
        second.result(10)
        assert numbers() == two


def test_the_number_is_put_back_with_many_threads_inside(two):
    scene, engine = scene_of("gru", batch=5), numeric.Engine("gru", threads=2)
    right = scene.backward(engine)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: scene.backward(engine), range(40)):
            assert_same(found, right)
    with one_blas_thread, one_blas_thread:
        assert_same(scene.backward(engine), right)
        assert alone(numbers())
    assert numbers() == two


def test_a_number_that_another_thread_has_set_is_no_obstacle(two):
    """``two`` is held by this thread; a pass runs in another one."""
    with ThreadPoolExecutor(1) as pool:
        assert alone(pool.submit(lambda: one_blas_thread.__enter__() or numbers()).result())
        pool.submit(one_blas_thread.__exit__, None, None, None).result()
    assert numbers() == two


def test_where_each_thread_has_a_number_of_its_own_each_is_limited(monkeypatch):
    own = threading.local()
    library = blas_threads._Library(lambda: getattr(own, "n", 8), lambda n: setattr(own, "n", n))
    monkeypatch.setattr(blas_threads, "_libraries", lambda: ((), (library,)))

    def inside(_):
        with one_blas_thread:
            with one_blas_thread:
                found = library.get()
            return found, library.get()

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(inside, range(12))) == {(1, 1)}
        assert set(pool.map(lambda _: library.get(), range(12))) == {8}


def test_libraries_are_told_only_where_their_number_is_another_one(monkeypatch):
    told = []
    library = blas_threads._Library(lambda: told[-1] if told else 1, told.append)
    monkeypatch.setattr(blas_threads, "_libraries", lambda: ((library,), ()))
    with one_blas_thread:
        assert told == []
    told.append(3)
    with one_blas_thread:
        assert told == [3, 1]
    assert told == [3, 1, 3]


def test_a_library_is_asked_by_its_own_functions_or_as_threadpoolctl_does():
    def names(*given):
        return SimpleNamespace(**dict.fromkeys(given, lambda *_: 7))

    known = {"get_num_threads": lambda: 5, "set_num_threads": lambda n: None}
    symbols = ("openblas_get_num_threads", "x_openblas_get_num_threads64_")
    quick = names("x_openblas_get_num_threads64_", "x_openblas_set_num_threads64_")
    for found, number in (
        (SimpleNamespace(**known, check_symbols=symbols, dynlib=quick), 7),
        (SimpleNamespace(**known, check_symbols=symbols, dynlib=quick, threading_layer="openmp"), 5),
        (SimpleNamespace(**known, check_symbols=("MKL_Get_Max_Threads",), dynlib=names()), 5),
        (SimpleNamespace(**known), 5),
    ):
        assert blas_threads._library(found).get() == number


# ---------------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("name", CELLS)
def test_parts_give_what_the_whole_gives(name):
    """For every cell, loss, place, reduction, ragged or not, in turn."""
    seed = CELLS.index(name)
    for k in range(4):
        scene = scene_of(name, seed, batch=5, **EVERY_OPTION[(seed + 7 * k) % len(EVERY_OPTION)])
        right = scene.backward(numeric.Engine(scene.cell))
        engine = numeric.Engine(scene.cell, threads=(2, 3, 5, 9)[k])
        found = scene.backward(engine)
        assert_close(found, right)
        loss, grads = engine.value_and_grad(
            scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options
        )
        assert abs(loss - right.loss) <= 1e-9 * max(1, abs(right.loss))
        assert_close(SimpleNamespace(**vars(found) | {"params": grads}), right)
        given = {n: scene.options.get(n) for n in ("lengths", "steps", "batch")}
        for n, y in engine.forward(scene.params, scene.inputs, scene.initial, **given).items():
            np.testing.assert_allclose(y, right.outputs[n], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("ragged", [False, True])
def test_truncation_memory_plans_and_segments_in_parts(fast, ragged):
    """Every plan gives the same bits; time is cut as for the whole batch."""
    for at in ("every", "last"):
        scene = scene_of("lstm", 3, steps=11, batch=5, loss="softmax_cross_entropy", at=at, ragged=ragged)
        for truncate in (None, 3, (2, 5)):
            scene.options["truncate"] = truncate
            right = scene.backward(numeric.Engine("lstm", fast=fast, segment=12))
            known = scene.backward(numeric.Engine("lstm", fast=fast, segment=12, threads=2))
            assert_close(known, right)
            for keep in ("starts", 6000):
                found = scene.backward(numeric.Engine("lstm", "float64", keep, fast=fast, segment=12, threads=2))
                assert_same(found, known)


def test_shapes_in_turn_and_lengths_that_change():
    """Buffers are kept from call to call: longer sequences, then shorter ones, in other parts."""
    engine, right = numeric.Engine("gru", threads=3, segment=20), numeric.Engine("gru", segment=20)
    for seed in range(12):
        scene = scene_of("gru", seed, steps=9, batch=(4, 7)[seed % 2], sizes=(3, 4, 2), ragged=seed % 3 > 0)
        assert_close(scene.backward(engine), scene.backward(right))
    scene = scene_of("gru", 1, steps=9, batch=4, sizes=(3, 4, 2))
    for lengths in ([9, 1, 1, 1], [1, 1, 1, 9], [1, 1, 1, 1], [9, 9, 9, 9], [5, 9, 2, 9]):
        scene.options["lengths"] = np.array(lengths)
        assert_close(scene.backward(engine), scene.backward(right))


def test_a_plan_of_parts_is_that_of_the_whole_and_so_is_what_is_too_little():
    sizes = {"T": 50, "B": 6, "D": 3, "H": 4, "O": 2}
    for keep in ("all", "states", 30_000):
        plans = [numeric.Engine("lstm", "float64", keep, segment=60, threads=n).memory_plan(**sizes) for n in (1, 2)]
        assert plans[0] == plans[1]
        assert plans[0].segments > 3
    errors = []
    for threads in (1, 2):
        with pytest.raises(ValueError, match="the least that works") as caught:
            numeric.Engine("lstm", "float64", 100, segment=60, threads=threads).memory_plan(**sizes)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("ragged", [False, True])
def test_the_bits_do_not_depend_on_which_part_is_ready_first(ragged, monkeypatch):
    scene = scene_of("lstm", 2, batch=7, steps=9, sizes=(24, 17, 5), ragged=ragged, reduction="mean")
    right = scene.backward(numeric.Engine("lstm", threads=3))
    assert not np.array_equal(right.params["U_f"], scene.backward(numeric.Engine("lstm", threads=2)).params["U_f"])

    def here(run, k):
        waiting.append((run, k))

    waiting = []
    monkeypatch.setattr(parts, "_submit", here)  # nobody else is there: all in this thread, after the first
    assert_same(scene.backward(numeric.Engine("lstm", threads=3)), right)
    assert [k for _, k in waiting] == [1, 2]


def test_parts_are_computed_side_by_side(monkeypatch):
    """Each waits within its pass for the others."""
    barrier, right = threading.Barrier(2, timeout=30), Session.begin
    monkeypatch.setattr(Session, "begin", lambda session, loss: barrier.wait() + 1 and right(session, loss))
    scene_of("gru", batch=4).backward(numeric.Engine("gru", threads=2))
    monkeypatch.setattr(barrier, "_timeout", 0.1)
    with pytest.raises(threading.BrokenBarrierError):
        scene_of("gru", batch=4).backward(numeric.Engine("gru", threads=1))


@pytest.mark.parametrize("which", [0, 1])
def test_an_error_in_a_part_is_the_callers_and_nobody_computes_any_more(which, monkeypatch):
    main, running, right = threading.current_thread(), [], Session.begin

    def begin(session, loss):
        running.append(1)
        if (threading.current_thread() is main) == (which == 0):
            running.pop()
            raise MemoryError("no room")
        right(session, loss)
        running.pop()

    scene, engine = scene_of("gru", batch=4), numeric.Engine("gru", threads=2)
    known = scene.backward(engine)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "begin", begin)
        with pytest.raises(MemoryError, match="no room"):
            scene.backward(engine)
    assert not running
    assert_same(scene.backward(engine), known)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    scene, engine = scene_of("gru", batch=4), numeric.Engine("gru", threads=2)
    known = scene.backward(engine)
    child = os.fork()
    if not child:
        try:
            assert_same(scene.backward(engine), known)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_floating_point_errors_are_silent_in_every_part():
    engine = numeric.Engine(derive.parse("h[t] = exp(w * h[t-1] + x[t])"), threads=2)
    params = {n: np.full_like(p, 5.0) for n, p in engine.init(0, **dict.fromkeys(engine.cell.dimensions, 2)).items()}
    with pytest.warns(RuntimeWarning, match="the loss is") as caught:
        engine.value_and_grad(params, np.full((9, 4, 2), 9.0), np.zeros((9, 4, 2)), loss="squared_error")
    assert len(caught) == 1


# ------------------------------------------------------------------------------------------------------- what is chosen


def test_small_sizes_have_one_part_and_large_ones_as_many_as_there_are_cpus(monkeypatch):
    def chosen(steps, batch, work, threads=None):
        return parts.parts_for(threads, SimpleNamespace(steps=steps, batch=batch), work)

    for cpus in (1, 2, 4):
        monkeypatch.setattr(parts, "cpus", lambda cpus=cpus: cpus)
        assert chosen(15, 1, 700) == chosen(15, 32, 700) == chosen(100_000, 1, 700) == 1
        assert chosen(100, 32, 500_000) == cpus
        assert chosen(100, 16, 500_000) == min(cpus, 2)
        assert chosen(100, 15, 500_000) == 1
        assert [chosen(15, 3, 700, threads) for threads in (1, 2, 3, 4, 100)] == [1, 2, 3, 3, 3]
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.undo()
        assert parts.cpus() == len(os.sched_getaffinity(0))


def test_what_is_chosen_is_what_runs(monkeypatch):
    """Parts where a batch is large and the loop compiled, and the same bits as where they are asked for."""
    pytest.importorskip("numba")
    monkeypatch.setattr(parts, "cpus", lambda: 2)
    scene = scene_of("tanh_rnn", batch=16, steps=4, sizes=(3, 4, 5))
    engines = [numeric.Engine("tanh_rnn", fast=True, threads=threads) for threads in (None, 1, 2)]
    found = [scene.backward(engine) for engine in engines]
    assert_same(found[0], found[1])
    monkeypatch.setattr(parts, "_PAYS", 1)
    assert_same(scene.backward(numeric.Engine("tanh_rnn", fast=True)), found[2])
    assert any(not np.array_equal(x, arrays(found[1])[key]) for key, x in arrays(found[2]).items())


@pytest.mark.parametrize("wrong", [0, -1, True, False, 1.0, "2", (1,)])
def test_what_is_no_number_of_threads_is_refused(wrong):
    with pytest.raises(ValueError, match=r"threads is .*; expected a whole number from 1 on, or None"):
        numeric.Engine("gru", threads=wrong)


def test_the_number_of_threads_is_copied_and_pickled():
    scene = scene_of("gru", batch=4)
    for threads in (None, 1, np.int64(2)):
        engine = numeric.Engine("gru", threads=threads)
        right = scene.backward(engine)
        for other in (copy.copy(engine), pickle.loads(pickle.dumps(engine))):
            assert other.threads == threads
            assert_same(scene.backward(other), right)


def test_shards_have_one_thread_unless_they_are_told_otherwise():
    """What pays depends on the machine; the bits of shards do not."""
    for threads, told in ((None, 1), (1, 1), (3, 3)):
        assert dict(Recipe.of(numeric.Engine("gru", threads=threads)).named)["threads"] == told


def test_the_plain_engine_has_one_blas_thread_too(two, monkeypatch):
    seen, right = [], numeric.Engine.reverse.run
    monkeypatch.setattr(
        numeric.Engine.reverse, "run", lambda self, **more: seen.append(numbers()) or right(self, **more)
    )
    scene_of("gru").backward(numeric.Engine("gru", plain=True))
    assert alone(seen[0])
    assert numbers() == two


# -------------------------------------------------------------------------------- BLAS's own threads


def own_blas():
    """The number of threads of NumPy's BLAS; another test may have loaded another library's."""
    found = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return {lib["num_threads"] for lib in [lib for lib in found if "numpy" in lib["filepath"]] or found}


def test_large_products_get_the_threads_of_blas_and_small_ones_do_not(monkeypatch):
    monkeypatch.setattr("numeric.parts.cpus", lambda: 2)
    seen = []
    inner = numeric.session.Session.value_and_grad

    def spied(self, loss):
        seen.append(own_blas())
        return inner(self, loss)

    monkeypatch.setattr(numeric.session.Session, "value_and_grad", spied)
    engine = numeric.Engine("tanh_rnn", fast=False)
    random = np.random.default_rng(0)
    with threadpool_limits(3, user_api="blas"):
        for batch, size, expected in ((16, 256, {2}), (2, 8, {1})):
            params = engine.init(seed=0, D=2, H=size, O=2)
            engine.value_and_grad(params, random.standard_normal((2, batch, 2)), np.zeros((2, batch), int))
            assert seen.pop() == expected
            assert own_blas() == {3}


def test_whoever_needs_one_thread_comes_first():
    with threadpool_limits(3, user_api="blas"):
        with one_blas_thread, BlasThreads(2):
            assert own_blas() == {1}
        assert own_blas() == {3}
        many = BlasThreads(2)
        many.__enter__()
        assert own_blas() == {2}
        one_blas_thread.__enter__()
        assert own_blas() == {1}
        many.__exit__(None, None, None)
        assert own_blas() == {1}  # somebody still needs one
        one_blas_thread.__exit__(None, None, None)
        assert own_blas() == {3}


def test_the_number_is_put_back_after_an_error():
    with threadpool_limits(3, user_api="blas"):
        with pytest.raises(RuntimeError), BlasThreads(2):
            raise RuntimeError
        assert own_blas() == {3}
