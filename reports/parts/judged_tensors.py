"""Tensors of a verdict as a reader meets them: their names, their verdicts, their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from numeric.noise import LIMIT
from numeric.oracle.criterion import AGREES, DISAGREES, ERROR, SUSPECT, UNDECIDABLE, worst
from numeric.oracle.distances import Distance
from numeric.oracle.verdict import Verdict
from reports.document import Code, Local, Mark, Math, Parts, Quantity
from reports.judged_figure import tensor_latex
from reports.parts.foreign import foreign

__all__ = [
    "KINDS",
    "both_values",
    "by_tensor",
    "entry_parts",
    "kind_of",
    "mark_of",
    "noise_units",
    "place_parts",
    "steady",
    "tensor_parts",
    "value",
    "worst_of",
]

#: Kinds of tensors in the order in which they are told, with their words.
KINDS: Mapping[str, str] = {
    "parameters": "gradients of parameters",
    "inputs": "gradients of inputs and initial states",
    "outputs": "outputs and states",
    "loss": "value of the loss",
    "trace": "lines of the trace",
}

#: Errors far beyond rounding are the same everywhere, and their units are within this: two digits are shown.
NOISE_SPREAD = 1.06

_MARKS = {
    AGREES: Mark("holds", "right"),
    DISAGREES: Mark("fails", "wrong"),
    SUSPECT: Mark("open", "suspect"),
    UNDECIDABLE: Mark("open", "cannot be judged"),
    ERROR: Mark("fails", "error"),
}


def mark_of(status: str) -> Mark:
    """A status of the oracle as a mark."""
    return _MARKS[status]


def kind_of(tensor: str, parameters: Mapping[str, object]) -> str:
    """One of :data:`KINDS`."""
    if tensor == "loss":
        return "loss"
    prefix, dot, _ = tensor.partition(".")
    return prefix if dot else "parameters" if tensor in parameters else "inputs"


def by_tensor(verdict: Verdict, parameters: Mapping[str, object]) -> dict[str, list[Distance]]:
    """What was measured, tensor by tensor, in the order of the kinds."""
    found: dict[str, list[Distance]] = {}
    for d in verdict.distances:
        found.setdefault(d.tensor, []).append(d)
    order = {name: k for k, name in enumerate((*parameters, *(n for n in found if n not in parameters)))}
    kinds = list(KINDS)
    return {n: found[n] for n in sorted(found, key=lambda n: (kinds.index(kind_of(n, parameters)), order[n]))}


def worst_of(found: Sequence[Distance]) -> Distance:
    """The case in which a tensor is worst."""
    status = worst(d.status for d in found)
    return max((d for d in found if d.status == status), key=lambda d: steady(d.units))


def tensor_parts(tensor: str) -> Parts:
    """A tensor in a table."""
    return (Math(tensor_latex(tensor)), *((" traced",) if tensor.startswith("trace.") else ()))


def steady(units: float) -> float:
    """An error to order others by: to six digits, so that rounding does not decide between two that are the same."""
    return float(f"{units:.6g}")


def place_parts(d: Distance) -> tuple[Parts, Parts]:
    """The entry and the case of an error.  Where rounding is largest, is another place on another machine."""
    entry, case = entry_parts(d.index), foreign(d.case, 40)
    if d.units > LIMIT:
        return entry, (Code(case),)
    return tuple(Local(p.text) if isinstance(p, Code) else p for p in entry), (Local(case),)


def both_values(d: Distance) -> tuple[Parts, Parts]:
    """What was found at the worst entry and what is exact; where that is rounding, of another entry elsewhere."""
    noise = d.noise if d.units > LIMIT else math.inf
    return (value(d.found, noise),), (value(d.exact, noise),)


def entry_parts(index: Sequence[int]) -> Parts:
    """An index as Python writes it; a dash for a number that has none."""
    return (Code(f"[{', '.join(map(str, index))}]"),) if index else ("–",)


def noise_units(units: float) -> Quantity:
    """An error in units of noise: what is rounding, may be any rounding elsewhere."""
    if units <= LIMIT:
        return Quantity(units, math.inf, ".2f", LIMIT)
    return Quantity(units, NOISE_SPREAD if units > 1000 * LIMIT else math.inf)


def value(x: float, noise: float) -> Quantity:
    """A number of a tensor; one that is all noise may be another one elsewhere."""
    known = math.isfinite(x) and abs(x) * 1e-7 > 64 * noise and x != 0
    return Quantity(x, 1 + 1e-6 if known else math.inf, ".8g")
