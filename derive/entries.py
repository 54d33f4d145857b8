"""LaTeX of one entry: the typesetter that prints an expression or an author's equation, asked for entry k of it.

(W v)_k = W_{k1} v_1 + W_{k2} v_2,    (a b.T)_{ij} = a_i b_j,    (diag(v) M)_{ij} = v_i M_{ij}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sympy import Add, Expr, Mul

from derive.cell import Cell
from derive.latex import Typesetter, name_latex
from derive.notation import column, diag, entry_sum, lin, matrix_of, outer
from derive.syntax import Binary, Name, Negative, Transposed, Tree

__all__ = ["SIZE", "EntryTypesetter"]

SIZE = 2
_SUM, _PRODUCT, _ATOM = 0, 1, 2


class EntryTypesetter(Typesetter):
    """LaTeX of one entry of an expression in generic entries, or of an author's equation.

    ``entry`` is the index that is asked for, from 1; a product W v is the sum over the entries of v.
    """

    circle = r" \, "
    added = _SUM

    def __init__(self, cell: Cell, prefix: str = "d") -> None:
        super().__init__(cell, prefix)
        self.entry = 1

    def at_entry(self, e: Expr | Tree, k: int, level: int = _SUM) -> str:
        """Entry ``k`` of an expression or of a tree, in brackets where ``level`` asks for them."""
        before, self.entry = self.entry, k
        out = self._e(e, level) if isinstance(e, Expr) else self._tree(e, level)
        self.entry = before
        return out

    def index(self, name: str) -> list[str]:
        """The entry's index, for all but scalars."""
        base = name if name in self.cell.parameters else name.removeprefix(self.prefix)
        return [] if self.cell.parameters.get(base) == () else [str(self.entry)]

    # ----------------------------------------------------------------------------------- expressions, generic entries

    def named(self, name: str, *indices: str) -> str:
        """An entry of a vector, or a scalar."""
        return super().named(name, *indices, *self.index(name))

    def element(self, name: str, i: int, j: int) -> str:
        """An entry of a matrix, or of the derivative by one."""
        return super().named(name, f"{i}{j}")

    def _parts(self, e: Expr) -> tuple[str, int]:
        if isinstance(e, lin):
            name, transposed = matrix_of(e)
            terms = []
            for j in range(1, SIZE + 1):
                row, col = (j, self.entry) if transposed else (self.entry, j)
                terms.append(rf"{self.element(name, row, col)} \, {self.at_entry(e.args[1], j, _PRODUCT)}")
            return " + ".join(terms), _SUM
        if isinstance(e, entry_sum):
            return " + ".join(self.at_entry(e.args[0], k, _PRODUCT) for k in range(1, SIZE + 1)), _SUM
        return super()._parts(e)

    def at_element(self, e: Expr, i: int, j: int, *, factor: bool = False) -> str:
        """Entry (i, j) of a sum of outer products, in brackets where it is a ``factor``."""
        terms = [self._outer(term, i, j) for term in Add.make_args(e)]
        text = terms[0] + "".join(f" {t[:1]} {t[1:]}" if t.startswith("-") else f" + {t}" for t in terms[1:])
        return rf"\left({text}\right)" if factor and (len(terms) > 1 or text.startswith("-")) else text

    def _outer(self, term: Expr, i: int, j: int) -> str:
        found = next(f for f in Mul.make_args(term) if isinstance(f, outer))
        left, right = (self.at_entry(a, k, _PRODUCT) for a, k in zip(found.args, (i, j), strict=True))
        rest = term / found
        scale = "" if rest == 1 else "-" if rest == -1 else rf"{self._e(rest, _PRODUCT)} \, "
        return rf"{scale}{left} \, {right}"

    # ------------------------------------------------------------------------------------------------ author's trees

    def _tree_parts(self, tree: Tree) -> tuple[str, int]:
        if isinstance(tree, Binary) and tree.sign == "@":
            terms = []
            for j in range(1, SIZE + 1):
                element = self.tree_element(tree.left, self.entry, j, _PRODUCT)
                terms.append(rf"{element} \, {self.at_entry(tree.right, j, _PRODUCT)}")
            return " + ".join(terms), _SUM
        return super()._tree_parts(tree)

    def written(self, name: str, *indices: str) -> str:
        """A name as it stands in the text: an entry of it."""
        shown = [*indices, *([] if self.cell.parameters.get(name) == () else [str(self.entry)])]
        return name_latex(name, *shown)

    def tree_element(self, tree: Tree, i: int, j: int, level: int = _SUM) -> str:
        """Entry (i, j) of a matrix expression."""
        text, own = self._tree_element(tree, i, j)
        return rf"\left({text}\right)" if own < level else text

    def _tree_element(self, tree: Tree, i: int, j: int) -> tuple[str, int]:
        match tree:
            case Name(name=name):
                return name_latex(name, f"{i}{j}"), _ATOM
            case Transposed(operand=x):
                return self._tree_element(x, j, i)
            case Negative(operand=x):
                return f"-{self.tree_element(x, i, j, _PRODUCT)}", _SUM
            case Binary(sign="+" | "-" as sign, left=a, right=b):
                return f"{self.tree_element(a, i, j)} {sign} {self.tree_element(b, i, j, _PRODUCT)}", _SUM
            case Binary(sign="@", left=a, right=b):
                pairs = ((self.tree_element(a, i, m, 1), self.tree_element(b, m, j, 1)) for m in range(1, SIZE + 1))
                return " + ".join(rf"{left} \, {right}" for left, right in pairs), _SUM
            case Binary(sign="/", left=a, right=b):
                return rf"\frac{{{self.tree_element(a, i, j)}}}{{{self.at_entry(b, i)}}}", _ATOM
            case Binary(sign="*", left=a, right=b):
                scale, matrix = (a, b) if self.is_matrix(b) else (b, a)
                return rf"{self.at_entry(scale, i, _PRODUCT)} \, {self.tree_element(matrix, i, j, _PRODUCT)}", _PRODUCT
        raise TypeError(tree)

    # ------------------------------------------------------------------------------------- products that do not commute

    def operator_element(self, e: Expr, i: int, j: int) -> str:
        """Entry (i, j) of a sum of products of diagonals and matrices; entry i where they end in a vector."""
        terms = [text for term in Add.make_args(e) for text in self._chains(term, i, j)]
        return " + ".join(terms).replace("+ -", "- ") or "0"

    def _chains(self, term: Expr, i: int, j: int) -> Iterator[str]:
        factors = list(Mul.make_args(term))
        scalars = [f for f in factors if f.is_commutative]
        sign = "-" if any(f.could_extract_minus_sign() for f in scalars) else ""
        scale = Mul(*scalars) * (-1 if sign else 1)
        head = [] if scale == 1 else [self._e(scale, _PRODUCT)]
        for chain in self._walks([f for f in factors if not f.is_commutative for f in _repeated(f)], i, j):
            yield sign + (r" \, ".join([*head, *chain]) or "1")

    def _walks(self, factors: Sequence[Expr], i: int, j: int) -> Iterator[list[str]]:
        """Every way through a product from row i to column j, as the entries on it."""
        if not factors:
            yield from [[]] if i == j else []
            return
        first, *rest = factors
        if isinstance(first, column):
            yield [self.at_entry(first.args[0], i, _PRODUCT)]
        elif isinstance(first, diag):
            here = self.at_entry(first.args[0], i, _PRODUCT)
            yield from ([here, *way] for way in self._walks(rest, i, j))
        elif first.name == "I":
            yield from self._walks(rest, i, j)
        else:
            name, transposed = first.name.removesuffix(".T"), first.name.endswith(".T")
            for m in range(1, SIZE + 1):
                entry = self.element(name, *((m, i) if transposed else (i, m)))
                yield from ([entry, *way] for way in self._walks(rest, m, j))


def _repeated(factor: Expr) -> list[Expr]:
    """W as often as it stands in W^n."""
    return [factor.base] * int(factor.exp) if factor.is_Pow else [factor]
