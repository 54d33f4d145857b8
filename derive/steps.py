"""Writing a derivation down: numbered steps, in the order in which a textbook would take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sympy import Add, Eq, Expr, Integer, Mul, Symbol

from derive.adjoint import Backward
from derive.cell import Cell
from derive.chapters import Chapters
from derive.cost import Cost, cost_latex
from derive.jacobian import immediate, step_jacobian
from derive.latex import Typesetter, d_latex, name_latex
from derive.laws import CHUNKS, LOSS, SEEN, WINDOW, Law, backward_total, forward_total, jacobian_product, state_total
from derive.losses import LOSSES
from derive.lower import lower
from derive.notation import at, column, diag, parameter, time_of
from derive.operators import operator
from derive.present import Presented
from derive.program import Program
from derive.syntax import Call, Tree, walk
from derive.words import tangents

__all__ = ["Step", "argument_tree", "write_steps"]


@dataclass(frozen=True)
class Step:
    """One step: a sentence, an equation, and what it rests on.

    ``equation`` is SymPy in generic entries (:mod:`derive.notation`), ``latex`` the same as papers print it;
    ``rests_on`` holds the numbers of earlier steps and the names of rules; ``obligation`` is where the proof shows it,
    or "".  ``chapter`` is one of :data:`derive.chapters.CHAPTERS`, ``section`` its title in this derivation.
    """

    number: int
    section: str
    sentence: str
    equation: Expr
    latex: str
    rests_on: tuple[int | str, ...]
    obligation: str = ""
    chapter: str = ""

    def __str__(self) -> str:
        return f"({self.number}) {self.sentence}: {self.equation.lhs} = {self.equation.rhs}"

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"


def write_steps(cell: Cell, program: Program, backward: Backward, cost: Cost) -> tuple[Step, ...]:
    """The whole derivation of a cell, step by step."""
    return tuple(_Writer(cell, program, backward, cost).steps())


def argument_tree(cell: Cell, e: Expr) -> Tree | None:
    """A function's argument as its author wrote it; None where no function of the text has this argument."""
    for equation in cell.trees.values():
        for call in (x for x in walk(equation.value) if isinstance(x, Call)):
            if lower(call.arguments[0], dict(cell.parameters)) == e:
                return call.arguments[0]
    return None


class _Writer:
    """Writes the steps in the order in which a textbook would."""

    def __init__(self, cell: Cell, program: Program, backward: Backward, cost: Cost) -> None:
        self.cell, self.program, self.cost = cell, program, cost
        self.shown = Presented(backward)
        self.chapters = Chapters(self.shown)
        self.typeset = Typesetter(cell, self.shown.prefix)
        self.number, self.chapter = 0, ""
        self.of: dict[str, int] = {}  # number of the step that states a name

    def step(
        self,
        sentence: str,
        equation: Expr,
        text: str,
        rests: tuple[int | str, ...],
        obligation: str = "",
        name: str = "",
    ) -> Step:
        self.number += 1
        if name:
            self.of[name] = self.number
        section = self.chapters.titles[self.chapter]
        return Step(self.number, section, sentence, equation, text, rests, obligation, self.chapter)

    def steps(self) -> Iterator[Step]:
        """All steps."""
        for chapter, write in (
            ("forward", self.forward),
            ("loss", self.loss),
            ("outputs", self.outputs),
            ("recursion", self.recursion),
            ("recurrent", self.recurrent),
            ("others", self.others),
            ("jacobian", self.jacobians),
            ("truncation", self.truncation),
            ("cost", self.costs),
        ):
            self.chapter = chapter
            yield from write()

    def typeset_eq(self, left: str, right: Expr) -> str:
        return f"{left} = {self.typeset.expression(right)}"

    def law(self, law: Law, *rests: int | str) -> Step:
        """A step that holds for every cell."""
        return self.step(law.sentence, law.equation, law.latex, rests, law.obligation, law.name)

    # ---------------------------------------------------------------------------------------------- forward and loss

    def forward(self) -> Iterator[Step]:
        for name, equation in self.cell.trees.items():
            text = f"{name_latex(name, 't')} = {self.typeset.tree(equation.value)}"
            eq = Eq(at(name), self.cell.equations[name], evaluate=False)
            yield self.step(f"{name}[t], as its author wrote it", eq, text, ("the text",), "program/cut", name)
        for name, e in ((n, e) for n, e in self.shown.preactivations.items() if n in self.chapters.named):
            eq = Eq(at(name), e, evaluate=False)
            sentence = f"{name}[t] names the argument of the function, so that its derivative can be named"
            tree = argument_tree(self.cell, e)
            right = self.typeset.expression(e) if tree is None else self.typeset.tree(tree)
            yield self.step(sentence, eq, f"{name_latex(name, 't')} = {right}", ("the text",), "program/cut", name)

    def loss(self) -> Iterator[Step]:
        yield self.law(LOSS, "definition")
        for loss in LOSSES.values():
            where = f" (where {loss.where})" if loss.where else ""
            eq = Eq(Symbol("dl[t]/dy[t]"), loss.generic_gradient, evaluate=False)
            text = rf"{loss.formula} \quad\Longrightarrow\quad {loss.closed}"
            yield self.step(f"{loss.sentence}{where}", eq, text, (self.of["L"],), f"loss/{loss.name}", loss.name)

    # ------------------------------------------------------------------------------------------ backward through time

    def outputs(self) -> Iterator[Step]:
        yield from map(self.derivative, self.chapters.readout)
        yield from map(self.gradient, self.chapters.output_weights)

    def recursion(self) -> Iterator[Step]:
        names = [name for name in self.chapters.named if name not in self.chapters.readout]
        yield from map(self.derivative, names)
        states = [self.shown.equation(name).free_symbols for name in self.cell.states]
        later = sorted(n for n in names if any(at(self.shown.d_name(n), 1) in read for read in states))
        if later:
            eq = Eq(Symbol(f"{self.shown.d_name(later[0])}[T+1]", real=True), Integer(0), evaluate=False)
            text = " = ".join([*(d_latex(n, "T+1") for n in later), "0"])
            sentence = "nothing comes back from beyond the last step; the recursion runs from t = T down to t = 1"
            yield self.step(sentence, eq, text, ("definition",), "lemma/time")
        for name in self.cell.states:
            right = Add(*(self.at_first(e) for e in self.shown.terms(at(name, -1))))
            eq = Eq(Symbol(f"{self.shown.d_name(name)}[0]", real=True), right, evaluate=False)
            sentence = f"the gradient by the initial state {name}[0] is what step 1 hands back"
            text = self.typeset_eq(d_latex(name, "0"), right)
            yield self.step(sentence, eq, text, (self.of[f"d {name}"],), f"P3/{name}[t-1]")

    def recurrent(self) -> Iterator[Step]:
        for name in self.chapters.recurrent:
            yield from self.immediate(name)
        states = self.cell.states
        yield self.law(state_total(states), "the chain rule")
        yield self.law(forward_total(), self.of["L"], self.of["P"])
        yield self.law(backward_total(states), self.of["P"], "the chain rule")
        yield from map(self.gradient, self.chapters.recurrent)

    def others(self) -> Iterator[Step]:
        yield from map(self.gradient, self.chapters.others)
        for name in self.cell.inputs:
            right = self.shown.sum_of(at(name))
            eq = Eq(at(self.shown.d_name(name)), right, evaluate=False)
            sentence = f"the gradient by the input {name}[t]"
            text = self.typeset_eq(d_latex(name, "t"), right)
            yield self.step(sentence, eq, text, self.input_rests(name), f"P3/{name}[t]")

    def derivative(self, name: str) -> Step:
        """The derivative of the loss by a named node."""
        right = self.shown.equation(name)
        local = name in self.cell.outputs or name in self.cell.states
        partial = rf"\frac{{\partial \ell_t}}{{\partial {name_latex(name, 't')}}}"
        terms = ([partial] if local else []) + ([self.typeset.expression(right)] if right != 0 else [])
        text = f"{d_latex(name, 't')} = {' + '.join(terms) or '0'}"
        seen = Symbol(f"dl[t]/d{name}[t]", real=True) if local else 0
        eq = Eq(at(self.shown.d_name(name)), right + seen, evaluate=False)
        return self.step(self.sentence(name), eq, text, self.rests(name), f"P3/{name}[t]", f"d {name}")

    def gradient(self, name: str) -> Step:
        """The gradient by a parameter."""
        right = self.shown.gradient(name)
        sentence = f"{name} is the same at every step, so its gradient is a sum over time (and over the batch)"
        if right == 0:
            sentence = f"{name} cancels from the equations: its gradient is zero"
        eq = Eq(parameter(self.shown.d_name(name)), right, evaluate=False)
        text = self.typeset_eq(d_latex(name), right)
        return self.step(sentence, eq, text, self.gradient_rests(name), f"P3/{name}", f"d {name}")

    def sentence(self, name: str) -> str:
        if name in self.cell.states:
            carried = any(s == at(name, -1) and f for s, f in self.shown.backward.flows.items())
            return f"{name}[t] acts on the loss at t" + (
                ", on later nodes of step t and on step t+1" if carried else ""
            )
        if name in self.cell.outputs:
            return f"{name}[t] acts on the loss at t only"
        return f"{name}[t] acts on the nodes of step t that read it"

    def at_first(self, e: Expr) -> Expr:
        """The same at t = 1."""
        timed = {s: time_of(s) for s in e.free_symbols}
        return e.xreplace({s: Symbol(f"{n}[{1 + k}]", real=True) for s, (n, k) in timed.items() if k is not None})

    # ---------------------------------------------------------------------------------------- what a step rests on

    def rests(self, name: str) -> tuple[int | str, ...]:
        symbols = [at(name), *([at(name, -1)] if name in self.cell.states else [])]
        readers = {flow.source for s in symbols for flow in self.shown.backward.flows[s]}
        known = {self.of[n] for r in readers for n in self.readers(r) if n in self.of}
        return (*sorted(known), "the chain rule") if known else (self.of["L"],)

    def readers(self, symbol: Symbol) -> list[str]:
        """Named nodes at or above a source."""
        if not self.shown.is_unnamed(symbol):
            name = symbol.name.removesuffix("[t]")
            return [name, f"d {name}"]
        return [n for flow in self.shown.backward.flows[symbol] for n in self.readers(flow.source)]

    def gradient_rests(self, name: str) -> tuple[int | str, ...]:
        shape = self.cell.parameters[name]
        if len(shape) == 2:
            sources = [pair.source for pair in self.shown.backward.matrices[name]]
            rule = "dW = d v.T for W v"
        else:
            sources = [flow.source for flow in self.shown.backward.flows[parameter(name)]]
            rule = "the chain rule"
        return (*self.derivatives_above(sources), rule, "lemma/time")

    def input_rests(self, name: str) -> tuple[int | str, ...]:
        sources = [flow.source for flow in self.shown.backward.flows[at(name)]]
        return (*self.derivatives_above(sources), "the chain rule")

    def derivatives_above(self, sources: Iterable[Symbol]) -> list[int]:
        """Steps that state the derivatives which some nodes' derivatives are made of."""
        return sorted({self.of[n] for s in sources for n in self.readers(s) if n in self.of and n.startswith("d ")})

    def path_rests(self, leaf: Symbol | str, state: str) -> tuple[int | str, ...]:
        """Forward equations on the ways from a leaf to a state, and the chain rule."""
        follows = tangents(self.program, leaf)
        leads = {at(state)}
        for node in reversed(self.program.nodes):
            if node.symbol in leads:
                leads |= set(self.program.reads(node))
        names = [s.name.removesuffix("[t]") for s in follows if s in leads]
        return (*sorted({self.of[n] for n in names if n in self.of}), "the chain rule")

    # ------------------------------------------------------------------------------------------- Jacobians and costs

    def jacobians(self) -> Iterator[Step]:
        first = self.number + 1
        for s, row in step_jacobian(self.program).items():
            for r, words in row.items():
                right = self.readable(operator(words))
                left = rf"\frac{{\partial {name_latex(s, 't')}}}{{\partial {name_latex(r, 't-1')}}}"
                eq = Eq(Symbol(f"d{s}[t]/d{r}[t-1]", commutative=False), right, evaluate=False)
                sentence = f"how {s}[t] depends on {r}[t-1] within one step"
                text = self.typeset_eq(left, right)
                yield self.step(sentence, eq, text, self.path_rests(at(r, -1), s), "jacobian-product")
        rows = range(first, self.number + 1)
        yield self.law(jacobian_product(self.cell.states), *rows, "the chain rule")
        yield self.law(SEEN, self.of["total"], self.of["J"])

    def immediate(self, name: str) -> Iterator[Step]:
        """The immediate derivative of each state that uses a recurrent matrix."""
        for s, sum_ in ((s, w) for s, w in immediate(self.program, name).items() if w):
            right = self.applied(self.readable(operator(sum_)))
            left = rf"\partial^{{+}} {name_latex(s, 't')} \left[\mathrm{{d}}{name_latex(name)}\right]"
            eq = Eq(Symbol(f"d+{s}[t][d{name}]", commutative=False), right, evaluate=False)
            sentence = f"the immediate derivative of {s}[t] in the direction d{name}: the use of {name} at step t only"
            text = self.typeset_eq(left, right)
            yield self.step(sentence, eq, text, self.path_rests(name, s), "immediate-derivative")

    def applied(self, e: Expr) -> Expr:
        """dW diag(v) acts on a vector of ones: dW v."""
        if e.is_Add:
            return Add(*(self.applied(term) for term in e.args))
        factors = list(Mul.make_args(e))
        if isinstance(factors[-1], diag):
            factors[-1] = column(factors[-1].args[0])
        return Mul(*factors)

    def readable(self, e: Expr) -> Expr:
        """Diagonals with derivatives resolved."""
        return e.replace(lambda x: isinstance(x, diag), lambda x: diag(self.shown.readable(x.args[0])))

    def truncation(self) -> Iterator[Step]:
        yield self.law(WINDOW, self.of["total"], self.of["seen"])
        yield self.law(CHUNKS, self.of["window"])

    def costs(self) -> Iterator[Step]:
        for sentence, value in self.cost.told():
            eq = Eq(Symbol("count"), value, evaluate=False)
            yield self.step(sentence, eq, cost_latex(value), ("the program, counted",))
