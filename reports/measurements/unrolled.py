"""Whether the network unrolled into copies of the cell, with ordinary backpropagation, gives the same numbers.

The gradient is the sum over the copies, each with weights of its own; what each copy receives alone is another matter.
"""

from __future__ import annotations

import numpy as np

from reports.checks.arguments import Arguments
from reports.document import Math
from reports.measurements.chain import backward_through_copies, distance, flat
from reports.measurements.measurement import ROUNDING, Measurement, counted, measured
from reports.measurements.network import read_recipe

__all__ = ["measure_unrolled"]


def measure_unrolled(given: Arguments) -> Measurement:
    """``steps``, ``batch``, ``seed`` and a recipe: BPTT beside backpropagation through a chain of copies."""
    recipe = read_recipe(given, size=8)
    steps, batch, seed = given.whole("steps", 2, 60, 12), given.whole("batch", 1, 8, 2), given.whole("seed", 0, 999, 0)
    given.done()
    net = recipe.draw(seed, steps, batch)
    weights = net.functional(seed)
    outputs = net.engine.forward(net.params, net.inputs, **net.given)
    copies = [flat(copy) for copy in backward_through_copies(net, weights, outputs)]
    options = {"loss": "linear", "cotangents": weights, **net.given}
    whole = flat(net.engine.backward(net.params, net.inputs, **options).params)
    alone = flat(net.engine.backward(net.params, net.inputs, truncate=1, **options).params)
    numbers = {
        "copies": counted(steps, "copies of the cell in the unrolled network"),
        "used": counted(sum(bool(np.any(copy)) for copy in copies), "copies whose weights have a gradient"),
        "difference": measured(
            distance(np.sum(copies, axis=0), whole), ROUNDING, "scientific", "sum over the copies, against BPTT"
        ),
        "last_copy": measured(distance(copies[-1], whole), 1.01, ".3f", "the last copy alone, against BPTT"),
        "without_time": measured(
            distance(alone, whole), 1.01, ".3f", "the sum where nothing is carried from step to step, against BPTT"
        ),
    }
    told = (*recipe.told, "; ", Math(f"T = {steps}"), f", {batch} sequences, a random linear loss of everything, seed ")
    return Measurement(numbers, (*told, f"{seed}. Distances are relative, over all parameters."))
