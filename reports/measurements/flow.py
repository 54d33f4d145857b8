"""How a gradient changes on its way back in time: its rate per step, and the decades that it gains or loses in all.

    rate = slope of log ||dL/ds_t|| against the lag T - t,      decades = log10 ||dL/ds_1|| - log10 ||dL/ds_T||

for a random linear loss of the first state at the last step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import numeric
from derive.claims import ClaimError
from derive.latex import name_latex
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Math, Parts, Quantity
from reports.measurements.measurement import ROUNDING, Measurement, Number, measured
from reports.measurements.network import Network, Recipe, extent, read_recipe

__all__ = ["measure_flow", "measure_mitigation", "measure_product"]

ROOM = 8  # powers of ten by which a rounding error may grow, and still not be seen
MOST = 10**10  # what products of Jacobians may cost
HELD = 1e-6  # how far a state may be driven from a fixed point
SPREAD = 1.05  # nothing here is more than rounding apart, and what rounding decides is refused


@dataclass(frozen=True, eq=False)
class _Flow:
    """Log norms by lag of the first state's gradient, and the rate that theory gives at a fixed point (else nan)."""

    logs: Array
    rate: float
    theory: float

    @property
    def decades(self) -> float:
        return float((self.logs[-1] - self.logs[0]) / np.log(10))

    @property
    def rise(self) -> float:
        """The most by which the norm grows from one lag to a later one, in powers of ten."""
        logs = self.logs[np.isfinite(self.logs)]
        return float((logs - np.minimum.accumulate(logs)).max(initial=0.0) / np.log(10))

    @property
    def bend(self) -> float:
        """How far the log norm is from a straight line, against all that it changes."""
        used = np.isfinite(self.logs)
        lags, logs = np.flatnonzero(used), self.logs[used]
        line = np.polyval(np.polyfit(lags, logs, 1), lags)
        return float(np.abs(logs - line).max() / max(float(np.ptp(logs)), 1e-300))


def measure_flow(given: Arguments) -> Measurement:
    """A network's gradients against the lag, over ``seeds`` networks.

    ``steps``, ``seeds``; ``still`` holds the network without input at a fixed point, where theory knows the rate; and
    what :func:`reports.measurements.network.read_recipe` takes.
    """
    recipe = read_recipe(given)
    steps, seeds = given.whole("steps", 2, 400, 60), given.whole("seeds", 1, 20, 5)
    still = given.flag("still")
    given.done()
    flows = [_flow(recipe, seed, steps, still) for seed in range(seeds)]
    numbers = _numbers(flows, still)
    held = "held at a fixed point without input" if still else "driven by random inputs"
    told: Parts = (*recipe.told, f", {held}; ", Math(f"T = {steps}"), f", {seeds} networks, seeds 0 to {seeds - 1}")
    state = Math(name_latex(recipe.cell.states[0], "t"))
    return Measurement(numbers, (*told, ". Rates are of the gradient by ", state, ", in nats a step."))


def _numbers(flows: list[_Flow], still: bool) -> dict[str, Number]:
    rates, decades = np.array([f.rate for f in flows]), np.array([f.decades for f in flows])
    theory = float(np.median([f.theory for f in flows]))
    found = {} if np.isnan(rates).any() else {"rate": _rate(float(np.median(rates)), "rate of the gradient, median")}
    if still and found:
        found["rate"] = replace(found["rate"], expected=Quantity(theory, SPREAD, "+.3f"))
    found |= {
        "decades": _decades(float(np.median(decades)), "change of the gradient's norm in all, median"),
        "least_decades": _decades(float(decades.min()), "change of the gradient's norm in all, least"),
        "most_decades": _decades(float(decades.max()), "change of the gradient's norm in all, most"),
    }
    if still and "rate" in found:
        gap = float(max(abs(f.rate - f.theory) for f in flows))
        found["gap"] = measured(gap, 1.2, "scientific", "distance of the rate from theory, worst")
        found["bend"] = measured(
            float(max(f.bend for f in flows)), 1.2, ".4f", "distance of its logarithm from a straight line, worst"
        )
    return found


def _decades(value: float, says: str) -> Number:
    return _rate(value, f"{says}, in powers of ten", "+.1f")


def _flow(recipe: Recipe, seed: int, steps: int, still: bool) -> _Flow:
    net = recipe.draw(seed, steps)
    found = _flow_of(net, recipe, seed, still)
    if not still and found.rise > ROOM:
        _check_same(found.decades, _flow_of(_nudged(net), recipe, seed, still).decades)
    return found


def _nudged(net: Network) -> Network:
    """The same network, its parameters larger by a few rounding errors."""
    return replace(net, params={name: w * (1 + 2.0**-50) for name, w in net.params.items()})


def _check_same(one: float, other: float) -> None:
    """Raise ValueError where a few rounding errors make another number: the network is chaotic for so many steps."""
    if not abs(one - other) <= 0.01 * max(1.0, abs(one)):
        raise ValueError("rounding errors grow until they decide what is measured; take fewer steps")


def _flow_of(net: Network, recipe: Recipe, seed: int, still: bool) -> _Flow:
    steps = net.steps
    first, theory = recipe.cell.states[0], float("nan")
    initial, inputs = net.initial, net.inputs
    if still:
        inputs = {name: np.zeros_like(x) for name, x in inputs.items()}
        initial, theory = _fixed(net, inputs)
    cotangents = {first: np.random.default_rng([seed, 2]).standard_normal((1, recipe.size))}
    given: dict[str, Any] = {"initial": initial, **extent(net.engine, steps, 1)}
    if still:
        _check_held(net.engine.forward(net.params, inputs, **given), initial)
    found = numeric.flow(net.engine, net.params, inputs, loss="linear", at="last", cotangents=cotangents, **given)
    return _Flow(found.log_states[first], found.rate(first), theory)


def _fixed(net: Network, inputs: dict[str, Array]) -> tuple[dict[str, Array], float]:
    """The fixed point without input that is found from zero, and the rate there.

    From states that are drawn, the search may end at another fixed point on another machine.
    """
    one = {name: x[:1] for name, x in inputs.items()}
    start = numeric.fixed_point(net.engine, net.params, one)
    return start, numeric.theoretical_rate(net.engine, net.params, one, initial=start)


def _check_held(outputs: dict[str, Array], start: dict[str, Array]) -> None:
    """Raise ValueError where rounding, which grows too, has driven the network away from an unstable fixed point."""
    for name, state in start.items():
        if not np.allclose(outputs[name][-1], state, rtol=0, atol=HELD):
            raise ValueError(f"{name} does not stay at its unstable fixed point for so many steps; take fewer")


def measure_mitigation(given: Arguments) -> Measurement:
    """What one network's gradient loses over ``steps`` steps beside another's (arguments with ``beside_`` before)."""
    one, other = read_recipe(given), read_recipe(given, prefix="beside_")
    steps, seeds = given.whole("steps", 2, 400, 60), given.whole("seeds", 1, 20, 5)
    given.done()
    flows = [[_flow(recipe, seed, steps, False).decades for seed in range(seeds)] for recipe in (one, other)]
    own, beside = (np.array(x) for x in flows)
    numbers = {
        "decades": _decades(float(np.median(own)), f"change of the gradient's norm in {one.cell.name}, median"),
        "least_decades": _decades(float(own.min()), f"change of the gradient's norm in {one.cell.name}, least"),
        "most_decades": _decades(float(own.max()), f"change of the gradient's norm in {one.cell.name}, most"),
        "beside": _decades(float(np.median(beside)), f"change of the gradient's norm in {other.cell.name}, median"),
        "most_beside": _decades(float(beside.max()), f"change of the gradient's norm in {other.cell.name}, most"),
    }
    told: Parts = (*one.told, "; beside it ", *other.told, "; ", Math(f"T = {steps}"), f", {seeds} networks each.")
    return Measurement(numbers, told)


def measure_product(given: Arguments) -> Measurement:
    """Singular values of the Jacobian product over ``steps`` steps, as rates in nats a step."""
    recipe = read_recipe(given)
    steps, seeds = given.whole("steps", 2, 400, 60), given.whole("seeds", 1, 20, 5)
    given.done()
    rows = sum(recipe.sizes[recipe.cell.axes[name]] for name in recipe.cell.states)
    if rows**3 * steps * seeds > MOST:
        wanted = f"entries of the states, cubed, times steps and networks, of at most {MOST:,}"
        raise ClaimError("this would take too long", field="size", found=recipe.size, expected=wanted)
    logs = np.array([_singular(recipe, seed, steps) for seed in range(seeds)]) / steps  # (seeds, n)
    told: Parts = (*recipe.told, "; ", Math(f"T - t = {steps}"), f", {seeds} networks. Rates in nats a step.")
    return Measurement(
        {
            "largest": _rate(float(np.median(logs[:, 0])), "rate of the largest singular value, median"),
            "least_largest": _rate(float(logs[:, 0].min()), "rate of the largest singular value, least"),
            "most_largest": _rate(float(logs[:, 0].max()), "rate of the largest singular value, most"),
            "speed": _rate(float(np.abs(logs[:, 0]).min()), "rate of the largest singular value, either way, least"),
            "smallest": _rate(float(np.median(logs[:, -1])), "rate of the smallest singular value, median"),
        },
        told,
    )


def _rate(value: float, says: str, form: str = "+.3f") -> Number:
    """A number that may be zero but for rounding; then only its size is told."""
    if abs(value) < 1e-10:
        return measured(max(abs(value), 1e-15), ROUNDING, "scientific", f"{says} (size of rounding)", signed=True)
    return measured(value, SPREAD, form, says, signed=True)


def _singular(recipe: Recipe, seed: int, steps: int) -> Array:
    net = recipe.draw(seed, steps)
    found = _singular_of(net)
    if found.max() > ROOM * np.log(10):
        _check_same(found[0] / steps, _singular_of(_nudged(net))[0] / steps)
    return found


def _singular_of(net: Network) -> Array:
    return numeric.jacobian_product(net.engine, net.params, net.inputs, **net.given).log_singular[0]
