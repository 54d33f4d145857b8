"""What came of giving a listing an input: judged against the certified gradient, with the mistake that explains it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.noise import LIMIT
from numeric.oracle.calling import InProcess
from numeric.oracle.case import Case, check_stored
from numeric.oracle.diagnose import diagnose
from numeric.oracle.judge import JudgedCase, Scope, judge_case
from numeric.oracle.result import array_of
from numeric.oracle.store import Store
from numeric.oracle.verdict import Diagnosis
from reports.document import Code, Parts, Quantity
from reports.listings.rows import AGREES, STOPS, WRONG, Row
from reports.listings.source import Source

__all__ = ["Attempt", "attempt", "expected", "judged", "stopped"]


@dataclass
class Attempt:
    """One call: its value or its error, the line of the listing where that was raised, and whether it warned."""

    value: Any = None
    error: BaseException | None = None
    line: int = 0
    warned: bool = False


def attempt(source: Source, call: Callable[[], Any]) -> Attempt:
    """Call it, whatever it raises."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            made = Attempt(call())
        except (Exception, SystemExit) as error:  # whatever a listing raises is what it did
            stack = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno or 0 for frame in stack if frame.filename == str(source.path)]
            made = Attempt(error=error, line=lines[-1] if lines else 0)
    made.warned = any(issubclass(w.category, UserWarning) for w in heard)
    return made


def stopped(given: str, made: Attempt, why: str = "") -> Row:
    """The row of a call that raised, or should have: ``why`` says what it cannot do."""
    if made.error is None:
        return Row(given, ("gives something all the same",), WRONG)
    kind = type(made.error)
    # which of these two a library raises changes with its version
    called: Parts = () if kind in (RuntimeError, ValueError) else (" with ", Code(kind.__name__))
    where = f" at its line {made.line}" if made.line else ""
    return Row(given, ("stops", *called, where, f": {why}" if why else ""), STOPS)


def expected(given: str, right: bool, yes: Parts, no: Parts) -> Row:
    """The row of something that was looked at: ``yes`` is said where it is right."""
    return Row(given, yes if right else no, AGREES if right else WRONG)


def judged(
    given: str,
    source: Source,
    implementation: Callable[[Case], Mapping[str, Any]],
    case: Case,
    *,
    only: Sequence[str] | None = None,
    why: str = "",
    yes: Parts = (),
) -> Row:
    """The oracle's verdict on one input: ``implementation`` runs the listing on a case and returns its gradients.

    ``why`` says what is wrong where it is; without it, the oracle looks for the mistake.  ``yes`` is what there is to
    say where it agrees, if not the usual.
    """
    calls: list[Attempt] = []

    def watched(one: Case) -> Any:
        calls.append(attempt(source, lambda: implementation(one)))
        if calls[-1].error is not None:
            raise RuntimeError
        return calls[-1].value

    check_stored(case)
    asked = Scope(only=None if only is None else tuple(only))
    found = judge_case(InProcess(watched), case, asked, Store())
    if calls[0].error is not None:
        return stopped(given, calls[0], why)
    if found.status == "agrees":
        return Row(given, yes or _agreement(found), AGREES)
    said = _missing(found) or ((why,) if why else _mistake(diagnose(case.parsed, [found], asked)))
    heard = ("; PyTorch warns",) if calls[0].warned else ()
    return Row(given, (*said, *_distance(case, calls[0].value, only), *heard), WRONG)


def _agreement(found: JudgedCase) -> Parts:
    largest = Quantity(max((m.most for m in found.measured.values()), default=0.0), float("inf"), ".1f", LIMIT)
    count = f"{len(found.measured)} tensor{'s' if len(found.measured) != 1 else ''}"
    return (f"the certified gradient: {count}, to ", largest, " units of rounding")


def _missing(found: JudgedCase) -> Parts:
    """The gradients that there should be."""
    missing = sorted({f.tensor for f in found.findings if f.message.endswith(" is missing")})
    return ("no gradient for ", *_codes(missing)) if missing else ()


def _mistake(found: Diagnosis) -> Parts:
    """What explains it, without what may differ between machines."""
    if found.mistake:
        return (found.sentence, " (", Code(found.mistake), ")")
    return ("another gradient, and no known mistake explains it",)


def _codes(names: Sequence[str]) -> Parts:
    parts: list[Any] = []
    for name in names:
        parts += [", ", Code(name)] if parts else [Code(name)]
    return tuple(parts)


def _distance(case: Case, value: Any, only: Sequence[str] | None) -> Parts:
    """How far the worst tensor is from the exact one, beside its largest entry (or the whole gradient's, if zero)."""
    truth, errors = Store().truth(case), []
    for name, found in dict(value.get("grads", {})).items():
        exact, seen = truth.enclosure(name).hi, array_of(found)
        if (only is None or name in only) and seen.shape == exact.shape:
            errors.append((float(np.abs(seen - exact).max(initial=0.0)), float(np.abs(exact).max(initial=0.0))))
    whole = max((size for _, size in errors), default=0.0)
    if errors and not whole:
        return ("; up to ", Quantity(max(off for off, _ in errors), 1.01, ".3g"), " where it should be zero")
    worst = max((off / (size or whole) for off, size in errors if size or whole), default=0.0)
    return ("; off by ", Quantity(worst, 1.01, ".3g"), " times the gradient's largest entry") if worst > 1e-6 else ()
