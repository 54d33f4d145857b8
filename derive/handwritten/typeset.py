"""Backward equations as papers print them: what the author wrote, in the author's order, as LaTeX."""

from __future__ import annotations

import re

from derive.cell import Cell
from derive.errors import CellError
from derive.handwritten.names import Names
from derive.latex import Typesetter, d_latex, name_latex
from derive.notation import FUNCTIONS
from derive.syntax import Binary, Call, Equation, Indexed, Name, Number, Transposed, Tree, parse_lines, walk

__all__ = ["expression_latex", "line_latex"]

_SUM, _PRODUCT, _ATOM = 0, 1, 2
_OWN = re.compile(r"d[A-Za-z](_\w+)?")


def line_latex(text: str, cell: Cell) -> str | None:
    """One equation of a .backward file as LaTeX; None for a text that is no equation.

    >>> import derive
    >>> line_latex("dW_hh = sum(outer(da[t], h[t-1]))", derive.load("tanh_rnn"))
    '\\\\mathrm{d}W_{hh} = \\\\sum_{t=1}^{T} \\\\mathrm{d}a_{t} \\\\, h_{t-1}^{\\\\top}'
    """
    found = _equation(text)
    if found is None:
        return None
    typeset = _Typesetter(cell)
    return f"{typeset.tree(found.target)} = {typeset.tree(found.value)}"


def expression_latex(text: str, cell: Cell) -> str | None:
    """The right side of such an equation, or a piece of one, as LaTeX; None for a text that is none.

    >>> import derive
    >>> expression_latex("W_hh.T @ da[t+1]", derive.load("tanh_rnn"))
    'W_{hh}^{\\\\top} \\\\, \\\\mathrm{d}a_{t+1}'
    """
    found = _equation(f"it = {text}")
    return None if found is None else _Typesetter(cell).tree(found.value)


def _equation(text: str) -> Equation | None:
    try:
        equations, _ = parse_lines(text)
    except CellError:
        return None
    return equations[0] if len(equations) == 1 else None


class _Typesetter(Typesetter):
    """The syntax of backward equations."""

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell)
        self.names = Names(cell)

    def _tree_parts(self, tree: Tree) -> tuple[str, int]:
        match tree:
            case Indexed(name=name, index=index):
                return self.indexed(name, _index(index)), _ATOM
            case Name(name=name):
                return self.bare(name), _ATOM
            case Transposed(operand=Indexed(name=name, index=index)):
                return rf"{self.indexed(name, _index(index))}^{{\top}}", _ATOM
            case Call(name=name, arguments=arguments):
                return self.called(name, arguments)
            case Binary(sign="*", left=a, right=b) if _is_numeric(a) or _is_numeric(b):
                sign = r" \cdot " if isinstance(b, Number) else r" \, "
                return f"{self._tree(a, _PRODUCT)}{sign}{self._tree(b, _PRODUCT)}", _PRODUCT
        return super()._tree_parts(tree)

    def indexed(self, name: str, index: str) -> str:
        """A value of a step, or a derivative by one."""
        found = self.names.find_indexed(name)
        if found is not None and found.role == "derivative":
            return d_latex(found.name, index)
        if found is not None and found.role == "local":
            return rf"\frac{{\partial \ell_{{{index}}}}}{{\partial {name_latex(found.name, index)}}}"
        if found is None and _OWN.fullmatch(name):
            return d_latex(name[1:], index)  # da is the author's d a
        return name_latex(name, index)

    def bare(self, name: str) -> str:
        """A parameter, its gradient, or a name of the author's."""
        found = self.names.gradient(name)
        if found is not None:
            return d_latex(found.name) if found.role == "gradient" else d_latex(found.name, "0")
        return r"\pi" if name == "pi" else name_latex(name)

    def is_matrix(self, tree: Tree) -> bool:
        """Whether a tree is visibly a matrix."""
        match tree:
            case Call(name=name):
                return name in ("diag", "outer", "jacobian", "immediate", "prod")
            case Transposed(operand=x):
                return self.is_matrix(x)
            case Binary(sign="@", left=a, right=b):
                return _is_row(b) or (self.is_matrix(a) and self.is_matrix(b))
        return super().is_matrix(tree)

    def called(self, name: str, arguments: tuple[Tree, ...]) -> tuple[str, int]:
        """An operation of backward equations, or a function."""
        match name, arguments:
            case "outer", (a, b):
                return rf"{self._tree(a, _ATOM)} \, {_transposed(self._tree(b, _ATOM))}", _PRODUCT
            case "dot", (a, b):
                return rf"{_transposed(self._tree(a, _ATOM))} \, {self._tree(b, _ATOM)}", _PRODUCT
            case (("sum" | "prod"), (x, *limits)):
                return self.over_time(name, x, limits), _PRODUCT
            case "jacobian", (a, b):
                return rf"\frac{{\partial {self.tree(a)}}}{{\partial {self.tree(b)}}}", _ATOM
            case "immediate", (a, b):
                return rf"\frac{{\partial^{{+}} {self.tree(a)}}}{{\partial {self.tree(b)}}}", _ATOM
            case "truncated", (a, n):
                return rf"\left[{self.tree(a)}\right]_{{{self.tree(n)}}}", _ATOM
        inner = ", ".join(map(self.tree, arguments))
        if name in FUNCTIONS or (name[:1] == "d" and name[1:] in FUNCTIONS):
            return self._call(name, inner), _ATOM
        return rf"\operatorname{{{name.replace('_', ' ')}}}\left({inner}\right)", _ATOM

    def over_time(self, name: str, x: Tree, limits: list[Tree]) -> str:
        """A sum or a product over steps; its own limits are t = 1, ..., T."""
        letter, first, last = "t", "1", "T"
        if len(limits) == 3:
            letter, first, last = (_index(limit) for limit in limits)
        sign = r"\sum" if name == "sum" else r"\prod"
        return rf"{sign}_{{{letter}={first}}}^{{{last}}} {self._tree(x, _PRODUCT)}"


def _is_row(tree: Tree) -> bool:
    """Whether a tree is a vector turned into a row: what stands left of it makes a matrix."""
    return isinstance(tree, Transposed) and isinstance(tree.operand, Indexed)


def _transposed(latex: str) -> str:
    return rf"{latex}^{{\top}}"


def _is_numeric(tree: Tree) -> bool:
    """Whether a tree is made of numbers and of T alone."""
    return all(isinstance(x, Number | Binary) or (isinstance(x, Name) and x.name in ("T", "pi")) for x in walk(tree))


def _index(tree: Tree) -> str:
    """A time: t-1, T, 0, k+1."""
    match tree:
        case Name(name=name):
            return name_latex(name)
        case Number(text=text):
            return text
        case Binary(sign=sign, left=a, right=b):
            return f"{_index(a)}{sign}{_index(b)}"
    return r"\cdot"
