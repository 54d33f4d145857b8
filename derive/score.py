"""What the checks of a proof reject: every known mistake is planted, and each check is asked whether it sees it.

A mistake that changes no number at a random point is none and is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sympy import Symbol

from derive.adjoint import Backward
from derive.balls import BITS, precision
from derive.mistakes import LOOP_MISTAKES, SUM_EDITS, Planted, plant
from derive.mistakes.loop import as_loop
from derive.mistakes.run import LastLoss, contributions, differs, gradient, summed, with_program
from derive.mistakes.small_numbers import Numbers, apart
from derive.obligations import Score
from derive.sample import Sample
from derive.step_proofs import StepAtSize, StepForEverySize, leaf_name, uniform
from derive.unrolled_proofs import Unrolled
from derive.words import leaves_of
from derive.zero import BudgetError

__all__ = ["score"]

Verdict = tuple[str, bool]  # a wrong derivation, and whether it was rejected


def score(backward: Backward, words: StepForEverySize, step: StepAtSize | None) -> Score:
    """Every wrong step against both proofs of one step, every wrong loop and sum against the unrolled network."""
    verdicts = wrong_steps(backward, words, step) | {"P1, the loop": wrong_loops(backward)}
    missed = [f"{what} ({check})" for check, rows in verdicts.items() for what, seen in rows if not seen]
    names = {what for rows in verdicts.values() for what, _ in rows}
    unseen = {what for rows in verdicts.values() for what, seen in rows if not seen}
    counts = {check: (sum(seen for _, seen in rows), len(rows)) for check, rows in verdicts.items()}
    return Score(len(names - unseen), len(names), tuple(missed), counts)


def wrong_steps(backward: Backward, words: StepForEverySize, step: StepAtSize | None) -> dict[str, list[Verdict]]:
    """What P2 and P3 reject.

    A check whose budget a mistake exceeds has not judged it, and is not credited with it.
    """
    program, verdicts = backward.program, {"P2": list[Verdict](), "P3": list[Verdict]()}
    checks: dict[str, StepAtSize | StepForEverySize] = {"P3": words}
    # where a check has size 1, a transpose is no mistake: what is planted must show at the check's own sizes
    samples = {"P3": Unrolled(program, 1, uniform(program.cell, 2), Sample())}
    if step is not None:
        checks["P2"] = step
        same = step.sizes == samples["P3"].sizes
        samples["P2"] = samples["P3"] if same else Unrolled(program, 1, step.sizes, Sample())
    right = {sample: sample.derived(backward) for sample in samples.values()}
    for i, planted in enumerate(plant(backward)):
        wrong, leaves = affected(planted)
        shows = {sample: _shows(sample, wrong, leaves, right[sample]) for sample in right}
        for name, check in checks.items():
            seen = _judged(partial(_rejected, check, wrong, leaves)) if shows[samples[name]] else None
            if seen is not None:
                verdicts[name].append((f"{planted.mistake} in {planted.where}, number {i}", seen))
    return verdicts


def wrong_loops(backward: Backward) -> list[Verdict]:
    """What differentiation forward through the network rejects: modulo a prime, or at numbers that have an order."""
    program, sizes = backward.program, uniform(backward.program.cell, 2)
    whole, last = (kind(program, 5, sizes, Sample(3), batch=2) for kind in (Unrolled, LastLoss))
    right, truth = (
        {"": gradient(whole, backward), "last": gradient(last, backward)},
        {"": whole.truth, "last": last.truth},
    )
    usual = contributions(whole, backward)
    found: list[Verdict] = []
    for (name, says), loop in {(m.name, m.says): m for m in (*LOOP_MISTAKES, *map(as_loop, SUM_EDITS))}.items():
        if not loop.ordered:
            wrong = summed(whole, usual if loop.combines_only else contributions(whole, backward, loop), loop)
            if differs(wrong, right[loop.right.at]):
                found.append((f"{name}: {says}", differs(wrong, truth[loop.right.at])))
    return found + ordered_loops(backward)


def ordered_loops(backward: Backward) -> list[Verdict]:
    """Loops that compare values."""
    numbers: Any = Numbers()  # an algebra like the others
    found: list[Verdict] = []
    with precision(BITS):
        whole = Unrolled(backward.program, 3, uniform(backward.program.cell, 2), numbers)
        right = gradient(whole, backward)
        for loop in (m for m in LOOP_MISTAKES if m.ordered):
            wrong = gradient(whole, backward, loop)
            if any(apart(wrong, right)):
                found.append((f"{loop.name}: {loop.says}", any(apart(wrong, whole.truth))))
    return found


Leaves = tuple[Symbol | str, ...]


def affected(planted: Planted) -> tuple[Backward, Leaves]:
    """The leaves that a wrong sum can reach, and the wrong program without the sums that these do not need.

    Every other leaf has its right gradient, so a check rejects the mistake exactly if it rejects it at these.
    """
    wrong, target = planted.backward, planted.target
    if isinstance(target, str):
        below, matrices = set[Symbol](), {target}
    else:
        below = {target}
        for s, terms in wrong.flows.items():
            below |= {s} if any(f.source in below for f in terms) else set()
        matrices = {m for m, pairs in wrong.matrices.items() if any(o.source in below for o in pairs)}
    needed = below | {o.source for m in matrices for o in wrong.matrices[m]}
    for s in reversed(wrong.flows):
        needed |= {f.source for f in wrong.flows[s]} if s in needed else set()
    less = wrong.replaced(
        flows={s: () for s in wrong.flows if s not in needed},
        matrices={m: () for m in wrong.matrices if m not in matrices},
    )
    return less, tuple(x for x in leaves_of(wrong.program) if x in below or x in matrices)


def _names(leaves: Leaves) -> set[str]:
    """What the keys and symbols of the leaves' entries begin with."""
    return {leaf_name(leaf).partition("[")[0] for leaf in leaves}


def _shows(sample: Unrolled, wrong: Backward, leaves: Leaves, right: Mapping[Symbol, Any]) -> bool:
    """Whether a wrong step changes a number at a random point."""
    found, names = with_program(sample, wrong.program).derived(wrong), _names(leaves)
    return any(not (found[s] - right[s]).is_zero for s in right if s.name.partition("[")[0] in names)


def _rejected(check: StepAtSize | StepForEverySize, wrong: Backward, leaves: Leaves) -> bool:
    """Whether a check rejects a wrong step, which may have nodes that the right one has not."""
    limited, names = copy.copy(with_program(check, wrong.program)), _names(leaves)
    if isinstance(check, StepAtSize):
        limited.truth = {key: x for key, x in check.truth.items() if key[0] in names}
    else:
        limited.leaves = leaves
    return bool(limited.rejects(wrong))


def _judged(check: Callable[[], bool]) -> bool | None:
    """Whether a check rejects; None where its budget does not reach."""
    try:
        return check()
    except (BudgetError, ZeroDivisionError):
        return None
