"""The table of a cross-check: what every method says of the worst entry of each tensor, and which one is alone.

A method is an outlier where most others agree with each other and not with it.  Where no group of methods is a
majority, or two groups of one size contradict each other, nothing is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from textwrap import wrap
from typing import Any

from numeric.differences import Convergence
from numeric.dot_product import DotProduct
from numeric.noise import LIMIT

__all__ = ["CheckRow", "CheckedEntry", "CrossCheck", "find_outliers"]

ENGINE, UNFUSED, FORWARD, COMPLEX, RICHARDSON = METHODS = (
    "engine",
    "unfused program",
    "forward mode",
    "complex step",
    "Richardson",
)

_ADVICE = {
    (ENGINE,): "its backward pass is wrong there; the derived one is right",
    (ENGINE, UNFUSED): "the derivation is wrong, and the engine runs it; prove it: bptt prove",
    (UNFUSED,): "the engine is right; the program run node by node is not: report it",
    (FORWARD,): "a forward derivative of a node is wrong: report it",
    (COMPLEX,): "a function of the cell does not take complex numbers as it should, or has a kink at this very point",
    (RICHARDSON,): "difference quotients are no judge here: a kink or a pole within their step; believe the others",
    (COMPLEX, RICHARDSON): "the loss is not what was differentiated: a kink at this very point, or the engine's forward"
    " pass is wrong",
}


_LAW_ALONE = "the entries that were looked at agree, but the law fails: an entry that was not looked at is wrong"


@dataclass(frozen=True)
class CheckRow:
    """One tensor by one method: the worst entry looked at, both values there, and how far apart they are.

    ``error`` and ``limit`` are relative to the magnitude of the tensor's gradient, the largest that an entry would be
    if no two terms of one step cancelled (1 where that is 0); ``units`` is the same difference in units of the entry's
    noise, u sigma'.
    """

    parameter: str
    method: str
    error: float
    limit: float
    worst: tuple[int, ...]
    value: float
    engine: float
    entries: int
    units: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the error is within the method's accuracy."""
        return self.error <= self.limit

    @property
    def exact(self) -> bool:
        """Whether the method works to rounding, and so may refute."""
        return self.method != RICHARDSON


@dataclass(frozen=True)
class CheckedEntry:
    """The worst entry of one tensor: every method's ``values`` there, the engine's first.

    ``allowed`` is how far each may be from the truth: 16 times ``noise``, u sigma', and for differences their own
    estimate more.
    """

    parameter: str
    index: tuple[int, ...]
    values: Mapping[str, float]
    allowed: Mapping[str, float]
    noise: float

    @property
    def label(self) -> str:
        """W_hh[2, 3]."""
        return f"{self.parameter}[{', '.join(map(str, self.index))}]" if self.index else self.parameter

    @property
    def outliers(self) -> tuple[str, ...] | None:
        """Methods that disagree with an agreeing majority; None where there is no majority."""
        return find_outliers(self.values, self.allowed)

    def units(self, method: str) -> float:
        """How far a method is from the engine, in units of the noise."""
        difference = abs(self.values[method] - self.values[ENGINE])
        return 0.0 if difference == 0 else difference / self.noise if self.noise > 0 else float("inf")


def find_outliers(values: Mapping[str, float], allowed: Mapping[str, float]) -> tuple[str, ...] | None:
    """Who is not in the largest group of methods that all agree with each other; None without a majority.

    >>> find_outliers({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 0.1, "b": 0.1, "c": 0.1})
    ('c',)
    >>> find_outliers({"a": 1.0, "b": 2.0}, {"a": 0.1, "b": 0.1}) is None
    True
    """

    def agree(a: str, b: str) -> bool:
        return abs(values[a] - values[b]) <= allowed[a] + allowed[b]

    for size in range(len(values), len(values) // 2, -1):
        groups = [g for g in combinations(values, size) if all(agree(a, b) for a in g for b in g)]
        if groups:  # two of one size contradict each other
            return tuple(a for a in values if a not in groups[0]) if len(groups) == 1 else None
    return None


@dataclass(frozen=True)
class CrossCheck:
    """The table of all methods and tensors; ``reference`` is what they are compared to.

    ``entries`` holds every method's value of the worst entry of each tensor, ``laws`` the dot-product law by direction,
    ``convergence`` how differences converge along one random direction of each tensor.
    """

    rows: tuple[CheckRow, ...]
    methods: tuple[str, ...]
    reference: str = ENGINE
    entries: tuple[CheckedEntry, ...] = ()
    laws: tuple[DotProduct, ...] = ()
    convergence: Mapping[str, Convergence] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether something was looked at, and every row and every law is within its limit."""
        found = [*(row.ok for row in self.rows), *(law.ok for law in self.laws)]
        return bool(found) and all(found)

    def __str__(self) -> str:
        parts = [*self._table(), *self._law(), *self._orders(), *self._verdict()]
        return "\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {
            "ok": self.ok,
            "reference": self.reference,
            "rows": [asdict(row) | {"ok": row.ok} for row in self.rows],
            "entries": [
                {
                    "parameter": e.parameter,
                    "index": list(e.index),
                    "values": dict(e.values),
                    "noise": e.noise,
                    "outliers": None if e.outliers is None else list(e.outliers),
                }
                for e in self.entries
            ],
            "dot_product_law": [asdict(law) | {"ok": law.ok} for law in self.laws],
            "convergence": {name: asdict(found) for name, found in self.convergence.items()},
        }

    # ------------------------------------------------------------------------------------------------ what is printed

    def _table(self) -> list[str]:
        if not self.entries:
            return []
        bad = {(row.parameter, row.method) for row in self.rows if not row.ok}
        width = min(18, max(len("gradient by"), *(len(e.label) for e in self.entries)))
        head = [f"{'gradient by':{width}}", f"{ENGINE:>10}", *(f"{m:>17}" for m in self.methods), "outlier"]
        lines = ["  ".join(head)]
        for e in self.entries:
            label = e.label if len(e.label) <= width else e.label[: width - 3] + "..."
            cells = [
                f"{e.values[m]:10.3e} {_short(e.units(m)) + ('!' if (e.parameter, m) in bad else ''):>6}"
                for m in self.methods
            ]
            named = e.outliers
            alone = "undecided" if named is None else "none" if not named else named[0] + _more(named)
            lines.append("  ".join([f"{label:{width}}", f"{e.values[ENGINE]:10.3e}", *cells, alone]))
        lines.append("beside each value, its distance from the engine's in units of the rounding noise of that entry;")
        own = "; Richardson is allowed its own error estimate besides" if RICHARDSON in self.methods else ""
        return [*lines, f"up to {LIMIT:g} is rounding, ! marks more{own}"]

    def _law(self) -> list[str]:
        if not self.laws:
            return []
        worst = max(self.laws, key=lambda law: law.units)
        said = f"dot-product law, {len(self.laws)} dense directions through all tensors: {_short(worst.units)} units"
        if worst.ok:
            return [said]
        return [f"{said}, WRONG:", f"  <J v, w> = {worst.forward!r} but <v, J.T w> = {worst.backward!r}"]

    def _orders(self) -> list[str]:
        central = [c.central_order for c in self.convergence.values() if c.central_order is not None]
        better = [c.extrapolated_order for c in self.convergence.values() if c.extrapolated_order is not None]
        said = [
            f"{what} as {_powers(found)}" for what, found in (("central", central), ("extrapolated", better)) if found
        ]
        return [f"differences converge: {', '.join(said)}"] if said else []

    def _verdict(self) -> list[str]:
        wrong = [e for e in self.entries if any(not r.ok for r in self.rows if r.parameter == e.parameter)]
        if self.ok:
            exact = max((r.units for r in self.rows if r.exact), default=0.0)
            worst = f"; the largest error is {_short(exact)} units" if any(r.exact for r in self.rows) else ""
            return [f"all agree{worst}"]
        if not self.rows and not self.laws:
            return ["nothing was looked at"]
        lines = [f"{len(wrong)} of {len(self.entries)} tensors differ:"] if wrong else [_LAW_ALONE]
        by_cause: dict[tuple[str, ...] | None, list[CheckedEntry]] = {}
        for e in wrong:
            by_cause.setdefault(e.outliers, []).append(e)
        for cause, found in by_cause.items():
            lines += _wrapped(f"{_listed([e.label for e in found])}: {_said(cause)}", "  ")
            lines += _wrapped(_side_by_side(found[0], cause), "    ") if cause else []
        return lines


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(text, 116, initial_indent=indent, subsequent_indent=indent + "  ")


def _powers(orders: list[float]) -> str:
    low, high = f"h^{min(orders):.2f}", f"h^{max(orders):.2f}"
    return low if low == high else f"{low} to {high}"


def _said(cause: tuple[str, ...] | None) -> str:
    if cause is None:
        return "undecided: no majority of the methods agrees; look at more methods"
    if not cause:
        return "at the edge of the limits; look at more entries"
    advice = _ADVICE.get(cause, "the others agree with each other")
    return f"outlier {' and '.join(cause)}: {advice}"


def _side_by_side(entry: CheckedEntry, cause: tuple[str, ...]) -> str:
    """The values of one entry with every digit."""
    others = next(m for m in entry.values if m not in cause)
    return f"{entry.label}: {cause[0]} {entry.values[cause[0]]!r}, but {others} {entry.values[others]!r}"


def _listed(labels: list[str], most: int = 3) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more


def _more(names: tuple[str, ...]) -> str:
    return f" +{len(names) - 1}" if len(names) > 1 else ""


def _short(units: float) -> str:
    return f"{units:.1f}" if units < 999.95 else f"{units:.0e}".replace("e+", "e") if units < float("inf") else "inf"
