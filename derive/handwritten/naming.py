"""Which known mistake a wrong line is: the edit of the right line that gives exactly this one.

The right line for dX is computed once more with one sum of the backward program edited, as far as the author wrote it
out: what the author names (dh[t+1], da[t+1]) keeps its true value.  Edits are compared in floating point first, and one
that fits is then compared as a polynomial, for every size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from sympy import Symbol

from derive.handwritten.bench import Bench, Understanding
from derive.handwritten.candidates import Candidate, symbol_named
from derive.handwritten.claims import left_side, right_side, same_numbers, times_of
from derive.handwritten.edits import (
    Named,
    Value,
    factors,
    forward_edit,
    jacobian_edits,
    loss_edit,
    step_edit,
    sum_edits,
)
from derive.handwritten.generic import HigherError
from derive.handwritten.generic_reading import as_series
from derive.handwritten.lines import Line
from derive.handwritten.proofs import Prover, is_nothing
from derive.handwritten.reading import Reading
from derive.handwritten.text import UNREADABLE
from derive.handwritten.times import EVERY, When
from derive.handwritten.values import UNDEFINED, minus
from derive.mistakes import LOSS_EDITS, Planted, plant, sentence
from derive.notation import at, time_of
from derive.program import Product
from derive.zero import BudgetError

__all__ = ["Named", "Namer"]


class _Recording:
    """Which derivatives a line takes by name."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.pins: dict[tuple[str, str, Any], Any] = {}

    def __enter__(self) -> _Recording:
        reading = self.reading
        reading.known.clear()  # what was computed before was not recorded
        reading.watch = self.pins
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.watch = None


class Namer:
    """Names the mistakes of one file's lines."""

    def __init__(self, bench: Bench, how: Understanding, prover: Prover) -> None:
        self.bench, self.how, self.prover = bench, how, prover
        self.backward = bench.backward

    @cached_property
    def planted(self) -> list[Planted]:
        """Every edit of a step."""
        return list(plant(self.backward))

    def name(self, line: Line) -> Named | None:
        """The known mistake that a wrong line is, if it is exactly one."""
        found: dict[str, Named] = {}
        for named, value in self.edits(line):
            if named.mistake not in found and self.fits(line, value) and self.is_exact(line, value):
                found[named.mistake] = named
        if not found:
            return None
        first, *others = found.values()
        also = dict.fromkeys((*first.also, *(o.mistake for o in others)))
        return replace(first, also=tuple(also))

    # ------------------------------------------------------------------------------------------------------- comparison

    def fits(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's, in floating point at every step."""
        reading = self.bench.reading(self.how)
        try:
            shown = False
            for time in times_of(reading, line):
                with _Recording(reading) as seen:
                    yours = right_side(reading, line, time)
                if yours is UNDEFINED:
                    continue
                edited, right = value(reading, line, time, seen.pins), left_side(reading, line, time)
                if edited is None or edited is UNDEFINED:
                    return False
                if not same_numbers(yours, edited, right):
                    return False
                shown = shown or not same_numbers(edited, right, right)
            return shown
        except UNREADABLE:
            return False

    def is_exact(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's for every size; where that is out of reach, on another network."""
        for ahead in range(1, 4):
            reading = self.prover.reading(True, ahead)
            try:
                time = line.target.when
                if line.target.role == "jacobian":
                    time = When(EVERY, 0)
                if time is None or time.anchor == EVERY:
                    with _Recording(reading) as seen:
                        yours = right_side(reading, line, time)
                    edited = value(reading, line, time, seen.pins)
                    both = as_series(yours, edited)
                    return is_nothing(minus(*both)) or self.fits_elsewhere(line, value)
                break
            except HigherError:
                continue
            except (BudgetError, *UNREADABLE):
                break
        return self.fits_elsewhere(line, value)

    def fits_elsewhere(self, line: Line, value: Value) -> bool:
        """Whether the edited line is the author's on a second network of another size."""
        return self.other.fits(line, value)

    @cached_property
    def other(self) -> Namer:
        """The same on a second network."""
        return Namer(Bench(self.bench.text, self.backward, steps=4, size=3, seed=1), self.how, self.prover)

    # ------------------------------------------------------------------------------------------------------------ edits

    def edits(self, line: Line) -> Iterator[tuple[Named, Value]]:
        """Every edit that might make this line, the likeliest kinds first."""
        target = _goal(line, self.how)
        if line.target.role == "jacobian":
            yield from jacobian_edits()
        if target is None:
            return
        is_output = target.name in self.bench.text.script.cell.outputs
        if target.role == "derivative" and is_output and self.how.loss.on in ("", target.name):
            yield from self.loss_edits(target.name)
        if target.role == "gradient" and line.target.when is None:
            yield from sum_edits(target.name)
        needed = self.needed(line, target)
        others = self.elsewhere(line, target)
        own = [target.name, _symbol(target, self.backward.flows), at(target.name, -1)]
        fitting = [planted for planted in self.planted if planted.target in needed]
        # the line's own sums come first; a sum that has a line of its own is right there, and comes last
        for planted in sorted(fitting, key=lambda p: (p.target not in own) + (p.target in others)):
            says = sentence(planted.mistake) if target.role == "jacobian" else self.says(planted)
            named = Named(planted.mistake, says, planted.also, needed[planted.target])
            yield named, step_edit(planted.backward, target)
        yield Named("time-forward", "the carry comes from t - 1, and should come from t + 1"), forward_edit(target)
        yield from factors(target)

    def says(self, planted: Planted) -> str:
        """What should change, where a whole sum is left out as well."""
        if planted.says != "all terms are missing" or isinstance(planted.target, str):
            return planted.says
        if time_of(planted.target)[1] == -1:
            return "what comes back from the step after is missing"
        node = self.backward.program.node.get(planted.target)
        if isinstance(node, Product):
            return f"the term with {node.matrix}{'' if node.transposed else '.T'} is missing"
        return "a term is missing"

    def needed(self, line: Line, target: Candidate) -> dict[Symbol | str, int]:
        """Sums that the line writes out: those between its left side and the derivatives that it names.

        Each with the number of steps that it stands after the line's own.
        """
        reading = self.bench.reading(self.how)
        with _Recording(reading) as seen:
            for time in times_of(reading, line):
                try:
                    right_side(reading, line, time)
                except UNREADABLE:
                    continue
        named = {at(name) for role, name, _ in seen.pins if role == "derivative"}
        named |= {at(name, -1) for role, name, _ in seen.pins if role in ("carried", "handed")}
        flows = self.backward.flows
        first: Symbol | str = target.name if target.name in self.backward.matrices else _symbol(target, flows)
        start: list[tuple[Symbol | str, int]] = [(first, int(target.role == "carried"))]
        out: dict[Symbol | str, int] = {}
        while start:
            symbol, ahead = start.pop(0)
            if symbol in out:
                continue
            out[symbol] = ahead
            if isinstance(symbol, str):
                sources = [(pair.source, ahead) for pair in self.backward.matrices[symbol]]
            else:
                sources = [(flow.source, ahead) for flow in flows[symbol]]
                name, shift = time_of(symbol)
                if shift == 0 and name in self.bench.text.script.cell.states:
                    sources.append((at(name, -1), ahead + 1))
            start += [(s, k) for s, k in sources if s not in named]
        return out

    def elsewhere(self, line: Line, target: Candidate) -> set[Symbol | str]:
        """Sums that are the subject of another line."""
        goals = [_goal(x, self.how) for x in self.bench.text.script.lines if x is not line]
        return {at(g.name) for g in goals if g is not None and g.role == "derivative" and g.name != target.name}

    def loss_edits(self, on: str) -> Iterator[tuple[Named, Value]]:
        """Wrong derivatives of the loss by an output."""
        for edit in sorted(LOSS_EDITS, key=lambda e: e.loss != self.how.loss.kind):
            yield Named(edit.mistake, edit.says), loss_edit(edit.wrong, on)


def _goal(line: Line, how: Understanding) -> Candidate | None:
    """What a line is about, as something that truth knows."""
    target = line.target
    if target.role == "own":
        found = how.meanings.get(target.name)
        return found if isinstance(found, Candidate) else None
    if target.role == "jacobian" and target.when is not None and target.by_when == target.when.moved(-1):
        return Candidate("jacobian", target.name, target.by)
    if target.role in ("derivative", "local", "gradient"):
        name = how.conventions.get(target.name, target.name) if target.role == "derivative" else target.name
        return Candidate(target.role, name)
    return Candidate("carried", target.name) if target.role == "initial" else None


def _symbol(target: Candidate, flows: Mapping[Symbol, Any]) -> Symbol:
    if target.role in ("carried", "handed"):
        return at(target.name, -1)
    if target.role == "path":
        return symbol_named(target.name)
    bare = next((s for s in flows if s.name == target.name), None)
    return bare if bare is not None else at(target.name)
