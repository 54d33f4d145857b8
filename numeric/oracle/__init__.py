"""The oracle: is this implementation of a recurrent gradient right, and if not, what is wrong with it?"""

from numeric.oracle.calling import Caller, InProcess, Outcome
from numeric.oracle.case import Case
from numeric.oracle.judge import judge
from numeric.oracle.suite import Check, CheckError, Record, check_implementation, checks, parametrize_with_checks
from numeric.oracle.verdict import Diagnosis, Finding, Verdict

__all__ = [
    "Caller",
    "Case",
    "Check",
    "CheckError",
    "Diagnosis",
    "Finding",
    "InProcess",
    "Outcome",
    "Record",
    "Verdict",
    "check_implementation",
    "checks",
    "judge",
    "parametrize_with_checks",
]
