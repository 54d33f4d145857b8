"""What a pass is made of: entrywise kernels and matrix products, and the order in which they can be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from sympy import Expr, Symbol

from derive.program import Product

__all__ = [
    "Gather",
    "Job",
    "Kernel",
    "Multiply",
    "Operation",
    "carried_of",
    "d_of",
    "local_of",
    "reads_of",
    "results_of",
    "schedule",
    "symbols_of",
]


@dataclass(frozen=True)
class Kernel:
    """Entrywise work: assignments in order, from ``inputs``; ``outputs``, of sizes ``axes``, are those wanted."""

    inputs: tuple[Symbol, ...]
    steps: tuple[tuple[Symbol, Expr], ...]
    outputs: tuple[Symbol, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Multiply:
    """All products with one operand: (result, matrix, transposed), computed as one."""

    operand: Symbol
    parts: tuple[tuple[Symbol, str, bool], ...]


@dataclass(frozen=True)
class Gather:
    """``result`` = sum of M d over (d, matrix, transposed), computed as one product."""

    result: Symbol
    parts: tuple[tuple[Symbol, str, bool], ...]


Operation = Kernel | Multiply | Gather


def reads_of(operation: Operation) -> tuple[Symbol, ...]:
    """What an operation reads, parameters included."""
    if isinstance(operation, Kernel):
        return operation.inputs
    return (operation.operand,) if isinstance(operation, Multiply) else tuple(d for d, _, _ in operation.parts)


def results_of(operation: Operation) -> tuple[Symbol, ...]:
    """What an operation makes."""
    if isinstance(operation, Kernel):
        return operation.outputs
    return (operation.result,) if isinstance(operation, Gather) else tuple(s for s, _, _ in operation.parts)


@cache
def d_of(symbol: Symbol) -> Symbol:
    """The symbol of the loss's derivative by a symbol."""
    return Symbol(f"d {symbol.name}", real=True)


@cache
def local_of(symbol: Symbol) -> Symbol:
    """What an output or a state receives from the loss at its own step."""
    return Symbol(f"local {symbol.name}", real=True)


@cache
def carried_of(symbol: Symbol) -> Symbol:
    """What a state receives from the next step."""
    return Symbol(f"carried {symbol.name}", real=True)


@dataclass
class Job:
    """Something to be scheduled: an assignment, or a product."""

    result: Symbol
    axis: str
    needs: tuple[Symbol, ...]
    expression: Expr | None = None
    gather: Gather | None = None
    product: Product | None = None


def schedule(jobs: Sequence[Job], wanted: Callable[[Symbol], bool]) -> tuple[Operation, ...]:
    """Alternate kernels and products: each kernel takes all entrywise work that is ready, each product its group."""
    done: set[Symbol] = set()
    pending = list(jobs)
    made = {job.result for job in jobs}
    operations: list[Operation] = []
    while pending:
        steps: list[Job] = []
        progress = True
        while progress:
            ready = [
                j for j in pending if j.expression is not None and all(n in done or n not in made for n in j.needs)
            ]
            progress = bool(ready)
            for job in ready:
                pending.remove(job)
                done.add(job.result)
            steps += ready
        if steps:
            operations.append(_kernel(steps, pending, wanted))
        groups: dict[Symbol, list[Job]] = {}
        for job in pending:
            if job.expression is None and all(n in done or n not in made for n in job.needs):
                groups.setdefault(job.product.operand if job.product else job.result, []).append(job)
        for operand, group in groups.items():
            operations.append(_product(operand, group))
            for job in group:
                pending.remove(job)
                done.add(job.result)
    return tuple(operations)


def _product(operand: Symbol, group: list[Job]) -> Operation:
    if group[0].gather is not None:
        return group[0].gather
    products = [job.product for job in group if job.product is not None]
    return Multiply(operand, tuple((p.symbol, p.matrix, p.transposed) for p in products))


def _kernel(steps: list[Job], later: list[Job], wanted: Callable[[Symbol], bool]) -> Kernel:
    own = {job.result for job in steps}
    inputs = dict.fromkeys(n for job in steps for n in job.needs if n not in own)
    read_later = {n for job in later for n in job.needs}
    outputs = [job for job in steps if wanted(job.result) or job.result in read_later]
    assignments = tuple((job.result, job.expression) for job in steps if job.expression is not None)
    return Kernel(tuple(inputs), assignments, tuple(j.result for j in outputs), tuple(j.axis for j in outputs))


@lru_cache(maxsize=4096)
def symbols_of(e: Expr) -> tuple[Symbol, ...]:
    """The symbols of an expression, in a fixed order."""
    return tuple(sorted(e.free_symbols, key=str))
