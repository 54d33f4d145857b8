"""The oracle: is this implementation of a recurrent gradient right, and if not, what is wrong with it?"""

from numeric.oracle.calling import Caller, InProcess, Outcome
from numeric.oracle.case import Case
from numeric.oracle.families import default_cases
from numeric.oracle.judge import judge
from numeric.oracle.lookup import find_case
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
    "default_cases",
    "find_case",
    "judge",
    "parametrize_with_checks",
]
