"""What ``bptt flow`` measures: how a cell's gradients vanish or explode with the time lag, beside theory.

The recurrent matrices are scaled to each spectral radius in turn, and the cell is held without input at a fixed point,
where theory knows the rate; the loss is the sum of the entries of the output at the last step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import derive
import numeric
from derive.cell import Cell
from numeric.arguments import Array
from reports.measure import recurrent_matrices, sizes_of

__all__ = ["MOST", "Experiment", "Run", "flow_data", "flow_table", "measure_flow"]

MOST = 4  # spectral radii in one drawing
LAGS = 40  # points of a line of singular values
SHOWN = 3  # exponents in the table


@dataclass(frozen=True, eq=False)
class Run:
    """One spectral radius (None: nothing to scale), with all that was measured at it.

    ``measured`` is the fitted rate of the first state's gradient, ``theory`` log rho(J) at the fixed point (None where
    none was found), both in nats per step; ``exponents`` (n,) are the Lyapunov exponents.  ``held`` says that the
    sequence stayed at the fixed point, which from an unstable one rounding drives it away in time.
    """

    scale: float | None
    flow: numeric.Flow
    product: numeric.JacobianProduct
    exponents: Array
    measured: float
    theory: float | None
    held: bool


@dataclass(frozen=True, eq=False)
class Experiment:
    """The runs of one cell; the loss is the sum of the entries of ``loss`` at the last step."""

    cell: Cell
    steps: int
    seed: int
    sizes: dict[str, int]
    matrices: tuple[str, ...]
    loss: str
    runs: tuple[Run, ...]

    @property
    def state(self) -> str:
        """The state whose gradient is drawn."""
        return self.cell.states[0]

    @property
    def input(self) -> str | None:
        """The input whose gradient is drawn."""
        return self.cell.inputs[0] if self.cell.inputs else None

    @property
    def shown(self) -> bool:
        """Whether the loss has a gradient by the state that is drawn."""
        return any(np.isfinite(run.flow.log_states[self.state]).any() for run in self.runs)

    @property
    def sizes_of_states(self) -> dict[str, int]:
        """The number of entries of each state."""
        return {name: self.sizes[self.cell.axes[name]] for name in self.cell.states}


def measure_flow(cell: Cell, *, steps: int, size: int, seed: int, scales: Sequence[float] | None) -> Experiment:
    """Run the experiment; ``scales`` left out are those of :data:`numeric.REGIMES`.

    Raises ValueError for more than :data:`MOST` scales, where a cell has no square recurrent matrix to scale though
    ``scales`` are given, where one cannot be scaled, and where the cell is not finite without input.
    """
    engine = numeric.Engine(cell)
    letters = {cell.axes[name] for name in cell.states}
    sizes = {x: size if x in letters else n for x, n in sizes_of(tuple(cell.dimensions)).items()}
    matrices = _square(cell)
    if scales and len(scales) > MOST:
        raise ValueError(f"{len(scales)} values of --scale are too many for one drawing; give at most {MOST}")
    if scales and not matrices:
        raise ValueError(f"{cell.name} has no square matrix on a previous state, so that --scale has nothing to scale")
    wanted = tuple(scales or numeric.REGIMES.values()) if matrices else (None,)
    drawn = engine.init(seed=seed, **sizes)
    loss = _loss(cell)
    runs = tuple(_run(engine, drawn, matrices, rho, steps, sizes, loss) for rho in wanted)
    return Experiment(cell, steps, seed, sizes, matrices, loss, runs)


def _square(cell: Cell) -> tuple[str, ...]:
    """Square matrices that act on a previous state."""
    names = recurrent_matrices(derive.differentiate(cell))
    return tuple(name for name in names if len(set(cell.parameters[name])) == 1)


def _loss(cell: Cell) -> str:
    return (*cell.outputs, *cell.states)[0]


def _run(
    engine: numeric.Engine,
    drawn: dict[str, Array],
    matrices: tuple[str, ...],
    rho: float | None,
    steps: int,
    sizes: dict[str, int],
    loss: str,
) -> Run:
    cell = engine.cell
    params = drawn if rho is None else numeric.with_spectral_radius(drawn, matrices, rho)
    inputs = {name: np.zeros((steps, 1, sizes[cell.axes[name]])) for name in cell.inputs}
    start, theory = _start(engine, params, {name: x[:1] for name, x in inputs.items()}, sizes)
    extent: dict[str, Any] = {"initial": start} | ({} if inputs else {"steps": steps, "batch": 1})
    cotangents = {loss: np.ones((1, sizes[cell.axes[loss]]))}
    flow = numeric.flow(engine, params, inputs, loss="linear", at="last", cotangents=cotangents, **extent)
    lags = sorted({round(k) for k in np.linspace(1, steps, min(steps, LAGS))})
    product = numeric.jacobian_product(engine, params, inputs, lags=lags, **extent)
    exponents = numeric.lyapunov(engine, params, inputs, discard=steps // 4, **extent)
    held = theory is not None and _stayed(engine.forward(params, inputs, **extent), start)
    return Run(rho, flow, product, exponents, flow.rate(cell.states[0]), theory, held)


def _stayed(outputs: dict[str, Array], start: dict[str, Array]) -> bool:
    return all(np.allclose(outputs[name][-1], s, rtol=1e-3, atol=1e-3) for name, s in start.items())


def _start(
    engine: numeric.Engine, params: dict[str, Array], inputs: dict[str, Array], sizes: dict[str, int]
) -> tuple[dict[str, Array], float | None]:
    """A fixed point and the rate there; zero states and no rate where none is found."""
    zero = {name: np.zeros((1, sizes[engine.cell.axes[name]])) for name in engine.cell.states}
    try:
        start = numeric.fixed_point(engine, params, inputs, initial=zero)
    except ValueError:
        return zero, None
    return start, numeric.theoretical_rate(engine, params, inputs, initial=start)


# -------------------------------------------------------------------------------------------------------- what is said


def flow_table(experiment: Experiment) -> str:
    """The rates beside one another, in nats per step, a line a spectral radius."""
    cell, sizes = experiment.cell, ", ".join(f"{x} = {n}" for x, n in experiment.sizes.items())
    lines = [
        f"{cell.name}: gradient of the sum of {experiment.loss}[T] by {experiment.state}[t], "
        f"T = {experiment.steps}, {sizes}, seed {experiment.seed}",
        "rates in nats per step, held at a fixed point without input; "
        + (f"rho: spectral radius of {', '.join(experiment.matrices)}" if experiment.matrices else "nothing is scaled"),
        "",
        f"{'rho':>6}  {'measured':>9}  {'theory':>9}  {'regime':9}  Lyapunov exponents",
    ]
    lines += [_line(run) for run in experiment.runs]
    if any(run.theory is not None and not run.held for run in experiment.runs):
        lines += ["", "*: the fixed point is unstable, and rounding has driven the sequence away from it"]
    if any(run.theory is None for run in experiment.runs):
        lines += ["", "-: no fixed point was found; the sequence starts from zero"]
    return "\n".join(lines) + "\n"


def _line(run: Run) -> str:
    exponents = "  ".join(_number(x) for x in run.exponents[:SHOWN])
    more = "  ..." if len(run.exponents) > SHOWN else ""
    scale = "-" if run.scale is None else f"{run.scale:g}"
    star = "*" if run.theory is not None and not run.held else " "
    return (
        f"{scale:>6}  {_number(run.measured)}  {_number(run.theory)}{star} {_regime(run.measured):9}  {exponents}{more}"
    )


def _number(x: float | None) -> str:
    return f"{'-':>9}" if x is None or math.isnan(x) else f"{round(x, 4) + 0.0:>+9.4f}"


def _regime(rate: float) -> str:
    """What a rate means for gradients over a hundred steps."""
    if math.isnan(rate):
        return "-"
    return "stays" if abs(rate) < 0.01 else "vanishes" if rate < 0 else "explodes"


def flow_data(experiment: Experiment) -> dict[str, Any]:
    """Everything measured as plain data; None for what is not a finite number."""
    return {
        "cell": experiment.cell.name,
        "steps": experiment.steps,
        "seed": experiment.seed,
        "sizes": dict(experiment.sizes),
        "scaled": list(experiment.matrices),
        "loss": f"sum of the entries of {experiment.loss}[T]",
        "unit": "nats per step; natural logarithms",
        "runs": [_run_data(run) for run in experiment.runs],
    }


def _run_data(run: Run) -> dict[str, Any]:
    flow = run.flow
    return {
        "spectral_radius": run.scale,
        "theory": _finite(run.theory),
        "held_at_fixed_point": run.held,
        "measured": {name: _finite(flow.rate(name)) for name in (*flow.states, *flow.inputs)},
        "lyapunov_exponents": _list(run.exponents),
        "lags": [int(k) for k in flow.lags],
        "log_norms": {name: _list(x) for name, x in (flow.log_states | flow.log_inputs).items()},
        "product_lags": [int(k) for k in run.product.lags],
        "log_singular_values": [_list(row) for row in run.product.log_singular],
    }


def _finite(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else float(x)


def _list(values: Array) -> list[float | None]:
    return [_finite(float(x)) for x in values]
