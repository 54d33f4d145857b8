"""Scalar, vector or matrix, and of which size: what every part of a backward equation is.

A mixture that means nothing (a matrix plus a vector, a sum of vectors where a matrix belongs) is an error that says
what to write.  Sizes that do not conform (W dy where W.T dy belongs) make the line a wrong one, not the file
unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass

from derive.errors import CellError, Position
from derive.handwritten.lines import Line, Script
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree

__all__ = ["Kind", "Kinds", "find_kinds"]


@dataclass(frozen=True)
class Kind:
    """``what`` is scalar, vector, row, matrix, immediate or unknown; ``sizes`` its letters, None where not known."""

    what: str
    sizes: tuple[str | None, ...] = ()

    @property
    def shown(self) -> str:
        """As a message says it."""
        sizes = ", ".join(x or "?" for x in self.sizes)
        return {"vector": "a vector", "row": "a row vector", "matrix": "a matrix"}.get(self.what, f"a {self.what}") + (
            f" ({sizes})" if sizes else ""
        )


SCALAR, UNKNOWN = Kind("scalar"), Kind("unknown")


class Kinds:
    """The kind of every tree of a script; ``misfits`` are sizes that do not conform, by line number."""

    def __init__(self, script: Script) -> None:
        self.script, self.cell, self.names = script, script.cell, script.names
        self.own: dict[str, Kind] = {}
        self.known: dict[int, Kind] = {}
        self.misfits: dict[int, str] = {}
        self.line: Line | None = None
        self.guessing = False

    def of(self, tree: Tree) -> Kind:
        """The kind of a tree, found before."""
        return self.known[id(tree)]

    # ------------------------------------------------------------------------------------------------------- one tree

    def find(self, tree: Tree) -> Kind:
        """The kind of a tree; raises :class:`CellError` where there is none."""
        kind = self.known[id(tree)] = self._find(tree)
        return kind

    def _find(self, tree: Tree) -> Kind:
        match tree:
            case Number(value=value):
                return SCALAR if value else UNKNOWN  # 0 is a zero of any shape
            case Name(name=name):
                return self.bare(name, tree.position)
            case Indexed(name=name):
                return self.indexed(name, tree.position)
            case Negative(operand=x):
                return self.find(x)
            case Transposed(operand=x):
                return self.transposed(self.find(x), tree.position)
            case Power(base=base):
                kind = self.find(base)
                if kind.what in ("matrix", "immediate"):
                    raise CellError("a power of a matrix", tree.position, expected="a product, J @ J, or prod(...)")
                return kind
            case Call(name=name, arguments=arguments):
                self.names.check_call(name, tree.position)
                return self.call(tree, name, arguments)
            case Binary(sign="@", left=a, right=b):
                return self.product(self.find(a), self.find(b), tree.position)
            case Binary(sign=sign, left=a, right=b):
                return self.entrywise(sign, self.find(a), self.find(b), tree.position)
        raise CellError("this cannot be read", tree.position, expected="an expression")

    def bare(self, name: str, position: Position) -> Kind:
        """The kind of a name without an index."""
        reference = self.names.bare(name, position)
        if reference.role in ("parameter", "gradient"):
            shape = self.cell.parameters[reference.name]
            return Kind(("scalar", "vector", "matrix")[len(shape)], shape)
        if reference.role in ("initial", "initial value"):
            return Kind("vector", (self.cell.axes[reference.name],))
        return self.own.get(name, UNKNOWN) if reference.role == "own" else SCALAR

    def indexed(self, name: str, position: Position) -> Kind:
        """The kind of a name with an index."""
        reference = self.names.indexed(name, position)
        if reference.role == "own":
            return self.own.get(name, UNKNOWN)
        if reference.role in ("softmax", "target"):
            return Kind("vector", (self.loss_axis(),))
        return Kind("vector", (self.cell.axes[reference.name],))

    def loss_axis(self) -> str | None:
        """The size of what the loss reads, where there is only one such thing."""
        seen = self.cell.outputs or self.cell.states[:1]
        sizes = {self.cell.axes[n] for n in seen}
        return sizes.pop() if len(sizes) == 1 else None

    def transposed(self, kind: Kind, position: Position) -> Kind:
        """The kind of a transpose."""
        if kind.what == "scalar":
            raise CellError("a scalar has no transpose", position, found=".T", expected="the scalar itself")
        return Kind({"vector": "row", "row": "vector"}.get(kind.what, kind.what), kind.sizes[::-1])

    # -------------------------------------------------------------------------------------------------- signs and calls

    def same(self, a: str | None, b: str | None, position: Position, what: str) -> str | None:
        """The size that two sizes are; a misfit is remembered."""
        if a is not None and b is not None and a != b and self.line is not None:
            self.misfits.setdefault(self.line.number, f"{what} of size {a} and {b}")
        return a or b

    def entrywise(self, sign: str, a: Kind, b: Kind, position: Position) -> Kind:
        """The kind of a sum, a difference, a product or a quotient."""
        word = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}[sign]
        if "unknown" in (a.what, b.what):
            return (b if a.what == "unknown" else a) if sign in "+-" else self.guess(a, b)
        if sign == "*" and a.what == "vector" and b.what == "matrix":
            return Kind("matrix", (self.same(a.sizes[0], b.sizes[0], position, "a vector scales the rows"), b.sizes[1]))
        if sign in "*/" and a.what == "matrix" and b.what in ("vector", "row"):
            wanted = "W @ v for the product; v*W or diag(v) @ W for scaled rows, W @ diag(v) for scaled columns"
            raise CellError(f"a matrix {sign} a vector", position, found=f"{a.shown} {sign} {b.shown}", expected=wanted)
        if {a.what, b.what} == {"vector", "row"}:
            wanted = "outer(a, b), or a @ b.T, for a matrix; dot(a, b), or a.T @ b, for a number; a*b for entries"
            raise CellError(f"the {word} of a column and a row", position, expected=wanted)
        if a.what == b.what:
            if a.what in ("matrix", "immediate") and sign in "*/":
                wanted = "'@' for the product of matrices"
                raise CellError(f"an entrywise {word} of matrices", position, found=f"'{sign}'", expected=wanted)
            pairs = zip(a.sizes, b.sizes, strict=True)
            return Kind(a.what, tuple(self.same(x, y, position, f"the {word} of vectors") for x, y in pairs))
        if SCALAR in (a, b):
            other = b if a == SCALAR else a
            if other.what in ("vector", "row"):
                return other
            if sign == "*" or (sign == "/" and b == SCALAR):
                return other
        wanted = "terms of one kind; outer(a, b) makes a matrix of two vectors, sum(...) adds over time"
        raise CellError(f"the {word} of {a.shown} and {b.shown}", position, expected=wanted)

    def guess(self, a: Kind, b: Kind) -> Kind:
        """A product of which one side is not known yet: a vector like the other, if nothing better is found."""
        known = b if a.what == "unknown" else a
        return known if self.guessing and known.what == "vector" else UNKNOWN

    def product(self, a: Kind, b: Kind, position: Position) -> Kind:
        """The kind of a @ b."""
        if "unknown" in (a.what, b.what):
            return self.guess_product(a, b)
        inner = {"vector": 0, "row": 0, "matrix": -1}
        if b.what == "immediate" and a.what in ("vector", "row"):
            self.same(a.sizes[0], b.sizes[0], position, "a product of things")
            shape = b.sizes[1:]
            return Kind(("scalar", "vector", "matrix")[len(shape)], shape)
        if a.what not in inner or b.what not in inner:
            wanted = "'*' where one side is a number"
            raise CellError(f"the matrix product of {a.shown} and {b.shown}", position, found="'@'", expected=wanted)
        if (a.what, b.what) == ("vector", "row"):
            return Kind("matrix", (a.sizes[0], b.sizes[0]))
        if (a.what, b.what) == ("row", "row"):
            raise CellError("a row times a row", position, expected="a @ b.T for a matrix, a.T @ b for a number")
        if (a.what, b.what) == ("matrix", "row"):
            wanted = "W @ v, or v.T @ W"
            raise CellError("a matrix times a row", position, found=f"{a.shown} @ {b.shown}", expected=wanted)
        self.same(a.sizes[inner[a.what]], b.sizes[0], position, "a product of things")
        if a.what == "matrix":
            return Kind("matrix", (a.sizes[0], b.sizes[1])) if b.what == "matrix" else Kind("vector", a.sizes[:1])
        return Kind(a.what, b.sizes[1:]) if b.what == "matrix" else SCALAR

    def guess_product(self, a: Kind, b: Kind) -> Kind:
        """A product with a matrix of which one side is not known yet: of the matrix and a vector."""
        if self.guessing and "matrix" in (a.what, b.what):
            return Kind("vector", a.sizes[:1] if a.what == "matrix" else b.sizes[1:])
        return UNKNOWN

    def call(self, tree: Call, name: str, arguments: tuple[Tree, ...]) -> Kind:
        """The kind of an operation."""
        if name in ("sum", "prod", "jacobian", "immediate", "truncated"):
            return getattr(self, f"call_{name}")(tree, arguments)
        wanted = 2 if name in ("outer", "dot") else 1
        if len(arguments) != wanted:
            raise CellError(
                f"{name} takes {'two arguments' if wanted == 2 else 'one argument'}",
                tree.position,
                found=f"{len(arguments)}",
                expected=f"{name}(a, b)" if wanted == 2 else f"{name}(a)",
            )
        kinds = [self.find(a) for a in arguments]
        for kind, argument in zip(kinds, arguments, strict=True):
            if kind.what in ("matrix", "immediate") or (kind.what == "scalar" and name in ("outer", "diag")):
                raise CellError(f"{name} of {kind.shown}", argument.position, expected=f"{name} of vectors")
        if name == "outer":
            return Kind("matrix", tuple(k.sizes[0] if k.sizes else None for k in kinds))
        if name == "diag":
            return Kind("matrix", (kinds[0].sizes or (None,)) * 2)
        if name == "dot":
            return SCALAR
        if name == "softmax" and not isinstance(arguments[0], Indexed):
            raise CellError("softmax is taken of what the loss reads", tree.position, expected="softmax(y[t]), or p[t]")
        return kinds[0]

    def call_sum(self, tree: Call, arguments: tuple[Tree, ...]) -> Kind:
        """A sum over time has the kind of its terms."""
        if len(arguments) not in (1, 4):
            wanted = "sum(outer(da[t], h[t-1])) over every step, or sum(..., k, 1, T)"
            raise CellError("sum is over time", tree.position, found=f"{len(arguments)} arguments", expected=wanted)
        indexed = self.line is not None and self.line.target.when is not None
        if len(arguments) == 1 and indexed:
            wanted = "sum(...) in a line without an index such as dW_hh = sum(...); dot(a, b) adds over entries"
            raise CellError("sum is over time", tree.position, found="sum in a line for one step", expected=wanted)
        return self.find(arguments[0])

    def call_prod(self, tree: Call, arguments: tuple[Tree, ...]) -> Kind:
        """A product over time has the kind of its factors."""
        if len(arguments) != 4:
            wanted = "prod(J[k], k, T, t+1): the factor of k = T at the left"
            raise CellError("prod says its variable and range", tree.position, expected=wanted)
        kind = self.find(arguments[0])
        if kind.what not in ("matrix", "vector", "unknown"):
            raise CellError(f"a product over time of {kind.shown}", tree.position, expected="matrices, or vectors")
        return kind

    def call_jacobian(self, tree: Call, arguments: tuple[Tree, ...]) -> Kind:
        """A matrix, from the size of what it is taken by."""
        match arguments:
            case (Indexed() as of, Indexed() as by):
                for part in (of, by):
                    if self.names.indexed(part.name, part.position).role != "forward":
                        why = "a Jacobian is taken of values of the cell"
                        raise CellError(why, part.position, found=part.name, expected="jacobian(h[t+1], h[t])")
                return Kind("matrix", (self.find(of).sizes[0], self.find(by).sizes[0]))
        raise CellError("jacobian takes two values", tree.position, expected="jacobian(h[t+1], h[t])")

    def call_immediate(self, tree: Call, arguments: tuple[Tree, ...]) -> Kind:
        """A thing that a vector stands before."""
        match arguments:
            case (Indexed(name=name) as of, Name(name=parameter)) if parameter in self.cell.parameters:
                if self.names.indexed(name, of.position).role == "forward":
                    return Kind("immediate", (self.find(of).sizes[0], *self.cell.parameters[parameter]))
        wanted = "dh[t] @ immediate(h[t], W_hh)"
        raise CellError("immediate takes a value and a parameter", tree.position, expected=wanted)

    def call_truncated(self, tree: Call, arguments: tuple[Tree, ...]) -> Kind:
        """As the derivative itself."""
        match arguments:
            case (Indexed(name=name) as of, Number()) if self.names.indexed(name, of.position).role == "derivative":
                return self.find(of)
        raise CellError("truncated takes a derivative and a number", tree.position, expected="truncated(dh[t], 2)")

    # --------------------------------------------------------------------------------------------------------- a line

    def wanted(self, line: Line) -> Kind:
        """What the left side of a line is."""
        target = line.target
        if target.role in ("gradient", "truncated gradient"):
            shape = self.cell.parameters[target.name]
            return Kind(("scalar", "vector", "matrix")[len(shape)], shape)
        if target.role == "own":
            return self.own.get(target.name, UNKNOWN)
        if target.role in ("softmax", "target"):
            return Kind("vector", (self.loss_axis(),))
        axis = self.cell.axes[target.name]
        return (
            Kind("matrix", (axis, self.cell.axes[target.by])) if target.role == "jacobian" else Kind("vector", (axis,))
        )

    def check(self, line: Line) -> None:
        """Find the kinds of a line and compare its two sides."""
        self.line = line
        found, wanted = self.find(line.value), self.wanted(line)
        if isinstance(line.value, Number) and line.value.value == 0:
            return
        if found.what == "row" and wanted.what == "vector":
            found = Kind("vector", found.sizes)
        if "unknown" in (found.what, wanted.what):
            return
        if found.what != wanted.what and not (found == SCALAR and wanted.what == "vector"):
            raise self.mixed(line, found, wanted)
        for a, b in zip(found.sizes, wanted.sizes, strict=False):
            self.same(b, a, line.equation.position, "the two sides are")

    def mixed(self, line: Line, found: Kind, wanted: Kind) -> CellError:
        """The two sides are not of one kind."""
        left = line.text.partition("=")[0].strip()
        hints = {
            "matrix": f"{left} = sum(outer(a[t], b[t])), a matrix of two vectors for each step",
            "vector": "W.T @ d for a product with a matrix, a*b for an entrywise one",
            "scalar": f"{left} = sum(dot(a[t], b[t])), a number for each step",
        }
        why = f"{left} is {wanted.shown}, and its right side is {found.shown}"
        return CellError(why, line.value.position, expected=hints[wanted.what])


def find_kinds(script: Script) -> Kinds:
    """Kinds of every line; raises :class:`CellError` for a mixture that means nothing."""
    kinds = Kinds(script)
    own = [line for line in script.lines if line.target.role == "own"]
    for guessing in (False, True):  # a recursion in an own name alone is taken for one of vectors
        kinds.guessing = guessing
        while any(_settle(kinds, line) for line in own):
            pass  # one more definition is settled, and others may follow from it
    kinds.guessing = False
    kinds.misfits.clear()
    for line in script.lines:
        kinds.check(line)
    return kinds


def _settle(kinds: Kinds, line: Line) -> bool:
    """Find the kind of an own definition, if it can be found yet and was not before."""
    name, zero = line.target.name, isinstance(line.value, Number) and line.value.value == 0
    if name in kinds.own or zero:
        return False
    kinds.line = line
    found = kinds.find(line.value)
    if found.what == "unknown":
        return False
    if line.number in kinds.misfits:  # which of its sizes is the wrong one, its uses do not have to answer for
        found = Kind(found.what, (None,) * len(found.sizes))
    kinds.own[name] = Kind("vector", found.sizes) if found.what == "row" else found
    return True
