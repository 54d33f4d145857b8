"""Laws of the oracle's cases: a right implementation agrees with all of them, every known mistake is revealed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import derive
import numeric
from numeric.oracle import strategies
from numeric.oracle.behaviour import behaviour
from numeric.oracle.criterion import AGREES, DISAGREES, compare, worst
from numeric.oracle.families import FAMILIES, Family, cases, default_cases, families, low_precision_cases
from numeric.oracle.features import FEATURES, SET_FEATURES, features, of_set
from numeric.oracle.judge import Scope, judge
from numeric.oracle.mutants import Run, mutants
from numeric.oracle.power import applicable, hidden, power, unrevealed, untested
from numeric.oracle.probe import probe_of, single
from numeric.oracle.store import Store
from tests.odd_cells import ODD

SHIPPED = derive.cells()

#: Cells that are defined, differentiable or silent in some places only.
DELICATE = {
    name: derive.parse(text, name)
    for name, text in {
        "logarithm of an input": "h[t] = tanh(W @ h[t-1]) + log(x[t])\ny[t] = V @ h[t]",
        "root of a sum": "h[t] = sqrt(W @ h[t-1] + U @ x[t] + b)",
        "divisor": "h[t] = 1/(W @ h[t-1] + V @ x[t])\ny[t] = R @ h[t]",
        "relu without a bias": "h[t] = relu(W @ h[t-1] + V @ x[t])\ny[t] = R @ h[t]",
        "exponentials": "h[t] = exp(W @ h[t-1] + V @ x[t])",
    }.items()
}
SOME_ODD = (
    "several inputs, outputs and states",
    "neither",
    "no parameters",
    "skew matrix, transposed readout, scalar leak",
    "kinks",
    "functions of scalars",
)
OTHERS = {name: ODD[name] for name in SOME_ODD} | DELICATE

STORE = Store(None)


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    monkeypatch.setenv("BPTT_CACHE", "")


@lru_cache
def engine_of(cell, dtype):
    return numeric.Engine(cell, dtype=dtype, fast=False)


def engine(case):
    """The engine as an implementation."""
    more = {"initial": dict(case.initial)}
    if case.cotangents is not None:
        more["cotangents"] = dict(case.cotangents)
    found = engine_of(case.parsed, case.dtype).backward(
        dict(case.params), dict(case.inputs) or None, case.targets, **case.options | more
    )
    grads = found.params | found.inputs | {f"{n}0": x for n, x in found.initial.items()}
    return {"grads": grads, "loss": found.loss, "outputs": found.outputs}


def status(case, result):
    """The worst status of everything in a result."""
    truth = STORE.truth(case)
    flat = result["grads"] | {f"outputs.{n}": x for n, x in result["outputs"].items()} | {"loss": result["loss"]}
    return worst(compare(n, np.asarray(x, np.float64), truth, case).status for n, x in flat.items())


def cell_named(name):
    return OTHERS[name] if name in OTHERS else derive.load(name)


def by_id(cell):
    return {case.id: case for case in default_cases(cell)}


# ------------------------------------------------------------------------------------------- the cases as a whole


@pytest.mark.parametrize("name", [*SHIPPED, *OTHERS])
def test_a_right_implementation_agrees_with_every_default_case(name):
    found = {case.id: status(case, engine(case)) for case in default_cases(cell_named(name))}
    assert {id for id, s in found.items() if s != AGREES} == set()
    assert len(found) > 20


@pytest.mark.parametrize("name", SHIPPED)
def test_every_known_mistake_is_revealed(name):
    assert hidden(derive.load(name), store=STORE) == ()


def test_a_mistake_that_no_case_reveals_is_named():
    cell = derive.load("tanh_rnn")
    found = hidden(cell, [by_id(cell)["one-step"]], store=STORE)
    assert any(label.startswith("carry-missing") for label in found)
    assert found == unrevealed(by_id(cell)["one-step"], store=STORE)
    assert any(
        label.startswith("first-step-lost") for label in unrevealed(by_id(cell)["carried-from-rest"], store=STORE)
    )


def test_exchanged_gates_are_no_mistake_of_a_cell_without_gates():
    cell = derive.load("tanh_rnn")
    exchanged = [m for m in mutants(cell) if m.name == "gates-permuted"]
    assert exchanged and not any(applicable(cell, m) for m in exchanged)
    lstm = derive.load("lstm")
    assert all(applicable(lstm, m) for m in mutants(lstm) if m.name == "gates-permuted")


def test_power_is_a_table_of_cases_and_mistakes():
    cell = derive.load("tanh_rnn")
    chosen = [by_id(cell)[id] for id in ("separating", "one-step", "loss-squared-error")]
    found = power(cell, chosen, store=STORE)
    assert found.cases == ("separating", "one-step", "loss-squared-error")
    assert found.units.shape == (3, len(found.mistakes)) == found.reveals.shape
    counts = found.reveals.sum(axis=1)
    assert counts[1] < counts[0] and counts[1] < counts[2]
    about = next(k for k, label in enumerate(found.mistakes) if "derivative of the square" in label)
    assert np.isnan(found.units[0, about]) and found.reveals[2, about]
    assert str(counts[1]) in str(found) and "revealed by none" in str(found)
    assert set(found.hidden) == set(hidden(cell, chosen, store=STORE))


def test_mistakes_are_judged_wrong_and_not_only_suspect():
    cell = derive.load("gru")
    case = by_id(cell)["sizes-rising"]
    run, truth = Run(case), STORE.truth(case)
    for m in mutants(cell)[::9]:
        found = run.gradient(m)
        if found and applicable(cell, m) and m.label not in unrevealed(case, store=STORE):
            assert worst(compare(n, x, truth, case).status for n, x in found.items()) == DISAGREES, m.label


@pytest.mark.parametrize("name", ["lstm", "no parameters"])
def test_ids_are_unique_and_arrays_are_read_only(name):
    cell = ODD[name] if name in ODD else derive.load(name)
    found = default_cases(cell)
    assert len({case.id for case in found}) == len(found) == len({case.digest for case in found})
    for case in found:
        assert case.family in families() and case.purpose
        assert not any(x.flags.writeable for x in (*case.params.values(), *case.inputs.values()))
        with pytest.raises(FrozenInstanceError):
            case.id = "other"


def test_a_seed_gives_the_same_numbers_and_another_seed_others():
    cell = derive.load("tanh_rnn")
    again = default_cases.__wrapped__(cell)
    assert [c.digest for c in again] == [c.digest for c in default_cases(cell)]
    assert not {c.digest for c in default_cases(cell, 1)} & {c.digest for c in again}


def test_one_type_may_be_asked_for():
    cell = derive.load("tanh_rnn")
    found = default_cases(cell, 0, "float32")
    assert {c.dtype for c in found} == {"float32"} == {c.accumulate for c in found}
    assert {status(c, engine(c)) for c in found} == {AGREES}
    with pytest.raises(ValueError, match="dtype is 'float23'"):
        default_cases(cell, 0, "float23")


# ------------------------------------------------------------------------------------------------------- families


def test_every_family_has_a_purpose_of_its_own():
    assert len({f.purpose for f in FAMILIES}) == len(FAMILIES) and all(
        f.purpose.startswith(("shows", "tells", "lets")) for f in FAMILIES
    )
    with pytest.raises(ValueError, match="lacks a purpose"):
        Family("empty", "", FAMILIES[0].members)


def test_a_family_is_asked_for_by_name():
    cell = derive.load("lstm")
    assert [c.id for c in cases(cell, "separating")] == ["separating"]
    assert cases(cell, "separating")[0].digest == default_cases(cell)[0].digest
    assert [c.id for c in cases(ODD["neither"], "impulse")] == []
    with pytest.raises(ValueError, match="expected one of separating"):
        cases(cell, "seperating")


def test_padding_that_is_no_number_does_not_count():
    (case,) = cases(derive.load("lstm"), "padding")
    assert np.isnan(case.inputs["x"]).any() and status(case, engine(case)) == AGREES


@pytest.mark.parametrize("name", SHIPPED)
def test_networks_do_what_their_case_is_there_for(name):
    found = {id: behaviour(case) for id, case in by_id(derive.load(name)).items()}
    assert 0 < found["long-vanishing"].path < 1e-6 and found["long-expanding"].path > 100
    assert found["saturated"].deepest > 10 and found["loss-large-logits"].logit > 710


@pytest.mark.parametrize("name", SHIPPED)
def test_an_impulse_leaves_single_entries_to_single_steps(name):
    cell = derive.load(name)
    found = by_id(cell)
    inner = [n for n in cell.parameters if n not in ("W_y", "W_hy") and len(cell.parameters[n]) == 2]
    of_inputs = [n for n in inner if cell.parameters[n][1] == cell.axes["x"]]
    recurrent = [n for n in inner if n not in of_inputs]
    assert of_inputs and recurrent and probe_of(cell).deaf
    for id, step in (("impulse-t1", 1), ("impulse-t2", 2), ("impulse-middle", 4)):
        alone = single(found[id])
        assert all((alone[n] == step).all() for n in of_inputs)
        # of the listener's column, what is not shut off by its own gate
        assert all((alone[n][1:, 0] == step + 1).all() for n in recurrent), id
    last = STORE.truth(found["impulse-T"])
    assert all((last.exact.gradients[n].hi == 0).all() for n in recurrent)


def test_a_cell_that_is_never_silent_has_no_probe():
    assert probe_of(derive.parse("h[t] = tanh(W @ h[t-1] + x[t]) + 1")) is None
    assert probe_of(DELICATE["relu without a bias"]) is None
    assert probe_of(ODD["no inputs"]) is None
    negative = derive.parse("h[t] = relu(W @ h[t-1] + V @ x[t] + b)")
    assert probe_of(negative).signs == {"b": -1}


def test_low_precision_is_judged_by_its_own_roundoff():
    pytest.importorskip("ml_dtypes")
    cell = derive.load("gru")
    found = low_precision_cases(cell)
    assert {c.dtype for c in found} == {"bfloat16", "float16"} and {c.accumulate for c in found} == {"float32"}
    for case in found:
        wide = engine(replace(case, dtype="float64"))  # the case's numbers are those of its own type
        stored = {
            n: x.astype(case.params[cell.parameters and next(iter(case.params))].dtype)
            for n, x in wide["grads"].items()
        }
        outputs = {n: x.astype(np.float32) for n, x in wide["outputs"].items()}
        assert status(case, {"grads": stored, "outputs": outputs, "loss": wide["loss"]}) == AGREES
        stored = {n: x * 1.5 for n, x in wide["grads"].items()}
        assert status(case, {"grads": stored, "outputs": outputs, "loss": wide["loss"]}) != AGREES


# ------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("name", SHIPPED)
def test_the_default_cases_leave_nothing_untested(name):
    cell = derive.load(name)
    every = {f.name for f in FEATURES} | {*SET_FEATURES}
    assert of_set(default_cases(cell)) == every
    assert untested(cell, default_cases(cell), Scope()) == ()
    assert set(untested(cell, (), Scope())) == every


def test_what_is_declined_is_untested():
    cell = derive.load("tanh_rnn")

    def whole_only(case):
        if case.lengths is not None or case.truncate is not None or case.B == 1:
            raise NotImplementedError("sequences of one length only")
        return engine(case)

    verdict = judge(whole_only, cell, store=STORE)
    assert verdict.status == AGREES
    assert {"lengths, last step, mean", "a sequence alone", "chunks", "windows"} <= {*verdict.untested}
    assert "several sequences" not in verdict.untested and "not tested" in str(verdict)
    assert judge(engine, cell, store=STORE).untested == ()


def test_of_outputs_alone_only_the_forward_pass_is_untested():
    cell = derive.load("tanh_rnn")
    found = untested(cell, [by_id(cell)["batch-of-one"]], Scope("outputs"))
    assert "several sequences" in found and "chunks" not in found and "squared error" not in found


def test_features_say_what_they_are():
    assert all(f.says for f in FEATURES) and len({f.name for f in FEATURES}) == len(FEATURES)
    assert "a sequence alone" in features(by_id(derive.load("tanh_rnn"))["batch-of-one"])


# ------------------------------------------------------------------------------------------------------ strategies


@settings(max_examples=25)
@given(
    st.data(), st.sampled_from([*SHIPPED, "several inputs, outputs and states", "neither", "root of a sum", "kinks"])
)
def test_drawn_cases_agree_with_a_right_implementation(data, name):
    case = data.draw(strategies.cases(cell_named(name)))
    assert status(case, engine(case)) == AGREES


def test_a_wrong_implementation_shrinks_to_a_small_case():
    seen = []

    @settings(max_examples=60, database=None)
    @given(strategies.cases("tanh_rnn", losses=("squared_error",), truncation=False))
    def carries(case):
        right = engine(case)
        wrong = engine(replace(case, truncate=(1, 1)))
        wrong["outputs"] = right["outputs"]
        seen.append(case)
        assert status(case, wrong) == AGREES

    with pytest.raises(AssertionError):
        carries()
    assert (seen[-1].T, seen[-1].B, {*seen[-1].sizes.values()}) == (1, 1, {1})


def test_strategies_keep_to_their_bounds():
    with pytest.raises(ValueError, match="losses is"):
        strategies.cases("gru", losses=("hinge",))
    with pytest.raises(ValueError, match="at least 1"):
        strategies.cases("gru", most_steps=0)

    @settings(max_examples=20)
    @given(strategies.cases("gru", most_steps=2, most_batch=1, dtypes=("float32",), lengths=False, truncation=False))
    def bounded(case):
        assert case.T <= 2 and case.B == 1 and case.dtype == "float32"
        assert case.lengths is None and case.truncate is None

    bounded()
