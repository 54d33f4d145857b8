"""Judging an implementation: every case is asked for, compared with the exact result, and explained where it is wrong.

verdict = judge(my_bptt, "tanh_rnn")
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.parse import load
from numeric.oracle.calling import Caller, InProcess, Outcome
from numeric.oracle.case import Case, check_stored
from numeric.oracle.criterion import AGREES, DISAGREES, ERROR, UNDECIDABLE, Measured, Truth, compare, hidden_by, worst
from numeric.oracle.diagnose import diagnose
from numeric.oracle.distances import distances
from numeric.oracle.families import default_cases
from numeric.oracle.lookup import how_to_find
from numeric.oracle.power import untested
from numeric.oracle.result import Result, read_result, same
from numeric.oracle.store import Store
from numeric.oracle.traces import Line, trace_lines
from numeric.oracle.verdict import Diagnosis, Finding, Verdict

__all__ = ["JudgedCase", "Scope", "judge", "judge_case"]

#: Seconds that a call may take, where nothing is said.
TIME_LIMIT = 60.0


@dataclass(frozen=True)
class Scope:
    """What is asked for: gradients or outputs only, and of the gradients those in ``only``, None for all."""

    scope: str = "all"
    only: tuple[str, ...] | None = None

    def check(self, cell: Cell) -> None:
        """Raise ValueError for a scope or a name that the cell does not have."""
        if self.scope not in ("all", "outputs"):
            raise ValueError(f"scope is {self.scope!r}; expected 'all' or 'outputs'")
        known = (*cell.parameters, *cell.inputs, *(f"{n}0" for n in cell.states))
        for name in self.only or ():
            if name not in known:
                raise ValueError(f"only names {name!r}; {cell.name} has gradients of {', '.join(known)}")
        if self.only is not None and (not self.only or self.scope == "outputs"):
            raise ValueError("only is for gradients, and names at least one")

    def wanted(self, case: Case) -> tuple[str, ...]:
        """Tensors that must be returned."""
        if self.scope == "outputs":
            return tuple(f"outputs.{n}" for n in (*case.parsed.outputs, *case.parsed.states)[:1])
        return self.only if self.only is not None else tuple(case.parsed.parameters)

    def shapes(self, case: Case) -> dict[str, tuple[int, ...]]:
        """Tensors that may be returned."""
        cell, lead = case.parsed, (case.T, case.B)
        out: dict[str, tuple[int, ...]] = {
            f"outputs.{n}": (*lead, case.sizes[cell.axes[n]]) for n in (*cell.outputs, *cell.states)
        }
        if self.scope == "outputs":
            return out
        return out | {"loss": ()} | case.gradients()


@dataclass(frozen=True)
class JudgedCase:
    """A case with what an implementation made of it; ``truth`` is None where nobody knows what is right."""

    case: Case
    truth: Truth | None
    outcome: Outcome
    result: Result | None = None
    measured: Mapping[str, Measured] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    repeated: tuple[Result, ...] = ()
    trace: tuple[Line, ...] = ()

    @property
    def status(self) -> str:
        """The worst of its tensors and findings."""
        found = [m.status for m in self.measured.values()] + [f.status for f in self.findings]
        return worst(found)


def judge(
    implementation: Any,
    cell: Cell | str | os.PathLike[str] | None = None,
    *,
    cases: Iterable[Case] | Case | None = None,
    only: Sequence[str] | None = None,
    scope: str = "all",
    time_limit: float | None = TIME_LIMIT,
    name: str | None = None,
    store: Store | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Verdict:
    """The verdict on an implementation of a cell.

    ``implementation`` is a callable that takes a :class:`Case` and returns a dict, as the README says, a
    :class:`Caller`, or something that an adapter knows, such as ``torch.nn.LSTM``; for the last, ``cell`` may be left
    out: it is judged as what it says that it computes.  ``cases`` are the default ones where left out; a library that
    computes float64 in fewer bits gets them in float32, and a note says so.  ``only`` names the gradients that are
    there already, while the rest is still being written; ``scope="outputs"`` asks for no gradient at all.
    ``time_limit`` is seconds for one call, None for none; ``report`` gets a line of progress for every case.  Raises
    ValueError for what cannot be asked for, never for what an implementation does.
    """
    started = time.perf_counter()
    cell = _cell(implementation, cell)
    if isinstance(only, str):
        raise ValueError(f"only is the text {only!r}; expected a list of names: only=[{only!r}]")
    asked = Scope(scope, None if only is None else tuple(only))
    asked.check(cell)
    caller = _caller(implementation, cell, _seconds(time_limit))
    chosen = _default(caller, cell) if cases is None else tuple([cases] if isinstance(cases, Case) else cases)
    for case in chosen:
        if not isinstance(case, Case):
            raise ValueError(f"cases hold a {type(case).__name__}; expected cases, such as default_cases(cell)")
        if case.parsed != cell and case.text != cell.text:
            raise ValueError(f"the case {case.id} belongs to the cell {case.cell}, not to {cell.name}")
        check_stored(case)
    store = store or Store()
    try:
        judged = _judge_all(caller, chosen, asked, store, report)
    finally:
        caller.close()
    found = _verdict(cell, name or caller.name, judged, asked, time.perf_counter() - started)
    return replace(found, notes=(*getattr(_inner(caller), "notes", ()), *found.notes))


def _seconds(limit: Any) -> float | None:
    """A time limit that a thread can wait for; None for none."""
    if limit is None or limit == np.inf:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.number) or not limit > 0:
        raise ValueError(f"time_limit is {limit!r}; expected a positive number of seconds, or None for none")
    return min(float(limit), threading.TIMEOUT_MAX)


def _cell(implementation: Any, cell: Cell | str | os.PathLike[str] | None) -> Cell:
    """The cell that is said, or that the implementation is known to compute."""
    if cell is not None:
        return cell if isinstance(cell, Cell) else load(cell)
    from numeric.oracle.adapters import own_cell

    found = own_cell(implementation)
    if found is None:
        raise ValueError('which cell is computed is not known; say it: judge(implementation, "lstm")')
    return found


def _inner(caller: Caller) -> Any:
    return getattr(caller, "implementation", caller)


def _default(caller: Caller, cell: Cell) -> tuple[Case, ...]:
    """The default cases, in float32 for a library that does not compute in float64."""
    doubles = "float64" in getattr(_inner(caller), "dtypes", ("float64",))
    return default_cases(cell, dtype=None if doubles else "float32")


def _caller(implementation: Any, cell: Cell, time_limit: float | None) -> Caller:
    if hasattr(implementation, "call") and hasattr(implementation, "close"):
        caller: Caller = implementation
        return caller
    from numeric.oracle.adapters import adapted

    return InProcess(adapted(implementation, cell), time_limit)


def _judge_all(
    caller: Caller, cases: Sequence[Case], asked: Scope, store: Store, report: Callable[[str], None]
) -> list[JudgedCase]:
    """Every case twice, and once more after the others."""
    judged = []
    for k, case in enumerate(cases):
        report(f"{k + 1}/{len(cases)} {case.id}")
        judged.append(judge_case(caller, case, asked, store))
    return [_once_more(caller, j, asked) for j in judged]


def judge_case(caller: Caller, case: Case, asked: Scope, store: Store) -> JudgedCase:
    """One case, called twice."""
    try:
        truth = store.truth(case)
    except ArithmeticError as error:
        said = f"not judged: {error}; give a case with other numbers"
        return JudgedCase(case, None, Outcome("undecidable"), findings=(Finding(case.id, "", UNDECIDABLE, said),))
    outcome = caller.call(case)
    if outcome.kind != "returned":
        bad = () if outcome.kind == "declined" else (Finding(case.id, "", ERROR, outcome.message),)
        return JudgedCase(case, truth, outcome, findings=bad)
    result = read_result(outcome.value, asked.wanted(case), asked.shapes(case))
    measured, findings = _measure(case, truth, result, asked)
    lines, notes = trace_lines(case, result.trace) if result.trace else ([], [])
    findings += _traced(case, lines, notes)
    for name in outcome.changed:
        findings.append(Finding(case.id, name, ERROR, f"{name} of the case was modified in place"))
    judged = JudgedCase(case, truth, outcome, result, measured, tuple(findings), trace=tuple(lines))
    return _again(caller, judged, asked, "called a second time")


def _traced(case: Case, every: Sequence[Line], notes: Sequence[str]) -> list[Finding]:
    """The first line of a trace that is wrong, and what could not be checked."""
    lines = [line for line in every if line.is_wrong]
    findings = [Finding(case.id, "trace", AGREES, note) for note in notes]
    for line in lines[:1]:
        more = f"; {len(lines) - 1} more lines do not follow" if len(lines) > 1 else ""
        where = (line.t - 1, *line.index)
        findings.append(
            Finding(
                case.id,
                f"trace.{line.name}",
                DISAGREES,
                f"the traced {line}{more}",
                where,
                line.units,
                line.found,
                line.computed,
                step=line.t,
            )
        )
    return findings


def _once_more(caller: Caller, judged: JudgedCase, asked: Scope) -> JudgedCase:
    return judged if judged.result is None else _again(caller, judged, asked, "called again after other cases")


def _again(caller: Caller, judged: JudgedCase, asked: Scope, when: str) -> JudgedCase:
    """Call again; what differs is judged like the first."""
    case, before, truth = judged.case, judged.result, judged.truth
    assert before is not None
    assert truth is not None
    outcome = caller.call(case)
    if outcome.kind != "returned":
        bad = Finding(case.id, "", ERROR, f"{when}, it {outcome.message or outcome.kind}")
        return replace(judged, findings=(*judged.findings, bad))
    result = read_result(outcome.value, asked.wanted(case), asked.shapes(case))
    findings, repeated = list(judged.findings), (*judged.repeated, result)
    changed = same(before, result)
    if changed:
        _, later = _measure(case, truth, result, asked)
        known = {(f.tensor, f.status) for f in findings}
        for f in later:
            if (f.tensor, f.status) not in known:
                findings.append(replace(f, message=f"{when}: {f.message}"))
        first = _shown(changed[0])
        findings.append(Finding(case.id, "repeated", AGREES, f"{when}, {first} has other bits than before"))
    return replace(judged, findings=tuple(findings), repeated=repeated)


def _measure(case: Case, truth: Truth, result: Result, asked: Scope) -> tuple[dict[str, Measured], list[Finding]]:
    """Every tensor beside the exact one."""
    findings = [Finding(case.id, f.tensor, ERROR if f.is_error else AGREES, f.message) for f in result.faults]
    measured = {}
    broken = {f.tensor for f in result.faults if f.is_error}
    for name, array in result.tensors.items():
        if asked.only is None or name not in case.gradients() or name in asked.only:
            measured[name] = m = compare(name, array, truth, case)
            if m.status != AGREES and name not in broken:
                findings.append(_finding(case, truth, m))
    return measured, findings


def _finding(case: Case, truth: Truth, m: Measured) -> Finding:
    """The worst entry of a tensor, in words."""
    if m.status == UNDECIDABLE:
        said = f"{_shown(m.name)} cannot be judged: {hidden_by(m.name, truth, case)}"
        return Finding(case.id, m.name, m.status, said)
    where, step = m.where, None
    if m.name in case.inputs or m.name.startswith("outputs."):
        wrong = np.nonzero((m.units > 16).reshape(case.T, -1).any(axis=1))[0]
        step = int(wrong[0]) + 1 if wrong.size else None
    entry = f"{_shown(m.name)}{list(where) if where else ''}"
    first = f", first at t = {step}" if step else ""
    noise = float(m.noise[where]) if m.noise.shape else float(m.noise)
    exact = float(m.exact.hi[where])
    off = f"is off by {m.most:.2g} noise units" if noise > 0 else "should be exactly zero"
    message = f"{entry} {off}{first}"
    return Finding(
        case.id, m.name, m.status, message, where, m.most, float(m.found[where]), exact, 16 * noise, step
    )  # fmt: skip


def _shown(name: str) -> str:
    return name[8:] if name.startswith("outputs.") else "the loss" if name == "loss" else f"dL/d{name}"


def _verdict(cell: Cell, name: str, judged: Sequence[JudgedCase], asked: Scope, seconds: float) -> Verdict:
    called = [j for j in judged if j.outcome.kind != "declined"]
    findings = [f for j in called for f in j.findings]
    status = worst(f.status for f in findings) if called else UNDECIDABLE
    bad = sorted((f for f in findings if f.status != AGREES), key=_badness)
    notes = dict.fromkeys(f.message for f in findings if f.status == AGREES)
    explained = Diagnosis()
    if status in (DISAGREES, ERROR):
        explained = diagnose(cell, [j for j in called if j.result is not None], asked)
    units = [m.most for j in called for m in j.measured.values() if m.status == AGREES]
    return Verdict(
        cell=cell.name,
        implementation=name,
        status=status,
        findings=tuple(bad),
        diagnosis=explained,
        judged=tuple(j.case.id for j in called),
        declined=tuple((j.case.id, j.outcome.message) for j in judged if j.outcome.kind == "declined"),
        untested=untested(cell, [j.case for j in called if j.result is not None], asked),
        notes=tuple(notes),
        tensors=sum(len(j.measured) for j in called),
        largest=max(units, default=0.0),
        reproduce=_reproduction(bad, called),
        seconds=seconds,
        distances=distances(called),
    )


def _badness(finding: Finding) -> tuple[int, float]:
    order = {ERROR: 0, DISAGREES: 1}
    units = float(f"{finding.units or 0.0:.6g}")  # rounding does not decide between two that are the same
    return order.get(finding.status, 2), -units


def _reproduction(findings: Sequence[Finding], judged: Sequence[JudgedCase]) -> str:
    """How to get the worst case again."""
    return next((how_to_find(j.case) for f in findings[:1] for j in judged if j.case.id == f.case), "")
