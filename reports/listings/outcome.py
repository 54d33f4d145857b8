"""What came of giving a listing an input: judged against the certified gradient, with the mistake that explains it."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.oracle.case import Case
from numeric.oracle.judge import judge
from numeric.oracle.result import array_of
from numeric.oracle.store import Store
from numeric.oracle.verdict import Verdict
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
    where = f" at its line {made.line}" if made.line else ""
    return Row(given, ("stops with ", Code(type(made.error).__name__), where, f": {why}" if why else ""), STOPS)


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

    ``why`` says what is wrong where it is, ``yes`` what there is to say where it agrees, if not the usual.
    """
    calls: list[Attempt] = []

    def watched(one: Case) -> Any:
        made = attempt(source, lambda: implementation(one))
        calls.append(made)
        if made.error is not None:
            raise RuntimeError(type(made.error).__name__)
        return made.value

    verdict = judge(watched, case.parsed, cases=case, only=only, time_limit=None, name="listing")
    if calls[0].error is not None:
        return stopped(given, calls[0], why)
    if verdict.status == "agrees":
        return Row(given, yes or _agreement(verdict), AGREES)
    said = _mistake(verdict, why)
    heard = ("; PyTorch warns",) if calls[0].warned else ()
    return Row(given, (*said, *_distance(case, calls[0].value, only), *heard), WRONG)


def _agreement(verdict: Verdict) -> Parts:
    largest = Quantity(verdict.largest, float("inf"), ".1f")
    count = f"{verdict.tensors} tensor{'s' if verdict.tensors != 1 else ''}"
    return (f"agrees with the certified gradient: {count}, off by at most ", largest, " units of rounding (limit 16)")


def _mistake(verdict: Verdict, why: str) -> Parts:
    """The diagnosis, without what may differ between machines."""
    if verdict.mistake and not (why and "+" in verdict.mistake):  # of two that were searched for, a reason says more
        return (verdict.diagnosis.sentence, " (", Code(verdict.mistake), ")", f"; {why}" if why else "")
    missing = sorted({f.tensor for f in verdict.findings if f.message.endswith(" is missing")})
    if missing:
        return ("no gradient for ", *_codes(missing), f"; {why}" if why else "")
    return (why or "another gradient, and no known mistake explains it",)


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
    worst = max((off / (size or whole) for off, size in errors if size or whole), default=0.0)
    return ("; off by ", Quantity(worst, 1.01, ".3g"), " times the gradient's largest entry") if worst > 1e-6 else ()
