"""A .backward file as lines: what each defines or claims, and at which time.

dh[t] = ...                     the derivative of the loss by h[t]
dW_hh = ...   dh0 = ...         the gradient of a parameter, of an initial state
da[t] = ...   J[t] = ...        the author's own
h[t] = ...                      an equation of the cell, restated
jacobian(h[T], h[t]) = ...      the derivative of one vector by another
truncated(dh[t], 2) = ...       a derivative that counts only the losses of steps t and t+1
"""

from __future__ import annotations

from dataclasses import dataclass

from derive.cell import Cell
from derive.errors import CellError, nearest
from derive.handwritten.letters import in_t
from derive.handwritten.names import Names, Reference
from derive.handwritten.times import EVERY, LAST, START, When, read_when
from derive.syntax import Call, Equation, Indexed, Name, Number, Tree, parse_lines

__all__ = ["Line", "Script", "Target", "read_script"]

MOST_TRUNCATED = 4


@dataclass(frozen=True)
class Target:
    """What a line is about.

    ``role`` is derivative, gradient, initial, own, forward, jacobian, truncated or truncated gradient; ``when`` is
    None for what has no index.  A Jacobian is that of ``name`` by ``by``; ``steps`` is how many steps are counted.
    """

    role: str
    name: str
    when: When | None = None
    by: str = ""
    by_when: When | None = None
    steps: int = 0


@dataclass(frozen=True, eq=False)
class Line:
    """One equation; ``offset`` is added to every t on its right side (a line for dh[t-1] is one for dh[t])."""

    number: int
    text: str
    target: Target
    value: Tree
    offset: int
    equation: Equation


@dataclass(frozen=True, eq=False)
class Script:
    """A file of backward equations for a cell."""

    cell: Cell
    names: Names
    lines: tuple[Line, ...]

    def defining(self, name: str) -> list[Line]:
        """The lines that define one of the author's own names."""
        return [line for line in self.lines if line.target.role == "own" and line.target.name == name]


def read_script(text: str, cell: Cell) -> Script:
    """The lines of a text; raises :class:`CellError` for what cannot be read."""
    equations, declarations = parse_lines(text)
    if declarations:
        d = declarations[0]
        why = "sizes are declared with the cell"
        raise CellError(why, d.position, found=f"{d.name}: {', '.join(d.sizes)}", expected="an equation")
    if not equations:
        raise CellError("there is no equation", expected="a line such as dh[t] = W.T @ dy[t] + U.T @ da[t+1]")
    equations = [in_t(e) for e in equations]
    names = _own_names(equations, Names(cell))
    lines = tuple(_line(e, names) for e in equations)
    _check_once(lines)
    return Script(cell, names, lines)


def _own_names(equations: list[Equation], names: Names) -> Names:
    indexed, plain = set(), set()
    for e in equations:
        target = e.target
        if isinstance(target, Indexed):
            if names.find_indexed(target.name) is None or target.name in ("p", "target"):
                indexed.add(target.name)
        elif isinstance(target, Name) and names.gradient(target.name) is None:
            plain.add(target.name)
    return Names(names.cell, frozenset(indexed - {"p", "target"}), frozenset(plain))


def _line(e: Equation, names: Names) -> Line:
    target, offset = _target(e.target, names), 0
    if target.when is not None and target.when.anchor == EVERY and target.role not in ("jacobian",):
        offset = -target.when.shift
        target = Target(target.role, target.name, target.when.moved(offset), steps=target.steps)
    return Line(e.position[0], e.text, target, e.value, offset, e)


def _target(tree: Tree, names: Names) -> Target:
    match tree:
        case Indexed(name=name, index=index):
            return _indexed_target(name, read_when(index, name), names, tree)
        case Name(name=name):
            return _bare_target(name, names, tree)
        case Call(name="jacobian", arguments=(Indexed() as of, Indexed() as by)):
            for part in (of, by):
                if names.indexed(part.name, part.position).role != "forward":
                    found = f"jacobian(... {part.name} ...)"
                    raise CellError(
                        "a Jacobian is taken of values of the cell", part.position, found=found, expected="h[t]"
                    )
            return Target("jacobian", of.name, read_when(of.index, of.name), by.name, read_when(by.index, by.name))
        case Call(name="truncated", arguments=(inner, Number(value=n))):
            if n.denominator != 1 or not 1 <= n <= MOST_TRUNCATED:
                wanted = f"1 to {MOST_TRUNCATED}"
                raise CellError("how many steps are counted", tree.position, found=str(n), expected=wanted)
            target = _target(inner, names)
            roles = {"derivative": "truncated", "gradient": "truncated gradient"}
            if target.role not in roles:
                wanted = "truncated(dh[t], 2) or truncated(dW_hh, 2)"
                raise CellError("only a derivative is truncated", tree.position, expected=wanted)
            return Target(roles[target.role], target.name, target.when, steps=int(n))
        case Call(name="jacobian" | "truncated" as name):
            wanted = "jacobian(h[T], h[t])" if name == "jacobian" else "truncated(dh[t], 2)"
            raise CellError(f"{name} takes two arguments", tree.position, expected=wanted)
    wanted = "one name, such as dh[t], da[t] or dW_hh; the derivative of the loss by W is written dW"
    raise CellError("this cannot stand on the left side", tree.position, expected=wanted)


def _indexed_target(name: str, when: When, names: Names, tree: Tree) -> Target:
    reference = names.indexed(name, tree.position)
    if when.anchor not in (EVERY, LAST, START):
        raise CellError("a line is for every t, or for one step", tree.position, expected=f"{name}[t] or {name}[T]")
    if reference.role == "local":
        return Target("local", reference.name, when)
    if reference.role == "target":
        raise CellError(
            "the target is given, it has no equation", tree.position, found=f"{name}[...]", expected="p[t], or dy[t]"
        )
    if reference.role == "softmax":
        return Target(reference.role, name, when)
    _check_exists(reference, when, names, tree)
    if reference.role == "derivative" and when == When(START, 0) and reference.name not in names.cell.states:
        why = f"there is no {reference.name}[0]: only states have an initial value"
        raise CellError(why, tree.position, found=f"{name}[0]", expected=f"{name}[1] or {name}[t]")
    return Target(reference.role, reference.name, when)


def _check_exists(reference: Reference, when: When, names: Names, tree: Tree) -> None:
    """Refuse an equation for an input, or for a value outside of the sequence."""
    if reference.role != "forward":
        return
    name = reference.name
    if name in names.cell.inputs:
        raise CellError(f"{name} is an input: it has no equation", tree.position, expected=f"d{name}[t] = ...")
    early = when.anchor == START and when.shift == 0
    if early or (when.anchor == LAST and when.shift > 0):
        why = f"{name}[{when}] is given, it has no equation" if early else f"there is no {name}[{when}]"
        raise CellError(why, tree.position, found=f"{name}[{when}]", expected=f"{name}[t] = ...")


def _bare_target(name: str, names: Names, tree: Tree) -> Target:
    found = names.gradient(name)
    if found is not None:
        return Target(found.role, found.name)
    if name in names.cell.parameters:
        wanted = f"d{name} = ... for its gradient"
        raise CellError("a parameter has no equation", tree.position, found=name, expected=wanted)
    if name.startswith("d") and len(name) > 1:
        known = {f"d{n}" for n in names.cell.parameters} | {f"d{s}0" for s in names.cell.states}
        if indexed := names.as_indexed(name):
            raise CellError("an index stands in brackets", tree.position, found=name, expected=f"{indexed} = ...")
        if names.derivative_of(name) or names.find_indexed(name):
            raise CellError(f"{name} is a value of one step", tree.position, found=name, expected=f"{name}[t] = ...")
        wanted = f"d and a parameter ({', '.join(names.cell.parameters)}), or {name}[t] for an own definition"
        near = nearest(name, known)
        raise CellError("unknown derivative", tree.position, found=name, expected=wanted, near=near)
    if name in names.cell.axes or name in ("p", "target"):
        raise CellError(f"{name} is a value of one step", tree.position, found=name, expected=f"{name}[t] = ...")
    if name in ("T", "t", "pi"):
        raise CellError(f"{name} is reserved", tree.position, found=name, expected="another name")
    if indexed := names.as_indexed(name):
        raise CellError("an index stands in brackets", tree.position, found=name, expected=f"{indexed} = ...")
    return Target("own", name)


def _check_once(lines: tuple[Line, ...]) -> None:
    first: dict[Target, Line] = {}
    for line in lines:
        other = first.setdefault(line.target, line)
        if other is not line:
            why = "this is defined twice"
            found = f"a first definition in line {other.number}"
            wanted = "one line for each name and time; terms that add up stand in one line"
            raise CellError(why, line.equation.position, found=found, expected=wanted)
