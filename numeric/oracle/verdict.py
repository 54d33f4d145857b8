"""What is said about an implementation, and how a person reads it: the answer, where, why, and how to repeat it.

The worst status over all cases and tensors is the verdict's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from numeric.oracle.criterion import AGREES, DISAGREES, ERROR, SUSPECT, UNDECIDABLE
from numeric.oracle.distances import Distance

__all__ = ["SCHEMA", "Diagnosis", "Finding", "Verdict", "number"]

#: Version of what :meth:`Verdict.to_json` writes.
SCHEMA = 1

#: Features that a text lists of those not tested.
_SOME = 8

_SAID = {
    AGREES: "agrees",
    DISAGREES: "disagrees",
    SUSPECT: "suspect: further from the exact gradient than rounding explains, nearer than mistakes are",
    UNDECIDABLE: "undecidable: in some case, nothing tells right from wrong",
    ERROR: "error",
}


@dataclass(frozen=True)
class Finding:
    """One tensor of one case that is not right, or something that an implementation did.

    ``units`` is the worst entry's error in units of the criterion, u sigma'; ``found`` and ``exact`` its values,
    ``detectable`` the smallest error there that would have been seen; ``step`` the first time step, from 1, at which a
    tensor with a time axis is wrong.
    """

    case: str
    tensor: str
    status: str
    message: str
    index: tuple[int, ...] = ()
    units: float | None = None
    found: float | None = None
    exact: float | None = None
    detectable: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What explains a result, to the criterion, in every case that was judged.

    ``mistake`` is the name of a known mistake, two of them joined by "+", or None; ``sentence`` says it in words;
    ``alternatives`` are other names that explain the same numbers; ``convention`` is set where the numbers are right in
    another layout; ``where`` says, for what nothing explains, where it first goes wrong; ``details`` are further lines.
    ``places`` are labels of the known mistakes that it is made of (:class:`numeric.oracle.mutants.Mutant`); ``step``
    is the first step, from 1, whose part of a gradient it changes.
    """

    mistake: str | None = None
    sentence: str = ""
    alternatives: tuple[str, ...] = ()
    convention: str = ""
    where: str = ""
    details: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    step: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The answer about one implementation of one cell.

    ``status`` is "agrees", "undecidable", "suspect", "disagrees" or "error", the worst over all cases; ``findings``
    lists what is not right, the worst first; ``judged`` the cases that were judged, ``declined`` those that the
    implementation does not support, with its reason; ``untested`` the features that no judged case could show;
    ``distances`` every tensor of every case beside the exact one.
    """

    cell: str
    implementation: str
    status: str
    findings: tuple[Finding, ...] = ()
    diagnosis: Diagnosis = field(default_factory=Diagnosis)
    judged: tuple[str, ...] = ()
    declined: tuple[tuple[str, str], ...] = ()
    untested: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tensors: int = 0
    largest: float = 0.0
    reproduce: str = ""
    seconds: float = 0.0
    distances: tuple[Distance, ...] = ()

    @property
    def mistake(self) -> str | None:
        """The name of the known mistake that reproduces the result; None where nothing does."""
        return self.diagnosis.mistake

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Other names that explain the result as well."""
        return self.diagnosis.alternatives

    def __bool__(self) -> bool:
        return self.status == AGREES

    def to_json(self, *, distances: bool = False) -> str:
        """Everything, as JSON with a schema version; numbers that are not finite as strings.

        The ``distances``, a thousand of them, are left out where they are not asked for.
        """
        known = asdict(self if distances else replace(self, distances=()))
        if not distances:
            del known["distances"]
        return json.dumps({"schema": SCHEMA} | _plain(known), indent=2, allow_nan=False)

    # ----------------------------------------------------------------------------------------------------------- words

    def __str__(self) -> str:
        return "\n".join(map(_one_line, self._lines()))

    def _lines(self) -> list[str]:
        lines = [self._headline()]
        if self.diagnosis.where and not self.mistake:
            lines.append(f"  {self.diagnosis.where}")
        lines += [f"  {detail}" for detail in self.diagnosis.details]
        if self.alternatives:
            lines.append(f"  fits as well: {', '.join(self.alternatives)}")
        lines += _shown(self.findings)
        lines += [f"  note: {note}" for note in self.notes]
        lines += self._coverage()
        if self.reproduce and self.status != AGREES:
            lines.append(f"  reproduce with: {self.reproduce}")
        return lines

    def _headline(self) -> str:
        subject = f"{self.implementation} as {self.cell}"
        if self.diagnosis.convention:
            return f"{subject}: {self.status}: {self.diagnosis.convention}"
        if self.mistake:
            return f"{subject}: {self.status}: {self.diagnosis.sentence} ({self.mistake})"
        if not self.judged:
            return f"{subject}: nothing was judged"
        return f"{subject}: {_SAID[self.status]}"

    def _coverage(self) -> list[str]:
        largest = f"; largest error {self.largest:.3g} units of rounding noise (limit 16)" if self.tensors else ""
        out = [f"  {len(self.judged)} cases, {self.tensors} tensors judged{largest}"]
        reasons: dict[str, list[str]] = {}
        for case, reason in self.declined:
            reasons.setdefault(reason or "no reason given", []).append(case)
        out += [f"  declined: {', '.join(cases)} ({reason})" for reason, cases in reasons.items()]
        if self.untested:
            more = f" and {len(self.untested) - _SOME} more" if len(self.untested) > _SOME else ""
            out.append(f"  not tested: {', '.join(self.untested[:_SOME])}{more}")
        return out


def _one_line(text: str) -> str:
    """A line in which nothing that an implementation said can begin another, or move a terminal's cursor.

    >>> _one_line("raised ValueError: bad\\n  agrees")
    'raised ValueError: bad\\\\n  agrees'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shown(findings: Sequence[Finding], most: int = 3) -> list[str]:
    """The worst findings, with both values."""
    out = []
    for finding in findings[:most]:
        out.append(f"  {finding.case}: {finding.message}")
        if finding.found is not None and finding.exact is not None:
            out.append(f"      yours {number(finding.found)}, exact {number(finding.exact)}")
    if len(findings) > most:
        out.append(f"  and {len(findings) - most} more findings")
    return out


def number(x: float) -> str:
    """A float in decimal, with every digit, and in hexadecimal."""
    return f"{x!r} ({float(x).hex()})"


def _plain(value: Any) -> Any:
    """What JSON can say."""
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
