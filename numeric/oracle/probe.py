"""The impulse probe: inputs at one step only, in a network that is silent without them.

    x[t] = 0 but for t = k,   F(0, 0) = 0,   and one unit whose state forgets at once

so that single entries of the gradient hold the contribution of one time step and nothing else: in an input's matrix all
of them those of step k; in a recurrent matrix the column of that unit, the listener, those of step k + 1.  A mistake
made at one step is then as large as the entry that shows it.

Nothing is assumed of the cell: which biases must be zero for it to be silent, and which gate's bias makes a unit
forget, is found by trying them on a small network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from derive.adjoint import differentiate_step
from derive.cell import Cell
from derive.notation import at
from derive.program import Product, Program
from numeric.arguments import Array
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.oracle.behaviour import behaviour
from numeric.oracle.case import Case
from numeric.oracle.setting import NEAR, Draft, Setting, as_case
from numeric.tangent import program_of

__all__ = ["Probe", "contributions", "probe_of", "single"]

#: What a listener's gate is shut with: sigmoid(-40) is 4e-18.
SHUT = 40.0
#: An entry holds one step's contribution where all others are below this part of it.
NOTHING = 2.0**-50
_STEPS, _SIZE = 5, 3


@dataclass(frozen=True)
class Probe:
    """How to make a cell silent, and a unit of it forget.

    ``signs`` maps vectors and scalars to 0, -1 (no entry positive) or 1 (any); ``deaf`` are matrices, each with whether
    it is transposed, of which row 0 (or column 0) must be zero; ``gate`` is the vector whose entry 0 is set to
    ``shut``, None where that does not help.
    """

    signs: Mapping[str, int]
    deaf: tuple[tuple[str, bool], ...]
    gate: str | None = None
    shut: float = 0.0

    def tuned(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters with what silence and the listener need."""
        out = {n: p.copy() for n, p in params.items()}
        for name, sign in self.signs.items():
            out[name] = out[name] if sign > 0 else sign * np.abs(out[name])
        for name, transposed in self.deaf:
            out[name][(slice(None), 0) if transposed else 0] = 0.0
        if self.gate is not None:
            out[self.gate][0] = self.shut
        return out


def impulse(draft: Draft, probe: Probe, step: int) -> Draft:
    """The draft with inputs at ``step``, from 1, alone, and nothing at the start."""
    inputs = {n: np.where(np.arange(draft.T)[:, None, None] == step - 1, x, 0.0) for n, x in draft.inputs.items()}
    initial = {n: np.zeros_like(s) for n, s in draft.initial.items()}
    return replace(draft, params=probe.tuned(draft.params), inputs=inputs, initial=initial)


def contributions(case: Case) -> dict[str, Array]:
    """What each step adds to the gradient of each parameter, (T, ...)."""
    program = program_of(case.parsed)
    backward = differentiate_step(program)
    with np.errstate(all="ignore"):
        interpreter = Interpreter(program, case.problem, FloatArithmetic())
        d = interpreter.run(backward).d
        parts = [interpreter.gradients(backward, interpreter.tape, [here], t) for t, here in enumerate(d)]
    return {n: np.stack([part[n] for part in parts]) for n in case.params}


def single(case: Case) -> dict[str, Array]:
    """For each parameter, at which step (from 1) an entry's whole contribution is made; 0 where at several or none."""
    out = {}
    for name, parts in contributions(case).items():
        size = np.abs(parts)
        most = size.max(axis=0)
        alone = (most > 0) & (size.sum(axis=0) - most <= NOTHING * most)
        out[name] = np.where(alone, size.argmax(axis=0) + 1, 0)
    return out


# --------------------------------------------------------------------------------------------------- finding one


@lru_cache(maxsize=64)
def probe_of(cell: Cell) -> Probe | None:
    """What makes a cell silent; None where it has no inputs, or nothing does."""
    if not cell.inputs:
        return None
    draft = Setting(cell, np.random.default_rng(1)).draft(_STEPS, 1, dict.fromkeys(cell.dimensions, _SIZE))
    found = _hushed(draft)
    if found is None:
        return None
    deaf = replace(found, deaf=_recurrent(program_of(cell)))
    best, most = deaf, _singles(draft, deaf)
    for name, axes in cell.parameters.items():
        for shut in (-SHUT, SHUT) if len(axes) == 1 else ():
            other = replace(deaf, gate=name, shut=shut)
            if _is_silent(draft, other) and (count := _singles(draft, other)) > most:
                best, most = other, count
    return best


def _hushed(draft: Draft) -> Probe | None:
    """As many biases as silence allows."""
    names = [n for n, axes in draft.cell.parameters.items() if len(axes) < 2]
    for first in (0, -1):
        probe = Probe(dict.fromkeys(names, first), ())
        if _is_silent(draft, probe):
            break
    else:
        return None
    for name in names:
        for sign in (1, -1):
            other = replace(probe, signs={**probe.signs, name: sign})
            if probe.signs[name] != sign and _is_silent(draft, other):
                probe = other
                break
    return probe


def _is_silent(draft: Draft, probe: Probe) -> bool:
    """Whether the states stay zero without inputs, and no function is at a kink."""
    quiet = _case(impulse(draft, probe, 0))
    interpreter = Interpreter(program_of(draft.cell), quiet.problem, FloatArithmetic())
    with np.errstate(all="ignore"):
        states = [interpreter.outputs[n] for n in draft.cell.states]
    return all((s == 0).all() for s in states) and behaviour(quiet).finite and behaviour(quiet).margin > NEAR


def _singles(draft: Draft, probe: Probe) -> int:
    """How many entries hold one step's contribution, where the impulse is at the second step."""
    return sum(int((steps > 0).sum()) for steps in single(_case(impulse(draft, probe, 2))).values())


def _case(draft: Draft) -> Case:
    ones: Any = {n: np.ones((draft.T, draft.B, draft.sizes[draft.cell.axes[n]])) for n in draft.roots}
    return as_case(draft.having(loss="linear", cotangents=ones), "probe", "impulse", "finds a silent network")


def _recurrent(program: Program) -> tuple[tuple[str, bool], ...]:
    """The products on the way from the previous states to the states."""
    after: set[Any] = {at(n, -1) for n in program.cell.states}
    for node in program.nodes:
        if after & set(program.reads(node)):
            after.add(node.symbol)
    before: set[Any] = {at(n) for n in program.cell.states}
    for node in reversed(program.nodes):
        if node.symbol in before:
            before |= set(program.reads(node))
    products = [n for n in program.nodes if isinstance(n, Product) and n.symbol in before and n.operand in after]
    return tuple(dict.fromkeys((n.matrix, n.transposed) for n in products))
