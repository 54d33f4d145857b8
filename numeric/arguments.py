"""What a user hands in, checked and made uniform: every error names the array, its shape and the one expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from derive.cell import Cell
from derive.errors import nearest

__all__ = [
    "DTYPES",
    "Array",
    "Data",
    "as_array",
    "as_dtype",
    "check_data",
    "check_finite",
    "check_known",
    "check_lengths",
    "check_sizes",
    "positive_integer",
    "raw_array",
    "unpadded",
]

Array = NDArray[Any]
DTYPES = ("float32", "float64", "complex128")
_LOOKED_AT = 1 << 16  # numbers at a time, so that a look at all of them takes no room


@dataclass(frozen=True)
class Data:
    """Checked arguments: ``params`` by name, ``inputs`` (T, B, size) by name, ``initial`` (B, size) for every state.

    ``lengths`` is (B,) or None where all sequences have ``steps`` steps; padding in the inputs is zero.
    """

    dtype: np.dtype[Any]
    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    lengths: Array | None
    steps: int
    batch: int
    sizes: dict[str, int]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """All sizes, in the order of the cell's letters."""
        return tuple(self.sizes.values())

    @property
    def mask(self) -> Array | None:
        """(T, B), True where a step belongs to its sequence; None without lengths."""
        return None if self.lengths is None else np.arange(self.steps)[:, None] < self.lengths[None, :]


# --------------------------------------------------------------------------------------------------------- one array


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """One of ``DTYPES``; raises ValueError for anything else."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or str(found) not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    return found


def raw_array(name: str, value: Any) -> Array:
    """``value`` as an array of numbers of any kind."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; fill it, and say with lengths= where sequences end")
    try:
        array = np.asarray(value, order="C")  # so that no number depends on how the author's lies in memory
    except Exception as error:  # whatever a foreign array raises when it is asked for its numbers
        raise ValueError(f"{name} is not an array: {error}") from None
    if array.dtype.kind not in "iufc":
        what = "is None" if value is None else f"has type {type(value).__name__} and dtype {array.dtype}"
        raise ValueError(f"{name} {what}; expected an array of numbers")
    return array


def as_array(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """``value`` as an array of ``dtype``; raises ValueError where that would change numbers.

    Python numbers and lists of them take ``dtype``; an array's own dtype is its author's choice.
    """
    array = raw_array(name, value)
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "iu":
        largest = 2 ** (np.finfo(dtype).nmant + 1)
        if array.size and not -largest <= array.min() <= array.max() <= largest:
            raise ValueError(f"{name} holds integers beyond {largest}, which {dtype} cannot hold")
    elif array.dtype.kind == "c" and dtype.kind != "c":
        raise ValueError(f"{name} is complex; the engine computes in {dtype}")
    elif hasattr(value, "dtype") and not np.can_cast(array.dtype, dtype, "safe"):
        hint = f"convert it with astype({str(dtype)!r})"
        raise ValueError(f"{name} has dtype {array.dtype}; the engine computes in {dtype}; {hint}")
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def check_finite(name: str, array: Array) -> Array:
    """``array``; raises ValueError that says where it is not finite."""
    flat = array.reshape(-1)
    if not all(np.isfinite(flat[k : k + _LOOKED_AT]).all() for k in range(0, flat.size, _LOOKED_AT)):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}, of shape {array.shape}, holds {array[where]} at {where}; expected finite numbers")
    return array


def unpadded(name: str, array: Array, lengths: Array | None) -> Array:
    """Padding replaced by zero, whatever it holds; the rest must be finite."""
    if lengths is not None:
        inside = np.arange(array.shape[0])[:, None, None] < lengths[None, :, None]
        array = np.where(inside, array, np.zeros((), array.dtype))
    return check_finite(name, array)


# ------------------------------------------------------------------------------------------------- names and numbers


def check_known(what: str, given: Iterable[str], expected: Iterable[str]) -> None:
    """Raise ValueError for a name that is not expected."""
    expected, given = tuple(expected), tuple(given)
    for name in given:
        if name not in expected:
            near = nearest(str(name), [other for other in expected if other not in given] or expected)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"unknown {what} {name!r}; expected {', '.join(expected) or 'none'}{hint}")


def _check_names(what: str, given: Iterable[str], expected: Iterable[str]) -> None:
    """Raise ValueError unless exactly the expected names are given."""
    expected, given = tuple(expected), tuple(given)
    check_known(what, given, expected)
    missing = [name for name in expected if name not in given]
    if missing:
        raise ValueError(f"missing {what} {', '.join(missing)}; expected {', '.join(expected)}")


def positive_integer(name: str, n: Any) -> int:
    """``n`` as an int; raises ValueError for what is no whole number from 1 on."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"{name} is {n!r}; expected a positive integer")
    return int(n)


def check_sizes(cell: Cell, given: Mapping[str, Any]) -> dict[str, int]:
    """One positive integer for each size letter."""
    _check_names("size", given, cell.dimensions)
    return {letter: positive_integer(f"the size {letter}", given[letter]) for letter in cell.dimensions}


class _Sizes:
    """Sizes of letters, each with the array that it was first read from."""

    def __init__(self) -> None:
        self.of: dict[str, tuple[int, str]] = {}

    def match(self, name: str, array: Array, shape: tuple[str, ...]) -> None:
        """Learn sizes from an array; raises ValueError where it contradicts what is known."""
        if 0 in array.shape and array.ndim == len(shape):
            letter = shape[array.shape.index(0)]
            raise ValueError(f"{name} has shape {array.shape}: {letter} = 0; expected at least 1")
        known = {x: self.of[x] for x in shape if x in self.of}
        found = {x: (n, name) for x, n in zip(shape, array.shape, strict=False)} | known
        if array.ndim != len(shape) or any(found[x][0] != n for x, n in zip(shape, array.shape, strict=True)):
            raise ValueError(f"{name} has shape {array.shape}; expected {_shape(shape, known)}")
        self.of |= found


def _shape(shape: tuple[str, ...], known: Mapping[str, tuple[int, str]]) -> str:
    """A shape in letters, with what is known of them."""
    letters = ", ".join(shape) + ("," if len(shape) == 1 else "")
    where = ", ".join(f"{x} = {n} as in {source}" for x, (n, source) in known.items())
    square = ", a square matrix" if len(shape) == 2 and len(set(shape)) == 1 else ""
    return f"({letters}){square}" + (f" with {where}" if where else "") + ("" if shape else ", a scalar")


# -------------------------------------------------------------------------------------------------------- everything


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

    ``steps`` and ``batch`` say T and B where a cell has no inputs; elsewhere they must agree with the inputs.
    """
    sizes = _Sizes()
    given = _mapping("params", params, cell.parameters)
    _check_names("parameter", given, cell.parameters)
    found_params = {}
    for name, shape in cell.parameters.items():
        found_params[name] = check_finite(name, as_array(name, given[name], dtype))
        sizes.match(name, found_params[name], shape)
    found_inputs = {name: as_array(name, value, dtype) for name, value in _inputs(cell, inputs).items()}
    for name, array in found_inputs.items():
        sizes.match(name, array, ("T", "B", cell.axes[name]))
    found_initial = _initial(cell, dtype, initial, sizes)
    total, count = _extent("steps", "T", sizes, steps), _extent("batch", "B", sizes, batch)
    checked_lengths = check_lengths(lengths, total, count)
    found_inputs = {name: unpadded(name, array, checked_lengths) for name, array in found_inputs.items()}
    for name in cell.states:
        if name not in found_initial:
            found_initial[name] = np.zeros((count, _size(cell, cell.axes[name], name, sizes)), dtype)
    extents = {letter: _size(cell, letter, names[0], sizes) for letter, names in cell.dimensions.items()}
    return Data(dtype, found_params, found_inputs, found_initial, checked_lengths, total, count, extents)


def _mapping(what: str, given: Any, expected: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        kind = "is None" if given is None else f"has type {type(given).__name__}"
        names = ", ".join(expected)
        raise ValueError(f"{what} {kind}; expected {f'a dict of {names}' if names else 'an empty dict'}")
    return given


def _inputs(cell: Cell, inputs: Any) -> dict[str, Any]:
    if not isinstance(inputs, Mapping):
        if len(cell.inputs) == 1 and inputs is not None:
            return {cell.inputs[0]: inputs}
        if not cell.inputs and inputs is None:
            return {}
    given = _mapping("inputs", inputs, cell.inputs)
    _check_names("input", given, cell.inputs)
    return {name: given[name] for name in cell.inputs}


def _initial(cell: Cell, dtype: np.dtype[Any], initial: Any, sizes: _Sizes) -> dict[str, Array]:
    given = {} if initial is None else _mapping("initial", initial, cell.states)
    check_known("initial state", given, cell.states)
    out = {}
    for name in (n for n in cell.states if n in given):
        out[name] = check_finite(f"initial {name}", as_array(f"initial {name}", given[name], dtype))
        sizes.match(f"initial {name}", out[name], ("B", cell.axes[name]))
    return out


def _size(cell: Cell, letter: str, name: str, sizes: _Sizes) -> int:
    if letter not in sizes.of:
        hint = f"; give initial={{{name!r}: ...}} of shape (B, {letter})" if name in cell.states else ""
        raise ValueError(f"nothing says how large {letter}, the size of {name}, is{hint}")
    return sizes.of[letter][0]


def _extent(name: str, letter: str, sizes: _Sizes, given: Any) -> int:
    """T or B, as an array or ``steps``, ``batch`` say it."""
    said = None if given is None else positive_integer(name, given)
    if letter in sizes.of:
        n, source = sizes.of[letter]
        if said not in (None, n):
            raise ValueError(f"{name} is {said}, but {letter} is {n} in {source}")
        return n
    if said is None:
        raise ValueError(f"nothing says how large {letter} is: the cell has no inputs; give {name}=")
    return said


def check_lengths(lengths: Any, steps: int, batch: int) -> Array | None:
    """Each sequence's number of steps; None where all have all of them."""
    if lengths is None:
        return None
    array = raw_array("lengths", lengths)
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        expected = f"expected {batch} integers, shape ({batch},)"
        raise ValueError(f"lengths has shape {array.shape} and dtype {array.dtype}; {expected}")
    if array.min() < 1 or array.max() > steps:
        raise ValueError(f"lengths runs from {array.min()} to {array.max()}; expected 1 to T = {steps}")
    return None if array.min() == steps else array.astype(np.int64)
