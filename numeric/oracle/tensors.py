"""Arrays as JSON, exactly: each number in decimal with 17 digits, and in hexadecimal as C prints and reads it.

    {"dtype": "float64", "shape": [2, 1], "values": [0.10000000000000001, null], "hex": ["0x1.999999999999ap-4", "nan"]}

Numbers stand row by row.  One that is not finite is null in "values".  In reading, "hex" or "values" may be left out,
and so may "dtype" (float64); nested lists of numbers are read, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from numeric.arguments import Array

__all__ = ["DTYPE_NAMES", "check_shape", "dtype_of", "exact_in_json", "tensor_array", "tensor_text"]

_WHOLE = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
#: Types of arrays that files and programs may hold.
DTYPE_NAMES = ("float64", "float32", "float16", "bfloat16", *_WHOLE)
#: Axes of an array, at most.
_AXES = 8


def dtype_of(name: Any) -> np.dtype[Any]:
    """The type of a name; raises ValueError for one that is not known, or needs a package that is not installed."""
    if name not in DTYPE_NAMES:
        raise ValueError(f"the dtype is {str(name)[:40]!r}; expected any of {', '.join(DTYPE_NAMES)}")
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("bfloat16 needs the package ml_dtypes; install it with pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


# --------------------------------------------------------------------------------------------------------- writing


def tensor_text(array: Array, *, decimal: bool = True) -> str:
    """An array in one line of JSON; without ``decimal``, in hexadecimal only."""
    head = f'"dtype": "{array.dtype}", "shape": {list(array.shape)}'
    numbers = array.reshape(-1).tolist() if array.dtype.kind in "iu" else _wide(array).reshape(-1).tolist()
    if array.dtype.kind in "iu":
        return f'{{{head}, "values": [{", ".join(map(str, numbers))}]}}'
    hexes = ", ".join(f'"{float(x).hex()}"' for x in numbers)
    values = f'"values": [{", ".join(map(_decimal, numbers))}], ' if decimal else ""
    return f'{{{head}, {values}"hex": [{hexes}]}}'


def exact_in_json(array: Array) -> bool:
    """Whether JSON brings every bit back: not those that a NaN carries."""
    if array.dtype.kind in "iu":
        return True
    wide = _wide(array)
    plain = np.where(np.isnan(wide), np.nan, wide).astype(array.dtype)
    return plain.tobytes() == array.tobytes()


def _decimal(x: float) -> str:
    return f"{x:.17g}" if math.isfinite(x) else "null"


def _wide(array: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return array.astype(np.float64)


# --------------------------------------------------------------------------------------------------------- reading


def tensor_array(data: Any) -> Array:
    """The array of an object as above, of nested lists, or of one number.

    Raises ValueError that says what is wrong, for a text such as "the gradient of W_hh: " to be put before.
    """
    if not isinstance(data, Mapping):
        return _nested(data)
    unknown = [key for key in data if key not in ("dtype", "shape", "values", "hex")]
    if unknown:
        raise ValueError(f"the key {unknown[0][:60]!r} is not known; expected dtype, shape, values, hex")
    dtype = dtype_of(data.get("dtype", "float64"))
    shape = check_shape(data.get("shape"))
    read = [_numbers(data[key], key, shape, dtype) for key in ("hex", "values") if data.get(key) is not None]
    if not read:
        raise ValueError("neither 'values' nor 'hex' is there")
    if len(read) == 2 and not _agree(*read):
        raise ValueError("'values' and 'hex' say different numbers")
    return read[0]


def check_shape(shape: Any) -> tuple[int, ...]:
    """A list of whole numbers, as a tuple; raises ValueError for anything else."""
    if not isinstance(shape, list) or len(shape) > _AXES or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"the shape is {str(shape)[:60]}; expected a list of at most {_AXES} whole numbers from 0 on")
    return tuple(shape)


def _numbers(listed: Any, key: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    count = math.prod(shape)
    if not isinstance(listed, list) or len(listed) != count:
        found = f"{len(listed)} numbers" if isinstance(listed, list) else f"a {type(listed).__name__}"
        raise ValueError(f"the shape {list(shape)} says {count} numbers; {key!r} is {found}")
    if dtype.kind in "iu":
        return _whole_numbers(listed, dtype).reshape(shape)
    wide = np.array([_number(x) for x in listed], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        out = wide.astype(dtype)
        if not np.array_equal(out.astype(np.float64), wide, equal_nan=True):
            raise ValueError(f"{key!r} holds numbers that {dtype} cannot hold")
    return out.reshape(shape)


def _whole_numbers(listed: Iterable[Any], dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    for x in listed:
        if type(x) is not int or not limits.min <= x <= limits.max:
            raise ValueError(f"{str(x)[:40]} is no {dtype}")
    return np.array(list(listed), dtype=dtype)


def _number(x: Any) -> float:
    """One number: as such, as text in hexadecimal or decimal, or null for NaN."""
    if x is None:
        return math.nan
    if isinstance(x, str) and len(x) <= 60:
        try:
            return float.fromhex(x) if "x" in x.lower() else float(x)
        except (ValueError, OverflowError):
            pass
    elif isinstance(x, int | float) and not isinstance(x, bool):
        return float(x)
    raise ValueError(f"{str(x)[:40]!r} is no number")


def _agree(a: Array, b: Array) -> bool:
    """The same numbers; in decimal, what is not finite is NaN."""
    return np.array_equal(np.where(np.isfinite(a), a, np.nan), np.where(np.isfinite(b), b, np.nan), equal_nan=True)


def _nested(data: Any) -> Array:
    """Lists in lists, all equally long."""
    shape: list[int] = []
    level = [data]
    while level and isinstance(level[0], list):
        length = len(level[0])
        if any(not isinstance(row, list) or len(row) != length for row in level):
            raise ValueError("its rows are not equally long")
        if len(shape) == _AXES:
            raise ValueError(f"it has more than {_AXES} axes")
        shape.append(length)
        level = [x for row in level for x in row]
    return np.array([_number(x) for x in level], dtype=np.float64).reshape(shape)
