"""The cases of a usual run lack no pair of values, and are few."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import turns

AXES = [("abcde", "xyz", (0, 1), (0, 1), (0, 1)), (range(44), range(4), range(3)), ("ab", "c"), ("abc",)]


def held(cases):
    return {pair for case in cases for pair in combinations(enumerate(case), min(2, len(case)))}


@pytest.mark.parametrize("axes", AXES, ids=lambda axes: "x".join(str(len(axis)) for axis in axes))
def test_every_two_values_meet(axes, monkeypatch):
    monkeypatch.setattr(turns, "ALL", False)
    cases = turns.crossed(*axes)
    assert len(set(cases)) == len(cases)
    assert held(cases) == held(product(*axes))


def test_few_cases_are_enough_and_all_are_all(monkeypatch):
    monkeypatch.setattr(turns, "ALL", False)
    assert len(turns.crossed(range(44), range(4), range(3))) == 176
    assert len(turns.crossed(*AXES[0])) <= 18
    monkeypatch.setattr(turns, "ALL", True)
    assert turns.crossed(*AXES[0]) == list(product(*AXES[0]))
