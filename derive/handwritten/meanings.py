"""What an author means: which derivative an own definition is, and which convention a name follows.

A definition that is plainly meant as dL/d(pre-activation) has a true value.  Which one it is shows in two ways: what
its own line is worth, and what makes the lines right that use it.  The reading with the fewest wrong lines is taken, so
that one mistake is one wrong line, put where one repair makes the rest right.
"""

from __future__ import annotations

from typing import Any

from derive.handwritten.bench import Bench, Understanding
from derive.handwritten.candidates import Candidate, candidates, gates, symbol_named
from derive.handwritten.claims import entries_of
from derive.handwritten.lines import Line
from derive.handwritten.text import UNREADABLE, Text
from derive.handwritten.times import EVERY
from derive.handwritten.truth import LossRead
from derive.handwritten.values import UNDEFINED, ZERO
from derive.notation import at
from derive.syntax import Indexed, Name, terms, walk

__all__ = ["understand"]


def understand(text: Text, bench: Bench, loss: LossRead) -> Understanding:
    """The reading of a file that leaves the fewest lines wrong."""
    return _Search(text, bench, loss).run()


class _Search:
    def __init__(self, text: Text, bench: Bench, loss: LossRead) -> None:
        self.text, self.bench, self.loss = text, bench, loss
        self.script, self.cell = text.script, text.script.cell
        self.own = list(dict.fromkeys(x.target.name for x in self.script.lines if x.target.role == "own"))
        self.reads = {line.number: _names_in(line) for line in self.script.lines}
        self.candidates = list(candidates(bench.backward))
        self.tables: dict[Candidate, Any] = {}
        self.worths: dict[str, Candidate] = {}  # what definitions are by their own lines
        self.gates_of: dict[str, list[str]] = {}  # the named values that are f of a node
        for gate, node in gates(bench.backward).items():
            self.gates_of.setdefault(node, []).append(gate)

    def run(self) -> Understanding:
        how = Understanding(self.loss)
        how = self.by_value(how)
        for _ in range(3):
            before = how
            how = self.conventions(how)
            for name in self.own:
                how = self.better(name, how)
            if how == before:
                break
        return how

    # -- what a definition is worth

    def by_value(self, how: Understanding) -> Understanding:
        """Definitions that are worth a known derivative, each from those before it."""
        for name in self.own:
            found = self.worth(name, how)
            if found is not None:
                self.worths[name] = found
                how = Understanding(self.loss, {**how.meanings, name: found}, how.conventions)
        return how

    def worth(self, name: str, how: Understanding) -> Candidate | None:
        """The known quantity that a definition's own lines are worth."""
        others = {n: m for n, m in how.meanings.items() if n != name}
        reading = self.bench.reading(Understanding(self.loss, others, how.conventions))
        lines = self.script.defining(name)
        if any(line.target.when is None for line in lines):
            return None
        try:
            values = [_flat(reading.own(name, t)) for t in range(1, self.bench.steps + 1)]
        except UNREADABLE:
            return None
        fits = [c for c in self.candidates if _close(values, self.table(c))]
        return min(fits, key=lambda c: -self.hint(name, c), default=None)

    def table(self, candidate: Candidate) -> list[list[float] | None]:
        """A candidate's true values at every step."""
        if candidate not in self.tables:
            truth = self.bench.reading(Understanding(self.loss)).truth
            self.tables[candidate] = [_flat(candidate(truth, t)) for t in range(1, self.bench.steps + 1)]
        return self.tables[candidate]

    # -- what makes the rest right

    def affected(self, names: set[str]) -> list[Line]:
        """Lines that use or define any of some names, directly or through definitions."""
        grown = set(names)
        while True:
            more = {
                x.target.name for x in self.script.lines if x.target.role == "own" and self.reads[x.number] & grown
            } - grown
            if not more:
                break
            grown |= more
        return [x for x in self.script.lines if self.reads[x.number] & grown or _target_name(x) in names]

    def cost(self, lines: list[Line], how: Understanding) -> float:
        """Wrong lines."""
        reading = self.bench.reading(how)
        return sum(not self.bench.is_right(line, how, reading) for line in lines)

    def is_of_derivatives(self, name: str) -> bool:
        """Whether a definition is made of derivatives; one of values alone is none."""
        names = self.text.script.names
        if not any(self.reads[line.number] for line in self.script.defining(name)):
            return True  # a constant, such as 0, says nothing about what it is meant for
        waiting, seen = [name], {name}
        while waiting:
            for line in self.script.defining(waiting.pop()):
                for read in self.reads[line.number]:
                    found = names.find_indexed(read)
                    if found is not None and found.role in ("derivative", "local", "softmax", "target"):
                        return True
                    if read in self.own and read not in seen:
                        seen.add(read)
                        waiting.append(read)
        return any(name in self.reads[line.number] for line in self.script.defining(name))

    def better(self, name: str, how: Understanding) -> Understanding:
        """The meaning of one definition that leaves the fewest lines wrong."""
        lines = self.affected({name})
        if any(x.target.when is None for x in self.script.defining(name)) or not self.cost(lines, how):
            return how
        best, least = how, self.cost(lines, how) - self.hint(name, how.meanings.get(name))
        without = {n: m for n, m in how.meanings.items() if n != name}
        of_derivatives = self.is_of_derivatives(name)
        for candidate in (None, *self.candidates):
            if candidate is not None and not self.fits_kind(name, candidate):
                continue
            if candidate is not None and candidate.role != "jacobian" and not of_derivatives:
                continue
            meanings = without if candidate is None else {**without, name: candidate}
            other = Understanding(self.loss, meanings, how.conventions)
            cost = self.cost(lines, other) - self.hint(name, candidate)
            if cost < least:
                best, least = other, cost
        return best

    def hint(self, name: str, candidate: Any) -> float:
        """How plainly a definition is meant as a candidate, apart from its value; less than one wrong line."""
        if not isinstance(candidate, Candidate):
            return -0.5 if self.is_named_for_one(name) else 0.0
        if candidate == self.worths.get(name):
            return 0.7  # its own line says so
        if candidate.role in ("carried", "handed") and self.is_handed(name, candidate):
            return 0.5
        if candidate.role == "jacobian":
            return 0.5 if candidate.name == candidate.by else 0.0
        reads = {n for line in self.script.defining(name) for n in self.reads[line.number]}
        if candidate.role in ("gradient", "accumulated", "collected"):
            users = [x for x in self.script.lines if name in self.reads[x.number]]
            return 0.5 if any((x.target.role, x.target.name) == ("gradient", candidate.name) for x in users) else 0.0
        if candidate.role == "derivative" and name in reads:  # a recursion of its own
            return max(_hint(name, candidate), 0.5)
        above = any(
            f"{prefix}{gate}" in reads for gate in self.gates_of.get(candidate.name, ()) for prefix in ("d", "dL_d")
        )
        return max(_hint(name, candidate), 0.5 if above and candidate.role == "derivative" else 0.0)

    def is_named_for_one(self, name: str) -> bool:
        """Whether a definition has the very name of the derivative by a node, da_i or d_a_i."""
        bare = name.removeprefix("dL_").removeprefix("d").strip("_")
        return bare != name and any(c.role == "derivative" and c.name == bare for c in self.candidates)

    def is_handed(self, name: str, candidate: Candidate) -> bool:
        """Whether a definition is a term by itself in the line for a state, at the step after or the same."""
        shift = int(candidate.role == "handed")
        for line in self.script.lines:
            if (line.target.role, line.target.name) == ("derivative", candidate.name):
                for term in terms(line.value):
                    alone = isinstance(term, Indexed) and term.name == name
                    if alone and self.text.indices.of(term).shift + line.offset == shift:
                        return True
        return False

    def fits_kind(self, name: str, candidate: Candidate) -> bool:
        """Whether a definition and a candidate have the same number of entries."""
        kind = self.text.kinds.own.get(name)
        sizes = self.sizes_of(candidate)
        if kind is None or kind.what not in ("vector", "matrix", "scalar"):
            return len(sizes) == 1
        same = len(kind.sizes) == len(sizes)
        return same and all(a is None or a == b for a, b in zip(kind.sizes, sizes, strict=True))

    def sizes_of(self, candidate: Candidate) -> tuple[str, ...]:
        """The letters of a candidate's sizes."""
        axes = self.bench.backward.program.axes
        if candidate.role in ("gradient", "accumulated", "collected"):
            return self.cell.parameters[candidate.name]
        if candidate.role == "jacobian":
            return self.cell.axes[candidate.name], self.cell.axes[candidate.by]
        if candidate.role == "path":
            return (axes[symbol_named(candidate.name)],)
        return (axes[at(candidate.name)],)

    def conventions(self, how: Understanding) -> Understanding:
        """Gates whose d-name is used for the derivative by the pre-activation."""
        used = {n: a for n, a in gates(self.bench.backward).items() if any(f"d{n}" in r or f"dL_d{n}" in r
                 for r in (*self.reads.values(), {_target_name(x) for x in self.script.lines}))}  # fmt: skip
        if not used:
            return how
        lines = self.affected({prefix + n for n in used for prefix in ("d", "dL_d")})
        best, least = how, self.cost(lines, how)
        if not least:
            return how
        options = [used, *({**how.conventions, n: a} for n, a in used.items())]
        options += [{n: a for n, a in how.conventions.items() if n != gate} for gate in how.conventions]
        for option in options:
            other = Understanding(self.loss, how.meanings, option)
            cost = self.cost(lines, other)
            if cost < least and all(self.is_throughout(gate, other) for gate in option):
                best, least = other, cost
        return best

    def is_throughout(self, gate: str, how: Understanding) -> bool:
        """Whether a gate's convention is kept where its d is defined, or everywhere else."""
        reading = self.bench.reading(how)
        own = [x for x in self.script.lines if (x.target.role, x.target.name) == ("derivative", gate)]
        if not any(x.target.when is not None and x.target.when.anchor == EVERY for x in own):
            return False  # nothing but the name says what it is, and the name says the derivative by the value
        if all(self.bench.is_right(line, how, reading) for line in own):
            return True
        uses = [x for x in self.script.lines if self.reads[x.number] & {f"d{gate}", f"dL_d{gate}"}]
        return bool(uses) and all(self.bench.is_right(line, how, reading) for line in uses)


def _target_name(line: Line) -> str:
    tree = line.equation.target
    return tree.name if isinstance(tree, Indexed | Name) else ""


def _names_in(line: Line) -> set[str]:
    return {x.name for x in walk(line.value) if isinstance(x, Indexed | Name)}


def _hint(name: str, candidate: Any) -> float:
    """Whether a definition's name speaks of a candidate: da_i, delta_i, di_raw of the pre-activation a_i."""
    if not isinstance(candidate, Candidate):
        return 0.0
    of = candidate.name.removeprefix("a_") if candidate.role == "derivative" else candidate.name
    bare = name.removeprefix("dL_").removeprefix("delta").removeprefix("d").strip("_")
    exact = bare == candidate.name
    words = {w for w in bare.replace("_", " ").split() if w} | {bare}
    carried = any(w in ("next", "carry", "future") for w in words) == (candidate.role in ("carried", "handed"))
    return 0.6 if exact else 0.5 if of in words and carried else 0.0


def _flat(value: Any) -> list[float] | None:
    if value is UNDEFINED:
        return None
    return [] if value is ZERO else entries_of(value, value)


def _close(a: list[Any], b: list[Any]) -> bool:
    """Whether two tables of values are the same to rounding."""
    for x, y in zip(a, b, strict=True):
        if x is None or y is None:
            return False
        if not x or not y:  # a zero of any shape
            if any(abs(v) > 1e-12 for v in (*x, *y)):
                return False
            continue
        size = max(map(abs, x), default=0) + max(map(abs, y), default=0)
        if len(x) != len(y) or not all(abs(v - w) <= 1e-9 * size for v, w in zip(x, y, strict=True)):
            return False
    return any(x for x in a)
