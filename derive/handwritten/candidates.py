"""What a definition may mean: the known quantities of a derivation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sympy import Symbol

from derive.adjoint import Backward
from derive.handwritten.truth import Truth
from derive.handwritten.values import ZERO
from derive.notation import FUNCTIONS, at, time_of
from derive.present import Presented
from derive.program import Pointwise
from derive.write import write

__all__ = ["Candidate", "candidates", "gates", "symbol_named"]


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


def gates(backward: Backward) -> dict[str, str]:
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
    gate = next((gate for gate, node in gates(backward).items() if node == name), None)
    shown = Presented(backward)
    known = {at(n): value for n, value in shown.preactivations.items()}
    inside = write(shown.inline.get(at(name), known.get(at(name), at(name))).xreplace(known))
    return f"the pre-activation of {gate}[t]" if gate else inside


def candidates(backward: Backward) -> Iterator[Candidate]:
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
