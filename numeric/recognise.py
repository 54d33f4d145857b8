"""Calls that are like an earlier one: the same names, shapes and dtypes need no second check, only their numbers do.

A call is recognised where everything is the array that the engine would have made of it.  Whatever is not takes the
long way, where every error is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array
from numeric.blas_threads import one_blas_thread
from numeric.problem import Problem

__all__ = ["Recogniser"]

_KNOWN = frozenset(("loss", "at", "on", "reduction"))
_T = TypeVar("_T")
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_PLAIN = 0x1 | 0x100  # NumPy's flags of arrays that are C-contiguous and aligned
_AS_IT_IS = nullcontext()
_LONG = 1 << 13  # numbers from which a BLAS may think of threads for a product of two vectors
_FEW = 1 << 12  # numbers of parameters up to which one call for all costs less than a call for each
_MOST = 64  # calls that are remembered; more of them than any program has shapes


class Recogniser:
    """Remembers checked calls of one cell and dtype."""

    def __init__(self, cell: Cell, dtype: np.dtype[Any]) -> None:
        self.cell, self.dtype, self.single = cell, dtype, len(cell.inputs) == 1
        self.names = tuple(cell.parameters)
        self.input = cell.inputs[0] if self.single else ""
        self.known: dict[Any, tuple[Problem, int, bool, bool]] = {}

    def key(self, params: Any, inputs: Any, targets: Any, options: Mapping[str, Any]) -> Any:
        """What has to be the same; None where a call can only go the long way."""
        if type(params) is not dict or len(params) != len(self.names) or not self.single:
            return None
        if not _KNOWN.issuperset(options) or type(targets) is not np.ndarray or not targets.dtype.isnative:
            return None
        for value in options.values():
            if value is not None and type(value) is not str:
                return None
        shapes = [targets.shape]
        for array in (*map(params.get, self.names), inputs):
            if type(array) is not np.ndarray or array.dtype != self.dtype or array.flags.num & _PLAIN != _PLAIN:
                return None
            shapes.append(array.shape)
        if targets.flags.num & _PLAIN != _PLAIN:
            return None
        return (*shapes, targets.dtype, *options.items())

    def find(self, key: Any, params: dict[str, Array], inputs: Array, targets: Array) -> Problem | None:
        """The checked call, if an earlier one was like it and the numbers of this one are sound."""
        known = self.known.get(key)
        if known is None:
            return None
        problem, classes, long, few = known
        # the BLAS has threads for long vectors, too; short ones are not worth asking for one only
        with one_blas_thread if long else _AS_IT_IS:
            return self._sound(problem, classes, few, params, inputs, targets)

    def _sound(
        self, problem: Problem, classes: int, few: bool, params: dict[str, Array], inputs: Array, targets: Array
    ) -> Problem | None:
        """The call as an earlier one was checked, if its numbers are finite and its classes are there."""
        numbers = [*map(params.__getitem__, self.names)]
        if not (_finite(inputs) and all(map(_finite, [np.concatenate(numbers, None)] if few else numbers))):
            return None
        if classes:
            bits = targets.view(_UNSIGNED[targets.itemsize])
            if bits.item(bits.argmax()) >= classes:  # what is negative is large there
                return None
            if classes > 1 << (8 * targets.itemsize - 1) and targets.min() < 0:  # unless classes are so many
                return None
        elif not _finite(targets):
            return None
        full = dict.fromkeys(problem.loss.full, targets)
        data = _changed(problem.data, {"params": params.copy(), "inputs": {self.input: inputs}})
        return _changed(problem, {"data": data, "loss": _changed(problem.loss, {"full": full, "given": full})})

    def remember(self, key: Any, problem: Problem, targets: Any) -> None:
        """Recognise this call from now on, where there is one array of targets and nothing else."""
        if key is None or problem.data.lengths is not None or len(problem.loss.full) != 1:
            return
        (given,) = problem.loss.full.values()
        indices = given.dtype.kind in "iu" and problem.loss.name == "softmax_cross_entropy"
        if not indices and given is not targets:
            return
        if len(self.known) >= _MOST:
            self.known.clear()
        (root,) = problem.loss.full
        classes = problem.data.sizes[self.cell.axes[root]] if indices else 0
        assert problem.loss.kind
        assert problem.data.shape
        blank = _changed(problem.data, {"params": {}, "inputs": {}})
        empty = _changed(problem.loss, {"full": {root: given[:0]}, "given": {}})
        arrays = (*problem.data.params.values(), *problem.data.inputs.values(), given)
        long = max(array.size for array in arrays) > _LONG
        few = sum(x.size for x in problem.data.params.values()) <= _FEW
        self.known[key] = _changed(problem, {"data": blank, "loss": empty}), classes, long, few


def _finite(array: Array) -> bool:
    """Whether numbers are finite: they are where their sum of squares is; where that overflows, nobody knows."""
    flat = array.reshape(-1)
    total = flat.dot(flat)
    return bool(total - total == 0)


def _changed(old: _T, changes: dict[str, Any]) -> _T:
    """A frozen object with some of its attributes changed, what it has worked out about itself kept."""
    new = object.__new__(type(old))
    object.__setattr__(new, "__dict__", old.__dict__ | changes)
    return new
