"""Kinds and sizes of every name, by unification.

A parameter is a matrix where it stands left of ``@``, otherwise a vector; a scalar is declared.  Each vector has one
axis and each matrix two; every operation makes axes equal, and each class of equal axes gets one letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from derive.errors import CellError, Position
from derive.roles import Roles
from derive.syntax import (
    Binary,
    Call,
    Declaration,
    Equation,
    Indexed,
    Name,
    Negative,
    Number,
    Power,
    Transposed,
    Tree,
    walk,
)

__all__ = ["Dimensions", "find_dimensions", "is_scaling"]

Axis = tuple[str, str]  # ("vector", name), ("rows", W), ("columns", W) or ("letter", L)
Shape = tuple[Axis, ...]

TAKEN = {
    "T": "the number of time steps",
    "B": "the batch size",
    "t": "the time index",
    "pi": "the constant",
    "seed": "the seed of Engine.init",
}


@dataclass(frozen=True)
class Dimensions:
    """Letters of every vector (``axes``), of every parameter, and the names that have each letter."""

    axes: dict[str, str]
    parameters: dict[str, tuple[str, ...]]
    letters: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def is_scaling(tree: Tree, kinds: dict[str, str]) -> bool:
    """Whether a tree is visibly a number or a declared scalar (so it may stand on either side of a matrix)."""
    parts = [x for x in walk(tree) if isinstance(x, Name | Indexed | Number)]
    return all(
        isinstance(x, Number) or (isinstance(x, Name) and (x.name == "pi" or kinds.get(x.name) == "scalar"))
        for x in parts
    )


class _Kinds:
    """First pass: which parameters are matrices, vectors, scalars."""

    def __init__(self, declarations: list[Declaration]) -> None:
        self.kinds: dict[str, str] = {}
        self.line = {d.name: d.position[0] for d in declarations}  # where each kind was settled
        self.visits: Counter[str] = Counter()
        self.scalings: Counter[str] = Counter()  # those of the visits where a name stands left of '*' and of '@'
        for d in declarations:
            self.kinds[d.name] = "scalar" if d.sizes == ("scalar",) else ("vector" if len(d.sizes) == 1 else "matrix")

    def name(self, tree: Name, wanted: str) -> None:
        known = self.kinds.get(tree.name)
        self.visits[tree.name] += 1
        if tree.name == "pi" or known == "scalar":
            if wanted == "matrix":
                raise CellError(f"{tree.name} is a scalar, not a matrix", tree.position, expected="'*' in place of '@'")
        elif known is None:
            self.kinds[tree.name], self.line[tree.name] = wanted, tree.position[0]
        elif known != wanted:
            why = f"{tree.name} is a {known} (line {self.line[tree.name]}) where a {wanted} belongs"
            hint = (
                f"{tree.name} @ v, a matrix times a vector" if known == "matrix" else f"{tree.name}*v, entry by entry"
            )
            raise CellError(why, tree.position, expected=f"{hint}, or a {wanted} everywhere")

    def visit(self, tree: Tree, wanted: str) -> None:
        match tree:
            case Number():
                if wanted == "matrix":
                    raise CellError(
                        "a number is not a matrix", tree.position, found=tree.text, expected="a matrix parameter"
                    )
            case Name():
                self.name(tree, wanted)
            case Indexed():
                if wanted == "matrix":
                    hint = "a matrix parameter; a product in row layout, h @ W, is written W.T @ h"
                    raise CellError(f"{tree.name} is a vector, not a matrix", tree.position, expected=hint)
            case Negative(operand=operand):
                self.visit(operand, wanted)
            case Transposed(operand=operand):
                if wanted == "vector":
                    raise CellError("a transpose is a matrix", tree.position, expected=".T on the left side of '@'")
                self.visit(operand, "matrix")
            case Power(base=base):
                self.no_matrix(tree, wanted, "a power")
                self.visit(base, "vector")
            case Call(name=name, arguments=arguments):
                self.no_matrix(tree, wanted, name)
                self.visit(arguments[0], "vector")
            case Binary(sign="@", left=left, right=right):
                self.visit(left, "matrix")
                self.visit(right, wanted)
            case Binary(sign="+" | "-", left=left, right=right):
                self.visit(left, wanted)
                self.visit(right, wanted)
            case Binary(sign=sign, left=left, right=right):
                for side, kind in zip((left, right), self.factors(sign, left, right, wanted), strict=True):
                    self.visit(side, kind)
                    if wanted == "matrix" and kind == "vector" and isinstance(side, Name):
                        self.scalings[side.name] += 1

    def notes(self, parameters: Iterable[str], declared: set[str]) -> tuple[str, ...]:
        """Parameters that are vectors only because U*V @ x cannot be read as two matrices."""
        return tuple(
            f"{name} is taken for a vector that scales rows; the declaration '{name}: H' would say so"
            for name in parameters
            if name not in declared and 0 < self.scalings[name] == self.visits[name]
        )

    def no_matrix(self, tree: Tree, wanted: str, what: str) -> None:
        if wanted == "matrix":
            raise CellError(
                f"{what} of a matrix is not in the language", tree.position, expected="a product, a sum or .T"
            )

    def factors(self, sign: str, left: Tree, right: Tree, wanted: str) -> tuple[str, str]:
        """Which factor of ``left * right`` or ``left / right`` is the matrix, where a matrix is wanted."""
        if wanted == "vector":
            return "vector", "vector"
        if is_scaling(right, self.kinds):
            return "matrix", "vector"
        if sign == "/":
            why, wanted = "a matrix can be divided by a number or a scalar only", "a number or a declared scalar"
            raise CellError(why, right.position, expected=wanted)
        if self.visibly(right, "vector"):
            raise CellError(
                "a vector scales the rows of a matrix from the left", right.position, expected="v*M in place of M*v"
            )
        if self.visibly(left, "matrix"):
            why, wanted = (
                "the elementwise product of two matrices is not in the language",
                "U @ V, or v*M with a vector v",
            )
            raise CellError(why, right.position, expected=wanted)
        return "vector", "matrix"

    def visibly(self, tree: Tree, kind: str) -> bool:
        match tree:
            case Name(name=name):
                return self.kinds.get(name) == kind
            case Transposed():
                return kind == "matrix"
            case Indexed() | Call() | Power():
                return kind == "vector"
            case Negative(operand=x):
                return self.visibly(x, kind)
            case Binary(sign="@", right=right):
                return self.visibly(right, kind)
            case Binary(left=left, right=right):
                return self.visibly(left, kind) or self.visibly(right, kind)
        return False


class _Axes:
    """Second pass: which axes are the same."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.kinds = kinds
        self.parent: dict[Axis, Axis] = {}
        self.letter: dict[Axis, str] = {}  # declared letter of a root

    def find(self, axis: Axis) -> Axis:
        self.parent.setdefault(axis, axis)
        while self.parent[axis] != axis:
            self.parent[axis] = self.parent[self.parent[axis]]
            axis = self.parent[axis]
        return axis

    def same(self, a: Axis, b: Axis, position: Position, what: str) -> None:
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        la, lb = self.letter.get(a), self.letter.get(b)
        if la and lb and la != lb:
            raise CellError(f"sizes do not agree in {what}", position, found=f"{la} and {lb}", expected="one size")
        self.parent[b] = a
        if lb:
            self.letter[a] = lb

    def unify(self, a: Shape, b: Shape, position: Position, what: str) -> Shape:
        if not a or not b:
            return a or b
        for x, y in zip(a, b, strict=True):
            self.same(x, y, position, what)
        return a

    def shape(self, tree: Tree) -> Shape:
        match tree:
            case Name(name=name) if name != "pi":
                return {
                    "scalar": (),
                    "vector": (("vector", name),),
                    "matrix": (("rows", name), ("columns", name)),
                }[self.kinds[name]]
            case Indexed(name=name):
                return (("vector", name),)
            case Negative(operand=x) | Power(base=x):
                return self.shape(x)
            case Call(arguments=(x,)):
                return self.shape(x)
            case Transposed(operand=x):
                return self.shape(x)[::-1]
            case Binary(sign="@", left=left, right=right):
                rows, columns = self.shape(left)
                inner = self.shape(right)
                if not inner:
                    raise CellError(
                        "the right side of '@' has no size", tree.position, found="a scalar", expected="a vector"
                    )
                self.same(columns, inner[0], tree.position, "the product '@'")
                return (rows, *inner[1:])
            case Binary(sign=sign, left=left, right=right):
                a, b = self.shape(left), self.shape(right)
                if len(a) == 1 and len(b) == 2:  # v*M scales rows
                    self.same(a[0], b[0], tree.position, "the scaled rows")
                    return b
                return self.unify(a, b, tree.position, {"+": "the sum", "-": "the difference"}.get(sign, f"'{sign}'"))
        return ()


def find_dimensions(equations: list[Equation], declarations: list[Declaration], roles: Roles) -> Dimensions:
    """Infer every kind and size; raises :class:`CellError` where two declared sizes meet or a size is missing."""
    first = _Kinds(declarations)
    _check_kinds(declarations, roles)
    for equation in equations:
        first.visit(equation.value, "vector")
    axes = _Axes(first.kinds)
    for d in declarations:
        _declare(axes, d)
    for equation in equations:
        shape = axes.shape(equation.value)
        target = axes.shape(equation.target)
        axes.unify(target, shape, equation.position, "the equation")
    parameters = list(roles.parameters)
    _check_sized(axes, equations, roles, parameters, first.kinds)
    declared = {d.name for d in declarations}
    found = _letters(axes, roles, parameters, declared)
    return replace(found, notes=found.notes + first.notes(parameters, declared))


def _check_kinds(declarations: list[Declaration], roles: Roles) -> None:
    for d in declarations:
        if d.name not in roles.parameters and (len(d.sizes) == 2 or d.sizes == ("scalar",)):
            raise CellError(f"{d.name} has a time index, so it is a vector", d.position, expected=f"'{d.name}: H'")
        for size in d.sizes:
            if size in TAKEN:
                raise CellError(f"the size {size} is taken: it is {TAKEN[size]}", d.position, expected="another letter")
            if size == "scalar" and len(d.sizes) == 2:
                raise CellError("scalar is not a size", d.position, expected="(rows, columns)")


def _declare(axes: _Axes, d: Declaration) -> None:
    if d.sizes == ("scalar",):
        return
    names: Shape = (("vector", d.name),) if len(d.sizes) == 1 else (("rows", d.name), ("columns", d.name))
    for axis, size in zip(names, d.sizes, strict=True):
        letter = ("letter", size)
        axes.letter.setdefault(axes.find(letter), size)
        axes.same(letter, axis, d.position, f"the declaration of {d.name}")


def _check_sized(
    axes: _Axes, equations: list[Equation], roles: Roles, parameters: list[str], kinds: dict[str, str]
) -> None:
    axes_of = {"scalar": (), "vector": ("vector",), "matrix": ("rows", "columns")}
    anchors = [("vector", name) for name in (*roles.states, *roles.inputs)]
    anchors += [(axis, name) for name in parameters for axis in axes_of[kinds[name]]]
    sized = {axes.find(a) for a in anchors} | set(axes.letter)
    for equation in equations:
        assert isinstance(equation.target, Indexed)
        name = equation.target.name
        if axes.find(("vector", name)) not in sized:
            wanted = f"a declaration such as '{name}: H'"
            raise CellError(f"nothing says what size {name} has", equation.position, expected=wanted)


def _letters(axes: _Axes, roles: Roles, parameters: list[str], declared: set[str]) -> Dimensions:
    """One letter a class: declared first, then H for states, D for inputs, O for outputs, K for the others."""
    letter = {axes.find(root): name for root, name in axes.letter.items()}
    states = [name for name in roles.assigned if name in roles.states]
    for base, names in (("H", states), ("D", roles.inputs), ("O", roles.outputs), ("K", roles.intermediates)):
        for name in names:
            _name_class(letter, axes.find(("vector", name)), base, name)
    sizes: dict[str, tuple[str, ...]] = {}
    for name in parameters:
        shape = axes.shape(Name((0, 0), name))
        for axis in shape:
            _name_class(letter, axes.find(axis), "K", name)
        sizes[name] = tuple(letter[axes.find(axis)] for axis in shape)
    vectors = dict.fromkeys((*roles.states, *roles.inputs, *roles.assigned))
    of = {name: letter[axes.find(("vector", name))] for name in vectors}
    letters = dict.fromkeys((*of.values(), *(x for shape in sizes.values() for x in shape)))
    named = {x: tuple(n for n in of if of[n] == x) or tuple(n for n in sizes if x in sizes[n]) for x in letters}
    merged = {x: [h for h in roles.states if of[h] == of[x]] for x in roles.inputs if x not in declared}
    notes = tuple(
        f"nothing separates the size of the input {x} from that of the state {same[0]}: both are {of[x]}"
        for x, same in merged.items()
        if same
    )
    return Dimensions(axes=of, parameters=sizes, letters=named, notes=notes)


def _name_class(letter: dict[Axis, str], root: Axis, base: str, name: str) -> None:
    if root in letter:
        return
    wanted = base if base not in letter.values() else f"{base}_{name}"
    while wanted in letter.values():
        wanted += "_"
    letter[root] = wanted
