"""A problem measured by all contenders that its cases name, and the cases' ratios judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import floor, hand_written, jax_scan, ours, pytorch
from .agreement import DisagreementError, check_same
from .cases import Case, Problem
from .contender import Contender, UnavailableError
from .problem_data import Data, draw
from .timing import Effort, Time, measure, timed

__all__ = ["RATIOS", "Row", "measure_cases"]

RIVALS: dict[str, Callable[[Data], Contender]] = {
    "torch": pytorch.plain,
    "packed": pytorch.packed,
    "jax": jax_scan.contender,
    "floor": floor.contender,
    "hand": hand_written.contender,
}
#: The ratios: the field of Case with the bound, what it is called, and whether it is to be at least the bound.
RATIOS = {
    "torch": ("PyTorch / ours", True),
    "jax": ("JAX / ours", True),
    "floor": ("ours / floor", False),
    "hand": ("by hand / ours", True),
}
CANNOT_RUN = (UnavailableError, ImportError, NotImplementedError, MemoryError)


@dataclass(frozen=True)
class Row:
    """A case measured: the engine's time, the rivals' times by column, and the largest difference of gradients."""

    case: Case
    problem: Problem
    ours: Time | None
    mode: str
    times: dict[str, Time]
    difference: float
    notes: tuple[str, ...]
    disagreements: tuple[str, ...]

    def ratio(self, name: str) -> float | None:
        """A ratio rounded as it is printed, None where one of the two could not run."""
        if self.ours is None or name not in self.times:
            return None
        rival = self.times[name].median
        return round(rival / self.ours.median if RATIOS[name][1] else self.ours.median / rival, 2)

    def bound(self, name: str) -> float | None:
        """What is to be reached, None where nothing is promised or the rival was not asked."""
        column = "packed" if name == "torch" and "packed" in self.case.rivals else name
        bound: float | None = getattr(self.case, name) if column in self.case.rivals else None
        return bound

    def missed(self) -> tuple[list[str], list[str]]:
        """Ratios that miss their bounds, and ratios that have bounds and could not be measured."""
        bounds = {name: self.bound(name) for name in RATIOS}
        missed, unknown = [], []
        for name, bound in bounds.items():
            ratio = self.ratio(name)
            if bound is not None and ratio is None:
                unknown.append(RATIOS[name][0])
            elif bound is not None and ratio is not None and (ratio < bound if RATIOS[name][1] else ratio > bound):
                missed.append(RATIOS[name][0])
        return missed, unknown


def measure_cases(problem: Problem, cases: Sequence[Case], effort: Effort) -> list[Row]:
    """The rows of the cases of one problem.  Who computes another gradient than the engine is named and not timed."""
    data, entered = draw(problem), _Field(problem)
    for mode in ours.MODES:
        if any(mode in _modes(case) for case in cases):
            entered.enter(mode, partial(ours.contender, data, mode))
    for name, make in RIVALS.items():
        if any(name in case.rivals for case in cases):
            entered.enter(name, partial(make, data))
    times = measure({name: c.run for name, c in entered.contenders.items()}, effort, entered.first)
    scaled = {name: time.scaled(entered.contenders[name].scale) for name, time in times.items()}
    return [_row(case, entered, scaled) for case in cases]


@dataclass
class _Field:
    """Who takes part in one problem, after a first run each; its seconds, where they are not a compiler's."""

    problem: Problem
    contenders: dict[str, Contender] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    difference: float = 0.0
    notes: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)

    def enter(self, name: str, make: Callable[[], Contender]) -> None:
        """Make a contender, run it once and compare its gradient with that of the first."""
        try:
            made = make()
            once, result = timed(made.run)
        except CANNOT_RUN as error:
            self.notes.append(str(error))
            return
        try:
            self.compare(name, made, result)
        except DisagreementError as error:
            self.disagreements.append(str(error))
            return
        self.contenders[name] = made
        self.notes += [made.note] if made.note else []
        self.first |= {} if made.compiles else {name: once}

    def compare(self, name: str, made: Contender, result: Any) -> None:
        """Its gradient with that of the first who came, which is the engine wherever it can run."""
        if made.gradients is None:
            return
        found = made.gradients(result)
        self.reference = self.reference or {key: value.copy() for key, value in found.items()}
        apart = check_same(f"{name} on {self.problem}", found, self.reference, self.problem.dtype)
        self.difference = max(self.difference, apart)


def _modes(case: Case) -> tuple[str, ...]:
    return ("numpy", "fast") if case.ours == "best" else (case.ours,)


def _row(case: Case, entered: _Field, times: dict[str, Time]) -> Row:
    """A case's part of what was measured."""
    modes = [mode for mode in _modes(case) if mode in times]
    mode = min(modes, key=lambda m: times[m].median) if modes else case.ours
    rivals = {("torch" if name == "packed" else name): times[name] for name in case.rivals if name in times}
    return Row(
        case,
        entered.problem,
        times.get(mode),
        mode,
        rivals,
        entered.difference,
        *map(tuple, (entered.notes, entered.disagreements)),
    )
