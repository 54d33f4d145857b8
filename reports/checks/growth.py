"""Which of two polynomials in sizes outgrows the other, and in which direction."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from sympy import Expr, Poly

from derive.claims import ClaimError
from derive.cost import size_symbol
from derive.latex import name_latex
from reports.checks.evidence import Evidence
from reports.document import Block, Formula, Math, Parts, Table
from reports.prose import joined

__all__ = ["Comparison", "Term", "read_bound"]

_NUMBER = re.compile(r"\s*([1-9]\d{0,5})\s*")
_FACTOR = re.compile(r"\s*([A-Za-z]\w{0,9})\s*(?:\^\s*([1-9]))?\s*")
MOST_TERMS, MOST_LETTERS, FASTEST = 12, 6, 2


@dataclass(frozen=True)
class Term:
    """A coefficient times powers of letters."""

    coefficient: int
    exponents: Mapping[str, int]

    @property
    def latex(self) -> str:
        """As it is printed."""
        powers = ((name_latex(x), n) for x, n in self.exponents.items() if n)
        factors = [shown + (f"^{{{n}}}" if n > 1 else "") for shown, n in powers]
        if self.coefficient != 1 or not factors:
            factors.insert(0, str(self.coefficient))
        return r" \, ".join(factors)

    def at(self, sizes: Mapping[str, int]) -> int:
        """Its value."""
        out = self.coefficient
        for letter, power in self.exponents.items():
            out *= sizes[letter] ** power
        return out


def read_bound(text: str, letters: Sequence[str]) -> tuple[Term, ...]:
    """Monomials such as 2*T*H**2, added; "1" is the constant.  Raises :class:`ClaimError` for anything else.

    >>> [term.latex for term in read_bound("T*H**2 + T*D", ("T", "H", "D"))]
    ['T \\\\, H^{2}', 'T \\\\, D']
    """
    parts = text.replace("**", "^").split("+")
    if len(parts) > MOST_TERMS:
        raise ClaimError("too many terms", field="bound", found=len(parts), expected=f"at most {MOST_TERMS}")
    return tuple(_monomial(part, text, letters) for part in parts)


def _monomial(part: str, text: str, letters: Sequence[str]) -> Term:
    found: dict[str, int] = {}
    first, *others = part.split("*")
    number = _NUMBER.fullmatch(first)
    for factor in others if number else (first, *others):
        match = _FACTOR.fullmatch(factor)
        if not match or match[1] not in letters:
            wanted = f"products of powers of {', '.join(letters)}, such as T*H**2 + T*H"
            raise ClaimError("this is not a bound", field="bound", found=text, expected=wanted)
        found[match[1]] = found.get(match[1], 0) + int(match[2] or 1)
    return Term(int(number[1]) if number else 1, found)


class Comparison:
    """A count against a bound, where some letters grow, and some are assumed to be at most others."""

    def __init__(
        self,
        total: Expr,
        bound: Sequence[Term],
        grows: Sequence[str],
        assume: Mapping[str, str],
        letters: Sequence[str],
    ) -> None:
        there = {s.name for s in total.free_symbols} | {x for term in bound for x in term.exponents} | set(grows)
        self.letters = [x for x in letters if x in there]
        self.terms = _terms(total, self.letters)
        self.bound, self.grows, self.assume = tuple(bound), tuple(grows), assume
        if len(self.grows) > MOST_LETTERS:
            raise ClaimError(
                "too many letters grow", field="grows", found=len(grows), expected=f"at most {MOST_LETTERS}"
            )

    def free(self, term: Term) -> dict[str, int]:
        """Exponents of the letters that grow; where small <= large, large is small times a letter of its own."""
        out = {letter: term.exponents.get(letter, 0) for letter in self.letters}
        for small, large in self.assume.items():
            out[small] += out[large]
        return {letter: out[letter] for letter in self.grows}

    def outgrown(self, above: Sequence[Term], below: Sequence[Term]) -> tuple[Term, dict[str, int] | None] | None:
        """A term of ``above`` that outgrows ``below``, and at which speeds of the letters; no speeds: not decided."""
        limits = [self.free(term) for term in below]
        undecided = None
        for term in above:
            own = self.free(term)
            if any(all(own[x] <= limit[x] for x in own) for limit in limits):
                continue
            speeds = self.faster(own, limits)
            if speeds is not None:
                return term, speeds
            undecided = term
        return None if undecided is None else (undecided, None)

    def faster(self, own: Mapping[str, int], limits: Sequence[Mapping[str, int]]) -> dict[str, int] | None:
        """Speeds at which a term outgrows every limit, the fewest and slowest first."""
        for speeds in sorted(product(range(FASTEST + 1), repeat=len(own)), key=lambda s: (sum(s), s)):
            by = dict(zip(own, speeds, strict=True))
            growth = sum(own[x] * by[x] for x in own)
            if all(growth > sum(limit[x] * by[x] for x in own) for limit in limits):
                return by
        return None

    def evidence(self, *, exactly: bool) -> Evidence:
        """Bounded, or the direction in which it is not."""
        counted = Formula(rf"\text{{counted}} = {_sum(self.terms)}")
        large = self.outgrown(self.terms, self.bound)
        if large is not None:
            return self.refuted(large, counted, count_grows=True)
        small = self.outgrown(self.bound, self.terms) if exactly else None
        if small is not None:
            return self.refuted(small, counted, count_grows=False)
        how = "of the order of" if exactly else "at most a constant times"
        letters = joined([(Math(name_latex(x)),) for x in self.grows], last=" and ")
        said: Parts = (
            f"What is counted is {how} ",
            Math(_sum(self.bound)),
            " as ",
            *letters,
            " grow",
            *self.held(),
            ".",
        )
        if len(self.grows) == 1:
            said = tuple(" grows" if part == " grow" else part for part in said)
        return Evidence(True, "counted, every size", said, (counted,))

    def equal(self) -> Evidence:
        """Whether the count is the bound, coefficient by coefficient."""
        counted = Formula(rf"\text{{counted}} = {_sum(self.terms)}")
        if _collected(self.terms) == _collected(self.bound):
            return Evidence(
                True, "counted, every size", ("What is counted is exactly ", Math(_sum(self.bound)), "."), (counted,)
            )
        ones = dict.fromkeys(self.letters, 1)
        own, said = (sum(term.at(ones) for term in terms) for terms in (self.terms, self.bound))
        apart: Parts = (f" With all sizes 1 it is {own:,}, not {said:,}.",) if own != said else ()
        return Evidence(
            False, "counted, every size", ("What is counted is not ", Math(_sum(self.bound)), ".", *apart), (counted,)
        )

    def refuted(self, found: tuple[Term, dict[str, int] | None], counted: Block, *, count_grows: bool) -> Evidence:
        """The term, the direction, and a table along it."""
        term, speeds = found
        if speeds is None:
            return Evidence(None, "not decided", ("No direction was found, and no proof.",), (counted,))
        moving = [(Math(name_latex(x)),) for x, speed in speeds.items() if speed]
        verb = "grows" if len(moving) == 1 else "grow"
        bound = Math(_sum(self.bound))
        said: Parts
        if count_grows:
            said = ("The count has the term ", Math(term.latex), ", which outgrows ", bound)
        else:
            said = (
                "The bound ",
                bound,
                " outgrows what is counted" if self.terms else " is above zero, and nothing is counted",
            )
        along: Parts = (" as ", *joined(list(moving), last=" and "), f" {verb}") if moving else ()
        said = (*said, *along, *self.held(), ".")
        return Evidence(False, "counted, every size", said, (counted, self.table(speeds)))

    def held(self) -> Parts:
        """Words for what is held and assumed."""
        held: list[Parts] = [(Math(name_latex(x)),) for x in self.letters if x not in self.grows]
        out: Parts = (", with ", *joined(held, last=" and "), " held") if held else ()
        for small, large in self.assume.items():
            out += (", ", Math(rf"{name_latex(small)} \le {name_latex(large)}"))
        return out

    def table(self, speeds: Mapping[str, int]) -> Table:
        """All sizes 1, then some larger along a direction: count, bound and their quotient."""
        rows: list[tuple[Parts, ...]] = []
        for n in (1, 2, 4, 16, 64):
            sizes = {letter: n ** speeds.get(letter, 0) for letter in self.letters}
            for small, large in self.assume.items():
                sizes[large] *= sizes[small]
            counted, bound = (sum(term.at(sizes) for term in terms) for terms in (self.terms, self.bound))
            at = r",\, ".join(f"{name_latex(x)} = {v}" for x, v in sizes.items() if v > 1)
            shown: Parts = (Math(at), ", all others 1") if at else ("all sizes 1",)
            rows.append((shown, (f"{counted:,}",), (f"{bound:,}",), (f"{counted / bound:.3g}",)))
        head: tuple[Parts, ...] = (("sizes",), ("counted",), (Math(_sum(self.bound)),), ("quotient",))
        return Table(head, tuple(rows), "lrrr")


def _sum(terms: Sequence[Term]) -> str:
    return " + ".join(term.latex for term in terms) or "0"


def _collected(terms: Sequence[Term]) -> dict[tuple[tuple[str, int], ...], int]:
    """Coefficients by powers."""
    out: dict[tuple[tuple[str, int], ...], int] = {}
    for term in terms:
        powers = tuple(sorted((letter, n) for letter, n in term.exponents.items() if n))
        out[powers] = out.get(powers, 0) + term.coefficient
    return out


def _terms(total: Expr, letters: Sequence[str]) -> tuple[Term, ...]:
    found = []
    for exponents, coefficient in Poly(total, *map(size_symbol, letters)).terms() if total != 0 else ():
        assert coefficient > 0  # a count has no negative terms, which is what makes a term a direction
        found.append(Term(int(coefficient), dict(zip(letters, exponents, strict=True))))
    return tuple(found)
