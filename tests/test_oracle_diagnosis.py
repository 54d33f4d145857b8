"""What the oracle says of wrong implementations: the right name, both names, a layout, a place; never a wrong name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import derive
from derive.adjoint import differentiate_step
from derive.cell import Cell
from derive.notation import at
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.oracle.case import Case
from numeric.oracle.compose import right_program
from numeric.oracle.diagnose import diagnose
from numeric.oracle.families import default_cases
from numeric.oracle.judge import Scope, judge
from numeric.oracle.mutants import RIGHT, Mutant, Run, mutants
from numeric.oracle.store import Store
from numeric.oracle.verdict import Diagnosis, Verdict
from numeric.tangent import program_of
from tests.benchmarks.oracle_mistakes import Planted, judged_by, score, score_pairs
from tests.implementations import engine

Tensors = dict[str, Any]

OWN = """# own -- a cell that nobody has published
g[t] = sigmoid(A @ u[t] + B @ s[t-1] + k)
m[t] = tanh(C @ u[t] + g[t]*s[t-1])
s[t] = g[t]*s[t-1] + (1 - g[t])*m[t]
"""


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BPTT_CACHE", "")


@cache
def cell_named(name: str) -> Cell:
    return derive.parse(OWN, "own") if name == "own" else derive.load(name)


def drawn(cell: Cell, name: str, T: int, B: int, *, sizes: tuple[int, ...] = (4, 4, 4), **options: Any) -> Case:
    """A case with nothing zero or equal in it."""
    numbers = np.random.default_rng([T, B, len(name)])
    size = dict(zip(cell.dimensions, sizes, strict=False))
    shape = {n: (B, size[cell.axes[n]]) for n in (*cell.states, *cell.outputs)}
    on = (*cell.outputs, *cell.states)[0]
    lead = (B,) if options.get("at") == "last" else (T, B)
    given = {"loss": "squared_error", "targets": numbers.standard_normal((*lead, shape[on][1]))}
    if options.pop("classes", False):
        given = {"loss": "softmax_cross_entropy", "targets": numbers.integers(0, shape[on][1], lead)}
    return Case(
        name, name, "tells mistakes apart", cell.name, cell.text,
        params={n: numbers.uniform(-0.7, 0.7, [size[x] for x in s]) for n, s in cell.parameters.items()},
        inputs={n: numbers.standard_normal((T, B, size[cell.axes[n]])) for n in cell.inputs},
        initial={n: numbers.uniform(-0.5, 0.5, shape[n]) for n in cell.states},
        on=on, **given, **options,
    )  # fmt: skip


@cache
def cases(name: str) -> tuple[Case, ...]:
    cell = cell_named(name)
    return (
        drawn(cell, "separating", 5, 3, classes=True),
        drawn(cell, "sizes", 4, 2, sizes=(3, 4, 5), reduction="mean", at="last"),
        drawn(cell, "one-step", 1, 3),
        drawn(cell, "ragged", 4, 3, lengths=np.array([2, 4, 3]), reduction="mean"),
        drawn(cell, "single", 6, 1, classes=True, at="last"),
    )


@cache
def run_of(case: Case) -> Run:
    return Run(case)


def right(case: Case) -> Tensors:
    """Everything, rightly computed."""
    run = run_of(case)
    return {"grads": dict(run.right), "loss": run.interpreter.local[0], "outputs": dict(run.interpreter.outputs)}


def judged(implementation: Callable[[Case], Any], name: str = "lstm") -> Verdict:
    return judge(implementation, cell_named(name), cases=cases(name), store=Store(None))


def answer_to(gradient: Callable[[Case], Mapping[str, Any]], name: str = "lstm") -> Diagnosis:
    """What is said about gradients; a case for which there are none is one that failed."""
    results = {c.id: {"grads": g} if (g := gradient(c)) else {} for c in cases(name)}
    seen = judged_by(results, cases(name), Store(None))
    return diagnose(cell_named(name), [j for j in seen if j.result is not None], Scope())


def edited(change: Callable[[Case, Tensors], Any]) -> Callable[[Case], Tensors]:
    """The right gradients with something done to them."""

    def gradient(case: Case) -> Tensors:
        grads = dict(run_of(case).right)
        out = change(case, grads)
        return grads if out is None else out

    return gradient


# ------------------------------------------------------------------------------------------------------ known mistakes


@pytest.mark.parametrize(("name", "every"), [("tanh_rnn", 9), ("lstm", 75), ("own", 20)])
def test_each_known_mistake_is_detected_and_called_by_its_name(name: str, every: int) -> None:
    found = score(cell_named(name), cases(name), mutants(cell_named(name))[::every])
    assert (found.undetected, found.wrong, found.unnamed) == ((), (), ())
    assert found.planted == found.detected == found.named >= 4


def test_mistakes_that_give_the_same_numbers_are_all_named() -> None:
    wrong = next(m for m in mutants(cell_named("tanh_rnn")) if m.name == "bias" and m.kind == "step")
    found = answer_to(lambda c: Planted(c).gradient(wrong) or {}, "tanh_rnn")
    assert found.mistake == "bias"
    assert "weight-missing" not in found.alternatives
    halves = [
        m for m in mutants(cell_named("tanh_rnn")) if m.name in ("doubled", "stale-gradient") and m.kind == "loop"
    ]
    stale = answer_to(lambda c: {n: 2 * g for n, g in run_of(c).right.items()}, "tanh_rnn")
    assert halves
    assert {stale.mistake, *stale.alternatives} >= {"doubled"}


def test_a_mistake_in_one_parameter_of_several_names_that_parameter() -> None:
    found = answer_to(edited(lambda c, g: g.update(U_f=g["U_f"] / c.B)))
    assert found.mistake == "reduction"
    assert "U_f only" in found.sentence


def test_the_same_mistake_in_every_gate_is_one_mistake() -> None:
    known = mutants(cell_named("lstm"))
    places = [m for m in known if m.name == "recurrent-off-by-one" and m.kind == "step"]
    assert len(places) == 4

    def gradient(case: Case) -> Tensors:
        out = dict(run_of(case).right)
        for m in places:
            changed = m.where.removeprefix("d ")
            out[changed] = (run_of(case).gradient(m) or out)[changed]
        return out

    assert answer_to(gradient).mistake == "recurrent-off-by-one"


# --------------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize(("name", "count"), [("tanh_rnn", 10), ("lstm", 1)])
def test_two_mistakes_are_both_named_or_none_is(name: str, count: int) -> None:
    found = score_pairs(cell_named(name), cases(name)[:4], count=count)
    assert found.wrong == ()
    assert found.named >= 0.8 * count


# ---------------------------------------------------------------------------------------------------- nothing to name


def with_one(n: int, k: int) -> Any:
    """Ones, but 1.1 in place k where there is one."""
    return np.where(np.arange(n) == k, 1.1, 1.0)


def test_noise_has_no_name() -> None:
    def noisy(case: Case, g: Tensors) -> None:
        numbers = np.random.default_rng(1)
        g.update({n: x * (1 + 1e-3 * numbers.standard_normal(x.shape)) for n, x in g.items()})

    found = answer_to(edited(noisy), "tanh_rnn")
    assert found.mistake is None
    assert not found.convention
    assert found.where == "every gradient is wrong"


def test_a_mistake_that_almost_fits_is_not_named() -> None:
    wrong = next(m for m in mutants(cell_named("tanh_rnn")) if m.name == "recurrent-off-by-one")

    def almost(case: Case) -> Tensors:
        grads = dict(run_of(case).gradient(wrong) or {})
        return grads | {"W_hh": grads["W_hh"] * (1 + 1e-9)} if grads else {}

    assert answer_to(almost, "tanh_rnn").mistake is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c, g: g.update({n: 1.01 * g[n] for n in ("W_z", "U_z", "b_z")}), "the path through the gate z"),
        (lambda c, g: g.update(U_z=g["U_z"] * with_one(len(g["U_z"]), 1)[:, None]), "only row 1 of U_z"),
        (lambda c, g: g.update(U_z=1.2345 * g["U_z"]), "the gradient of U_z is 1.2345 times the right one"),
        (lambda c, g: g.update(x=g["x"] * with_one(c.B, 2)[:, None]), "only sequence b = 2"),
        (lambda c, g: g.update(b_z=g["b_z"] * (1 if c.lengths is None else 1.1)), "only cases with lengths are wrong"),
        (lambda c, g: {n: x for n, x in g.items() if n != "U_z"}, "the gradient of U_z is missing"),
        (lambda c, g: g.update(U_z=g["U_z"] * np.nan), "the gradient of U_z is not finite"),
    ],
)  # fmt: skip
def test_what_nothing_explains_is_located(change: Callable[..., Any], said: str) -> None:
    found = answer_to(edited(change), "gru")
    assert found.mistake is None
    assert any(said in line for line in (found.where, *found.details)), (found.where, found.details)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (at("c"), ("look at dL/dc[t]", "it goes wrong within one step")),
        (at("c", -1), ("look at dL/dc[t-1]", "dL/dx is right from t = 4 on, wrong before: what is carried back")),
    ],
)
def test_an_unknown_mistake_of_the_recursion_is_traced_to_its_place(place: Any, said: tuple[str, ...]) -> None:
    program = right_program(cell_named("lstm"))
    flows = tuple(replace(f, factor=f.factor * 5 / 4) for f in program.flows[place])  # type: ignore[arg-type, union-attr]
    wrong = program.replaced(flows={place: flows})
    found = answer_to(lambda c: run_of(c).swept(wrong, RIGHT, run_of(c).interpreter.local[1]))
    assert found.mistake is None
    assert all(any(s in line for line in (found.where, *found.details)) for s in said), found.details


# --------------------------------------------------------------------------------------------------------- conventions


def stacked(case: Case, g: Tensors) -> Tensors:
    own = {f"w_{p}": np.concatenate([g[f"{p}_{k}"] for k in "iofg"]) for p in "WUb"}
    return own | {n: x for n, x in g.items() if n[2:] not in ("i", "f", "g", "o")}


LAYOUTS: list[tuple[Callable[[Case, Tensors], Any], str]] = [
    (lambda c, g: g.update({n: g[n].T for n, p in c.params.items() if p.ndim == 2}), "transposed, (columns, rows)"),
    (lambda c, g: g.update(x=g["x"].swapaxes(0, 1)), "x batch first"),
    (lambda c, g: g.update({n: g[n].ravel() for n in c.params if g[n].ndim == 2}), "flat, row by row"),
    (stacked, "in the order of ONNX"),
]


@pytest.mark.parametrize(("change", "said"), LAYOUTS)
def test_right_numbers_in_another_layout_are_a_convention(change: Callable[..., Any], said: str) -> None:
    found = answer_to(edited(change))
    assert found.convention.startswith("right, ")
    assert said in found.convention


def test_gates_in_the_order_of_a_framework_are_a_convention() -> None:
    def turned(case: Case, g: Tensors) -> None:
        g.update(
            {f"{p}_{a}": run_of(case).right[f"{p}_{b}"] for p in "WUb" for a, b in zip("ifgo", "iofg", strict=True)}
        )

    found = answer_to(edited(turned))
    assert "the order of ONNX" in found.convention
    assert found.mistake == "gates-permuted"


@pytest.mark.parametrize(
    "change",
    [
        lambda c, g: {f"d{n}": x for n, x in g.items()},
        lambda c, g: g.update(U_f=g["U_i"], U_i=g["U_f"]),
    ],
)
def test_gradients_under_other_names_are_misnamed(change: Callable[..., Any]) -> None:
    found = answer_to(edited(change))
    assert found.mistake == "misnamed"
    assert "U_f under" in found.sentence
    assert not found.convention


# ------------------------------------------------------------------------------------------------- another problem


OTHERS: list[tuple[str, Callable[[Case], Case]]] = [
    ("initial-state-ignored", lambda c: replace(c, initial={n: 0 * s for n, s in c.initial.items()})),
    ("padding-counted", lambda c: replace(c, lengths=None)),
    ("reduction", lambda c: replace(c, reduction="sum")),
    ("parameter-ignored", lambda c: replace(c, params={**c.params, "U_g": 0 * c.params["U_g"]})),
    ("bias-added", lambda c: replace(c, params={**c.params, "b_f": 1 + c.params["b_f"]})),
]


@pytest.mark.parametrize(("name", "other"), OTHERS, ids=[n for n, _ in OTHERS])
def test_another_problem_solved_rightly_is_named(name: str, other: Callable[[Case], Case]) -> None:
    found = judged(lambda case: right(other(case)))
    assert (found.status, found.mistake) == ("disagrees", name)


def test_a_reset_on_the_other_side_of_the_product_is_named() -> None:
    cell = cell_named("gru")
    text = cell.text.replace("U_n @ (r[t]*h[t-1])", "r[t]*(U_n @ h[t-1])")
    assert text != cell.text
    assert judged(lambda case: right(replace(case, text=text)), "gru").mistake == "reset-variant"


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (lambda r: r.update(loss=2 * r["loss"]), "loss-value", "multiplied by 2"),
        (lambda r: r["outputs"].update(y=r["outputs"]["y"] + 1), "outputs-wrong", "y, from t = 1 on"),
    ],
)
def test_wrong_values_beside_right_gradients_are_said(change: Callable[[Tensors], Any], name: str, said: str) -> None:
    def implementation(case: Case) -> Tensors:
        out = right(case)
        change(out)
        return out

    found = judged(implementation)
    assert found.mistake == name
    assert said in found.diagnosis.sentence
    assert "gradients are right" in str(found)


def test_outputs_alone_are_explained_or_located() -> None:
    cell = cell_named("lstm")
    for wrong, mistake in (
        (lambda c: replace(c, initial={n: 0 * s for n, s in c.initial.items()}), "initial-state-ignored"),
        (None, None),
    ):

        def implementation(case: Case, wrong: Any = wrong) -> Tensors:
            out = right(wrong(case) if wrong else case)["outputs"]
            return {"outputs": out if wrong else {n: y * 1.5 for n, y in out.items()}}

        found = judge(implementation, cell, cases=cases("lstm"), scope="outputs", store=Store(None))
        assert found.mistake == mistake
        assert mistake or "the forward pass is wrong already" in str(found)
        assert "gradients" not in found.diagnosis.where


# ----------------------------------------------------------------------------------------------------------- behaviour


def short(case: Case, wrong: Mutant | None = None) -> Tensors:
    """Computed in float32, returned in float64."""
    run = Run(case)
    run.interpreter = Interpreter(program_of(case.parsed), case.problem, FloatArithmetic(np.float32))
    run.tapes = {run.interpreter.program: run.interpreter.tape}
    found = run.gradient(wrong) if wrong else run.interpreter.run(differentiate_step(run.interpreter.program)).gradients
    return {n: np.asarray(g, np.float64) for n, g in (found or {}).items()}


def test_few_bits_are_told_from_a_mistake() -> None:
    found = answer_to(short, "tanh_rnn")
    assert found.mistake == "precision-lost"
    assert "float32" in found.sentence
    wrong = mutants(cell_named("tanh_rnn"))[0]
    assert answer_to(lambda c: short(c, wrong), "tanh_rnn").mistake == f"precision-lost+{wrong.name}"


def test_a_gradient_that_is_clipped_as_a_whole_is_found() -> None:
    def gradient(case: Case) -> Tensors:
        norm = np.sqrt(sum((run_of(case).right[n] ** 2).sum() for n in case.params))
        return {n: g * min(1, 0.25 / norm) if n in case.params else g for n, g in run_of(case).right.items()}

    found = answer_to(gradient, "tanh_rnn")
    assert (found.mistake, "norm 0.25" in found.sentence) == ("clipped", True)


def test_a_gradient_that_is_never_set_to_zero_is_stale() -> None:
    kept: Tensors = {}

    def implementation(case: Case) -> Tensors:
        for n in case.params:
            g = run_of(case_of(case)).right[n]
            kept[n] = kept[n] + g if n in kept and kept[n].shape == g.shape else g
        return {"grads": dict(kept)}

    assert judged(implementation).mistake == "stale-gradient"


def case_of(copy: Case) -> Case:
    """The case of which an implementation has got a copy."""
    return next(c for c in cases("lstm") if c.id == copy.id)


def test_states_kept_between_calls_are_found() -> None:
    kept: dict[str, Any] = {}

    def implementation(case: Case) -> Tensors:
        out = right(replace(case, initial=kept.pop(case.id, case.initial)))
        kept[case.id] = {n: np.array(out["outputs"][n][-1]) for n in case.initial}
        return {"grads": out["grads"]}

    found = judged(implementation)
    assert found.mistake == "state-between-calls"
    assert "initial states of the next" in found.diagnosis.sentence


def test_a_result_that_depends_on_other_cases_is_found() -> None:
    seen: list[str] = []

    def implementation(case: Case) -> Tensors:
        other = bool(seen) and case.id in seen and seen[-1] != case.id
        seen.append(case.id)
        return {"grads": {n: g * (1.5 if other else 1) for n, g in run_of(case_of(case)).right.items()}}

    assert judged(implementation).mistake == "state-between-calls"


def test_results_that_differ_at_random_are_not_diagnosed_further() -> None:
    numbers = np.random.default_rng(0)

    def implementation(case: Case) -> Tensors:
        return {"grads": {n: g * (1 + numbers.uniform()) for n, g in run_of(case_of(case)).right.items()}}

    assert judged(implementation).mistake == "not-deterministic"


def test_arguments_that_are_written_to_are_named_beside_the_mistake() -> None:
    def implementation(case: Case) -> Tensors:
        grads = dict(run_of(case_of(case)).right)
        weight: Any = case.params["W_i"]
        weight.flags.writeable = True
        weight *= 2
        return {"grads": grads | {"U_f": 2 * grads["U_f"]}}

    found = judged(implementation)
    assert found.mistake == "modifies-inputs+doubled"
    assert "params['W_i']" in found.diagnosis.sentence


@pytest.mark.parametrize(
    ("weights", "said"),
    [(lambda n: [1] + [0] * (n - 1), "only the first counts"), (lambda n: [1] * (n - 1) + [0], "the last is left out")],
)
def test_a_sequence_that_is_left_out_is_found(weights: Callable[[int], list[int]], said: str) -> None:
    def gradient(case: Case) -> Tensors:
        run, program = run_of(case), right_program(case.parsed)
        w = np.array(weights(case.B), float)[:, None]
        d = [{s: x * w for s, x in here.items()} for here in run.interpreter.run(program).d]
        found = run.interpreter.gradients(program, run.interpreter.tape, d, 0)
        return run.right | {n: found[n] for n in case.params}

    found = answer_to(gradient)
    assert found.mistake == "one-sequence"
    assert said in found.sentence


def test_a_right_result_rounded_to_float32_is_told():
    def rounded(case):
        found = engine(case, fast=False)
        return {"grads": {n: np.float32(g) for n, g in found["grads"].items()}}

    verdict = judge(rounded, "tanh_rnn")
    assert (verdict.status, verdict.mistake) == ("disagrees", "precision-lost")


def test_it_is_said_from_which_step_on_a_mistake_shows():
    (planted,) = (m for m in mutants(derive.load("tanh_rnn")) if m.name == "first-step-lost" and m.kind == "sum")
    case = default_cases(derive.load("tanh_rnn"))[0]
    assert Run(case).first_step(planted) == 1
    (last,) = (m for m in mutants(derive.load("tanh_rnn")) if m.name == "last-step-lost" and m.kind == "sum")
    assert Run(case).first_step(last) == case.T

    def off_by_one(one):
        m = next(m for m in mutants(derive.load("tanh_rnn")) if m.name == "recurrent-off-by-one")
        return {"grads": Run(one).gradient(m)}

    assert "first visible at t = 1 (recurrent-off-by-one)" in str(judge(off_by_one, "tanh_rnn", cases=[case]))


def test_errors_of_one_sign_are_no_rounding():
    def larger(case):
        grads = engine(case, fast=False)["grads"]
        return {"grads": {n: g * (1 + 1e-6 * np.linspace(1, 2, g.size).reshape(g.shape)) for n, g in grads.items()}}

    verdict = judge(larger, "tanh_rnn", cases=default_cases(derive.load("tanh_rnn"))[:2])
    assert (verdict.status, verdict.mistake) == ("disagrees", None)
