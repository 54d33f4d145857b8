"""What each name of a cell is: state, input, output, intermediate or parameter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from derive.errors import CellError, Position, is_one_edit, nearest
from derive.notation import FUNCTIONS
from derive.syntax import Binary, Call, Declaration, Equation, Indexed, Name, Number, walk
from derive.tokens import LIMITS

__all__ = ["Roles", "find_roles", "shift_of"]

RESERVED = {"t": "the time index", "pi": "the constant"}

_NOT_YET = {
    name: why
    for why, names in {
        "a reduction over entries": "softmax logsumexp sum prod mean var std norm max min dot layernorm layer_norm",
        "a comparison": "where maximum minimum clip sign step argmax dropout",
        "an outer product": "outer kron",
        "a matrix made of vectors": "diag concat concatenate stack",
        "another time step": "prev delay shift",
    }.items()
    for name in names.split()
}

_ALSO_CALLED = {"sigm": "sigmoid", "logistic": "sigmoid", "ReLU": "relu", "ln": "log", "fabs": "abs", "Tanh": "tanh"}


@dataclass(frozen=True)
class Roles:
    """Names by role; states in order of first occurrence, the others in order of assignment or of first reading."""

    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    intermediates: tuple[str, ...]
    parameters: tuple[str, ...]
    assigned: tuple[str, ...]  # in the order of the text
    order: tuple[str, ...]  # assigned names, each after what it reads at [t]


def shift_of(tree: Indexed) -> int:
    """0 for ``[t]``, -1 for ``[t-1]``; anything else is an error that says what to write."""
    match tree.index:
        case Name(name="t"):
            return 0
        case Binary(sign="-", left=Name(name="t"), right=Number(value=1)):
            return -1
        case Binary(sign="-", left=Name(name="t"), right=Number(value=n, text=text)) if n > 1:
            wanted = f"a delay line: a state {tree.name}_1[t] = {tree.name}[t-1], whose [t-1] is {tree.name}[t-2]"
            why, found = "a cell reads one step back", f"{tree.name}[t-{text}]"
            raise CellError(why, tree.position, found=found, expected=wanted)
        case Binary(sign="+", left=Name(name="t")):
            why, found = "a cell cannot read the future", f"{tree.name}[t+...]"
            raise CellError(why, tree.position, found=found, expected="[t] or [t-1]")
        case Number(text=text):
            why, found = "an index is t or t-1; the initial state is given when the cell is run", f"{tree.name}[{text}]"
            raise CellError(why, tree.position, found=found, expected=f"{tree.name}[t] or {tree.name}[t-1]")
    found = f"{tree.name}[{tree.index.name if isinstance(tree.index, Name) else '...'}]"
    raise CellError("an index is t or t-1", tree.position, found=found, expected=f"{tree.name}[t] or {tree.name}[t-1]")


def find_roles(equations: list[Equation], declarations: list[Declaration]) -> Roles:
    """Infer every role; raises :class:`CellError` for a name that cannot have one."""
    assigned = _assigned(equations)
    plain: dict[str, Position] = {}
    current: dict[str, Position] = {}
    previous: dict[str, Position] = {}
    seen: dict[str, None] = {}
    for equation in equations:
        for tree in [equation.target, *walk(equation.value)]:
            if isinstance(tree, Name):
                _check_plain(tree)
                plain.setdefault(tree.name, tree.position)
            elif isinstance(tree, Indexed):
                _check_name(tree.name, tree.position)
                seen.setdefault(tree.name)
                if tree is not equation.target:
                    (previous if shift_of(tree) else current).setdefault(tree.name, tree.position)
            elif isinstance(tree, Call):
                _check_call(tree)
    _check_count(seen, plain)
    for name, position in plain.items():
        if name in seen:
            raise CellError(f"{name} stands both with and without a time index", position, expected=f"{name}[t]")
    for name, position in previous.items():
        if name not in assigned:
            raise _unassigned(name, position, is_input=name in current, near=nearest(name, assigned))
    if not previous:
        wanted = "an equation that reads an assigned name at [t-1]"
        raise CellError("a cell needs a state", equations[0].position if equations else None, expected=wanted)
    inputs = tuple(name for name in current if name not in assigned)
    _check_inputs({name: current[name] for name in inputs}, assigned, {d.name for d in declarations})
    states = tuple(name for name in seen if name in previous)
    read = set(current) | set(previous)
    _check_declared(declarations, set(seen) | set(plain))
    _check_initial({**plain, **{name: current[name] for name in inputs}}, states)
    return Roles(
        states=states,
        inputs=inputs,
        outputs=tuple(name for name in assigned if name not in read),
        intermediates=tuple(name for name in assigned if name in read and name not in previous),
        parameters=tuple(name for name in plain if name != "pi"),
        assigned=tuple(assigned),
        order=_order(equations),
    )


def _assigned(equations: list[Equation]) -> dict[str, Equation]:
    assigned: dict[str, Equation] = {}
    for equation in equations:
        target = equation.target
        if isinstance(target, Name):
            _check_name(target.name, target.position)
            why = "the left side needs a time index; a parameter has no equation"
            raise CellError(why, target.position, found=repr(target.name), expected=f"{target.name}[t] = ...")
        if isinstance(target, Call):
            _check_call(target)
        if not isinstance(target, Indexed):
            raise CellError("the left side is one name", equation.position, expected="an equation such as h[t] = ...")
        if isinstance(target.index, Number):
            wanted = f"{target.name}[t] = ...; the initial state is given when the cell is run"
            raise CellError("an equation states the value at t", target.position, expected=wanted)
        if not isinstance(target.index, Name) or target.index.name != "t":
            wanted = f"{target.name}[t] = ..., with values of the step before at [t-1]"
            raise CellError("an equation states the value at t", target.position, expected=wanted)
        if target.name in assigned:
            line = assigned[target.name].position[0]
            why, found = f"{target.name} is assigned twice", f"a first equation in line {line}"
            raise CellError(why, target.position, found=found, expected="one equation for each name")
        assigned[target.name] = equation
    return assigned


def _check_name(name: str, position: Position) -> None:
    if name in FUNCTIONS:
        raise CellError(f"{name} is a function", position, expected=f"{name}(...), or another name")
    if name in RESERVED:
        raise CellError(f"{name} is reserved: it is {RESERVED[name]}", position, expected="another name")


def _check_plain(tree: Name) -> None:
    if tree.name == "t":
        why, wanted = "dependence on the time t itself is not in the language yet", "an input that carries it"
        raise CellError(why, tree.position, found="'t'", expected=wanted)
    if tree.name != "pi":
        _check_name(tree.name, tree.position)


def _check_call(tree: Call) -> None:
    one_of = f"one of {', '.join(FUNCTIONS)}"
    if tree.name in _NOT_YET:
        why = f"{_NOT_YET[tree.name]} ({tree.name}) is not in the language of cells yet"
        raise CellError(why, tree.position, expected=one_of)
    if tree.name not in FUNCTIONS:
        if any(isinstance(part, Name) and part.name == "t" for a in tree.arguments for part in walk(a)):
            wanted = f"{tree.name}[t] or {tree.name}[t-1]"
            why = "an index stands in square brackets"
            raise CellError(why, tree.position, found=f"{tree.name}(...)", expected=wanted)
        near = _ALSO_CALLED.get(tree.name) or nearest(tree.name, FUNCTIONS)
        raise CellError("unknown function", tree.position, found=repr(tree.name), expected=one_of, near=near)
    if len(tree.arguments) != 1:
        found = f"{len(tree.arguments)} arguments"
        raise CellError(f"{tree.name} takes one argument", tree.position, found=found, expected=f"{tree.name}(...)")


def _check_count(*names: dict[str, Any]) -> None:
    count = sum(map(len, names))
    if count > LIMITS.names:
        raise CellError("too many names", found=str(count), expected=f"at most {LIMITS.names}")


def _unassigned(name: str, position: Position, *, is_input: bool, near: str | None) -> CellError:
    delay = f"a state {name}_1[t] = {name}[t], read as {name}_1[t-1]"
    if is_input:
        why = f"{name}[t-1] is read, but {name} is an input, and a cell keeps only states"
        return CellError(why, position, expected=f"a delay line: {delay}")
    why = f"{name}[t-1] is read, so {name} is a state, but no equation assigns it"
    wanted = f"an equation {name}[t] = ..., or, if {name} is an input, {delay}"
    return CellError(why, position, expected=wanted, near=near)


def _check_inputs(inputs: dict[str, Position], assigned: Iterable[str], declared: set[str]) -> None:
    """An undeclared input that is one slip away from an assigned name is taken for the slip."""
    for name, position in inputs.items():
        near = [other for other in assigned if is_one_edit(name, other)]
        if near and len(name) >= 4 and name not in declared:
            why = f"{name} is never assigned and is one letter away from {near[0]}"
            wanted = f"{near[0]}[t], or a declaration such as '{name}: D' if {name} is an input"
            raise CellError(why, position, expected=wanted)


def _check_declared(declarations: list[Declaration], known: set[str]) -> None:
    first: dict[str, Declaration] = {}
    for declaration in declarations:
        if declaration.name in first:
            line = first[declaration.name].position[0]
            why, found = f"{declaration.name} is declared twice", f"a first declaration in line {line}"
            raise CellError(why, declaration.position, found=found, expected="one declaration for each name")
        first[declaration.name] = declaration
        if declaration.name not in known or declaration.name == "pi":
            near = nearest(declaration.name, known)
            why, wanted = f"{declaration.name} is declared, but no equation has it", "a name that an equation has"
            raise CellError(why, declaration.position, expected=wanted, near=near)


def _check_initial(names: dict[str, Position], states: tuple[str, ...]) -> None:
    """Gradients go by the names of parameters and inputs, and of initial states: the state's name and 0."""
    for state in states:
        if f"{state}0" in names:
            why = f"nothing else can be called {state}0: that is the initial value of the state {state}"
            raise CellError(why, names[f"{state}0"], expected="another name")


def _order(equations: list[Equation]) -> tuple[str, ...]:
    """Assigned names in an order in which they can be computed; a cycle at one time step is an error that shows it."""
    reads: dict[str, list[str]] = {}
    position: dict[str, Position] = {}
    for equation in equations:
        assert isinstance(equation.target, Indexed)
        name = equation.target.name
        position[name] = equation.position
        reads[name] = [x.name for x in walk(equation.value) if isinstance(x, Indexed) and shift_of(x) == 0]
    order: dict[str, None] = {}
    waiting: list[str] = []
    for start in reads:
        stack = [start]
        while stack:
            name = stack[-1]
            missing = [r for r in dict.fromkeys(reads[name]) if r in reads and r not in order]
            if name in order or not missing:
                order.setdefault(name)
                stack.pop()
                continue
            if missing[0] in stack:
                waiting = [*stack[stack.index(missing[0]) :], missing[0]]
                why, shown = "equations of one time step go in a circle", " needs ".join(f"{n}[t]" for n in waiting)
                raise CellError(why, position[missing[0]], found=shown, expected="[t-1] somewhere")
            stack.append(missing[0])
    return tuple(order)
