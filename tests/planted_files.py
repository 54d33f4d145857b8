"""Every catalogue mistake that equations can state, planted into a cell's own .backward file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import derive
from derive.handwritten.wording import backward_lines
from derive.mistakes import LOSS_EDITS, SUM_EDITS, plant
from derive.write import write

__all__ = ["PlantedFile", "own_lines", "planted_files"]

SLOPES = {
    "softmax_cross_entropy": "dy[t] = p[t] - target[t]",
    "squared_error": "dy[t] = y[t] - target[t]",
}


@dataclass(frozen=True)
class PlantedFile:
    """A file with one mistake: its name, other names that fit, and the numbers of the lines that say it."""

    mistake: str
    also: tuple[str, ...]
    text: str
    wrong: tuple[int, ...]


def own_lines(cell, loss="softmax_cross_entropy"):
    """The lines of a cell's own file, with its loss."""
    return [SLOPES[loss], *backward_lines(derive.differentiate(cell).backward)]


def planted_files(cell) -> Iterator[PlantedFile]:
    """Every mistake at every place of a cell's own file where the text shows it."""
    backward = derive.differentiate(cell).backward
    right = own_lines(cell)
    for planted in plant(backward):
        lines = [right[0], *backward_lines(planted.backward)]
        yield from _file(planted.mistake, planted.also, right, lines)
    for edit in LOSS_EDITS:
        if f"dy[t] = {write(edit.wrong)}" in SLOPES.values() or write(edit.wrong) == "2*y[t] - 2*target[t]":
            continue  # the right line of another loss
        right_here = own_lines(cell, edit.loss)
        lines = [f"dy[t] = {write(edit.wrong)}", *right_here[1:]]
        yield from _file(edit.mistake, (), right_here, lines)
    for i, line in enumerate(right):
        left, _, value = line.partition(" = ")
        if value.startswith("sum("):
            for edit in SUM_EDITS:
                lines = [*right[:i], f"{left} = {_combined(value, edit, left)}", *right[i + 1 :]]
                yield from _file(edit.mistake, (), right, lines)
        elif "[t+1]" in value:
            lines = [*right[:i], f"{left} = {value.replace('[t+1]', '[t-1]')}", *right[i + 1 :]]
            yield from _file("time-forward", (), right, lines)


def _file(mistake, also, right, lines):
    wrong = tuple(i + 1 for i, (a, b) in enumerate(zip(right, lines, strict=True)) if a != b)
    if wrong:
        yield PlantedFile(mistake, also, "\n".join(lines) + "\n", wrong)


def _combined(value, edit, left):
    """The sum of a file's line, combined over time as an edit says."""
    term = value.removeprefix("sum(").removesuffix(")")
    parts = []
    if edit.every != 0:
        parts.append(value if edit.every == 1 else f"({write(edit.every)})*{value}")
    for factor, old, now in ((edit.first, "t", 1), (edit.last, "t", "T")):
        if factor != 0:
            at = _at_one(term, old, now)
            parts.append(at if factor == 1 else f"({write(factor)})*({at})")
    if edit.weight:
        parts.append(f"1/100*{left[1:]}")
    return " + ".join(parts)


def _at_one(term, _, step):
    before = 0 if step == 1 else "T-1"
    return term.replace("[t-1]", f"[{before}]").replace("[t]", f"[{step}]")
