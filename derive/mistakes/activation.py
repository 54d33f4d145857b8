"""Wrong factors that any cell can have: derivatives of activations, signs, and states of the wrong time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sympy import Expr, Function, Integer, Mul, Symbol

from derive.adjoint import Through
from derive.mistakes.edit import Edits, changed
from derive.mistakes.shape import Shape
from derive.mistakes.step import Maker, flows, other_time
from derive.notation import FUNCTIONS, PRIMES, at, time_of
from derive.program import Pointwise

Primes = Callable[[Shape, Symbol], bool]


def primes(shape: Shape) -> Iterator[tuple[Symbol, int, Through, Expr, Symbol | None]]:
    """Each derivative f'(a) that a factor contains, and the node that is f(a), if there is one."""
    value = {n.expression: n.symbol for n in shape.program.nodes if isinstance(n, Pointwise)}
    for target, i, flow in flows(shape.backward, Through):
        node = shape.program.node[flow.source]
        for call in sorted(node.expression.atoms(Function) if isinstance(node, Pointwise) else (), key=str):
            name = type(call).__name__
            if name in FUNCTIONS and target in call.args[0].free_symbols:
                prime = FUNCTIONS[name].prime(call.args[0])
                if prime in Mul.make_args(flow.factor) or (f"d{name}" in PRIMES and flow.factor.has(prime)):
                    yield target, i, flow, call, value.get(call)


def of_primes(wanted: Primes, *variants: Callable[[Expr, Expr], Expr | None]) -> Maker:
    """Each derivative f'(a) replaced: a variant is a function of the call f(a) and of the value as it is named."""

    def edits(shape: Shape) -> Edits:
        for target, i, flow, call, value in primes(shape):
            prime = FUNCTIONS[type(call).__name__].prime(call.args[0])
            if not wanted(shape, value or target):
                continue
            for variant in variants:
                wrong = variant(call, value or call)
                if wrong is not None:
                    factor = flow.factor.xreplace({prime: wrong})
                    yield changed(shape.backward, target, i, Through(flow.source, factor))

    return edits


def of(*names: str) -> Callable[[Callable[[Expr, Expr], Expr]], Callable[[Expr, Expr], Expr | None]]:
    """A variant for some functions only."""

    def only_for(variant: Callable[[Expr, Expr], Expr]) -> Callable[[Expr, Expr], Expr | None]:
        return lambda call, value: variant(call, value) if type(call).__name__ in names else None

    return only_for


def is_gate_like(shape: Shape, value: Symbol) -> bool:
    """Whether an activation is a gate's: sigmoid, or the candidate's."""
    return shape.function(value) == "sigmoid" or value in shape.candidates


def is_plain(shape: Shape, value: Symbol) -> bool:
    """Whether an activation is none of a gate."""
    return not is_gate_like(shape, value)


def everywhere(shape: Shape, value: Symbol) -> bool:
    """At every activation."""
    return True


def closed(name: str, y: Expr) -> Expr:
    """The derivative of tanh or sigmoid written with a value."""
    return FUNCTIONS[name].closed(y, y)


def applied(name: str, x: Expr) -> Expr:
    """A function, or a derivative that is a function of its own, applied."""
    return FUNCTIONS[name](x) if name in FUNCTIONS else FUNCTIONS[name[1:]].prime(x)


_both, _tanh, _sigmoid = of("tanh", "sigmoid"), of("tanh"), of("sigmoid")

missing: tuple[Callable[[Expr, Expr], Expr | None], ...] = (lambda call, value: Integer(1),)
at_preactivation = (_both(lambda call, value: closed(type(call).__name__, call.args[0])),)
twice = (
    _both(lambda call, value: applied(f"d{type(call).__name__}", call)),
    _both(lambda call, value: applied(f"d{type(call).__name__}", call.args[0]) ** 2),
)
wrong_plain = (
    *missing,
    of("tanh", "sigmoid", "relu", "abs", "softsign", "erf")(lambda call, value: value),
    _tanh(lambda call, value: 1 - value),
    _tanh(lambda call, value: 1 + value**2),
    _tanh(lambda call, value: closed("sigmoid", value)),
    _tanh(lambda call, value: applied("dsigmoid", call.args[0])),
    _sigmoid(lambda call, value: 1 - value),
    _sigmoid(lambda call, value: closed("tanh", value)),
    _sigmoid(lambda call, value: applied("dtanh", call.args[0])),
)
wrong_gate = (*wrong_plain, _sigmoid(lambda call, value: FUNCTIONS["sigmoid"](value)), twice[0])


def previous_state(shape: Shape) -> Edits:
    """1 - h[t-1]**2 for 1 - h[t]**2: an activation's derivative with a state of the wrong time."""
    for target, i, flow, call, value in primes(shape):
        if f"d{type(call).__name__}" not in PRIMES:
            continue
        prime = FUNCTIONS[type(call).__name__].prime(call.args[0])
        wrong = None
        if value in shape.states and type(call).__name__ in ("tanh", "sigmoid"):
            wrong = closed(type(call).__name__, at(time_of(value)[0], -1))
        elif call.args[0] in shape.states:
            wrong = prime.xreplace({call.args[0]: at(time_of(call.args[0])[0], -1)})
        if wrong is not None:
            yield changed(shape.backward, target, i, Through(flow.source, flow.factor.xreplace({prime: wrong})))


# ---------------------------------------------------------------------------------------------------------- any factor


def scaled(factor: int) -> Maker:
    """A term times a number."""

    def edits(shape: Shape) -> Edits:
        for target, i, flow in flows(shape.backward, Through):
            yield changed(shape.backward, target, i, Through(flow.source, factor * flow.factor))

    return edits


def state_at_wrong_time(shape: Shape) -> Edits:
    """h[t] for h[t-1] in a factor, or the reverse."""
    for target, i, flow in flows(shape.backward, Through):
        for symbol in sorted(flow.factor.free_symbols, key=str):
            if moved := other_time(shape, symbol):
                factor = flow.factor.xreplace({symbol: moved})
                yield changed(shape.backward, target, i, Through(flow.source, factor))
