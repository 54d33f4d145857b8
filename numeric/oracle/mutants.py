"""What each known mistake computes for a case: the catalogue of :mod:`derive.mistakes`, run on the case's numbers.

A mistake is an edit of the derived backward program, of the derivative of the loss, of a sum over time or of the time
loop, found by the shape of the cell's own derivation: so every mistake applies to a user's cell, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from sympy import Rational, Symbol

from derive.adjoint import Backward, differentiate_step
from derive.algebra import evaluate
from derive.cell import Cell
from derive.mistakes.loop import LoopMistake, as_loop
from derive.mistakes.sums import LOSS_EDITS, STEPS, SUM_EDITS, LossEdit, SumEdit
from derive.mistakes.table import LOOP_MISTAKES, plant, sentence
from derive.notation import at
from derive.program import Program
from numeric.arguments import Array
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter, Values
from numeric.oracle.case import Case
from numeric.tangent import program_of
from numeric.truncated import Window, windows

__all__ = ["RIGHT", "UNTRUNCATED", "Mutant", "Run", "mutants"]

RIGHT = LoopMistake("none", "the right loop")
UNTRUNCATED = "truncation-ignored"
P, Y, TARGET = at("p"), at("y"), at("target")


@dataclass(frozen=True, eq=False)
class Mutant:
    """One known mistake at one place of a cell's derivation.

    ``kind`` is "step", "loss", "sum" or "loop"; ``also`` are other names that fit this edit; ``whole`` that the
    gradient is not truncated where it should be.
    """

    name: str
    kind: str
    where: str
    says: str
    backward: Backward
    loop: LoopMistake = RIGHT
    loss: LossEdit | None = None
    also: tuple[str, ...] = ()
    whole: bool = False

    @property
    def sentence(self) -> str:
        """What is done wrong, in general."""
        return "the whole gradient where a truncated one was asked for" if self.whole else sentence(self.name)

    @property
    def label(self) -> str:
        """The mistake and its place, unlike any other's."""
        return f"{self.name} in {self.where}: {self.says}"


@lru_cache(maxsize=32)
def mutants(cell: Cell) -> tuple[Mutant, ...]:
    """Every known mistake at every place of a cell where it can be made."""
    backward = differentiate_step(program_of(cell))
    out = [Mutant(p.mistake, "step", p.where, p.says, p.backward, also=p.also) for p in plant(backward)]
    out += [Mutant(e.mistake, "loss", "the loss", e.says, backward, loss=e) for e in LOSS_EDITS]
    for edit in SUM_EDITS:
        loop = replace(as_loop(edit), combine=_weighed(edit))
        out.append(Mutant(edit.mistake, "sum", "the sum over time", edit.says, backward, loop))
    loops = [loop for loop in LOOP_MISTAKES if loop.combine is RIGHT.combine]  # the others are those sums
    out += [Mutant(loop.name, "loop", "the loop", loop.says, backward, loop) for loop in loops]
    says = "the gradient is not truncated"
    return (*out, Mutant(UNTRUNCATED, "loop", "the loop", says, backward, replace(RIGHT, name=UNTRUNCATED), whole=True))


def _weighed(edit: SumEdit) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Each step's terms of the parameters times their coefficient, of a single step, too."""

    def combine(steps: Sequence[Any]) -> Sequence[Any]:
        n = len(steps)
        c = [edit.every + (edit.first if t == 0 else 0) + (edit.last if t == n - 1 else 0) for t in range(n)]
        exact = [Rational(x.subs(STEPS, n)) for x in c]
        return [{k: int(r.p) * x / int(r.q) for k, x in s.items()} for r, s in zip(exact, steps, strict=True)]

    return combine


class _Told:
    """What an edit of the loop may ask of a problem."""

    def __init__(self, run: Run) -> None:
        self.cell, self.steps = run.case.parsed, run.interpreter.data.steps
        self.params = run.interpreter.data.params

    @property
    def parameters(self) -> tuple[Mapping[str, Any], None, None]:
        """The matrices, by rows."""
        return {n: p for n, p in self.params.items() if p.ndim == 2}, None, None

    def make(self, key: tuple[str, ...]) -> Array:
        """A parameter."""
        return self.params[key[0]]


class Run:
    """A case in float64, forward once; right and wrong gradients of it as they are asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.interpreter = Interpreter(program_of(case.parsed), case.problem, FloatArithmetic())
        data, truncate = self.interpreter.data, case.truncate
        self.whole = (Window(0, 0, data.steps),)
        self.windows = tuple(windows(data.steps, *truncate)) if truncate else self.whole
        self.tapes: dict[Program, list[Values]] = {self.interpreter.program: self.interpreter.tape}

    @cached_property
    def right(self) -> dict[str, Array]:
        """The right gradients."""
        with np.errstate(all="ignore"):
            return self.interpreter.run(differentiate_step(self.interpreter.program)).gradients

    def gradient(self, mutant: Mutant) -> dict[str, Array] | None:
        """What a mistake gives, by names of parameters, inputs, and initial states with a 0.

        None where it is about another loss; nothing, {}, where shapes do not conform: whoever makes it is told so.
        """
        loss = mutant.loss if mutant.loss is not None and mutant.loss.loss == self.case.loss else None
        if mutant.kind == "loss" and loss is None:
            return None
        with np.errstate(all="ignore"):
            try:
                local = self.wrong_loss(loss) if loss else self.counted(mutant.loop.at)
                return self.swept(mutant.backward, mutant.loop, local, whole=mutant.whole)
            except ValueError:
                return {}

    # ---------------------------------------------------------------------------------------------------- the pieces

    def tape(self, program: Program) -> list[Values]:
        """The values of every node, also of those that only a wrong program has."""
        if program not in self.tapes:
            self.tapes[program] = [self.interpreter.nodes(dict(v), program) for v in self.interpreter.tape]
        return self.tapes[program]

    def counted(self, where: str) -> list[Values]:
        """What the loss gives at each step; of the last step alone, or of every step, where a mistake says so."""
        interpreter, case = self.interpreter, self.case
        local = interpreter.local[1]
        if where in ("", case.at):
            return local
        data, loss = interpreter.data, interpreter.losses
        ends = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
        out = []
        for t, here in enumerate(local):
            own: Values = {}
            for root, full in loss.full.items():
                zero = interpreter.zero(interpreter.cell.axes[root])
                slope = here[at(root)]
                if where == "every":  # the one target of the last step stands for all
                    slope = interpreter.arithmetic.loss(loss.name, interpreter.tape[t][at(root)], full)[1] / loss.count
                chosen = ends > t if where == "every" else ends == t + 1
                own[at(root)] = interpreter.arithmetic.select(chosen, slope, zero)
            out.append(own)
        return out

    def wrong_loss(self, edit: LossEdit) -> list[Values]:
        """What a wrong derivative of the loss gives."""
        interpreter = self.interpreter
        loss, out = interpreter.losses, []
        for t, here in enumerate(interpreter.local[1]):
            own: Values = {}
            for root, full in loss.full.items():
                y = interpreter.tape[t][at(root)]
                target = full if loss.at == "last" else full[t]
                if target.ndim < y.ndim:
                    target = (target[:, None] == np.arange(y.shape[1])).astype(y.dtype)
                e = np.exp(y - y.max(axis=1, keepdims=True))
                known: dict[Symbol, Any] = {P: e / e.sum(axis=1, keepdims=True), Y: y, TARGET: target}
                slope = evaluate(edit.wrong, known.__getitem__, interpreter.arithmetic) / loss.count
                right = interpreter.loss_at(t, root)[1]
                chosen = np.ones(len(y), bool) if loss.at == "every" else self.ends == t + 1
                if interpreter.data.mask is not None and loss.at == "every":
                    chosen = interpreter.data.mask[t]
                slope = np.broadcast_to(slope, y.shape)
                own[at(root)] = interpreter.arithmetic.select(chosen, slope, 0 * right)
            out.append({**here, **own})
        return out

    @property
    def ends(self) -> Array:
        """The number of steps of every sequence."""
        data = self.interpreter.data
        return np.full(data.batch, data.steps) if data.lengths is None else data.lengths

    def swept(
        self, backward: Backward, loop: LoopMistake, local: Sequence[Values], *, whole: bool = False
    ) -> dict[str, Array]:
        """The gradient of a backward program in a loop; both may be wrong."""
        b, told = loop.step(backward), _Told(self)
        tape = self.tape(b.program)
        if loop.read is not RIGHT.read:
            tape = [{s: np.asarray(x) for s, x in v.items()} for v in loop.read(told, tape)]  # type: ignore[arg-type]
        names = self.interpreter.cell.parameters
        sums: dict[Any, Any] = {}
        steps = self.contributions(b, loop, tape, local, sums, whole=whole, single=loop.combine is not RIGHT.combine)
        for part in loop.combine(steps):
            for key, x in part.items():
                sums[key] = sums[key] + x if key in sums else x
        own = {key: sums[key] for key in sums if key[0] in names}
        found = sums | dict(loop.result(own, told, self.interpreter.data.batch))  # type: ignore[arg-type]
        return {key[0]: np.asarray(x, np.float64) for key, x in found.items()}

    def contributions(
        self,
        b: Backward,
        loop: LoopMistake,
        tape: Sequence[Values],
        local: Sequence[Values],
        sums: dict[Any, Any],
        *,
        whole: bool,
        single: bool,
    ) -> list[dict[Any, Any]]:
        """What each step gives the parameters, where ``single``; everything else is added to ``sums``."""
        names = self.interpreter.cell.parameters
        out: list[dict[Any, Any]] = [{} for _ in range(self.interpreter.data.steps)]
        for window in self.whole if whole else self.windows:
            for start, d in self.steps(b, loop, tape, local, window, single=single):
                for name, x in self.interpreter.gradients(b, tape, d, start).items():
                    into = out[start] if name in names and single else sums
                    into[(name,)] = into[(name,)] + x if (name,) in into else x
        return out

    def first_step(self, mutant: Mutant) -> int | None:
        """The first step, from 1, of which a mistake changes what it gives a parameter; None where it changes none."""
        loss = mutant.loss if mutant.loss is not None and mutant.loss.loss == self.case.loss else None
        right = differentiate_step(self.interpreter.program)
        with np.errstate(all="ignore"):
            local = self.wrong_loss(loss) if loss else self.counted(mutant.loop.at)
            loop, told, b = mutant.loop, _Told(self), mutant.loop.step(mutant.backward)
            tape = self.tape(b.program)
            if loop.read is not RIGHT.read:
                tape = [{s: np.asarray(x) for s, x in v.items()} for v in loop.read(told, tape)]  # type: ignore[arg-type]
            wrong = loop.combine(self.contributions(b, loop, tape, local, {}, whole=mutant.whole, single=True))
            usual = self.interpreter.local[1]
            known = self.contributions(right, RIGHT, self.interpreter.tape, usual, {}, whole=False, single=True)
        for t, (one, other) in enumerate(zip(wrong, known, strict=True)):
            if any(not np.allclose(one[key], x, rtol=1e-9, atol=1e-300) for key, x in other.items()):
                return t + 1
        return None

    def steps(
        self,
        b: Backward,
        loop: LoopMistake,
        tape: Sequence[Values],
        local: Sequence[Values],
        window: Window,
        *,
        single: bool,
    ) -> list[tuple[int, list[Values]]]:
        """The derivatives of a window: all steps at once, or, where ``single``, step by step."""
        interpreter = self.interpreter
        carried = {n: interpreter.zero(interpreter.cell.axes[n]) for n in interpreter.cell.states}
        order = range(window.start, window.stop)
        found: list[tuple[int, list[Values]]] = []
        for t in reversed(order) if loop.backwards else order:
            d = interpreter.step(b, t, tape[t], local[t] if t >= window.first else {}, carried)
            handed = interpreter.handed(t, d, carried)
            if loop.carry is not RIGHT.carry:
                handed = {n: _carried(loop, t + 1, x) for n, x in handed.items()}
                d |= {at(n, -1): x for n, x in handed.items()}
            carried = handed
            found.append((t, [d]))
        if single:
            return found
        return [(window.start, [d for _, (d,) in sorted(found, key=lambda pair: pair[0])])]


def _carried(loop: LoopMistake, t: int, x: Array) -> Array:
    """What a wrong loop makes of what it carries."""
    if loop.ordered:  # it compares single numbers
        return np.asarray(loop.carry(t, list(x.ravel()))).reshape(x.shape)
    return np.asarray(loop.carry(t, [x])[0])
