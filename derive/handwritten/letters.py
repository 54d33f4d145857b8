"""A line for every k is a line for every t: dh[k] = W.T @ dy[k] + ... as some books print it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from derive.handwritten.times import EVERY, LAST
from derive.syntax import Binary, Call, Equation, Indexed, Name, Negative, Power, Transposed, Tree, walk

__all__ = ["in_t"]

RANGED = ("sum", "prod")


def in_t(equation: Equation) -> Equation:
    """The same equation with t for the letter that its left side counts steps with, where that is another one."""
    letters = [x for x in _letters(equation.target) if x not in (EVERY, LAST)]
    if not letters or EVERY in (*_letters(equation.target), *_letters(equation.value)):
        return equation
    letter = letters[0]
    return replace(equation, target=_renamed(equation.target, letter), value=_renamed(equation.value, letter))


def _letters(tree: Tree) -> Iterator[str]:
    """Names that stand in indices."""
    for part in walk(tree):
        inside = [part.index] if isinstance(part, Indexed) else []
        inside += list(part.arguments[2:]) if isinstance(part, Call) and part.name in RANGED else []
        yield from (x.name for index in inside for x in walk(index) if isinstance(x, Name))


def _renamed(tree: Tree, letter: str) -> Tree:
    match tree:
        case Indexed(index=index):
            return replace(tree, index=_index(index, letter))
        case Negative(operand=x) | Transposed(operand=x):
            return replace(tree, operand=_renamed(x, letter))
        case Power(base=x):
            return replace(tree, base=_renamed(x, letter))
        case Binary(left=a, right=b):
            return replace(tree, left=_renamed(a, letter), right=_renamed(b, letter))
        case Call(name=name, arguments=(body, variable, *bounds)) if name in RANGED and bounds:
            if variable == Name((0, 0), letter):  # the letter is the sum's own
                return replace(tree, arguments=(body, variable, *(_index(b, letter) for b in bounds)))
            return replace(tree, arguments=(_renamed(body, letter), variable, *(_index(b, letter) for b in bounds)))
        case Call(arguments=arguments):
            return replace(tree, arguments=tuple(_renamed(x, letter) for x in arguments))
    return tree


def _index(tree: Tree, letter: str) -> Tree:
    match tree:
        case Name(name=name) if name == letter:
            return replace(tree, name=EVERY)
        case Binary(left=a, right=b):
            return replace(tree, left=_index(a, letter), right=_index(b, letter))
    return tree
