"""Random small cells as texts, for Hypothesis.

Every name gets a size first; sums, products and matrix expressions are then written so that sizes agree.  Values stay
bounded: an equation's right side ends in a bounded function or in a small factor, divisors are at least 1, and roots
and logarithms are taken of numbers that are at least 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

import derive

__all__ = ["cell_texts"]

BOUNDED = ("tanh", "sigmoid", "sin", "cos", "erf", "softsign")
NUMBERS = ("2", "3", "0.5", "1.5", "1/3", "25e-2", "pi/4")
LETTERS = ("H", "D", "O")
PARAMETERS = 8


class _Writer:
    """One text in the making; ``draw`` chooses, ``parameters`` remembers the sizes of what has been named."""

    def __init__(self, draw: Any, functions: tuple[str, ...], divisions: bool) -> None:
        self.draw, self.functions, self.divisions = draw, functions, divisions
        self.bounded = tuple(name for name in functions if name in BOUNDED)
        self.parameters: dict[str, tuple[int, ...]] = {}  # axes by number
        self.readable: list[tuple[str, int]] = []  # what an equation may read, and its axis
        self.axes = draw(st.integers(1, len(LETTERS)))

    def pick(self, *options: Any) -> Any:
        """One of the options; the first is the simplest."""
        return self.draw(st.sampled_from(options))

    # ------------------------------------------------------------------------------------------ parameters

    def room(self) -> bool:
        """Whether a parameter can be named and still every pair of sizes can get the matrix that it may need."""
        pairs = {(a, b) for a in range(self.axes) for b in range(a, self.axes)}
        pairs -= {(min(shape), max(shape)) for shape in self.parameters.values() if len(shape) == 2}
        return len(self.parameters) + len(pairs) < PARAMETERS

    def parameter(self, stem: str, *shape: int) -> str:
        name = next(f"{stem}{i}" for i in range(1, PARAMETERS + 2) if f"{stem}{i}" not in self.parameters)
        self.parameters[name] = shape
        return name

    def matrix(self, rows: int, columns: int) -> str:
        """A single matrix: a new one, one that stands elsewhere too, or a transpose."""
        same = [name for name, shape in self.parameters.items() if shape == (rows, columns)]
        turned = [f"{name}.T" for name, shape in self.parameters.items() if shape == (columns, rows)]
        new = not (same or turned) or (self.room() and self.draw(st.booleans()))
        return self.parameter("W", rows, columns) if new else self.pick(*same, *turned)

    def matrices(self, rows: int, columns: int) -> str:
        """A matrix expression, to be written left of '@'."""
        kind = self.pick("single", "single", "single", "sum", "product", "number", "minus", "scaled", "scalar")
        if kind == "product":
            k = self.draw(st.integers(0, self.axes - 1))
            return f"{self.matrix(rows, k)} @ {self.matrix(k, columns)}"
        m = self.matrix(rows, columns)
        if kind == "sum":
            return f"({m} {self.pick('+', '-')} {self.matrix(rows, columns)})"
        if kind == "number":
            return self.pick(f"0.5*{m}", f"{m}/2", f"({m}*3)")
        if kind == "minus":
            return self.pick(f"-{m}", f"(-{m})")
        if kind == "scaled":
            return f"({self.leaf(rows)}*{m})"
        return f"({self.scalar()}*{m})" if kind == "scalar" else m

    def scalar(self) -> str:
        """A declared scalar parameter where there is room, else a number."""
        known = [name for name, shape in self.parameters.items() if shape == ()]
        if self.room() and (not known or self.draw(st.booleans())):
            known = [self.parameter("alpha")]
        return self.pick(*known) if known else "0.5"

    def vector(self, axis: int) -> str:
        """A vector parameter where there is room or one already, else something readable."""
        known = [name for name, shape in self.parameters.items() if shape == (axis,)]
        if self.room() and (not known or self.draw(st.booleans())):
            known = [self.parameter("b", axis)]
        return self.pick(*known) if known else self.leaf(axis)

    # ----------------------------------------------------------------------------------------- expressions

    def leaf(self, axis: int) -> str:
        """Something that an equation may read at this size, or a product that has it."""
        same = [text for text, a in self.readable if a == axis]
        if same:
            return self.pick(*same)
        text, a = self.pick(*self.readable)
        return f"({self.matrix(axis, a)} @ {text})"

    def product(self, axis: int, text: str, a: int) -> str:
        """``text``, of size ``a``, brought to the size ``axis``."""
        kind = self.pick("matrix", "matrix", "plain", "vector", "scalar") if a == axis else "matrix"
        if kind == "matrix":
            return f"{self.matrices(axis, a)} @ {text}"
        factor = {"plain": lambda: "", "vector": lambda: f"{self.vector(axis)}*", "scalar": lambda: f"{self.scalar()}*"}
        return factor[kind]() + text

    def expression(self, axis: int, depth: int) -> str:
        """A sum, product, power, quotient or function value of this size; usually not bounded."""
        if depth == 0:
            return self.pick(self.leaf, self.vector)(axis)
        kinds = ["leaf", "sum", "product", "minus", "power", "number", "matrix", "gate"]
        kinds += ["function", "function"] if self.functions else []
        kinds += ["quotient", "inverse"] if self.divisions else []
        kind = self.pick(*kinds)
        below = lambda: self.expression(axis, depth - 1)  # noqa: E731
        if kind == "sum":
            return f"({below()} {self.pick('+', '-')} {below()})"
        if kind == "product":
            return f"({below()})*({below()})"
        if kind == "minus":
            return f"(-{below()})"
        if kind == "power":
            return f"({below()})**{self.pick(2, 3)}"
        if kind == "number":
            return f"{self.pick(*NUMBERS)}*({below()})"
        if kind == "matrix":
            a = self.draw(st.integers(0, self.axes - 1))
            return f"({self.matrices(axis, a)} @ ({self.expression(a, depth - 1)}))"
        if kind == "gate":
            gate = self.tame(axis, 0)
            return f"({gate}*{self.leaf(axis)} + (1 - {gate})*{self.leaf(axis)})"
        if kind == "quotient":
            return f"{self.leaf(axis)}/{self.at_least_one(axis, depth - 1)}"
        if kind == "inverse":
            return f"{self.at_least_one(axis, depth - 1)}**-{self.pick(1, 2)}"
        return self.function(axis, depth - 1) if kind == "function" else self.leaf(axis)

    def at_least_one(self, axis: int, depth: int) -> str:
        if self.bounded and self.draw(st.booleans()):
            return f"(2 + {self.tame(axis, depth)})"
        return f"(1 + ({self.expression(axis, depth)})**2)"

    def function(self, axis: int, depth: int) -> str:
        """f(...), with an argument at which f is defined and no larger than a few units."""
        name = self.pick(*self.functions)
        if name in ("log", "sqrt"):
            return f"{name}({self.at_least_one(axis, depth)})"
        if name == "exp":
            small = self.draw(st.booleans())
            return f"exp({self.tame(axis, depth)})" if small else f"exp(-({self.expression(axis, depth)})**2)"
        return f"{name}({self.expression(axis, depth)})"

    def tame(self, axis: int, depth: int, more: str = "") -> str:
        """A bounded value, f(e) or e/(1 + e**2); where neither may be used, a small multiple."""
        inside = self.expression(axis, depth) + more
        if self.bounded:
            return f"{self.pick(*self.bounded)}({inside})"
        return f"(({inside})/(1 + ({inside})**2))" if self.divisions else f"0.25*({inside})"

    def right_side(self, axis: int, sources: list[tuple[str, int]]) -> str:
        """An equation's right side, which reads ``sources`` and whatever else it likes."""
        texts = "".join(f" {self.pick('+', '+', '-')} {self.product(axis, *source)}" for source in sources)
        more = f" + {self.vector(axis)}" if self.draw(st.booleans()) else ""
        kind = self.pick("tame", "tame", "gated", "leaky")
        whole = self.tame(axis, self.draw(st.integers(0, 2)), texts + more)
        if kind == "gated":
            return f"{self.tame(axis, 0)}*{whole}"
        return f"0.5*{self.leaf(axis)} + {whole}" if kind == "leaky" else whole


@st.composite
def cell_texts(draw: Any, *, functions: Iterable[str] | None = None, divisions: bool = True) -> str:
    """Texts of small valid cells: at most five equations and eight parameters.

    ``functions`` are the names that may be used (all of the language by default); ``divisions`` allows divisors and
    negative powers.
    """
    allowed = tuple(derive.FUNCTIONS) if functions is None else tuple(functions)
    writer = _Writer(draw, allowed, divisions)
    axis = st.integers(0, writer.axes - 1)
    states = {name: draw(axis) for name in ("h", "c", "s")[: draw(st.integers(1, 3))]}
    inputs = {name: draw(axis) for name in ("x", "u")[: draw(st.integers(0, 2))]}
    outputs = {name: draw(axis) for name in ("y", "q")[: draw(st.integers(0, min(2, 5 - len(states))))]}
    between = {name: draw(axis) for name in ("z", "r", "n")[: draw(st.integers(0, 5 - len(states) - len(outputs)))]}
    writer.readable = [(f"{name}[t-1]", a) for name, a in states.items()] + [(f"{x}[t]", a) for x, a in inputs.items()]
    lines = _equations(writer, between, states, outputs)
    lines += [f"{name}: scalar" for name, shape in writer.parameters.items() if shape == ()]
    lines += _declarations(draw, {**states, **inputs, **outputs, **between}, writer.parameters)
    return "\n".join(draw(st.permutations(lines)) if draw(st.booleans()) else lines)


def _equations(writer: _Writer, between: dict[str, int], states: dict[str, int], outputs: dict[str, int]) -> list[str]:
    """One line each; every state, input and intermediate is read by an equation that may read it."""
    order = [*between.items(), *states.items(), *outputs.items()]
    duties: list[list[tuple[str, int]]] = [[] for _ in order]
    for source in writer.readable:
        duties[writer.draw(st.integers(0, len(order) - 1))].append(source)
    for i, (name, a) in enumerate(between.items()):
        duties[writer.draw(st.integers(i + 1, len(order) - 1))].append((f"{name}[t]", a))
    lines = []
    for (name, a), sources in zip(order, duties, strict=True):
        lines.append(f"{name}[t] = {writer.right_side(a, sources)}")
        if name not in outputs:
            writer.readable.append((f"{name}[t]", a))
    return lines


def _declarations(draw: Any, vectors: dict[str, int], parameters: dict[str, tuple[int, ...]]) -> list[str]:
    """Some of the sizes, said although they could be inferred."""
    sizes = {**{name: (a,) for name, a in vectors.items()}, **{n: shape for n, shape in parameters.items() if shape}}
    said = draw(st.lists(st.sampled_from(sorted(sizes)), unique=True, max_size=3)) if draw(st.booleans()) else []
    letters = {name: [LETTERS[a] for a in sizes[name]] for name in said}
    return [f"{name}: {x[0]}" if len(x) == 1 else f"{name}: ({', '.join(x)})" for name, x in letters.items()]
