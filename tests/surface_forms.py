"""The same backward equations in other words: meaning-preserving rewritings of .backward texts, for Hypothesis.

    text -> trees -> 1 to 6 rewritings -> another text, and which of its lines carry each line of the first

A rewriting holds for any right side, right or wrong: it uses algebra, the cell's own equations and the author's
definitions, never what a line ought to say.  So a mistake stays, and :class:`Surface` knows where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from surface_trees import (
    HERE,
    Form,
    Item,
    Put,
    fits,
    index_of,
    kind_of,
    mapped,
    moved,
    places,
    times_in,
    when_of,
    with_children,
)

from derive.cell import Cell
from derive.syntax import (
    Call,
    Indexed,
    Name,
    Tree,
    children,
    parse_lines,
    walk,
)
from derive.tokens import normal, tokens
from derive.unparse import unparse, unparse_equation

__all__ = ["LAYOUTS", "REWRITINGS", "Form", "Item", "Surface", "read_form", "surface_forms", "surfaces"]

# Pairs of equal expressions, read in both directions: a, b, c are scalars or vectors, u, v, w vectors, A, B, C
# matrices, S a single matrix, p, q, r anything.
ALGEBRA = {
    "a sum commuted": ["p + q = q + p", "p - q = -q + p"],
    "a sum regrouped": ["p + q + r = p + (q + r)", "p + q - r = p + (q - r)", "p - q - r = p - (q + r)"],
    "a difference turned": ["p - q = -(q - p)", "p - q = p + -q"],
    "a product commuted": ["a*b = b*a"],
    "a product regrouped": ["a*b*c = a*(b*c)"],
    "distributed": ["a*(b + c) = a*b + a*c", "a*(b - c) = a*b - a*c", "(b + c)*a = b*a + c*a", "(b - c)*a = b*a - c*a"],
    "one distributed": ["a*(1 - b) = a - a*b", "a*(1 + b) = a + a*b"],
    "a minus moved": ["-a*b = -(a*b)", "a*-b = -(a*b)", "-(A @ u) = A @ -u", "-(A @ u) = -A @ u"],
    "a square": ["a*a = a**2"],
    "factors of one minus a square": ["1 - a**2 = (1 - a)*(1 + a)"],
    "logistic slope": ["a*(1 - a) = a - a**2", "b*a*(1 - a) = b*(a - a**2)"],
    "rows scaled by a diagonal": ["u*A = diag(u) @ A", "u*v = diag(u) @ v", "diag(u) @ (A @ v) = u*(A @ v)"],
    "rows scaled before a product": ["u*A @ v = u*(A @ v)", "u*(A @ B) = u*A @ B"],
    "a product over one minus": [
        "A @ (u*(1 - b)) = A @ u - A @ (u*b)",
        "u*(1 - b) @ A = u @ A - u*b @ A",
        "outer(u*(1 - b), v) = outer(u, v) - outer(u*b, v)",
    ],
    "a product over a sum": [
        "A @ (u + v) = A @ u + A @ v",
        "A @ (u - v) = A @ u - A @ v",
        "(A + B) @ u = A @ u + B @ u",
    ],
    "a row over a sum": ["(u + v) @ A = u @ A + v @ A", "(u - v) @ A = u @ A - v @ A"],
    "a matrix product regrouped": ["A @ B @ u = A @ (B @ u)", "A @ B @ C = A @ (B @ C)", "u @ A @ B = u @ (A @ B)"],
    "row layout": ["S.T @ u = u @ S", "S @ u = u @ S.T"],
    "outer": ["outer(u, v) = u @ v.T"],
    "outer over a sum": ["outer(u + v, w) = outer(u, w) + outer(v, w)", "outer(u - v, w) = outer(u, w) - outer(v, w)"],
    "a factor of outer": ["outer(a*u, v) = a*outer(u, v)", "outer(A @ u, v) = A @ outer(u, v)"],
    "dot": ["dot(u, v) = u.T @ v", "dot(u, v) = dot(v, u)", "dot(u*v, 1) = dot(u, v)"],
    "a sum over time split": ["sum(p + q) = sum(p) + sum(q)", "sum(p - q) = sum(p) - sum(q)", "sum(-p) = -sum(p)"],
    "slope of a function": ["1 - tanh(a)**2 = dtanh(a)", "sigmoid(a)*(1 - sigmoid(a)) = dsigmoid(a)"],
}

# The same, where the cell says that a is a function's value and e its argument there.
WRITTEN_OUT = {
    "tanh": ["1 - a**2 = dtanh(e)", "1 - a**2 = 1 - tanh(e)**2", "a = tanh(e)"],
    "sigmoid": ["a*(1 - a) = dsigmoid(e)", "a - a**2 = dsigmoid(e)", "a = sigmoid(e)"],
}

FRESH = ("q", "w", "u", "rho", "part", "eps", "delta", "carry")
_LETTERS = {"a": "scalar vector", "u": "vector", "A": "matrix", "S": "matrix", "p": "", "e": ""}
_STEMS = {
    x: stem for stem, same in {"a": "abc", "u": "uvw", "A": "ABC", "S": "S", "p": "pqr", "e": "e"}.items() for x in same
}


# ----------------------------------------------------------------------------------------------------------- rewritings


def _pair(equation: str) -> tuple[Tree, Tree]:
    ((found,), _) = parse_lines(equation)
    return found.target, found.value


def _match(pattern: Tree, tree: Tree, kinds: Mapping[str, str], bound: dict[str, Tree]) -> bool:
    if isinstance(pattern, Name):
        if pattern.name in bound:
            return bound[pattern.name] == tree
        stem = _STEMS[pattern.name]
        if (_LETTERS[stem] and kind_of(tree, kinds) not in _LETTERS[stem].split()) or (
            stem == "S" and not isinstance(tree, Name | Indexed)
        ):
            return False
        bound[pattern.name] = tree
        return True
    below, found = children(pattern), children(tree)
    if type(pattern) is not type(tree) or len(below) != len(found) or with_children(tree, below) != pattern:
        return False
    return all(_match(a, b, kinds, bound) for a, b in zip(below, found, strict=True))


def _filled(pattern: Tree, bound: Mapping[str, Tree]) -> Tree:
    return mapped(pattern, lambda part: bound[part.name] if isinstance(part, Name) else None)


Rewriting = Callable[[Form], Iterator[Form]]  # every form that one application gives


def _algebra(equations: list[str]) -> Rewriting:
    rules = [rule for left, right in map(_pair, equations) for rule in ((left, right), (right, left))]

    def rewritten(form: Form) -> Iterator[Form]:
        for i, item in enumerate(form.items):
            for part, put in places(item.value):
                for left, right in rules:
                    bound: dict[str, Tree] = {}
                    if _match(left, part, form.kinds, bound):
                        yield form.put(i, replace(item, value=put(_filled(right, bound))))

    return rewritten


def _exchanged(form: Form, equal: list[tuple[Tree, Tree]]) -> Iterator[Form]:
    """Forms with one side of an equality put in place of the other, once."""
    for i, item in enumerate(form.items):
        for part, put in places(item.value):
            for left, right in equal:
                if part in (left, right):
                    yield form.put(i, replace(item, value=put(right if part == left else left)))


def _written_out(form: Form) -> Iterator[Form]:
    """A value of the cell as the function that it is, or back: 1 - h**2, 1 - tanh(...)**2, dtanh(...)."""
    equal = []
    for name, equation in form.cell.trees.items():
        if isinstance(equation.value, Call) and equation.value.name in WRITTEN_OUT:
            for by in (-1, 0, 1):
                known = {"a": Indexed(HERE, name, index_of("t", by)), "e": moved(equation.value.arguments[0], by)}
                if fits(known["e"], form.cell):
                    pairs = map(_pair, WRITTEN_OUT[equation.value.name])
                    equal += [(_filled(left, known), _filled(right, known)) for left, right in pairs]
    return _exchanged(form, equal)


def _softmax(form: Form) -> Iterator[Form]:
    """p[t] as softmax(y[t]), or back."""
    if len(form.cell.outputs) == 1:
        at = [index_of(*when) for when in (("t", -1), ("t", 0), ("t", 1), ("T", 0))]
        read = [(Indexed(HERE, "p", x), Indexed(HERE, form.cell.outputs[0], x)) for x in at]
        yield from _exchanged(form, [(p, Call(HERE, "softmax", (y,))) for p, y in read])


def _own_variable(form: Form) -> Iterator[Form]:
    """sum(g[t]) as sum(g[k], k, 1, T), or back."""
    limits = (index_of("", 1), index_of("T", 0))
    for i, item in enumerate(form.items):
        for part, put in places(item.value) if item.time is None else ():
            match part:
                case Call(name="sum", arguments=(each,)) if Name(HERE, "k") not in list(walk(each)):
                    new = Call(HERE, "sum", (moved(each, 0, "k"), Name(HERE, "k"), *limits))
                case Call(name="sum", arguments=(each, Name(name=k), *found)) if tuple(found) == limits:
                    new = Call(HERE, "sum", (moved(each, 0, "t", k),))
                case _:
                    continue
            yield form.put(i, replace(item, value=put(new)))


def _shifted(form: Form) -> Iterator[Form]:
    """dh[t] = ... as dh[t-1] = ..., or back."""
    for i, item in enumerate(form.items):
        if item.time in (("t", 0), ("t", -1)):
            by = -1 if item.time == ("t", 0) else 1
            new = replace(item, target=moved(item.target, by), value=moved(item.value, by))
            if fits(new.value, form.cell):
                yield form.put(i, new)


def _in_another_place(form: Form) -> Iterator[Form]:
    """One line moved."""
    for i, item in enumerate(form.items):
        rest = (*form.items[:i], *form.items[i + 1 :])
        yield from (replace(form, items=(*rest[:j], item, *rest[j:])) for j in range(len(form.items)) if j != i)


def _renamed(form: Form) -> Iterator[Form]:
    """One of the author's names changed."""
    for old in form.own:
        for new in (name for name in FRESH if name not in form.words):

            def change(part: Tree, old: str = old, new: str = new) -> Tree | None:
                return replace(part, name=new) if isinstance(part, Indexed) and part.name == old else None

            items = (replace(x, target=mapped(x.target, change), value=mapped(x.value, change)) for x in form.items)
            yield replace(form, items=tuple(items))


def _inlined(form: Form) -> Iterator[Form]:
    """One of the author's definitions put where it is used, and its line left out."""
    for name in form.own:
        lines = [item for item in form.items if isinstance(item.target, Indexed) and item.target.name == name]
        if len(lines) == 1 and lines[0].time and lines[0].time[0] == "t":
            yield from _without(form, lines[0], name)


def _without(form: Form, line: Item, name: str) -> Iterator[Form]:
    value = moved(line.value, -line.time[1]) if line.time else line.value
    calls = {part.name for part in walk(value) if isinstance(part, Call)}
    if name in {used for used, _, _ in times_in(value)} or calls & {"prod", "sum"}:
        return

    def change(part: Tree) -> Tree | None:
        when = when_of(part.index) if isinstance(part, Indexed) and part.name == name else None
        return moved(value, when[1], when[0]) if when else None

    items = [item for item in form.items if item is not line]
    uses = [i for i, item in enumerate(items) if name in {used for used, _, _ in times_in(item.value)}]
    for i in uses:
        items[i] = replace(items[i], value=mapped(items[i].value, change), carries=items[i].carries | line.carries)
    if uses and all(fits(items[i].value, form.cell) and len(unparse(items[i].value)) < 300 for i in uses):
        yield replace(form, items=tuple(items))


def _split_off(form: Form) -> Iterator[Form]:
    """A part of a line as a definition of its own, such as a gradient for each step."""
    name = next((name for name in FRESH if name not in form.words), None)
    for i, item in enumerate(form.items) if name else ():
        for part, put in _each_step(item):
            for by in _definable(part, item, form):
                target = Indexed(HERE, str(name), index_of("t", 0))
                used = put(Indexed(HERE, str(name), index_of("t", -by)))
                yield form.put(i, Item(target, moved(part, by), item.carries), replace(item, value=used))


def _each_step(item: Item) -> Iterator[tuple[Tree, Put]]:
    """The parts of a line that have a value at each step t; not all of it."""
    if item.time is not None:
        yield from (place for place in places(item.value) if place[0] is not item.value)
        return
    for whole, put in places(item.value):
        if isinstance(whole, Call) and whole.name == "sum" and len(whole.arguments) == 1:
            for part, put_part in places(whole.arguments[0]):

                def put_here(new: Tree, put: Put = put, put_part: Put = put_part) -> Tree:
                    return put(Call(HERE, "sum", (put_part(new),)))

                yield part, put_here


def _definable(part: Tree, item: Item, form: Form) -> set[int]:
    """By how many steps a part of a line may be moved to be a definition for every t from 1 to T."""
    offset = item.time[1] if item.time and item.time[0] == "t" else 0
    times, calls = times_in(part), {x.name for x in walk(part) if isinstance(x, Call)}
    if not children(part) or not times or {anchor for _, anchor, _ in times} != {"t"} or calls & {"prod", "sum"}:
        return set()
    if kind_of(part, form.kinds) not in ("vector", "matrix"):
        return set()
    shifts = [(name, shift - offset) for name, _, shift in times]  # counted from the step that the line is about
    ahead = {name for name, shift in shifts if shift == 1}
    here = {0} if not ahead & {*form.cell.axes, *form.own, "p", "target"} else set()
    ways = here | ({-1} if ahead else set())
    return {by - offset for by in ways if all(s + by >= (-1 if n in form.cell.states else 0) for n, s in shifts)}


#: Name -> every form that one application gives.
REWRITINGS: dict[str, Rewriting] = {
    **{name: _algebra(equations) for name, equations in ALGEBRA.items()},
    "a value written out": _written_out,
    "softmax": _softmax,
    "a variable for the sum": _own_variable,
    "a line shifted": _shifted,
    "a line moved": _in_another_place,
    "a definition renamed": _renamed,
    "a definition inlined": _inlined,
    "a definition split off": _split_off,
}


# --------------------------------------------------------------------------------------------------------------- layout


def _bracketed(tree: Tree, chosen: int) -> str:
    """Text of a tree with brackets more around one of its parts."""
    found = list(places(tree))
    part, put = found[chosen % len(found)]
    return unparse(put(Name(HERE, "_here_"))).replace("_here_", f"({unparse(part)})")


def _words(line: str) -> list[str]:
    return [word.text for word in tokens(line) if word.kind in ("name", "number", "sign")]


def _over_lines(line: str) -> str:
    left, _, right = line.partition(" = ")
    return f"{left} = (" + right.replace(" + ", "\n    + ").replace(", ", ",\n    ") + ")  # to be continued"


#: Name -> what happens to a line; brackets are put in before.
LAYOUTS: dict[str, Callable[[str], str]] = {
    "brackets": lambda line: line,
    "tight": lambda line: "".join(_words(line)),
    "wide": lambda line: "\t" + "  ".join(_words(line)).replace(".  T", ".T"),
    "over lines": _over_lines,
    "a comment": lambda line: f"{line}   # x[t] = 1",
    "blank lines": lambda line: f"\n{line}\n  ",
}


def _rendered(form: Form, layouts: Mapping[int, str], chosen: int) -> Surface:
    text = form.header
    lines: dict[int, list[int]] = {number: [] for item in form.items for number in item.carries}
    for i, item in enumerate(form.items):
        layout = layouts.get(i)
        line = unparse_equation(item.target, item.value)
        if layout == "brackets":
            line = f"{unparse(item.target)} = {_bracketed(item.value, chosen)}"
        line = LAYOUTS[layout](line) if layout else line
        first = text.count("\n") + 1 + (line[0] == "\n")
        for number in item.carries:
            lines[number].append(first)
        text += line + "\n"
    return Surface(text, {number: tuple(found) for number, found in sorted(lines.items())})


# ------------------------------------------------------------------------------------------------------------ the whole


@dataclass(frozen=True)
class Surface:
    """A text, and for each line number of the first text the lines that now carry (a part of) that equation.

    A line that was split is carried by its rest and by the new definition; one that was inlined, by the lines that use
    it.  ``rewritings`` names what was done, in order.
    """

    text: str
    lines: Mapping[int, tuple[int, ...]]
    rewritings: tuple[str, ...] = ()


def read_form(text: str, cell: Cell) -> Form:
    """The trees of a text; its opening comment is kept, other comments are not."""
    text = normal(text)
    equations, declarations = parse_lines(text)
    if declarations:
        raise ValueError(f"line {declarations[0].position[0]} is a declaration; expected equations only")
    opening = text.splitlines(keepends=True)[: equations[0].position[0] - 1]
    items = tuple(Item(e.target, e.value, frozenset({e.position[0]})) for e in equations)
    return Form(cell, "".join(line for line in opening if line.startswith("#")), items)


@st.composite
def surfaces(draw: Any, text: str, cell: Cell, *, most: int = 6) -> Surface:
    """Texts that say the same as ``text``, a .backward file for ``cell``, after 1 to ``most`` rewritings."""
    form, done = read_form(text, cell), []
    for _ in range(draw(st.integers(1, most), label="rewritings")):
        names = list(REWRITINGS)
        options: list[Form] = []
        while not options and names:
            name = draw(st.sampled_from(names), label="rewriting")
            names.remove(name)
            options = list(REWRITINGS[name](form))
        if options:
            form = draw(st.sampled_from(options))
            done.append(name)
    each = st.dictionaries(st.integers(0, len(form.items) - 1), st.sampled_from(sorted(LAYOUTS)), max_size=3)
    layouts = draw(each, label="layouts")
    found = _rendered(form, layouts, draw(st.integers(0, 30)))
    return replace(found, rewritings=(*done, *sorted(set(layouts.values()))))


def surface_forms(text: str, cell: Cell) -> st.SearchStrategy[str]:
    """Texts that say the same as ``text``: see :func:`surfaces`, which also tells where each line went."""
    return surfaces(text, cell).map(lambda surface: surface.text)
