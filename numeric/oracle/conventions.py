"""Right numbers in another layout: transposed, batch first, flat, stacked, or under other names.

Nothing is assumed about who computed them: a layout counts where every tensor of every case that is not right as it
stands is right in that layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from derive.cell import Cell
from derive.mistakes.order import gate_groups
from numeric.arguments import Array
from numeric.oracle.evidence import REPRODUCES, Evidence
from numeric.oracle.frameworks import framework_of, gate_names, in_words
from numeric.tangent import program_of

__all__ = ["LayoutFound", "gate_order", "layout", "names_moved", "under_other_names"]


def _reshaped(x: Array, shape: tuple[int, ...], *, squeezed: bool = False) -> Array:
    alike = x.size == np.prod(shape) and (x.squeeze().shape == np.empty(shape).squeeze().shape if squeezed else True)
    return x.reshape(shape) if alike and x.shape != shape else x


#: A layout in words, and how an array of it is turned into ours; the shape is ours.
LAYOUTS: tuple[tuple[str, Callable[[Array, tuple[int, ...]], Array]], ...] = (
    ("transposed, (columns, rows), as Keras and Flax have it", lambda x, shape: x.T if x.ndim == 2 else x),
    ("batch first, (B, T, size)", lambda x, shape: x.swapaxes(0, 1) if x.ndim == 3 else x),
    ("(T, size, B), the sequences last", lambda x, shape: x.transpose(0, 2, 1) if x.ndim == 3 else x),
    ("(size, B), the sequences last", lambda x, shape: x.T if x.ndim == 2 else x),
    ("without its axes of size 1, or with more of them", lambda x, shape: _reshaped(x, shape, squeezed=True)),
    ("flat, row by row", _reshaped),
    ("flat, column by column", lambda x, shape: _reshaped(x, shape[::-1]).T),
)


@dataclass(frozen=True)
class LayoutFound:
    """Which tensors are right in which layout; ``mistake`` where the catalogue has a name for it."""

    words: str
    mistake: str | None = None


def layout(cell: Cell, evidence: Sequence[Evidence]) -> LayoutFound | None:
    """The layout in which everything is right, if there is one."""
    found: dict[str, set[str]] = {}
    for e in evidence:
        if e.missing:
            return None
        for name in e.wrong:
            fitting = {words for words, turned in LAYOUTS if _fits(e, name, turned, e.found[name], words)}
            found[name] = found[name] & fitting if name in found else fitting
    chosen = {n: next((w for w, _ in LAYOUTS if w in own), None) for n, own in found.items()}
    if not chosen or None in chosen.values():
        return None
    by_words: dict[str, list[str]] = {}
    for name, words in chosen.items():
        by_words.setdefault(str(words), []).append(name)
    if LAYOUTS[0][0] in by_words and not _all_matrices(cell, by_words[LAYOUTS[0][0]], evidence):
        return None
    said = "; ".join(f"{', '.join(names)} {words}" for words, names in by_words.items())
    only_turned = set(by_words) == {LAYOUTS[0][0]}
    return LayoutFound(f"right, in another layout: {said}", "weight-transposed" if only_turned else None)


def _fits(e: Evidence, name: str, turned: Callable[..., Array], x: Array, words: str) -> bool:
    parameter = name in e.case.params
    if words.startswith("(size, B)" if parameter else "transposed"):
        return False
    exact = e.exact(name)
    again = turned(x, exact.shape)
    return again.shape == exact.shape and e.misfit(name, exact, again) <= REPRODUCES


def _all_matrices(cell: Cell, turned: Sequence[str], evidence: Sequence[Evidence]) -> bool:
    """Whether a transpose is a layout, not a mistake: every matrix that was returned has it."""
    matrices = {n for n, shape in cell.parameters.items() if len(shape) == 2}
    seen = {n for e in evidence for n in e.found if n in matrices and 1 not in e.exact(n).shape}
    return seen <= set(turned)


# ---------------------------------------------------------------------------------------------------------- other names


def names_moved(evidence: Sequence[Evidence]) -> dict[str, str]:
    """Of every wrong tensor, whose right gradient it is; {} where that is not so for all."""
    wrong = list(dict.fromkeys(n for e in evidence for n in e.wrong))
    known = [n for e in evidence[:1] for n in e.gradients_found]
    found: dict[str, str] = {}
    for name in wrong:
        own = [m for m in known if m != name and all(_stands_for(e, name, m) for e in evidence)]
        if not own:
            return {}
        found[name] = next((m for m in own if m in wrong and m not in found.values()), own[0])
    return found


def _stands_for(e: Evidence, name: str, other: str) -> bool:
    if name not in e.found or other not in e.gradients_found:
        return name not in e.found
    return e.exact(other).shape == e.found[name].shape and _apart(e, name, other) <= REPRODUCES


def _apart(e: Evidence, name: str, other: str) -> float:
    return e.misfit(other, e.exact(other), e.found[name])


def gate_order(cell: Cell, moved: Mapping[str, str]) -> tuple[int, ...] | None:
    """The order of whole gates that moved names amount to; None where they do not."""
    groups = gate_groups(cell, program_of(cell))
    order = []
    for group in groups:
        sources = [moved.get(n, n) for n in group]
        own = [j for j, other in enumerate(groups) if list(other) == sources]
        if not own:
            return None
        order.append(own[0])
    whole = set(moved) <= {n for group in groups for n in group}
    return tuple(order) if whole and sorted(order) == list(range(len(groups))) else None


def order_in_words(cell: Cell, order: Sequence[int]) -> str:
    """What is said about gates' gradients in another order."""
    return f"right, in another order of the gates: {in_words(cell, order)}"


def under_other_names(cell: Cell, evidence: Sequence[Evidence]) -> tuple[str, bool] | None:
    """What stands where for gradients that are missing, and whether that is a way of stacking them."""
    lost = [e for e in evidence if e.missing]
    if not lost:
        return None
    said: dict[str, None] = {}
    stacked = False
    for e in lost:
        extra = {n: x for n, x in e.misshapen.items() if n not in e.case.gradients()}
        left = set(e.missing)
        for key, x in extra.items():
            for name, words, blocks in _readings(cell, e, key, x):
                said[words] = None
                stacked, left = stacked or blocks, left - set(name)
        if left:
            return None
    if stacked:
        return "; ".join(said), True
    more = f" and {len(said) - 6} more" if len(said) > 6 else ""
    return f"gradients stand under other names: {', '.join([*said][:6])}{more}", False


def _readings(cell: Cell, e: Evidence, key: str, x: Array) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """The missing gradients that an array of an unknown name holds."""
    for name in e.missing:
        for words, turned in (("", lambda x, shape: x), *LAYOUTS):
            if _fits(e, name, turned, x, words):
                how = f", {words}" if words else ""
                yield (name,), f"{name} under {key}{how}", False
                return
    count = len(gate_groups(cell, program_of(cell)))
    for axis, turn in product(range(min(x.ndim, 2)), (False, True)):
        if count < 2 or x.ndim > 2 or x.shape[axis] % count:
            continue
        blocks = [b.T if turn else b for b in np.split(x, count, axis=axis)]
        names = [next((n for n in e.missing if _is(e, n, block)), None) for block in blocks]
        if None not in names and len(set(names)) == count:
            yield tuple(map(str, names)), _stack_in_words(cell, key, list(map(str, names)), axis, turn), True
            return


def _is(e: Evidence, name: str, block: Array) -> bool:
    return block.shape == e.exact(name).shape and e.misfit(name, e.exact(name), block) <= REPRODUCES


def _stack_in_words(cell: Cell, key: str, names: Sequence[str], axis: int, turned: bool) -> str:
    gates = gate_names(cell)
    groups = gate_groups(cell, program_of(cell))
    order = [gates[k] for n in names for k, group in enumerate(groups) if gates and n in group]
    who = framework_of(order)
    how = "one below another" if axis == 0 else "side by side"
    return (
        f"{key} holds the gradients of {', '.join(names)}{', transposed,' if turned else ''} {how}"
        f"{f', in the order of {who}' if who else ''}"
    )
