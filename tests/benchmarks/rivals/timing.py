"""Medians of interleaved runs, A B C A B C ..., so that the noise of a shared machine hits all alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Effort", "Time", "measure", "seconds", "timed"]

Run = Callable[[], Any]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    ``budget`` seconds of samples for all contenders of a problem together, within ``least`` and ``most`` samples for
    each; a sample is as many runs as take ``sample`` seconds; who takes longer than ``slow`` seconds is timed once.
    """

    budget: float
    least: int
    most: int
    slow: float
    sample: float = 0.005


FULL = Effort(budget=15.0, least=5, most=101, slow=10.0)
QUICK = Effort(budget=1.5, least=3, most=15, slow=2.5)


@dataclass(frozen=True)
class Time:
    """Median milliseconds of a run, the quartiles, and how many samples they are of."""

    median: float
    low: float
    high: float
    samples: int

    def scaled(self, by: float) -> Time:
        """As if it had taken so many times as long."""
        return Time(self.median * by, self.low * by, self.high * by, self.samples)


def seconds(run: Run, times: int = 1) -> float:
    """Seconds a run takes, the mean of so many."""
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def timed(run: Run) -> tuple[float, Any]:
    """Seconds a run takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def measure(runs: Mapping[str, Run], effort: Effort, first: Mapping[str, float] | None = None) -> dict[str, Time]:
    """The times of warm runs; ``first`` are times known already: who is slow by them is not run again."""
    known = first or {}
    once = {n: known[n] if known.get(n, 0) > effort.slow else _once(run, effort.sample) for n, run in runs.items()}
    inner = {name: max(1, round(effort.sample / max(s, 1e-9))) for name, s in once.items()}
    share = effort.budget / len(runs)
    rounds = {
        name: 0 if s > effort.slow else min(effort.most, max(effort.least, int(share / (s * inner[name]))))
        for name, s in once.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in runs}
    total = max(rounds.values())
    gc.collect()
    gc.disable()
    try:
        for r in range(total):
            for name, run in runs.items():
                if (r + 1) * rounds[name] // total > r * rounds[name] // total:  # spread evenly over all rounds
                    samples[name].append(seconds(run, inner[name]))
    finally:
        gc.enable()
    return {name: _time(found or [once[name]]) for name, found in samples.items()}


def _once(run: Run, sample: float) -> float:
    """About how long a run takes: a short one is tried thrice, lest an interruption make its samples too short."""
    first = seconds(run)
    return first if first > 10 * sample else min(first, seconds(run), seconds(run))


def _time(samples: list[float]) -> Time:
    ms = [1e3 * s for s in samples]
    low, _, high = statistics.quantiles(ms, n=4, method="inclusive") if len(ms) > 1 else (ms[0], 0, ms[0])
    return Time(statistics.median(ms), low, high, len(ms))
