"""Several known mistakes at once.

Two ways to look, both without trying every pair.  A mistake of the recursion, or none, explains some tensors of a
case; each of the rest is a parameter whose own sum is wrong, too: one of the few mistakes that this sum can have, on
top of the first.  Or two mistakes of the recursion: within one step each of them reaches certain tensors only, so a
tensor that one alone can reach must be what that one gives.  What is left is run, on the cheapest case first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from derive.adjoint import Backward
from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.candidates import Candidate, Predict, of_mutant, surviving, words_of
from numeric.oracle.compose import both, changed_sums, downstream, nothing_wrong, right_program
from numeric.oracle.evidence import Evidence
from numeric.oracle.mutants import Mutant, mutants

__all__ = ["Assembled", "assembled", "pairs"]

#: Pairs that are run, at most.
TRIED = 500

#: Mistakes that are put on others, and different ones in one result, at most.
BASES, NAMES = 24, 4


# ------------------------------------------------------------------------------------- a mistake, and sums on top of it


@dataclass
class Assembled:
    """A mistake of the recursion, or none, and for each tensor that it does not explain the mistakes that do."""

    base: Mutant
    leaves: dict[str, list[Mutant]]
    mixed: dict[Mutant, Mutant | None] = field(default_factory=dict)

    def meets(self, right: Backward, e: Evidence) -> bool:
        """Whether a case has these numbers, too; leaves that do not fit are dropped."""
        predicted = e.predicted(self.base)
        if predicted is not None and not predicted:
            return False
        for name in e.gradients_found:
            if name in self.leaves:
                fits = [m for m in self.leaves[name] if e.fits(name, self.of(right, m, e).get(name), self.mixed[m])]
                self.leaves[name] = fits
                if not self.leaves[name]:
                    return False
            elif not e.fits(name, (predicted or {}).get(name, e.exact(name)), self.base):
                return False
        return True

    def of(self, right: Backward, leaf: Mutant, e: Evidence) -> Mapping[str, Array]:
        """What base and leaf give together."""
        if leaf not in self.mixed:
            self.mixed[leaf] = both(right, self.base, leaf) if self.base.name else leaf
        mixed = self.mixed[leaf]
        if mixed is None:
            return {}
        found = e.predicted(mixed)
        return e.run.right if found is None else found

    def covers(self) -> list[list[Mutant]]:
        """Every way to explain all tensors with as few mistakes, by name, as possible."""
        by_name = {n: [m.name for m in ms] for n, ms in self.leaves.items()}
        names = list(dict.fromkeys(x for ms in by_name.values() for x in ms))
        for size in range(1, NAMES + 1):
            whole = [c for c in combinations(names, size) if all(set(c) & set(own) for own in by_name.values())]
            if whole:
                return [[next(m for m in ms if m.name in c) for ms in self.leaves.values()] for c in whole]
        return []


def assembled(cell: Cell, evidence: Sequence[Evidence]) -> list[Assembled]:
    """Every mistake of the recursion, or none, with mistakes of single sums that together give all numbers."""
    right, known = right_program(cell), mutants(cell)
    first = most_wrong(evidence)
    leaves = {n: [m for m in known if is_sum_of(right, m, n)] for n in cell.parameters}
    bases = [nothing_wrong(cell), *likely_bases(known, right, first, cell)]
    out = []
    for base in bases:
        predicted = e_right(first, base)
        rest = [n for n in first.gradients_found if not first.fits(n, predicted.get(n))]
        if not rest or any(n not in leaves for n in rest):
            continue
        one = Assembled(base, {n: list(leaves[n]) for n in rest})
        if all(one.meets(right, e) for e in [first, *(e for e in evidence if e is not first)]) and one.covers():
            out.append(one)
    return out


def e_right(e: Evidence, m: Mutant) -> Mapping[str, Array]:
    """What a mistake gives, the right gradient where it is about another loss."""
    found = e.predicted(m)
    return e.run.right if found is None else found


def is_sum_of(right: Backward, m: Mutant, name: str) -> bool:
    """Whether a mistake is one of a parameter's own sum, and of nothing that is passed on."""
    if m.kind == "step":
        return {str(key) for key in changed_sums(right, m.backward)} == {name}
    return of_mutant(m).partly


def likely_bases(known: Sequence[Mutant], right: Backward, e: Evidence, cell: Cell) -> list[Mutant]:
    """Mistakes of the recursion that explain some wrong tensor; those that explain most first."""
    scores = []
    for m in known:
        if m.kind == "step" and {str(k) for k in changed_sums(right, m.backward)} <= set(cell.parameters):
            continue
        predicted = e.predicted(m)
        explained = sum(e.fits(n, predicted.get(n)) for n in e.wrong) if predicted else 0
        if explained:
            scores.append((explained, m))
    return [m for _, m in sorted(scores, key=lambda x: -x[0])[:BASES]]


# ---------------------------------------------------------------------------------------- two mistakes of the recursion


@dataclass(frozen=True)
class Mark:
    """What one mistake does to a case, as sets of bits: tensors it fits, tensors it can reach, whether it shows."""

    mutant: Mutant
    fits: int
    reaches: int
    shows: bool


def pairs(cell: Cell, evidence: Sequence[Evidence]) -> list[Candidate]:
    """Pairs of mistakes of the recursion that give all numbers of all cases."""
    right = right_program(cell)
    probe = min(evidence, key=lambda e: (e.case.T > 1, e.cost))
    most = most_wrong(evidence)
    known = [m for m in mutants(cell) if plausible(most, m)]
    order = sorted(evidence, key=lambda e: (e is not probe, not e.wrong, e.cost))
    found, tried = [], 0
    for a, b in likely(marks(known, right, probe), len(probe.gradients_found), bool(probe.wrong)):
        mixed = both(right, a, b)
        if mixed is None:
            continue
        tried += 1
        if tried > TRIED:
            break
        words = f"{words_of(a)}; and {words_of(b)}"
        candidate = Candidate(mixed.name, words, _predict(mixed), mutant=mixed, made_of=(a, b))
        if surviving([candidate], order):
            found.append(candidate)
    return found


def _predict(mixed: Mutant) -> Predict:
    return lambda e: e.run.gradient(mixed)


def most_wrong(evidence: Sequence[Evidence]) -> Evidence:
    """The case in which most is wrong; of several the cheapest."""
    return max(evidence, key=lambda e: (len(e.wrong), -e.cost))


def plausible(e: Evidence, m: Mutant) -> bool:
    """Whether a mistake changes what is wrong rather than what is right, which another one would have to undo."""
    predicted = e.predicted(m)
    if not predicted:
        return predicted is None
    changed = [n for n in e.gradients_found if not same_numbers(e, n, predicted.get(n))]
    return 2 * sum(n in e.wrong for n in changed) >= len(changed)


def marks(known: Sequence[Mutant], right: Backward, probe: Evidence) -> list[Mark]:
    """What each mistake does to the probe."""
    names = probe.gradients_found
    out = []
    for m in known:
        predicted = probe.predicted(m)
        if predicted is not None and not predicted:
            continue
        given = probe.run.right if predicted is None else predicted
        shows = any(not same_numbers(probe, n, given.get(n)) for n in names)
        fits = bits(probe.fits(n, given.get(n), m) for n in names)
        reached = reach(right, m, names, probe, shows)
        out.append(Mark(m, fits, bits(n in reached for n in names), shows))
    return out


def same_numbers(probe: Evidence, name: str, given: Array | None) -> bool:
    """Whether a mistake leaves a tensor as it is."""
    return given is not None and probe.misfit(name, given, probe.run.right[name]) <= 1.0


def reach(right: Backward, m: Mutant, names: Sequence[str], probe: Evidence, shows: bool) -> frozenset[str]:
    """The tensors that a mistake can change in a case."""
    if m.kind != "step":
        return frozenset(names) if shows else frozenset()
    found = downstream(m.backward, list(changed_sums(right, m.backward)))
    states = {f"{s}0" for s in probe.case.initial}
    if probe.case.T > 1 and found & states:
        return frozenset(names) & (found | downstream(m.backward, [s for s in right.flows if _is_state(s, states)]))
    return found


def _is_state(symbol: object, states: set[str]) -> bool:
    name = str(symbol)
    return name.endswith("[t]") and f"{name[:-3]}0" in states


def bits(flags: Iterator[bool]) -> int:
    """A set of bits."""
    return sum(1 << i for i, flag in enumerate(flags) if flag)


def likely(known: Sequence[Mark], count: int, wrong: bool) -> Iterator[tuple[Mutant, Mutant]]:
    """Pairs that the probe does not exclude; those of which it says most first."""
    every = (1 << count) - 1
    seen, hidden = [k for k in known if k.shows], [k for k in known if not k.shows]
    out: list[tuple[int, int, Mutant, Mutant]] = []
    if not wrong:
        out += [(0, 0, a.mutant, b.mutant) for a, b in combinations(hidden, 2)]
    else:
        out += [(0, i, a.mutant, b.mutant) for i, (a, b) in enumerate(product(seen, hidden)) if a.fits == every]
    for a, b in combinations(seen, 2):
        if not (~b.reaches & ~a.fits & every) and not (~a.reaches & ~b.fits & every):
            out.append(((a.reaches & b.reaches).bit_count(), 0, a.mutant, b.mutant))
    yield from ((a, b) for _, _, a, b in sorted(out, key=lambda x: x[:2]))
