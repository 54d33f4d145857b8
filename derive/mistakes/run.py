"""Running wrong derivations: what a wrong step, a wrong loop or a wrong sum gives for an unrolled cell."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sympy import Symbol

from derive.adjoint import Backward, backward_of
from derive.cell import Cell
from derive.mistakes.loop import LoopMistake, as_loop
from derive.mistakes.sums import LOSS_EDITS, SUM_EDITS
from derive.mistakes.table import LOOP_MISTAKES, plant
from derive.program import Program
from derive.sample import Sample
from derive.step_proofs import uniform
from derive.unroll import Gradient, Values, explicit, sweep
from derive.unrolled_proofs import RIGHT, Unrolled

__all__ = ["LastLoss", "applying", "contributions", "differs", "gradient", "summed", "with_program"]


class LastLoss(Unrolled):
    """An unrolled cell of which the last step alone has a loss."""

    def cotangents(self, sequence: str) -> list[Values]:
        """Free cotangents at the last step, zero at the others."""
        return list(_counted(super().cotangents(sequence), "last"))


Contributions = Sequence[Sequence[Gradient]]  # by sequence, then by step


def gradient(whole: Unrolled, backward: Backward, loop: LoopMistake = RIGHT) -> dict[Symbol, Any]:
    """What a backward program gives in a loop, by the symbol of each leaf; both may be wrong."""
    return summed(whole, contributions(whole, backward, loop), loop)


def contributions(whole: Unrolled, backward: Backward, loop: LoopMistake = RIGHT) -> Contributions:
    """What each step gives, before it is combined."""
    b = loop.step(backward)
    seen, out = with_program(whole, b.program), []
    for problem, tapes, sequence in zip(seen.problems, seen.tapes, seen.sequences, strict=True):
        local = _counted(seen.cotangents(sequence), loop.at)
        read = loop.read(problem, tapes)
        out.append(sweep(b, problem, read, local, carry=loop.carry, backwards=loop.backwards))
    return out


def summed(whole: Unrolled, parts: Contributions, loop: LoopMistake = RIGHT) -> dict[Symbol, Any]:
    """The steps' contributions as a loop combines them, and what it makes of the parameters' gradients."""
    own: Gradient = {}
    out: dict[Symbol, Any] = {}
    for steps, sequence in zip(parts, whole.sequences, strict=True):
        for part in loop.combine(steps):
            for key, value in part.items():
                if key[0] in whole.cell.parameters:
                    own[key] = own[key] + value if key in own else value
                else:
                    out[explicit(whole.cell, key, sequence)] = value
    for key, value in loop.result(own, whole.problem, len(whole.sequences)).items():
        out[explicit(whole.cell, key)] = value
    return out


@lru_cache(maxsize=32)
def applying(cell: Cell) -> frozenset[str]:
    """The names of the mistakes that change a number of a cell, at a random point of five steps."""
    backward = backward_of(cell)
    whole, last = (k(backward.program, 5, uniform(cell, 2), Sample(11), 2) for k in (Unrolled, LastLoss))
    right = {"": gradient(whole, backward), "last": gradient(last, backward)}
    names = {e.mistake for e in LOSS_EDITS} if cell.outputs else set()
    for p in plant(backward):
        own = {p.mistake, *p.also}
        if own - names and differs(gradient(whole, p.backward), right[""]):
            names |= own
    for loop in (*LOOP_MISTAKES, *map(as_loop, SUM_EDITS)):
        # numbers at a random point have no order; what is clipped is carried, so there is something to clip
        if loop.ordered or differs(gradient(whole, backward, loop), right[loop.right.at]):
            names |= {loop.name} if cell.states or not loop.ordered else set()
    return frozenset(names)


def with_program(whole: Any, program: Program) -> Any:
    """The same check for a program that has nodes more than the right one; their values are computed too."""
    if whole.program is program:
        return whole
    other = copy.copy(whole)
    other.program = program
    for cached in ("tape", "tapes", "jacobians"):
        other.__dict__.pop(cached, None)
    return other


def differs(a: Mapping[Symbol, Any], b: Mapping[Symbol, Any]) -> bool:
    """Whether two gradients at the same point differ in an entry; one that is not there is zero."""
    both = {*a, *b}
    return any(not (a[x] - b[x] if x in a and x in b else a.get(x, b.get(x))).is_zero for x in both)


def _counted(local: Sequence[Values], where: str) -> Sequence[Values]:
    """The loss of the last step alone, or of every step."""
    if where != "last":
        return local
    silent = [{s: [0 * e for e in v] for s, v in step.items()} for step in local[:-1]]
    return [*silent, *local[-1:]]
