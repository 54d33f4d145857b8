"""What truncation keeps of the gradient, and what it drops: pairs of a loss and a use of the weights.

The full gradient is a sum over pairs (t, j): the loss at t, carried back to the use at j.  Chunks of k steps drop the
pairs in different chunks, a window of k steps those with t - j >= k.
"""

from __future__ import annotations

import numpy as np

from derive.cell import Cell
from derive.latex import name_latex
from derive.truncate import dropped_by_chunks, dropped_by_window, pairs
from numeric.arguments import Array
from reports.checks.arguments import Arguments
from reports.document import Code, Math, Parts, Table
from reports.measurements.chain import backward_through_copies, distance, flat
from reports.measurements.measurement import ROUNDING, Measurement, Number, counted, measured
from reports.measurements.network import Network, read_recipe

__all__ = ["measure_boundary", "measure_truncation"]


def measure_truncation(given: Arguments) -> Measurement:
    """``steps``, ``k``, ``window`` (a window that moves with each loss, not chunks), ``seed`` and a recipe."""
    recipe = read_recipe(given, size=8)
    steps, k = given.whole("steps", 2, 40, 20), given.whole("k", 1, 40, 5)
    window, seed = given.flag("window"), given.whole("seed", 0, 999, 0)
    given.done()
    net = recipe.draw(seed, steps)
    weights = net.functional(seed)
    options = {"loss": "linear", "cotangents": weights, **net.given}
    whole = net.engine.backward(net.params, net.inputs, **options).params
    cut = net.engine.backward(net.params, net.inputs, truncate=(1, k) if window else k, **options).params
    dropped = (dropped_by_window if window else dropped_by_chunks)(steps, k)
    lost = _sum_of(net, weights, dropped)
    own, full = flat(cut), flat(whole)
    numbers = {
        "pairs": counted(len(pairs(steps)), "pairs of a loss and a use of the weights"),
        "lost": counted(len(dropped), "pairs that truncation drops"),
        "bias": measured(distance(own, full), 1.05, ".3f", "error of the truncated gradient"),
        "unexplained": measured(
            distance(own + lost, full),
            ROUNDING,
            "scientific",
            "what is left of the error once the dropped pairs are added",
        ),
    }
    if np.any(own) and np.any(full):
        cosine = float(own @ full / (np.linalg.norm(own) * np.linalg.norm(full)))
        numbers["cosine"] = measured(cosine, 1.05, ".3f", "cosine of the angle between the two gradients", signed=True)
    kind = "a window of" if window else "chunks of"
    told: Parts = (*recipe.told, "; ", Math(f"T = {steps}"), f", {kind} ", Math(f"k = {k}"), f" steps, seed {seed}")
    return Measurement(numbers, (*told, ". Errors are relative."), (_by_parameter(cut, whole),))


def _sum_of(net: Network, weights: dict[str, Array], wanted: tuple[tuple[int, int], ...]) -> Array:
    """The sum of some pairs: each loss alone through the copies of the cell, and of each only the uses that count."""
    outputs = net.engine.forward(net.params, net.inputs, **net.given)
    total = np.zeros_like(flat(net.params))
    for t in sorted({t for t, _ in wanted}):
        one = {name: np.where(np.arange(net.steps)[:, None, None] == t - 1, c, 0.0) for name, c in weights.items()}
        copies = backward_through_copies(net, one, outputs)
        total += sum((flat(copies[j - 1]) for i, j in wanted if i == t), np.zeros_like(total))
    return total


def _by_parameter(cut: dict[str, Array], whole: dict[str, Array]) -> Table:
    """The error of each parameter's gradient: those that act on the output alone have none."""
    rows = tuple(
        ((Code(name),), (measured(distance(cut[name], whole[name]), _spread(cut, whole, name), "scientific").quantity,))
        for name in whole
    )
    return Table((("gradient by",), ("error through truncation",)), rows, "lr")


def _spread(cut: dict[str, Array], whole: dict[str, Array], name: str) -> float:
    return ROUNDING if distance(cut[name], whole[name]) < 1e-12 else 1.05


def measure_boundary(given: Arguments) -> Measurement:
    """How the loss at one step depends on the state before it, within a chunk and across its edge.

    ``steps``, ``k``, ``seed`` and a recipe.
    """
    recipe = read_recipe(given, size=8)
    steps, k, seed = given.whole("steps", 2, 60, 20), given.whole("k", 1, 30, 5), given.whole("seed", 0, 999, 0)
    given.done()
    net = recipe.draw(seed, steps)
    inside, across = (k if k > 1 else 0), k + 1  # steps, from 1: the last of the first chunk, the first of the second
    numbers: dict[str, Number] = {}
    for name, t in (("inside", inside), ("across", across)):
        if 2 <= t <= steps:
            full, cut = (_reach(net, seed, t, truncate) for truncate in (None, k))
            apart = max(abs(cut - full) / full if full else 0.0, 2.0**-53)
            numbers[f"{name}_whole"] = measured(
                full, 1.05, "scientific", *_dependence(recipe.cell, t), ", full gradient"
            )
            numbers[f"{name}_chunks"] = measured(cut, 1.05, "scientific", *_dependence(recipe.cell, t), ", truncated")
            spread = ROUNDING if apart < 1e-12 else 1.05
            numbers[f"{name}_apart"] = measured(
                apart, spread, "scientific", f"relative difference of the two at step {t}"
            )
    near = [(t, j) for t, j in pairs(steps) if t - j == 1]
    dropped = set(dropped_by_chunks(steps, k))
    numbers["near"] = counted(len(near), "dependencies of one step in the sequence")
    numbers["near_lost"] = counted(
        sum(pair in dropped for pair in near), "dependencies of one step that cross the edge of a chunk, and are lost"
    )
    numbers["states_apart"] = _states_apart(net, seed, k)
    told: Parts = (*recipe.told, "; ", Math(f"T = {steps}"), ", chunks of ", Math(f"k = {k}"), f" steps, seed {seed}.")
    return Measurement(numbers, told)


def _dependence(cell: Cell, t: int) -> Parts:
    state = name_latex(cell.states[0], str(t - 1)) if len(cell.states) == 1 else f"s_{{{t - 1}}}"
    return "norm of ", Math(rf"\mathrm{{d}}L_{{{t}}}/\mathrm{{d}}{state}")


def _reach(net: Network, seed: int, t: int, truncate: int | None) -> float:
    """The norm of the derivative of a loss at step t by the states at step t - 1."""
    keep = np.arange(net.steps)[:, None, None] == t - 1
    weights = {name: np.where(keep, c, 0.0) for name, c in net.functional(seed).items()}
    options = {"loss": "linear", "cotangents": weights, "truncate": truncate, **net.given}
    states = net.engine.backward(net.params, net.inputs, **options).states
    return float(np.sqrt(sum(np.sum(d[t - 2] ** 2) for d in states.values())))


def _states_apart(net: Network, seed: int, k: int) -> Number:
    """Whether states go from chunk to chunk as they do without truncation: numbers in which they differ."""
    options = {"loss": "linear", "cotangents": net.functional(seed), **net.given}
    whole = net.engine.backward(net.params, net.inputs, **options).outputs
    cut = net.engine.backward(net.params, net.inputs, truncate=k, **options).outputs
    apart = sum(int((~np.isclose(cut[name], x, rtol=1e-12, atol=1e-12)).sum()) for name, x in whole.items())
    return counted(apart, "outputs and states of the forward pass that truncation changes")
