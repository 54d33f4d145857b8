"""How time and memory grow with T, B and H, beside the derivation's own polynomials.

Time is fitted by least squares of relative errors to  a flops + b entrywise operations + c T + d,  the peak of a first
call to  a stored numbers + b T B (D + O) + c parameters,  with the polynomials of :mod:`derive.cost`; coefficients
below zero are left out.  Slopes are those of a straight line through log(time) against log(size): the measured one,
that of the fit, that of the polynomial alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sympy import Expr, Integer

import derive
from derive.cost import count_cost, evaluated, size_symbol

from . import ours
from .cases import Problem
from .memory import compile_loops, sizes, traced
from .problem_data import draw
from .timing import Effort, measure

__all__ = ["Fit", "describe_growth"]

BASE: dict[str, Any] = {"T": 100, "B": 32, "D": 64, "H": 128, "O": 32}
AXES = {"T": (25, 50, 100, 200, 400), "B": (4, 8, 16, 32, 64, 128), "H": (16, 32, 64, 128, 256, 384)}


@dataclass(frozen=True)
class Fit:
    """Coefficients of named terms, by least squares of the relative error."""

    terms: Mapping[str, Expr]
    coefficients: Mapping[str, float]

    def __call__(self, p: Problem) -> float:
        """The fit at a problem's sizes."""
        return sum(c * evaluated(self.terms[name], sizes(p)) for name, c in self.coefficients.items())


def fit(terms: Mapping[str, Expr], problems: Sequence[Problem], values: Sequence[float]) -> Fit:
    """The best coefficients, none below zero."""
    kept = list(terms)
    while True:
        rows = [[evaluated(terms[name], sizes(p)) / v for name in kept] for p, v in zip(problems, values, strict=True)]
        matrix = np.array(rows, float)
        scale = np.abs(matrix).max(axis=0)
        found = np.linalg.lstsq(matrix / scale, np.ones(len(rows)), rcond=None)[0] / scale
        if (found >= 0).all():
            return Fit(terms, dict(zip(kept, found.tolist(), strict=True)))
        kept.remove(kept[int(np.argmin(found * scale))])


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The exponent of the power of x that y follows best."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _terms(cell: Any) -> tuple[dict[str, Expr], dict[str, Expr]]:
    """The terms of time and of memory."""
    cost = count_cost(derive.differentiate(cell).backward)
    T, B, D, O = (size_symbol(letter) for letter in "TBDO")  # noqa: E741 - the outputs' letter
    parameters = sum((_product(shape) for shape in cell.parameters.values()), Integer(0))
    time = {
        "flops": 2 * (cost.forward + cost.backward),
        "entrywise": cost.forward_entrywise + cost.backward_entrywise,
        "steps": T,
        "calls": Integer(1),
    }
    return time, {"stored": cost.stored, "inputs and outputs": T * B * (D + O), "parameters": parameters}


def _product(shape: Sequence[str]) -> Expr:
    out: Expr = Integer(1)
    for letter in shape:
        out *= size_symbol(letter)
    return out


def _problems(cell: str, dtype: str) -> dict[str, list[Problem]]:
    """The problems along each axis."""
    base = Problem(cell, dtype, **BASE)
    return {axis: [replace(base, **dict[str, Any]({axis: n})) for n in points] for axis, points in AXES.items()}


def describe_growth(cell_name: str, dtype: str, effort: Effort) -> Iterator[str]:
    """The report on one cell, line by line."""
    cell, axes = derive.load(cell_name), _problems(cell_name, dtype)
    of_time, of_memory = _terms(cell)
    problems = list(dict.fromkeys(p for points in axes.values() for p in points))
    compile_loops(problems[0])
    made = {p: ours.contender(draw(p), "auto") for p in problems}
    peaks = {p: float(traced(made[p].run).peak) for p in problems}
    measured = measure({str(p): c.run for p, c in made.items()}, effort)
    times = {p: measured[str(p)].median for p in problems}
    yield f"{cell_name}, {dtype}, around " + " ".join(f"{k}{v}" for k, v in BASE.items())
    for title, unit, terms, values in (("time", "ms", of_time, times), ("memory", "bytes", of_memory, peaks)):
        yield from _part(title, unit, terms, axes, values)


def _part(
    title: str, unit: str, terms: Mapping[str, Expr], axes: Mapping[str, list[Problem]], values: Mapping[Problem, float]
) -> Iterator[str]:
    """The polynomials, their fitted coefficients, and each axis."""
    fitted = fit(terms, list(values), list(values.values()))
    yield f"  {title}: polynomials of the derivation, and what each unit takes"
    for name, term in terms.items():
        c = fitted.coefficients.get(name)
        yield f"    {_coefficient(c, unit):>18} x {name:20} {term}"
    residuals = [fitted(p) / v - 1 for p, v in values.items()]
    worst = max(residuals, key=abs)
    yield f"    residual: {float(np.sqrt(np.mean(np.square(residuals)))):.1%} (root mean square), at most {worst:+.1%}"
    leading = next(iter(terms.values()))
    for axis, points in axes.items():
        at = [float(getattr(p, axis)) for p in points]
        found = [values[p] for p in points]
        exponents = [slope(at, y) for y in (found, [fitted(p) for p in points])]
        exponents.append(slope(at, [float(evaluated(leading, sizes(p))) for p in points]))
        shown = "  ".join(f"{axis}{int(n)}: {_number(v, unit)}" for n, v in zip(at, found, strict=True))
        yield (
            f"    {axis}: measured slope {exponents[0]:.2f}, of the fit {exponents[1]:.2f}, of {next(iter(terms))} "
            + (f"alone {exponents[2]:.2f}   {shown}")
        )


def _coefficient(c: float | None, unit: str) -> str:
    """What one unit of a term takes: nanoseconds or bytes."""
    if c is None:
        return "-"
    return f"{c:.3g} bytes" if unit == "bytes" else f"{1e6 * c:.3g} ns"


def _number(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f} MB" if unit == "bytes" else f"{value:.2f} ms"
