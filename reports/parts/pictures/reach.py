"""How far a gradient reaches, in words: its norm, and the singular values of the Jacobian product, by time lag."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import numeric
from derive.derivation import Derivation
from derive.latex import name_latex
from reports.document import Figure, Math, Paragraph, Parts, Quantity, Table
from reports.figures import norm_figure, spectrum_figure
from reports.measure import FLOW_STEPS, Curve, Measured, entries_of, square_matrices
from reports.parts.pictures.absent import absent
from reports.prose import joined

__all__ = ["flow", "spectrum"]

#: A rate within so much of 1 keeps a gradient's size; a measured one within so much of theory follows it.
KEEPS, FOLLOWS = 0.03, 0.06
#: What keeps its size is at most doubled over all lags.
STEADY = 0.012
ROWS = 10


def flow(derivation: Derivation, measured: Measured, seed: int) -> Figure | Paragraph:
    """Gradient norm against lag."""
    curves = [c for c in measured.curves if c.reaches]
    if not curves:
        return absent("the gradient's norm by time lag", _why(measured))
    state = next(iter(curves[0].logs))
    inputs = bool(derivation.cell.inputs)
    caption = (*_conclusion(curves, state, inputs), *_network(derivation, curves, seed), *_markers(derivation, curves))
    return Figure(norm_figure(curves), caption, _alt(curves, state), "gradient-norm", _norms(curves, state))


def spectrum(derivation: Derivation, measured: Measured, seed: int) -> Figure | Paragraph:
    """Singular values of the Jacobian product against lag."""
    curves = [c for c in measured.curves if np.isfinite(c.log_singular[-1, 0])]
    if not curves:
        return absent("the Jacobian product's singular values", _why(measured))
    caption = (*_ranks(curves), *_spectrum_drawn(curves))
    radii = ", ".join(_said(c).removeprefix("spectral radius ").removesuffix(": ") for c in curves)
    alt = (
        f"{'A panel for each' if len(curves) > 1 else 'One panel, for the'} spectral radius ({radii}): singular values"
        f" of the Jacobian product on a logarithmic axis against the lag from 1 to {FLOW_STEPS} steps; the largest one"
        " stands apart from a fan of smaller ones."
    )
    return Figure(spectrum_figure(curves), caption, alt, "singular-values", _singular(curves))


def _why(measured: Measured) -> str:
    if measured.reason or measured.check is None:
        return measured.reason or "it was not measured"
    if not measured.curves:
        return "a state or a Jacobian is not finite"
    steps = max(_reached(c) for c in measured.curves)
    if steps == 0:
        return "no gradient reaches the first state"
    back = "one step" if steps == 1 else f"{steps} steps"
    return f"the gradient is exactly zero from {back} back on" if steps < FLOW_STEPS else "a norm is not finite"


def _reached(curve: Curve) -> int:
    """From which lag on the gradient is zero, by every state."""
    return max((int(k) + 1 for logs in curve.logs.values() for k in np.flatnonzero(np.isfinite(logs))), default=0)


def _is_still(curves: Sequence[Curve]) -> bool:
    """Whether theory knows a rate: the networks are held at fixed points."""
    return any(c.rate == c.rate for c in curves)


def _at(curve: Curve) -> Parts:
    """What tells a network from the others."""
    if curve.rate == curve.rate:
        return Math(r"\rho(J)"), " = ", Quantity(curve.radius, 1.03, ".2f")
    return ("random numbers",) if curve.scale is None else (Math(rf"\rho(W) = {curve.scale:g}"),)


# --------------------------------------------------------------------------------------------------------------- norms


def _conclusion(curves: Sequence[Curve], state: str, inputs: bool) -> Parts:
    """What the figure shows, read from the fitted factors; thresholds are far from what theory gives."""
    said: list[Parts]
    known = [c for c in curves if c.held and c.rate == c.rate and np.isfinite(c.rate)]
    apart = [c for c in known if abs(np.log(c.factor(state)) - c.rate) > FOLLOWS]
    if not known:
        said = _fates(curves, [c.factor(state) for c in curves], state)
        where = "Under random inputs" if inputs else "From random initial states"
        return (f"{where}, where theory knows no rate, the gradient ", *joined(said, last=" and "), ". ")
    if apart:
        return ("The gradient changes with the lag, but not at the rate that theory gives for a fixed point. ",)
    said = _fates(known, [c.radius for c in known], state)
    return (
        "The gradient changes by ",
        Math(r"\rho(J)"),
        " a step, as theory says: it ",
        *joined(said, last=" and "),
        ". ",
    )


def _fates(curves: Sequence[Curve], factors: Sequence[float], state: str) -> list[Parts]:
    """What becomes of the gradient, and in which networks."""
    found: dict[str, list[Parts]] = {}
    for curve, factor in zip(curves, factors, strict=True):
        found.setdefault(_fate(factor, curve.factor(state)), []).append(_at(curve))
    bare = any(c.rate != c.rate and c.scale is None for c in curves)  # one network, under random inputs
    return [(fate,) if bare else (fate, " at ", *joined(where, last=" and ")) for fate, where in found.items()]


def _fate(factor: float, measured: float) -> str:
    """In a word; what grows as the lag does, and not by a factor, is seen in what was measured only."""
    if abs(factor - 1) < KEEPS:
        slowly = "grows slowly" if measured > 1 else "shrinks slowly"
        return "keeps its size" if abs(measured - 1) < STEADY else slowly
    return "vanishes" if factor < 1 else "explodes"


def _network(derivation: Derivation, curves: Sequence[Curve], seed: int) -> Parts:
    """What was scaled, to what, and what no scale made."""
    entries = entries_of(derivation.cell)
    names: list[Parts] = [(Math(name_latex(m)),) for m in square_matrices(derivation)]
    scales: list[Parts] = [(Quantity(c.scale, 1.03, ".2f"),) for c in curves if c.scale is not None]
    if not _is_still(curves):
        drawn = "Random inputs and initial states" if derivation.cell.inputs else "Random initial states"
        return (f"{drawn} ({entries} entries a state, seed {seed}). ",)
    held: Parts = (
        "Held at its fixed point without input, a network has the same Jacobian ",
        Math("J"),
        " at every step",
    )
    if not scales:
        return (*held, ". No scale of recurrent matrices makes another regime here. ")
    plural = "are" if len(names) > 1 else "is"
    parts: Parts = (
        *held,
        "; ",
        *joined(names, last=" and "),
        f" {plural} scaled to the spectral radius ",
        *joined(scales, last=" and "),
        f" ({entries} entries a state, seed {seed}). ",
    )
    missing = [rho for rho in numeric.REGIMES.values() if not any(abs(c.radius / rho - 1) < KEEPS for c in curves)]
    if missing:
        rest = " or ".join(f"{rho:g}" for rho in missing)
        parts += ("No scale that was tried makes ", Math(r"\rho(J)"), f" = {rest}. ")
    return parts


def _markers(derivation: Derivation, curves: Sequence[Curve]) -> Parts:
    cell = derivation.cell
    on = name_latex((*cell.outputs, *cell.states)[0], "T")
    state = next(iter(curves[0].logs))
    measured: list[Parts] = [(Quantity(c.factor(state), 1.05, ".2f"),) for c in curves]
    lines: Parts = ("; lines: ", Math(r"\rho(J)^{T-t}"), ", at the markers' height") if _is_still(curves) else ()
    return (
        "Markers: the norm of the derivative of the sum of ",
        Math(on),
        " by the states ",
        Math("T - t"),
        " steps earlier",
        *lines,
        ". Measured change a step: ",
        *joined(measured, last=" and "),
        ".",
    )


def _norms(curves: Sequence[Curve], state: str) -> Table:
    lags = np.unique(np.linspace(0, FLOW_STEPS - 1, ROWS).round().astype(int))
    head: list[Parts] = [("lag",)]
    head += [_at(c) for c in curves]
    rows: list[tuple[Parts, ...]] = [
        ((str(int(k)),), *((Quantity(float(np.exp(c.logs[state][k])), 1.5),) for c in curves)) for k in lags
    ]
    what: Parts = ("Norm of the gradient by ", Math(name_latex(state, "t")), ".")
    return Table(tuple(head), tuple(rows), "r" * len(head), what)


def _said(curve: Curve) -> str:
    value = curve.radius if curve.rate == curve.rate else curve.scale
    return "" if value is None else f"spectral radius {value:.2f}: "


def _alt(curves: Sequence[Curve], state: str) -> str:
    factors = [c.factor(state) for c in curves]  # none where it is zero at once
    fates = (_fate(x if x == x else 0.0, x) for x in factors)
    lines = "; ".join(f"{_said(c)}it {fate}" for c, fate in zip(curves, fates, strict=True))
    return (
        f"Line chart, logarithmic vertical axis: norm of the gradient by {state} against the lag from 0 to"
        f" {FLOW_STEPS - 1} steps. {lines}."
    )


# ------------------------------------------------------------------------------------------------------------- spectra


def _ranks(curves: Sequence[Curve]) -> Parts:
    """How many directions are left far back."""
    left = [int((c.log_singular[-1] > c.log_singular[-1, 0] - np.log(1e3)).sum()) for c in curves]
    size = curves[0].log_singular.shape[1]
    if min(left) == size:
        return ("Every direction of the state is carried back alike: all singular values stay together. ",)
    counts: list[Parts] = [(Quantity(float(n), 2.0, ".0f"),) for n in left]
    return (
        "Far back, few directions are left: ",
        Math(str(FLOW_STEPS)),
        " steps before the end ",
        *joined(counts, last=" and "),
        f" of {size} singular values are within a factor of a thousand of the largest",
        *((", which goes with ", Math(r"\rho(J)^{T-t}")) if _is_still(curves) else ()),
        ". ",
    )


def _spectrum_drawn(curves: Sequence[Curve]) -> Parts:
    several, name, beside = len(curves[0].logs) > 1, next(iter(curves[0].logs)), ""
    if several or r"\mathrm" in name_latex(name):  # a long name is longer than a line
        name, beside = "s", ", all states side by side" if several else ", written s for its length"
    return (
        "Drawn are the singular values of ",
        Math(rf"\partial {name_latex(name, 'T')} / \partial {name_latex(name, 't')} = J_T \cdots J_{{t+1}}"),
        f"{beside}, of the same networks: the largest with markers",
        ", dashed the rate of theory." if _is_still(curves) else ".",
    )


def _singular(curves: Sequence[Curve]) -> Table:
    size = curves[0].log_singular.shape[1]
    second = min(size - 1, size // 4)
    head: list[Parts] = [("lag",)]
    for c in curves:
        head += [(*_at(c), ": largest"), (*_at(c), f": number {second + 1}")]
    rows: list[tuple[Parts, ...]] = []
    for k, lag in enumerate(curves[0].lags):
        values = [float(np.exp(c.log_singular[k, i])) for c in curves for i in (0, second)]
        rows.append(((str(int(lag)),), *((Quantity(v, 1.5 if v > 1e-12 else 100.0),) for v in values)))
    return Table(tuple(head), tuple(rows), "r" * len(head))
