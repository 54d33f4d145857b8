"""An author's file run as it stands: no derivative is taken from the derivation, each from its own line.

What a line needs is found by evaluating it: a value that is not known yet is noted, evaluated first, and the line is
read again.  So a recursion over any number of steps never goes deep, whichever way it runs in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from sympy import Integer

from derive.adjoint import Backward
from derive.errors import CellError
from derive.handwritten.bench import Understanding
from derive.handwritten.claims import entries_of
from derive.handwritten.explicit import ExplicitTruth
from derive.handwritten.explicit_reading import ExplicitReading
from derive.handwritten.lines import Line
from derive.handwritten.text import NotSayableError, Text
from derive.handwritten.times import EVERY
from derive.handwritten.values import UNDEFINED, ZERO, plus
from derive.notation import at, parameter
from derive.sample import Sample
from derive.unroll import Key, explicit
from derive.unrolled_proofs import Unrolled

__all__ = ["AsWritten", "Wanted", "runs_right"]


class Wanted(NamedTuple):
    """What a line gives: ``role`` and ``name`` are those of its target; ``time`` is None without an index."""

    role: str
    name: str
    time: Any


class AsWritten(ExplicitReading):
    """The file alone: every derivative is what its line says.

    Without a line the derivative by an output is what the loss gives; there is none of anything else.  Values of the
    cell, Jacobians, immediate and truncated derivatives, and the derivative of one step's loss term are truths.
    """

    def __init__(self, text: Text, truth: Any) -> None:
        super().__init__(text, truth)
        self.missing: dict[Wanted, None] = {}  # what an evaluation had to do without
        self.line: Line | None = None  # the one that is being evaluated

    def settled(self, wanted: Wanted) -> Any:
        """The value of a line, whatever it needs evaluated first.

        Raises :class:`CellError` for a derivative that no line gives, and for one that needs itself.
        """
        waiting, stack = set(), [wanted]
        while stack:
            top = stack[-1]
            if top in self.known:
                stack.pop()
                continue
            self.missing = {}
            value = self.computed(top)
            if not self.missing:
                self.known[top] = value
                waiting.discard(stack.pop())
                continue
            waiting.add(top)
            for need in self.missing:
                if need in waiting:
                    raise self.error(f"{self.shown(need)} needs itself")
            stack.extend(self.missing)
        return self.known[wanted]

    def computed(self, wanted: Wanted) -> Any:
        """What the line says, as far as what it needs is known; the rest is noted in ``missing``."""
        line = self.line_of(*wanted)
        if line is None:
            return ZERO  # an own definition, for a step that no line speaks of
        self.line = line
        return self.value(line.value, self.env_of(line, wanted.time))

    def written(self, role: str, name: str, time: Any) -> Any:
        """A value that a line gives; noted, and undefined for now, where it is not known yet."""
        wanted = Wanted(role, name, time)
        if wanted not in self.known:
            self.missing[wanted] = None
            return UNDEFINED
        return self.known[wanted]

    # -------------------------------------------------------------------------------------------- what a name is worth

    def derivative(self, name: str, time: Any) -> Any:
        """The line's value; what the loss gives where there is no line for an output."""
        place, cell = self.truth.place(time), self.truth.cell
        if place in ("before", "after") or (place == "start" and name not in cell.states):
            return ZERO
        if self.line_of("derivative", name, time) is not None:
            return self.written("derivative", name, time)
        if place == "start" and self.line_of("initial", name, None) is not None:
            return self.written("initial", name, None)
        if name in cell.outputs:
            return self.truth.from_loss(time).get(at(name), ZERO)
        one = place == "start" or self.has_lines("derivative", name)  # other steps have a line
        raise self.no_line(f"d{name}[{time if one else 't'}]", f"d{name}[t] = ...")

    def gradient(self, name: str) -> Any:
        """What the line for a parameter's gradient says."""
        if self.line_of("gradient", name, None) is None:
            raise self.no_line(f"d{name}", f"d{name} = ...")
        return self.written("gradient", name, None)

    def bare(self, name: str) -> Any:
        """A name without an index."""
        reference = self.names.bare(name, (0, 0))
        if reference.role == "initial":
            if self.line_of("initial", reference.name, None) is None:
                return self.derivative(reference.name, self.start())
            return self.written("initial", reference.name, None)
        return super().bare(name)

    def indexed(self, name: str, time: Any) -> Any:
        """A name with an index."""
        reference = self.names.indexed(name, (0, 0))
        if reference.role in ("local", "softmax") and self.line_of(reference.role, reference.name, time) is not None:
            return self.written(reference.role, reference.name, time)
        return super().indexed(name, time)

    def own(self, name: str, time: Any) -> Any:
        """An own definition at a time; a recursion that has run out of the sequence is zero."""
        line = self.line_of("own", name, time)
        if line is None:
            return ZERO
        general = line.target.when is not None and line.target.when.anchor == EVERY
        if general and self.beyond(line, time):
            return ZERO
        return self.written("own", name, time)

    @cached_property
    def lines(self) -> Mapping[tuple[str, str], list[Line]]:
        """The lines by what they are about; those for one step come first."""
        out: dict[tuple[str, str], list[Line]] = {}
        for line in self.text.script.lines:
            name = "" if line.target.role == "softmax" else line.target.name
            out.setdefault((line.target.role, name), []).append(line)
        for lines in out.values():
            lines.sort(key=lambda x: x.target.when is None or x.target.when.anchor == EVERY)
        return out

    def has_lines(self, role: str, name: str) -> bool:
        """Whether any line is about a name."""
        return (role, name) in self.lines

    def line_of(self, role: str, name: str, time: Any) -> Line | None:
        """The line for a name at a step: the one for that step alone, or the one for every t."""
        for line in self.lines.get((role, name), ()):
            when = line.target.when
            if when is None or when.anchor == EVERY or self.time(when, {}) == time:
                return line
        return None

    def no_line(self, what: str, wanted: str) -> CellError:
        """The error for a derivative that is used and not defined."""
        return self.error(f"this uses {what}, and no line says what it is", expected=f"an equation {wanted}")

    def error(self, why: str, **more: str) -> CellError:
        """An error about the line that is being evaluated."""
        return CellError(why, self.line.equation.position if self.line else None, **more)

    @staticmethod
    def shown(wanted: Wanted) -> str:
        """A wanted value as the file would write it."""
        prefix = {"own": "", "local": "dl_d", "softmax": "p"}.get(wanted.role, "d")
        name = f"{prefix}{wanted.name}" + ("0" if wanted.role == "initial" else "")
        return name if wanted.time is None else f"{name}[{wanted.time}]"


def _reached(name: str, reads: Mapping[str, set[str]]) -> set[str]:
    """Everything that a name reads, directly or through others."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        for other in reads.get(ahead.pop(), ()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return found


def runs_right(text: Text, backward: Backward, how: Understanding, *, steps: int = 3, size: int = 2) -> bool | None:
    """Whether every gradient of the file, run as it stands, is the one of the unrolled network; None if it cannot run.

    Evaluated exactly at one random point of a finite field (:mod:`derive.sample`); the truth is differentiated forward
    through the unrolled network and owes nothing to the backward recursion.
    """
    cell = text.script.cell
    sizes, sample = dict.fromkeys(cell.dimensions, size), Sample(7)
    unrolled = Unrolled(backward.program, steps, sizes, sample)

    def make(key: Key) -> Any:
        known = key[0] in cell.parameters or key[0] in cell.axes
        return sample.generator(explicit(cell, key) if known else parameter("/".join(map(str, key))))

    truth = ExplicitTruth(backward, how.loss, sample, steps, sizes, make)
    reading = AsWritten(text, truth)
    right = _by_forward_mode(unrolled, truth)
    compared = False
    try:
        for line in text.script.lines:
            if line.target.role == "gradient":
                compared = True
                value = reading.settled(Wanted("gradient", line.target.name, None))
                if value is UNDEFINED or not _same(value, right, line.target.name, truth):
                    return False
    except (CellError, NotSayableError, ZeroDivisionError):
        return None
    return True if compared else None


def _by_forward_mode(unrolled: Unrolled, truth: ExplicitTruth) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for t, values in enumerate(unrolled.jets[0], 1):
        for symbol, weights in truth.from_loss(t).items():
            for jet, weight in zip(values[symbol], weights.entries, strict=True):
                for leaf, slope in jet.d.items():
                    out[leaf] = plus(out.get(leaf, ZERO), slope * weight)
    return out


def _same(value: Any, right: dict[Any, Any], name: str, truth: ExplicitTruth) -> bool:
    shape = [truth.sizes[x] for x in truth.cell.parameters[name]]
    keys: list[Key] = [(name,)]
    for n in shape:
        keys = [(*key, i) for key in keys for i in range(n)]
    zero = truth.algebra.number(Integer(0))
    wanted = [right.get(explicit(truth.cell, key), zero) for key in keys]
    yours = entries_of(value, value)
    if value is ZERO:
        yours = [zero] * len(wanted)
    if yours is None or len(yours) != len(wanted):
        return False
    return all((x - y).is_zero for x, y in zip(yours, wanted, strict=True))
