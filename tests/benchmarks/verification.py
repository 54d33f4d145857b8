"""How many planted mistakes are found and named, and how many right derivations are called wrong.

``python tests/benchmarks/verification.py [--every N] [CELL ...]``: every catalogue mistake that equations can state, at
every place of each cell's own file, in three surface forms each, and every right file in ten; ``--every N`` takes each
N-th mistake only.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.resources import files
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parent.parent))

from planted_files import own_lines, planted_files
from surface_forms import surfaces

import derive

FORMS_WRONG, FORMS_RIGHT = 3, 10
PLAIN = {"database": None, "deadline": None, "phases": [Phase.generate]}
HEADINGS = ("planted", "found", "named", "by name", "slowest", "right", "called wrong")


def drawn(text, cell, count, start):
    """So many surface forms of a text."""
    found = []

    @seed(start)
    @settings(max_examples=count, suppress_health_check=list(HealthCheck), **PLAIN)
    @given(surfaces(text, cell))
    def collect(form):
        found.append(form)

    collect()
    return found


def wrong_files(name, every):
    """Planted, found at the right line, named, and named by the very name; seconds of the slowest file."""
    cell = derive.load(name)
    count = found = named = exact = 0
    slowest = 0.0
    for i, planted in enumerate(planted_files(cell)):
        for form in drawn(planted.text, cell, FORMS_WRONG, i) if i % every == 0 else ():
            start = time.perf_counter()
            v = derive.verify(form.text, cell)
            slowest = max(slowest, time.perf_counter() - start)
            there = bool(v.wrong) and v.wrong[0].number in {n for k in planted.wrong for n in form.lines[k]}
            names = {v.wrong[0].mistake, *v.wrong[0].also} if there else set()
            count, found = count + 1, found + there
            named += bool(names & {planted.mistake, *planted.also})
            exact += there and v.wrong[0].mistake == planted.mistake
    return count, found, named, exact, slowest


def right_files(name):
    """Right surface forms, and those in which a line was called wrong or not decided."""
    cell = derive.load(name)
    texts = ["\n".join(own_lines(cell))]
    for path in files("derive").joinpath("examples").iterdir():
        if max((c for c in derive.cells() if path.name.startswith(c)), key=len, default="") == name:
            texts.append(path.read_text(encoding="utf-8"))
    verdicts = [derive.verify(f.text, cell) for i, t in enumerate(texts) for f in drawn(t, cell, FORMS_RIGHT, i)]
    return len(verdicts), sum(not (v.holds and v.decided) for v in verdicts)


def main():
    """Print one line a cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("cells", nargs="*", default=derive.cells())
    arguments = parser.parse_args()
    print(f"{'cell':16}" + "".join(f"{heading:>13}" for heading in HEADINGS))
    for name in arguments.cells:
        count, found, named, exact, slowest = wrong_files(name, arguments.every)
        right, bad = right_files(name)
        print(
            f"{name:16}{count:13}{found / count:13.1%}{named / count:13.1%}{exact / count:13.1%}{slowest:11.2f} s"
            f"{right:13}{bad:13}",
            flush=True,
        )


if __name__ == "__main__":
    main()
