"""The oracle: is this implementation of a recurrent gradient right, and if not, what is wrong with it?"""

from numeric.oracle.case import Case
from numeric.oracle.judge import judge
from numeric.oracle.lookup import case
from numeric.oracle.verdict import Diagnosis, Finding, Verdict

__all__ = ["Case", "Diagnosis", "Finding", "Verdict", "case", "judge"]
