"""Text to syntax tree: the one grammar of cells and of backward equations.

    file        = (declaration | equation)*           one a line; inside brackets a line may go on
    declaration = NAME ":" (NAME | "(" NAME "," NAME ")")
    equation    = sum "=" sum
    sum         = product (("+" | "-") product)*
    product     = unary (("*" | "/" | "@") unary)*     as in Python: one level, from left to right
    unary       = "-" unary | power
    power       = postfix ["**" unary]
    postfix     = atom ("[" sum "]" | ".T" | "(" sum ("," sum)* ")")*
    atom        = NUMBER | NAME | "(" sum ")"

Nothing is evaluated: a tree is built, and every limit is checked on the text, before anything else sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from derive.errors import CellError, Position
from derive.tokens import LIMITS, Token, normal, tokens

__all__ = [
    "Binary",
    "Call",
    "Declaration",
    "Equation",
    "Indexed",
    "Name",
    "Negative",
    "Number",
    "Power",
    "Transposed",
    "Tree",
    "children",
    "parse_lines",
    "terms",
    "walk",
]


@dataclass(frozen=True)
class Tree:
    """A piece of an equation and where it stands."""

    position: Position = field(compare=False, repr=False)


@dataclass(frozen=True)
class Number(Tree):
    """An exact number; ``text`` is how it was written."""

    value: Fraction
    text: str = field(compare=False)


@dataclass(frozen=True)
class Name(Tree):
    """A name without an index."""

    name: str


@dataclass(frozen=True)
class Indexed(Tree):
    """``name[index]``; the index is a tree over ``t``, ``T``, ``k`` and integers."""

    name: str
    index: Tree


@dataclass(frozen=True)
class Negative(Tree):
    """``-operand``."""

    operand: Tree


@dataclass(frozen=True)
class Binary(Tree):
    """``left sign right``; the sign is one of ``+ - * / @``."""

    sign: str
    left: Tree
    right: Tree


@dataclass(frozen=True)
class Power(Tree):
    """``base ** exponent``, the exponent an integer."""

    base: Tree
    exponent: int


@dataclass(frozen=True)
class Transposed(Tree):
    """``operand.T``."""

    operand: Tree


@dataclass(frozen=True)
class Call(Tree):
    """``name(arguments)``."""

    name: str
    arguments: tuple[Tree, ...]


@dataclass(frozen=True)
class Equation:
    """``target = value`` and the text it was written as."""

    target: Tree
    value: Tree
    text: str
    position: Position


@dataclass(frozen=True)
class Declaration:
    """``name: sizes``; one size for a vector, two for a matrix, ("scalar",) for a scalar."""

    name: str
    sizes: tuple[str, ...]
    position: Position


def children(tree: Tree) -> tuple[Tree, ...]:
    """The trees directly below; an index is not one of them."""
    match tree:
        case Negative(operand=x) | Transposed(operand=x) | Power(base=x):
            return (x,)
        case Binary(left=a, right=b):
            return (a, b)
        case Call(arguments=arguments):
            return arguments
    return ()


def terms(tree: Tree) -> list[Tree]:
    """The terms of a sum, from left to right, without their signs; anything else is its own only term."""
    if isinstance(tree, Binary) and tree.sign in "+-":
        return [*terms(tree.left), *terms(tree.right)]
    return [tree]


def walk(tree: Tree) -> Iterator[Tree]:
    """Every subtree, from left to right, parents first."""
    yield tree
    for child in children(tree):
        yield from walk(child)


def _height(tree: Tree) -> int:
    """Levels of a tree, found without recursion: a long sum is a deep tree."""
    height, level = 0, [tree]
    while level:
        height, level = height + 1, [child for parent in level for child in children(parent)]
    return height


# ----------------------------------------------------------------------------------------- the grammar

# What to write where a program has a method or a module's function.
_INSTEAD_OF_DOT = {
    "dot": "W @ v; W.T is the transpose", "matmul": "W @ v", "t": "W.T", "transpose": "W.T", "mean": "sum(...)/T",
    "outer": "outer(a, b)", "sum": "sum(...)", "diag": "diag(v)", "tanh": "tanh(a)", "exp": "exp(a)",
}  # fmt: skip


class _Parser:
    """Recursive descent over the words of a text."""

    def __init__(self, text: str) -> None:
        text = normal(text)
        self.lines = text.split("\n")
        self.words = tokens(text)
        self.place = 0
        self.depth = 0

    @property
    def word(self) -> Token:
        return self.words[self.place]

    def take(self) -> Token:
        word = self.word
        self.place += word.kind != "end"
        return word

    def accept(self, text: str) -> Token | None:
        return self.take() if self.word.kind == "sign" and self.word.text == text else None

    def expect(self, text: str, opened: Token | None = None) -> Token:
        found = self.accept(text)
        if found is None:
            if opened is not None and self.word.kind in ("newline", "end"):
                raise CellError(f"{opened.text!r} is never closed", opened.position, expected=repr(text))
            raise self.unexpected(f"an operator or {text!r}" if opened else repr(text), opened)
        return found

    @property
    def found(self) -> str:
        """The next word as a message shows it."""
        return repr(self.word.text) if self.word.kind in ("name", "number", "sign") else self.word.text

    def unexpected(self, expected: str, opened: Token | None = None) -> CellError:
        word = self.word
        if word.text == "." and word.kind == "sign":
            why = "the only thing after a dot is T, the transpose of a matrix"
            return CellError(why, word.position, found="'.'", expected=self.instead_of_dot())
        if opened is not None and opened.position[0] < word.position[0]:
            expected += f" (the {opened.text!r} of line {opened.position[0]} is still open)"
        return CellError("this cannot be read", word.position, found=self.found, expected=expected)

    def instead_of_dot(self) -> str:
        """What to write for np.outer(a, b), W.dot(v), a.sum()."""
        after = self.words[self.place + 1].text
        return _INSTEAD_OF_DOT.get(after, "W.T, or a plain name such as tanh")

    # -- lines

    def file(self) -> tuple[list[Equation], list[Declaration]]:
        equations: list[Equation] = []
        declarations: list[Declaration] = []
        while self.word.kind != "end":
            if self.word.kind == "newline":
                self.take()
                continue
            if self.words[self.place + 1].text == ":" and self.word.kind == "name":
                declarations.append(self.declaration())
            else:
                equations.append(self.equation())
            if self.word.kind != "newline":
                raise self.unexpected("an operator or the end of the line")
            if len(equations) > LIMITS.equations:
                raise CellError("too many equations", equations[-1].position, expected=f"at most {LIMITS.equations}")
        return equations, declarations

    def declaration(self) -> Declaration:
        name = self.name()
        self.expect(":")
        if opened := self.accept("("):
            sizes = [self.name("a size, such as H").text]
            while self.accept(","):
                sizes.append(self.name("a size, such as H").text)
            self.expect(")", opened)
            if len(sizes) != 2:
                raise CellError(
                    "a matrix has two sizes", name.position, found=f"{len(sizes)}", expected="(rows, columns)"
                )
        else:
            sizes = [self.name("a size, such as H, or scalar").text]
            if self.word.text == ",":
                why = "the sizes of a matrix stand in parentheses"
                raise CellError(why, self.word.position, found="','", expected="(H, D)")
        return Declaration(name.text, tuple(sizes), name.position)

    def equation(self) -> Equation:
        first, position = self.place, self.word.position
        if (
            self.word.text in ("for", "while", "return", "def", "import")
            and self.words[self.place + 1].text not in "=["
        ):
            why, wanted = "a program is not in the language", "equations: one line for each name, at every t"
            raise CellError(why, position, found=repr(self.word.text), expected=wanted)
        target = self.sum()
        if self.word.text in ("+", "-", "*", "/", "@") and self.words[self.place + 1].text == "=":
            raise self.augmented(self.word)
        if self.word.text == ":" and self.words[self.place + 1].text == "=":
            raise CellError("':=' is not in the language", self.word.position, found="':='", expected="'='")
        if self.word.text == ":" and isinstance(target, Indexed):
            raise CellError("a declaration has no time index", position, expected=f"{target.name}: H")
        self.expect("=")
        if self.word.text == "=":
            raise CellError("comparison is not in the language", self.word.position, found="'=='", expected="'='")
        value = self.sum()
        if max(_height(target), _height(value)) > LIMITS.height:
            wanted = f"at most {LIMITS.height} operations in a row"
            raise CellError("the equation is too long; name a part of it", position, expected=wanted)
        if self.word.text == "=":
            raise CellError("one equation a line", self.word.position, found="a second '='", expected="a new line")
        return Equation(target, value, self.source(first), position)

    def augmented(self, word: Token) -> CellError:
        wanted = "one equation that states the whole value; a sum over time is sum(...)"
        return CellError(
            f"'{word.text}=' is not in the language", word.position, found=f"'{word.text}='", expected=wanted
        )

    def source(self, first: int) -> str:
        (line, column), (last, end) = self.words[first].position, self.word.position
        if line == last:
            return self.lines[line - 1][column - 1 : end - 1].partition("#")[0].strip()
        parts = [self.lines[line - 1][column - 1 :], *self.lines[line : last - 1], self.lines[last - 1][: end - 1]]
        return " ".join(part.partition("#")[0].strip() for part in parts).strip()

    # -- expressions

    def sum(self) -> Tree:
        self.depth += 1
        if self.depth > LIMITS.depth:
            raise CellError(
                "brackets are nested too deeply", self.word.position, expected=f"at most {LIMITS.depth} levels"
            )
        tree = self.product()
        while self.word.text in ("+", "-") and self.words[self.place + 1].text != "=":
            sign = self.take()
            tree = Binary(sign.position, sign.text, tree, self.product())
        self.depth -= 1
        return tree

    def product(self) -> Tree:
        tree = self.unary()
        while self.word.text in ("*", "/", "@") and self.words[self.place + 1].text != "=":
            sign = self.take()
            tree = Binary(sign.position, sign.text, tree, self.unary())
        return tree

    def unary(self) -> Tree:
        signs = []
        while self.word.text in ("-", "+"):
            signs.append(self.take())
            if len(signs) > LIMITS.depth:
                raise CellError("too many signs in a row", signs[0].position, expected=f"at most {LIMITS.depth}")
        minus = [sign for sign in signs if sign.text == "-"]
        tree = self.power()
        return Negative(minus[0].position, tree) if len(minus) % 2 else tree

    def power(self) -> Tree:
        base = self.postfix()
        if (sign := self.accept("**")) is None:
            return base
        return Power(sign.position, base, self.exponent())

    def exponent(self) -> int:
        brackets = []
        while opened := self.accept("("):
            brackets.append(opened)
        negative = self.accept("-") is not None
        number = self.word
        if number.kind != "number" or not number.text.isdigit():
            wanted = f"an integer up to {LIMITS.power}; x**0.5 is sqrt(x), x**a is exp(a*log(x))"
            raise CellError("a power is a small integer", number.position, found=self.found, expected=wanted)
        self.take()
        for opened in reversed(brackets):
            self.expect(")", opened)
        if len(number.text) > 4 or int(number.text) > LIMITS.power:
            wanted = f"at most {LIMITS.power}"
            raise CellError("the exponent is too large", number.position, found=number.text, expected=wanted)
        if self.word.text == "**":
            why, wanted = "a power of a power needs parentheses", "(x**a)**b, or the product of the exponents"
            raise CellError(why, self.word.position, found="'**'", expected=wanted)
        return -int(number.text) if negative else int(number.text)

    def postfix(self) -> Tree:
        tree = self.atom()
        while True:
            if opened := self.accept("["):
                if not isinstance(tree, Name):
                    raise CellError(
                        "only a name has an index, and only one", opened.position, found="'['", expected="h[t]"
                    )
                tree = Indexed(tree.position, tree.name, self.sum())
                self.expect("]", opened)
            elif self.word.text == "." and self.words[self.place + 1].text == "T":
                dot = self.take()
                self.take()
                if isinstance(tree, Transposed):
                    why = "a transpose of a transpose is the matrix itself"
                    raise CellError(why, dot.position, found="'.T.T'", expected="the matrix without .T")
                tree = Transposed(dot.position, tree)
            elif self.word.text == "(" and isinstance(tree, Name):
                tree = Call(tree.position, tree.name, self.arguments())
            else:
                return tree

    def arguments(self) -> tuple[Tree, ...]:
        opened = self.take()
        if self.accept(")"):
            return ()
        found = [self.sum()]
        while self.accept(","):
            found.append(self.sum())
        if self.word.text == "=":
            why = "a function takes neither a comparison nor a named argument"
            raise CellError(why, self.word.position, found="'='", expected="one expression")
        self.expect(")", opened)
        return tuple(found)

    def atom(self) -> Tree:
        word = self.word
        if word.kind == "number":
            return self.number()
        if word.kind == "name":
            return Name(word.position, self.name().text)
        if opened := self.accept("("):
            tree = self.sum()
            self.expect(")", opened)
            return tree
        raise self.unexpected("a number, a name or '('")

    def name(self, expected: str = "a name") -> Token:
        if self.word.kind != "name":
            raise self.unexpected(expected)
        word = self.take()
        if len(word.text) > LIMITS.name:
            raise CellError(
                "the name is too long", word.position, found=word.text, expected=f"at most {LIMITS.name} letters"
            )
        return word

    def number(self) -> Number:
        word = self.take()
        if self.word.kind == "name" and self.word.position == (word.position[0], word.position[1] + len(word.text)):
            raise CellError(
                "a number is followed by a letter", self.word.position, found=repr(self.word.text), expected="'*'"
            )
        mantissa, _, exponent = word.text.lower().partition("e")
        if sum(c.isdigit() for c in mantissa) > LIMITS.digits:
            wanted = f"at most {LIMITS.digits} digits"
            raise CellError("the number is too long", word.position, found=word.text, expected=wanted)
        if len(exponent) > 5 or (exponent and abs(int(exponent)) > LIMITS.decimal_exponent):
            limit = LIMITS.decimal_exponent
            wanted = f"a decimal exponent within {limit}"
            raise CellError("the number is out of range", word.position, found=word.text, expected=wanted)
        return Number(word.position, Fraction(word.text), word.text)


def parse_lines(text: str) -> tuple[list[Equation], list[Declaration]]:
    """Equations and declarations of a text, in its order.

    Raises :class:`CellError` with the place, what was found and what was expected.
    """
    return _Parser(text).file()
