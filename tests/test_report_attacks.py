"""Reports of cells that nobody expected: they end in a page, and what it says is true of the numbers beside it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import derive
import numeric
from derive.mistakes import plant
from reports.build import assemble
from reports.document import Figure, Math, Paragraph
from reports.figures import spectrum_figure
from reports.mathml import inline
from reports.measure import Curve, Measured, measure, sizes_of
from reports.measure.cost import growth
from reports.measure.differences import differences
from reports.parts import pictures as said
from tests.test_report import stub_proof


def plain(parts):
    return "".join(x if isinstance(x, str) else x.latex if isinstance(x, Math) else "~" for x in parts)


def differentiated(text):
    return derive.differentiate(derive.parse(text))


def measured_alone(derivation, **found):
    return Measured({}, None, (), **found)


def curve(logs, lags=(1, 59)):
    return Curve(None, float("nan"), False, logs, np.array(lags), np.zeros((len(lags), 12)))


# -------------------------------------------------------------------------------------------------- it ends in a page


@pytest.mark.parametrize("name", ["h1", "the_hidden_state", "s", "delta_2"])
def test_a_state_of_any_name_has_its_spectrum(name):
    """A name with digits has a subscript already, and a second one is no formula."""
    derivation = differentiated(f"{name}[t] = tanh(W @ {name}[t-1])")
    curves = (curve({name: np.zeros(60)}),)
    assert "<svg" in spectrum_figure(curves)
    figure = said.spectrum(derivation, Measured({}, None, curves), 0)
    assert all("<math" in inline(part.latex) for part in figure.caption if isinstance(part, Math))
    assert "all states" not in plain(figure.caption)
    assert ("written s for its length" in plain(figure.caption)) is (name == "the_hidden_state")


def test_several_states_are_side_by_side():
    found = Measured({}, None, (curve({"h": np.zeros(60), "c": np.zeros(60)}),))
    assert "all states side by side" in plain(said.spectrum(differentiated("h[t] = x[t]*h[t-1]"), found, 0).caption)


def test_a_gradient_whose_square_is_too_large_is_a_number():
    derivation = differentiated("h[t] = 4*h[t-1]*(1 - h[t-1])\ny[t] = h[t]")
    engine = numeric.Engine(derivation.cell, fast=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = differences(engine, sizes_of(tuple(derivation.cell.dimensions)), 0)
    assert found.complex_step[5] < 1e-12


@pytest.mark.parametrize(("text", "value"), [("relu(b - b)", 0.0), ("relu(0)", 0.0), ("relu(2)", 2.0), ("relu(-2)", 0)])
def test_relu_of_a_number_is_one_at_its_kink_too(text, value):
    engine = numeric.Engine(derive.parse(f"h[t] = {text} + W @ h[t-1] + b"))
    params = {"b": np.zeros(2), "W": np.eye(2)}
    assert (engine.forward(params, steps=1, batch=1)["h"] == value).all()


@pytest.mark.parametrize(
    ("mistake", "words"),
    [("carry-missing", "the engine's gradients are wrong"), ("not-transposed", "the engine cannot compute")],
)
def test_a_wrong_engine_ends_in_a_report_that_says_so(monkeypatch, mistake, words):
    """Whatever else such an engine would do to the figures: nothing is drawn from it."""
    derivation, right = derive.differentiate(derive.load("tanh_rnn")), numeric.Engine
    wrong = next(p.backward for p in plant(derivation.backward) if p.mistake == mistake)
    monkeypatch.setattr(numeric, "Engine", lambda cell, *rest, **more: right(cell, *rest, backward=wrong, **more))
    measured = measure(derivation, 0)
    document = assemble(derivation, stub_proof(derivation), measured, 0)
    assert document.verdict.verdict == "fails"
    notes = [plain(b.parts) for b in document.blocks() if isinstance(b, Paragraph) and b.role == "note"]
    assert sum(words in note for note in notes) >= 5
    assert {b.stem for b in document.blocks() if isinstance(b, Figure)} == {"unrolled-graph"}


def test_a_cell_that_is_not_finite_says_why_of_each_figure():
    derivation = differentiated("h[t] = exp(exp(exp(9 + h[t-1]**2 + x[t]**2)))")
    measured = measure(derivation, 0)
    found = [said.flow, said.spectrum, said.truncation, said.differences, said.growth]
    assert all("not finite" in plain(make(derivation, measured, 0).parts) for make in found)


# ---------------------------------------------------------------------------------------------- what it says is true


def test_only_a_cell_with_inputs_has_random_ones():
    logs = {"h": np.linspace(0, -9, 60)}
    for text, words in (("W @ h[t-1]", "From random initial states"), ("W @ h[t-1] + x[t]", "Under random inputs")):
        figure = said.flow(differentiated(f"h[t] = tanh({text})"), Measured({}, None, (curve(logs),)), 0)
        assert plain(figure.caption).startswith(f"{words}, where theory knows no rate, the gradient vanishes.")
        assert plain(figure.caption).count("andom inputs") == 2 * ("x[t]" in text)


@pytest.mark.parametrize(
    ("text", "never"), [("h[t-1] + x[t]", False), ("W @ h[t-1] + b", True), ("tanh(W @ h[t-1] + x[t])", True)]
)
def test_differences_have_every_digit_where_nothing_bends(text, never):
    derivation = differentiated(f"h[t] = {text}")
    engine = numeric.Engine(derivation.cell, fast=False)
    study = differences(engine, sizes_of(tuple(derivation.cell.dimensions)), 0)
    words = plain(said.differences(derivation, measured_alone(derivation, differences=study), 0).caption)
    assert ("differences never do" in words) is ("Too large a step truncates" in words) is never


@pytest.mark.parametrize("text", ["h[t] = h[t-1] + x[t]", "h[t] = tanh(W @ h[t-1] + x[t])"])
def test_memory_grows_only_where_something_is_kept(text):
    derivation = differentiated(text)
    study = growth(derivation, sizes_of(tuple(derivation.cell.dimensions)), 0)
    figure = said.growth(derivation, measured_alone(derivation, growth=study), 0)
    assert ("twice the memory" in plain(figure.caption)) is ("W" in text)
    assert not any(np.isnan(x.value) for x in figure.caption if hasattr(x, "spread"))


def test_only_a_recurrent_matrix_adds_up():
    for text, words in (("h[t-1] + x[t]", False), ("W @ h[t-1]", True)):
        caption = plain(said.unrolled(differentiated(f"h[t] = {text}")).caption)
        assert ("recurrent matrix" in caption) is words


def test_from_where_on_a_gradient_is_zero():
    derivation = differentiated("d[t] = x[t]\ny[t] = d[t-1]")
    logs = {"d": np.array([1.0] + [-np.inf] * 59)}
    later = logs | {"c": np.array([-np.inf, -np.inf, 1.0] + [-np.inf] * 57)}
    found = Measured({}, object(), (curve(later),))
    assert "from 3 steps back on" in plain(said.flow(derivation, found, 0).parts)
    assert "from one step back on" in plain(said.flow(derivation, Measured({}, object(), (curve(logs),)), 0).parts)


@pytest.mark.parametrize(
    ("log", "fate"),
    [
        (lambda k: 0 * k, "keeps its size"),
        (lambda k: np.log(1 + k), "grows slowly"),
        (lambda k: -np.log(1 + k), "shrinks slowly"),
        (lambda k: -0.2 * k, "vanishes"),
        (lambda k: 0.2 * k, "explodes"),
    ],
)
def test_what_grows_with_the_lag_does_not_keep_its_size(log, fate):
    found = Measured({}, None, (curve({"h": log(np.arange(60.0))}),))
    assert f"the gradient {fate}. " in plain(said.flow(differentiated("h[t] = h[t-1] + x[t]"), found, 0).caption)
