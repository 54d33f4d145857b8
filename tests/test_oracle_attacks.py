"""What a hostile user hands to the oracle: whatever comes back, there is a verdict, and its words are true."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import replace
from enum import Enum

import numpy as np
import pytest

import derive
from numeric.oracle import Case, check_implementation, default_cases, find_case, judge
from numeric.oracle.calling import Outcome
from numeric.oracle.criterion import truth_of
from numeric.oracle.result import array_of
from numeric.oracle.result_data import outcome_text
from numeric.oracle.store import Store
from tests.implementations import engine

CELL = derive.load("tanh_rnn")
FEW = default_cases(CELL)[:2]
STORE = Store(folder=None)


def judged(implementation, cases=FEW, **options):
    return judge(implementation, cases[0].parsed, cases=cases, store=STORE, **options)


def returning(change):
    def implementation(case):
        result = engine(case)
        return change(result) or result

    return implementation


# -------------------------------------------------------------------------------------------------------------- raising


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class OwnError(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), GeneratorExit(), OwnError("mine"), SilentError(), SystemExit(3)]
)
def test_whatever_is_raised_within_a_time_limit_is_said_at_once(error):
    def implementation(case):
        raise error

    verdict = judged(implementation)
    assert verdict.status == "error"
    assert all(f.message.startswith(f"raised {type(error).__name__}") for f in verdict.findings)


def test_a_long_message_is_cut():
    def implementation(case):
        raise ValueError("x" * 1_000_000)

    verdict = judged(implementation)
    assert len(str(verdict)) < 10_000
    assert "(1000000 characters)" in str(verdict)


def test_a_reason_that_cannot_be_read_still_declines():
    def implementation(case):
        raise NotImplementedError(SilentError())

    assert [reason for _, reason in judged(implementation).declined] == ["(its message cannot be read)"] * 2


def test_a_case_that_is_taken_apart_is_a_case_that_was_modified():
    def implementation(case):
        result = engine(case)
        case.__dict__["params"] = None
        object.__setattr__(case, "inputs", {})
        return result

    verdict = judged(implementation)
    assert verdict.status == "error"
    assert {f.tensor for f in verdict.findings} >= {"params['W_hh']", "inputs['x']"}


# ------------------------------------------------------------------------------------------------------------ returning


class EvilShape:
    @property
    def shape(self):
        raise RuntimeError("no shape")


class Texts:
    shape = ("a", 3)


class Endless:
    def __len__(self):
        return 10**9

    def __getitem__(self, i):
        return 1.0


class Exits:
    shape = (4, 4)

    def __array__(self, *args, **options):
        raise SystemExit(3)


class Unreadable(dict):
    def items(self):
        raise RuntimeError("no items")


class Key:
    def __str__(self):
        raise RuntimeError("no words")


OBJECTS = [EvilShape(), Texts(), Endless(), [Endless()] * 4, range(10**9), Exits(), (i for i in range(3)), "text", {}]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_any_object_in_place_of_an_array_is_a_fault_at_once(value):
    begun = time.perf_counter()
    verdict = judged(returning(lambda r: r["grads"].update(W_hh=value)), FEW[:1])
    assert verdict.status == "error"
    assert verdict.findings[0].message.startswith("the gradient of W_hh ")
    assert time.perf_counter() - begun < 5
    assert "unreadable" in outcome_text(Outcome("returned", {"grads": {"W_hh": value}}), {}, 10_000)


@pytest.mark.parametrize(
    "change",
    [
        Unreadable,
        lambda r: {"grads": Unreadable(r["grads"])},
        lambda r: {**r, Key(): 1},
        lambda r: {"grads": {**r["grads"], Key(): 1}},
    ],
)
def test_a_mapping_that_cannot_be_read_is_a_fault(change):
    verdict = judged(returning(change))
    assert verdict.status == "error"
    assert "that cannot be read: RuntimeError" in str(verdict)
    said = outcome_text(Outcome("returned", change(engine(FEW[0]))), {}, 10_000)
    assert "that cannot be read: RuntimeError" in said


def test_names_may_be_of_an_enumeration():
    Name = Enum("Name", {n: n for n in CELL.parameters}, type=str)
    assert judged(returning(lambda r: {"grads": {Name(n): r["grads"][n] for n in CELL.parameters}}))


def test_many_unknown_names_are_counted_and_not_listed():
    verdict = judged(returning(lambda r: r["grads"].update({f"k{i}": 1 for i in range(5000)})))
    assert verdict
    assert len(verdict.notes) < 50
    assert any(note == "4980 more names are not known and ignored" for note in verdict.notes)


def test_lists_of_the_right_length_are_arrays():
    assert array_of([[1, 2], [3, 4]], 4).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="more than 3 numbers"):
        array_of([[1, 2], [3, 4]], 3)


# ---------------------------------------------------------------------------------------------------------------- words


def test_what_is_not_finite_is_no_multiple_of_what_is_right():
    text = str(judged(returning(lambda r: r["grads"].update(W_hh=np.full_like(r["grads"]["W_hh"], np.nan)))))
    assert "not finite" in text
    assert "multiple" not in text


def test_cases_that_are_wrong_are_counted_in_words():
    def implementation(case):
        result = engine(case)
        if case.id in wrong:
            result["grads"]["b"] = result["grads"]["b"] * np.linspace(1.1, 2.1, case.sizes["H"])
        return result

    every = tuple(c for c in default_cases(CELL) if c.T < 9)
    wrong = ["sizes-falling"]
    assert "1 of 4 cases is wrong: sizes-falling" in str(judged(implementation, every[:4]))
    wrong = [c.id for c in every if c.B == 3 and c.family != "ragged"]
    assert f" and {len(wrong) - 6} more" in str(judged(implementation, every))


# ------------------------------------------------------------------------------------------------- cases without answer


def own_case(id="mine", text="h[t] = relu(W @ h[t-1] + V @ x[t])", x=0.0, T=3, **more):
    params = {n: np.ones((2, 2)) for n in ("W", "V")}
    inputs, initial = {"x": np.full((T, 1, 2), x)}, {"h": np.zeros((1, 2))}
    given = {"loss": "linear", "cotangents": {"h": np.ones((T, 1, 2))}} | more
    return Case(id, "own", "a case of a user's", "own", text, params, inputs, initial, **given)


def test_a_case_at_a_kink_is_undecidable_and_the_others_are_judged():
    verdict = judged(engine, (own_case("kink"), own_case("smooth", x=1.0)))
    assert verdict.status == "undecidable"
    assert verdict.tensors > 0
    assert [f.case for f in verdict.findings] == ["kink"]
    assert "give a case with other numbers" in str(verdict)

    def wrong(case):
        result = engine(case)
        result["grads"]["W"] = result["grads"]["W"] * 2
        return result

    assert judged(wrong, (own_case("kink"), own_case("smooth", x=1.0))).status == "disagrees"


def test_numbers_beyond_every_exponent_are_undecidable():
    verdict = judged(engine, (own_case(text="h[t] = (V @ x[t] + W @ h[t-1])**64", x=1e300, T=12),))
    assert verdict.status == "undecidable"
    assert "numbers that overflow" in str(verdict)


def test_a_tensor_that_cannot_be_judged_says_why():
    verdict = judged(engine, (own_case(x=1.0, cotangents={"h": np.full((3, 1, 2), 1e-312)}),))
    assert verdict.status == "undecidable"
    assert all("too small for float64" in f.message and f.units is None for f in verdict.findings)


def test_a_verdict_says_how_to_find_its_case():
    def wrong(case):
        return {"grads": {n: 3 * g for n, g in engine(case)["grads"].items()}}

    assert judged(wrong, (own_case(x=1.0),)).reproduce == "the case mine that was given"
    assert judged(wrong).reproduce.startswith('numeric.oracle.find_case("tanh_rnn", "')
    case = default_cases(CELL, dtype="float32")[0]
    assert judged(wrong, (case,)).reproduce == 'numeric.oracle.find_case("tanh_rnn", "separating", dtype="float32")'
    assert find_case("tanh_rnn", "separating", dtype="float32") is case


def test_a_cell_of_sums_alone_is_judged():
    cell = derive.parse("h[t] = h[t-1] + x[t]", "sums")
    assert judge(engine, cell, store=STORE)


# -------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cases": "abc"}, "cases hold a str"),
        ({"cases": [1]}, "cases hold a int"),
        ({"only": "W_hh"}, "expected a list of names"),
        ({"time_limit": "5"}, "positive number of seconds"),
        ({"time_limit": -1}, "positive number of seconds"),
        ({"time_limit": float("nan")}, "positive number of seconds"),
    ],
)
def test_options_of_other_types_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        judge(engine, CELL, **{"cases": FEW, **options})


def test_any_long_time_may_be_given_and_one_case_alone():
    for limit in (1e12, float("inf"), None):
        assert judge(engine, CELL, cases=FEW[0], time_limit=limit, store=STORE)


def test_a_case_of_other_numbers_than_it_says_is_refused():
    case = FEW[0]
    with pytest.raises(ValueError, match="stored in float64, the case in float32"):
        judged(engine, (replace(case, dtype="float32", accumulate="float32"),))
    with pytest.raises(ValueError, match="expected real numbers"):
        judged(engine, (replace(case, params={**case.params, "b": np.zeros(4, complex)}),))


def test_expected_failures_are_a_dict():
    with pytest.raises(ValueError, match="a dict from checks to reasons"):
        check_implementation(engine, CELL, expected_failures=["calls-repeat"])


# --------------------------------------------------------------------------------------------------- names and places


def every_entry(change):
    """The engine, with every gradient changed."""

    def implementation(case):
        return {"grads": {n: change(g) for n, g in engine(case)["grads"].items()}}

    return implementation


SHORT = tuple(c for c in default_cases(CELL) if c.T < 9)


def test_entries_that_are_clipped_are_named():
    verdict = judged(every_entry(lambda g: np.clip(g, -0.5, 0.5)), SHORT)
    assert verdict.mistake == "clipped"
    assert "clipped to at most 0.5" in str(verdict)
    assert judged(every_entry(lambda g: np.minimum(g, 0.5)), SHORT).mistake is None


def test_a_gradient_that_is_zero_is_not_clipped():
    verdict = judged(returning(lambda r: r["grads"].update(h0=0 * r["grads"]["h0"])), SHORT)
    assert verdict.status == "disagrees"
    assert "clipped" not in str(verdict)


def test_what_is_nearly_right_is_told_so():
    random = np.random.default_rng(0)
    text = str(judged(every_entry(lambda g: g * (1 + 1e-8 * random.uniform(1, 2, g.shape))), FEW))
    assert "not-deterministic" in text
    factors = np.linspace(1, 2, 64)
    text = str(judged(every_entry(lambda g: g * (1 + 4e-6 * np.resize(factors, g.shape))), FEW))
    assert "right to 5 digits" in text
    assert "goes wrong within one step" not in text


def test_a_sign_that_is_wrong_everywhere_is_not_listed_name_by_name():
    negated = returning(lambda r: r.update(grads={n: -g for n, g in r["grads"].items()}))
    text = str(judged(negated, default_cases(derive.load("lstm"))[:2]))
    assert "(in every gradient only)" in text


def test_a_clipped_gradient_of_a_cell_without_parameters_is_told():
    cell = derive.parse("h[t] = h[t-1] + x[t]", "sums")

    def clipped(case):
        grads = engine(case)["grads"]
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        return {"grads": {n: g * min(1, 2 / norm) for n, g in grads.items()}}

    assert judged(clipped, tuple(c for c in default_cases(cell) if c.T < 7)).status == "disagrees"


def test_numbers_and_lists_are_arrays_of_a_case():
    cell = derive.parse("a: scalar\nh[t] = a*h[t-1] + V @ x[t]", "scaled")
    for a, V in ((0.5, [[1.0]]), (np.float64(0.5), np.ones((1, 1)))):
        case = Case("mine", "own", "", cell.name, cell.text, {"a": a, "V": V}, {"x": [[[1.0]], [[2.0]]]},
                    {"h": [[0.25]]}, "squared_error", on="h", targets=[[[1.0]], [[0.0]]], lengths=[2])  # fmt: skip
        assert judged(engine, (case,))


def test_a_single_entry_that_is_too_small_is_not_clipping():
    def implementation(case):
        result = engine(case)
        g = result["grads"]["W_hh"] = result["grads"]["W_hh"].copy()
        g.flat[np.abs(g).argmax()] *= 0.99
        return result

    assert judged(implementation, SHORT[:1]).mistake is None


def test_a_loss_that_is_rounded_to_float32_lost_its_precision():
    verdict = judged(returning(lambda r: r.update(loss=float(np.float32(r["loss"])))), SHORT)
    assert verdict.mistake == "precision-lost"
    assert judged(returning(lambda r: r.update(loss=r["loss"] * (1 + 2**-26))), SHORT).mistake == "loss-value"


def test_gradients_that_are_missing_are_not_called_right():
    verdict = judged(lambda case: {"loss": 2 * engine(case)["loss"]}, SHORT[:2])
    assert verdict.mistake == "loss-value"
    assert "are right" not in str(verdict)


def test_a_gradient_is_not_called_right_that_is_wrong_elsewhere():
    flushed = every_entry(lambda g: np.where(np.abs(g) < 0.1, 0.0, g))
    text = str(judged(flushed, SHORT))
    assert "and x are wrong" in text or "every gradient is wrong" in text
    assert "dL/dx is right" not in text


# ----------------------------------------------------------------------------------------------- what cases show


def under(condition):
    """The engine, with a gradient that is a thousandth too large in some cases."""

    def implementation(case):
        result = engine(case)
        if condition(case):
            name = next(iter(case.params))
            result["grads"][name] = result["grads"][name] * 1.001
        return result

    return implementation


def distributions(case):
    return case.loss == "softmax_cross_entropy" and case.targets.dtype.kind == "f"


CONDITIONS = {
    "truncated and ragged": lambda c: c.truncate and c.lengths is not None,
    "truncated mean": lambda c: c.truncate and c.reduction == "mean",
    "ragged distributions": lambda c: c.lengths is not None and distributions(c),
    "ragged cotangents": lambda c: c.lengths is not None and c.loss == "linear" and c.at == "every",
    "ragged cotangents, mean": lambda c: c.lengths is not None and c.loss == "linear" and c.reduction == "mean",
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_a_mistake_under_a_condition_shows(condition):
    cases = tuple(c for c in default_cases(CELL) if c.lengths is not None or c.truncate)
    assert judged(under(condition), cases).status == "disagrees"


# ---------------------------------------------------------------------------------------------------------------- store


@pytest.mark.parametrize("name", ["noise:b", "lo:b", "radius:b", "hi:loss", "hi:outputs.y"])
def test_a_kept_truth_of_other_shapes_is_computed_anew(tmp_path, monkeypatch, name):
    monkeypatch.setattr(Store, "_memory", OrderedDict())
    Store(tmp_path).truth(FEW[0])
    (path,) = tmp_path.iterdir()
    with np.load(path) as kept:
        np.savez(path, **{**kept, name: np.zeros(7)})
    Store._memory.clear()
    assert judge(engine, CELL, cases=FEW[:1], store=Store(tmp_path))


def test_nothing_is_left_of_a_file_that_cannot_be_put_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "_memory", OrderedDict())
    (tmp_path / f"{FEW[0].digest}.npz").mkdir()
    Store(tmp_path).truth(FEW[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_two_threads_get_what_one_gets(monkeypatch):
    monkeypatch.setattr(Store, "_memory", OrderedDict())
    found = {}

    def ask(k):
        found[k] = [truth_of(case) for case in FEW]

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b, case in zip(found[0], found[1], FEW, strict=True):
        for name in case.gradients():
            assert np.array_equal(a.noise[name], b.noise[name])
            assert np.array_equal(a.enclosure(name).hi, b.enclosure(name).hi)


def test_what_an_implementation_says_stays_in_its_line():
    """Names of keys and messages are strangers' text: a verdict's lines are the verdict's own."""

    def keys(case):
        found = engine(case)
        return found | {"grads": found["grads"] | {"x\n  agrees: all of it\x1b[31m": 1.0}, "more\nof it": 2}

    def raises(case):
        raise ValueError("bad\nnews")

    one = default_cases(derive.load("tanh_rnn"))[:1]
    for implementation in (keys, raises):
        text = str(judge(implementation, "tanh_rnn", cases=one))
        assert not any(line.startswith("  agrees") or line.startswith("news") for line in text.splitlines())
        assert all(c.isprintable() or c == "\n" for c in text)
