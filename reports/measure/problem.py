"""Parameters, inputs and initial states at which a cell is finite, of sizes that are small and all different.

A transposed matrix cannot fit by accident.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derive.cell import Cell
from derive.derivation import Derivation
from derive.present import Presented

__all__ = [
    "BATCH",
    "STEPS",
    "Array",
    "Drawn",
    "draw_problem",
    "loss_names",
    "recurrent_matrices",
    "sizes_of",
    "square_matrices",
]

STEPS, BATCH = 6, 3
LETTERS = {"H": 8, "D": 4, "O": 2, "K": 5}

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Parameters, inputs and initial states at which the cell is finite."""

    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    steps: int
    batch: int

    @property
    def extent(self) -> dict[str, Any]:
        """T and B, for a cell that has no inputs to say them."""
        return {} if self.inputs else {"steps": self.steps, "batch": self.batch}


def sizes_of(letters: tuple[str, ...]) -> dict[str, int]:
    """A different small size for every letter.

    >>> sizes_of(("H", "D", "H_c"))
    {'H': 8, 'D': 4, 'H_c': 7}
    """
    free = (n for n in range(7, 7 + len(LETTERS) + len(letters)) if n not in LETTERS.values())
    return {letter: LETTERS.get(letter) or next(free) for letter in letters}


def draw_problem(
    engine: Any, sizes: Mapping[str, int], steps: int, batch: int, seed: int, *, spread: float
) -> Drawn | None:
    """Numbers of both signs or, where the cell is not finite there (a logarithm, a root), positive or larger ones."""
    cell = engine.cell
    random = np.random.default_rng([seed, 0])
    inputs = {n: spread * random.standard_normal((steps, batch, sizes[cell.axes[n]])) for n in cell.inputs}
    initial = {n: spread * random.standard_normal((batch, sizes[cell.axes[n]])) for n in cell.states}
    params = engine.init(seed=seed, **sizes)
    for found in (
        Drawn(params, inputs, initial, steps, batch),
        Drawn(_above(params, 0.1), _above(inputs, 0.1), _above(initial, 0.1), steps, batch),
        Drawn(_above(params, 0.1), _above(inputs, 1.1), _above(initial, 1.1), steps, batch),
    ):
        outputs = engine.forward(found.params, found.inputs, found.initial, **found.extent)
        if all(np.isfinite(value).all() for value in outputs.values()):
            return found
    return None


def _above(arrays: Mapping[str, Array], least: float) -> dict[str, Array]:
    return {name: np.abs(value) + least for name, value in arrays.items()}


def loss_names(cell: Cell) -> tuple[str, ...]:
    """What the loss of a measurement reads: all outputs or, where there are none, the first state."""
    return cell.outputs or cell.states[:1]


def recurrent_matrices(derivation: Derivation) -> tuple[str, ...]:
    """Matrices that act on a previous state."""
    shown = Presented(derivation.backward)
    return tuple(
        name
        for name, pairs in derivation.backward.matrices.items()
        if any(str(s).endswith("[t-1]") for pair in pairs for s in shown.readable(pair.operand).free_symbols)
    )


def square_matrices(derivation: Derivation) -> tuple[str, ...]:
    """Those of them that are square, and so have a spectral radius."""
    shapes = derivation.cell.parameters
    return tuple(name for name in recurrent_matrices(derivation) if len(set(shapes[name])) == 1)
