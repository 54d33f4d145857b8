"""The oracle's own figures.

    python -m tests.benchmarks.oracle [--only power,mistakes,calibration,conformance,judging,enclosures] [--json F]

power          what the default cases show, by feature, and the mistakes that no case reveals
mistakes       every known mistake of every shipped cell: detected, and named
calibration    right implementations, at random: none may be called wrong, and how near to the limit they come
conformance    what published test vectors and gradient checks see of wrong gate orders, side by side
judging        the time of one judging, references cached, in this process and as a command
enclosures     the time of certified enclosures
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from functools import partial

import numpy as np

import derive
import numeric
from numeric.certify import certify_problem
from numeric.oracle import judge
from numeric.oracle.calling import InProcess
from numeric.oracle.families import default_cases
from numeric.oracle.judge import Scope, judge_case
from numeric.oracle.store import Store
from numeric.problem import check_problem
from tests import implementations


def power():
    """What a whole run covers, by cell."""
    from numeric.oracle.mutants import mutants
    from numeric.oracle.power import applicable, hidden, untested

    rows = []
    for name in derive.cells():
        cell = derive.load(name)
        cases = default_cases(cell)
        known = sum(applicable(cell, m) for m in mutants(cell))
        families = len({case.family for case in cases})
        missing, unseen = untested(cell, cases, Scope()), hidden(cell, cases)
        rows.append((name, len(cases), families, ", ".join(missing) or "none", known, "; ".join(unseen) or "none"))
    return ("cell", "cases", "families", "features untested", "known mistakes", "not revealed"), rows


def mistakes(every=1):
    """Known mistakes, each an implementation with other rounding: detected and named."""
    from numeric.oracle.mutants import mutants
    from tests.benchmarks.oracle_mistakes import score

    rows = []
    for name in derive.cells():
        cell = derive.load(name)
        s = score(cell, planted=mutants(cell)[::every])
        named = f"{s.named} ({100 * s.named / max(1, s.planted):.1f} %)"
        times = f"{s.seconds / max(1, s.planted):.1f} s"
        rows.append((name, s.planted, s.detected, named, len(s.wrong), len(s.unnamed), times))
    return ("cell", "mistakes", "detected", "named", "named otherwise", "unnamed", "time for one"), rows


def implementations_at_hand():
    """Right implementations whose libraries are installed."""
    out = {
        "engine (NumPy, fused)": partial(implementations.engine, fast=False),
        "engine (NumPy, lambdified)": implementations.plain,
        "node by node": implementations.specification,
    }
    for module, name, function in (
        ("numba", "engine (compiled)", partial(implementations.engine, fast=True)),
        ("torch", "PyTorch autograd", implementations.torch_autograd),
        ("jax", "JAX grad", implementations.jax_grad),
    ):
        try:
            __import__(module)
        except ImportError:
            continue
        out[name] = function
    return out


def calibration(seeds=range(1, 4)):
    """Largest errors of right implementations in units of the criterion."""
    found, worst = {}, {}
    asked, store = Scope(), Store(None)
    for name in derive.cells():
        cell = derive.load(name)
        for seed in seeds:
            for case in default_cases(cell, seed=seed):
                for label, function in implementations_at_hand().items():
                    if label == "engine (compiled)" and seed != seeds[0]:
                        continue  # it is compiled for each cell and loss; the arithmetic is the same
                    judged = judge_case(InProcess(function), case, asked, store)
                    if judged.outcome.kind == "declined":
                        continue
                    key = label, case.dtype
                    units = max((m.most for m in judged.measured.values()), default=0.0)
                    found.setdefault(key, []).append((units, judged.status))
                    if judged.status != "agrees":
                        worst[name, case.id, label] = judged.status
    rows = []
    for (label, dtype), each in sorted(found.items()):
        units = np.array([u for u, _ in each])
        bad = sum(status != "agrees" for _, status in each)
        rows.append((label, dtype, len(each), f"{np.median(units):.2f}", f"{units.max():.2f}", bad))
    rows.append(("all", "", sum(len(e) for e in found.values()), "", "", f"{len(worst)} {list(worst.items())[:3]}"))
    return ("implementation", "dtype", "runs", "median units", "largest (limit 16)", "not agreeing"), rows


def conformance():
    """Wrong layers that published vectors, gradcheck's fast mode and the default cases reveal."""
    from tests.benchmarks.oracle_conformance import conformance as rows_of

    shown = [tuple("-" if x is None else x for x in row) for row in rows_of()]
    return ("operator", "wrong layers", "how many", "ONNX node tests", "gradcheck fast mode", "default cases"), shown


def judging():
    """Seconds of a judging of the LSTM, exact results cached."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BPTT_CACHE"] = folder
        judge(implementations.plain, "lstm")
        Store._memory.clear()
        for label, function in (
            ("in this process", implementations.plain),
            ("PyTorch", implementations.torch_autograd),
        ):
            start = time.perf_counter()
            verdict = judge(function, "lstm")
            rows.append((label, len(verdict.judged), verdict.status, f"{time.perf_counter() - start:.2f} s", "10 s"))
        from numeric.oracle.command import WorkerCaller

        start = time.perf_counter()
        verdict = judge(WorkerCaller("tests.implementations:plain"), "lstm")
        rows.append(
            ("as a command", len(verdict.judged), verdict.status, f"{time.perf_counter() - start:.2f} s", "10 s")
        )
    return ("judge(f, 'lstm')", "cases", "status", "time", "limit"), rows


def enclosures():
    """Seconds of certified enclosures; medians of three."""
    rows, base = [], {}
    for name, limit in (("tanh_rnn", (0.05, 5.0)), ("lstm", None)):
        for k, (T, B, D, H) in enumerate(((15, 4, 10, 20), (100, 8, 64, 128))):
            cell = derive.load(name)
            params = numeric.Engine(cell, fast=False).init(seed=1, D=D, H=H, O=10)
            random = np.random.default_rng(0)
            x, y = random.standard_normal((T, B, D)), random.integers(0, 10, (T, B))
            problem = check_problem(cell, np.dtype(np.float64), params, x, y, {})
            times = []
            for _ in range(3):
                start = time.perf_counter()
                found = certify_problem(cell, problem)
                times.append(time.perf_counter() - start)
            took = float(np.median(times))
            base.setdefault(k, took)
            allowed = f"{limit[k]} s" if limit else f"{4 * base[k]:.2f} s (4 times tanh)"
            rows.append((name, f"T{T} B{B} D{D} H{H}", f"{took:.3f} s", allowed, f"{found.bits} bits"))
    return ("cell", "size", "time", "limit", "precision"), rows


SECTIONS = {f.__name__: f for f in (power, mistakes, calibration, conformance, judging, enclosures)}


def _text(head, rows):
    cells = [[str(c) for c in row] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in head) + " |", *lines[1:]])


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--json")
    parser.add_argument("--write", help="a Markdown file")
    arguments = parser.parse_args(argv)
    found, text = {}, []
    for name in arguments.only.split(","):
        head, rows = SECTIONS[name]()
        found[name] = [dict(zip(head, row, strict=True)) for row in rows]
        text.append(f"## {name}\n\n{SECTIONS[name].__doc__}\n\n{_text(head, rows)}\n")
        print(text[-1], flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1, default=str)
    if arguments.write:
        with open(arguments.write, "w", encoding="utf-8") as file:
            file.write("# The oracle's figures\n\n" + "\n".join(text))


if __name__ == "__main__":
    main()
