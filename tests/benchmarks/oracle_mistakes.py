"""How many of the known mistakes are found, and how many are called by their name.

    python -m tests.benchmarks.oracle_mistakes [CELL ...]

Every mistake of the catalogue, at every place of a cell, is an implementation under test: it returns what the mistake
gives for a case, and fails where shapes do not conform.  It is computed with other rounding than the diagnosis has: in
float32 for a float32 case, otherwise in the longest floats of the processor, rounded.  A name counts as exact where it
is the mistake's own, or is given among those that fit as well.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import derive
from derive.adjoint import differentiate_step
from derive.cell import Cell
from numeric.arguments import Array
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.oracle.calling import Outcome
from numeric.oracle.case import Case
from numeric.oracle.compose import both, right_program
from numeric.oracle.diagnose import diagnose
from numeric.oracle.families import default_cases
from numeric.oracle.judge import JudgedCase, Scope, judge_case
from numeric.oracle.mutants import Mutant, Run, mutants
from numeric.oracle.store import Store
from numeric.tangent import program_of

__all__ = ["PairScore", "Planted", "Returned", "Score", "judged_by", "score", "score_pairs"]


class Planted(Run):
    """Gradients of a case as somebody else's arithmetic has them."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        arithmetic = FloatArithmetic(np.float32 if case.dtype == "float32" else np.longdouble)
        self.interpreter = Interpreter(program_of(case.parsed), case.problem, arithmetic)
        self.tapes = {self.interpreter.program: self.interpreter.tape}

    @cached_property
    def right(self) -> dict[str, Array]:
        """The right gradients, in float64."""
        with np.errstate(all="ignore"):
            found = self.interpreter.run(differentiate_step(self.interpreter.program)).gradients
        return {n: np.asarray(g, np.float64) for n, g in found.items()}


class Returned:
    """A caller that returns what it is told, without computing it twice."""

    name = "planted"

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.results = results

    def call(self, case: Case) -> Outcome:
        """What was said for the case; {} is a failure, None another problem, which is answered rightly."""
        found = self.results[case.id]
        if not found:
            return Outcome("raised", None, "raised ValueError: shapes do not conform")
        return Outcome("returned", found)

    def close(self) -> None:
        """Nothing to stop."""


@dataclass(frozen=True)
class Score:
    """Of the mistakes that change a number in some case: how many are detected, and named."""

    cell: str
    planted: int
    detected: int
    named: int
    first: int
    wrong: tuple[str, ...]
    undetected: tuple[str, ...]
    unnamed: tuple[str, ...]
    hidden: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        share = 100 * self.named / max(1, self.planted)
        return (
            f"{self.cell}: {self.planted} mistakes, {self.detected} detected, {self.named} named ({share:.1f} %), "
            f"{self.first} of them first, {len(self.wrong)} otherwise, {len(self.unnamed)} without a name, "
            f"{len(self.hidden)} change nothing; "
            f"{self.seconds / max(1, self.planted):.2f} s for one"
        )


def judged_by(results: Mapping[str, Any], cases: Sequence[Case], store: Store) -> list[JudgedCase]:
    """Cases judged with results that are given by their ids."""
    caller = Returned(results)
    return [judge_case(caller, case, Scope(), store) for case in cases]


def changes(found: Mapping[str, Any], right: Mapping[str, Any], tight: float = 1e-5) -> bool:
    """Whether a mistake changes a number by more than rounding; a failure does."""
    if not found:
        return True
    for n, g in right.items():
        size = np.abs(g).max(initial=0.0)
        if g.shape != found[n].shape or not np.allclose(found[n], g, rtol=tight, atol=tight * size):
            return True
    return False


def score(cell: Cell, cases: Sequence[Case] | None = None, planted: Sequence[Mutant] | None = None) -> Score:
    """All known mistakes of a cell as implementations under test."""
    cases = tuple(default_cases(cell) if cases is None else cases)
    store, start = Store(), time.perf_counter()
    runs = {case.id: Planted(case) for case in cases}
    detected, named, first, total = 0, 0, 0, 0
    wrong, undetected, unnamed, hidden = [], [], [], []
    for m in mutants(cell) if planted is None else planted:
        results = {i: run.gradient(m) for i, run in runs.items()}
        if not any(g is not None and changes(g, runs[i].right) for i, g in results.items()):
            hidden.append(m.label)
            continue
        total += 1
        given = {i: {"grads": runs[i].right if g is None else g} if g != {} else {} for i, g in results.items()}
        judged = judged_by(given, cases, store)
        detected += (seen := any(j.status in ("disagrees", "error") for j in judged))
        if not seen:
            undetected.append(m.label)
            continue
        answer = diagnose(cell, [j for j in judged if j.result is not None], Scope())
        names = {answer.mistake, *answer.alternatives}
        if names & {m.name, *m.also}:
            named += 1
            first += answer.mistake in (m.name, *m.also)
        elif answer.mistake:
            wrong.append(f"{m.label} -> {answer.mistake}")
        else:
            unnamed.append(m.label)
    return Score(
        cell.name, total, detected, named, first, tuple(wrong), tuple(undetected), tuple(unnamed), tuple(hidden),
        time.perf_counter() - start,
    )  # fmt: skip


@dataclass(frozen=True)
class PairScore:
    """Of random pairs of mistakes: how many are given both names, how many none, and which another name."""

    cell: str
    planted: int
    named: int
    unnamed: tuple[str, ...]
    wrong: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.cell}: {self.planted} pairs, {self.named} named, {len(self.unnamed)} left unnamed, "
            f"{len(self.wrong)} given another name; {self.seconds / max(1, self.planted):.2f} s for one"
        )


def score_pairs(cell: Cell, cases: Sequence[Case] | None = None, *, count: int = 10, seed: int = 3) -> PairScore:
    """Two known mistakes at once, drawn at random, each of which changes what the other one gives."""
    cases = tuple(default_cases(cell) if cases is None else cases)
    store, start, numbers = Store(), time.perf_counter(), random.Random(seed)
    runs = {case.id: Planted(case) for case in cases}
    named, unnamed, wrong = 0, [], []
    for _ in range(count):
        a, b, pair, results = _some_pair(cell, runs, numbers)
        judged = judged_by({i: {"grads": g} if g else {} for i, g in results.items()}, cases, store)
        answer = diagnose(cell, [j for j in judged if j.result is not None], Scope())
        names, said = {answer.mistake, *answer.alternatives}, f"{a.label} with {b.label}"
        if names & {f"{a.name}+{b.name}", f"{b.name}+{a.name}", pair.name}:
            named += 1
        elif answer.mistake is None:
            unnamed.append(said)
        else:
            wrong.append(f"{said} -> {answer.mistake}")
    return PairScore(cell.name, count, named, tuple(unnamed), tuple(wrong), time.perf_counter() - start)


def _some_pair(
    cell: Cell, runs: Mapping[str, Run], numbers: random.Random
) -> tuple[Mutant, Mutant, Mutant, dict[str, Any]]:
    """Two mistakes and both together; in some case they give what neither gives."""
    while True:
        a, b = numbers.sample(mutants(cell), 2)
        pair = both(right_program(cell), a, b)
        if pair is None:
            continue
        found = {i: run.gradient(pair) for i, run in runs.items()}
        if all(_is_more(found, one, runs) for one in (a, b)):
            return a, b, pair, found


def _is_more(found: Mapping[str, Any], one: Mutant, runs: Mapping[str, Run]) -> bool:
    """Whether a pair gives other numbers than one of the two, in some case in which both can be computed."""
    own = {i: run.right if (g := run.gradient(one)) is None else g for i, run in runs.items()}
    return any(changes(g, own[i]) for i, g in found.items() if g and own[i])


if __name__ == "__main__":
    for name in sys.argv[1:] or derive.cells():
        found = score(derive.load(name))
        print(score_pairs(derive.load(name)))
        print(found)
        for what in ("wrong", "undetected", "unnamed"):
            for line in getattr(found, what):
                print(f"    {what}: {line}")
