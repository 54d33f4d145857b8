"""What one update does: whether it lowers the loss, and how far it moves the weights, with and without clipping.

    theta <- theta - rate*g,      clipped:  g <- g * min(1, most / ||g||)

The loss is half the mean squared distance of the first output (or state) from random targets at the last step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import numeric
from derive.claims import ClaimError
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Math, Parts
from reports.measurements.chain import flat
from reports.measurements.measurement import Measurement, Number, counted, measured
from reports.measurements.network import Network, read_recipe

__all__ = ["measure_step"]

BATCH, SPREAD = 8, 1.05


def measure_step(given: Arguments) -> Measurement:
    """``rate``, ``clip`` (the most that a gradient's norm may be), ``steps``, ``seeds``, and a recipe."""
    recipe = read_recipe(given, size=8, inputs=1.0)
    steps, seeds = given.whole("steps", 1, 200, 30), given.whole("seeds", 1, 50, 20)
    rate, clip = given.number("rate", 1e-6, 1e3, 0.1), given.number("clip", 1e-6, 1e6, 0.5)
    given.done()
    if not recipe.cell.parameters:
        raise ClaimError("nothing to update: the cell has no parameters", field="cell", found=recipe.cell.name)
    found = np.array([_one(recipe.draw(seed, steps, BATCH), seed, rate, clip) for seed in range(seeds)])
    # a loss that is no number any more was raised too
    norm, moved, after, moved_clipped, after_clipped, turned = found.T
    numbers = {
        "networks": counted(seeds, "networks"),
        "raised": _many(~(after <= 1), "networks in which the update raised the loss"),
        "raised_clipped": _many(~(after_clipped <= 1), "networks in which the clipped update raised the loss"),
        "norm": _size(np.median(norm), "norm of the gradient, median"),
        "largest_norm": _size(norm.max(), "norm of the gradient, largest"),
        "moved": _size(moved.max(), "length of the update against the norm of the weights, largest"),
        "moved_clipped": _size(
            moved_clipped.max(), "length of the clipped update against the norm of the weights, largest"
        ),
        "changed": counted(int(turned.sum()), "networks in which clipping changed the gradient"),
    }
    told: Parts = (
        *recipe.told,
        "; ",
        Math(f"T = {steps}"),
        f", {BATCH} sequences, rate {rate:g}, clipped at {clip:g}.",
    )
    return Measurement(numbers, told)


def _many(which: Array, says: str) -> Number:
    return measured(int(which.sum()), 1.3, ".0f", says) if which.any() else counted(0, says)


def _size(value: Any, says: str) -> Number:
    return measured(float(value), SPREAD, "scientific", says)


def _one(net: Network, seed: int, rate: float, clip: float) -> tuple[float, ...]:
    """Norm of the gradient; relative step and relative loss after it, plain and clipped; whether it was clipped."""
    cell = net.engine.cell
    on = (*cell.outputs, *cell.states)[0]
    targets = np.random.default_rng([seed, 3]).standard_normal((net.batch, net.sizes[cell.axes[on]]))
    options = {"loss": "squared_error", "at": "last", "on": on, "reduction": "mean", **net.given}

    def loss(params: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        return net.engine.value_and_grad(params, net.inputs, targets, **options)

    before, gradient = loss(net.params)
    clipped, norm = numeric.clip_by_norm(gradient, clip)
    size = float(np.linalg.norm(flat(net.params)))
    out = [norm]
    for g in (gradient, clipped):
        after = loss({name: w - rate * g[name] for name, w in net.params.items()})[0]
        out += [rate * float(np.linalg.norm(flat(g))) / size, after / before]
    return (*out, float(norm > clip))
