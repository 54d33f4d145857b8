"""Sums over sequences and steps of which a part is missing, or counted twice.

dW = sum over t and b of w(t, b) g(t, b)        right: w = 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from numeric.arguments import Array
from numeric.interpret import Values
from numeric.oracle.candidates import Candidate
from numeric.oracle.compose import right_program
from numeric.oracle.evidence import Evidence

__all__ = ["parts"]

Weights = Callable[[int], Array]


@dataclass(frozen=True, eq=False)
class Part:
    """A wrong weight of every sequence, or of every step."""

    name: str
    sentence: str
    weights: Weights

    def predict(self, e: Evidence) -> Mapping[str, Array] | None:
        """The parameters' gradients; other tensors are right."""
        if e.case.truncate:
            return None
        per_step = self.name == "one-step"
        w = self.weights(e.case.T if per_step else e.case.B)
        b = right_program(e.case.parsed)
        with np.errstate(all="ignore"):
            d = e.run.interpreter.run(b).d
            weighed = [_weighed(x, w[t] if per_step else w[:, None]) for t, x in enumerate(d)]
            found = e.run.interpreter.gradients(b, e.run.interpreter.tape, weighed, 0)
        return {n: np.asarray(found[n]) for n in e.case.params}


def _weighed(d: Values, w: Array) -> Values:
    return {symbol: x * w for symbol, x in d.items()}


def _but(k: int, value: float) -> Weights:
    def weights(n: int) -> Array:
        out = np.ones(n)
        out[k : k + 1 or None] = value if -n <= k < n else 1.0
        return out

    return weights


def _only(k: int) -> Weights:
    def weights(n: int) -> Array:
        out = np.zeros(n)
        out[max(-n, min(k, n - 1))] = 1.0
        return out

    return weights


def _all() -> Iterator[Part]:
    for k, words in [(0, "the first"), (-1, "the last"), *((k, f"number {k + 1}") for k in range(1, 5))]:
        yield Part("one-sequence", f"of the sequences only {words} counts", _only(k))
        yield Part("one-sequence", f"of the sequences {words} is left out", _but(k, 0.0))
        yield Part("one-sequence", f"of the sequences {words} counts twice", _but(k, 2.0))
    for k in range(1, 8):
        yield Part("one-step", f"the term of t = {k + 1} is missing", _but(k, 0.0))
        yield Part("one-step", f"the term of t = {k + 1} is counted twice", _but(k, 2.0))
        yield Part("one-step", f"the term of t = T - {k} is missing", _but(-1 - k, 0.0))
        yield Part("one-step", f"only the term of t = {k + 1} is left", _only(k))


def parts() -> list[Candidate]:
    """Every part that may be missing."""
    return [Candidate(p.name, p.sentence, p.predict, partly=True) for p in _all()]
