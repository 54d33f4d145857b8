"""Named checks of an implementation, for its own test suite.

    @parametrize_with_checks([my_lstm, my_gru])
    def test_recurrent_gradients(implementation, check):
        check(implementation)

A check is one family of cases, or one way to behave; all of them together are what :func:`numeric.oracle.judge` does.
An implementation that declines all cases of a check skips it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unittest import SkipTest

from derive.cell import Cell
from derive.errors import nearest
from derive.parse import cells, load
from numeric.oracle.adapters import own_cell
from numeric.oracle.calling import name_of
from numeric.oracle.criterion import AGREES, ERROR
from numeric.oracle.families import default_cases
from numeric.oracle.judge import judge
from numeric.oracle.verdict import Verdict

__all__ = [
    "Check",
    "CheckError",
    "Record",
    "cell_for",
    "check_implementation",
    "checks",
    "parametrize_with_checks",
]


class CheckError(AssertionError):
    """A check failed; ``verdict`` is the whole answer, the text of the error what a person reads."""

    def __init__(self, check: Check, verdict: Verdict) -> None:
        super().__init__(f"{check.name}: {check.sentence}\n{verdict}")
        self.check, self.verdict = check, verdict


@dataclass(frozen=True)
class Check:
    """One named check of implementations of a cell; call it with one.

    Raises :class:`CheckError`, or ``unittest.SkipTest`` where the implementation declines every case of it.
    """

    name: str
    sentence: str
    cell: Cell
    cases: tuple[Any, ...]
    failed: Callable[[Verdict], bool]

    def __call__(self, implementation: Any, **options: Any) -> Verdict:
        """The verdict, where it is what the check asks for; ``options`` are those of :func:`numeric.oracle.judge`."""
        verdict = judge(implementation, self.cell, cases=self.cases, **options)
        if not verdict.judged:
            reasons = dict.fromkeys(reason for _, reason in verdict.declined)
            raise SkipTest(f"declined: {'; '.join(reasons) or 'no reason given'}")
        if self.failed(verdict):
            raise CheckError(self, verdict)
        return verdict

    def __repr__(self) -> str:
        return f"<Check {self.name} of {self.cell.name}>"


def _is_wrong(verdict: Verdict) -> bool:
    return verdict.status != AGREES


def _differs(verdict: Verdict) -> bool:
    return any(f.tensor == "repeated" or "called " in f.message for f in verdict.findings) or any(
        "other bits than before" in note for note in verdict.notes
    )


def _modifies(verdict: Verdict) -> bool:
    return any("modified in place" in f.message for f in verdict.findings)


def _faulty(verdict: Verdict) -> bool:
    return verdict.status == ERROR


@lru_cache(maxsize=32)
def checks(cell: Cell) -> tuple[Check, ...]:
    """Every check of a cell: one for each family of its default cases, then those of behaviour."""
    families: dict[str, list[Any]] = {}
    for case in default_cases(cell):
        families.setdefault(case.family, []).append(case)
    out = [
        Check(f"gradients-{family}", own[0].purpose, cell, tuple(own), _is_wrong) for family, own in families.items()
    ]
    first = next(iter(families.values()))[:1]
    out.append(
        Check("results-conform", "every gradient is there, finite and of its shape", cell, tuple(first), _faulty)
    )
    out.append(Check("calls-repeat", "equal calls give equal bits", cell, tuple(first), _differs))
    out.append(Check("inputs-untouched", "the arrays of a case are left as they are", cell, tuple(first), _modifies))
    return tuple(out)


# ------------------------------------------------------------------------------------------------ which cell it is


def cell_for(implementation: Any, cell: Any = None) -> Cell:
    """The cell that an implementation is of.

    It is said by ``cell``, or by the implementation's own attribute ``cell``, or by its name: "my_lstm" is an lstm.
    Raises ValueError where nothing says it.
    """
    said = cell if cell is not None else own_cell(implementation) or getattr(implementation, "cell", None)
    if isinstance(said, Cell):
        return said
    if said is not None:
        return load(said)
    name = name_of(implementation).lower()
    aliases = {**{known: known for known in cells()}, "rnn": "tanh_rnn"}
    fitting = [alias for alias in aliases if alias in name]
    if not fitting:
        raise ValueError(
            f"which cell {name_of(implementation)} implements is not said; give it an attribute cell, name it after "
            f"one of {', '.join(cells())}, or say cell="
        )
    return load(aliases[max(fitting, key=len)])


# ------------------------------------------------------------------------------------------------------ all of them


@dataclass(frozen=True)
class Record:
    """What came of one check: ``status`` is "passed", "failed", "xfail", "xpass" or "skipped".

    "xfail" failed as it was expected to, with the ``reason`` that was given; "xpass" was expected to fail and did not.
    """

    check: str
    status: str
    reason: str = ""
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"{self.check}: {self.status}{f' ({self.reason})' if self.reason else ''}"


def check_implementation(
    implementation: Any,
    cell: Any = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
    on_fail: str = "raise",
    callback: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Run every check, and return what came of each.

    ``expected_failures`` maps names of checks to reasons.  ``on_fail`` is "raise" for the first failure that was not
    expected, "warn" for a warning, None for nothing.  ``callback`` gets each record as it comes.  Raises ValueError for
    a check that is not known.
    """
    if on_fail not in ("raise", "warn", None):
        raise ValueError(f"on_fail is {on_fail!r}; expected 'raise', 'warn' or None")
    listed = checks(cell_for(implementation, cell))
    expected = _known(expected_failures or {}, listed)
    out = []
    for check in listed:
        record = _record(check, implementation, expected.get(check.name))
        out.append(record)
        callback(record)
        if record.status in ("failed", "xpass"):
            if on_fail == "raise":
                raise record.error or AssertionError(f"{check.name} was expected to fail ({record.reason}), and passed")
            if on_fail == "warn":
                warnings.warn(str(record.error or record), RuntimeWarning, stacklevel=2)
    return out


def _known(expected: Mapping[str, str], listed: Sequence[Check]) -> Mapping[str, str]:
    names = [check.name for check in listed]
    if not isinstance(expected, Mapping):
        raise ValueError(f"expected_failures is a {type(expected).__name__}; expected a dict from checks to reasons")
    for name in expected:
        if name not in names:
            near = nearest(name, names)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"expected_failures names {name!r}; the checks are {', '.join(names)}{hint}")
    return expected


def _record(check: Check, implementation: Any, expected: str | None) -> Record:
    try:
        check(implementation)
    except SkipTest as skipped:
        return Record(check.name, "skipped", str(skipped))
    except CheckError as error:
        return (
            Record(check.name, "failed", "", error)
            if expected is None
            else Record(check.name, "xfail", expected, error)
        )
    return Record(check.name, "passed") if expected is None else Record(check.name, "xpass", expected)


def parametrize_with_checks(
    implementations: Iterable[Any],
    *,
    cell: Any = None,
    expected_failures: Callable[[Any], Mapping[str, str]] = lambda implementation: {},
) -> Any:
    """A pytest mark: every implementation with every check of its cell, as ``implementation`` and ``check``.

    Ids read ``my_lstm-gradients-separating``.  ``expected_failures`` gives for an implementation a dict of names of
    checks and reasons; these are marked xfail, strictly.
    """
    import pytest  # whoever asks for a mark has it

    pairs = [(one, cell_for(one, cell)) for one in implementations]

    def each() -> Iterator[Any]:
        for one, its in pairs:
            listed = checks(its)
            expected = _known(expected_failures(one), listed)
            for check in listed:
                marks = [pytest.mark.xfail(reason=expected[check.name], strict=True)] if check.name in expected else []
                yield pytest.param(one, check, id=f"{name_of(one)}-{check.name}", marks=marks)

    return pytest.mark.parametrize(("implementation", "check"), list(each()))
