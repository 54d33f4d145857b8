"""The laws of measurements: a wrong expectation is refuted, a planted fault is seen, another machine says the same."""

from __future__ import annotations

import math
import tomllib
import warnings
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from odd_cells import ODD

import numeric
from derive.claims import ClaimError, load_book
from reports.checks.arguments import Arguments
from reports.checks.measured import check_measured
from reports.document import Mark, Quantity, inlines
from reports.ledger import CONDITIONS, HOLDS, REFUTED, run_ledger
from reports.measurements import learning, memory, network, step, work
from reports.measurements.measurement import Measurement, Number, counted, measured
from reports.measurements.registry import QUANTITIES, find_quantity
from reports.measurements.relation import decide, read_relation

FIT = numeric.fit
LINEAR = "h[t] = W @ h[t-1] + V @ x[t]"
OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">"}

# What every quantity says of a small network, and is right.
RIGHT = {
    "flow": ({"radius": 0.5, "steps": 40, "seeds": 2}, "most_decades < -6"),
    "mitigation": (
        {"cell": "lstm", "raised": "b_f", "by": 3.0, "beside_cell": "tanh_rnn", "steps": 40, "seeds": 2},
        "least_decades > 0.5 * most_beside",
    ),
    "product": ({"radius": 0.5, "steps": 40, "seeds": 2}, "most_largest < -0.05"),
    "unrolled": ({"steps": 6}, "difference < 1e-9"),
    "truncation": ({"steps": 8, "k": 3}, "unexplained < 1e-9"),
    "boundary": ({"steps": 8, "k": 3}, "across_chunks < 0.5 * across_whole"),
    "memory": ({"steps": 50, "batch": 8}, "growth_chunks < 0.5 * growth"),
    "tape": ({}, "states < total"),
    "work": ({"steps": 60, "k": 6}, "chunks <= whole"),
    "time": ({"steps": 50}, "work_longer <= 8 * work"),
    "learning": ({"delay": 2, "k": 1, "steps": 8, "updates": 100, "seeds": 1, "rate": 0.05}, "whole_worst < 0.3"),
    "step": ({"radius": 4.0, "seeds": 8, "rate": 0.1}, "moved_clipped < 0.1 * moved"),
    "hearing": ({"radius": 0.5}, "heard < later"),
}


def reading(quantity, relation=None, **changed):
    arguments, right = RIGHT[quantity]
    return {"quantity": quantity, "cell": "tanh_rnn", **arguments, **changed, "relation": relation or right}


def measure(quantity, **arguments):
    return find_quantity(quantity)(Arguments({"cell": "tanh_rnn", **arguments})).numbers


def value(quantity, name, **arguments):
    return measure(quantity, **arguments)[name].quantity.value


def opposite(text):
    relation = read_relation(text)
    left, _, right = text.partition(relation.sign)
    return f"{left}{OPPOSITE[relation.sign]}{right}"


def shipped():
    """Every measured reading of the shipped books, corrected statements' too."""
    folder = files("derive").joinpath("claims")
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            for claim in tomllib.loads(entry.read_text(encoding="utf-8"))["claim"]:
                right = claim.get("corrected", {})
                for found in (*claim["reading"], *right.get("reading", [right])):
                    if found.get("check") == "measured":
                        own = {key: x for key, x in found.items() if key not in ("name", "check", "says", "why")}
                        yield f"{entry.name}: {claim['id']}", own


SHIPPED = list(shipped())


# ------------------------------------------------------------------------------------------------------ the statements


@pytest.mark.parametrize(("book", "claim", "verdict"), [
    ("lesson", "through-steps", HOLDS),
    ("lesson", "destabilize", HOLDS),
    ("lesson", "within", HOLDS),
    ("lesson", "clipping", CONDITIONS),  # bounds an update, and does nothing for what vanishes
    ("lesson", "local", CONDITIONS),  # not across the edge of a chunk
    ("chapter", "prohibitive", REFUTED),  # checkpoints
    ("chapter", "manual-all-future", CONDITIONS),  # rounding
])  # fmt: skip
def test_known_suspects_that_are_measured(book, claim, verdict):
    shipped = load_book(book)
    only = replace(shipped, claims=tuple(c for c in shipped.claims if c.id == claim))
    (judged,) = run_ledger([only]).judged
    assert (judged.verdict, judged.corrected) == (verdict, True)


# ---------------------------------------------------------------------------------------------------------- relations


def numbers(**given):
    return Measurement({name: Number(Quantity(*x), (name,)) for name, x in given.items()}, ())


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("a < b", True),
        ("a > b", False),
        ("a == 2", True),
        ("a == 3", False),
        ("a >= 2", True),
        ("a <= 1.9", False),
        ("b < 5", None),  # it may be 5.5 elsewhere
        ("b == 4.4", None),
        ("b > 2 * a", None),
        ("b < 3*a", True),
        ("-1 * b < -3", True),
        ("n < -1", True),
        ("n > -1", False),
        ("0 < z", False),
        ("z == 0", True),
        ("t < 1e9", None),  # a time is never decided
        ("t > 0", None),
        ("x < 1", None),
        ("x > 1", None),
    ],
)
def test_a_relation_is_decided_only_where_every_machine_would_decide_it_so(text, verdict):
    found = numbers(
        a=(2.0, 1.0), b=(4.5, 1.25), n=(-5.0, 2.0), z=(0.0, 1.0), t=(0.1, math.inf), x=(math.nan, 1.0)
    )  # fmt: skip
    assert decide(read_relation(text), found) is verdict
    if read_relation(text).sign != "==":
        contrary = decide(read_relation(opposite(text)), found)
        assert contrary is (None if verdict is None else not verdict)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a <", "< a", "a < b < c", "a = b", "a != b", "1 < 2", "2 a < b", "a * 2 < b", "a + b < c", "A < b",
     "a < __import__('os')", "a < b.c", "a <> b", "a" * 200 + " < b", "a < 1_0"],
)  # fmt: skip
def test_nothing_else_is_a_relation(text):
    with pytest.raises(ClaimError, match="no relation"):
        read_relation(text)


@pytest.mark.parametrize(
    "text",
    ["a == a", "a <= a", "a < 2 * a", "2 * a < 3 * a", "0 * a < 1", "a < 1e999", "a > -1e999", "a > -1", "a >= 0",
     "-1 < a", "0 <= a", "-1 * a <= b", "-2 * a <= 0", "a < 1e-999 * b", "b > 1e30 * a"],
)  # fmt: skip
def test_a_relation_that_cannot_fail_says_nothing(text):
    with pytest.raises(ClaimError, match=r"cannot fail|out of range"):
        decide(read_relation(text), numbers(a=(2.0, 1.0), b=(4.5, 1.25)))


@pytest.mark.parametrize("text", ["n > -9", "n >= 0", "n < 0", "0 < 1e18 * a", "-1 * n < b", "a > 0", "a <= 0"])
def test_a_relation_that_can_fail_is_one(text):
    found = {"n": measured(3.0, 1.1, ".1f", "a rate", signed=True), **numbers(a=(2.0, 1.0), b=(9.0, 1.0)).numbers}
    assert decide(read_relation(text), Measurement(found, ())) is (text not in ("n < 0", "a <= 0"))


def test_an_update_after_which_the_loss_is_no_number_has_raised_it():
    cell = "h[t] = W @ h[t-1] - W @ (h[t-1]*h[t-1]*h[t-1]) + U @ x[t]"
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measure("step", cell=cell, rate=1e3, seeds=5, steps=30, inputs=0.3)
    assert found["raised"].quantity.value == 5


def test_what_rounding_decides_is_not_measured():
    chaotic = {"cell": "tanh_rnn", "radius": 3.0, "steps": 400, "seeds": 2}
    for quantity, relation in (("flow", "decades > 1"), ("product", "largest > 0.001")):
        evidence = check_measured(chaotic | {"quantity": quantity, "relation": relation})
        assert evidence.holds is None
        assert "rounding errors grow" in str(evidence.said)
    growing = chaotic | {"cell": "h[t] = W @ h[t-1] + U @ x[t]", "steps": 60}  # linear: errors grow, and stay small
    assert check_measured(growing | {"quantity": "flow", "relation": "least_decades > 20"}).holds
    assert check_measured(growing | {"quantity": "product", "relation": "least_largest > 0.5"}).holds


@pytest.mark.parametrize(
    ("quantity", "more"),
    [
        ("memory", {"steps": 1000, "batch": 64, "k": 100}),
        ("work", {"steps": 1000, "k": 100}),
        ("product", {"steps": 400, "seeds": 20}),
        ("learning", {"steps": 200, "delay": 3, "updates": 1000, "seeds": 5}),
        ("learning", {"steps": 100, "delay": 3, "updates": 1000, "seeds": 1}),
    ],
)
def test_what_would_take_too_long_is_refused_before_it_begins(quantity, more):
    most = {"cell": "lstm", "size": 64, **more}
    with pytest.raises(ClaimError, match=r"too long|too much"):
        measure(quantity, **most)


def test_a_relation_speaks_of_what_is_measured():
    with pytest.raises(ClaimError, match=r"nothing of this name.*nearest: most_decades"):
        check_measured(reading("flow", "most_decade < 0"))


def test_numbers_are_told_with_what_they_are():
    assert counted(3, "steps").interval == (3.0, 3.0)
    assert measured(-2.0, 2.0, ".1f", "rate").interval == (-4.0, -1.0)
    with pytest.raises(ValueError, match="a number's name"):
        Measurement({"No": counted(1, "x")}, ())


# ------------------------------------------------------------------------------------------------------------ readings


def test_every_quantity_has_a_right_reading_here():
    assert set(RIGHT) == set(QUANTITIES)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_what_is_right_holds_and_its_opposite_is_refuted(quantity):
    right = check_measured(reading(quantity))
    assert (right.holds, right.level) == (True, "measured")
    wrong = check_measured(reading(quantity, opposite(RIGHT[quantity][1])))
    assert wrong.holds is False
    marks = [part for row in wrong.blocks[0].rows for part in row[-1] if isinstance(part, Mark)]
    assert [mark.verdict for mark in marks] == ["fails"]


@pytest.mark.parametrize(("quantity", "changed", "relation"), [
    ("flow", {"radius": 2.0, "still": True, "steps": 30}, "rate < 0"),
    ("product", {"cell": LINEAR, "radius": 1.0, "orthogonal": True}, "most_largest < -0.05"),
    ("mitigation", {"cell": "lstm", "by": 0.0}, "least_decades > 0.5 * most_beside"),
    ("step", {"radius": 0.5, "clip": 50.0}, "changed > 0"),
    ("hearing", {"radius": 1.5}, "heard < later"),
    ("tape", {"size": 2, "inputs_size": 50}, "states > 0.5 * least"),
    ("learning", {"delay": 2, "k": 3}, "chunks_best > 0.5"),
])  # fmt: skip
def test_a_network_for_which_it_is_wrong_refutes_it(quantity, changed, relation):
    assert check_measured(reading(quantity, relation, **changed)).holds is False


@pytest.mark.parametrize(("where", "arguments"), SHIPPED, ids=[where for where, _ in SHIPPED])
def test_what_the_books_say_can_be_read_and_is_of_numbers_that_are_there(where, arguments):
    """The verdicts themselves are the ledger's; only what takes no time is decided here."""
    given = arguments["relation"]
    relations = [read_relation(text) for text in ([given] if isinstance(given, str) else given)]
    assert relations
    if arguments["quantity"] in ("tape", "unrolled", "boundary", "step", "hearing"):
        assert check_measured(arguments).holds is not None, where


def test_all_relations_have_to_hold():
    both = ["most_decades < -6", "most_decades > -6"]
    assert check_measured(reading("flow", both)).holds is False
    assert check_measured(reading("flow", both[:1] * 2)).holds is True
    with pytest.raises(ClaimError, match="how many relations"):
        check_measured(reading("flow") | {"relation": []})


def test_what_is_too_near_is_not_decided():
    found = check_measured(reading("work", "time_whole < 100"))
    assert (found.holds, found.level) == (None, "not decided")


def test_what_cannot_be_measured_is_not_decided():
    blown_up = {"quantity": "flow", "cell": "h[t] = h[t-1]**2 + 2 + x[t]", "relation": "rate > 0", "steps": 40}
    found = check_measured(blown_up)
    assert (found.holds, found.level) == (None, "not decided")


def test_a_network_that_leaves_its_fixed_point_is_not_measured_there():
    found = check_measured(reading("flow", "rate > 0", radius=2.0, still=True, steps=100))
    assert found.holds is None
    assert "does not stay" in found.said[0]


@pytest.mark.parametrize(("changed", "words"), [
    ({"quantity": "flo"}, "unknown quantity.*nearest: flow"),
    ({"radios": 0.5}, "unknown argument.*nearest: radius"),
    ({"steps": 10**9}, "out of range"),
    ({"steps": True}, "another type"),
    ({"radius": math.nan}, "out of range"),
    ({"cell": "/etc/passwd"}, "unknown cell"),
    ({"raised": "b_f"}, "unknown parameter"),
    ({"orthogonal": True, "radius": 0.0}, "say the factor"),
    ({"cell": "h[t] = h[t-1]*x[t]"}, "no square matrix"),
])  # fmt: skip
def test_wrong_arguments_are_named(changed, words):
    with pytest.raises(ClaimError, match=words):
        check_measured(reading("flow") | changed)


@pytest.mark.parametrize(("changed", "words"), [
    ({"delay": 0}, "which task"),
    ({"decay": 0.5}, "which task"),
    ({"delay": 8}, "which task"),
    ({"updates": 1000, "seeds": 5, "steps": 200}, "too long"),
])  # fmt: skip
def test_a_task_is_one_that_can_be_learned_in_time(changed, words):
    with pytest.raises(ClaimError, match=words):
        check_measured(reading("learning") | changed)


@pytest.mark.parametrize("cell", ["h[t] = tanh(W @ h[t-1] + x[t])\ny[t] = h[t]", "h[t] = tanh(W @ h[t-1])"])
def test_a_task_needs_one_input_and_one_output(cell):
    with pytest.raises(ClaimError, match="no cell for these tasks"):
        check_measured(reading("learning", cell=cell))


# ------------------------------------------------------------------------------------------------------ known numbers


def test_a_linear_network_has_the_rates_that_it_must_have():
    halved = measure("flow", cell=LINEAR, radius=0.5, orthogonal=True, steps=31, seeds=2)
    assert halved["rate"].quantity.value == pytest.approx(math.log(0.5), rel=1e-12)
    assert halved["least_decades"].quantity.value == pytest.approx(-30 * math.log10(2), rel=1e-12)
    product = measure("product", cell=LINEAR, radius=2.0, orthogonal=True, steps=30, seeds=2)
    for name in ("largest", "smallest"):
        assert product[name].quantity.value == pytest.approx(math.log(2), rel=1e-12)


def test_the_counts_of_truncation_are_those_of_its_pairs():
    found = measure("truncation", steps=6, k=2)
    assert (found["pairs"].quantity.value, found["lost"].quantity.value) == (21, 12)
    assert value("boundary", "near_lost", steps=20, k=5) == 3
    assert value("work", "whole", steps=60) == 60 * (16 * (4 + 16 + 2) + 16 * (4 + 2 * 16 + 2 * 2))


def test_a_window_repeats_every_step_as_often_as_it_is_in_one():
    found = measure("work", steps=60, k=6)
    steps_in_windows = sum(min(6, t) for t in range(1, 61))
    per_step = found["whole"].quantity.value / 60
    ahead = found["forward"].quantity.value / 60 * 54  # states between the windows' beginnings
    assert found["window"].quantity.value == steps_in_windows * per_step + ahead


def test_tasks_have_targets_of_variance_one_and_the_errors_that_short_inputs_allow():
    recipe = network.Recipe(numeric.Engine("tanh_rnn").cell, 4, 0.3, width=1)
    trace = learning._Task(recipe, 200, 0, 0.8)
    x, y = trace.draw([0, 1], 400)
    assert y[100:].var() == pytest.approx(1.0, rel=0.05)
    window = sum(0.8**j * np.roll(x, j, axis=0) for j in range(3)) / 0.3 * math.sqrt(1 - 0.64)
    assert ((y - window)[100:] ** 2).mean() == pytest.approx(trace.short(3), rel=0.05)
    recall = learning._Task(recipe, 10, 4, 0.0)
    x, y = recall.draw([0, 1])
    assert np.array_equal(y[4:], x[:-4])
    assert (recall.short(4), recall.short(5)) == (1.0, 0.0)


# ------------------------------------------------------------------------------------------------------ planted faults


class NotTruncated(numeric.Engine):
    """An engine that takes ``truncate`` and does nothing with it."""

    def value_and_grad(self, *args, truncate=None, **options):
        return super().value_and_grad(*args, **options)

    def backward(self, *args, truncate=None, **options):
        return super().backward(*args, **options)


class CutTooLate(numeric.Engine):
    """An engine whose chunks are one step too long."""

    def backward(self, *args, truncate=None, **options):
        return super().backward(*args, truncate=truncate and truncate + 1, **options)


class Forgetful(numeric.Engine):
    """An engine that carries nothing further back than two steps."""

    def backward(self, *args, **options):
        return super().backward(*args, **(options | {"truncate": options.get("truncate") or (1, 2)}))


@pytest.fixture
def engine_is(monkeypatch):
    """Let every measurement run on another kind of engine."""

    def put(kind):
        monkeypatch.setattr(network, "engine_of", lambda cell: kind(cell, fast=False, threads=1))

    return put


@pytest.mark.parametrize(("kind", "quantity", "name", "least"), [
    (NotTruncated, "boundary", "across_chunks", 0.1),
    (NotTruncated, "truncation", "unexplained", 0.1),
    (CutTooLate, "truncation", "unexplained", 0.01),
    (Forgetful, "unrolled", "difference", 0.01),
])  # fmt: skip
def test_an_engine_that_is_not_what_it_says_is_seen(kind, quantity, name, least, engine_is):
    arguments, _ = RIGHT[quantity]
    assert value(quantity, name, **arguments) < 1e-9
    engine_is(kind)
    assert value(quantity, name, **arguments) > least


def test_an_engine_that_forgets_hears_less(engine_is):
    engine_is(Forgetful)
    assert value("hearing", "heard", radius=1.5, steps=20) <= 2


def test_an_engine_that_is_not_truncated_grows_and_learns(engine_is, monkeypatch):
    monkeypatch.setattr(memory.numeric, "Engine", NotTruncated)
    found = measure("memory", steps=50, batch=8)
    assert found["growth_chunks"].quantity.value > 3
    engine_is(NotTruncated)
    monkeypatch.setattr(learning.numeric, "fit", lambda *a, truncate, **o: FIT(*a, **o))
    arguments, _ = RIGHT["learning"]
    assert value("learning", "chunks_best", **arguments) < 0.3


def test_an_engine_that_keeps_everything_is_seen(monkeypatch):
    kind = numeric.Engine
    monkeypatch.setattr(memory.numeric, "Engine", lambda cell, keep="all", **o: kind(cell, **o))
    found = measure("memory", steps=50, batch=8)
    assert found["kept"].quantity.value > 0.8 * found["whole_longer"].quantity.value


def test_clipping_that_does_nothing_is_seen(monkeypatch):
    monkeypatch.setattr(step.numeric, "clip_by_norm", lambda grads, most: (grads, 1.0))
    arguments, _ = RIGHT["step"]
    found = measure("step", **arguments)
    assert found["moved_clipped"].quantity.value == found["moved"].quantity.value


def test_windows_that_overlap_cost_more(monkeypatch):
    right = work.windows
    monkeypatch.setattr(work, "windows", lambda steps, k1, k2: right(steps, k1, 2 * k2))
    found = measure("work", steps=60, k=6)
    assert found["chunks"].quantity.value > 1.5 * found["whole"].quantity.value


@pytest.mark.parametrize(("exponent", "holds"), [(1.0, True), (2.0, False)])
def test_time_that_grows_as_a_square_is_seen(exponent, holds, monkeypatch):
    monkeypatch.setattr(work, "_interleaved", lambda runs: {"short": 1.0, "long": 8.0**exponent, "wide": 1.0})
    exponents = {"time": measure("time", steps=50)["exponent"]}
    assert decide(read_relation("time < 1.4"), Measurement(exponents, ())) is holds


# ------------------------------------------------------------------------------------------------------------ any cell


SMALL = {
    "flow": {"steps": 8, "seeds": 1}, "product": {"steps": 8, "seeds": 1}, "unrolled": {"steps": 4},
    "truncation": {"steps": 5, "k": 2}, "boundary": {"steps": 5, "k": 2}, "step": {"steps": 4, "seeds": 2},
    "hearing": {"steps": 6},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_any_cell_can_be_measured(name):
    cell = ODD[name].text
    for quantity, arguments in SMALL.items():
        if quantity == "step" and not ODD[name].parameters:
            continue
        found = measure(quantity, cell=cell, size=3, **arguments)
        for exact in {"difference", "unexplained", "inside_apart"} & set(found):
            assert found[exact].quantity.value < 1e-12
        assert not any(math.isnan(x.quantity.value) for x in found.values())


@pytest.mark.parametrize("name", ["several inputs, outputs and states", "neither", "no parameters"])
def test_memory_and_work_of_any_cell(name):
    cell = ODD[name].text
    found = measure("memory", cell=cell, size=3, steps=50, batch=2)
    assert found["growth"].quantity.value > found["growth_chunks"].quantity.value
    assert value("work", "chunks", cell=cell, size=3, steps=20, k=4) == value(
        "work", "whole", cell=cell, size=3, steps=20
    )
    assert value("tape", "total", cell=cell) >= value("tape", "states", cell=cell)


# ------------------------------------------------------------------------------------------------- on another machine


@pytest.mark.parametrize(
    "quantity", ["flow", "product", "unrolled", "truncation", "boundary", "step", "hearing", "learning"]
)
def test_other_rounding_gives_the_same_numbers_within_their_spread(quantity, engine_is):
    """Columns instead of rows and other segments: sums in another order, as another BLAS would take them."""
    arguments = RIGHT[quantity][0] | ({"steps": 60} if quantity == "hearing" else {})
    run = find_quantity(quantity)
    here = run(Arguments({"cell": "tanh_rnn", **arguments}))
    engine_is(lambda cell, **o: numeric.Engine(cell, layout="columns", segment=64, **o))
    there = run(Arguments({"cell": "tanh_rnn", **arguments}))
    for one, other in zip(told(here), told(there), strict=True):
        assert one.agrees(other.value) if isinstance(one, Quantity) else one == other


def told(measurement):
    """Everything that a reader is told, word by word."""
    return [part for block in (measurement.table, *measurement.blocks) for part in inlines(block)]
