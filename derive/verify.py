"""A person's own derivation, verified line by line.

Every line is judged with everything above it taken as right: a derivative in it stands for its true value, wherever it
is defined.  So one mistake is one wrong line, and a file that goes wrong early is still read to its end.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sympy import Rational

from derive.adjoint import Backward, backward_of
from derive.cell import Cell
from derive.errors import CellError
from derive.handwritten.bench import Bench, Understanding
from derive.handwritten.candidates import Candidate
from derive.handwritten.circles import check_circles
from derive.handwritten.claims import has_truth
from derive.handwritten.counterexample import Counterexample, find_counterexample
from derive.handwritten.differences import difference_text
from derive.handwritten.lines import Line, Script
from derive.handwritten.meanings import understand
from derive.handwritten.naming import Namer
from derive.handwritten.proofs import EVERY_SIZE, Prover
from derive.handwritten.running import runs_right
from derive.handwritten.source import loss_of, read, read_source
from derive.handwritten.text import Text
from derive.handwritten.wording import Wording, expected_text, said
from derive.parse import load
from derive.syntax import Name, walk

__all__ = ["Verification", "VerifiedLine", "verify"]

RUN_STEPS, RUN_SIZE = 3, 2
RIGHT, WRONG, DEFINITION, GIVEN, OPEN = "right", "wrong", "definition", "given", "not decided"


@dataclass(frozen=True)
class VerifiedLine:
    """One line and its verdict.

    ``status`` is right, wrong, definition, given, or "not decided".  A wrong line has ``expected``, the right line in
    the file's own names; ``mistake``, the known mistake that it is, with ``says``, what should change, and ``also``,
    other names that fit; or, where it is none, ``difference``, right - yours; and a ``counterexample``.  ``level`` says
    how a right line was shown, ``note`` what a reader should know.
    """

    number: int
    text: str
    status: str
    expected: str | None = None
    mistake: str | None = None
    says: str | None = None
    also: tuple[str, ...] = ()
    difference: str | None = None
    counterexample: Counterexample | None = None
    level: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """The verdict in words, the counterexample left out."""
        if self.status != WRONG:
            shown = self.status
            if self.level:
                how = "for every size" if self.level == EVERY_SIZE else self.level.removeprefix("proven, ")
                shown = f"right {how}" if self.status == RIGHT else f"{self.status}, right {how}"
            return f"{shown} ({self.note})" if self.note else shown
        out = f"WRONG: {self.says} ({self.mistake})" if self.mistake else "WRONG"
        out += f"; {self.note}" if self.note else ""
        return out


@dataclass(frozen=True)
class Verification:
    """What was found in a file of backward equations.

    ``missing`` are the gradients of parameters that no line gives; ``loss`` says which loss the file speaks of;
    ``ran`` whether the file, run as it stands at T = 3 and size 2, gives the gradients of the unrolled network (None
    where it cannot be run: a derivative has no line).  ``text`` is the file as it was handed in.
    """

    cell: Cell
    name: str
    lines: tuple[VerifiedLine, ...]
    missing: tuple[str, ...]
    loss: str
    notes: tuple[str, ...] = ()
    ran: bool | None = None
    text: str = ""

    @property
    def holds(self) -> bool:
        """Whether no line is wrong."""
        return not self.wrong

    @property
    def decided(self) -> bool:
        """Whether every line has a verdict."""
        return all(line.status != OPEN for line in self.lines)

    @property
    def wrong(self) -> tuple[VerifiedLine, ...]:
        """The wrong lines."""
        return tuple(line for line in self.lines if line.status == WRONG)

    def __str__(self) -> str:
        number = max(len(str(line.number)) for line in self.lines)
        width = min(60, max(len(line.text) for line in self.lines))
        out = []
        for line in self.lines:
            head = f"{line.number:{number}}  {line.text:{width}}"
            out.append(f"{head}  {line.verdict}")
            pad = " " * (number + 2 + width + 2)
            out += [f"{pad}{detail}" for detail in _details(line)]
        if self.missing:
            out.append(f"missing: {', '.join(self.missing)}")
        out += self.notes
        out.append(self.summary)
        return "\n".join(out)

    @property
    def summary(self) -> str:
        """The verdict on the whole file, in a line."""
        wrong, undecided = len(self.wrong), sum(line.status == OPEN for line in self.lines)
        if wrong:
            return f"{wrong} of {len(self.lines)} lines {'is' if wrong == 1 else 'are'} wrong"
        end = f"; {undecided} not decided" if undecided else ""
        if self.ran:
            end += f"; run as it stands at T = {RUN_STEPS}, the file gives the unrolled network's gradients"
        if self.ran is False:
            end += "; but run as it stands the file does NOT give the unrolled network's gradients"
        return f"no line is wrong{end}; the loss: {self.loss}"

    def __repr__(self) -> str:
        return f"<Verification of {self.name} for {self.cell.name}: {self.summary}>"


def _details(line: VerifiedLine) -> list[str]:
    out = []
    if line.expected:
        out.append(f"should be: {line.expected}")
    if line.difference:
        out.append(f"right - yours = {line.difference}")
    if line.also:
        out.append(f"also known as: {', '.join(line.also)}")
    if line.counterexample:
        out.append(f"smallest counterexample: {line.counterexample}")
    return out


def verify(
    source: str | os.PathLike[str],
    cell: Cell | str | os.PathLike[str],
    *,
    report: Callable[[str], None] = lambda stage: None,
) -> Verification:
    """Verify backward equations for a cell, line by line.

    ``source`` is a text (with a line break, an equals sign or brackets) or the path of a .backward file; ``cell`` a
    :class:`Cell`, a shipped cell's name or the path of a .cell file.  Raises :class:`CellError` for a text that cannot
    be read, FileNotFoundError for a path where nothing is.

    >>> import derive
    >>> v = verify("dW_hy = sum(outer(dy[t], h[t-1]))", "tanh_rnn")
    >>> v.lines[0].status, v.lines[0].mistake, v.lines[0].expected
    ('wrong', 'readout', 'dW_hy = sum(outer(dy[t], h[t]))')
    """
    name, text = read_source(source)
    if not isinstance(cell, Cell):
        cell = load(cell)
    try:
        return _Verifier(name, text, backward_of(cell), report).run()
    except CellError as error:
        raise error.in_source(name) if name else error from None
    except RecursionError:
        wanted = "shorter chains of definitions"
        raise CellError("definitions are nested too deeply", expected=wanted, source=name or None) from None


class _Verifier:
    def __init__(self, name: str, text: str, backward: Backward, report: Callable[[str], None]) -> None:
        self.name, self.cell, self.report = name, backward.program.cell, report
        self.backward = backward
        self.source, self.text = text, read(text, self.cell)
        self.script: Script = self.text.script

    def run(self) -> Verification:
        self.report("what the file means")
        self.bench = Bench(self.text, self.backward)
        self.how = understand(self.text, self.bench, loss_of(self.text, self.bench))
        self.prover = Prover(self.text, self.backward, self.how)
        lines = []
        for line in self.script.lines:
            self.report(f"line {line.number}")
            lines.append(self.verdict(line))
        ran = None
        if not any(x.status == WRONG for x in lines):
            check_circles(self.script, self.text.indices)
            self.report("the file as it stands")
            ran = runs_right(self.text, self.backward, self.how, steps=RUN_STEPS, size=RUN_SIZE)
        given = {x.target.name for x in self.script.lines if x.target.role == "gradient"}
        missing = tuple(f"d{n}" for n in self.cell.parameters if n not in given)
        return Verification(
            self.cell,
            self.name,
            tuple(lines),
            missing,
            _loss_words(self.how, self.cell),
            self.notes(),
            ran,
            self.source,
        )

    def notes(self) -> tuple[str, ...]:
        """What holds for the whole file."""
        return tuple(
            f"d{name} is read as the derivative by the pre-activation of {name}, as this file uses it throughout"
            for name in self.how.conventions
        )

    def verdict(self, line: Line) -> VerifiedLine:
        """The verdict on a line."""
        reading = self.bench.reading(self.how)
        if not has_truth(reading, line.target):
            return VerifiedLine(line.number, line.text, DEFINITION)
        status = {"own": DEFINITION, "forward": GIVEN, "softmax": GIVEN, "target": GIVEN}.get(line.target.role, RIGHT)
        misfit = self.text.kinds.misfits.get(line.number)
        if misfit is None and all(bench.is_right(line, self.how) for bench in (self.bench, *self.others)):
            level = EVERY_SIZE if self.prover.every_size(line) else self.prover.at_sizes(line)
            if level:
                return VerifiedLine(line.number, line.text, status, level=level, note=self.note(line, status))
        found = find_counterexample(self.text, self.backward, self.how, line)
        if found is None and misfit is None:
            return VerifiedLine(line.number, line.text, OPEN, note="neither a proof nor a counterexample was found")
        return self.wrong(line, found, f"shapes do not conform: {misfit}" if misfit else "")

    def wrong(self, line: Line, counterexample: Counterexample | None, note: str) -> VerifiedLine:
        """A wrong line: what it should be, and which mistake it is."""
        named = self.namer.name(line)
        expected = expected_text(self.wording, line, self.how, self.cell)
        difference = None
        if named is None and expected is not None:
            difference = self.difference(line, expected)
        return VerifiedLine(
            line.number,
            line.text,
            WRONG,
            expected=expected,
            mistake=named.mistake if named else None,
            says=said(named, line, self.wording) if named else None,
            also=named.also if named else (),
            difference=difference,
            counterexample=counterexample,
            note=note,
        )

    def difference(self, line: Line, expected: str) -> str | None:
        """right - yours."""
        kept = [x.equation for x in self.script.lines if x is not line]
        try:
            text = read("\n".join([*(e.text for e in kept), expected]), self.cell)
        except CellError:
            return None
        right = text.script.lines[-1]
        both = Text(text.script, text.kinds, text.indices)
        both.kinds.known.update(self.text.kinds.known)
        both.indices.when.update(self.text.indices.when)
        both.indices.ranges.update(self.text.indices.ranges)
        return difference_text(both, self.backward, self.how, line, right.value)

    @cached_property
    def others(self) -> tuple[Bench, ...]:
        """Networks that show what an identity between entries does not: one step, many steps, sizes all different."""
        shapes = ((1, 2), (2, 3), (8, 3))
        found = [Bench(self.text, self.backward, steps=t, size=n, seed=t, distinct=True) for t, n in shapes]
        if any(isinstance(x, Name) and x.name == "T" for line in self.script.lines for x in walk(line.value)):
            drawn = random.Random(self.source)  # nobody can write a text with a root at what is drawn from the text
            told = Rational(drawn.randrange(10**6, 10**7), 10**6)
            found.append(Bench(self.text, self.backward, seed=1, distinct=True, told=told))
        return tuple(found)

    @cached_property
    def namer(self) -> Namer:
        """Names mistakes, made when the first line is wrong."""
        return Namer(self.bench, self.how, self.prover)

    @cached_property
    def wording(self) -> Wording:
        """The derivation in the file's own names."""
        names, carries = _vocabulary(self.script, self.how)
        return Wording(self.backward, names, carries)

    def note(self, line: Line, status: str) -> str:
        """What a reader should know about a line that is not wrong."""
        if status == DEFINITION:
            meaning = self.how.meanings[line.target.name]
            return meaning.says(self.backward) if isinstance(meaning, Candidate) else ""
        if line.target.role == "derivative" and line.target.name == self.how.loss.on:
            y, loss = self.how.loss.on, _loss_words(self.how, self.cell)
            softmax = f"; for softmax cross-entropy, with p[t] = softmax({y}[t]), write p[t] - target[t]"
            return loss + (softmax if self.how.loss.kind == "squared_error" else "")
        return ""


def _vocabulary(script: Script, how: Understanding) -> tuple[Mapping[str, str], Mapping[str, tuple[str, int]]]:
    """The names that a file has for derivatives, and for what comes back from the next step."""
    names: dict[str, str] = {}
    carries: dict[str, tuple[str, int]] = {}
    for line in script.lines:
        if line.target.role == "derivative" and line.target.when is not None:
            tree = line.equation.target
            names[how.conventions.get(line.target.name, line.target.name)] = getattr(tree, "name", "")
    for own, meaning in how.meanings.items():
        if meaning.role == "derivative":
            names[meaning.name] = own
        elif meaning.role in ("carried", "handed"):
            carries[meaning.name] = (own, int(meaning.role == "handed"))
    return names, carries


def _loss_words(how: Understanding, cell: Cell) -> str:
    loss = how.loss
    if loss.kind == "any":
        return "any loss of the last step" if loss.last else "any loss"
    words = "softmax cross-entropy, targets that sum to one" if loss.kind.startswith("softmax") else "squared error"
    if loss.kind == "squared_error":
        words = "half the squared error" if loss.scale == 1 else "the squared error"
    words += ", the mean over the steps" if loss.per_step else ""
    return words + (", at the last step" if loss.last else "")
