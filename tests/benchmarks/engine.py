"""The engine's speed and memory beside PyTorch, JAX, loops written by hand and the floor, measured in one run.

``python -m tests.benchmarks.engine [--only PATTERN] [--quick] [--threads 1|2] [--json FILE] [--write FILE.md]``
prints one table; ``--growth`` how time and memory grow with T, B and H beside the derivation's polynomials; ``--warm``
what a warm call allocates.  What is missing of torch, jax, numba and threadpoolctl leaves a dash.  The whole table
takes a quarter of an hour and 7 GB (PyTorch's, for a million steps), ``--quick`` five minutes: fewer runs, and a tenth
of the steps where there are thousands.

``--threads 2`` gives everybody two CPUs: PyTorch, JAX and the BLAS two threads, the engine what it chooses itself.
``--threads 2 --only "T100 B(32|64) D256"`` are the rows where two pay, in two minutes with ``--quick``; on a busy
machine they mean nothing.  ``python -m tests.benchmarks.threads`` compares the engine's own ways.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks.rivals import machine, table
from tests.benchmarks.rivals.cases import CASES, MEMORY_CASES, Case, MemoryCase, Problem, shortened
from tests.benchmarks.rivals.contender import UnavailableError
from tests.benchmarks.rivals.growth import describe_growth
from tests.benchmarks.rivals.memory import MemoryRow, measure_memory, measure_warm
from tests.benchmarks.rivals.rows import Row, measure_cases
from tests.benchmarks.rivals.timing import FULL, QUICK, Effort

QUIET = 0.95  # of a CPU; with less, medians are of interrupted runs
GROWING = ("tanh_rnn", "lstm", "gru_reset_after")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engine", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="rows whose name contains this regular expression"
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs, shorter sequences")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="CPUs and threads for everybody")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="write the table as Markdown")
    parser.add_argument("--growth", action="store_true", help="time and memory against T, B and H instead")
    parser.add_argument("--warm", action="store_true", help="what warm calls allocate instead")
    return parser.parse_args()


def chosen(cases: tuple[Any, ...], pattern: str, *, quick: bool) -> dict[Problem, list[Any]]:
    """The cases by their problems, shortened for a quick look."""
    found: dict[Problem, list[Any]] = {}
    for case in cases:
        if re.search(pattern, str(case), re.IGNORECASE):
            found.setdefault(shortened(case.problem) if quick else case.problem, []).append(case)
    return found


def speed(groups: dict[Problem, list[Case]], effort: Effort) -> Iterator[Row]:
    """The rows, printed as they are measured."""
    if groups:
        print(table.SPEED.line(table.SPEED.headings), flush=True)
    for problem, cases in groups.items():
        for row in measure_cases(problem, cases, effort):
            print(table.SPEED.line(table.speed_cells(row)), flush=True)
            yield row


def memory(groups: dict[Problem, list[MemoryCase]], effort: Effort) -> Iterator[MemoryRow]:
    """The rows of the memory plans."""
    if groups:
        print("\n" + table.MEMORY.line(table.MEMORY.headings), flush=True)
    for problem, cases in groups.items():
        for case in cases:
            try:
                row = measure_memory(replace(case, problem=problem), effort)
            except UnavailableError as error:
                print(f"{replace(case, problem=problem)}  -  ({error})", flush=True)
            else:
                print(table.MEMORY.line(table.memory_cells(row)), flush=True)
                yield row


def warm() -> None:
    """What warm calls allocate at T and at 2 T, beyond what they return."""
    print("bytes that a warm call allocates beyond what it returns, and what it returns")
    print(table.WARM.line(table.WARM.headings))
    for cell in GROWING:
        for T in (15, 500):
            short = Problem(cell, "float64", T=T, B=8, D=10, H=20, O=5)
            for row in measure_warm(short, replace(short, T=2 * T)):
                print(table.WARM.line(table.warm_cells(replace(row, call=f"{short} {row.call}"))), flush=True)


def growth(effort: Effort) -> None:
    """Time and memory of all cells."""
    for cell in GROWING:
        for line in describe_growth(cell, "float64", effort):
            print(line, flush=True)


def write(path: Path, about: dict[str, str], rows: list[Row], plans: list[MemoryRow], remarks: list[str]) -> None:
    """The tables as Markdown."""
    parts = ["# The engine beside others", "; ".join(f"{key} {value}" for key, value in about.items()) + "."]
    parts += [table.SPEED.markdown(table.speed_cells(row) for row in rows)] if rows else []
    parts += [table.MEMORY.markdown(table.memory_cells(row) for row in plans)] if plans else []
    parts += ["\n".join(f"- {remark}" for remark in remarks)]
    parts += ["Made by `python -m tests.benchmarks.engine --write tests/benchmarks/engine.md`."]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what the command line asks for; exit status 1 where somebody computes another gradient."""
    arguments = parse_arguments()
    try:
        remarks = machine.pin(arguments.threads)
    except ValueError as error:
        sys.exit(str(error))
    about = machine.describe(arguments.threads)
    print("; ".join(f"{key} {value}" for key, value in about.items()), *remarks, "", sep="\n")
    effort = QUICK if arguments.quick else FULL
    if arguments.warm or arguments.growth:
        if arguments.warm:
            warm()
        if arguments.growth:
            growth(effort)
        return
    wall, cpu = time.perf_counter(), time.process_time()
    rows = list(speed(chosen(CASES, arguments.only, quick=arguments.quick), effort))
    plans = list(memory(chosen(MEMORY_CASES, arguments.only, quick=arguments.quick), effort))
    had = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if not rows and not plans:
        sys.exit(f"no row has {arguments.only!r} in its name")
    remarks += [*table.legend(rows), table.by_hand(rows)] if rows else []
    remarks += (
        [
            "Made with --quick: few runs, and a tenth of the steps (a quarter of the ragged ones) where there are "
            "thousands."
        ]
        if arguments.quick
        else []
    )
    remarks += ["Bounds are those of one thread."] if arguments.threads > 1 else []
    remarks += [f"Others ran on the same CPU: this process had {had:.0%} of it."] if had < QUIET else []
    remarks = [remark for remark in remarks if remark]
    print("", *remarks, sep="\n")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, **table.as_data(rows, plans)}, indent=1) + "\n")
    if arguments.write:
        write(arguments.write, about, rows, plans, remarks)
    if any(row.disagreements for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
