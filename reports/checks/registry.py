"""Which mechanism a reading's ``check`` names; a mechanism is imported when it is first used.

A claims file can only name what is listed here, and never brings code of its own.  ``name`` and ``check`` are keys of
the reading itself, so no mechanism has an argument called so: a measurement is a ``quantity``, a listing's harness a
``harness``.
"""

from __future__ import annotations

from importlib import import_module

from derive.claims import ClaimError, Reading
from derive.errors import nearest
from reports.checks.evidence import Check, Evidence

__all__ = ["CHECKS", "check_reading", "find_check"]

CHECKS: dict[str, str] = {  # name: module and function
    "forward": "reports.checks.forward:check_forward",
    "backward": "reports.checks.backward:check_backward",
    "loss": "reports.checks.loss:check_loss",
    "cost": "reports.checks.cost:check_cost",
    "graph": "reports.checks.graph:check_graph",
    "shape": "reports.checks.shape:check_shape",
    "proof": "reports.checks.proof:check_proof",
    "truncation": "reports.checks.truncation:check_truncation",
    "definition": "reports.checks.definition:check_definition",
    "convention": "reports.checks.definition:check_definition",
    "measured": "reports.checks.measured:check_measured",
    "listing": "reports.checks.listing:check_listing",
}


def find_check(name: str) -> Check:
    """The mechanism of a name; raises :class:`ClaimError` for a name that no mechanism has."""
    if name not in CHECKS:
        wanted = ", ".join(CHECKS)
        raise ClaimError("unknown check", field="check", found=name, expected=wanted, near=nearest(name, CHECKS))
    module, _, function = CHECKS[name].partition(":")
    check: Check = getattr(import_module(module), function)
    return check


def check_reading(reading: Reading) -> Evidence:
    """What the check of a reading finds; raises :class:`ClaimError` for an unknown check or wrong arguments."""
    return find_check(reading.check)(reading.arguments)
