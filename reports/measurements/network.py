"""A network to be measured: a cell at small sizes, its recurrent matrices scaled as a claim says, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import derive
import numeric
from derive.cell import Cell
from derive.claims import ClaimError
from derive.errors import nearest
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Code, Parts
from reports.measure import recurrent_matrices, sizes_of

__all__ = ["Network", "Recipe", "engine_of", "extent", "matrices_of", "read_recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is drawn: ``size`` entries in each state, inputs with standard deviation ``inputs``.

    ``radius`` is the spectral radius of every square recurrent matrix (0: as they are drawn), ``orthogonal`` says that
    they are that times a random orthogonal matrix; ``by`` is added to every entry of the parameter ``raised``.
    ``width`` is the size of everything that is no state (0: small ones, all different).
    """

    cell: Cell
    size: int
    inputs: float
    radius: float = 0.0
    orthogonal: bool = False
    raised: str = ""
    by: float = 0.0
    width: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Every letter of the cell's dimensions."""
        states = {self.cell.axes[name] for name in self.cell.states}
        others = sizes_of(tuple(self.cell.dimensions))
        return {x: self.size if x in states else self.width or n for x, n in others.items()}

    @property
    def told(self) -> Parts:
        """The recipe in words."""
        own: Parts = (Code(self.cell.name), f" with {self.size} entries a state")
        if self.radius:
            times = "" if self.radius == 1 else f"{self.radius:g} times "
            scaled = f"recurrent matrices of spectral radius {self.radius:g}"
            own += (f", {times}orthogonal recurrent matrices" if self.orthogonal else f", {scaled}",)
        return (*own, ", ", Code(self.raised), f" raised by {self.by:g}") if self.raised else own

    def draw(self, seed: int, steps: int, batch: int = 1) -> Network:
        """Parameters, inputs and initial states of a seed."""
        engine, sizes, cell = engine_of(self.cell), self.sizes, self.cell
        params: dict[str, Any] = engine.init(seed=seed, **sizes)
        if self.radius:
            scaled = numeric.with_orthogonal if self.orthogonal else numeric.with_spectral_radius
            options = {"seed": seed} if self.orthogonal else {}
            params = scaled(params, matrices_of(cell), self.radius, **options)
        if self.raised:
            params[self.raised] = params[self.raised] + self.by
        random = np.random.default_rng([seed, 1])
        inputs = {n: self.inputs * random.standard_normal((steps, batch, sizes[cell.axes[n]])) for n in cell.inputs}
        initial = {n: self.inputs * random.standard_normal((batch, sizes[cell.axes[n]])) for n in cell.states}
        return Network(engine, params, inputs, initial, sizes, steps, batch)


@dataclass(frozen=True, eq=False)
class Network:
    """What :meth:`Recipe.draw` gives; initial states are drawn as inputs are."""

    engine: numeric.Engine
    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    sizes: Mapping[str, int]
    steps: int
    batch: int

    @property
    def given(self) -> dict[str, Any]:
        """The arguments of a pass beside parameters and inputs."""
        return {"initial": self.initial, **extent(self.engine, self.steps, self.batch)}

    def functional(self, seed: int, names: tuple[str, ...] = ()) -> dict[str, Array]:
        """A random linear functional of every output and state at every step (of ``names``, if there are any)."""
        random, cell = np.random.default_rng([seed, 2]), self.engine.cell
        shape = self.steps, self.batch
        wanted = names or (*cell.outputs, *cell.states)
        return {n: random.standard_normal((*shape, self.sizes[cell.axes[n]])) for n in wanted}


def extent(engine: numeric.Engine, steps: int, batch: int) -> dict[str, int]:
    """T and B, which a cell without inputs has to be told."""
    return {} if engine.cell.inputs else {"steps": steps, "batch": batch}


@lru_cache(maxsize=16)
def engine_of(cell: Cell) -> numeric.Engine:
    """An engine that takes the same way on every machine."""
    return numeric.Engine(cell, fast=False, threads=1)


@lru_cache(maxsize=16)
def matrices_of(cell: Cell) -> tuple[str, ...]:
    """Square matrices that act on a previous state."""
    names = recurrent_matrices(derive.differentiate(cell))
    return tuple(name for name in names if len(set(cell.parameters[name])) == 1)


def read_recipe(given: Arguments, *, size: int = 16, inputs: float = 0.3, prefix: str = "") -> Recipe:
    """The arguments ``cell``, ``size``, ``inputs``, ``radius``, ``orthogonal``, ``raised`` and ``by``.

    ``prefix`` stands before each name where a claim speaks of two networks.  Raises :class:`ClaimError` for a radius
    where there is no square recurrent matrix, and for a parameter that is not there.
    """
    cell = given.cell(f"{prefix}cell")
    recipe = Recipe(
        cell,
        given.whole(f"{prefix}size", 1, 64, size),
        given.number(f"{prefix}inputs", 0, 10, inputs),
        given.number(f"{prefix}radius", 0, 100, 0.0),
        given.flag(f"{prefix}orthogonal"),
        given.text(f"{prefix}raised", ""),
        given.number(f"{prefix}by", -50, 50, 0.0),
    )
    if recipe.raised and recipe.raised not in cell.parameters:
        wanted, near = ", ".join(cell.parameters), nearest(recipe.raised[:80], cell.parameters)
        raise ClaimError("unknown parameter", field=f"{prefix}raised", found=recipe.raised, expected=wanted, near=near)
    if recipe.radius and not matrices_of(cell):
        raise ClaimError("no square matrix acts on a previous state", field=f"{prefix}radius", found=recipe.radius)
    if recipe.orthogonal and not recipe.radius:
        raise ClaimError("say the factor as well", field=f"{prefix}radius", expected="1.0 for an orthogonal matrix")
    return recipe
