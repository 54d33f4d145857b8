"""Trees of backward equations taken apart and put together again: places in them, times, kinds, lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from derive.cell import Cell
from derive.syntax import (
    Binary,
    Call,
    Indexed,
    Name,
    Negative,
    Number,
    Power,
    Transposed,
    Tree,
    children,
    walk,
)

__all__ = [
    "CLOSED",
    "HERE",
    "Form",
    "Item",
    "Put",
    "below_of",
    "fits",
    "index_of",
    "kind_of",
    "mapped",
    "moved",
    "places",
    "times_in",
    "when_of",
    "with_children",
]

HERE = (0, 0)
CLOSED = ("jacobian", "immediate", "truncated", "softmax", "prod")  # what stands in these stays as it is


# ------------------------------------------------------------------------------------------------------ trees and times


Put = Callable[[Tree], Tree]  # another tree put in one place of a tree


def with_children(tree: Tree, below: tuple[Tree, ...]) -> Tree:
    match tree:
        case Negative() | Transposed():
            return replace(tree, operand=below[0])
        case Power():
            return replace(tree, base=below[0])
        case Binary():
            return replace(tree, left=below[0], right=below[1])
        case Call():
            return replace(tree, arguments=below)
    return tree


def below_of(tree: Tree) -> tuple[Tree, ...]:
    match tree:
        case Negative(operand=x) | Transposed(operand=x) | Power(base=x):
            return (x,)
        case Binary(left=a, right=b):
            return (a, b)
        case Call(name=name, arguments=arguments) if name not in CLOSED:
            return arguments[:1] if name == "sum" else arguments
    return ()


def places(tree: Tree) -> Iterator[tuple[Tree, Put]]:
    """Every subtree that may be rewritten, and how to put another one in its place."""
    yield tree, lambda new: new
    below = below_of(tree)
    for i, child in enumerate(below):
        for part, put in places(child):

            def put_here(new: Tree, i: int = i, put: Put = put) -> Tree:
                changed = (*below[:i], put(new), *below[i + 1 :])
                rest = tree.arguments[len(below) :] if isinstance(tree, Call) else ()
                return with_children(tree, (*changed, *rest))

            yield part, put_here


def mapped(tree: Tree, change: Callable[[Tree], Tree | None]) -> Tree:
    """The tree with every subtree, from above, replaced by what ``change`` gives unless that is None."""
    new = change(tree)
    return with_children(tree, tuple(mapped(child, change) for child in children(tree))) if new is None else new


def when_of(index: Tree) -> tuple[str, int] | None:
    """Anchor and shift of an index: ("t", -1) for t-1, ("", 2) for 2."""
    match index:
        case Name(name=name):
            return name, 0
        case Number(value=n):
            return "", int(n)
        case Binary(sign=sign, left=Name(name=name), right=Number(value=n)):
            return name, int(n) if sign == "+" else -int(n)
    return None


def index_of(anchor: str, shift: int) -> Tree:
    number = Number(HERE, Fraction(abs(shift)), str(abs(shift)))
    if not anchor:
        return number
    return Binary(HERE, "+" if shift > 0 else "-", Name(HERE, anchor), number) if shift else Name(HERE, anchor)


def moved(tree: Tree, by: int, anchor: str = "t", of: str = "t") -> Tree:
    """The tree with ``of`` + s read as ``anchor`` + s + by, in indices and in the limits of prod."""

    def change(part: Tree) -> Tree | None:
        if isinstance(part, Indexed):
            when = when_of(part.index)
            return replace(part, index=index_of(anchor, when[1] + by)) if when and when[0] == of else part
        if isinstance(part, Name | Binary) and (when := when_of(part)) and when[0] == of:
            return index_of(anchor, when[1] + by)
        return None

    return mapped(tree, change)


def times_in(tree: Tree) -> set[tuple[str, str, int]]:
    """Name, anchor and shift of everything with an index."""
    found = ((part.name, when_of(part.index)) for part in walk(tree) if isinstance(part, Indexed))
    return {(name, *when) for name, when in found if when}


def fits(tree: Tree, cell: Cell) -> bool:
    """Whether every index is within one step, and no step outside the sequence is read."""
    for name, anchor, shift in times_in(tree):
        if anchor == "T" and not -3 <= shift <= (name not in cell.axes):
            return False
        if anchor == "" and not (name not in cell.states) <= shift <= 3:
            return False
        if anchor not in ("", "T") and abs(shift) > 1:
            return False
    return True


# ---------------------------------------------------------------------------------------------------------------- forms


@dataclass(frozen=True)
class Item:
    """One equation; ``carries`` are the lines of the first text that it holds (a part of)."""

    target: Tree
    value: Tree
    carries: frozenset[int]

    @property
    def time(self) -> tuple[str, int] | None:
        return when_of(self.target.index) if isinstance(self.target, Indexed) else None


@dataclass(frozen=True)
class Form:
    """A text as trees; ``header`` is the comment that it opens with."""

    cell: Cell
    header: str
    items: tuple[Item, ...]

    @cached_property
    def own(self) -> list[str]:
        """The author's indexed names, in order."""
        taken = {*self.cell.axes, "p", "target"} | {f"{d}{n}" for n in self.cell.axes for d in ("d", "dL_d", "dl_d")}
        targets = dict.fromkeys(item.target.name for item in self.items if isinstance(item.target, Indexed))
        return [name for name in targets if name not in taken]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of every name: scalar, vector, matrix."""
        cell = self.cell
        kinds = {n: ("scalar", "vector", "matrix")[len(shape)] for n, shape in cell.parameters.items()}
        kinds |= dict.fromkeys((*cell.axes, "p", "target"), "vector")
        kinds |= {f"{d}{n}": kinds[n] for n in kinds for d in ("d", "dL_d", "dl_d") if n not in ("p", "target")}
        kinds |= {f"d{n}0": "vector" for n in cell.states}
        for _ in self.own:
            for item in self.items:
                if isinstance(item.target, Indexed) and item.target.name not in kinds:
                    kind = kind_of(item.value, kinds)
                    kinds |= {item.target.name: kind} if kind else {}
        return kinds

    @cached_property
    def words(self) -> set[str]:
        """Every name that is taken."""
        trees = [part for item in self.items for side in (item.target, item.value) for part in walk(side)]
        used = {part.name for part in trees if isinstance(part, Name | Indexed | Call)}
        cell = {*self.cell.axes, *self.cell.parameters}
        return used | cell | {name[1:] for name in used if name.startswith("d")}

    def put(self, i: int, *new: Item) -> Form:
        """The form with the item ``i`` replaced."""
        return replace(self, items=(*self.items[:i], *new, *self.items[i + 1 :]))


_PRODUCTS = {
    ("matrix", "matrix"): "matrix", ("matrix", "vector"): "vector", ("vector", "matrix"): "vector",
    ("vector", "row"): "matrix", ("row", "vector"): "scalar", ("row", "matrix"): "row",
}  # fmt: skip
_CALLS = {"outer": "matrix", "diag": "matrix", "jacobian": "matrix", "dot": "scalar", "immediate": ""}


def kind_of(tree: Tree, kinds: Mapping[str, str]) -> str:
    """scalar, vector, row or matrix; empty where that is not known."""
    match tree:
        case Number():
            return "scalar"
        case Name(name=name) | Indexed(name=name):
            return kinds.get(name, "")
        case Transposed(operand=x):
            kind = kind_of(x, kinds)
            return {"vector": "row", "row": "vector"}.get(kind, kind)
        case Call(name=name, arguments=(first, *_)):
            return _CALLS[name] if name in _CALLS else kind_of(first, kinds)
        case Binary(sign="@", left=a, right=Call(name="immediate", arguments=(_, parameter))):
            return kind_of(parameter, kinds) if kind_of(a, kinds) == "vector" else ""
        case Binary(sign="@", left=a, right=b):
            return _PRODUCTS.get((kind_of(a, kinds), kind_of(b, kinds)), "")
        case Binary(left=a, right=b):
            found = {kind_of(a, kinds), kind_of(b, kinds)}
            return next((k for k in ("", "matrix", "row", "vector", "scalar") if k in found), "")
    return kind_of(below_of(tree)[0], kinds) if below_of(tree) else ""
