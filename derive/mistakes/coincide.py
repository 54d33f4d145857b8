"""Each known mistake of a cell is proven to be wrong, and those that give the same gradient are found.

A counterexample is a small unrolled cell at small rational numbers: balls enclose the derived value and the right one
(by differentiation forward through the network), and do not meet.  Two mistakes coincide when their gradients agree in
every entry at a random point modulo a large prime (five steps, two sequences, every size two), and then as rational
functions at a smaller size.

    python -m derive.mistakes.coincide            writes what is found for the shipped cells into the package
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import flint
from sympy import Symbol

from derive.adjoint import Backward, backward_of
from derive.algebra import evaluate
from derive.balls import BITS, Balls, precision
from derive.cell import Cell
from derive.mistakes.loop import LoopMistake, as_loop
from derive.mistakes.run import LastLoss, differs, gradient
from derive.mistakes.small_numbers import Numbers, apart
from derive.mistakes.sums import LOSS_EDITS, SUM_EDITS, LossEdit
from derive.mistakes.table import LOOP_MISTAKES, plant
from derive.notation import at
from derive.parse import cells, load
from derive.sample import Sample
from derive.step_proofs import uniform
from derive.unrolled_proofs import RIGHT, Unrolled
from derive.zero import Budget, BudgetError

__all__ = ["Counterexample", "Studied", "counterexample_of", "stored", "study", "study_losses"]

Case = tuple[int, int, int]  # steps, entries of every vector, sequences

CASES: tuple[Case, ...] = ((1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1), (1, 1, 2), (3, 1, 1), (5, 1, 1), (1, 3, 1))
POINT: Case = (5, 2, 2)
EXACT: tuple[Case, ...] = ((2, 2, 1), (2, 1, 1))


@dataclass(frozen=True)
class Counterexample:
    """The gradient by ``entry``, derived and right, of a cell unrolled at small numbers."""

    case: Case
    entry: str
    derived: str
    right: str

    def __str__(self) -> str:
        steps, size, batch = self.case
        return f"T = {steps}, sizes {size}, B = {batch}: d {self.entry} is {self.derived}, right {self.right}"


@dataclass(frozen=True)
class Studied:
    """A mistake made at one place, why it is wrong, and the labels of those that give the same gradient.

    ``kind`` is "step", "loss", "sum" or "loop".
    """

    kind: str
    mistake: str
    where: str
    says: str
    counterexample: Counterexample
    same: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The mistake and its place, unlike any other's."""
        return f"{self.mistake} in {self.where}: {self.says}"


@dataclass(frozen=True)
class _Wrong:
    """A wrong backward program in a loop that may be wrong."""

    kind: str
    mistake: str
    where: str
    says: str
    backward: Backward
    loop: LoopMistake = RIGHT


def _all(backward: Backward) -> Iterator[_Wrong]:
    for p in plant(backward):
        yield _Wrong("step", p.mistake, p.where, p.says, p.backward)
    for edit in SUM_EDITS:
        yield _Wrong("sum", edit.mistake, "the sum over time", edit.says, backward, as_loop(edit))
    for loop in LOOP_MISTAKES:
        yield _Wrong("loop", loop.name, "the loop", loop.says, backward, loop)


# ------------------------------------------------------------------------------------------------------ counterexamples


class _Network:
    """One cell unrolled at numbers; the right gradients are computed when they are asked for."""

    def __init__(self, backward: Backward, case: Case) -> None:
        steps, size, batch = case
        self.case, sizes, program = case, uniform(backward.program.cell, size), backward.program
        self.numbers = Numbers()
        algebra: Any = self.numbers  # like the others
        self.whole, self.last = (kind(program, steps, sizes, algebra, batch) for kind in (Unrolled, LastLoss))

    @cached_property
    def rights(self) -> Mapping[str, Mapping[Symbol, Any]]:
        """Forward through the network, with a loss at every step and at the last one."""
        return {"": self.whole.truth, "last": self.last.truth}

    def counterexample(self, wrong: _Wrong) -> Counterexample | None:
        """The first entry at which the balls do not meet."""
        derived = gradient(self.whole, wrong.backward, wrong.loop)
        first = next(apart(derived, self.rights[wrong.loop.right.at]), None)
        return first and Counterexample(self.case, str(first[0]), _short(first[1]), _short(first[2]))


def counterexample_of(cell: Cell, label: str) -> tuple[Counterexample, dict[str, str]] | None:
    """The smallest network on which a known mistake of a cell shows, by its label, and the numbers that it is made of.

    A number d and a name is what the loss gives that value.  None for a label that is none of the cell's, or that
    shows in none of the small networks.

    >>> label = "carry-missing in d h[t-1]: the term with W_hh.T is missing"
    >>> found, numbers = counterexample_of(load("tanh_rnn"), label)
    >>> str(found), numbers["W_hh[1,1]"]
    ('T = 1, sizes 1, B = 1: d h[0][1] is 0, right -0.0205129', '-514/500')
    """
    backward = backward_of(cell)
    wrong = next((w for w in _all(backward) if f"{w.mistake} in {w.where}: {w.says}" == label), None)
    with precision(BITS):
        for case in CASES if wrong else ():
            network = _Network(backward, case)
            found = network.counterexample(wrong)  # type: ignore[arg-type]
            if found is not None:
                return found, dict(sorted(network.numbers.named.items()))
    return None


def _short(ball: Any) -> str:
    return str(flint.arb(ball.mid()).str(6, radius=False))


# ----------------------------------------------------------------------------------------------------------- coinciding


class _Same:
    """Which wrong gradients are the same: at a random point, then as rational functions."""

    def __init__(self, backward: Backward) -> None:
        self.backward = backward
        steps, size, batch = POINT
        sizes = uniform(backward.program.cell, size)
        self.point = Unrolled(backward.program, steps, sizes, Sample(7), batch)

    def groups(self, wrong: Sequence[_Wrong]) -> list[list[int]]:
        """Indices of wrong derivations that give the same at the point, of those that are of the same loss."""
        found: dict[tuple[object, ...], list[int]] = {}
        for i, w in enumerate(wrong):
            if not w.loop.ordered:
                values = gradient(self.point, w.backward, w.loop)
                key = (w.loop.right.at, *((s.name, values[s].n) for s in sorted(values, key=str)))
                found.setdefault(key, []).append(i)
        return [group for group in found.values() if len(group) > 1]

    def exactly(self, first: _Wrong, second: _Wrong) -> bool:
        """Whether two wrong gradients are the same rational functions, at the largest size that the budget reaches."""
        for network in self.networks:
            try:
                a, b = (gradient(network, w.backward, w.loop) for w in (first, second))
                return not differs(a, b)
            except BudgetError:
                continue
        return True

    @cached_property
    def networks(self) -> list[Unrolled]:
        """Over rational functions, the largest first."""
        program = self.backward.program
        return [
            Unrolled.exact(program, steps, uniform(program.cell, size), Budget(seconds=60), batch)
            for steps, size, batch in EXACT
        ]


def study(cell: Cell) -> tuple[Studied, ...]:
    """Every known mistake at every place of a cell, with a counterexample and the mistakes that coincide with it."""
    backward = backward_of(cell)
    with precision(BITS):
        networks = [_Network(backward, case) for case in CASES]
        shown = [(w, next((c for n in networks if (c := n.counterexample(w))), None)) for w in _all(backward)]
    # what changes no number of this cell is no mistake here
    wrong = [w for w, c in shown if c is not None]
    alone = [Studied(w.kind, w.mistake, w.where, w.says, c) for w, c in shown if c is not None]
    same = _coinciding(_Same(backward), wrong)
    return tuple(replace(s, same=tuple(alone[j].label for j in same[i])) for i, s in enumerate(alone))


def _coinciding(same: _Same, wrong: Sequence[_Wrong]) -> list[list[int]]:
    """For each wrong derivation the others that give the same."""
    out: list[list[int]] = [[] for _ in wrong]
    for group in same.groups(wrong):
        first, *others = group
        kept = [first, *(i for i in others if same.exactly(wrong[first], wrong[i]))]
        for i in kept:
            out[i] = [j for j in kept if j != i]
    return out


# --------------------------------------------------------------------------------------------------------------- losses


def study_losses() -> tuple[Studied, ...]:
    """The wrong derivatives of losses, each at one entry of y."""
    shown = [(e, _loss_counterexample(e)) for e in LOSS_EDITS]
    return tuple(Studied("loss", e.mistake, e.loss, e.says, c) for e, c in shown if c is not None)


def _loss_counterexample(edit: LossEdit) -> Counterexample | None:
    """Entry 1 of three, the target a distribution that is not one class."""
    with precision(BITS):
        y, target = ([flint.arb(flint.fmpq(n, 4)) for n in row] for row in ((3, -1, 2), (2, 1, 1)))
        p = y[0].exp() / sum((v.exp() for v in y[1:]), y[0].exp())
        known = {at("p"): p, at("y"): y[0], at("target"): target[0]}
        first = at("p") if edit.loss == "softmax_cross_entropy" else at("y")
        wrong, right = (evaluate(e, known.__getitem__, Balls()) for e in (edit.wrong, first - at("target")))
        apart = not (wrong - right).contains(0)
    return Counterexample((1, 3, 1), "y[1][1]", _short(wrong), _short(right)) if apart else None


# ----------------------------------------------------------------------------------------------- what is in the package


def stored(name: str) -> tuple[Studied, ...]:
    """What was found for a shipped cell, or for "losses"."""
    data = json.loads(files("derive").joinpath("mistakes", "studied", f"{name}.json").read_text(encoding="utf-8"))
    rows = [_read(row) for row in data["mistakes"]]
    groups: dict[int, list[str]] = {}
    for s, group in rows:
        groups.setdefault(group, []).append(s.label)
    return tuple(replace(s, same=tuple(x for x in groups[g] if g and x != s.label)) for s, g in rows)


def _read(row: Sequence[Any]) -> tuple[Studied, int]:
    kind, mistake, where, says, case, entry, derived, right, group = row
    steps, size, batch = case
    return Studied(kind, mistake, where, says, Counterexample((steps, size, batch), entry, derived, right)), group


def as_json(name: str, found: Sequence[Studied]) -> str:
    """One line a mistake: kind, name, place, what should change, [T, size, B], entry, derived, right, group."""
    group: dict[str, int] = {}
    rows = []
    for s in found:
        if s.same and s.label not in group:
            group |= dict.fromkeys((s.label, *s.same), 1 + len(set(group.values())))
        c = s.counterexample
        row = [s.kind, s.mistake, s.where, s.says, list(c.case), c.entry, c.derived, c.right, group.get(s.label, 0)]
        rows.append("  " + json.dumps(row))
    return f'{{"cell": {json.dumps(name)}, "mistakes": [\n' + ",\n".join(rows) + "\n]}\n"


def _study_named(name: str) -> tuple[Studied, ...]:
    return study(load(name))


def main() -> None:
    """Write what is found for every shipped cell."""
    folder = Path(str(files("derive").joinpath("mistakes", "studied")))
    work: dict[str, Callable[[], tuple[Studied, ...]]] = {"losses": study_losses}
    work |= {name: partial(_study_named, name) for name in cells()}
    for name, run in work.items():
        found = run()
        (folder / f"{name}.json").write_text(as_json(name, found), encoding="utf-8")
        print(f"{name}: {len(found)} mistakes, {sum(bool(s.same) for s in found)} of them coincide with others")


if __name__ == "__main__":
    main()
