"""Entrywise calls between two products as one compiled kernel, where the extra `fast` is there.

Every number is loaded once and stored once; what nothing outside of the kernel reads is not stored at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numeric.graph import Op
from numeric.storage import FOREVER, Call, Place, Storage

__all__ = ["Fused", "fuse"]


@dataclass(frozen=True)
class Fused:
    """A kernel over whole buffers: ``arrays`` are (place, source, shift), ``axis`` the size of every member."""

    kernel: Any
    arrays: tuple[tuple[Place, str, int], ...]
    axis: str


def fuse(storage: Storage, calls: Sequence[Call], dtype: str) -> Fused | None:
    """The kernel of some entrywise calls; None where they are not all of one size, or have no compiled form."""
    from numeric.fast.kernel import Spot, Work, compile_kernel, kernel_supports

    ops = [op for call in calls for op in call.ops]
    axis = ops[0].axis
    if axis is None or any(op.axis != axis for op in ops):
        return None
    arrays: dict[tuple[Place, str, int], int] = {}
    shapes: list[str] = []
    inside = set(ops)
    numbers = {op: k for k, op in enumerate(ops)}

    def spot(op: Op) -> Spot | None:
        if op in inside and not _stored(storage, op, inside):
            return Spot(-1, numbers[op])
        place, source, shift = _where(storage, op)
        kind = place.buffer.kind
        scalar = kind == "const" and place.buffer.axes == (None,)
        if not scalar and any(a != axis for a in place.buffer.axes):
            return None
        key = Place(place.buffer, 0), source, shift
        if key not in arrays:
            arrays[key] = len(shapes)
            shapes.append("scalar" if scalar else "vector" if kind == "const" else _shape(place))
        return Spot(arrays[key], place.at)

    work = []
    for op in ops:
        spots = [spot(a) for a in op.args]
        target = spot(op)
        if target is None or any(s is None for s in spots):
            return None
        name = op.data if op.kind == "call" else None
        work.append(Work(op.kind, name, tuple(s for s in spots if s is not None), target, target.array >= 0))
    if not kernel_supports(work) or not {"rows", "columns"}.intersection(shapes):
        return None
    return Fused(compile_kernel(tuple(shapes), tuple(work), dtype), tuple(arrays), axis)


def _shape(place: Place) -> str:
    return "columns" if place.buffer.columns else "rows"


def _stored(storage: Storage, op: Op, inside: set[Op]) -> bool:
    """Whether anything outside of the kernel reads a value."""
    if storage.last[op] == FOREVER or storage.place[op].buffer.kind in ("state", "carry"):
        return True
    return any(user not in inside for user in op.users if user in storage.made)


def _where(storage: Storage, op: Op) -> tuple[Place, str, int]:
    if op.kind == "previous":
        return Place(storage.states[str(op.data)], 0), "buffer", 0
    if op.kind == "carried":
        return Place(storage.carries[str(op.data)], 0), "old", 1
    place = storage.place[op]
    return place, "new" if place.buffer.kind == "carry" else "buffer", 1
