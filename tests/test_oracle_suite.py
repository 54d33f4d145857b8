"""Named checks: an implementation passes, fails, is expected to fail, or declines, and each is told apart."""

from __future__ import annotations

import textwrap
from unittest import SkipTest

import numpy as np
import pytest

import derive
from numeric.oracle import CheckError, check_implementation, checks, judge, parametrize_with_checks
from numeric.oracle.suite import cell_for
from tests.implementations import engine

pytest_plugins = ["pytester"]


def my_tanh_rnn(case):
    return engine(case, fast=False)


def twice(case):
    out = my_tanh_rnn(case)
    return {**out, "grads": {n: 2 * g for n, g in out["grads"].items()}}


def declines(case):
    raise NotImplementedError("not yet")


@parametrize_with_checks([my_tanh_rnn])
def test_a_right_implementation_passes_every_check(implementation, check):
    assert check(implementation).status == "agrees"


def test_records_tell_what_came_of_each_check():
    listed = [check.name for check in checks(derive.load("tanh_rnn"))]
    passed = check_implementation(my_tanh_rnn)
    assert [r.check for r in passed] == listed
    assert {r.status for r in passed} == {"passed"}
    wrong = check_implementation(twice, "tanh_rnn", on_fail=None)
    assert {r.status for r in wrong if r.check.startswith("gradients-")} == {"failed"}
    assert {r.status for r in check_implementation(declines, "tanh_rnn")} == {"skipped"}


def test_failures_are_raised_with_the_verdict_or_expected():
    with pytest.raises(CheckError, match="dL/d"):
        check_implementation(twice, "tanh_rnn")
    names = [c.name for c in checks(derive.load("tanh_rnn")) if c.name.startswith("gradients-")]
    reasons = dict.fromkeys(names, "the factor is known")
    assert {r.status for r in check_implementation(twice, "tanh_rnn", expected_failures=reasons)} == {"passed", "xfail"}
    with pytest.raises(AssertionError, match="was expected to fail"):
        check_implementation(my_tanh_rnn, expected_failures={names[0]: "not so"})
    with pytest.raises(ValueError, match="did you mean gradients-"):
        check_implementation(my_tanh_rnn, expected_failures={names[0] + "x": ""})


def test_the_cell_is_said_or_read_off_the_name():
    assert cell_for(my_tanh_rnn).name == "tanh_rnn"
    assert cell_for(declines, "gru").name == "gru"

    def my_gru_reset_after(case):
        return {}

    assert cell_for(my_gru_reset_after).name == "gru_reset_after"
    with pytest.raises(ValueError, match="say cell="):
        cell_for(declines)


def test_a_check_that_is_declined_is_skipped():
    with pytest.raises(SkipTest, match="not yet"):
        checks(derive.load("tanh_rnn"))[0](declines)


def test_results_that_depend_on_the_call_before_are_seen():
    calls = []

    def stale(case):
        calls.append(case.id)
        out = my_tanh_rnn(case)
        return {"grads": {n: g * (1 + calls.count(case.id) % 2) for n, g in out["grads"].items()}}

    (repeat,) = (c for c in checks(derive.load("tanh_rnn")) if c.name == "calls-repeat")
    with pytest.raises(CheckError):
        repeat(stale)


def test_inputs_that_are_modified_are_seen():
    def modifies(case):
        out = my_tanh_rnn(case)
        w = case.params["W_hh"]
        w.flags.writeable = True
        w += 1
        return out

    verdict = judge(modifies, "tanh_rnn", cases=checks(derive.load("tanh_rnn"))[0].cases)
    assert verdict.status == "error"
    assert "modified in place" in str(verdict)


def test_the_fixture_of_the_plugin_fails_with_the_verdict(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        textwrap.dedent(
            """
            from numeric.oracle import checks
            import derive, numpy as np

            def test_wrong(judged):
                cell = derive.load("tanh_rnn")
                zero = lambda case: {"grads": {n: np.zeros(p.shape) for n, p in case.params.items()}}
                judged(zero, cell, cases=checks(cell)[0].cases)
            """
        )
    )
    found = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "reports.pytest_plugin")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*recurrent gradients*", "*as tanh_rnn: disagrees*"])


def test_a_huge_shape_is_not_copied():
    def huge(case):
        return {"grads": {n: np.broadcast_to(np.float64(0), (10**6, 10**6)) for n in case.params}}

    verdict = judge(huge, "tanh_rnn", cases=checks(derive.load("tanh_rnn"))[0].cases)
    assert verdict.status == "error"
    assert "(1000000, 1000000)" in str(verdict)
