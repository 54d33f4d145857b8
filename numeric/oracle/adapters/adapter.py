"""A layer or a function of some library as an implementation: the case in, gradients under our names out.

The library computes everything: the layer, the readout, the loss and the derivative.  Only the layout of the weights
and the rule for padding (states stay, outputs are zero) are ours.  Where a loss reads a state at every step that the
layer returns at the last one only, as c of an LSTM, the layer is called step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.adapters.library import Library, loss_of
from numeric.oracle.adapters.precision import effective_dtype
from numeric.oracle.adapters.weights import Block, check_cover, pack, unpack
from numeric.oracle.case import Case

__all__ = ["Adapter", "Given", "decline", "padded"]


@dataclass(frozen=True)
class Given:
    """What a layer runs on, as arrays of its library; ``lengths`` is a NumPy array or None."""

    weights: Mapping[str, Any]
    inputs: Mapping[str, Any]
    initial: Mapping[str, Any]
    lengths: Array | None
    case: Case


#: Outputs and states of every step (T, B, size), and of the last step of each sequence (B, size).
Seen = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Adapter:
    """An implementation made of a library's own parts.

    ``run`` computes outputs and states, ``blocks`` gives for a cell how its parameters make up the library's arrays;
    ``cell`` is what the layer computes by its own documentation, or None; ``notes`` are said with every verdict.
    """

    name: str
    library: Library
    run: Callable[[Given], Seen]
    blocks: Callable[[Cell], Mapping[str, Block]]
    cell: Cell | None = None
    said: tuple[str, ...] = ()

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types that are what they are called, by measurement."""
        return tuple(d for d in ("float64", "float32") if effective_dtype(self.library, d) == d)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about how it was judged."""
        doubles = effective_dtype(self.library, "float64")
        lost = f"{self.library.name} computes tanh(A B) of float64 matrices in {doubles}: it is judged in float32"
        return self.said if "float64" in self.dtypes else (*self.said, lost)

    def check(self, cell: Cell) -> None:
        """Raise ValueError for a cell whose parameters the layer does not have."""
        check_cover(self.name, self.blocks(cell), cell)

    def __call__(self, case: Case) -> dict[str, Any]:
        """Gradients, loss and outputs of a case; raises NotImplementedError for what the layer cannot do."""
        if case.truncate is not None:
            raise NotImplementedError(f"{self.library.name} differentiates the whole sequence")
        decline(case, self.library.name, self.dtypes)
        data, blocks = case.problem.data, self.blocks(case.parsed)
        leaves = {f"w:{key}": x for key, x in pack(blocks, data.params).items()}
        leaves |= {f"x:{n}": x for n, x in data.inputs.items()} | {f"s:{n}": s for n, s in data.initial.items()}

        def function(values: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
            given = Given(_part(values, "w:"), _part(values, "x:"), _part(values, "s:"), data.lengths, case)
            every, last = self.run(given)
            if case.at == "every" and set(case.problem.loss.given) & (set(last) - set(every)):
                every, last = self._step_by_step(given)
            return loss_of(self.library, case.problem.loss, every, last, case.dtype), every

        loss, outputs, found = self.library.differentiate(function, leaves, case.dtype, case.digest)
        grads = unpack(blocks, _part(found, "w:"), data.params)
        grads |= _part(found, "x:") | {f"{n}0": g for n, g in _part(found, "s:").items()}
        return {"grads": grads, "loss": loss, "outputs": padded(outputs, case)}

    def _step_by_step(self, given: Given) -> Seen:
        """The layer called for one step after the other: so its last states are those of every step."""
        states, kept = given.initial, []
        for t in range(given.case.T):
            here = {n: x[t : t + 1] for n, x in given.inputs.items()}
            every, states = self.run(replace(given, inputs=here, initial=states, lengths=None))
            kept.append(every | {n: s[None] for n, s in states.items()})
        return {n: self.library.join([step[n] for step in kept]) for n in kept[0]}, {}


def decline(case: Case, library: str, dtypes: tuple[str, ...]) -> None:
    """Raise NotImplementedError for a case that no layer of a library computes."""
    if case.dtype not in ("float64", "float32"):
        raise NotImplementedError(f"{case.dtype} is not asked of {library}")
    if case.dtype not in dtypes:
        raise NotImplementedError(f"{library} computes what it calls {case.dtype} in fewer bits")


def padded(outputs: Mapping[str, Array], case: Case) -> dict[str, Array]:
    """Outputs zero beyond each sequence's end, states as they were at it."""
    lengths = case.problem.data.lengths
    if lengths is None:
        return dict(outputs)
    cell, rows = case.parsed, np.arange(case.B)
    at = np.minimum(np.arange(case.T)[:, None], lengths - 1)
    frozen = {n: np.asarray(y)[at, rows] for n, y in outputs.items()}
    inside = (np.arange(case.T)[:, None] < lengths)[..., None]
    return {n: y if n in cell.states else np.where(inside, y, np.zeros((), y.dtype)) for n, y in frozen.items()}


def _part(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): x for name, x in values.items() if name.startswith(prefix)}
