"""Figures: what they show is what was measured, what they say follows from it, and they read the same everywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from odd_cells import ODD

import derive
import numeric
from derive.cost import evaluated
from derive.mistakes import plant
from numeric.oracle.families import default_cases
from numeric.oracle.power import power
from reports.document import Figure, Math, Paragraph, Quantity
from reports.figures import norm_figure, standalone, unrolled_figure
from reports.figures.graph import unrolled as graph_of
from reports.figures.style import spread
from reports.figures.unrolled import _Drawing
from reports.measure import Curve, Measured, Revealed, measure, sizes_of
from reports.measure.cost import BYTES, GROWTH_BATCH
from reports.measure.differences import differences
from reports.measure.mistakes import CASES, case_named
from reports.measure.reach import curves
from reports.measure.truncation import truncation
from reports.parts import pictures as said
from reports.parts.pictures import KEYS, pictures

CROWDED = ("several inputs, outputs and states", "states in a chain", "states that change places", "neither")


def cell_of(name):
    return ODD[name] if name in ODD else derive.load(name)


def plain_engine(name, **options):
    return numeric.Engine(cell_of(name), fast=False, **options)


def wrong_engine(name, mistake="carry-not-transposed"):
    """An engine whose derivation has a mistake."""
    backward = derive.differentiate(cell_of(name)).backward
    return plain_engine(name, backward=next(p.backward for p in plant(backward) if p.mistake == mistake))


def sizes_for(name):
    return sizes_of(tuple(cell_of(name).dimensions))


@pytest.fixture(scope="module")
def results():
    """Derivation and measurements of the smallest cell."""
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    return derivation, measure(derivation, 0)


@pytest.fixture(scope="module")
def found(results):
    return pictures(*results, 0)


def text_of(parts):
    return "".join(p if isinstance(p, str) else getattr(p, "latex", "#") for p in parts)


# ------------------------------------------------------------------------------------------------------- as drawings


def test_every_figure_is_there(found):
    assert tuple(found) == KEYS
    assert all(isinstance(f, Figure) for f in found.values())
    assert len({f.stem for f in found.values()}) == len(KEYS)


def test_a_figure_is_lean_and_needs_nothing_else(found):
    for key, figure in found.items():
        assert len(figure.svg) < 80_000, key
        ElementTree.fromstring(figure.svg)
        assert not re.search(r"\d{4}-\d\d-\d\d|<metadata|<text|<style|https?://(?!www\.w3\.org/)", figure.svg), key
        assert "#010" not in figure.svg
        assert "var(--figure-ink, #" in figure.svg
        assert "var(" not in standalone(figure.svg)
        ElementTree.fromstring(standalone(figure.svg))


def test_no_id_is_there_twice_on_a_page_of_all_figures(found):
    ids = [i for f in found.values() for i in re.findall(r' id="([^"]+)"', f.svg)]
    used = {i for f in found.values() for i in re.findall(r'(?:href="#|url\(#)([^")]+)', f.svg)}
    assert len(ids) == len(set(ids))
    assert used == set(ids)


def test_the_same_numbers_give_the_same_bytes(results, found):
    again = pictures(*results, 0)
    assert {k: f.svg for k, f in again.items()} == {k: f.svg for k, f in found.items()}
    assert norm_figure(results[1].curves[:1]) != found["flow"].svg


def test_the_numbers_are_there_for_who_cannot_see_them(found):
    for key, figure in found.items():
        assert figure.data.rows, key
        cells = [p for row in figure.data.rows for cell in row for p in cell]
        assert any(isinstance(p, Quantity) for p in cells) == (key not in ("unrolled", "mistakes")), key
        assert len(figure.alt) < 1_000


def test_a_figure_that_was_not_measured_says_so():
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    out = pictures(derivation, Measured({}, None, (), "left out"), 0)
    assert isinstance(out.pop("unrolled"), Figure)
    assert all(isinstance(p, Paragraph) and p.role == "note" for p in out.values())


@pytest.mark.parametrize("name", ["no parameters", "state of inputs"])
def test_what_makes_no_sense_for_a_cell_is_left_out_with_a_reason(name):
    found = truncation(plain_engine(name), sizes_for(name), 0)
    reasons = curves(plain_engine(name), derive.differentiate(cell_of(name)), 0)
    if name == "no parameters":
        assert "no parameters" in found
    else:
        note = said.flow(derive.differentiate(cell_of(name)), Measured({}, object(), reasons), 0)
        assert "no gradient reaches" in text_of(note.parts) or "exactly zero" in text_of(note.parts)


# ------------------------------------------------------------------------------------------------ the unrolled graph


def test_the_graph_has_the_edges_of_the_equations():
    graph = graph_of(derive.differentiate(derive.load("lstm")).program)
    edges = {(e.source, e.shift, e.target): e.matrices for e in graph.edges}
    assert edges == {
        ("h", -1, "c"): ("U_i", "U_f", "U_g"),
        ("c", -1, "c"): (),
        ("x", 0, "c"): ("W_i", "W_f", "W_g"),
        ("h", -1, "h"): ("U_o",),
        ("c", 0, "h"): (),
        ("x", 0, "h"): ("W_o",),
        ("h", 0, "y"): ("W_y",),
    }
    assert graph.seen == ("y",)
    assert graph_of(derive.differentiate(cell_of("neither")).program).seen == ("h",)


def test_every_way_back_is_marked_and_no_other():
    graph = graph_of(derive.differentiate(derive.load("tanh_rnn")).program)
    back = graph.reaching("h", 2, 3)
    assert back == {
        (("h", 2), ("h", 3)),
        (("h", 2), ("y", 2)),
        (("h", 3), ("y", 3)),
        (("y", 2), ("", 2)),
        (("y", 3), ("", 3)),
    }
    delayed = graph_of(derive.differentiate(cell_of("state of inputs")).program)
    assert (("y", 1), ("", 1)) not in delayed.reaching("s", 1, 3)


@pytest.mark.parametrize("name", ["tanh_rnn", "lstm", *CROWDED])
def test_nothing_in_the_graph_covers_anything_else(name):
    drawing = _Drawing(derive.differentiate(cell_of(name)))
    drawing.svg()
    boxes = drawing.taken
    assert len(boxes) > len(drawing.shapes)
    clashes = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert clashes == []
    assert boxes[0].overlaps(replace(boxes[0], x=boxes[0].x + 1))  # what the line above would see
    for source, target in drawing._edges():
        others = [s for place, s in drawing.shapes.items() if place not in (source, target)]
        points = drawing._route(source, target).points()
        assert min((s.distance(x, y) for s in others for x, y in points), default=9.0) > 2


def test_a_cell_whose_loss_sees_no_state_is_drawn_without_a_way_back():
    cell = derive.parse("h[t] = tanh(W @ h[t-1])\ny[t] = V @ x[t]")
    assert "stroke-dasharray" not in unrolled_figure(derive.differentiate(cell))
    caption = said.unrolled(derive.differentiate(cell)).caption
    assert "no gradient through time" in caption[0]


# ------------------------------------------------------------------------------------------------- what was measured


@pytest.mark.parametrize(
    "text", ["h[t] = W @ h[t-1] + U @ x[t]", "h[t] = tanh(W @ h[t-1] + U @ x[t])\ny[t] = V @ h[t]"]
)
def test_gradients_change_at_the_rate_of_theory(text):
    cell = derive.parse(text)
    out = curves(numeric.Engine(cell, fast=False), derive.differentiate(cell), 0)
    assert np.allclose([c.radius for c in out], [0.8, 1.0, 1.25], rtol=1e-3)
    assert np.allclose([c.factor("h") for c in out], [0.8, 1.0, 1.25], rtol=0.01)
    for c in out:
        assert np.isclose(c.log_singular[-1, 0] - c.log_singular[-2, 0], 13 * c.rate, atol=0.5)


def test_a_fixed_point_that_passes_nothing_on_is_left_for_random_inputs():
    cell = derive.parse("h[t] = relu(W @ h[t-1] + U @ x[t])")
    out = curves(numeric.Engine(cell, fast=False), derive.differentiate(cell), 0)
    assert all(np.isnan(c.rate) for c in out)
    assert norm_figure([replace(c, logs={"h": np.full(60, -np.inf)}) for c in out])


@pytest.mark.parametrize("name", ["tanh_rnn", "gru", "tied weights", "scalars everywhere", "no inputs"])
def test_the_bias_of_truncation_is_the_sum_of_the_dropped_terms(name):
    found = truncation(plain_engine(name), sizes_for(name), 0)
    assert found.apart < 1e-13
    assert found.chunks[-1] == found.windows[-1] == 0
    assert found.drops


class Longer:
    """An engine that carries losses back one step further than it is told."""

    def __init__(self, engine):
        self.engine, self.cell, self.init, self.forward = engine, engine.cell, engine.init, engine.forward

    def value_and_grad(self, *arguments, truncate=None, **options):
        if truncate is not None:
            k1, k2 = truncate if isinstance(truncate, tuple) else (truncate, truncate)
            options["truncate"] = (k1, k2 + 1)
        return self.engine.value_and_grad(*arguments, **options)


def test_a_wrong_truncated_gradient_is_not_what_the_terms_predict(results):
    found = truncation(Longer(plain_engine("tanh_rnn")), sizes_for("tanh_rnn"), 0)
    assert found.apart > 1e-3
    figure = said.truncation(results[0], replace(results[1], truncation=found), 0)
    assert figure.caption[0].startswith("Truncated gradients are not what")


def test_differences_have_the_shape_that_theory_gives(results):
    found = results[1].differences
    h = np.array(found.steps)
    clear = (h > 2e-3) & (h < 0.2)
    assert np.polyfit(np.log(h[clear]), np.log(found.central[clear]), 1)[0] == pytest.approx(2, abs=0.1)
    assert np.polyfit(np.log(h[clear]), np.log(found.richardson[clear]), 1)[0] == pytest.approx(4, abs=0.6)
    assert (found.complex_step[h < 1e-8] < 1e-13).all()
    assert found.central[h < 1e-13].max() > 1e-5


def test_a_wrong_gradient_is_far_from_all_of_them(results):
    found = differences(wrong_engine("tanh_rnn"), sizes_for("tanh_rnn"), 0)
    assert found.complex_step.min() > 1e-4
    figure = said.differences(results[0], replace(results[1], differences=found), 0)
    assert "every digit" not in figure.caption[0]


def test_memory_is_in_proportion_to_the_numbers_that_are_counted(results):
    derivation, measured = results
    points = measured.growth.points
    for p in points:
        assert p.stored == evaluated(derivation.cost.stored, {"T": p.steps, "B": GROWTH_BATCH, **sizes_for("tanh_rnn")})
        assert p.bytes > BYTES * p.stored
    assert 1.6 < points[-1].bytes / points[-2].bytes < 2.4
    assert points[-1].work == 2 * points[-2].work


def test_a_mistake_is_revealed_where_the_oracle_says_so(results):
    found = results[1].revealed
    shows = {(m, c): found.shows[i, k] for i, m in enumerate(found.mistakes) for k, c in enumerate(found.cases)}
    assert shows["time-forward", "one-step"] == 0
    assert shows["time-forward", "two-steps"] == 1
    assert shows["carry-not-transposed", "sizes-of-one"] == 0
    assert shows["carry-not-transposed", "separating"] == 1
    cell = derive.load("tanh_rnn")
    case = case_named(cell, "one-step")
    table = power(cell, [case])
    first = {}
    for label, revealed in zip(table.mistakes, table.reveals[0], strict=True):
        first.setdefault(label.partition(" in ")[0], revealed)
    for name in ("sign", "carry-missing", "weight-transposed", "reduction", "time-forward"):
        assert shows[name, "one-step"] == first[name], name


def test_the_cases_are_those_of_the_oracle():
    cell = derive.load("tanh_rnn")
    known = {case.id: case.digest for case in default_cases(cell)}
    assert set(CASES) <= set(known)
    for name in ("separating", "two-steps"):
        assert case_named(cell, name).digest == known[name]


# ---------------------------------------------------------------------------------------------------- what is said


def test_what_to_conclude_is_said_first_and_follows_the_numbers(results, found):
    derivation, measured = results
    assert found["flow"].caption[0].startswith("The gradient changes by")
    assert found["truncation"].caption[0].startswith("What truncation loses is the sum of the dropped terms")
    assert found["differences"].caption[0].startswith("The complex step has every digit")
    assert found["cost"].caption[0].startswith("Twice the steps cost twice")
    assert found["unrolled"].caption[1] == "here 4 ways lead to "
    faster = tuple(replace(c, rate=c.rate + 0.2) for c in measured.curves)
    other = said.flow(derivation, replace(measured, curves=faster), 0).caption
    assert "not at the rate that theory gives" in other[0]


def test_a_mistake_that_no_case_shows_is_named(results):
    derivation, measured = results
    shows = np.array([[0, 0], [1, 0], [1, 1]])
    study = Revealed(("one", "two"), ("a", "b", "c"), ("A", "B", "C"), shows)
    caption = text_of(said.mistakes(derivation, replace(measured, revealed=study)).caption)
    assert "pass all of these cases" in caption
    assert study.hidden == ("a",)
    assert study.certain == ("c",)
    whole = replace(study, shows=np.ones((3, 2), int))
    caption = text_of(said.mistakes(derivation, replace(measured, revealed=whole)).caption)
    assert caption.startswith("Every one of these cases reveals")


def test_formulas_in_captions_are_complete(found):
    for figure in found.values():
        for part in figure.caption:
            if isinstance(part, Math):
                assert part.latex.count("{") == part.latex.count("}")


def test_labels_are_moved_apart():
    assert np.allclose(spread([0.0, 0.0, 0.99, 1.0], 0.1), [0.0, 0.1, 0.9, 1.0])


def test_a_norm_that_is_zero_or_infinite_leaves_a_gap():
    logs = np.log(np.geomspace(1, 1e-9, 60))
    logs[5], logs[7] = -np.inf, np.nan
    curve = Curve(None, float("nan"), False, {"s_1": logs}, np.array([1, 60]), np.array([[0.0], [-np.inf]]))
    ElementTree.fromstring(norm_figure([curve]))
