"""Two ways to use two cores against one thread: BLAS's own threads, and the batch in two parts side by side.

``python -m tests.benchmarks.threads [--only PATTERN] [--quick]`` prints, for each problem, the time of one thread,
and how many times faster BLAS with two threads and two parts are; medians of interleaved runs.  Only on a quiet machine
does it say anything: BLAS's threads spin while they wait for one that has no CPU.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import numeric
from numeric.parts import cpus
from numeric.session import Session
from tests.benchmarks.rivals.cases import Problem
from tests.benchmarks.rivals.problem_data import draw
from tests.benchmarks.rivals.timing import FULL, QUICK, measure

CELLS = ("tanh_rnn", "lstm", "gru_reset_after")
PROBLEMS = (
    *(Problem(c, d, T=100, B=32, D=256, H=256, O=64) for c in CELLS for d in ("float32", "float64")),
    Problem("lstm", "float32", T=100, B=64, D=256, H=1024, O=64),
    *(Problem("lstm", "float32", T=100, B=B, D=256, H=256, O=64) for B in (1, 4, 8, 16)),
    *(Problem("lstm", "float32", T=T, B=32, D=64, H=64, O=32) for T in (10, 30, 100)),
)


def runs(problem: Problem) -> dict[str, Callable[[], Any]]:
    """The same gradient by one thread, BLAS with two, and two parts."""
    data = draw(problem)
    one, two = (numeric.Engine(problem.cell, dtype=problem.dtype, threads=n) for n in (1, 2))

    def run(engine: numeric.Engine) -> Any:
        return engine.value_and_grad(data.params, data.x, data.targets)

    def blas() -> Any:
        limit, Session.limit = Session.limit, nullcontext()
        try:
            with threadpool_limits(2, user_api="blas"):
                return run(one)
        finally:
            Session.limit = limit

    found = {"one": lambda: run(one), "BLAS": blas, "parts": lambda: run(two)}
    (value, grads), *others = (f() for f in found.values())
    for other, other_grads in others:
        close = 1e-4 if problem.dtype == "float32" else 1e-10
        assert abs(value - other) <= close * abs(value)
        assert all(np.abs(g - other_grads[n]).max() <= close * np.abs(g).max() for n, g in grads.items())
    return found


def main() -> None:
    """One row for each problem."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.threads", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="problems whose name contains this")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    arguments = parser.parse_args()
    if cpus() < 2:
        parser.error("this process may use one CPU only")
    print("| problem | one thread, ms | BLAS with 2 | 2 parts |\n| --- | --: | --: | --: |")
    for problem in PROBLEMS:
        if re.search(arguments.only, str(problem), re.IGNORECASE):
            times = measure(runs(problem), QUICK if arguments.quick else FULL)
            one, *others = (times[name].median for name in ("one", "BLAS", "parts"))
            print(f"| {problem} | {one:.3g} |" + "".join(f" {one / other:.2f} |" for other in others), flush=True)


if __name__ == "__main__":
    main()
