"""The catalogue of wrong derivations: every known one is in it, is wrong, and is found by shape."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

import derive
from derive.adjoint import differentiate_step
from derive.losses import LOSSES, MASS, REST, TARGET, Y
from derive.mistakes import (
    CATALOGUE,
    LOOP_MISTAKES,
    LOSS_EDITS,
    MISTAKES,
    STEPS,
    SUM_EDITS,
    applies,
    kinds,
    plant,
    sentence,
)
from derive.mistakes.coincide import Studied, stored, study, study_losses
from derive.mistakes.gates import whole_variant
from derive.mistakes.loop import as_loop, detached
from derive.mistakes.order import gate_groups
from derive.mistakes.run import differs, gradient
from derive.notation import FUNCTIONS, at
from derive.program import cut
from derive.sample import Sample
from derive.step_proofs import uniform
from derive.unrolled_proofs import Unrolled
from derive.zero import is_zero

CELLS = derive.cells()

TABLE = {
    "recurrent-off-by-one": "step loop",
    "first-step-lost": "sum loop",
    "carry-missing": "step",
    "carry-overwrites": "step",
    "carry-not-transposed": "step",
    "carry-before-activation": "step",
    "carry-without-matrix": "step loop",
    "activation-at-preactivation": "step",
    "activation-twice": "step",
    "activation-wrong": "step",
    "activation-previous-state": "step",
    "reduction": "sum loop",
    "loss-sign": "loss",
    "loss-form": "loss",
    "readout": "step",
    "weight-transposed": "step",
    "assign-for-accumulate": "step sum",
    "bias": "step loop",
    "detached-every-k": "loop",
    "clipped-inside": "loop",
    "stale-gradient": "loop",
    "time-forward": "loop",
    "loss-steps": "loop",
    "regulariser-left-in": "sum",
    "dc-carry-missing": "step",
    "forget-skipped": "step",
    "forget-uses-new-cell": "step",
    "gate-derivative": "step",
    "output-gate": "step",
    "dh-partial": "step",
    "gates-permuted": "loop",
    "gates-swapped": "step loop",
    "direct-path": "step",
    "update-sign": "step",
    "candidate-factor": "step",
    "reset-variant": "step loop",
    "reset-path": "step",
}

COUPLED = """
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
g[t] = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
c[t] = (1 - i[t])*c[t-1] + i[t]*g[t]
h[t] = o[t]*tanh(c[t])
y[t] = W_y @ h[t]
"""
LAYERS = """
h[t] = tanh(W_h @ h[t-1] + W_x @ x[t] + b_h)
k[t] = tanh(W_k @ k[t-1] + V @ h[t] + b_k)
y[t] = W_y @ k[t] + b_y
"""
LEAKY = "alpha: scalar\nh[t] = (1 - alpha)*h[t-1] + alpha*relu(W @ h[t-1] + U @ x[t] + b)\ny[t] = V @ h[t]"


@cache
def backward_of(name_or_text):
    cell = derive.load(name_or_text) if name_or_text in CELLS else derive.parse(name_or_text)
    return differentiate_step(cut(cell))


@cache
def planted(name_or_text):
    return tuple(plant(backward_of(name_or_text)))


def counts(name_or_text):
    return Counter(p.mistake for p in planted(name_or_text))


def says(name_or_text, mistake):
    return {(p.where, p.says) for p in planted(name_or_text) if p.mistake == mistake}


def unrolled(name_or_text, steps=2, size=2, batch=1):
    program = backward_of(name_or_text).program
    return Unrolled(program, steps, uniform(program.cell, size), Sample(17), batch)


# ------------------------------------------------------------------------------------------------------ the catalogue


@pytest.mark.parametrize("name", TABLE)
def test_every_known_mistake_is_in_the_catalogue_with_its_kinds(name):
    assert set(kinds(name)) == set(TABLE[name].split())
    assert sentence(name)


def test_the_catalogue_lists_each_name_once_a_kind():
    rows = [(row.name, row.kind) for row in CATALOGUE]
    assert len(rows) == len(set(rows))
    edits = {*((m.name, "step") for m in MISTAKES), *((m.name, "loop") for m in LOOP_MISTAKES)}
    edits |= {*((e.mistake, "loss") for e in LOSS_EDITS), *((e.mistake, "sum") for e in SUM_EDITS)}
    assert set(rows) == edits
    with pytest.raises(KeyError):
        sentence("no-such-mistake")


def test_every_known_mistake_applies_to_a_shipped_cell():
    found = {name: [c for c in CELLS if applies(name, derive.load(c))] for name in {row.name for row in CATALOGUE}}
    assert all(found.values()), found
    assert found["direct-path"] == found["reset-path"] == ["gru", "gru_reset_after"]
    assert found["forget-skipped"] == found["output-gate"] == ["lstm", "lstm_peephole"]
    assert found["gates-permuted"] == ["gru", "gru_reset_after", "lstm", "lstm_peephole"]
    assert found["carry-missing"] == found["loss-form"] == found["reduction"] == list(CELLS)
    assert not applies("loss-sign", derive.parse("h[t] = tanh(W @ h[t-1])"))
    with pytest.raises(KeyError):
        applies("no-such-mistake", derive.load("gru"))


# -------------------------------------------------------------------------------------------- each edit is a mistake


@pytest.mark.parametrize("name", [*CELLS, COUPLED, LAYERS, LEAKY])
def test_every_planted_edit_changes_a_number_and_one_sum_only(name):
    right, whole = backward_of(name), unrolled(name)
    numbers = gradient(whole, right)
    for p in planted(name):
        assert differs(gradient(whole, p.backward), numbers), p
        old = {**right.flows, **right.matrices}
        new = {**p.backward.flows, **p.backward.matrices}
        assert {key for key in old if old[key] != new[key]} == {p.target}, p
        assert len(new) - len(old) == len(p.backward.program.nodes) - len(right.program.nodes) <= 1
        assert p.where == f"d {p.target}"
        assert p.mistake not in p.also


@pytest.mark.parametrize("name", CELLS)
def test_an_edit_is_yielded_once_and_says_what_should_change(name):
    edits = [(p.where, p.says) for p in planted(name)]
    assert len(edits) == len(set(edits))
    assert all(re.search(r"should be|missing|wrong|twice|left", said) for _, said in edits)
    known = {row.name for row in CATALOGUE}
    assert all({p.mistake, *p.also} <= known for p in planted(name))


def test_the_right_program_is_never_planted():
    residual = "h[t] = h[t-1] + tanh(W @ h[t-1])"  # the factor of the direct path is 1 already
    whole, right = unrolled(residual), backward_of(residual)
    assert all(differs(gradient(whole, p.backward), gradient(whole, right)) for p in planted(residual))
    assert "forget-skipped" not in counts(residual)


def test_mistakes_say_what_the_table_says():
    assert ("d h[t-1]", "W_hh should be W_hh.T") in says("tanh_rnn", "carry-not-transposed")
    assert ("d W_hh", "h[t] should be h[t-1]") in says("tanh_rnn", "recurrent-off-by-one")
    assert ("d h[t-1]", "the term with W_hh.T is missing") in says("tanh_rnn", "carry-missing")
    assert ("d a_h[t]", "the factor 1 - h[t]**2 is missing") in says("tanh_rnn", "activation-wrong")
    assert says("tanh_rnn", "activation-previous-state") == {("d a_h[t]", "1 - h[t-1]**2 should be 1 - h[t]**2")}
    assert says("tanh_rnn", "readout") == {
        ("d W_hy", "h[t-1] should be h[t]"),
        ("d W_hy", "the product should be transposed"),
        ("d h[t]", "W_hy should be W_hy.T"),
    }
    assert says("lstm", "forget-skipped") == {
        ("d c[t-1]", "the factor f[t] is missing"),
        ("d c[t-1]", "i[t] should be f[t]"),
    }
    assert says("lstm", "forget-uses-new-cell") == {("d f[t]", "c[t] should be c[t-1]")}
    assert {said for _, said in says("lstm", "output-gate")} == {
        "c[t] should be tanh(c[t])",
        "the factor o[t] is missing",
        "1 - c[t]**2 should be 1 - tanh(c[t])**2",
        "1 - h[t]**2 should be 1 - tanh(c[t])**2",
        "the factor 1 - tanh(c[t])**2 is missing",
    }
    assert {said for _, said in says("gru", "direct-path")} == {
        "the term dh[t]*z[t] is missing",
        "1 - z[t] should be z[t]",
        "the factor z[t] is missing",
    }
    assert ("d r[t]", "da_n[t] should be U_n.T @ da_n[t]") in says("gru", "reset-path")
    assert ("d U_n", "(da_n[t]*r[t]) h[t-1].T should be da_n[t] (h[t-1]*r[t]).T") in says("gru", "reset-variant")
    assert ("d U_n", "da_n[t] (h[t-1]*r[t]).T should be (da_n[t]*r[t]) h[t-1].T") in says(
        "gru_reset_after", "reset-variant"
    )


def test_an_edit_that_several_rows_describe_has_the_most_specific_name():
    also = {(p.mistake, p.where, p.says): p.also for p in planted("lstm")}
    assert also["dc-carry-missing", "d c[t-1]", "the term dc[t]*f[t] is missing"] == ("carry-missing",)
    assert also["forget-uses-new-cell", "d f[t]", "c[t] should be c[t-1]"] == ("state-at-wrong-time",)
    signs = {(p.mistake, p.where): p.also for p in planted("gru") if p.says == "n[t] - h[t-1] should be h[t-1] - n[t]"}
    assert signs == {("update-sign", "d z[t]"): ("sign",)}


# --------------------------------------------------------------------------------------------------- shapes, not names

WORDS = [f"{a}{b}" for a in ("qu", "zo", "pla", "mi", "tro") for b in ("x", "ff", "nk", "lop", "sh", "rv")]


def renamed(text, turn):
    """Every gate and parameter under another name; states, inputs and outputs keep theirs."""
    cell = derive.parse(text)
    own = [*cell.intermediates, *cell.parameters]
    words = WORDS[turn:] + WORDS[:turn]
    other = dict(zip(own, words, strict=False))
    assert len(other) == len(own)
    return re.sub(r"[A-Za-z_]\w*", lambda m: other.get(m[0], m[0]), text)


@pytest.mark.parametrize("turn", [0, 7])
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_after", "lstm_peephole"])
def test_the_names_of_gates_and_parameters_do_not_matter(name, turn):
    text = "\n".join(line for line in derive.load(name).text.split("\n") if not line.startswith("#"))
    assert counts(renamed(text, turn)) == counts(name)


def test_a_coupled_gate_has_the_edits_of_a_mixture_and_of_a_cell():
    found = counts(COUPLED)
    assert {"direct-path", "update-sign", "candidate-factor", "dc-carry-missing", "output-gate"} <= set(found)
    assert "forget-skipped" not in found  # it is there under direct-path, which is the more specific name
    assert says(COUPLED, "direct-path") == {
        ("d c[t-1]", "i[t] should be 1 - i[t]"),
        ("d c[t-1]", "the factor 1 - i[t] is missing"),
    }
    assert ("d i[t]", "c[t-1] - g[t] should be g[t] - c[t-1]") in says(COUPLED, "update-sign")
    assert ("d g[t]", "1 - i[t] should be i[t]") in says(COUPLED, "candidate-factor")


def test_two_layers_have_every_row_twice_and_no_gates():
    found = counts(LAYERS)
    for twice in ("carry-missing", "carry-not-transposed", "activation-previous-state", "carry-overwrites"):
        assert found[twice] == 2, twice
    gates = {"forget-skipped", "gate-derivative", "output-gate", "direct-path", "reset-path", "gates-swapped"}
    assert not gates & set(found)
    assert ("d V", "h[t-1] should be h[t]") in says(LAYERS, "recurrent-off-by-one")
    assert ("d k[t]", "W_y should be W_y.T") in says(LAYERS, "readout")
    assert ("d h[t]", "V should be V.T") in says(LAYERS, "not-transposed")


def test_a_leaky_cell_is_a_mixture_without_a_gate():
    assert ("d h[t-1]", "alpha should be 1 - alpha") in says(LEAKY, "direct-path")
    assert ("d a_h[t]", "1 - alpha should be alpha") in says(LEAKY, "candidate-factor")
    assert ("d alpha", "-h[t-1] should be relu(a_h[t]) - h[t-1]") in says(LEAKY, "update-sign")


# ------------------------------------------------------------------------------------------- losses, sums and loops


@pytest.mark.parametrize("edit", LOSS_EDITS, ids=lambda e: f"{e.loss}: {e.says}".replace(" ", "-"))
def test_every_wrong_derivative_of_a_loss_is_rejected_by_the_losses_own_proof(edit):
    loss = LOSSES[edit.loss]
    softmax = FUNCTIONS["exp"](Y) / (REST + FUNCTIONS["exp"](Y))
    read = {at("p"): softmax, at("y"): Y, at("target"): TARGET}
    derivative = loss.generic.diff(Y).xreplace({MASS: 1})
    first = at("p") if edit.loss == "softmax_cross_entropy" else at("y")
    assert is_zero(derivative - (first - at("target")).xreplace(read))
    assert not is_zero(derivative - edit.wrong.xreplace(read))


def test_both_losses_have_both_mistakes():
    assert {(e.mistake, e.loss) for e in LOSS_EDITS} == {
        (mistake, loss) for mistake in ("loss-sign", "loss-form") for loss in ("softmax_cross_entropy", "squared_error")
    }


@pytest.mark.parametrize("edit", SUM_EDITS, ids=lambda e: f"{e.mistake}: {e.says}".replace(" ", "-"))
def test_every_wrong_sum_is_another_combination_of_the_same_terms(edit):
    whole, right = unrolled("tanh_rnn", steps=3), backward_of("tanh_rnn")
    assert (edit.every.free_symbols | edit.first.free_symbols | edit.last.free_symbols) <= {STEPS}
    wrong, numbers = (gradient(whole, right, loop) for loop in (as_loop(edit), as_loop(edit).right))
    parameters = set(whole.cell.parameters)
    assert {s.name.partition("[")[0] for s in numbers if (wrong[s] - numbers[s]).n} == parameters
    three = edit.every.subs(STEPS, 3)
    assert (three, edit.first, edit.last, edit.weight) != (1, 0, 0, False)


def test_a_mean_over_time_is_a_third_of_a_sum_over_three_steps():
    whole, right = unrolled("tanh_rnn", steps=3), backward_of("tanh_rnn")
    mean = next(as_loop(e) for e in SUM_EDITS if e.mistake == "reduction" and e.every == 1 / STEPS)
    wrong, numbers = gradient(whole, right, mean), gradient(whole, right)
    (entry,) = (s for s in numbers if s.name == "W_hh[1,2]")
    assert (3 * wrong[entry] - numbers[entry]).is_zero


def test_a_carry_cut_at_every_step_is_a_carry_that_is_missing_but_for_the_initial_state():
    whole, right = unrolled("gru", steps=3), backward_of("gru")
    missing = next(p for p in planted("gru") if p.mistake == "carry-missing")
    cut_off, dropped = gradient(whole, right, detached(1)), gradient(whole, missing.backward)
    assert {s.name[:4] for s in cut_off if (cut_off[s] - dropped[s]).n} == {"h[0]"}


def test_the_other_form_of_a_reset_is_right_where_everything_commutes():
    right = backward_of("gru")
    wrong = next(m for m in LOOP_MISTAKES if m.name == "reset-variant")
    assert whole_variant(backward_of("lstm")) is backward_of("lstm")
    for size, is_wrong in ((1, False), (2, True)):
        whole = unrolled("gru", steps=2, size=size)
        assert differs(gradient(whole, right, wrong), gradient(whole, right)) is is_wrong


def test_permuted_gates_have_the_same_numbers_in_other_places():
    right = backward_of("lstm")
    whole, numbers = unrolled("lstm"), gradient(unrolled("lstm"), right)
    assert gate_groups(right.program.cell, right.program)[0] == ("W_i", "U_i", "b_i")
    for loop in (m for m in LOOP_MISTAKES if m.name == "gates-permuted"):
        wrong = gradient(whole, right, loop)
        assert differs(wrong, numbers)
        assert sorted(x.n for x in wrong.values()) == sorted(x.n for x in numbers.values())


# ------------------------------------------------------------------------------- counterexamples and coincidences


@pytest.mark.parametrize("name", ["tanh_rnn", "gru"])
def test_what_is_stored_is_what_is_found(name):
    assert stored(name) == study(derive.load(name))


def test_the_stored_losses_are_what_is_found():
    assert stored("losses") == study_losses()
    assert len(study_losses()) == len(LOSS_EDITS)


@pytest.mark.parametrize("name", CELLS)
def test_every_mistake_of_a_shipped_cell_has_a_counterexample(name):
    found = stored(name)
    steps = [s.label for s in found if s.kind == "step"]
    assert steps == [f"{p.mistake} in {p.where}: {p.says}" for p in planted(name)]
    assert all(s.counterexample.derived != s.counterexample.right for s in found)
    named = {s.mistake for s in (*found, *stored("losses"))} | {other for p in planted(name) for other in p.also}
    assert named == {row.name for row in CATALOGUE if applies(row.name, derive.load(name))}


def test_coincidences_are_mutual_and_known():
    found = {s.label: s for s in stored("lstm")}
    for s in found.values():
        assert all(s.label in found[other].same for other in s.same)
    turned = "sign in d a_g[t]: the sign of dg[t]*(1 - g[t]**2) is wrong"
    assert found[turned].same == ("sign in d g[t]: the sign of dc[t]*i[t] is wrong",)
    stale = next(s for s in found.values() if s.mistake == "stale-gradient")
    assert [other.partition(" in ")[0] for other in stale.same] == ["doubled"]
    assert not any(isinstance(s, Studied) and s.same for s in stored("tanh_rnn") if s.kind == "step")
