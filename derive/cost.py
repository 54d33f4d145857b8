"""The cost of one forward and one backward pass, counted from the program itself, as polynomials in the sizes.

A matrix-vector product with an m by n matrix costs m n multiply-adds a sequence and step; an outer product as many.
Entrywise work is counted in operations, each sign and each function one.  Stored numbers are what the backward pass
reads back: the values that its factors and outer products name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sympy import Expr, Integer, Symbol, expand, latex, preorder_traversal

from derive.adjoint import Adjoint, Backward, Through
from derive.latex import name_latex
from derive.notation import at, time_of
from derive.program import Pointwise, Product

__all__ = ["Cost", "cost_latex", "count_cost", "size_symbol"]


def size_symbol(letter: str) -> Symbol:
    """The symbol of a size: T, B, or a letter of the cell's dimensions."""
    return Symbol(letter, integer=True, positive=True)


T, B = size_symbol("T"), size_symbol("B")


@dataclass(frozen=True)
class Cost:
    """Polynomials in T, B and the cell's sizes.

    ``forward`` and ``backward`` are multiply-adds in matrix products (``backward`` without the inputs' gradient, which
    costs ``inputs`` more), ``*_entrywise`` entrywise operations, ``stored`` numbers kept for the backward pass,
    ``states``
    those of them that are states, ``sequential`` the multiply-adds that wait for the step before (or after).
    """

    forward: Expr
    backward: Expr
    inputs: Expr
    forward_entrywise: Expr
    backward_entrywise: Expr
    stored: Expr
    states: Expr
    sequential: Expr

    def told(self) -> tuple[tuple[str, Expr], ...]:
        """Every count with the words for it, in the order in which it is told."""
        return (
            ("multiply-adds of the forward pass", self.forward),
            ("multiply-adds of the backward pass, the inputs' gradient left out", self.backward),
            ("multiply-adds for the inputs' gradient", self.inputs),
            ("multiply-adds that must wait for a neighbouring step, forward and backward", self.sequential),
            ("entrywise operations of the forward pass", self.forward_entrywise),
            ("entrywise operations of the backward pass", self.backward_entrywise),
            ("numbers stored for the backward pass", self.stored),
            ("numbers stored if only the states are kept", self.states),
        )


def _operations(e: Expr) -> int:
    """Signs and functions of an entrywise expression."""
    count = 0
    for part in preorder_traversal(e):
        if part.is_Add or part.is_Mul:
            count += len(part.args) - 1
        elif part.args:
            count += 1
    return count


def count_cost(backward: Backward) -> Cost:
    """Count one pass over T steps of B sequences.

    >>> import derive
    >>> count_cost(derive.differentiate(derive.load("tanh_rnn")).backward).forward
    B*D*H*T + B*H**2*T + B*H*O*T
    """
    program = backward.program
    cell = program.cell
    size = {letter: size_symbol(letter) for letter in cell.dimensions}

    def area(matrix: str) -> Expr:
        rows, columns = cell.parameters[matrix]
        return size[rows] * size[columns]

    def length(symbol: Symbol) -> Expr:
        return size[program.axes[symbol]] if symbol in program.axes else Integer(1)

    products = [n for n in program.nodes if isinstance(n, Product)]
    pointwise = [n for n in program.nodes if isinstance(n, Pointwise)]
    leaves = {at(name) for name in cell.inputs}
    live = _needs_gradient(backward)
    adjoints = [(target, f) for target, flows in backward.flows.items() for f in flows if isinstance(f, Adjoint)]
    through = [(target, f) for target, flows in backward.flows.items() for f in flows if isinstance(f, Through)]
    outers = [area(m) for m, pairs in backward.matrices.items() for _ in pairs]
    sequential = [area(n.matrix) for n in products if _recurrent(backward, n)]
    return Cost(
        forward=_times(area(n.matrix) for n in products),
        backward=_times([*outers, *(area(f.matrix) for target, f in adjoints if target in live)]),
        inputs=_times(area(f.matrix) for target, f in adjoints if target not in live or target in leaves),
        forward_entrywise=_times(_operations(n.expression) * size[n.axis] for n in pointwise),
        backward_entrywise=_times(
            (int(f.factor != 1) + _operations(f.factor)) * length(f.source) for _, f in through if f.factor != -1
        ),
        stored=_times(length(s) for s in _stored(backward)),
        states=_times(size[cell.axes[name]] for name in cell.states),
        sequential=expand(2 * T * B * sum(sequential, Integer(0))),
    )


def _times(terms: Iterable[Expr]) -> Expr:
    return expand(T * B * sum(terms, Integer(0)))


def _needs_gradient(backward: Backward) -> set[Symbol]:
    """Symbols whose derivative a parameter or an earlier state needs: everything that depends on one of them."""
    program = backward.program
    live = {at(name, -1) for name in program.cell.states}
    live |= {s for s in backward.flows if time_of(s)[1] is None}
    for node in program.nodes:
        if isinstance(node, Product) or any(s in live for s in program.reads(node)):
            live.add(node.symbol)
    return live


def _recurrent(backward: Backward, product: Product) -> bool:
    """Whether a product waits for the previous state and the next state waits for it."""
    program = backward.program
    after = {at(name, -1) for name in program.cell.states}
    for node in program.nodes:
        if any(s in after for s in program.reads(node)):
            after.add(node.symbol)
    before = {at(name) for name in program.cell.states}
    for node in reversed(program.nodes):
        if node.symbol in before:
            before |= set(program.reads(node))
    return product.symbol in after and product.symbol in before


def _stored(backward: Backward) -> list[Symbol]:
    """Values that the backward pass reads: in its factors and as operands of outer products."""
    read: set[Symbol] = set()
    for flows in backward.flows.values():
        for flow in flows:
            if isinstance(flow, Through):
                read |= {s for s in flow.factor.free_symbols if time_of(s)[1] is not None}
    read |= {pair.operand for pairs in backward.matrices.values() for pair in pairs}
    # a previous state is the state of the step before: stored once
    states = backward.program.cell.states
    here = {at(time_of(s)[0]) if time_of(s)[0] in states else s for s in read}
    inputs = {at(name) for name in backward.program.cell.inputs}
    return sorted(here - inputs, key=str)


def evaluated(cost: Expr, sizes: Mapping[str, int]) -> int:
    """A polynomial at given sizes."""
    return int(cost.subs({size_symbol(name): n for name, n in sizes.items()}))


def cost_latex(value: Expr) -> str:
    """A cost polynomial, T B taken out."""
    inner = expand(value / (T * B))
    names = {s: name_latex(s.name) for s in value.free_symbols}
    shown = latex(inner, symbol_names=names, order="lex")
    return "0" if value == 0 else rf"\left({shown}\right) T B" if inner.is_Add else rf"{shown} \, T B"
