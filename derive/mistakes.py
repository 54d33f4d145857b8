"""Known wrong derivations, as edits to a backward program or to the time loop.

An edit is found by the shape of the program, not by the cell's name, so it applies to any cell that has the edited
part. The names are those under which the mistakes are known from public bug reports and questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sympy import Expr, Function, Integer, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.notation import FUNCTIONS, at, time_of
from derive.unroll import Gradient

__all__ = ["LOOP_MISTAKES", "MISTAKES", "LoopMistake", "Mistake", "Planted", "plant"]

Edited = tuple[str, Backward]  # where, and the wrong program


@dataclass(frozen=True)
class Mistake:
    """One kind of wrong step: a name, a sentence, and every place of a program where it can be made."""

    name: str
    sentence: str
    edits: Callable[[Backward], Iterator[Edited]]


@dataclass(frozen=True)
class Planted:
    """A mistake made at one place."""

    mistake: str
    where: str
    backward: Backward


def _flows(b: Backward, kind: type) -> Iterator[tuple[Symbol, int, Any]]:
    for target, flows in b.flows.items():
        for i, flow in enumerate(flows):
            if isinstance(flow, kind):
                yield target, i, flow


def _with_flow(b: Backward, target: Symbol, i: int, flow: Flow | None) -> Edited:
    flows = [f for j, f in enumerate(b.flows[target]) if j != i or flow is not None]
    if flow is not None:
        flows[i] = flow
    return f"d {target}", b.replaced(flows={target: tuple(flows)})


def _is_state(target: Symbol) -> bool:
    return time_of(target)[1] == -1


def _is_parameter(target: Symbol) -> bool:
    return time_of(target)[1] is None


def _dropped(wanted: Callable[[Symbol], bool]) -> Callable[[Backward], Iterator[Edited]]:
    def edits(b: Backward) -> Iterator[Edited]:
        for target, i, _ in _flows(b, object):
            # a state's only way back is carry-missing, not a part of it
            if wanted(target) and not (_is_state(target) and len(b.flows[target]) == 1):
                yield _with_flow(b, target, i, None)

    return edits


def _carry_missing(b: Backward) -> Iterator[Edited]:
    for target, flows in b.flows.items():
        if _is_state(target) and flows:
            yield f"d {target}", b.replaced(flows={target: ()})


def _square(b: Backward, matrix: str) -> bool:
    rows, columns = b.program.cell.parameters[matrix]
    return rows == columns


def _not_transposed(carry: bool) -> Callable[[Backward], Iterator[Edited]]:
    def edits(b: Backward) -> Iterator[Edited]:
        for target, i, flow in _flows(b, Adjoint):
            if _is_state(target) == carry:
                yield _with_flow(b, target, i, replace(flow, transposed=not flow.transposed))

    return edits


def _activation_above(b: Backward, source: Symbol) -> Through | None:
    """The flow d_a = f'(a) d_v above a product that is only added into the pre-activation a."""
    (flow,) = b.flows[source] if len(b.flows[source]) == 1 else (None,)
    if not isinstance(flow, Through) or flow.factor != 1:
        return None
    (above,) = b.flows[flow.source] if len(b.flows[flow.source]) == 1 else (None,)
    return above if isinstance(above, Through) and above.factor != 1 else None


def _before_activation(b: Backward) -> Iterator[Edited]:
    for target, i, flow in _flows(b, Adjoint):
        if above := _activation_above(b, flow.source):
            yield _with_flow(b, target, i, replace(flow, source=above.source))


def _commuted(b: Backward) -> Iterator[Edited]:
    for target, i, flow in _flows(b, Adjoint):
        above = _activation_above(b, flow.source)
        if above and _square(b, flow.matrix):
            yield _with_flow(b, target, i, replace(flow, source=above.source, scale=above.factor))


def _without_matrix(b: Backward) -> Iterator[Edited]:
    for target, i, flow in _flows(b, Adjoint):
        if _square(b, flow.matrix):
            yield _with_flow(b, target, i, Through(flow.source, Integer(1)))


_PRIMES = {"dtanh": "tanh", "dsigmoid": "sigmoid"}


def _in_factors(edit: Callable[[Expr], Expr]) -> Callable[[Backward], Iterator[Edited]]:
    """Replace each derivative f'(a) of a factor by ``edit`` of it."""

    def edits(b: Backward) -> Iterator[Edited]:
        for target, i, flow in _flows(b, Through):
            for prime in sorted((p for p in flow.factor.atoms(Function) if _name(p) in _PRIMES), key=str):
                factor = flow.factor.xreplace({prime: edit(prime)})
                if factor != flow.factor:
                    yield _with_flow(b, target, i, Through(flow.source, factor))

    return edits


def _name(e: Expr) -> str:
    return type(e).__name__


def _value(prime: Expr) -> Expr:
    return FUNCTIONS[_PRIMES[_name(prime)]](prime.args[0])


def _closed_at(prime: Expr, y: Expr) -> Expr:
    return FUNCTIONS[_PRIMES[_name(prime)]].closed(y, y)


def _other_prime(prime: Expr) -> Expr:
    other = "sigmoid" if _name(prime) == "dtanh" else "tanh"
    return FUNCTIONS[other].prime(prime.args[0])


def _scaled(factor: int) -> Callable[[Backward], Iterator[Edited]]:
    def edits(b: Backward) -> Iterator[Edited]:
        for target, i, flow in _flows(b, Through):
            yield _with_flow(b, target, i, Through(flow.source, factor * flow.factor))

    return edits


def _other_time(b: Backward) -> Iterator[Edited]:
    states = set(b.program.cell.states)
    for target, i, flow in _flows(b, Through):
        for symbol in sorted(flow.factor.free_symbols, key=str):
            name, shift = time_of(symbol)
            if name in states and shift is not None:
                other = flow.factor.xreplace({symbol: at(name, -1 - shift)})
                yield _with_flow(b, target, i, Through(flow.source, other))


def _outers(b: Backward) -> Iterator[tuple[str, int, Outer]]:
    for name, pairs in b.matrices.items():
        for i, pair in enumerate(pairs):
            yield name, i, pair


def _with_outer(b: Backward, name: str, i: int, outer: Outer | None) -> Edited:
    pairs = [p for j, p in enumerate(b.matrices[name]) if j != i or outer is not None]
    if outer is not None:
        pairs[i] = outer
    return f"d {name}", b.replaced(matrices={name: tuple(pairs)})


def _off_by_one(b: Backward) -> Iterator[Edited]:
    for name, i, outer in _outers(b):
        of, shift = time_of(outer.operand)
        if of in b.program.cell.states and shift is not None:
            yield _with_outer(b, name, i, replace(outer, operand=at(of, -1 - shift)))


def _weight_transposed(b: Backward) -> Iterator[Edited]:
    for name, i, outer in _outers(b):
        yield _with_outer(b, name, i, replace(outer, transposed=not outer.transposed))


def _weight_missing(b: Backward) -> Iterator[Edited]:
    for name, i, _ in _outers(b):
        yield _with_outer(b, name, i, None)


def _weight_before_activation(b: Backward) -> Iterator[Edited]:
    for name, i, outer in _outers(b):
        if above := _activation_above(b, outer.source):
            yield _with_outer(b, name, i, replace(outer, source=above.source))


def _gates_swapped(b: Backward) -> Iterator[Edited]:
    listed = list(_outers(b))
    for k, (name, i, outer) in enumerate(listed):
        for _, _, other in listed[k + 1 :]:
            if other.operand == outer.operand and other.source != outer.source:
                yield _with_outer(b, name, i, replace(outer, source=other.source))
                break


MISTAKES: tuple[Mistake, ...] = (
    Mistake("carry-missing", "a state's gradient is not carried back in time at all", _carry_missing),
    Mistake("dh-partial", "one of the ways back to the previous state is left out", _dropped(_is_state)),
    Mistake(
        "path-missing",
        "one of the ways back to a node of the same step is left out",
        _dropped(lambda s: not _is_state(s) and not _is_parameter(s)),
    ),
    Mistake("bias-missing", "a vector or scalar parameter's gradient lacks a term", _dropped(_is_parameter)),
    Mistake(
        "carry-not-transposed", "W d where W.T d belongs, on the way to the previous state", _not_transposed(carry=True)
    ),
    Mistake("readout-not-transposed", "W d where W.T d belongs, within the step", _not_transposed(carry=False)),
    Mistake("carry-before-activation", "W.T dh where W.T (f'(a) dh) belongs", _before_activation),
    Mistake(
        "activation-commuted", "f'(a) (W.T dh) where W.T (f'(a) dh) belongs: a diagonal moved past a matrix", _commuted
    ),
    Mistake("carry-without-matrix", "d where W.T d belongs", _without_matrix),
    Mistake("activation-missing", "the derivative of the activation is left out", _in_factors(lambda p: Integer(1))),
    Mistake(
        "activation-at-preactivation",
        "1 - a^2 for 1 - tanh(a)^2, a(1 - a) for s(1 - s)",
        _in_factors(lambda p: _closed_at(p, p.args[0])),
    ),
    Mistake(
        "activation-twice", "the derivative taken at the activation's value", _in_factors(lambda p: p.func(_value(p)))
    ),
    Mistake("activation-squared", "the derivative of the activation applied twice", _in_factors(lambda p: p**2)),
    Mistake(
        "activation-wrong", "the derivative of tanh for that of sigmoid, or the reverse", _in_factors(_other_prime)
    ),
    Mistake("activation-value", "the activation's value for its derivative", _in_factors(_value)),
    Mistake("sign", "a term with the wrong sign", _scaled(-1)),
    Mistake("doubled", "a term counted twice", _scaled(2)),
    Mistake("state-at-wrong-time", "c[t] where c[t-1] belongs, or the reverse, in a factor", _other_time),
    Mistake("recurrent-off-by-one", "h[t] where h[t-1] belongs, or the reverse, in a weight's gradient", _off_by_one),
    Mistake("weight-transposed", "the transpose of a weight's gradient", _weight_transposed),
    Mistake("weight-missing", "a term of a weight's gradient is left out", _weight_missing),
    Mistake("weight-before-activation", "dW = dh x.T where (f'(a) dh) x.T belongs", _weight_before_activation),
    Mistake("gates-swapped", "one gate's d used in another gate's weight gradient", _gates_swapped),
)


def plant(backward: Backward) -> Iterator[Planted]:
    """Every known mistake at every place where it can be made."""
    for mistake in MISTAKES:
        for where, edited in mistake.edits(backward):
            yield Planted(mistake.name, where, edited)


@dataclass(frozen=True)
class LoopMistake:
    """A wrong time loop: what happens to the carry, in which order, and how the steps' contributions are combined."""

    name: str
    sentence: str
    carry: Callable[[int, list[Any]], list[Any]] = lambda t, entries: entries
    backwards: bool = True
    combine: Callable[[Sequence[Gradient]], Sequence[Gradient]] = lambda steps: steps


def _cut(period: int) -> Callable[[int, list[Any]], list[Any]]:
    """The carry that leaves step t for step t - 1, lost where a chunk of ``period`` steps begins."""
    return lambda t, entries: [0 * e for e in entries] if (t - 1) % period == 0 and t > 1 else entries


def _without(step: int) -> Callable[[Sequence[Gradient]], Sequence[Gradient]]:
    """Parameters do not get the term of one step; inputs and initial states keep theirs."""

    def combine(steps: Sequence[Gradient]) -> Sequence[Gradient]:
        kept = list(steps)
        own = {key for i, step_ in enumerate(steps) for key in step_ if i == step % len(steps)}
        shared = {key for key in own if any(key in other for i, other in enumerate(steps) if i != step % len(steps))}
        kept[step % len(steps)] = {key: value for key, value in kept[step % len(steps)].items() if key not in shared}
        return kept

    return combine


LOOP_MISTAKES: tuple[LoopMistake, ...] = (
    LoopMistake("detached-every-1", "nothing is carried from step to step", carry=_cut(1)),
    LoopMistake("detached-every-2", "the carry is lost at the borders of chunks of two steps", carry=_cut(2)),
    LoopMistake("detached-every-4", "the carry is lost at the borders of chunks of four steps", carry=_cut(4)),
    LoopMistake("time-forward", "the backward loop runs forward in time", backwards=False),
    LoopMistake("first-step-lost", "the term of t = 1 is dropped", combine=_without(0)),
    LoopMistake("last-step-lost", "the term of t = T is dropped", combine=_without(-1)),
    LoopMistake("carry-doubled", "what is carried counts twice", carry=lambda t, entries: [2 * e for e in entries]),
)
