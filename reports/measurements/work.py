"""How much work a gradient is: multiply-adds counted from the program, and the time that it takes, beside one another.

The counts decide; times are another number in every run, and are there to be looked at.  How time grows is measured
too, as the exponent of T: the time is that of the processor, the least of several runs that take turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sympy import Expr

import derive
from derive.claims import ClaimError
from derive.cost import Cost, count_cost, evaluated
from numeric.truncated import windows
from reports.checks.arguments import Arguments
from reports.document import Inline, Math, Parts, Table
from reports.measurements.measurement import Measurement, Number, counted, measured
from reports.measurements.network import Recipe, read_recipe

__all__ = ["measure_time", "measure_work"]

REPEATS, MOST = 3, 2 * 10**8


def measure_work(given: Arguments) -> Measurement:
    """The full gradient, chunks of ``k`` steps, and a window of ``k`` steps for each loss; ``steps``, and a recipe."""
    recipe = read_recipe(given)
    steps, k = given.whole("steps", 2, 1000, 240), given.whole("k", 1, 100, 12)
    given.done()
    count = _Counter(recipe)
    if count.cut(steps, 1, min(k, steps)) > MOST:
        wanted = f"at most {MOST:,} multiply-adds in all windows"
        raise ClaimError("this would take too long", field="k", found=k, expected=wanted)
    spent = _times(recipe, steps, {"whole": None, "chunks": k, "window": (1, k)})
    whole, chunks, window = count.whole(steps), count.cut(steps, k, k), count.cut(steps, 1, k)
    edges = math.ceil(steps / k) - 1
    numbers = {
        "whole": counted(whole, "multiply-adds of one full gradient"),
        "chunks": counted(chunks, f"multiply-adds, all chunks of {k} steps together"),
        "edges": counted(edges * count.step, "multiply-adds at the edges of chunks that carry nothing on"),
        "window": counted(window, f"multiply-adds, each loss carried back over a window of {k} steps"),
        "forward": counted(count.of(count.cost.forward, steps), "multiply-adds of the forward pass alone"),
        "per_update": counted(count.whole(min(k, steps)), "multiply-adds of one chunk, after which weights may change"),
        "entrywise": counted(count.entrywise(steps), "entrywise operations of one full gradient"),
        **{f"time_{name}": _time(t, _WORDS[name]) for name, t in spent.items()},
    }
    told: Parts = (*recipe.told, "; ", Math(f"T = {steps},\\ k = {k}"), ", one sequence. Times are those of this run.")
    return Measurement(numbers, told, (_by_chunk(recipe, count, steps),))


def _by_chunk(recipe: Recipe, count: _Counter, steps: int) -> Table:
    """The same for chunks and windows of several lengths."""
    lengths = [k for k in (1, 4, 16, 64) if k < steps] + [steps]
    spent = _times(recipe, steps, {str(k): k for k in lengths})
    rows = tuple(
        (
            (str(k),),
            (counted(count.cut(steps, k, k), "").quantity,),
            (counted(count.cut(steps, 1, k), "").quantity,),
            (_time(spent[str(k)]).quantity,),
        )
        for k in lengths
    )
    head = (Math("k"),), ("multiply-adds, chunks",), ("multiply-adds, window",), ("milliseconds, chunks",)
    return Table(head, rows, "rrrr")


_WORDS = {"whole": "full gradient", "chunks": "all chunks", "window": "all windows"}


class _Counter:
    """Counts from the derivation, at a recipe's sizes and one sequence."""

    def __init__(self, recipe: Recipe) -> None:
        self.cost: Cost = count_cost(derive.differentiate(recipe.cell).backward)
        self.sizes = recipe.sizes

    def of(self, polynomial: Expr, steps: int) -> int:
        return evaluated(polynomial, {"T": steps, "B": 1, **self.sizes})

    def whole(self, steps: int) -> int:
        return self.of(self.cost.forward + self.cost.backward, steps)

    def entrywise(self, steps: int) -> int:
        return self.of(self.cost.forward_entrywise + self.cost.backward_entrywise, steps)

    @property
    def step(self) -> int:
        """Multiply-adds that carry the derivative of the states over one step."""
        return self.of(self.cost.sequential, 1) // 2

    def cut(self, steps: int, k1: int, k2: int) -> int:
        """Every window once, and the forward pass between the beginnings of windows that overlap."""
        if k2 >= math.ceil(steps / k1) * k1:  # nothing is cut
            return self.whole(steps)
        found = list(windows(steps, k1, k2))
        ahead = 0 if k1 == k2 else self.of(self.cost.forward, max(w.start for w in found))
        return ahead + sum(self.whole(w.stop - w.start) for w in found)


def _times(recipe: Recipe, steps: int, settings: Mapping[str, Any]) -> dict[str, float]:
    net = recipe.draw(0, steps)
    loss = {"loss": "linear", "cotangents": net.functional(0), **net.given}

    def run(truncate: Any) -> Callable[[], object]:
        return lambda: net.engine.value_and_grad(net.params, net.inputs, truncate=truncate, **loss)

    return _interleaved({name: run(truncate) for name, truncate in settings.items()})


def _interleaved(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The processor's time of each, the least of several turns."""
    for run in runs.values():
        run()
    best = dict.fromkeys(runs, math.inf)
    for _ in range(REPEATS):
        for name, run in runs.items():
            begun = time.thread_time()
            run()
            best[name] = min(best[name], time.thread_time() - begun)
    return best


def _time(seconds: float, *says: Inline) -> Number:
    """A time, which is another one in every run."""
    return measured(1e3 * seconds, math.inf, ".1f", "milliseconds, ", *says)


def measure_time(given: Arguments) -> Measurement:
    """How work and time of a gradient grow from ``steps`` to eight times as many, and from ``size`` to twice that."""
    recipe = read_recipe(given)
    steps = given.whole("steps", 50, 2000, 1000)
    given.done()
    long, count = 8 * steps, _Counter(recipe)
    wide = replace(recipe, size=2 * recipe.size)
    nets = {"short": recipe.draw(0, steps), "long": recipe.draw(0, long), "wide": wide.draw(0, steps)}

    def run(name: str) -> Callable[[], object]:
        net = nets[name]
        loss = {"loss": "linear", "cotangents": net.functional(0), **net.given}
        return lambda: net.engine.value_and_grad(net.params, net.inputs, **loss)

    spent = _interleaved({name: run(name) for name in nets})
    exponent = math.log(spent["long"] / spent["short"]) / math.log(8)
    numbers = {
        "work": counted(count.whole(steps), "multiply-adds, ", Math(f"T = {steps}")),
        "work_longer": counted(count.whole(long), "multiply-adds, ", Math(f"T = {long}")),
        "work_wider": counted(
            _Counter(wide).whole(steps), "multiply-adds, ", Math(f"T = {steps}"), ", states of twice the size"
        ),
        "time": _time(spent["short"], Math(f"T = {steps}")),
        "time_longer": _time(spent["long"], Math(f"T = {long}")),
        "time_wider": _time(spent["wide"], Math(f"T = {steps}"), ", states of twice the size"),
        "exponent": measured(exponent, 1.35, ".1f", "exponent of T in the time", expected=1.0, apart=1.0, signed=True),
    }
    return Measurement(numbers, (*recipe.told, ", one sequence."))
