"""What the oracle says about the listings that this project started from; they are run as they are printed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from tests.foreign.listings_judged import verdicts

EXPECTED = {
    "manual, ys probabilities": "agrees",
    "manual, ys the outputs y": "disagrees",
    "manual, ys outputs, squared error": "agrees",
    "automatic": "agrees",
    "truncated, whole chunks": "agrees",
    "truncated, a shorter last chunk": "error",
    "truncated, a last chunk of one step": "disagrees",
    "flow": "agrees",
    "flow, the same input twice": "disagrees",
}


def test_every_listing_is_judged():
    assert {name: verdict.status for name, verdict in verdicts()} == EXPECTED
