"""The laws of memory plans: the least work that there is for so much room, the same bits from every one of them."""

from __future__ import annotations

import gc
import itertools
import re
import tracemalloc
from dataclasses import replace
from functools import cache
from math import comb

import numpy as np
import pytest
from test_inplace import FAST, Truth, ask, own_cache, scene_of  # noqa: F401 - the fixture is used by all
from test_passes import assert_same

import derive
import numeric
from numeric import memory, session
from numeric.memory import MemoryPlan, check_keep, plan_memory, repeated

BLOCKS, STATES = range(1, 30), range(1, 8)


# --------------------------------------------------------------------------------------------------------- schedules


@cache
def least(blocks, states):
    """The least number of blocks to go through again, tried out: the next state is kept after m blocks."""
    if blocks == 1:
        return 0
    if states == 1:
        return blocks * (blocks - 1) // 2
    return min(m + least(blocks - m, states - 1) + least(m, states) for m in range(1, blocks))


def simulate(plan):
    """Do what a plan says; returns how many blocks were gone through again, and the most states kept.

    Raises AssertionError where an action cannot be done, or the segments do not come backwards, each once.
    """
    saved, here, again, most, done = set(), 0, 0, 0, []
    for what, first, last in plan.actions():
        match what:
            case "save":
                assert here == first * plan.tapes
                saved = {k for k in saved if k < first} | {first}
                most = max(most, len(saved))
            case "restore":
                assert first in saved
                here = first * plan.tapes
            case "advance":
                assert here == first < last
                here, again = last, again + last - first
            case "reverse":
                assert here == first < last <= first + plan.tapes
                done += reversed(range(first, last))
                here = None
            case _:
                raise AssertionError(what)
    assert done == list(reversed(range(plan.segments)))
    return again, most


def schedule(blocks, states, tapes=1):
    return MemoryPlan(blocks, tapes, states, 10, 1, 10 * blocks, 0)


def check_schedules():
    for blocks, states in itertools.product(BLOCKS, STATES):
        again, most = simulate(schedule(blocks, states))
        assert again == repeated(blocks, states) == least(blocks, states), (blocks, states)
        assert most <= states, (blocks, states)


def test_a_schedule_repeats_as_little_as_can_be():
    check_schedules()


@pytest.mark.parametrize("wrong", ["half", "one too far", "one too near"])
def test_a_schedule_that_repeats_more_is_noticed(wrong, monkeypatch):
    right = memory._ahead
    ahead = {
        "half": lambda n, s: max(1, n // 2) if s > 1 else n - 1,
        "one too far": lambda n, s: min(n - 1, right(n, s) + 1),
        "one too near": lambda n, s: max(1, right(n, s) - 1) if s > 1 else n - 1,
    }
    monkeypatch.setattr(memory, "_ahead", ahead[wrong])
    with pytest.raises(AssertionError):
        check_schedules()


def test_the_least_work_is_that_of_the_binomial_formula():
    """r n - C(s + r, r - 1) for the least r with C(s + r, s) >= n; one state fewer means no less work."""
    for n, s in itertools.product((1, 2, 10, 100, 1000, 12_345), STATES):
        r = next(r for r in itertools.count() if comb(s + r, s) >= n)
        assert repeated(n, s) == r * n - (comb(s + r, r - 1) if r else 0)
        assert s == 1 or repeated(n, s) <= repeated(n, s - 1)


@pytest.mark.parametrize("tapes", [1, 2, 3, 5])
def test_blocks_of_several_segments_come_backwards_too(tapes):
    """The last block may be short; it is never gone through again, so that whole blocks count."""
    for segments, states in itertools.product(BLOCKS, (1, 2, 3, 6)):
        blocks = -(-segments // tapes)
        again, most = simulate(schedule(segments, min(states, blocks), tapes))
        assert again == tapes * repeated(blocks, min(states, blocks))
        assert most <= states


# ------------------------------------------------------------------------------------------------------------- plans


def test_a_plan_is_the_best_of_all_that_there_is_room_for():
    segments, tape, state = 23, 100, 7
    full = segments * tape - 50
    for keep in range(tape + state, full + 100, 13):
        plan = plan_memory(keep, segments, tape, state, full)
        assert plan.bytes <= keep
        assert plan.repeated == simulate(plan)[0] or plan.repeated == 0
        if keep >= full:
            assert (plan.tapes, plan.repeated, plan.bytes) == (segments, 0, full)
            continue
        for tapes, states in itertools.product(range(1, segments + 1), range(1, segments + 1)):
            if tapes * tape + states * state <= keep:
                assert plan.repeated <= tapes * least(-(-segments // tapes), states)


def test_more_room_never_means_more_work():
    works = [plan_memory(keep, 60, 100, 9, 6000).repeated for keep in range(109, 6200, 7)]
    assert works == sorted(works, reverse=True)
    assert works[-1] == 0 < works[0] == 60 * 59 // 2


def test_all_and_starts_are_the_ends():
    assert plan_memory("all", 9, 100, 7, 850) == MemoryPlan(9, 9, 1, 100, 7, 850, 0)
    starts = plan_memory("starts", 9, 100, 7, 850)
    assert starts == MemoryPlan(9, 1, 9, 100, 7, 850, 8)
    assert starts.bytes == 100 + 9 * 7
    assert simulate(starts) == (8, 9)
    for keep in ("all", "starts", 107):
        one = plan_memory(keep, 1, 100, 7, 100)
        assert (one.repeated, simulate(one)) == (0, (0, 1))


def test_the_states_of_every_step_are_kept_with_one_tape():
    """Forward once, then backwards segment by segment; the sums say so."""
    plan = plan_memory("states", 9, 100, 7, 850, 315)
    assert (plan.tapes, plan.repeated, plan.bytes) == (1, 9, 415)
    backwards = [("recompute", k, k + 1) for k in reversed(range(9))]
    assert list(plan.actions()) == [("advance", 0, 9), *backwards]
    assert str(plan).startswith("415 bytes, 48.82% of the full tape: the states of every step and 1 of 9 tapes")


def test_too_few_bytes_are_refused_with_the_least_that_works():
    with pytest.raises(ValueError, match=r"keep is 106 bytes; the least that works for 9 segments is 107 bytes"):
        plan_memory(106, 9, 100, 7, 850)
    assert plan_memory(107, 9, 100, 7, 850).bytes == 107


@pytest.mark.parametrize("keep", ["none", "", "ALL", 0, -1, 1.5, True, False, None, b"all", [1], np.float64(3), np.nan])
def test_what_is_nothing_to_keep_is_refused(keep):
    with pytest.raises(ValueError, match="expected 'all', 'states', 'starts', or a number of bytes"):
        check_keep(keep)
    with pytest.raises(ValueError, match="keep is "):
        numeric.Engine("tanh_rnn", keep=keep)


@pytest.mark.parametrize("keep", ["all", "states", "starts", 1, 10**12, np.int32(7)])
def test_what_is_something_to_keep_is_taken(keep):
    assert check_keep(keep) == keep
    assert type(check_keep(keep)) in (str, int)


def test_a_plan_says_what_it_costs():
    plan = plan_memory(1_500_000, 40, 100_000, 1_000, 4_000_000)
    said = str(plan)
    numbers = [float(x.replace(",", "")) for x in re.findall(r"[\d,]*\d(?:\.\d+)?", said)]
    assert numbers[0] == plan.bytes <= 1_500_000
    assert abs(numbers[1] - 100 * plan.bytes / 4_000_000) <= 0.005
    assert numbers[2:5] == [plan.tapes, 40, plan.states]
    assert abs(numbers[5] - plan.repeated / 40) <= 0.005
    assert str(plan_memory("all", 4, 10, 1, 40)).startswith("40 bytes, 100.00% of the full tape: 4 of 4 tapes")


# -------------------------------------------------------------------------------------------------------------- passes

ERROR = "squared_error"


def keeping(engine, keep):
    """An engine that keeps something else, with what is compiled already."""
    other = numeric.Engine(engine.cell, str(engine.dtype), keep, segment=engine.segment, fast=engine.fast)
    other._passes.compiled = engine._passes.compiled
    return other


def plan_of(engine):
    """The plan of the last call."""
    return next(reversed(engine._passes.local.kept.values())).plan


def budgets(engine, scene):
    """Bytes from the least that works to the full tape, for a scene."""
    scene.backward(engine)
    full = plan_of(engine)
    low = full.tape_bytes + full.state_bytes
    return [low, *(low + (full.full_bytes - low) * k // 5 for k in (1, 2, 4)), full.full_bytes - 1, full.full_bytes]


def check_same_bits(engine, scene):
    """Raise AssertionError unless everything is the same whatever is kept; returns the plans."""
    right, plans = scene.backward(engine), []
    arguments = scene.params, scene.inputs, scene.targets
    loss, gradients = engine.value_and_grad(*arguments, initial=scene.initial, **scene.options)
    for keep in ("starts", *budgets(engine, scene)):
        other = keeping(engine, keep)
        for _ in range(1 + (keep == "starts")):
            assert_same(scene.backward(other), right)
        plans.append(plan_of(other))
        assert keep == "starts" or plans[-1].bytes <= keep
        found = other.value_and_grad(*arguments, initial=scene.initial, **scene.options)
        assert found[0] == loss
        for n, gradient in gradients.items():
            np.testing.assert_array_equal(found[1][n], gradient)
    return plans


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(
    "name", [*derive.cells(), "several inputs, outputs and states", "delay line of a state", "states in a chain"]
)
def test_every_plan_gives_the_same_bits(name, ragged):
    turn = len(name) + ragged
    dtype, at = ("float64", "float32")[turn % 2], ("every", "last")[turn // 2 % 2]
    scene = scene_of(name, turn, dtype, at=at, ragged=ragged, steps=24, batch=3, sizes=(3, 4, 2))
    plans = check_same_bits(numeric.Engine(scene.cell, dtype, segment=6, fast=False), scene)
    assert len({(p.tapes, p.states) for p in plans}) > 3
    assert any(p.repeated > p.segments for p in plans)


@pytest.mark.parametrize("fast", FAST[1:])
def test_every_plan_gives_the_same_bits_in_the_compiled_loop(fast):
    engine = numeric.Engine("tanh_rnn", segment=6, fast=fast)
    for ragged in (False, True):
        scene = scene_of("tanh_rnn", 1, ragged=ragged, steps=24, batch=3, sizes=(3, 4, 2), loss=ERROR, at="every")
        assert len({(p.tapes, p.states) for p in check_same_bits(engine, scene)}) > 3


def test_a_state_that_is_not_gone_back_to_is_noticed(monkeypatch):
    scene = scene_of("lstm", 1, at="every", steps=24, batch=3, sizes=(3, 4, 2))
    monkeypatch.setattr(session.Session, "_recall", lambda self, block: None)
    with pytest.raises(AssertionError):
        check_same_bits(numeric.Engine("lstm", segment=6, fast=False), scene)


def test_sums_in_another_order_are_noticed(monkeypatch):
    """Segments that depend on what is kept would give other bits."""
    scene = scene_of("lstm", 1, at="every", steps=24, batch=3, sizes=(3, 4, 2))
    right = session.lay_out
    kept = {}
    init = session.Session.__init__

    def remember(self, compiled, data, *, keep="all", rows=6, **more):
        kept["rows"] = 6 if keep == "all" else 12
        init(self, compiled, data, keep=keep, rows=rows, **more)

    monkeypatch.setattr(session.Session, "__init__", remember)
    monkeypatch.setattr(session, "lay_out", lambda data, rows: right(data, kept["rows"]))
    with pytest.raises(AssertionError):
        check_same_bits(numeric.Engine("lstm", segment=6, fast=False), scene)


@pytest.mark.parametrize("keep", ["starts", "states"])
def test_an_engine_that_keeps_little_answers_every_question(keep):
    """Ragged and not, of many shapes, by turns: buffers of one are not those of another."""
    engine = numeric.Engine("lstm", keep=keep, segment=4, fast=False)
    scenes = [scene_of("lstm", k, steps=5 + 4 * (k % 3), ragged=k % 2 == 0, sizes=(3, 2, 4)) for k in range(6)]
    # its own first answers are the right ones where bits differ from those of another plan
    right = [scene.backward(numeric.Engine("lstm", keep=keep, segment=4, fast=False)) for scene in scenes]
    for scene, first in zip(scenes, right, strict=True):
        Truth(scene).check(first)
    for k in (0, 1, 2, 3, 4, 5, 0, 3, 3, 1):
        assert_same(scenes[k].backward(engine), right[k])


# ------------------------------------------------------------------------------------------------------- what is used


def scene_in_room(steps, ragged=False):
    return scene_of("tanh_rnn", 1, steps=steps, batch=8, sizes=(3, 16, 4), ragged=ragged, loss=ERROR, at="every")


def warm(engine, ragged=False):
    """The plan of 300 steps; what has to be compiled is compiled now."""
    ask(engine, scene_in_room(300, ragged))
    return plan_of(engine)


def used(engine, steps, ragged=False):
    """Bytes of a call of so many steps: the most at a time, and the numbers that an engine keeps."""
    scene = scene_in_room(steps, ragged)
    gc.collect()
    tracemalloc.start()
    engine.value_and_grad(scene.params, scene.inputs, scene.targets, initial=scene.initial, **scene.options)
    most = tracemalloc.get_traced_memory()[1]
    numbers = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    tracemalloc.stop()
    return most, sum(trace.size for trace in numbers.traces)


def check_room(fast, ragged):
    """Raise AssertionError where budgets differ by less than what is used."""
    engine = numeric.Engine("tanh_rnn", fast=fast, segment=80)
    full = warm(engine, ragged)
    low = full.tape_bytes + full.state_bytes
    found = []
    for keep in (low, 2 * low, 8 * full.tape_bytes, full.full_bytes // 2, full.full_bytes):
        other = keeping(engine, keep)
        most, kept = used(other, 300, ragged)
        found.append((plan_of(other).bytes, most if fast else kept))
        assert found[-1][0] <= keep
    for planned, taken in found:
        extra = taken - found[0][1] - (planned - found[0][0])
        assert extra <= 3000 + 0.02 * planned, f"of {planned:,} bytes: {extra:,} too many"
    # a ragged call's arguments take more while they are checked
    assert (fast and ragged) or found[-1][1] - found[0][1] > 0.9 * (found[-1][0] - found[0][0])


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("fast", FAST)
def test_a_call_takes_no_more_room_than_its_plan_says(fast, ragged):
    check_room(fast, ragged)


@pytest.mark.parametrize("fast", FAST)
def test_so_many_bytes_are_enough_for_any_number_of_steps(fast):
    """Nothing else grows with them, but what says where a segment is."""
    engine = numeric.Engine("tanh_rnn", fast=fast, segment=80)
    keep = 3 * warm(engine).tape_bytes
    few, many = (used(keeping(engine, keep), steps)[0] for steps in (200, 1000))
    assert many - few < keep + 1500 * 80


def test_a_pass_that_keeps_every_tape_is_noticed(monkeypatch):
    right = session.Session._need_room

    def all_of_it(self):
        plan = self.plan
        self.plan = replace(plan, tapes=plan.segments)
        right(self)
        self.plan = plan

    monkeypatch.setattr(session.Session, "_need_room", all_of_it)
    with pytest.raises(AssertionError):
        check_room(False, False)


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_budget_too_small_says_the_least_that_works_and_that_works(fast, ragged):
    scene = scene_of("tanh_rnn", 1, steps=40, batch=3, ragged=ragged, loss=ERROR, at="every", sizes=(3, 4, 2))
    with pytest.raises(ValueError, match="the least that works for") as error:
        scene.backward(numeric.Engine("tanh_rnn", keep=1, segment=8, fast=fast))
    said = int(re.search(r"is ([\d,]+) bytes: one segment's", str(error.value))[1].replace(",", ""))
    with pytest.raises(ValueError, match=f"keep is {said - 1:,} bytes"):
        scene.backward(numeric.Engine("tanh_rnn", keep=said - 1, segment=8, fast=fast))
    engine = numeric.Engine("tanh_rnn", keep=said, segment=8, fast=fast)
    assert_same(scene.backward(engine), scene.backward(numeric.Engine("tanh_rnn", segment=8, fast=fast)))
    assert (plan_of(engine).tapes, plan_of(engine).states, plan_of(engine).bytes) == (1, 1, said)


@pytest.mark.parametrize("keep", ["all", "states", "starts", 30_000])
@pytest.mark.parametrize("lengths", [None, [300, 20, 77]])
def test_a_plan_said_before_a_pass_is_the_one_that_it_follows(keep, lengths):
    engine = numeric.Engine("lstm", keep=keep, segment=20, fast=False)
    sizes = {"D": 3, "H": 5, "O": 4}
    params, x = engine.init(**sizes), np.ones((300, 3, 3))
    said = engine.memory_plan(T=300, B=3, lengths=lengths, **sizes)
    engine.value_and_grad(params, x, np.zeros((300, 3), int), lengths=lengths)
    assert plan_of(engine) == said
