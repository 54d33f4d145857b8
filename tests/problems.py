"""Random problems: a cell with sizes, parameters, inputs, initial states and a loss; and Hypothesis strategies for
them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

import derive
import numeric


@dataclass
class Scene:
    """Everything that a backward pass of ``cell`` takes."""

    cell: derive.Cell
    params: dict[str, Any]
    inputs: dict[str, Any]
    initial: dict[str, Any]
    targets: Any
    options: dict[str, Any]

    def backward(self, engine):
        return engine.backward(self.params, self.inputs, self.targets, initial=self.initial, **self.options)

    def check(self, engine, **more):
        return numeric.check_gradients(
            engine, self.params, self.inputs, self.targets, initial=self.initial, **self.options, **more
        )


@lru_cache(maxsize=256)
def engine_of(cell, dtype="float64"):
    """The engine of a cell, the same one for every test that asks, so that a pass is compiled once."""
    return numeric.Engine(cell, dtype)


def sizes_of(cell, rng, most=4):
    return {letter: int(rng.integers(1, most + 1)) for letter in cell.dimensions}


def make_scene(cell, seed, *, steps, batch, sizes, loss="linear", at="every", reduction="sum", ragged=False, scale=1.0):
    """A seeded scene; ``scale`` multiplies the parameters."""
    rng = np.random.default_rng(seed)
    params = {k: scale * v for k, v in engine_of(cell).init(seed=seed, **sizes).items()}
    inputs = {n: rng.normal(size=(steps, batch, sizes[cell.axes[n]])) for n in cell.inputs}
    initial = {n: 0.5 * rng.normal(size=(batch, sizes[cell.axes[n]])) for n in cell.states}
    lead = (batch,) if at == "last" else (steps, batch)
    options: dict[str, Any] = {"loss": loss, "at": at, "reduction": reduction}
    if not cell.inputs:
        options |= {"steps": steps, "batch": batch}
    if ragged:
        options["lengths"] = rng.integers(1, steps + 1, size=batch)
    roots = (*cell.outputs, *cell.states)
    on = (cell.outputs or cell.states)[0]
    targets = None
    if loss == "linear":
        options["cotangents"] = {n: rng.normal(size=(*lead, sizes[cell.axes[n]])) for n in roots}
    else:
        options["on"] = on
        size = sizes[cell.axes[on]]
        targets = (
            rng.integers(0, size, size=lead) if loss == "softmax_cross_entropy" else rng.normal(size=(*lead, size))
        )
    return Scene(cell, params, inputs, initial, targets, options)


@st.composite
def scenes(draw, cells=None, most=4, most_steps=6):
    """A scene of a shipped cell (or of ``cells``), small sizes, any loss."""
    cell = derive.load(draw(cells or st.sampled_from(derive.cells())))
    sizes = {letter: draw(st.integers(1, most), label=letter) for letter in cell.dimensions}
    return make_scene(
        cell,
        draw(st.integers(0, 2**16), label="seed"),
        steps=draw(st.integers(1, most_steps), label="T"),
        batch=draw(st.integers(1, 3), label="B"),
        sizes=sizes,
        loss=draw(st.sampled_from(("softmax_cross_entropy", "squared_error", "linear"))),
        at=draw(st.sampled_from(("every", "last"))),
        reduction=draw(st.sampled_from(("sum", "mean"))),
        ragged=draw(st.booleans()),
        scale=draw(st.sampled_from((0.5, 1.0, 2.0))),
    )
