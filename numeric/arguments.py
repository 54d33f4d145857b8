"""What a user hands in, checked and made uniform: every error names the array, its shape and the one expected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derive.cell import Cell
from derive.errors import nearest

__all__ = ["DTYPES", "Array", "Data", "as_array", "check_data", "check_sizes"]

Array = NDArray[Any]
DTYPES = ("float32", "float64", "complex128")


@dataclass(frozen=True)
class Data:
    """Checked arguments: ``params`` by name, ``inputs`` (T, B, size) by name, ``initial`` (B, size) for every state.

    ``lengths`` is (B,) or None where all sequences have ``steps`` steps; padding in the inputs is zero.
    """

    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    lengths: Array | None
    steps: int
    batch: int
    sizes: dict[str, int]

    @property
    def mask(self) -> Array | None:
        """(T, B), True where a step belongs to its sequence; None without lengths."""
        return None if self.lengths is None else np.arange(self.steps)[:, None] < self.lengths[None, :]


def as_array(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """``value`` as an array of ``dtype``; raises ValueError where that would change numbers."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    if array.dtype == dtype:
        return array
    # Python numbers and lists of them take the engine's dtype; an array's own dtype is its author's choice
    written = not hasattr(value, "dtype") and array.dtype.kind in "fi"
    exact = array.dtype.kind in "iu" and array.size and np.abs(array.astype(np.float64)).max() <= 2**24
    if written or exact or (array.dtype.kind in "fiu" and np.can_cast(array.dtype, dtype, "safe")):
        return array.astype(dtype)
    hint = f"; convert it with astype({str(dtype)!r})" if array.dtype.kind in "fc" else ""
    raise ValueError(f"{name} has dtype {array.dtype}; the engine computes in {dtype}{hint}")


def _finite(name: str, array: Array) -> Array:
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}, of shape {array.shape}, holds {array[where]} at {where}; expected finite numbers")
    return array


def _known(what: str, given: Mapping[str, Any], expected: Mapping[str, Any] | tuple[str, ...], *, every: bool) -> None:
    for name in given:
        if name not in expected:
            near = nearest(str(name), expected)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"unknown {what} {name!r}; expected {', '.join(expected) or 'none'}{hint}")
    missing = [name for name in expected if name not in given] if every else []
    if missing:
        raise ValueError(f"missing {what} {', '.join(missing)}; expected {', '.join(expected)}")


def check_sizes(cell: Cell, given: Mapping[str, Any]) -> dict[str, int]:
    """One positive integer for each size letter."""
    _known("size", given, tuple(cell.dimensions), every=True)
    for letter, n in given.items():
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"the size {letter} is {n!r}; expected a positive integer")
    return {letter: int(given[letter]) for letter in cell.dimensions}


class _Sizes:
    """Sizes of letters, each with the array that it was first read from."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, str]] = {}

    def match(self, name: str, array: Array, shape: tuple[str, ...]) -> None:
        expected = tuple(self.of[x][0] if x in self.of else x for x in shape)
        wrong = array.ndim != len(shape) or any(
            isinstance(e, int) and e != n for e, n in zip(expected, array.shape, strict=False)
        )
        if wrong:
            letters = ", ".join(shape) + ("," if len(shape) == 1 else "")
            known = ", ".join(
                f"{x} = {self.of[x][0]} as in {self.of[x][1]}" for x in dict.fromkeys(shape) if x in self.of
            )
            suffix = f" with {known}" if known else ""
            raise ValueError(f"{name} has shape {array.shape}; expected ({letters}){suffix}")
        for x, n in zip(shape, array.shape, strict=True):
            if n == 0:
                raise ValueError(f"{name} has shape {array.shape}: {x} = 0; expected at least 1")
            self.of.setdefault(x, (n, name))
        # a letter that stands twice, as in (H, H)
        if any(self.of[x][0] != n for x, n in zip(shape, array.shape, strict=True)):
            letters = ", ".join(shape)
            raise ValueError(f"{name} has shape {array.shape}; expected ({letters}), a square matrix")


def check_data(
    cell: Cell,
    dtype: np.dtype[Any],
    params: Any,
    inputs: Any,
    initial: Any = None,
    lengths: Any = None,
    *,
    steps: int | None = None,
    batch: int | None = None,
) -> Data:
    """Check and convert everything that a forward pass needs.

    ``steps`` and ``batch`` are what the loss's arrays say; they count where a cell has no inputs.
    """
    if not isinstance(params, Mapping):
        raise ValueError(
            f"params is a {type(params).__name__}; expected a dict of {', '.join(cell.parameters) or 'nothing'}"
        )
    _known("parameter", params, tuple(cell.parameters), every=True)
    sizes = _Sizes()
    found_params = {}
    for name, shape in cell.parameters.items():
        found_params[name] = _finite(name, as_array(name, params[name], dtype))
        sizes.match(name, found_params[name], shape)
    raw = _inputs(cell, inputs)
    found_inputs = {name: as_array(name, value, dtype) for name, value in raw.items()}
    for name, array in found_inputs.items():
        sizes.match(name, array, ("T", "B", cell.axes[name]))
    found_initial = _initial(cell, dtype, initial, sizes)
    total_steps, count = _extent("T", sizes, steps), _extent("B", sizes, batch)
    checked_lengths = _lengths(lengths, total_steps, count)
    for name, array in found_inputs.items():
        found_inputs[name] = _unpadded(name, array, checked_lengths)
    for name in cell.states:
        letter = cell.axes[name]
        if name not in found_initial:
            if letter not in sizes.of:
                raise ValueError(
                    f"nothing says how large {letter}, the size of {name}, is; give initial={{{name!r}: (B, {letter})}}"
                )
            found_initial[name] = np.zeros((count, sizes.of[letter][0]), dtype)
    for name, letter in cell.axes.items():
        if letter not in sizes.of:
            raise ValueError(f"nothing says how large {letter}, the size of {name}, is")
    extents = {x: sizes.of[x][0] for x in cell.dimensions}
    return Data(found_params, found_inputs, found_initial, checked_lengths, total_steps, count, extents)


def _inputs(cell: Cell, inputs: Any) -> dict[str, Any]:
    if not isinstance(inputs, Mapping):
        if len(cell.inputs) == 1 and inputs is not None:
            return {cell.inputs[0]: inputs}
        if not cell.inputs and inputs is None:
            return {}
        kind = "None" if inputs is None else f"a {type(inputs).__name__}"
        raise ValueError(
            f"inputs is {kind}; expected a dict with {', '.join(cell.inputs) or 'nothing: the cell has no inputs'}"
        )
    _known("input", inputs, cell.inputs, every=True)
    return dict(inputs)


def _initial(cell: Cell, dtype: np.dtype[Any], initial: Any, sizes: _Sizes) -> dict[str, Array]:
    if initial is None:
        return {}
    if not isinstance(initial, Mapping):
        raise ValueError(f"initial is a {type(initial).__name__}; expected a dict of {', '.join(cell.states)}")
    _known("initial state", initial, cell.states, every=False)
    out = {}
    for name, value in initial.items():
        out[name] = _finite(f"initial {name}", as_array(f"initial {name}", value, dtype))
        sizes.match(f"initial {name}", out[name], ("B", cell.axes[name]))
    return out


def _extent(letter: str, sizes: _Sizes, given: int | None) -> int:
    if letter in sizes.of:
        n, source = sizes.of[letter]
        if given is not None and given != n:
            raise ValueError(f"{letter} is {n} in {source} and {given} in the loss's arrays or in steps=, batch=")
        return n
    if given is None:
        raise ValueError(f"nothing says how large {letter} is; the cell has no inputs, so give steps= and batch=")
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise ValueError(f"{letter} is {given!r}; expected a positive integer")
    return int(given)


def _lengths(lengths: Any, steps: int, batch: int) -> Array | None:
    if lengths is None:
        return None
    array = np.asarray(lengths)
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"lengths has shape {array.shape} and dtype {array.dtype}; expected {batch} integers, shape ({batch},)"
        )
    if array.size and (array.min() < 1 or array.max() > steps):
        raise ValueError(f"lengths runs from {array.min()} to {array.max()}; expected 1 to T = {steps}")
    return array.astype(np.int64)


def _unpadded(name: str, array: Array, lengths: Array | None) -> Array:
    """Padding replaced by zero, whatever it holds; the rest must be finite."""
    if lengths is not None:
        inside = np.arange(array.shape[0])[:, None, None] < lengths[None, :, None]
        array = np.where(inside, array, np.zeros((), array.dtype))
    return _finite(name, array)
