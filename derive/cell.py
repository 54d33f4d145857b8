"""A recurrent cell: checked equations with inferred roles and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sympy import Expr

from derive.dimensions import find_dimensions
from derive.errors import CellError
from derive.hypotheses import Hypothesis, find_hypotheses
from derive.lower import Lowering
from derive.roles import find_roles
from derive.syntax import Equation, Indexed, parse_lines
from derive.write import write

__all__ = ["Cell", "build"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_SIZES = re.compile(rf"{_NAME.pattern}|\({_NAME.pattern}, *{_NAME.pattern}\)")


@dataclass(frozen=True, eq=False)
class Cell:
    """Equations of one time step, as their author wrote them.

    ``equations`` maps each assigned name to its right side in generic entries (:mod:`derive.notation`), in the order of
    the text.  ``parameters`` maps each parameter to its sizes: two for a matrix, one for a vector, none for a scalar.
    ``axes`` maps each time-indexed name to its size, ``dimensions`` each size to the names that have it.
    ``hypotheses`` are the conditions under which the cell is defined and differentiable, read from the text.
    """

    name: str
    title: str
    text: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    intermediates: tuple[str, ...]
    parameters: Mapping[str, tuple[str, ...]]
    dimensions: Mapping[str, tuple[str, ...]]
    axes: Mapping[str, str]
    equations: Mapping[str, Expr]
    trees: Mapping[str, Equation]
    order: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...]
    notes: tuple[str, ...]

    @staticmethod
    def from_sympy(
        equations: Mapping[str, Expr], *, sizes: Mapping[str, str] | None = None, name: str = "cell", title: str = ""
    ) -> Cell:
        """A cell from SymPy expressions in generic entries, checked by the same rules as a text.

        ``equations`` maps each assigned name to its right side, made of :func:`derive.at`, :func:`derive.parameter`,
        :class:`derive.lin` and functions (``derive.FUNCTIONS`` or SymPy's own); ``sizes`` holds declarations such as
        ``{"alpha": "scalar", "V": "(H, H)"}``.  Raises :class:`CellError`, and ValueError for what the cell language
        cannot say.

        >>> import derive
        >>> h, x, W = derive.at("h", -1), derive.at("x"), derive.parameter("W")
        >>> Cell.from_sympy({"h": derive.FUNCTIONS["tanh"](derive.lin(W, h) + x)}).text
        'h[t] = tanh(x[t] + W @ h[t-1])'
        """
        sizes = sizes or {}
        _check_words([*equations, *sizes], _NAME, "a name such as h")
        _check_words(sizes.values(), _SIZES, "sizes such as H, scalar or (H, D)")
        lines = [f"{target}[t] = {write(right)}" for target, right in equations.items()]
        lines += [f"{declared}: {size}" for declared, size in sizes.items()]
        return build("\n".join(lines), name=name, title=title)

    def __hash__(self) -> int:
        return hash((self.name, self.text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and (self.name, self.text) == (other.name, other.text)

    def __repr__(self) -> str:
        return f"<Cell {self.name}: {', '.join(f'{n}[t]' for n in self.equations)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return build, (self.text, self.name, self.title)

    def _repr_latex_(self) -> str:
        from derive.latex import cell_latex

        return f"$$\n{cell_latex(self)}\n$$"

    def _repr_html_(self) -> str:
        """What a notebook shows: the typeset equations, then the roles."""
        from derive.notebook import cell_html

        return cell_html(self)


def _check_words(words: Iterable[object], pattern: re.Pattern[str], expected: str) -> None:
    """Refuse what would say more than one word of the text that it becomes a part of."""
    for word in words:
        if not isinstance(word, str) or not pattern.fullmatch(word):
            raise CellError("this cannot be written into a cell", found=repr(word), expected=expected)


def _one_line(text: str) -> str:
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def build(text: str, name: str = "cell", title: str = "") -> Cell:
    """Check a text and infer everything; raises :class:`CellError`."""
    equations, declarations = parse_lines(text)
    if not equations:
        raise CellError("there is no equation", expected="a line such as h[t] = tanh(W @ h[t-1] + U @ x[t])")
    roles = find_roles(equations, declarations)
    dimensions = find_dimensions(equations, declarations, roles)
    trees = {e.target.name: e for e in equations if isinstance(e.target, Indexed)}
    lowering = Lowering(dimensions.parameters)
    return Cell(
        name=_one_line(name),
        title=_one_line(title),
        text=text,
        states=roles.states,
        inputs=roles.inputs,
        outputs=roles.outputs,
        intermediates=roles.intermediates,
        parameters=MappingProxyType(dimensions.parameters),
        dimensions=MappingProxyType(dimensions.letters),
        axes=MappingProxyType(dimensions.axes),
        equations=MappingProxyType({n: lowering.equation(e.value) for n, e in trees.items()}),
        trees=MappingProxyType(trees),
        order=roles.order,
        hypotheses=find_hypotheses(equations, lowering),
        notes=dimensions.notes,
    )
