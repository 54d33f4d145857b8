"""How a library lays out weights: each of its arrays is made of our parameters, and its gradient falls apart into ours.

The layout is data: ``Block(("W_i", "W_f", "W_g", "W_o"), transposed=True)`` stacks four of our matrices, rows upon
rows, and transposes the whole.  A name with "=" before it, "=b_i", is a second bias where the equations have one: it is
set to zero and must get the gradient of ``b_i``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array

__all__ = ["Block", "blocks_of_parameters", "check_cover", "gates", "pack", "unpack"]


@dataclass(frozen=True)
class Block:
    """One array of a library: the ``names`` one under the other, split into ``rows`` of equal length, transposed.

    A name that the cell does not have is zero, and its gradient is left alone: a GRU with the bias ``c_n`` is judged
    as one without it.
    """

    names: tuple[str, ...]
    transposed: bool = False
    rows: int | None = None

    def pack(self, params: Mapping[str, Array]) -> Array:
        """The library's array."""
        like = _first(self.names, params)
        parts = [params[n] if n in params else np.zeros_like(like) for n in self.names]
        whole = np.concatenate(parts)
        whole = whole if self.rows is None else whole.reshape(self.rows, -1)
        return np.ascontiguousarray(whole.T) if self.transposed else whole

    def unpack(self, gradient: Array) -> list[tuple[str, Array]]:
        """The gradients of the names; of a second bias under the name of the first."""
        whole = gradient.T if self.transposed else gradient
        whole = whole if self.rows is None else whole.reshape(-1, *whole.shape[2:])
        parts = np.split(whole, len(self.names))
        return [(name.removeprefix("="), part) for name, part in zip(self.names, parts, strict=True)]


def _first(names: tuple[str, ...], params: Mapping[str, Array]) -> Array:
    """An array of the size of those in a block: zeros are like it."""
    for name in names:
        if name.removeprefix("=") in params:
            return params[name.removeprefix("=")]
    raise ValueError(f"the cell has none of the parameters {', '.join(names)}")


def gates(prefix: str, letters: str) -> tuple[str, ...]:
    """Names of one kind of parameter in a library's order of gates.

    >>> gates("W", "ifgo")
    ('W_i', 'W_f', 'W_g', 'W_o')
    """
    return tuple(f"{prefix}_{letter}" for letter in letters)


def blocks_of_parameters(names: Any) -> dict[str, Block]:
    """Every parameter by itself, as it is."""
    return {name: Block((name,)) for name in names}


def pack(blocks: Mapping[str, Block], params: Mapping[str, Array]) -> dict[str, Array]:
    """All arrays of a library."""
    whole = {name: np.asarray(p) for name, p in params.items()}
    return {key: block.pack(whole) for key, block in blocks.items()}


def unpack(
    blocks: Mapping[str, Block], gradients: Mapping[str, Array], params: Mapping[str, Array]
) -> dict[str, Array]:
    """The gradients of our parameters.

    Where a parameter's gradient is there more than once, as that of two biases is, entries are taken from each in
    turn: so all of them are judged, and no bound is needed on how much they may differ.
    """
    found: dict[str, list[Array]] = {name: [] for name in params}
    for key, block in blocks.items():
        for name, part in block.unpack(np.asarray(gradients[key])):
            if name in found:
                found[name].append(part)
    return {name: _in_turn(parts).reshape(params[name].shape) for name, parts in found.items()}


def _in_turn(parts: list[Array]) -> Array:
    out: Array = np.array(parts[0])
    for k, part in enumerate(parts):
        out.reshape(-1)[k :: len(parts)] = np.ascontiguousarray(part).reshape(-1)[k :: len(parts)]
    return out


def check_cover(what: str, blocks: Mapping[str, Block], cell: Any) -> None:
    """Raise ValueError where a cell's parameters are not those that a layer has."""
    held = {name.removeprefix("=") for block in blocks.values() for name in block.names}
    missing = [name for name in cell.parameters if name not in held]
    if missing:
        raise ValueError(
            f"{what} has no place for {', '.join(missing)} of the cell {cell.name}; "
            "leave the cell out to judge it as what it computes, or give a function that computes this cell"
        )
