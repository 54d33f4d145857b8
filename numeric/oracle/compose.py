"""Two known mistakes in one: both edits made to one backward program, in one loop, with one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from derive.adjoint import Backward, differentiate_step
from derive.cell import Cell
from derive.mistakes.loop import LoopMistake
from derive.notation import time_of
from numeric.oracle.mutants import RIGHT, Mutant
from numeric.tangent import program_of

__all__ = ["both", "changed_sums", "downstream", "nothing_wrong", "right_program"]

Sums = Mapping[Any, tuple[Any, ...]]


@lru_cache(maxsize=64)
def right_program(cell: Cell) -> Backward:
    """The right one, in the form that the known mistakes are edits of."""
    return differentiate_step(program_of(cell))


@lru_cache(maxsize=64)
def nothing_wrong(cell: Cell) -> Mutant:
    """No mistake, as one that others can be put on."""
    return Mutant("", "step", "", "", right_program(cell))


def sums(b: Backward) -> dict[Any, tuple[Any, ...]]:
    """Every sum of a backward program: of flows by symbol, of outer products by the matrix's name."""
    return {**b.flows, **b.matrices}


@lru_cache(maxsize=4096)
def changed_sums(right: Backward, wrong: Backward) -> dict[Any, tuple[Any, ...]]:
    """The sums in which a program is not the right one, as they are there; nodes that only it has do not count."""
    known = sums(right)
    return {key: own for key, own in sums(wrong).items() if key in known and own != known[key]}


def both(right: Backward, a: Mutant, b: Mutant) -> Mutant | None:
    """The two mistakes together; None where they are made at the same place, or need two programs."""
    loop, backward = _loops(a.loop, b.loop), _programs(right, a.backward, b.backward)
    if loop is None or backward is None or (a.loss and b.loss):
        return None
    name = a.name if a.name == b.name else f"{a.name}+{b.name}"
    where = f"{a.where} and {b.where}"
    return Mutant(
        name, "pair", where, f"{a.says}, and {b.says}", backward, loop, a.loss or b.loss, whole=a.whole or b.whole
    )


def _programs(right: Backward, a: Backward, b: Backward) -> Backward | None:
    """One program with the wrong sums of two."""
    if b.program is not right.program:
        a, b = b, a
    if b.program is not right.program:  # both have a node of their own
        return None
    mine, out = changed_sums(right, a), {}
    for key, own in changed_sums(right, b).items():
        merged = _terms(sums(right)[key], mine[key], own) if key in mine else own
        if merged is None:
            return None
        out[key] = merged
    flows = {key: own for key, own in out.items() if not isinstance(key, str)}
    return a.replaced(flows=flows, matrices={key: own for key, own in out.items() if isinstance(key, str)})


def _terms(right: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, ...] | None:
    """One sum with the wrong terms of two, which are different terms of it."""
    mine, other = _by_term(right, a), _by_term(right, b)
    if mine is None or other is None or mine.keys() & other.keys():
        return None
    changed = mine | other
    return tuple(term for i, old in enumerate(right) if (term := changed.get(i, old)) is not None)


def _by_term(right: Sequence[Any], wrong: Sequence[Any]) -> dict[int, Any] | None:
    """Which terms are others, None for one that is left out."""
    if len(right) == len(wrong):
        return {i: new for i, (old, new) in enumerate(zip(right, wrong, strict=True)) if old != new}
    if any(term not in right for term in wrong):
        return None
    return {i: None for i, term in enumerate(right) if term not in wrong}


def _loops(a: LoopMistake, b: LoopMistake) -> LoopMistake | None:
    """One loop that is wrong in both ways; None where both change the same part of it."""
    if a is RIGHT or b is RIGHT:
        return b if a is RIGHT else a
    other: dict[str, Any] = {}
    for part in (f.name for f in fields(LoopMistake) if f.name not in ("name", "sentence", "says")):
        usual, mine, own = (getattr(x, part) for x in (RIGHT, a, b))
        if mine is not usual and own is not usual and mine != usual and own != usual and part != "ordered":
            return None
        other[part] = own if mine is usual or mine == usual else mine
    return replace(a, **other)


def downstream(b: Backward, start: Sequence[Any]) -> frozenset[str]:
    """The gradients that wrong sums reach within one step: parameters, inputs, and initial states with a 0."""
    reached = set(start)
    for target, flows in b.flows.items():  # sources come first
        if any(flow.source in reached for flow in flows):
            reached.add(target)
    reached |= {m for m, pairs in b.matrices.items() if any(p.source in reached for p in pairs)}
    return frozenset(_name(key) for key in reached)


def _name(key: Any) -> str:
    """What a sum's gradient is called; nodes have names that no gradient has."""
    if isinstance(key, str):
        return key
    name, shift = time_of(key)
    return f"{name}0" if shift == -1 else name
