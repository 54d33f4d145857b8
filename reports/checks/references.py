"""What a question about the unrolled network names: places such as ``h[t+1]``, numbers such as ``T-t``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from derive.cell import Cell
from derive.claims import ClaimError
from derive.errors import nearest
from reports.checks.arguments import Arguments
from reports.checks.network import Network, Place

__all__ = ["Asked", "Reference", "linear"]

_REFERENCE = re.compile(r"\s*([A-Za-z_]\w{0,39})\s*(?:\[([^\]]{1,20})\])?\s*")


@dataclass(frozen=True)
class Reference:
    """A name and a linear expression in T, t and j for its time; no time for a parameter and the whole loss."""

    name: str
    time: str

    @property
    def text(self) -> str:
        """As it is written."""
        return f"{self.name}[{self.time}]" if self.time else self.name

    def at(self, values: Mapping[str, int]) -> Place:
        """The place, for given T, t and j."""
        return self.name, linear(self.time, values) if self.time else 0


def linear(text: str, values: Mapping[str, int]) -> int:
    """A sum and difference of T, t, j and whole numbers.

    >>> linear("T-t+1", {"T": 5, "t": 2})
    4
    """
    total = 0
    for sign, word in _linear_terms(text):
        total += (-1 if sign == "-" else 1) * (int(word) if word.isdigit() else values[word])
    return total


def _linear_terms(text: str) -> list[tuple[str, str]]:
    compact = re.sub(r"\s+", "", text)
    if not re.fullmatch(r"[+-]?([Ttj]|[0-9]{1,3})([+-]([Ttj]|[0-9]{1,3})){0,5}", compact):
        wanted = "sums and differences of T, t, j and whole numbers, such as T-t"
        raise ClaimError("this is not a number of steps", found=text, expected=wanted)
    return re.findall(r"([+-]?)([Ttj]|[0-9]+)", compact)


class Asked:
    """The arguments of a question, as references."""

    def __init__(self, cell: Cell, arguments: Arguments) -> None:
        self.cell, self.arguments = cell, arguments
        self.known = {*cell.axes, *cell.parameters, "L", "Loss"}
        self.at_t = False  # whether anything that is asked stands at t
        self.looked = 0  # how often there was something to look at
        self.unseen: set[Reference] = set()  # those in lists that were in no network yet

    def reference(self, key: str) -> Reference:
        """One reference."""
        return self.read(self.arguments.text(key), key)

    def references(self, key: str, *, every: bool = False) -> list[Reference]:
        """A list of them; with ``every``, j may stand in a time, for every step."""
        found = [self.read(text, key, every=every) for text in self.arguments.words(key)]
        self.unseen |= set(found)
        return found

    def read(self, text: str, key: str, *, every: bool = False) -> Reference:
        """A reference from text; raises :class:`ClaimError` for an unknown name or a missing time."""
        match = _REFERENCE.fullmatch(text)
        name = match[1] if match else ""
        if not match or name not in self.known:
            wanted = f"one of {', '.join(sorted(self.known))}, with a time such as [t]"
            raise ClaimError("unknown", field=key, found=text, expected=wanted, near=nearest(name, self.known))
        timed = name in self.cell.axes or name == "L"
        if timed != bool(match[2]):
            raise ClaimError("a time", field=key, found=text, expected=f"{name}[t]" if timed else name)
        if match[2]:
            self.number_text(match[2], key, every=every)
        return Reference(name, match[2] or "")

    def number_text(self, text: str, key: str, *, every: bool = False) -> str:
        """A number of steps as text, checked."""
        try:
            words = {word for _, word in _linear_terms(text)}
            self.at_t |= "t" in words
            if "j" in words and not every:
                raise ClaimError("j is every step of a list of values", found=text, expected="T, t and whole numbers")
        except ClaimError as error:
            raise error.within(field=key) from None
        return text

    def names(self, key: str) -> tuple[str, ...]:
        """Names that can be counted on a path: values, losses, matrices, functions."""
        functions = {"tanh", "sigmoid", "relu"}
        found = self.arguments.words(key, sorted({*self.known, *functions}))
        if not found:
            raise ClaimError("nothing to count", field=key, expected="at least one name")
        return found

    def there(self, network: Network, *places: Place) -> bool:
        """Whether some places are in a network; what is asked of places that never are is not answered."""
        found = bool(places) and all(place in network.reads for place in places)
        self.looked += found
        return found
