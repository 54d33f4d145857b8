"""LaTeX as papers print it: time as a subscript, a circle for entrywise products, the author's order of terms."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sympy import Add, Expr, Mul, Symbol, pi

from derive.cell import Cell
from derive.dimensions import is_scaling
from derive.notation import FUNCTIONS, column, diag, entry_sum, lin, matrix_of, outer, time_of, time_sum
from derive.roles import shift_of
from derive.syntax import Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree

__all__ = ["Typesetter", "cell_latex", "d_latex", "name_latex", "size_latex"]

_FIRST = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
_SECOND = "nu xi pi rho sigma tau upsilon phi chi psi omega"
_UPPER = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
_GREEK = frozenset(f"{_FIRST} {_SECOND} {_UPPER}".split())

_SUM, _PRODUCT, _ATOM = 0, 1, 2


def name_latex(name: str, *indices: str) -> str:
    """A name with its subscripts: ``W_hh`` is W_{hh}, ``a_i`` at time t is a_{i,t}, ``alpha`` the Greek letter.

    >>> name_latex("W_hh"), name_latex("h", "t-1"), name_latex("a_i", "t"), name_latex("W1")
    ('W_{hh}', 'h_{t-1}', 'a_{i,t}', 'W_{1}')
    """
    base, *subscripts = [part for part in name.split("_") if part] or ["x"]
    if digits := re.fullmatch(r"([A-Za-z]+)([0-9]+)", base):
        base, subscripts = digits[1], [digits[2], *subscripts]
    shown = ",".join([*(_word(s) for s in subscripts), *indices])
    return f"{_base(base)}_{{{shown}}}" if shown else _base(base)


def d_latex(name: str, *indices: str) -> str:
    """The derivative of the loss by a name, dh_t."""
    shown = name_latex(name, *indices)
    return rf"\mathrm{{d}}\,{shown}" if shown.startswith(r"\mathrm") else rf"\mathrm{{d}}{shown}"


def _base(word: str) -> str:
    if word in _GREEK:
        return rf"\{word}"
    return word if len(word) == 1 else rf"\mathrm{{{word}}}"


def _word(word: str) -> str:
    if word in _GREEK:
        return rf"\{word}"
    return word if len(word) <= 2 else rf"\mathrm{{{word}}}"


def size_latex(letter: str) -> str:
    """A size such as H or H_c."""
    return name_latex(letter)


def _time(shift: int) -> str:
    return f"t{shift:+d}" if shift else "t"


class Typesetter:
    """LaTeX of a cell's expressions; ``circle`` stands between vectors that multiply entry by entry."""

    circle = r" \odot "
    added = _PRODUCT  # what is added is in brackets where it is itself a sum

    def __init__(self, cell: Cell, prefix: str = "d") -> None:
        self.cell, self.prefix = cell, prefix
        self.kinds = {name: "scalar" for name, shape in cell.parameters.items() if shape == ()}
        self.matrices = {name for name, shape in cell.parameters.items() if len(shape) == 2}

    # ------------------------------------------------------------------ what the author wrote, in the author's order

    def tree(self, tree: Tree) -> str:
        """An equation's right side, terms and factors in the order of the text."""
        return self._tree(tree, _SUM)

    def _tree(self, tree: Tree, level: int) -> str:
        text, own = self._tree_parts(tree)
        return rf"\left({text}\right)" if own < level else text

    def _tree_parts(self, tree: Tree) -> tuple[str, int]:
        match tree:
            case Number(text=text):
                return _number_text(text), _ATOM
            case Name(name=name):
                return (r"\pi" if name == "pi" else self.written(name)), _ATOM
            case Indexed(name=name):
                return self.written(name, _time(shift_of(tree))), _ATOM
            case Negative(operand=x):
                return f"-{self._tree(x, _PRODUCT)}", _SUM
            case Transposed(operand=x):
                return rf"{self._tree(x, _ATOM)}^{{\top}}", _ATOM
            case Power(base=base, exponent=n):
                shown = self._tree(base, _ATOM)
                return rf"\left({shown}\right)^{{{n}}}" if isinstance(base, Power) else rf"{shown}^{{{n}}}", _ATOM
            case Call(name=name, arguments=(x,)):
                return self._call(name, self.tree(x)), _ATOM
            case Binary(sign="+" | "-" as sign, left=a, right=b):
                return _joined(self._tree(a, _SUM), sign, self._tree(b, self.added if sign == "+" else _PRODUCT)), _SUM
            case Binary(sign="/", left=a, right=b):
                return rf"\frac{{{self.tree(a)}}}{{{self.tree(b)}}}", _ATOM
            case Binary(sign="@", left=a, right=b):
                return rf"{self._tree(a, _PRODUCT)} \, {self._tree(b, _ATOM)}", _PRODUCT
            case Binary(left=a, right=b):
                if not self.is_matrix(a) and self.is_matrix(b) and not is_scaling(a, self.kinds):
                    return rf"\operatorname{{diag}}\left({self.tree(a)}\right) {self._tree(b, _PRODUCT)}", _PRODUCT
                bare = is_scaling(a, self.kinds) or is_scaling(b, self.kinds)
                circle = r" \cdot " if isinstance(b, Number) else r" \, " if bare else self.circle
                return f"{self._tree(a, _PRODUCT)}{circle}{self._tree(b, _PRODUCT)}", _PRODUCT
        raise TypeError(tree)

    def written(self, name: str, *indices: str) -> str:
        """A name of the text with its time."""
        return name_latex(name, *indices)

    def is_matrix(self, tree: Tree) -> bool:
        """Whether a tree is a matrix expression."""
        match tree:
            case Name(name=name):
                return name in self.matrices
            case Transposed():
                return True
            case Negative(operand=x):
                return self.is_matrix(x)
            case Binary(sign="@", right=b):
                return self.is_matrix(b)
            case Binary(left=a, right=b):
                return self.is_matrix(a) or self.is_matrix(b)
        return False

    # ------------------------------------------------------------------------------------------- SymPy expressions

    def expression(self, e: Expr) -> str:
        """A SymPy expression in generic entries."""
        return self._e(e, _SUM)

    def _e(self, e: Expr, level: int) -> str:
        text, own = self._parts(e)
        return rf"\left({text}\right)" if own < level else text

    def _parts(self, e: Expr) -> tuple[str, int]:
        if isinstance(e, Symbol):
            return self.symbol(e), _ATOM
        if e is pi:
            return r"\pi", _ATOM
        if e.is_Rational:
            text = str(abs(e.p)) if e.q == 1 else rf"\tfrac{{{abs(e.p)}}}{{{e.q}}}"
            return (f"-{text}", _SUM) if e.p < 0 else (text, _ATOM)
        if isinstance(e, Add):
            return self._add(e), _SUM
        if isinstance(e, Mul):
            return self._mul(e)
        if e.is_Pow:
            return self._pow(e)
        if isinstance(e, lin):
            name, transposed = matrix_of(e)
            mark = r"^{\top}" if transposed else ""
            return rf"{name_latex(name)}{mark} \, {self._e(e.args[1], _ATOM)}", _PRODUCT
        if isinstance(e, outer):
            return rf"{self._e(e.args[0], _ATOM)} \, {self._e(e.args[1], _ATOM)}^{{\top}}", _PRODUCT
        if isinstance(e, time_sum):
            return rf"\sum_{{t=1}}^{{T}} {self._e(e.args[0], _PRODUCT)}", _PRODUCT
        if isinstance(e, entry_sum):
            return rf"\mathbf{{1}}^{{\top}} {self._e(e.args[0], _ATOM)}", _PRODUCT
        if isinstance(e, column):
            return self._parts(e.args[0])
        if isinstance(e, diag):
            return rf"\operatorname{{diag}}\left({self.expression(e.args[0])}\right)", _ATOM
        return self._call(type(e).__name__, self.expression(e.args[0])), _ATOM

    def symbol(self, symbol: Symbol) -> str:
        """A symbol with its time, or a matrix that does not commute."""
        if absolute := re.fullmatch(r"(\w+)\[(\d+)\]", symbol.name):
            return self.named(absolute[1], absolute[2])
        name, shift = time_of(symbol)
        if name.endswith(".T"):
            return rf"{self.named(name[:-2])}^{{\top}}"
        return self.named(name, *([] if shift is None else [_time(shift)]))

    def named(self, name: str, *indices: str) -> str:
        """A name, or the derivative that it names."""
        if name.startswith(self.prefix) and name not in self.cell.axes and name not in self.cell.parameters:
            inner = name.removeprefix(self.prefix)
            return d_latex(inner, *indices) if inner else name_latex(name, *indices)
        return name_latex(name, *indices)

    def _add(self, e: Expr) -> str:
        terms = sorted(e.args, key=_order_of_terms)
        text = self._e(terms[0], _SUM)
        for term in terms[1:]:
            minus = term.could_extract_minus_sign()
            shown = self._e(-term, _PRODUCT) if minus else self._e(term, self.added)
            text = _joined(text, "-" if minus else "+", shown)
        return text

    def _mul(self, e: Expr) -> tuple[str, int]:
        if not e.is_commutative:
            return r" \, ".join(self._e(factor, _PRODUCT) for factor in e.args), _PRODUCT
        if e.could_extract_minus_sign():
            return f"-{self._e(-e, _PRODUCT)}", _SUM
        below = Mul(*(1 / f for f in e.args if f.is_Pow and f.exp.is_negative))
        divisor = next((f.q for f in e.args if f.is_Rational), 1)
        if below != 1 or divisor != 1:
            above = Mul(*(f for f in e.args if not (f.is_Pow and f.exp.is_negative))) * divisor
            return rf"\frac{{{self.expression(above)}}}{{{self.expression(divisor * below)}}}", _ATOM
        scalar = [f for f in e.args if f.is_number or self.is_scalar(f)]
        vectors = sorted((f for f in e.args if f not in scalar), key=_rank)
        parts = [self._e(f, _PRODUCT) for f in scalar]
        return r" \, ".join(
            [*parts, self.circle.join(self._e(f, _PRODUCT) for f in vectors)][: len(parts) + bool(vectors)]
        ), _PRODUCT

    def is_scalar(self, e: Expr) -> bool:
        """Whether every symbol of an expression is a scalar parameter."""
        return not e.has(lin) and all(s.name in self.kinds for s in e.free_symbols)

    def _pow(self, e: Expr) -> tuple[str, int]:
        if e.exp.is_negative:
            below = e.base if e.exp == -1 else e.base**-e.exp
            return rf"\frac{{1}}{{{self.expression(below)}}}", _ATOM
        if type(e.base).__name__ in ("tanh", "sin", "cos"):
            name, x = type(e.base).__name__, self.expression(e.base.args[0])
            return rf"\{name}^{{{e.exp}}}\left({x}\right)", _ATOM
        return rf"{self._e(e.base, _ATOM)}^{{{e.exp}}}", _ATOM

    def _call(self, name: str, x: str) -> str:
        if name == "sqrt":
            return rf"\sqrt{{{x}}}"
        if name == "abs":
            return rf"\left|{x}\right|"
        if name == "drelu":
            return rf"\left[{x} > 0\right]"
        if name == "dabs":
            return rf"\operatorname{{sign}}\left({x}\right)"
        if name in FUNCTIONS:
            return rf"{FUNCTIONS[name].latex}\left({x}\right)"
        return rf"{FUNCTIONS[name[1:]].latex}'\left({x}\right)"


def _joined(left: str, sign: str, right: str) -> str:
    """Two terms; what is added with a minus is subtracted."""
    return f"{left} - {right[1:]}" if sign == "+" and right.startswith("-") else f"{left} {sign} {right}"


def _order_of_terms(term: Expr) -> tuple[bool, bool, int, tuple[int, str]]:
    """Where a term stands: what is added first, numbers first, step t before step t + 1."""
    latest = max((time_of(s)[1] or 0 for s in term.free_symbols if s.name.endswith("]")), default=0)
    return bool(term.could_extract_minus_sign()), not term.is_number, latest, _rank(term)


def _rank(e: Expr) -> tuple[int, str]:
    """Where a factor stands: the loss's derivatives first, then names, then sums, functions and products."""
    if isinstance(e, Symbol):
        return (0 if e.name.startswith("d") else 1), e.name
    return (2 if e.is_Pow or e.is_Add else 3 if not e.has(lin) else 0), str(e)


def _number_text(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def aligned(lines: Mapping[str, str]) -> str:
    """Equations under each other, left sides to right sides."""
    rows = [rf"{left} &= {right}" for left, right in lines.items()]
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def cell_latex(cell: Cell) -> str:
    """A cell's equations as their author wrote them, aligned."""
    typeset = Typesetter(cell)
    return aligned({name_latex(name, "t"): typeset.tree(e.value) for name, e in cell.trees.items()})
