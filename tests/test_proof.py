"""A proof is worth what it rejects: every shipped cell is proven, and every defect that is planted is seen."""

from __future__ import annotations

import dataclasses

import pytest

import derive
from derive.adjoint import Adjoint
from derive.lemmas import assigned, check_rule, overwritten, recursion, step_of_induction
from derive.losses import LOSSES
from derive.mistakes import LOOP_MISTAKES, MISTAKES, plant
from derive.mistakes.loop import detached
from derive.mistakes.run import LastLoss, differs, gradient
from derive.sample import Sample
from derive.score import score
from derive.step_proofs import StepAtSize, StepForEverySize, uniform
from derive.unrolled_proofs import Unrolled
from derive.words import leaves_of
from derive.zero import Budget

CELLS = derive.cells()


def derivation_of(name_or_text):
    cell = derive.load(name_or_text) if name_or_text in CELLS else derive.parse(name_or_text)
    return derive.differentiate(cell)


def with_backward(derivation, backward):
    return dataclasses.replace(derivation, backward=backward)


def test_a_wrong_derivation_is_refuted_with_a_point_where_the_numbers_differ():
    right = derivation_of("tanh_rnn")
    for wrong in plant(right.backward):
        if wrong.mistake in ("carry-before-activation", "recurrent-off-by-one", "activation-wrong"):
            proof = derive.prove(with_backward(right, wrong.backward))
            assert proof.refuted, wrong
            assert not proof.holds
            failed = [o for o in proof.obligations if o.holds is False]
            assert any(o.name.startswith("P3") for o in failed)
            details = [o.detail for o in failed if o.name.startswith("P2")]
            assert details
            assert all(" at " in d and "derived" in d and "right" in d for d in details)


def test_diagonals_that_commute_are_the_weakness_that_is_planted():
    derivation = derivation_of("lstm")
    sound = StepForEverySize(derivation.program)
    weak = StepForEverySize(derivation.program, tag=lambda symbol, slot: symbol)
    planted = list(plant(derivation.backward))
    assert all(sound.rejects(p.backward) for p in planted)
    missed = {p.mistake for p in planted if not weak.rejects(p.backward)}
    assert missed == {"activation-commuted"}


def test_a_check_that_misses_a_mistake_is_scored_as_one_that_does():
    derivation = derivation_of("gru")
    weak = StepForEverySize(derivation.program, tag=lambda symbol, slot: symbol)
    found = score(derivation.backward, weak, None)
    commuted = [p for p in plant(derivation.backward) if not weak.rejects(p.backward)]
    assert {p.mistake for p in commuted} == {"activation-commuted", "reset-variant"}
    assert len(found.missed) == len(commuted)
    assert found.planted - found.caught == len(commuted)
    assert found.by_check["P2"] == (0, 0)


def test_the_step_proof_sees_the_readout():
    derivation = derivation_of("lstm")
    step = StepAtSize(derivation.program, 2, Budget())
    flows = {s: f for s, f in derivation.backward.flows.items() if s.name == "h[t]"}
    (lost,) = flows
    wrong = derivation.backward.replaced(
        flows={lost: tuple(f for f in flows[lost] if not (isinstance(f, Adjoint) and f.matrix == "W_y"))}
    )
    assert step.rejects(wrong)
    assert not step.rejects(derivation.backward)


@pytest.mark.parametrize(
    "loop", [m for m in LOOP_MISTAKES if not m.ordered], ids=lambda m: f"{m.name}: {m.says}".replace(" ", "-")
)
def test_each_wrong_loop_is_seen_where_it_shows(loop):
    derivation = derivation_of("lstm" if loop.name in ("gates-swapped", "gates-permuted") else "gru")
    kind = LastLoss if loop.at == "every" else Unrolled
    whole = Unrolled(derivation.program, 5, uniform(derivation.cell, 2), Sample(5), batch=2)
    truth = kind(derivation.program, 5, uniform(derivation.cell, 2), Sample(5), batch=2).truth
    assert differs(gradient(whole, derivation.backward, loop), truth)
    assert not differs(gradient(whole, derivation.backward, loop.right), truth)
    assert not whole.rejects(derivation.backward)
    assert whole.rejects(derivation.backward, mean=True)


def test_a_period_beyond_the_sequence_does_not_show():
    derivation = derivation_of("tanh_rnn")
    whole = Unrolled(derivation.program, 4, uniform(derivation.cell, 2), Sample(5))
    assert not whole.rejects(derivation.backward, detached(4))
    assert whole.rejects(derivation.backward, detached(3))


def test_the_induction_rejects_wrong_recursions():
    assert step_of_induction(recursion)
    assert not step_of_induction(overwritten)
    assert not step_of_induction(assigned)


def test_jacobians_in_the_wrong_order_and_wrong_dropped_terms_are_rejected():
    derivation = derivation_of("lstm")
    whole = Unrolled.exact(derivation.program, 2, uniform(derivation.cell, 2), Budget())
    assert whole.check_jacobian_product()[0] is True
    assert whole.check_jacobian_product(order=-1)[0] is False
    assert whole.check_truncation(derivation.backward, 1)[0] is True
    assert whole.check_truncation(derivation.backward, 1, lambda steps, k: ())[0] is False


def test_a_budget_that_is_exceeded_is_never_a_pass():
    chain = ["z0[t] = x[t] + h[t-1]", *(f"z{i}[t] = sin(z{i - 1}[t])*(1 - z{i - 1}[t])" for i in range(1, 13))]
    proof = derive.prove(derivation_of("\n".join([*chain, "h[t] = tanh(z12[t])"])))
    assert not proof.refuted
    for o in proof.obligations:
        assert o.holds is not False
        assert o.holds or "not done" in o.detail
    if any(o.holds is None and o.needed for o in proof.obligations):
        assert not proof.holds


def test_every_mistake_has_a_sentence_and_a_name_of_its_own():
    for known in ([m.name for m in MISTAKES], [(m.name, m.says) for m in LOOP_MISTAKES]):
        assert len(known) == len(set(known))
    assert all(m.sentence for m in (*MISTAKES, *LOOP_MISTAKES))


def test_hypotheses_come_from_the_text_and_are_printed():
    proof = derive.prove(derivation_of("h[t] = h[t-1]*x[t]/x[t] + relu(h[t-1]) + exp(log(x[t]))"))
    assert {(str(h.expression), h.relation) for h in proof.hypotheses} == {
        ("x[t]", "!= 0"),
        ("h[t-1]", "!= 0"),
        ("x[t]", "> 0"),
    }
    assert "hypothesis" in str(proof)
    assert "trusted" in str(proof)


ODD = {
    "tied weights": "h[t] = tanh(W @ h[t-1] + W.T @ x[t])\ny[t] = W.T @ h[t]",
    "antisymmetric": "h[t] = h[t-1] + tanh((V - V.T) @ h[t-1] + x[t])",
    "two sizes": "h[t] = tanh(U @ c[t-1] + x[t])\nc[t] = tanh(V @ h[t-1])\ny[t] = h[t] + x[t]\nz[t] = R @ c[t-1]",
    "narrow product": "U: (H, K)\nh[t] = tanh(U @ (U.T @ h[t-1]) + x[t])",
    "scaled rows": "h[t] = tanh((r[t]*V) @ h[t-1] + (r[t]*V).T @ x[t])\nr[t] = sigmoid(W @ x[t])",
    "scalars": "alpha: scalar\nbeta: scalar\nh[t] = alpha*h[t-1] + sin(alpha*beta)*tanh(x[t] + beta) + alpha",
    "delay line": "h[t] = tanh(W @ d[t-1] + h[t-1])\nd[t] = x[t]",
    "cancelling": "h[t] = tanh(h[t-1] + 0*(U @ h[t-1]) + W @ x[t] - W @ x[t])",
    "no inputs": "h[t] = tanh(W @ h[t-1] + b)",
    "kinks": "h[t] = relu(W @ h[t-1] + x[t]) - abs(h[t-1])",
    "divisions": "h[t] = h[t-1]/(2 + sin(x[t])) + (1 + x[t]**2)**-2 + log(2 + tanh(h[t-1])) + sqrt(1 + x[t]**2)",
    "all functions": "h[t] = erf(softplus(softsign(cos(exp(tanh(W @ h[t-1]) - 2) + sigmoid(x[t])))))",
    "polynomial": "h[t] = (h[t-1] + x[t])**3",
    "awkward names": "S[t] = tanh(I @ S[t-1] + E[t])\nN[t] = lambda_ @ S[t]\na_S[t] = S[t]*Q\ndS[t] = a_S[t]",
    "shared argument": "i[t] = sigmoid(W @ h[t-1] + x[t])\nh[t] = i[t]*tanh(W @ h[t-1] + x[t])",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_cells_are_proven(text):
    proof = derive.prove(derivation_of(text))
    assert proof.holds, str(proof)
    for step in proof.derivation.steps:
        assert step.latex.count("{") == step.latex.count("}")
        assert step.latex.count(r"\left") == step.latex.count(r"\right")


def test_a_parameter_that_cancels_has_a_zero_gradient_and_not_a_missing_one():
    derivation = derivation_of(ODD["cancelling"])
    steps = {str(s.equation.lhs): s.equation.rhs for s in derivation.steps if s.obligation.startswith("P3/")}
    assert (steps["dU"], steps["dW"]) == (0, 0)
    assert leaves_of(derivation.program)[:2] == ("U", "W")


def test_a_wrong_derivative_rule_is_seen(monkeypatch):
    assert check_rule("tanh") == (True, "")
    wrong = dataclasses.replace(derive.FUNCTIONS["tanh"], closed=lambda x, y: 1 + y**2)
    monkeypatch.setitem(derive.FUNCTIONS, "tanh", wrong)
    holds, detail = check_rule("tanh")
    assert holds is False
    assert "tanh'" in detail


@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_closed_form_of_a_loss_is_seen(name):
    loss = LOSSES[name]
    assert loss.holds_for_every_size()
    assert loss.holds_at(2)
    assert not dataclasses.replace(loss, generic_gradient=-loss.generic_gradient).holds_for_every_size()
    doubled = dataclasses.replace(loss, gradient=lambda y, target: [2 * g for g in loss.gradient(y, target)])
    assert not doubled.holds_at(2)
