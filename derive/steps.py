"""Writing a derivation down: numbered steps, in the order in which a textbook would take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sympy
from sympy import Add, Eq, Expr, Integer, Mul, Symbol

from derive.adjoint import Backward
from derive.cell import Cell
from derive.cost import Cost, size_symbol
from derive.jacobian import immediate, step_jacobian
from derive.latex import Typesetter, d_latex, name_latex
from derive.losses import LOSSES
from derive.lower import lower
from derive.notation import at, column, diag, parameter, time_of
from derive.operators import operator
from derive.present import Presented
from derive.program import Program
from derive.syntax import Call, walk
from derive.words import tangents

__all__ = ["Step", "write_steps"]


@dataclass(frozen=True)
class Step:
    """One step: a sentence, an equation, and what it rests on.

    ``equation`` is SymPy in generic entries (:mod:`derive.notation`), ``latex`` the same as papers print it;
    ``rests_on`` holds the numbers of earlier steps and the names of rules; ``obligation`` is where the proof shows it,
    or "".
    """

    number: int
    section: str
    sentence: str
    equation: Expr
    latex: str
    rests_on: tuple[int | str, ...]
    obligation: str = ""

    def __str__(self) -> str:
        return f"({self.number}) {self.sentence}: {self.equation.lhs} = {self.equation.rhs}"

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"


def write_steps(cell: Cell, program: Program, backward: Backward, cost: Cost) -> tuple[Step, ...]:
    """The whole derivation of a cell, step by step."""
    return tuple(_Writer(cell, program, backward, cost).steps())


class _Writer:
    """Writes the steps in the order in which a textbook would."""

    def __init__(self, cell: Cell, program: Program, backward: Backward, cost: Cost) -> None:
        self.cell, self.program, self.cost = cell, program, cost
        self.shown = Presented(backward)
        self.typeset = Typesetter(cell, self.shown.prefix)
        self.number = 0
        self.of: dict[str, int] = {}  # number of the step that states a name

    def step(
        self,
        section: str,
        sentence: str,
        equation: Expr,
        latex: str,
        rests: tuple[int | str, ...],
        obligation: str = "",
        name: str = "",
    ) -> Step:
        self.number += 1
        if name:
            self.of[name] = self.number
        return Step(self.number, section, sentence, equation, latex, rests, obligation)

    def steps(self) -> Iterator[Step]:
        """All steps."""
        yield from self.forward()
        yield from self.loss()
        yield from self.backward()
        yield from self.gradients()
        yield from self.jacobians()
        yield from self.truncation()
        yield from self.costs()

    def typeset_eq(self, left: str, right: Expr) -> str:
        return f"{left} = {self.typeset.expression(right)}"

    def forward(self) -> Iterator[Step]:
        section = "The cell"
        for name, equation in self.cell.trees.items():
            latex = f"{name_latex(name, 't')} = {self.typeset.tree(equation.value)}"
            eq = Eq(at(name), self.cell.equations[name], evaluate=False)
            yield self.step(
                section, f"{name}[t], as its author wrote it", eq, latex, ("the text",), "program/cut", name
            )
        for name, e in self.shown.preactivations.items():
            eq = Eq(at(name), e, evaluate=False)
            sentence = f"{name}[t] names the argument of the function, so that its derivative can be named"
            latex = f"{name_latex(name, 't')} = {self.argument(e)}"
            yield self.step(section, sentence, eq, latex, ("the text",), "program/cut", name)

    def argument(self, e: Expr) -> str:
        """A function's argument in the order in which its author wrote it."""
        for equation in self.cell.trees.values():
            for call in (x for x in walk(equation.value) if isinstance(x, Call)):
                if lower(call.arguments[0], dict(self.cell.parameters)) == e:
                    return self.typeset.tree(call.arguments[0])
        return self.typeset.expression(e)

    def loss(self) -> Iterator[Step]:
        section = "The loss"
        t, b = size_symbol("T"), size_symbol("B")
        weight, value = sympy.Function("w")(Symbol("t"), Symbol("b")), sympy.Function("l")(Symbol("t"), Symbol("b"))
        latex = r"\mathcal{L} = \sum_{t=1}^{T} \sum_{b=1}^{B} w_{t,b} \, \ell_{t,b}"
        sentence = (
            "the loss is a weighted sum over steps and sequences; the weights say every step or the last, sum or mean"
        )
        eq = Eq(Symbol("L"), sympy.Sum(weight * value, (Symbol("t"), 1, t), (Symbol("b"), 1, b)), evaluate=False)
        yield self.step(section, sentence, eq, latex, ("definition",), "lemma/batch", "L")
        for loss in LOSSES.values():
            where = f" (where {loss.where})" if loss.where else ""
            eq = Eq(Symbol("dl[t]/dy[t]"), loss.generic_gradient, evaluate=False)
            latex = rf"{loss.formula} \quad\Longrightarrow\quad {loss.closed}"
            yield self.step(
                section, f"{loss.sentence}{where}", eq, latex, (self.of["L"],), f"loss/{loss.name}", loss.name
            )

    def backward(self) -> Iterator[Step]:
        section = "The backward recursion"
        for name in self.shown.named:
            right = self.shown.equation(name)
            local = name in self.cell.outputs or name in self.cell.states
            partial_latex = rf"\frac{{\partial \ell_t}}{{\partial {name_latex(name, 't')}}}"
            terms = ([partial_latex] if local else []) + ([self.typeset.expression(right)] if right != 0 else [])
            latex = f"{d_latex(name, 't')} = {' + '.join(terms) or '0'}"
            eq = Eq(
                at(self.shown.d_name(name)),
                right + (Symbol(f"dl[t]/d{name}[t]", real=True) if local else 0),
                evaluate=False,
            )
            yield self.step(section, self.sentence(name), eq, latex, self.rests(name), f"P3/{name}[t]", f"d {name}")
        names = list(self.shown.named)
        states = [self.shown.equation(name).free_symbols for name in self.cell.states]
        later = sorted(n for n in names if any(at(self.shown.d_name(n), 1) in read for read in states))
        if later:
            eq = Eq(Symbol(f"{self.shown.d_name(later[0])}[T+1]", real=True), Integer(0), evaluate=False)
            latex = " = ".join([*(d_latex(n, "T+1") for n in later), "0"])
            sentence = "nothing comes back from beyond the last step; the recursion runs from t = T down to t = 1"
            yield self.step(section, sentence, eq, latex, ("definition",), "lemma/time")

    def sentence(self, name: str) -> str:
        if name in self.cell.states:
            carried = any(s == at(name, -1) and f for s, f in self.shown.backward.flows.items())
            return f"{name}[t] acts on the loss at t" + (
                ", on later nodes of step t and on step t+1" if carried else ""
            )
        if name in self.cell.outputs:
            return f"{name}[t] acts on the loss at t only"
        return f"{name}[t] acts on the nodes of step t that read it"

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

    def gradients(self) -> Iterator[Step]:
        section = "Gradients"
        for name in self.cell.parameters:
            right = self.shown.gradient(name)
            sentence = f"{name} is the same at every step, so its gradient is a sum over time (and over the batch)"
            if right == 0:
                sentence = f"{name} cancels from the equations: its gradient is zero"
            eq = Eq(parameter(self.shown.d_name(name)), right, evaluate=False)
            latex = self.typeset_eq(d_latex(name), right)
            yield self.step(section, sentence, eq, latex, self.gradient_rests(name), f"P3/{name}", f"d {name}")
        for name in self.cell.inputs:
            right = self.shown.sum_of(at(name))
            eq = Eq(at(self.shown.d_name(name)), right, evaluate=False)
            latex = self.typeset_eq(d_latex(name, "t"), right)
            yield self.step(
                section, f"the gradient by the input {name}[t]", eq, latex, self.input_rests(name), f"P3/{name}[t]"
            )
        for name in self.cell.states:
            right = Add(*(self.at_first(e) for e in self.shown.terms(at(name, -1))))
            eq = Eq(Symbol(f"{self.shown.d_name(name)}[0]", real=True), right, evaluate=False)
            latex = self.typeset_eq(d_latex(name, "0"), right)
            sentence = f"the gradient by the initial state {name}[0] is what step 1 hands back"
            yield self.step(section, sentence, eq, latex, (self.of[f"d {name}"],), f"P3/{name}[t-1]")

    def at_first(self, e: Expr) -> Expr:
        """The same at t = 1."""
        timed = {s: time_of(s) for s in e.free_symbols}
        return e.xreplace({s: Symbol(f"{n}[{1 + k}]", real=True) for s, (n, k) in timed.items() if k is not None})

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

    def jacobians(self) -> Iterator[Step]:
        section = "The Jacobian product"
        blocks = step_jacobian(self.program)
        first = self.number + 1
        for s, row in blocks.items():
            for r, words in row.items():
                right = self.readable(operator(words))
                left = rf"\frac{{\partial {name_latex(s, 't')}}}{{\partial {name_latex(r, 't-1')}}}"
                eq = Eq(Symbol(f"d{s}[t]/d{r}[t-1]", commutative=False), right, evaluate=False)
                sentence = f"how {s}[t] depends on {r}[t-1] within one step"
                yield self.step(
                    section,
                    sentence,
                    eq,
                    self.typeset_eq(left, right),
                    self.path_rests(at(r, -1), s),
                    "jacobian-product",
                )
        rows = tuple(range(first, self.number + 1))
        k, t, last = Symbol("k", integer=True), Symbol("t", integer=True), size_symbol("T")
        eq = Eq(Symbol("ds[T]/ds[t]"), sympy.Product(sympy.Function("J")(k), (k, t + 1, last)), evaluate=False)
        latex = (
            r"\frac{\partial s_T}{\partial s_t} = J_T \, J_{T-1} \cdots J_{t+1}, \qquad"
            r" J_k = \frac{\partial s_k}{\partial s_{k-1}}, \qquad s = " + self.stacked()
        )
        sentence = "over many steps the Jacobians multiply, later steps on the left"
        yield self.step(section, sentence, eq, latex, (*rows, "the chain rule"), "jacobian-product", "J")
        yield from self.immediate_steps(section)

    def stacked(self) -> str:
        names = [name_latex(s) for s in self.cell.states]
        return names[0] if len(names) == 1 else rf"\left({', '.join(names)}\right)"

    def applied(self, e: Expr) -> Expr:
        """dW diag(v) acts on a vector of ones: dW v."""
        if e.is_Add:
            return Add(*(self.applied(term) for term in e.args))
        factors = list(Mul.make_args(e))
        if isinstance(factors[-1], diag):
            factors[-1] = column(factors[-1].args[0])
        return Mul(*factors)

    def immediate_steps(self, section: str) -> Iterator[Step]:
        last = size_symbol("T")
        t = Symbol("t", integer=True)
        for name in self.recurrent():
            words = immediate(self.program, name)
            shape = self.cell.parameters[name]
            for s, sum_ in ((s, w) for s, w in words.items() if w):
                right = self.applied(self.readable(operator(sum_)))
                inner = rf"\mathrm{{d}}{name_latex(name)}" if len(shape) == 2 else name_latex(name)
                left = rf"\partial^{{+}} {name_latex(s, 't')} \left[{inner}\right]"
                eq = Eq(Symbol(f"d+{s}[t][d{name}]", commutative=False), right, evaluate=False)
                sentence = (
                    f"the immediate derivative of {s}[t] in the direction d{name}: the use of {name} at step t only"
                )
                yield self.step(
                    section,
                    sentence,
                    eq,
                    self.typeset_eq(left, right),
                    self.path_rests(name, s),
                    "immediate-derivative",
                )
        slope, direct = sympy.Function("dL/ds")(t), sympy.Function("d+s/dtheta")(t)
        eq = Eq(Symbol("dL/dtheta"), sympy.Sum(slope * direct, (t, 1, last)), evaluate=False)
        latex = (
            r"\frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta}"
            r" = \sum_{t=1}^{T} \frac{\partial \mathcal{L}}{\partial s_t} \,"
            r" \frac{\partial^{+} s_t}{\partial \theta}, \qquad \frac{\partial \mathcal{L}}{\partial s_t} ="
            r" \sum_{u=t}^{T} \frac{\partial \ell_u}{\partial s_u} \, J_u \cdots J_{t+1}"
        )
        sentence = "the total derivative sums the immediate ones, each weighted by what the loss sees of that state"
        yield self.step(section, sentence, eq, latex, (self.of["J"],), "immediate-derivative", "total")
        p, j = sympy.Function("P"), sympy.Function("J")
        eq = Eq(p(t), j(t) * p(t - 1) + direct, evaluate=False)
        latex = (
            r"P_t = J_t \, P_{t-1} + \frac{\partial^{+} s_t}{\partial \theta}, \qquad P_0 = 0, \qquad"
            r" \frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta}"
            r" = \sum_{t=1}^{T} \frac{\partial \ell_t}{\partial s_t} \, P_t"
        )
        sentence = "the same gradient forward in time (real-time recurrent learning), with P[t] = ds[t]/dtheta"
        yield self.step(
            "The forward recursion", sentence, eq, latex, (self.of["J"], "the chain rule"), "forward-recursion"
        )

    def recurrent(self) -> list[str]:
        """Matrices that act on a previous state."""
        found = []
        for name, pairs in self.shown.backward.matrices.items():
            if any(str(s).endswith("[t-1]") for pair in pairs for s in self.shown.readable(pair.operand).free_symbols):
                found.append(name)
        return found

    def readable(self, e: Expr) -> Expr:
        """Diagonals with derivatives resolved."""
        return e.replace(lambda x: isinstance(x, diag), lambda x: diag(self.shown.readable(x.args[0])))

    def truncation(self) -> Iterator[Step]:
        u, j, k = sympy.symbols("u j k", integer=True, positive=True)
        term = sympy.Function("g")(u, j)
        eq = Eq(Symbol("dropped"), sympy.Sum(term, (j, 1, u - k), (u, k + 1, size_symbol("T"))), evaluate=False)
        latex = (
            r"\frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta} = \sum_{u=1}^{T} \sum_{j=1}^{u} g_{u,j}, \quad"
            r" g_{u,j} = \frac{\partial \ell_u}{\partial s_u} \, J_u \cdots J_{j+1} \,"
            r" \frac{\partial^{+} s_j}{\partial \theta}; \qquad \text{dropped: } u - j \ge k"
        )
        sentence = "truncation after k steps drops the terms whose loss is k or more steps later than the use"
        rests = (self.of["J"], self.of["total"])
        yield self.step("Truncation", sentence, eq, latex, rests, "truncation", "window")
        chunk = sympy.Ne(sympy.ceiling(u / k), sympy.ceiling(j / k))
        eq = Eq(
            Symbol("dropped"), sympy.Sum(sympy.Piecewise((term, chunk), (0, True)), (j, 1, u), (u, 1, size_symbol("T")))
        )
        latex = r"\text{dropped: } g_{u,j} \text{ with } \lceil u/k \rceil \ne \lceil j/k \rceil"
        sentence = (
            "cutting the sequence into chunks of k steps drops the terms whose loss and use are in different chunks"
        )
        yield self.step("Truncation", sentence, eq, latex, (self.of["window"],), "truncation")

    def costs(self) -> Iterator[Step]:
        rows = (
            ("multiply-adds of the forward pass", self.cost.forward),
            ("multiply-adds of the backward pass, the inputs' gradient left out", self.cost.backward),
            ("multiply-adds for the inputs' gradient", self.cost.inputs),
            ("multiply-adds that must wait for a neighbouring step, forward and backward", self.cost.sequential),
            ("entrywise operations of the forward pass", self.cost.forward_entrywise),
            ("entrywise operations of the backward pass", self.cost.backward_entrywise),
            ("numbers stored for the backward pass", self.cost.stored),
            ("numbers stored if only the states are kept", self.cost.states),
        )
        for sentence, value in rows:
            eq = Eq(Symbol("count"), value, evaluate=False)
            yield self.step("Cost", sentence, eq, cost_latex(value), ("the program, counted",))


def cost_latex(value: Expr) -> str:
    """A cost polynomial, T B taken out."""
    t, b = size_symbol("T"), size_symbol("B")
    inner = sympy.expand(value / (t * b))
    names = {s: name_latex(s.name) for s in value.free_symbols}
    shown = sympy.latex(inner, symbol_names=names, order="lex")
    return "0" if value == 0 else rf"\left({shown}\right) T B" if inner.is_Add else rf"{shown} \, T B"
