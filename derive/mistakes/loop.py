"""Wrong time loops: mistakes that cannot be said of one step.

    values -> step back, in the order of time -> carry -> combine the steps' terms -> the result

A wrong loop puts something else in the place of one of these; whatever it leaves alone is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sympy import Integer, Rational, Symbol

from derive.adjoint import Adjoint, Backward, Outer, Through
from derive.mistakes.gates import factors_swapped, whole_variant
from derive.mistakes.order import TURNS, permuted
from derive.mistakes.shape import Shape, is_previous
from derive.mistakes.step import is_square
from derive.mistakes.sums import STEPS, SumEdit
from derive.notation import at, time_of
from derive.unroll import Gradient, Problem, Values

__all__ = ["LOOP_MISTAKES", "LoopMistake", "as_loop", "clipped", "detached"]

Tapes = Sequence[Values]
Combine = Callable[[Sequence[Gradient]], Sequence[Gradient]]
Result = Callable[[Gradient, Problem, int], Gradient]


@dataclass(frozen=True)
class LoopMistake:
    """A wrong time loop: what happens to the carry, in which order, and how the steps' contributions are combined.

    ``says`` tells the variants of one mistake apart.  ``step`` is another backward program, wrong in several sums at
    once; ``read`` what the loop takes for the forward values; ``at`` the steps whose loss is counted ("every" or
    "last"), where that is not the right one; ``result`` a function of the parameters' gradients, the problem and the
    number of sequences.  ``ordered`` mistakes compare values, so they need numbers that have an order.
    """

    name: str
    sentence: str
    carry: Callable[[int, list[Any]], list[Any]] = lambda t, entries: entries
    backwards: bool = True
    combine: Combine = lambda steps: steps
    says: str = ""
    step: Callable[[Backward], Backward] = lambda backward: backward
    read: Callable[[Problem, Tapes], Tapes] = lambda problem, tapes: tapes
    at: str = ""
    result: Result = lambda gradient, problem, batch: gradient
    ordered: bool = False

    @property
    def right(self) -> LoopMistake:
        """The loop that it is to be compared with: the same loss, counted where it should be."""
        return LoopMistake("none", "the right loop", at="last" if self.at == "every" else "")

    @property
    def combines_only(self) -> bool:
        """Whether each step gives what it gives in the right loop."""
        usual = LoopMistake("none", "")
        same = all(getattr(self, part) is getattr(usual, part) for part in ("carry", "step", "read"))
        return same and self.backwards and self.at in ("", "every")


# ---------------------------------------------------------------------------------------------------------- the carries


def _cut(period: int) -> Callable[[int, list[Any]], list[Any]]:
    """The carry that leaves step t for step t - 1, lost where a chunk of ``period`` steps begins."""
    return lambda t, entries: [0 * e for e in entries] if (t - 1) % period == 0 and t > 1 else entries


def detached(k: int) -> LoopMistake:
    """The carry lost at the borders of chunks of ``k`` steps."""
    return LoopMistake("detached-every-k", "", carry=_cut(k), says=f"the carry is lost at the borders of chunks of {k}")


def clipped(bound: Rational) -> LoopMistake:
    """What is carried, clipped to [-bound, bound] entry by entry at every step."""

    def clip(x: Any) -> Any:
        high = 0 * x + int(bound.p)
        high = high / int(bound.q)
        return high if x > high else -high if x < -high else x

    says = f"the carry is clipped to {bound} at every step"
    return LoopMistake("clipped-inside", "", carry=lambda t, es: [clip(e) for e in es], says=says, ordered=True)


# -------------------------------------------------------------------------------------------------- combining the steps


def _shared(steps: Sequence[Gradient]) -> set[Any]:
    """The keys that every step contributes to: the parameters'."""
    return {key for key in steps[0] if all(key in step for step in steps)} if len(steps) > 1 else set()


def weighed(edit: SumEdit) -> Combine:
    """Each step's terms times their coefficient; inputs and initial states keep theirs."""

    def combine(steps: Sequence[Gradient]) -> Sequence[Gradient]:
        n, shared, out = len(steps), _shared(steps), []
        for i, step in enumerate(steps):
            c = edit.every + (edit.first if i == 0 else 0) + (edit.last if i == n - 1 else 0)
            c = Rational(c.subs(STEPS, n))
            out.append({key: int(c.p) * x / int(c.q) if key in shared else x for key, x in step.items()})
        return out

    return combine


def as_loop(edit: SumEdit) -> LoopMistake:
    """A wrong sum over time as a wrong loop, all parameters at once; the multiple of a parameter is a half."""

    def result(found: Gradient, problem: Problem, batch: int) -> Gradient:
        return {key: x + problem.make(key) / 2 for key, x in found.items()}

    loop = LoopMistake(edit.mistake, "", combine=weighed(edit), says=edit.says)
    return replace(loop, result=result) if edit.weight else loop


# --------------------------------------------------------------------------------------------- the values that are read


def _initial_as_zero(problem: Problem, tapes: Tapes) -> Tapes:
    """The previous states of step 1 taken as zero."""
    first = {s: [0 * e for e in v] if is_previous(s) else v for s, v in tapes[0].items()}
    return [first, *tapes[1:]]


_TWO_BEFORE = -2


def _two_before(problem: Problem, tapes: Tapes) -> Tapes:
    """h[t-2] beside h[t-1]; nothing before h[0]."""
    out: list[Values] = []
    for t, values in enumerate(tapes):
        earlier = {at(time_of(s)[0], _TWO_BEFORE): s for s in values if is_previous(s)}
        out.append(
            values | {two: tapes[t - 1][one] if t else [0 * e for e in values[one]] for two, one in earlier.items()}
        )
    return out


def _off_by_two(b: Backward) -> Backward:
    """sum of delta_t h_{t-2}.T."""

    def moved(pair: Outer) -> Outer:
        name = time_of(pair.operand)[0]
        return replace(pair, operand=at(name, _TWO_BEFORE)) if is_previous(pair.operand) else pair

    return b.replaced(matrices={m: tuple(map(moved, pairs)) for m, pairs in b.matrices.items()})


def _diagonal(matrix: str) -> Symbol:
    return at(f"diagonal of {matrix}")


def _with_diagonals(problem: Problem, tapes: Tapes) -> Tapes:
    """The diagonal of every square matrix beside the values."""
    matrices = problem.parameters[0]
    found = {_diagonal(m): [row[k] for k, row in enumerate(w)] for m, w in matrices.items() if len(w) == len(w[0])}
    return [values | found for values in tapes]


def _diagonal_for_matrix(b: Backward) -> Backward:
    """diag(W) * delta where W.T delta belongs, on the way to the previous state."""
    shape, out = Shape(b), {}
    for target, terms in b.flows.items():
        if shape.on_the_way_back(target):
            out[target] = tuple(
                Through(f.source, _diagonal(f.matrix)) if isinstance(f, Adjoint) and is_square(shape, f.matrix) else f
                for f in terms
            )
    return b.replaced(flows=out)


# ------------------------------------------------------------------------------------------------- several sums at once


def _swapped(b: Backward) -> Backward:
    """di = dc * i and dg = dc * g, both."""
    shape = Shape(b)
    for edit in factors_swapped(shape):
        b = edit.of(b)
    return b


def _scaled(factor: Callable[[int, int], Rational], wanted: Callable[[Problem, str], bool]) -> Result:
    """The gradients of some parameters times a number made of the numbers of sequences and of steps."""

    def result(found: Gradient, problem: Problem, batch: int) -> Gradient:
        c = factor(batch, problem.steps)
        return {key: int(c.p) * x / int(c.q) if wanted(problem, key[0]) else x for key, x in found.items()}

    return result


def _any(problem: Problem, name: str) -> bool:
    return True


def _is_vector(problem: Problem, name: str) -> bool:
    return len(problem.cell.parameters[name]) < 2


def _loop(name: str, says: str, **parts: Any) -> LoopMistake:
    """A row of the table below; its sentence is that of its name in the catalogue."""
    return LoopMistake(name, "", says=says, **parts)


_LOST = {"first": SumEdit("", "", first=Integer(-1)), "last": SumEdit("", "", last=Integer(-1))}

LOOP_MISTAKES: tuple[LoopMistake, ...] = (
    *(detached(k) for k in (1, 2, 4)),
    _loop("time-forward", "the steps are taken from t = 1 to t = T", backwards=False),
    _loop("carry-doubled", "the carry counts twice", carry=lambda t, entries: [2 * e for e in entries]),
    clipped(Rational(1, 8)),
    _loop("first-step-lost", "the term of t = 1 is missing", combine=weighed(_LOST["first"])),
    _loop("first-step-lost", "the initial states are taken as 0", read=_initial_as_zero),
    _loop("last-step-lost", "the term of t = T is missing", combine=weighed(_LOST["last"])),
    _loop("loss-steps", "the last step's loss for that of every step", at="last"),
    _loop("loss-steps", "every step's loss for that of the last step", at="every"),
    _loop("stale-gradient", "added to the result of a call before", result=_scaled(lambda n, t: Rational(2), _any)),
    _loop("reduction", "a mean over the sequences for a sum", result=_scaled(lambda n, t: Rational(1, n), _any)),
    _loop("reduction", "a sum over the sequences for a mean", result=_scaled(lambda n, t: Rational(n), _any)),
    _loop(
        "reduction", "a mean over steps and sequences for a sum", result=_scaled(lambda n, t: Rational(1, n * t), _any)
    ),
    _loop("reduction", "a sum over steps and sequences for a mean", result=_scaled(lambda n, t: Rational(n * t), _any)),
    _loop("bias", "a mean over the sequences for a sum", result=_scaled(lambda n, t: Rational(1, n), _is_vector)),
    _loop("recurrent-off-by-one", "h[t-2] should be h[t-1] in every weight", step=_off_by_two, read=_two_before),
    _loop(
        "carry-without-matrix",
        "the diagonal of W for W.T, entry by entry",
        step=_diagonal_for_matrix,
        read=_with_diagonals,
    ),
    _loop("gates-swapped", "di and dg are exchanged, both", step=_swapped),
    _loop("reset-variant", "the whole step of the other form", step=whole_variant),
    *(_loop("gates-permuted", says, result=permuted(order)) for says, order in TURNS),
)
