"""What a gradient keeps: measured peaks of memory against T, in full, in chunks, and computed again from checkpoints.

The peak is that of everything that is allocated while a gradient is computed, inputs and targets apart; numbers are
beside what the derivation counts: the values that the backward pass reads, eight bytes each.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import derive
import numeric
from derive.cell import Cell
from derive.claims import ClaimError
from derive.cost import count_cost, evaluated
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Math, Parts
from reports.measurements.measurement import Measurement, Number, counted, measured
from reports.measurements.network import extent, read_recipe

__all__ = ["measure_memory", "measure_tape"]

BYTES, LONGER, SPREAD, MOST = 8, 8, 1.3, 2 * 10**8
SEGMENT = 25  # steps that are computed again at once


@dataclass(frozen=True)
class _Setting:
    """One gradient: its engine's ``keep`` and the chunks."""

    cell: Cell
    sizes: Mapping[str, int]
    batch: int
    keep: str | int = "all"
    truncate: int | None = None

    def peak(self, steps: int) -> tuple[int, dict[str, Array]]:
        """The most bytes at any time beyond those before, in a first call at this length; and the gradient."""
        engine = numeric.Engine(self.cell, keep=self.keep, fast=False, threads=1, segment=SEGMENT * self.batch)
        engine.value_and_grad(**replace(self, batch=self.batch + 1)._given(engine, 2))  # compiles, for other shapes
        given = self._given(engine, steps)
        collecting, tracing = gc.isenabled(), tracemalloc.is_tracing()
        gc.disable()
        if not tracing:
            tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            gradient = engine.value_and_grad(**given)[1]
            return tracemalloc.get_traced_memory()[1] - before, gradient
        finally:
            if not tracing:
                tracemalloc.stop()
            if collecting:
                gc.enable()

    def _given(self, engine: numeric.Engine, steps: int) -> dict[str, Any]:
        """The arguments of a gradient: a random linear loss of the first output, or state, at every step."""
        cell, random = self.cell, np.random.default_rng(0)
        on = (*cell.outputs, *cell.states)[0]

        def draw(name: str) -> Array:
            return random.standard_normal((steps, self.batch, self.sizes[cell.axes[name]]))

        inputs = {name: draw(name) for name in cell.inputs}
        loss = {"loss": "linear", "cotangents": {on: draw(on)}, "truncate": self.truncate}
        params = engine.init(seed=0, **self.sizes)
        return {"params": params, "inputs": inputs, **loss, **extent(engine, steps, self.batch)}


def measure_memory(given: Arguments) -> Measurement:
    """``steps`` and eight times as many, chunks of ``k``, ``batch``, and a recipe's cell and size."""
    recipe = read_recipe(given, size=32)
    steps, k, batch = given.whole("steps", 50, 1000, 100), given.whole("k", 1, 100, 20), given.whole("batch", 1, 64, 16)
    given.done()
    setting = _Setting(recipe.cell, recipe.sizes, batch)
    if (held := _stored(setting, LONGER * steps)) > MOST:
        raise ClaimError(
            "this would hold too much", field="steps", found=steps, expected=f"{MOST:,} bytes, not {held:,}"
        )
    full = [setting.peak(n) for n in (steps, LONGER * steps)]
    numbers = {
        **_whole(setting, [peak for peak, _ in full], steps),
        **_chunks(setting, steps, k),
        "stored_step": counted(_stored(setting, 1), "bytes of the numbers that are counted as stored for a step"),
        **_again(setting, LONGER * steps, full[1][1]),
    }
    told: Parts = (*recipe.told, f", {batch} sequences. Expected are the numbers that are counted as stored, eight")
    return Measurement(numbers, (*told, " bytes each."))


def _whole(setting: _Setting, peaks: list[int], steps: int) -> dict[str, Number]:
    """The full gradient, of ``steps`` and of more."""
    (short, long), more = peaks, LONGER * steps
    return {
        "whole": _peak(short, ("full gradient, ", _steps(steps)), _stored(setting, steps)),
        "whole_longer": _peak(long, ("full gradient, ", _steps(more)), _stored(setting, more)),
        "growth": _growth(long / short, "growth of the full gradient's peak", LONGER),
        "per_step": _step((long - short) / (more - steps), "a step of the sequence, full gradient", setting),
    }


def _chunks(setting: _Setting, steps: int, k: int) -> dict[str, Number]:
    """In chunks of k, of ``steps`` and of more; and what a step of a longer chunk takes."""
    more = LONGER * steps
    short, long = (replace(setting, truncate=k).peak(n)[0] for n in (steps, more))
    wide, wider = (replace(setting, truncate=k * m).peak(more)[0] for m in (2, 4))
    expected = _stored(setting, min(k, steps))
    return {
        "chunks": _peak(short, (f"chunks of {k} steps, ", _steps(steps)), expected),
        "chunks_longer": _peak(long, (f"chunks of {k} steps, ", _steps(more)), expected),
        "growth_chunks": _growth(long / short, "growth of the peak in chunks", 1),
        "per_step_chunks": _step((wider - wide) / (2 * k), "a step of the chunk, truncated", setting),
    }


def _again(setting: _Setting, steps: int, gradient: dict[str, Array]) -> dict[str, Number]:
    """In a sixth of the bytes, with the rest computed again, beside the full ``gradient``."""
    budget, repeated = _budget(setting, steps)
    kept, again = replace(setting, keep=budget).peak(steps)
    apart = sum(int((again[name] != x).sum()) for name, x in gradient.items())
    return {
        "kept": _peak(kept, ("full gradient, ", _steps(steps), ", few states kept and the rest computed again")),
        "repeated": measured(repeated, 1.01, ".2f", "forward passes that this computes again"),
        "apart": counted(apart, "numbers in which the gradient computed again differs from the full one"),
    }


def _growth(ratio: float, says: str, expected: float) -> Number:
    return measured(ratio, 1.25, ".1f", f"{says}, {LONGER} times as many steps", expected=expected, apart=1.0)


def _step(found: float, says: str, setting: _Setting) -> Number:
    expected = _stored(setting, 1)
    return measured(max(found, 0.0), 1.25, ",.0f", f"bytes for {says}", expected=expected, apart=1.0)


def _budget(setting: _Setting, steps: int) -> tuple[int, float]:
    """A sixth of the full tape's bytes, and how many forward passes more it costs to do with them."""

    def plan(keep: str | int) -> numeric.MemoryPlan:
        engine = numeric.Engine(setting.cell, keep=keep, fast=False, threads=1, segment=SEGMENT * setting.batch)
        return engine.memory_plan(T=steps, B=setting.batch, **setting.sizes)

    budget = plan("all").full_bytes // 6
    return budget, plan(budget).repeated / plan(budget).segments


def _steps(steps: int) -> Math:
    return Math(f"T = {steps}")


def _peak(found: int, says: Parts, expected: int | None = None) -> Number:
    return measured(found, SPREAD, ",.0f", "peak in bytes, ", *says, expected=expected, apart=1.0)


def _stored(setting: _Setting, steps: int) -> int:
    cost = count_cost(derive.differentiate(setting.cell).backward)
    return BYTES * evaluated(cost.stored, {"T": steps, "B": setting.batch, **setting.sizes})


def measure_tape(given: Arguments) -> Measurement:
    """What there is to hold for one gradient, counted: states, other values, inputs, parameters.

    ``steps``, ``batch``, ``inputs_size`` (every input's), ``size`` (every state's) and ``cell``.
    """
    cell = given.cell()
    steps, batch = given.whole("steps", 1, 10**6, 100), given.whole("batch", 1, 10**6, 1)
    size, width = given.whole("size", 1, 10**5, 20), given.whole("inputs_size", 1, 10**5, 10)
    given.done()
    states = {cell.axes[name] for name in cell.states}
    sizes = {x: size if x in states else width for x in cell.dimensions}
    cost = count_cost(derive.differentiate(cell).backward)
    at = {"T": steps, "B": batch, **sizes}
    kept, stored = evaluated(cost.states, at), evaluated(cost.stored, at)
    inputs = steps * batch * sum(sizes[cell.axes[name]] for name in cell.inputs)
    weights = sum(int(np.prod([sizes[x] for x in shape])) for shape in cell.parameters.values())
    numbers = {
        "states": counted(kept, "numbers in the hidden states of all steps"),
        "stored": counted(stored, "numbers of the forward pass that the backward pass reads, inputs apart"),
        "inputs": counted(inputs, "numbers in the inputs"),
        "parameters": counted(2 * weights, "parameters and their gradient"),
        "least": counted(
            kept + inputs + 2 * weights, "numbers that there have to be: states, inputs, parameters and their gradient"
        ),
        "total": counted(
            max(stored, kept) + inputs + 2 * weights, "numbers that are held where nothing is computed again"
        ),
    }
    told: Parts = (f"{cell.name} with ", Math(f"T = {steps}"), ", ", Math(f"B = {batch}"), f", {size} entries a state")
    return Measurement(numbers, (*told, f", {width} in inputs and outputs; counted from the derivation."))
