"""What can be done for all steps at once, and what has to wait for the step before.

Forward, a node is computed

    before   the loop, for all steps at once: it depends on inputs and parameters only
    in       the loop: it depends on the previous state and a state depends on it
    after    the loop, for all steps at once: no state depends on it (a readout)

and the backward pass visits the stages the other way round: the readout's d first, all steps at once, then what the
states' d need, step by step, then what only inputs and parameters need, all at once again.
"""

from __future__ import annotations

from sympy import Symbol

from derive.notation import at
from derive.program import Program

__all__ = ["STAGES", "backward_stages", "forward_stages"]

STAGES = ("before", "loop", "after")


def forward_stages(program: Program) -> dict[Symbol, str]:
    """The forward stage of every node."""
    follows, leads = _following(program, {at(name, -1) for name in program.cell.states}), _leading(program)
    return {
        s: "before" if s not in follows else "loop" if s in leads else "after"
        for s in (n.symbol for n in program.nodes)
    }


def backward_stages(program: Program) -> dict[Symbol, str]:
    """The stage in which d of each node is complete.

    After the loop where no state depends on the node; in the loop where a state's d needs it; else before the loop.
    """
    states = {at(name, shift) for name in program.cell.states for shift in (-1, 0)}
    follows, leads = _following(program, states), _leading(program)
    return {
        s: "after" if s not in leads else "loop" if s in follows else "before"
        for s in (n.symbol for n in program.nodes)
    }


def _following(program: Program, seeds: set[Symbol]) -> set[Symbol]:
    """What depends on any of ``seeds``, themselves included."""
    out = set(seeds)
    for node in program.nodes:
        if any(s in out for s in program.reads(node)):
            out.add(node.symbol)
    return out


def _leading(program: Program) -> set[Symbol]:
    """What a state depends on, states included."""
    out = {at(name) for name in program.cell.states}
    for node in reversed(program.nodes):
        if node.symbol in out:
            out |= set(program.reads(node))
    return out
