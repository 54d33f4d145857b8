"""Memory by tracemalloc, to which NumPy reports its arrays: full storage against a plan; what warm calls allocate."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import derive
from derive.cost import count_cost, evaluated

from . import ours
from .agreement import check_same
from .cases import MemoryCase, Problem
from .problem_data import draw
from .timing import Effort, Time, measure, timed

__all__ = ["MemoryRow", "Traced", "WarmRow", "compile_loops", "measure_memory", "measure_warm", "sizes", "traced"]


@dataclass(frozen=True)
class Traced:
    """Bytes of one call: the most at a time, what the result keeps alive, what stays when the result is dropped."""

    peak: int
    result: int
    kept: int

    @property
    def working(self) -> int:
        """The peak without what is returned."""
        return self.peak - self.result


def traced(run: Callable[[], Any]) -> Traced:
    """What one call allocates beyond what there was before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = run()
        after, peak = tracemalloc.get_traced_memory()
        del result
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return Traced(peak - before, after - kept, kept - before)


def sizes(p: Problem) -> dict[str, int]:
    """The letters of the cost's polynomials."""
    return {"T": p.T, "B": p.B, "D": p.D, "H": p.H, "O": p.O}


def tape_bytes(p: Problem) -> int:
    """What full storage keeps for the backward pass, as the derivation counts it."""
    stored = count_cost(derive.differentiate(derive.load(p.cell)).backward).stored
    return evaluated(stored, sizes(p)) * {"float64": 8, "float32": 4}[p.dtype]


@dataclass(frozen=True)
class MemoryRow:
    """Both ways measured; peaks are without the gradients returned; ``difference``: how far these are apart."""

    case: MemoryCase
    tape: int
    budget: int
    full: Time
    plan: Time
    full_peak: int
    plan_peak: int
    difference: float

    @property
    def longer(self) -> float:
        """How many times as long the plan takes."""
        return round(self.plan.median / self.full.median, 2)

    @property
    def share(self) -> float:
        """The plan's peak by that of full storage."""
        return round(self.plan_peak / self.full_peak, 3)

    @property
    def reached(self) -> bool:
        """Whether the plan is as quick and as small as promised."""
        return self.longer <= self.case.longer and self.share <= self.case.share


def measure_memory(case: MemoryCase, effort: Effort) -> MemoryRow:
    """Raises UnavailableError where the engine has no plans, DisagreementError where the two gradients differ."""
    data, tape = draw(case.problem), tape_bytes(case.problem)
    budget = int(case.share * tape)
    keep = case.keep or budget
    full, plan = ours.contender(data, "auto"), ours.contender(data, "auto", keep=keep)
    runs = {"full": full.run, "plan": plan.run}
    peaks, first, results = {}, {}, {}
    compile_loops(case.problem, keep)
    for name, run in runs.items():
        peaks[name] = traced(run).working
        first[name], result = timed(run)
        results[name] = {key: value.copy() for key, value in result[1].items()}
    error = check_same("plan", results["plan"], results["full"], case.problem.dtype)
    times = measure(runs, effort, first)
    return MemoryRow(case, tape, budget, times["full"], times["plan"], peaks["full"], peaks["plan"], error)


def compile_loops(p: Problem, keep: str | int = "all") -> None:
    """Run engines of their own on a few steps: what a compiler allocates is not a call's memory.

    The engines that are measured stay untouched: they may keep memory between calls, so that each is traced from its
    first call on.  Several segments are needed for "states" to have something to compute again.
    """
    few = draw(replace(p, T=min(p.T, 20_000 // p.B) if keep == "states" else 3))
    for plan in {"all", keep}:
        ours.contender(few, "auto", plan).run()


@dataclass(frozen=True)
class WarmRow:
    """Calls of one kind, the second or later at their size, at T and at 2 T steps."""

    call: str
    short: Traced
    long: Traced

    @property
    def grows(self) -> bool:
        """Whether what a call needs beyond its result grows with T; interpreter objects of some KB do not count."""
        return self.long.working > 1.1 * self.short.working + 4096 or max(self.short.kept, self.long.kept) > 4096


def measure_warm(problem: Problem, longer: Problem) -> list[WarmRow]:
    """What warm calls of value_and_grad and backward allocate."""
    made = ours.engine(problem.cell, problem.dtype, "auto")
    found: dict[str, list[Traced]] = {"value_and_grad": [], "backward": []}
    for p in (problem, longer):
        data = draw(p)
        for name, column in found.items():
            call = getattr(made, name)

            def run(call: Any = call, data: Any = data) -> Any:
                return call(data.params, data.x, data.targets)

            for _ in range(3):
                run()
            column.append(traced(run))
    return [WarmRow(name, *column) for name, column in found.items()]
