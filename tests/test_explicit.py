"""What a reader opens under a step is true: each entry as it is printed has the value that the unrolled network has."""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import chain

import pytest

import derive
from derive.explicit_steps import explicit
from derive.losses import LOSSES
from tests.explicit_world import SIZE, T, World
from tests.latex_reading import Reader, rows_of
from tests.odd_cells import ODD, cell_named
from tests.turns import ALL

SUM = r"\sum_{t=1}^{T} "
EVERY = range(1, T + 1)
CELLS = [*derive.cells(), *(ODD if ALL else list(ODD)[::3])]


@cache
def world(name):
    return World(cell_named(name))


def sides(latex):
    """The two sides of each entry of an equation, and whether the right one is summed over time."""
    left, *rights = latex.split(r" \qquad")[0].split(" = ")
    over_time = rights[-1].startswith(SUM)
    right = rights[-1].removeprefix(SUM)
    lefts, entries = (list(chain(*rows_of(x))) for x in (left, right))
    if len(lefts) > 1 and len(entries) == 1:
        entries *= len(lefts)
    return [*zip(lefts, entries, strict=True), *((x, right) for x in rights[:-1])], over_time


def faults(latex, reader_at, times):
    """The entries of a printed equation that are not true, with the step at which they are not."""
    found = []
    pairs, over_time = sides(latex)
    for left, right in pairs:
        values = [reader_at(t).read(right) for t in times]
        wholes = [reader_at(t).read(left) for t in times]
        if over_time:
            values, wholes = [sum(values[1:], values[0])], wholes[:1]
        found += [(t, left) for t, a, b in zip(times, wholes, values, strict=False) if not (a - b).is_zero]
    return found


def readings(world, step):
    """How the formulas of a step are read, and at which steps; None where there is no parameter for a law."""
    if step.chapter in ("forward", "outputs", "recursion", "others") or step.obligation.startswith("P3/"):
        return cache(world.reader), EVERY
    if direction := re.fullmatch(r"d\+\w+\[t\]\[d(\w+)\]", str(step.equation.lhs)):
        return cache(lambda t: world.directed(t, direction[1])), (1, 3)
    if not step.equation.lhs.is_commutative:
        return cache(world.reader), EVERY
    return (cache(world.laws), EVERY) if world.theta else None


def narrowed(latex, times):
    """The steps at which a formula is meant."""
    if r"\text{for } T = t + 1" in latex:
        return (T - 1,)
    return range(1, T - 1) if "t+2" in latex else times


@pytest.mark.parametrize("name", CELLS)
def test_every_entry_is_what_the_unrolled_network_has(name):
    count = 0
    for step in world(name).derivation.steps:
        if step.chapter in ("loss", "truncation", "cost") or not (how := readings(world(name), step)):
            continue
        reader_at, times = how
        for latex in explicit(world(name).derivation, step):
            if not latex.startswith("J_t"):
                assert faults(latex, reader_at, narrowed(latex, times)) == [], (step.number, latex)
                count += 1
    assert count >= 10


PLANTED = {
    "another entry": lambda x: x[::-1].replace("1", "2", 1)[::-1],
    "another sign": lambda x: (
        x.replace(" + ", " - ", 1) if " + " in x.partition(" = ")[2] else x.replace("= ", "= -", 1)
    ),
    "a term left out": lambda x: re.sub(r" \+ (?:(?! \+ ).)*$", "", x),
    "another step": lambda x: x[::-1].replace("t", "1+t", 1)[::-1] if "t-1" not in x else x.replace("t-1", "t", 1),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_wrong_entry_is_noticed(mistake):
    noticed = 0
    for name in ("tanh_rnn", "gru"):
        for step in world(name).derivation.steps:
            if step.chapter not in ("outputs", "recursion", "recurrent", "jacobian"):
                continue
            reader_at, times = readings(world(name), step)
            for latex in explicit(world(name).derivation, step):
                equation, mark, rest = latex.partition(r" \qquad")
                planted = PLANTED[mistake](equation) + mark + rest
                if planted == latex or latex.startswith(("J_t", r"\begin")) or "T+1" in latex:
                    continue
                try:
                    assert faults(planted, reader_at, narrowed(latex, times)), (latex, planted)
                except ValueError:
                    continue  # it names something that there is not
                noticed += 1
    assert noticed > 10


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", "states in a chain"])
def test_the_dropped_terms_are_those_that_truncation_drops(name):
    steps = [s for s in world(name).derivation.steps if s.chapter == "truncation"]
    for step, chunks in zip(steps, (False, True), strict=True):
        reader = Reader(world(name).pairs | world(name).truncated(chunks, 2), world(name).sample)
        lines = explicit(world(name).derivation, step)
        assert len(lines) == 2
        for latex in lines:
            assert faults(latex, lambda t, reader=reader: reader, (1,)) == []
            assert faults(latex.replace("g_{3,1} + ", "", 1).replace("g_{1,1} + ", "", 1), lambda t, r=reader: r, (1,))


class Floats:
    """Plain numbers."""

    def number(self, value):
        return float(value)

    def call(self, name, x):
        return getattr(math, name)(x)


def test_the_losses_and_their_gradients_are_right():
    y, target = (0.3, -0.8), (0.4, 0.6)
    exponentials = [math.exp(v) for v in y]
    p = [e / sum(exponentials) for e in exponentials]
    right = {
        "softmax_cross_entropy": (
            -sum(a * math.log(b) for a, b in zip(target, p, strict=True)),
            [a - b for a, b in zip(p, target, strict=True)],
        ),
        "squared_error": (
            sum((a - b) ** 2 for a, b in zip(y, target, strict=True)) / 2,
            [a - b for a, b in zip(y, target, strict=True)],
        ),
        "linear": (sum(a * b for a, b in zip(y, target, strict=True)), list(target)),
    }
    assert set(right) == set(LOSSES)
    known = {f"y_{{t,{k + 1}}}": y[k] for k in range(SIZE)}
    known |= {rf"\mathrm{{{n}}}_{{t,{k + 1}}}": target[k] for k in range(SIZE) for n in ("target", "cotangent")}
    derivation = world("tanh_rnn").derivation
    for step in derivation.steps:
        if step.obligation.startswith("loss/"):
            value, slopes = right[step.obligation.removeprefix("loss/")]
            for latex, expected in zip(explicit(derivation, step), [value, *slopes], strict=True):
                found = Reader(known, Floats()).read(latex.partition(" = ")[2])
                assert math.isclose(found, expected, rel_tol=1e-12), latex


def test_the_weights_of_the_loss_are_what_their_words_say():
    (step,) = (s for s in world("tanh_rnn").derivation.steps if s.obligation == "lemma/batch")
    values = {(t, b): 3.0**t * 7.0**b for t in (1, 2) for b in (1, 2)}
    known = {rf"\ell_{{{t},{b}}}": v for (t, b), v in values.items()}
    seen = set()
    for latex in explicit(world("tanh_rnn").derivation, step):
        words = re.search(r"\\text\{(.*)\}", latex)[1]
        taken = [v for (t, _), v in values.items() if t == 2 or words.startswith("every")]
        expected = sum(taken) / (len(taken) if words.endswith("mean") else 1)
        found = Reader(known, Floats()).read(latex.partition(" = ")[2].split(r" \qquad")[0])
        assert math.isclose(found, expected, rel_tol=1e-12)
        seen.add(words)
    assert len(seen) == 4


def test_the_reader_does_not_guess():
    reader = Reader({"h_{1}": 2.0, "h_{12}": 3.0}, Floats())
    assert reader.read(r"-h_{1} + \tfrac{1}{2} \, h_{12}^{2}") == 2.5
    for wrong in ("h_{3}", "h_{1} h_{12}", r"\left(h_{1}", r"h_{1} \odot h_{12}", "h_{1} = 2"):
        with pytest.raises(ValueError, match=r"\S"):
            reader.read(wrong)


def test_a_power_of_a_power_is_in_brackets():
    derivation = derive.differentiate(derive.parse("h[t] = tanh(((h[t-1])**2)**2 + W @ x[t])"))
    assert r"\left(h_{t-1}^{2}\right)^{2}" in derivation.steps[0].latex
    assert r"\left(h_{t-1,2}^{2}\right)^{2}" in explicit(derivation, derivation.steps[0])[1]


def test_every_step_but_the_costs_can_be_opened():
    for name in CELLS:
        for step in world(name).derivation.steps:
            assert bool(explicit(world(name).derivation, step)) == (step.chapter != "cost"), step
