"""The laws of a pass that keeps the states of every step: equal numbers, no step by step, memory as planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_inplace import CELLS, FAST, Truth, own_cache, scene_of  # noqa: F401 - the fixture is used by all
from test_memory import plan_of, used

import numeric
from numeric import passes
from numeric.graph import BEFORE, LOOP, Graph
from numeric.plan import Plans
from numeric.states_session import StatesSession
from numeric.storage import Storage

KERNELS = pytest.mark.skipif(not passes.numba_is_there(), reason="needs the extra fast")
FORMS = [pytest.param(False, id="numpy"), pytest.param(None, id="kernels", marks=KERNELS)]


def engine_of(scene, dtype="float64", *, keep="states", fast=False):
    return numeric.Engine(scene.cell, dtype, keep=keep, segment=6, fast=fast)


def session_of(engine):
    """The pass of the last call."""
    return next(reversed(engine._passes.local.kept.values()))


def check_states(scene, dtype="float64", *, fast=False):
    """Raise AssertionError unless everything is right to rounding; a second call gives the same bits."""
    engine, truth = engine_of(scene, dtype, fast=fast), Truth(scene, dtype)
    for _ in range(2):
        found = scene.backward(engine)
        truth.check(found)
    loss, gradients = engine.value_and_grad(
        scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options
    )
    truth.check(replace(found, loss=loss, params=gradients))
    session = session_of(engine)
    assert isinstance(session, StatesSession)
    assert len(session.layout.segments) > 2


@pytest.fixture
def no_loop(monkeypatch):
    """Calls of BLAS at every size."""
    monkeypatch.delenv("BPTT_FAST", raising=False)
    monkeypatch.setattr(passes, "_LOOP_WORK", -1)


# ------------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_what_is_computed_from_the_states_is_equal_to_rounding(name, ragged):
    turn = len(name) + ragged
    dtype, at = ("float64", "float32")[turn % 2], ("every", "last")[turn // 2 % 2]
    check_states(scene_of(name, turn, dtype, at=at, ragged=ragged, steps=24, batch=3, sizes=(3, 4, 2)), dtype)


@pytest.mark.parametrize("name", CELLS[:5])
def test_it_is_so_where_kernels_are_compiled(name, no_loop):
    if not passes.numba_is_there():
        pytest.skip("needs the extra fast")
    for ragged in (False, True):
        scene = scene_of(name, 2, "float32", ragged=ragged, steps=24, batch=3, sizes=(3, 4, 2))
        check_states(scene, "float32", fast=None)


@pytest.mark.parametrize("name", CELLS)
def test_nothing_is_left_to_the_loop_where_states_are_given(name):
    """Only the derivatives are a recursion; every given state is what the forward pass calls by its name."""
    program = numeric.Engine(scene_of(name, 1).cell).backward_program
    states = program.program.cell.states
    graph = Graph(Plans(program, frozenset(states)), want_inputs=True, want_states=True, given=True)
    assert not [op for op in graph.live if op.phase == LOOP]
    assert {n: (op.kind, op.data, op.phase) for n, op in graph.states.items()} == {
        n: ("given", n, BEFORE) for n in states
    }


def test_one_segment_keeps_everything_and_has_the_same_bits():
    scene = scene_of("lstm", 1, steps=2, batch=3, sizes=(3, 4, 2))
    engine = engine_of(scene)
    found, right = scene.backward(engine), scene.backward(engine_of(scene, keep="all"))
    assert plan_of(engine).repeated == 0
    np.testing.assert_array_equal(found.params["U_f"], right.params["U_f"])


@pytest.mark.parametrize("fast", FAST[1:])
def test_the_compiled_loop_goes_from_the_starts(fast):
    scene = scene_of("tanh_rnn", 1, steps=24, batch=3, sizes=(3, 4, 2), loss="squared_error", at="every")
    found = []
    for keep in ("states", "starts"):
        engine = engine_of(scene, keep=keep, fast=fast)
        scene.backward(engine)
        found.append(plan_of(engine))
    assert found[0] == found[1]
    assert not found[0].every_bytes


# ------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("lengths", [None, [40, 7, 33]])
def test_a_plan_counts_the_states_of_every_step_and_one_tape(lengths):
    engine = numeric.Engine("lstm", "float32", keep="states", segment=12, fast=False)
    sizes = {"D": 3, "H": 5, "O": 4}
    plan = engine.memory_plan(T=40, B=3, lengths=lengths, **sizes)
    rows = 120 if lengths is None else sum(lengths)
    assert plan.every_bytes == rows * 2 * 5 * 4
    assert plan.bytes == plan.every_bytes + plan.tape_bytes
    whole = numeric.Engine("lstm", "float32", segment=12, fast=False)
    assert plan.full_bytes == whole.memory_plan(T=40, B=3, lengths=lengths, **sizes).bytes
    engine.value_and_grad(engine.init(**sizes), np.ones((40, 3, 3), "float32"), np.zeros((40, 3), int), lengths=lengths)
    session = session_of(engine)
    assert session.plan == plan
    assert sum(x.nbytes for x in session.every.values()) == plan.every_bytes
    assert sum(x.nbytes for x in session.pool.values()) <= plan.tape_bytes + plan.state_bytes


@pytest.mark.parametrize("fast", FORMS)
def test_only_the_states_grow_with_the_number_of_steps(fast, no_loop):
    """What more steps take is what the plan says: the states, and no tape."""
    engines = {n: numeric.Engine("tanh_rnn", keep="states", fast=fast, segment=80) for n in (300, 600)}
    for engine in engines.values():
        used(engine, 30)  # compiles
    few, many = (used(engine, n)[1] for n, engine in engines.items())
    planned = [plan_of(engine).bytes for engine in engines.values()]
    assert 0 <= many - few - (planned[1] - planned[0]) < 3000
    assert plan_of(engines[600]).every_bytes == 600 * 8 * 3 * 8


# ------------------------------------------------------------------------------------------------------- what is wrong


def wrong_step(right):
    """What the first step makes of a state, for the state before it."""

    def before(self, segment, name):
        return self.every[name][segment.row : segment.row + segment.batch]

    return before


def initial_again(right):
    """Every segment as if it were the first."""
    return lambda self, segment, name: self.start[name][: segment.batch]


def other_sequence(right):
    """The state before, of the neighbouring sequence."""
    return lambda self, segment, name: np.roll(right(self, segment, name), 1, axis=0)


@pytest.mark.parametrize("wrong", [wrong_step, initial_again, other_sequence], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["tanh_rnn", "gru", "lstm"])
def test_a_recomputation_from_wrong_states_is_noticed(name, wrong, monkeypatch):
    scene = scene_of(name, 1, at="every", steps=24, batch=3, sizes=(3, 4, 2))
    monkeypatch.setattr(StatesSession, "before", wrong(StatesSession.before))
    with pytest.raises(AssertionError):
        check_states(scene)


def test_states_that_are_all_one_step_late_are_noticed(monkeypatch):
    right = StatesSession.forward

    def late(self, segment, slot):
        bound = right(self, segment, slot)
        for x in self.every.values():
            part = x[segment.row : segment.row + segment.rows]
            part[...] = np.roll(part, segment.batch, axis=0)
        return bound

    monkeypatch.setattr(StatesSession, "forward", late)
    for name in ("tanh_rnn", "gru", "lstm"):
        with pytest.raises(AssertionError):
            check_states(scene_of(name, 1, at="every", steps=24, batch=3, sizes=(3, 4, 2)))


def test_room_that_is_taken_too_early_is_noticed(monkeypatch):
    """Slabs follow each other in the same room; one that did so while the other was read would spoil it."""
    right = Storage.lives
    monkeypatch.setattr(Storage, "lives", lambda self: {k: (first, first - 1) for k, (first, _) in right(self).items()})
    for name in ("gru", "lstm"):
        with pytest.raises(AssertionError):
            check_states(scene_of(name, 1, at="every", steps=24, batch=3, sizes=(3, 4, 2)))


def test_slabs_follow_each_other_in_the_same_room():
    """The products that the recomputation adds are over when the derivatives come."""
    scene = scene_of("lstm", 1, steps=24, batch=3, sizes=(3, 4, 2))
    engine = engine_of(scene)
    scene.backward(engine)
    session = session_of(engine)
    rooms = {id(x) for x, _ in session.workspace.slabs}
    assert len(rooms) < len(session.compiled.lives)
    assert {id(session.ahead.work[k]) for k in session.ahead.compiled.lives} <= rooms
