"""What an author means: which derivative an own definition is, and which convention a name follows.

A definition that is plainly meant as dL/d(pre-activation) has a true value.  Which one it is shows in two ways: what
its own line is worth, and what makes the lines right that use it.  The reading with the fewest wrong lines is taken, so
that one mistake is one wrong line, put where one repair makes the rest right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Symbol

from derive.adjoint import Backward
from derive.handwritten.claims import agrees, entries_of, has_truth
from derive.handwritten.explicit import ExplicitTruth, Floats
from derive.handwritten.lines import Line
from derive.handwritten.reading import UNREADABLE, ExplicitReading, Meaning, Text
from derive.handwritten.times import EVERY
from derive.handwritten.truth import LossRead, Truth
from derive.handwritten.values import UNDEFINED, ZERO
from derive.notation import FUNCTIONS, at, time_of
from derive.present import Presented
from derive.program import Pointwise
from derive.syntax import Indexed, Name, walk
from derive.write import write

__all__ = ["Bench", "Candidate", "Understanding", "understand"]


@dataclass(frozen=True)
class Candidate:
    """Something that a definition may mean: ``role`` is the name of a method of Truth, or gradient or jacobian."""

    role: str
    name: str
    by: str = ""

    def __call__(self, truth: Truth, time: Any) -> Any:
        """Its true value."""
        if self.role == "gradient":
            return truth.gradient(self.name, time) if truth.place(time) in ("inside", "last") else ZERO
        if self.role == "path":
            return truth.path(symbol_named(self.name), int(self.by), time)
        if self.role == "jacobian":
            earlier = truth.moved(time, -1)
            return truth.jacobian(self.name, time, self.by, earlier, 1)
        return getattr(truth, self.role)(self.name, time)

    def says(self, backward: Backward) -> str:
        """In words."""
        if self.role == "derivative":
            return f"the derivative of the loss by {_node_words(backward, self.name)}"
        if self.role == "carried":
            return f"what the next step hands back to {self.name}[t]"
        if self.role == "path":
            name, shift = time_of(symbol_named(self.name))
            return f"one of the ways back to {name}[t{shift or ''}]"
        if self.role == "handed":
            return f"what step t hands back to {self.name}[t-1]"
        if self.role == "local":
            return f"the derivative of the loss term of step t by {_node_words(backward, self.name)}"
        if self.role == "gradient":
            return f"what step t adds to the gradient of {self.name}"
        if self.role in ("accumulated", "collected"):
            which = "later" if self.role == "accumulated" else "earlier"
            return f"what step t and all {which} ones add to the gradient of {self.name}"
        return f"the derivative of {self.name}[t] by {self.by}[t-1]"


@dataclass(frozen=True)
class Understanding:
    """How a file is read: its loss, what its own definitions mean, and gates whose d is that of the pre-activation."""

    loss: LossRead
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)


class Bench:
    """A random network in floating point, on which readings are compared: quick, and never the last word.

    Every size is ``size``, or, where they are ``distinct``, one more than that of the letter before.
    """

    def __init__(
        self, text: Text, backward: Backward, *, steps: int = 3, size: int = 2, seed: int = 0, distinct: bool = False
    ) -> None:
        self.text, self.backward, self.steps = text, backward, steps
        self.sizes = {x: size + (i if distinct else 0) for i, x in enumerate(text.script.cell.dimensions)}
        self.random = random.Random(seed)
        self.values: dict[Any, float] = {}
        self.truths: dict[LossRead, ExplicitTruth] = {}

    def make(self, key: Any) -> float:
        """An entry, drawn once."""
        return self.values.setdefault(key, self.random.uniform(0.3, 1.2) * self.random.choice((-1, 1)))

    def reading(self, how: Understanding) -> ExplicitReading:
        """The file as it is understood, on this network."""
        if how.loss not in self.truths:
            self.truths[how.loss] = ExplicitTruth(self.backward, how.loss, Floats(), self.steps, self.sizes, self.make)
        return ExplicitReading(self.text, self.truths[how.loss], how.meanings, how.conventions)

    def is_right(self, line: Line, how: Understanding, reading: ExplicitReading | None = None) -> bool:
        """Whether a line holds on this network; what cannot be told does not count as wrong."""
        reading = reading or self.reading(how)
        if not has_truth(reading, line.target):
            return True
        try:
            return agrees(reading, line)
        except UNREADABLE:
            return False


def understand(text: Text, bench: Bench, loss: LossRead) -> Understanding:
    """The reading of a file that leaves the fewest lines wrong."""
    return _Search(text, bench, loss).run()


class _Search:
    def __init__(self, text: Text, bench: Bench, loss: LossRead) -> None:
        self.text, self.bench, self.loss = text, bench, loss
        self.script, self.cell = text.script, text.script.cell
        self.own = list(dict.fromkeys(x.target.name for x in self.script.lines if x.target.role == "own"))
        self.reads = {line.number: _names_in(line) for line in self.script.lines}
        self.candidates = list(_candidates(bench.backward))
        self.tables: dict[Candidate, Any] = {}
        self.gates_of: dict[str, list[str]] = {}  # the named values that are f of a node
        for gate, node in _gates(bench.backward).items():
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

    def better(self, name: str, how: Understanding) -> Understanding:
        """The meaning of one definition that leaves the fewest lines wrong."""
        lines = self.affected({name})
        if any(x.target.when is None for x in self.script.defining(name)) or not self.cost(lines, how):
            return how
        best, least = how, self.cost(lines, how) - self.hint(name, how.meanings.get(name))
        without = {n: m for n, m in how.meanings.items() if n != name}
        for candidate in (None, *self.candidates):
            if candidate is not None and not self.fits_kind(name, candidate):
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
            return 0.0
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
        gates = {n: a for n, a in _gates(self.bench.backward).items() if any(f"d{n}" in r or f"dL_d{n}" in r
                 for r in (*self.reads.values(), {_target_name(x) for x in self.script.lines}))}  # fmt: skip
        if not gates:
            return how
        lines = self.affected({prefix + n for n in gates for prefix in ("d", "dL_d")})
        best, least = how, self.cost(lines, how)
        if not least:
            return how
        options = [gates, *({**how.conventions, n: a} for n, a in gates.items())]
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


def _gates(backward: Backward) -> dict[str, str]:
    """Named values that are f(a), and the name of the node a."""
    found = {}
    for node in backward.program.nodes:
        name = time_of(node.symbol)[0]
        if not isinstance(node, Pointwise) or name not in backward.program.cell.equations:
            continue
        if type(node.expression).__name__ in FUNCTIONS and node.expression.args[0] in backward.program.node:
            found[name] = time_of(node.expression.args[0])[0]
    return found


def symbol_named(name: str) -> Symbol:
    """The symbol that is written so: h[t-1]."""
    bare, _, index = name.partition("[t")
    return at(bare, int(index.rstrip("]") or "0"))


def _node_words(backward: Backward, name: str) -> str:
    """What a node of the program is, for somebody who has seen the cell only."""
    if name in backward.program.cell.axes:
        return f"{name}[t]"
    gate = next((gate for gate, node in _gates(backward).items() if node == name), None)
    shown = Presented(backward)
    known = {at(n): value for n, value in shown.preactivations.items()}
    inside = write(shown.inline.get(at(name), known.get(at(name), at(name))).xreplace(known))
    return f"the pre-activation of {gate}[t]" if gate else inside


def _candidates(backward: Backward) -> Iterator[Candidate]:
    """Everything that a definition may mean, the likeliest first."""
    cell, program = backward.program.cell, backward.program
    nodes = [n for n in program.nodes if isinstance(n, Pointwise)] + [
        n for n in program.nodes if not isinstance(n, Pointwise)
    ]
    for node in nodes:
        yield Candidate("derivative", time_of(node.symbol)[0])
    yield from (Candidate("derivative", name) for name in cell.inputs)
    yield from (Candidate(role, name) for role in ("carried", "handed") for name in cell.states)
    yield from (Candidate("local", time_of(n.symbol)[0]) for n in nodes if at(time_of(n.symbol)[0]) in backward.flows)
    for role in ("gradient", "accumulated", "collected"):
        yield from (Candidate(role, name) for name in cell.parameters)
    yield from (Candidate("jacobian", s, r) for s in cell.states for r in cell.states)
    for target, flows in backward.flows.items():
        if len(flows) > 1 and target in program.axes and time_of(target)[1] is not None:
            yield from (Candidate("path", target.name, str(i)) for i in range(len(flows)))


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
