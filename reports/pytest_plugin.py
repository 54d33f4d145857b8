"""The pytest plugin: a fixture that judges, and a summary of what was judged.

    def test_my_lstm(judged):
        judged(my_lstm, "lstm")

Nothing is imported before the fixture is used, so that a suite that does not use it does not wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["judged", "pytest_terminal_summary"]

_KEY = "recurrent gradients"


@pytest.fixture
def judged(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A function that judges an implementation of a cell and fails the test, with the verdict, unless it agrees."""

    def judge_it(implementation: Any, cell: Any, **options: Any) -> Any:
        from numeric.oracle import judge

        verdict = judge(implementation, cell, **options)
        request.node.user_properties.append((_KEY, f"{verdict.implementation} as {verdict.cell}: {verdict.status}"))
        if not verdict:
            pytest.fail(str(verdict), pytrace=False)
        return verdict

    return judge_it


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line for every implementation that does not agree, from all workers."""
    reports = terminalreporter.stats.get("failed", [])
    lines = dict.fromkeys(text for one in reports for key, text in one.user_properties if key == _KEY)
    if lines:
        terminalreporter.section(_KEY)
        for line in lines:
            terminalreporter.write_line(line)
