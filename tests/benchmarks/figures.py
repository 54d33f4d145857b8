"""The figures that the project holds itself to, measured: ``python tests/benchmarks/figures.py [--suite]``.

Every command runs in a process of its own, from a cold start, three times; the median is printed beside the limit,
with the largest resident memory and the size of the report.  ``--suite`` runs the test suite as well.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEAT = 3
BPTT = [sys.executable, "-m", "reports"]


def measure(command: list[str], repeat: int = REPEAT) -> tuple[float, float]:
    """Median seconds and largest resident megabytes of a command."""
    seconds, memory = [], 0.0
    for _ in range(repeat):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds.append(time.perf_counter() - start)
        if status:
            sys.exit(f"{' '.join(command)} failed")
        memory = max(memory, usage.ru_maxrss / 1024)
    return statistics.median(seconds), memory


CELLS = ["tanh_rnn", "lstm", "lstm_peephole", "gru", "gru_reset_after"]
REPORT, GALLERY, MEGABYTES = 15.0, 120.0, 3.0


def rows(folder: Path) -> list[tuple[str, float, list[list[str]]]]:
    """What is measured: a label, the limit in seconds, the commands whose times are added."""
    return [
        ("import derive", 0.6, [[sys.executable, "-c", "import derive"]]),
        ("bptt prove lstm", 8.0, [[*BPTT, "prove", "lstm"]]),
        ("bptt prove, all five cells", 25.0, [[*BPTT, "prove", cell] for cell in CELLS]),
        ("bptt report lstm -o lstm.backward", 5.0, [[*BPTT, "report", "lstm", "-o", str(folder / "lstm.backward")]]),
        ("bptt verify lstm.backward", 5.0, [[*BPTT, "verify", str(folder / "lstm.backward"), "--cell", "lstm"]]),
        ("the whole gallery", GALLERY, [[sys.executable, "-m", "reports.exhibits", "-o", str(folder)]]),
    ]


def reports(folder: Path) -> list[tuple[str, list[str], Path]]:
    """Reports that have a limit each: a label, the command, the file that it writes."""
    wanted = [*((cell, [cell], "html") for cell in CELLS), ("lstm", ["lstm"], "pdf")]
    wanted += [("--ledger", ["--ledger"], "html"), ("--ledger", ["--ledger"], "pdf")]
    found = []
    for name, what, suffix in wanted:
        file = folder / f"{name.strip('-')}.{suffix}"
        found.append((f"bptt report {name} -o .{suffix}", [*BPTT, "report", *what, "-o", str(file)], file))
    return found


def main() -> None:
    """Print one line a figure."""
    print(f"{'figure':34} {'median':>9} {'limit':>9} {'memory':>9} {'size':>16}")
    with tempfile.TemporaryDirectory() as folder:
        for label, limit, commands in rows(Path(folder)):
            found = [measure(command) for command in commands]
            total, memory = sum(s for s, _ in found), max(m for _, m in found)
            print(f"{label:34} {total:7.2f} s {limit:7.1f} s {memory:6.0f} MB", flush=True)
        for label, command, file in reports(Path(folder)):
            seconds, memory = measure(command)
            size = f"{file.stat().st_size / 1e6:.2f} of {MEGABYTES:.0f} MB"
            print(f"{label:34} {seconds:7.2f} s {REPORT:7.1f} s {memory:6.0f} MB {size:>16}", flush=True)
    if "--suite" in sys.argv[1:]:
        seconds, memory = measure([sys.executable, "-m", "pytest"], repeat=1)
        print(f"{'the test suite':34} {seconds:7.1f} s {300.0:7.1f} s {memory:6.0f} MB")


if __name__ == "__main__":
    main()
