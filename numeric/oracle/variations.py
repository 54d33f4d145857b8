"""Another problem than the one that was asked for, solved rightly: outputs, loss and gradient all belong to it.

A variation makes another case of a case, and says where in its gradient each parameter's is to be found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import permutations

import numpy as np

from derive.cell import Cell
from derive.errors import CellError
from derive.mistakes.order import gate_groups
from derive.parse import parse
from numeric.arguments import Array
from numeric.oracle.candidates import Candidate
from numeric.oracle.case import Case
from numeric.oracle.evidence import Evidence
from numeric.oracle.frameworks import in_words
from numeric.oracle.mutants import Run
from numeric.tangent import program_of

__all__ = ["variations"]


@dataclass(frozen=True, eq=False)
class Variation:
    """``change`` gives the other case, None where there is none.

    ``names`` says where each gradient stands there, with .T for a transpose.
    """

    name: str
    sentence: str
    change: Callable[[Case], Case | None]
    names: Mapping[str, str] | None = None
    convention: str = ""

    def predict(self, e: Evidence) -> dict[str, Array] | None:
        """Everything that is computed for the other problem."""
        try:
            other = self.change(e.case)
            if other is None or other.digest == e.case.digest:
                return None
            return self.moved(computed(other, frozenset(e.found)))
        except (ValueError, CellError):
            return {}

    def moved(self, found: dict[str, Array]) -> dict[str, Array]:
        """The gradients under the names that they are returned under."""
        names = self.names or {}
        return found | {n: found[m.removesuffix(".T")].T if m.endswith(".T") else found[m] for n, m in names.items()}


def computed(case: Case, wanted: frozenset[str]) -> dict[str, Array]:
    """The right gradients, outputs and loss of a case."""
    run = Run(case)
    with np.errstate(all="ignore"):
        out = dict(run.right)
        out["loss"] = np.asarray(run.interpreter.local[0], np.float64)
        if any(n.startswith("outputs.") for n in wanted):
            out |= {f"outputs.{n}": np.asarray(y) for n, y in run.interpreter.outputs.items()}
    return out


def variations(cell: Cell) -> list[Candidate]:
    """Every other problem that is tried for a cell."""
    return [Candidate(v.name, v.sentence, v.predict, convention=v.convention) for v in _variations(cell)]


def _variations(cell: Cell) -> Iterator[Variation]:
    yield from _of_the_data()
    yield from _of_parameters(cell)
    yield from _of_gates(cell)
    yield from _of_the_text(cell)


# ------------------------------------------------------------------------------------------------------------- the data


def _of_the_data() -> Iterator[Variation]:
    yield Variation("initial-state-ignored", "the initial states are taken as zero", _without_initial)
    yield Variation(
        "padding-counted", "lengths are ignored: padding is read and counted like any step", _without_lengths
    )
    yield Variation("truncation-ignored", "the gradient is not truncated", lambda c: replace(c, truncate=None))
    yield Variation(
        "truncation-differs", "k1 and k2 of the truncation are exchanged",
        lambda c: replace(c, truncate=c.truncate and c.truncate[::-1]),
    )  # fmt: skip
    yield Variation("reduction", "a sum where a mean is asked for", lambda c: replace(c, reduction="sum"))
    yield Variation("reduction", "a mean where a sum is asked for", lambda c: replace(c, reduction="mean"))
    yield Variation("time-reversed", "the sequences are read from their end", _reversed)


def _without_initial(case: Case) -> Case:
    return replace(case, initial={n: np.zeros_like(s) for n, s in case.initial.items()})


def _without_lengths(case: Case) -> Case | None:
    return replace(case, lengths=None) if case.lengths is not None else None


def _reversed(case: Case) -> Case | None:
    return replace(case, inputs={n: x[::-1] for n, x in case.inputs.items()}) if case.lengths is None else None


# ------------------------------------------------------------------------------------------------------- the parameters


def _of_parameters(cell: Cell) -> Iterator[Variation]:
    square = [n for n, shape in cell.parameters.items() if len(shape) == 2 and shape[0] == shape[1]]
    for chosen in [*([n] for n in square), *([square] if len(square) > 1 else [])]:
        words = f"{' and '.join(chosen)} {'acts' if len(chosen) == 1 else 'act'} as the transpose, forward and backward"
        yield Variation("matrix-transposed", words, _turned(chosen), {n: f"{n}.T" for n in chosen})
    for name, shape in cell.parameters.items():
        yield Variation("parameter-ignored", f"{name} is taken as zero", _changed(name, 0.0, 0.0))
        if len(shape) == 1:
            yield Variation("bias-added", f"1 is added to {name}, such as a forget bias", _changed(name, 1.0, 1.0))


def _turned(names: list[str]) -> Callable[[Case], Case | None]:
    def change(case: Case) -> Case | None:
        if any(case.params[n].shape[0] != case.params[n].shape[1] for n in names):
            raise ValueError("shapes do not conform")
        return replace(case, params={n: p.T.copy() if n in names else p for n, p in case.params.items()})

    return change


def _changed(name: str, factor: float, plus: float) -> Callable[[Case], Case | None]:
    return lambda case: replace(
        case, params={n: (p * factor + plus).astype(p.dtype) if n == name else p for n, p in case.params.items()}
    )


# ------------------------------------------------------------------------------------------------------------ the gates


def _of_gates(cell: Cell) -> Iterator[Variation]:
    """Whole gates' parameters in another order, and their gradients in the same."""
    groups = gate_groups(cell, program_of(cell))
    if len(groups) > 5:
        return
    for order in permutations(range(len(groups))):
        if order != tuple(range(len(groups))):
            given = {a: b for k, j in enumerate(order) for a, b in zip(groups[k], groups[j], strict=True)}
            back = {b: a for a, b in given.items()}
            sentence = f"the parameters of the gates are taken in another order: {in_words(cell, order)}"
            yield Variation("gates-permuted", sentence, _reordered(given), back, f"right, but {sentence}")


def _reordered(given: Mapping[str, str]) -> Callable[[Case], Case | None]:
    return lambda case: replace(case, params={n: case.params[given.get(n, n)] for n in case.params})


# ------------------------------------------------------------------------------------------------------------- the text


def _of_the_text(cell: Cell) -> Iterator[Variation]:
    for name, sentence, text in _texts(cell.text):
        if text != cell.text and _parses(text, cell):
            yield Variation(name, sentence, lambda case, text=text: replace(case, text=text))  # type: ignore[misc]


def _texts(text: str) -> Iterator[tuple[str, str, str]]:
    before = re.sub(r"(\w+\[t\]) ?\* ?\((\w+) @ (\w+\[t-1\])( \+ \w+)?\)", r"\2 @ (\1*\3)\4", text)
    yield "reset-variant", "the gate is applied before the product, not after it, forward and backward", before
    after = re.sub(r"(\w+) @ \((\w+\[t\]) ?\* ?(\w+\[t-1\])\)", r"\2*(\1 @ \3)", text)
    yield "reset-variant", "the gate is applied after the product, not before it, forward and backward", after
    for a, b in (("tanh", "sigmoid"), ("sigmoid", "tanh"), ("tanh", "relu"), ("relu", "tanh")):
        words = f"{b} is computed where the cell has {a}"
        yield "activation-differs", words, re.sub(rf"\b{a}\(", f"{b}(", text)
    mixed = re.sub(r"\(1 - (\w+\[t\])\)\*(\w+\[t\]) \+ \1\*(\w+\[t-1\])", r"\1*\2 + (1 - \1)*\3", text)
    yield "mixture-turned", "the two halves of a mixture are exchanged, z for 1 - z, forward and backward", mixed


@lru_cache(maxsize=64)
def _parses(text: str, cell: Cell) -> bool:
    """Whether another text is a cell with the same parameters, of the same shapes."""
    try:
        return dict(parse(text, cell.name).parameters) == dict(cell.parameters)
    except CellError:
        return False
