"""Hypothesis draws the same examples in every run; HYPOTHESIS_PROFILE=explore draws new and more ones.
BPTT_TESTS=all runs every case of the laws whose cases otherwise take turns (see turns.py).

Engines run NumPy alone unless a test asks for the compiled loop: compiling takes seconds, and tests have many cells.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("BPTT_FAST", "0")

settings.register_profile(
    "ci", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
