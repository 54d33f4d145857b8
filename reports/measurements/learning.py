"""What is learned with full and with truncated gradients, on two tasks whose dependencies have a known length.

    recall   the target is the input ``delay`` steps ago, +1 or -1
    trace    the target is a trace of all inputs, s[t] = decay*s[t-1] + x[t]

Errors are squared, in units of the target's variance: 1 is what the best constant reaches.  ``short`` is the least
error of anything that sees only the last k inputs, whatever it is: below it, more than k steps were used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import derive
import numeric
from derive.claims import ClaimError
from derive.cost import count_cost, evaluated
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Math, Parts
from reports.measurements.measurement import Measurement, Number, measured
from reports.measurements.network import Recipe, read_recipe

__all__ = ["measure_learning"]

BATCH, TESTS, MOST = 16, 200, 20_000
STEPS, WORK = 200_000, 10**10  # of all training together
SMALL, LARGE = 10.0, 1.5  # how far another machine's training may lead: small errors far, none learned hardly


@dataclass(frozen=True)
class _Task:
    """What is to be learned: a dependency of ``delay`` steps, or a trace that decays by ``decay`` a step."""

    recipe: Recipe
    steps: int
    delay: int
    decay: float

    @property
    def amplitude(self) -> float:
        """Of the inputs: small for a trace, so that tanh is nearly linear."""
        return 0.3 if self.decay else 1.0

    def draw(self, seed: list[int], batch: int = BATCH) -> tuple[Array, Array]:
        """Inputs and targets, (T, B, 1), targets of variance one."""
        x = np.random.default_rng(seed).choice([-1.0, 1.0], size=(self.steps, batch, 1))
        y = np.zeros_like(x)
        if self.decay:
            carried = np.zeros((batch, 1))
            for t in range(self.steps):
                carried = self.decay * carried + x[t]
                y[t] = carried * np.sqrt(1 - self.decay**2)
        else:
            y[self.delay :] = x[: self.steps - self.delay]
        return self.amplitude * x, y

    def short(self, k: int) -> float:
        """The least error of anything that sees only the last k inputs."""
        return float(self.decay ** (2 * k)) if self.decay else float(k <= self.delay)

    def learned(self, seed: int, truncate: int | None, updates: int, rate: float) -> float:
        """The error after training, on sequences that were not trained on, where the target has its whole past."""
        net = self.recipe.draw(seed, self.steps)
        options: dict[str, Any] = {"loss": "squared_error", "clip": 1.0, "truncate": truncate, "progress": False}
        optimizer = numeric.Adam(rate)
        found = numeric.fit(
            net.engine, net.params, lambda n: self.draw([seed, n]), optimizer=optimizer, steps=updates, **options
        )
        x, y = self.draw([seed, 0], TESTS)
        (output,) = self.recipe.cell.outputs
        from_step = self.steps // 2 if self.decay else self.delay
        apart = net.engine.forward(found.params, x)[output] - y
        return float((apart[from_step:] ** 2).mean() / (y[from_step:] ** 2).mean())


def measure_learning(given: Arguments) -> Measurement:
    """``delay`` or ``decay``, chunks of ``k``, ``steps``, ``updates``, ``rate``, ``seeds``, and a recipe."""
    recipe = replace(read_recipe(given, size=8), width=1)
    delay, decay = given.whole("delay", 0, 100, 0), given.number("decay", 0, 0.99, 0.0)
    steps, k = given.whole("steps", 2, 200, 12), given.whole("k", 0, 100, 0)
    updates, seeds = given.whole("updates", 1, 1000, 200), given.whole("seeds", 1, 5, 3)
    rate = given.number("rate", 1e-4, 1, 0.02)
    given.done()
    ends = *recipe.cell.inputs, *recipe.cell.outputs
    if (len(recipe.cell.inputs), len(ends)) != (1, 2) or any(recipe.sizes[recipe.cell.axes[n]] > 1 for n in ends):
        wanted = "one input and one output, of sizes that are no state's"
        raise ClaimError("no cell for these tasks", field="cell", found=recipe.cell.name, expected=wanted)
    if (delay > 0) == (decay > 0) or delay >= steps:
        wanted = "either a delay, shorter than the sequence, or a decay"
        raise ClaimError("which task", field="delay", found=delay, expected=wanted)
    if updates * seeds * (1 + (-(-steps // k) if k else 0)) > MOST:
        wanted = f"at most {MOST:,} updates in all, one a chunk"
        raise ClaimError("this would take too long", field="updates", found=updates, expected=wanted)
    runs = updates * seeds * (2 if k else 1)
    if runs * steps > STEPS or runs * _work(recipe, steps) > WORK:
        wanted = f"at most {STEPS:,} steps of training in all, and {WORK:,} multiply-adds"
        raise ClaimError("this would take too long", field="updates", found=updates, expected=wanted)
    task = _Task(recipe, steps, delay, decay)
    whole = sorted(task.learned(seed, None, updates, rate) for seed in range(seeds))
    numbers = _errors("whole", whole, "full gradient")
    if k:
        chunks = sorted(task.learned(seed, k, updates, rate) for seed in range(seeds))
        numbers |= _errors("chunks", chunks, f"chunks of {k} steps")
        says = f"the least that the last {k} inputs alone allow"
        numbers["short"] = measured(task.short(k), 1.0, ".2f", says)
    return Measurement(numbers, _told(task, seeds, updates))


def _work(recipe: Recipe, steps: int) -> int:
    """Multiply-adds of one gradient of a batch."""
    cost = count_cost(derive.differentiate(recipe.cell).backward)
    return evaluated(cost.forward + cost.backward, {"T": steps, "B": BATCH, **recipe.sizes})


def _errors(name: str, found: list[float], how: str) -> dict[str, Number]:
    return {f"{name}_best": _error(found[0], f"{how}, best"), f"{name}_worst": _error(found[-1], f"{how}, worst")}


def _error(value: float, says: str) -> Number:
    return measured(value, LARGE if value > 0.5 else SMALL, ".2g", f"error, {says}")


def _told(task: _Task, seeds: int, updates: int) -> Parts:
    what = f"trace with decay {task.decay:g}" if task.decay else f"recall of the input {task.delay} steps ago"
    length: Parts = (Math(f"T = {task.steps}"), f", {updates} batches, {seeds} networks.")
    return (*task.recipe.told, f"; {what}; ", *length, " Errors in units of the target's variance.")
