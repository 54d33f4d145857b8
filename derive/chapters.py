"""The chapters of a derivation, in the order in which it is told, with titles that fit the cell.

    forward, loss, outputs, recursion, recurrent, others, jacobian, truncation, cost

What belongs to the outputs is read from the program: nodes on which no state of the same step depends, and the
parameters that only they use.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from sympy import Expr, Symbol

from derive.notation import at, parameter, time_sum
from derive.present import Presented
from derive.program import Product
from derive.syntax import Call

__all__ = ["CHAPTERS", "Chapters", "words"]

CHAPTERS = ("forward", "loss", "outputs", "recursion", "recurrent", "others", "jacobian", "truncation", "cost")
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def words(items: Sequence[str]) -> str:
    """An enumeration.

    >>> words(["input weights", "biases", "the inputs"])
    'input weights, biases and the inputs'
    """
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


class Chapters:
    """Which names are told in which chapter, and what the chapters are called."""

    def __init__(self, shown: Presented) -> None:
        self.shown, self.cell, self.program = shown, shown.cell, shown.program

    @cached_property
    def before_states(self) -> set[Symbol]:
        """Everything that a state of the same step depends on, the states among it."""
        found = {at(name) for name in self.cell.states}
        for node in reversed(self.program.nodes):
            if node.symbol in found:
                found |= set(self.program.reads(node))
        return found

    @cached_property
    def readout(self) -> tuple[str, ...]:
        """Named nodes that only the loss of their own step can see."""
        return tuple(name for name in self.named if at(name) not in self.before_states)

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Named nodes in the order in which the backward pass reaches them, those that nothing reads left out."""
        told = {*self.cell.outputs, *self.cell.states, *self.cell.equations}
        return tuple(name for name in self.shown.named if name in told or self.shown.backward.flows[at(name)])

    @cached_property
    def output_weights(self) -> tuple[str, ...]:
        """Parameters that only such nodes use."""
        return tuple(
            name
            for name in self.cell.parameters
            if self.uses(name) and not any(s in self.before_states for s in self.uses(name))
        )

    def uses(self, name: str) -> list[Symbol]:
        """The nodes that a parameter enters."""
        if len(self.cell.parameters[name]) == 2:
            return [n.symbol for n in self.program.nodes if isinstance(n, Product) and n.matrix == name]
        return [n.symbol for n in self.program.nodes if parameter(name) in self.program.reads(n)]

    @cached_property
    def recurrent(self) -> tuple[str, ...]:
        """Matrices that act on a previous state on the way to a state."""
        return tuple(
            name
            for name, pairs in self.shown.backward.matrices.items()
            if name not in self.output_weights
            and any(str(s).endswith("[t-1]") for pair in pairs for s in self.operand(pair.operand).free_symbols)
        )

    def operand(self, symbol: Symbol) -> Expr:
        """What a matrix acts on, written out."""
        return self.shown.readable(symbol)

    @cached_property
    def others(self) -> tuple[str, ...]:
        """The parameters that are left."""
        told = {*self.output_weights, *self.recurrent}
        return tuple(name for name in self.cell.parameters if name not in told)

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each chapter."""
        return {
            "forward": "One step forward",
            "loss": "The loss",
            "outputs": "Output weights" if self.output_weights else "The outputs",
            "recursion": self._recursion(),
            "recurrent": ("Recurrent weights: immediate" if self.recurrent else "Immediate")
            + " against total derivative",
            "others": self._others(),
            "jacobian": "The Jacobian product, in order",
            "truncation": "Truncation",
            "cost": "Cost",
        }

    def _recursion(self) -> str:
        states, gates = len(self.cell.states), len(self.gates)
        if states == 1 and not gates:
            return "The hidden-state recursion"
        through = ["the hidden state" if states == 1 else _counted(states, "state")]
        return f"The recursion through {words([*through, *([_counted(gates, 'gate')] if gates else [])])}"

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """Intermediate values between 0 and 1, as their author made them."""
        trees = {name: self.cell.trees[name].value for name in self.cell.intermediates}
        return tuple(name for name, tree in trees.items() if isinstance(tree, Call) and tree.name == "sigmoid")

    def _others(self) -> str:
        kinds = dict.fromkeys(("input weights", "biases", "other parameters"), False)
        for name in self.others:
            kinds[self._kind(name)] = True
        listed = [kind for kind, there in kinds.items() if there] + (["the inputs"] if self.cell.inputs else [])
        if listed == ["other parameters"]:
            return "The other parameters"
        return words(listed).capitalize()

    def _kind(self, name: str) -> str:
        inputs = {at(x) for x in self.cell.inputs}
        if len(self.cell.parameters[name]) == 2:
            read = {s for p in self.shown.backward.matrices[name] for s in self.operand(p.operand).free_symbols}
            return "input weights" if read and read <= inputs else "other parameters"
        gradient = self.shown.gradient(name)
        added = isinstance(gradient, time_sum) and isinstance(gradient.args[0], Symbol)
        return "biases" if added and self.cell.parameters[name] else "other parameters"


def _counted(n: int, noun: str) -> str:
    return f"{_COUNTS[n] if n < len(_COUNTS) else n} {noun}{'s' if n > 1 else ''}"
