"""Random networks in floating point, on which readings of a file are compared."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Rational

from derive.adjoint import Backward
from derive.handwritten.claims import agrees, has_truth
from derive.handwritten.explicit import ExplicitTruth, Floats
from derive.handwritten.explicit_reading import ExplicitReading
from derive.handwritten.lines import Line
from derive.handwritten.reading import Meaning
from derive.handwritten.text import UNREADABLE, Text
from derive.handwritten.truth import LossRead

__all__ = ["Bench", "Understanding"]


@dataclass(frozen=True)
class Understanding:
    """How a file is read: its loss, what its own definitions mean, and gates whose d is that of the pre-activation."""

    loss: LossRead
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)


class Bench:
    """A random network in floating point, on which readings are compared: quick, and never the last word.

    Every size is ``size``, or, where they are ``distinct``, one more than that of the letter before.  ``told`` is what
    T is where it stands as a number: an identity in T holds for any, and a polynomial that is zero at a few does not.
    """

    def __init__(
        self,
        text: Text,
        backward: Backward,
        *,
        steps: int = 3,
        size: int = 2,
        seed: int = 0,
        distinct: bool = False,
        told: Rational | None = None,
    ) -> None:
        self.text, self.backward, self.steps, self.told = text, backward, steps, told
        self.sizes = {x: size + (i if distinct else 0) for i, x in enumerate(text.script.cell.dimensions)}
        self.random = random.Random(seed)
        self.values: dict[Any, float] = {}
        self.truths: dict[LossRead, ExplicitTruth] = {}

    def make(self, key: Any) -> float:
        """An entry, drawn once."""
        return self.values.setdefault(key, self.random.uniform(0.3, 1.2) * self.random.choice((-1, 1)))

    def reading(self, how: Understanding) -> ExplicitReading:
        """The file as it is understood, on this network."""
        if how.loss not in self.truths:
            truth = ExplicitTruth(self.backward, how.loss, Floats(), self.steps, self.sizes, self.make)
            truth.told = self.told
            self.truths[how.loss] = truth
        return ExplicitReading(self.text, self.truths[how.loss], how.meanings, how.conventions)

    def is_right(self, line: Line, how: Understanding, reading: ExplicitReading | None = None) -> bool:
        """Whether a line holds on this network; what cannot be told does not count as wrong."""
        reading = reading or self.reading(how)
        if not has_truth(reading, line.target):
            return True
        try:
            return agrees(reading, line)
        except UNREADABLE:
            return False
