"""How many of the later losses a state's derivative hears of: those that change at least one bit of it.

In exact arithmetic it carries all of them.  In floating point a loss whose share is below the last digit of the sum is
not there any more.
"""

from __future__ import annotations

import numpy as np

from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Math, Parts
from reports.measurements.measurement import Measurement, counted, measured
from reports.measurements.network import Network, read_recipe

__all__ = ["measure_hearing"]

_HEARD = "later losses that change a bit of the derivative by the first state"


def measure_hearing(given: Arguments) -> Measurement:
    """``steps``, ``seed`` and a recipe: which losses of steps 2 to T are in the derivative by the first states."""
    recipe = read_recipe(given)
    steps, seed = given.whole("steps", 2, 200, 150), given.whole("seed", 0, 999, 0)
    given.done()
    net = recipe.draw(seed, steps)
    weights = net.functional(seed)
    whole = _first(net, weights)
    heard = [not np.array_equal(_first(net, _without(weights, t)), whole) for t in range(1, steps)]
    share = float(np.linalg.norm(_first(net, _only(weights, steps - 1))) / np.linalg.norm(whole))
    numbers = {
        "later": counted(steps - 1, "losses after the first step"),
        "heard": counted(sum(heard), _HEARD) if all(heard) else measured(sum(heard), 1.5, ".0f", _HEARD),
        "share": measured(max(share, 1e-300), 1.2, "scientific", "share of the last loss in that derivative"),
    }
    told: Parts = (*recipe.told, "; ", Math(f"T = {steps}"), f", a random linear loss of everything, seed {seed}.")
    return Measurement(numbers, told)


def _first(net: Network, weights: dict[str, Array]) -> Array:
    options = {"loss": "linear", "cotangents": weights, **net.given}
    states = net.engine.backward(net.params, net.inputs, **options).states
    return np.concatenate([states[name][0].ravel() for name in net.engine.cell.states])


def _without(weights: dict[str, Array], t: int) -> dict[str, Array]:
    return {name: np.where(np.arange(len(c))[:, None, None] == t, 0.0, c) for name, c in weights.items()}


def _only(weights: dict[str, Array], t: int) -> dict[str, Array]:
    return {name: np.where(np.arange(len(c))[:, None, None] == t, c, 0.0) for name, c in weights.items()}
