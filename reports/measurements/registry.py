"""Which quantities there are, and what each measures; a claims file can only name what is listed here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from derive.claims import ClaimError
from derive.errors import nearest
from reports.checks.arguments import Arguments
from reports.measurements.measurement import Measurement

__all__ = ["QUANTITIES", "find_quantity"]

QUANTITIES: dict[str, tuple[str, str]] = {  # name: (module and function, what is measured)
    "flow": ("flow:measure_flow", "How the gradient changes on its way back in time"),
    "mitigation": ("flow:measure_mitigation", "What one network's gradient loses over time, beside another's"),
    "product": ("flow:measure_product", "Singular values of the Jacobian product"),
    "unrolled": ("unrolled:measure_unrolled", "BPTT beside backpropagation through the unrolled copies"),
    "truncation": ("truncation:measure_truncation", "What truncation drops of the gradient"),
    "boundary": ("truncation:measure_boundary", "Dependencies within a chunk and across its edge"),
    "memory": ("memory:measure_memory", "Peaks of memory against the length of the sequence"),
    "tape": ("memory:measure_tape", "What there is to hold for one gradient"),
    "work": ("work:measure_work", "Multiply-adds and times, in full, in chunks and in windows"),
    "time": ("work:measure_time", "How work and time grow with the length of the sequence"),
    "learning": ("learning:measure_learning", "What is learned with full and with truncated gradients"),
    "step": ("step:measure_step", "What one update does to the loss and to the weights"),
    "hearing": ("hearing:measure_hearing", "How many later losses a state's derivative hears of"),
}


def find_quantity(name: str) -> Callable[[Arguments], Measurement]:
    """The measurement of a name; raises :class:`ClaimError` for a name that there is none of."""
    if name not in QUANTITIES:
        wanted, near = ", ".join(QUANTITIES), nearest(name[:80], QUANTITIES)
        raise ClaimError("unknown quantity", field="quantity", found=name, expected=wanted, near=near)
    module, _, function = QUANTITIES[name][0].partition(":")
    found: Callable[[Arguments], Measurement] = getattr(import_module(f"reports.measurements.{module}"), function)
    return found
