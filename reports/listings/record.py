"""What the listings did where PyTorch was there, kept for where it is not.

    python -m reports.listings.record          runs every listing on every input, and keeps what it did

A record counts only for the very texts that were run: each is kept with its hash.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reports.listings.rows import Row, row_data, rows_from_data
from reports.listings.running import observe
from reports.listings.source import FORMS, HARNESSES, shipped
from reports.listings.worker import groups

__all__ = ["recorded", "recorded_with", "take_record"]

_FILE = Path(__file__).parent / "record.json"


@cache
def _record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}
    return found


def recorded_with() -> str:
    """The version of PyTorch with which the record was taken; "" where there is none."""
    return str(_record().get("torch", ""))


def recorded(harness: str, form: str, group: str) -> tuple[Row, ...]:
    """What a listing did with the inputs of one group; empty where that was not recorded of the text as it is now."""
    kept = _record().get("runs", {}).get(f"{harness} {form}", {})
    if kept.get("text") != _hash(harness, form) or group not in kept.get("groups", {}):
        return ()
    return rows_from_data({"rows": kept["groups"][group]})


def _hash(harness: str, form: str) -> str:
    return hashlib.sha256(shipped(harness, form).path.read_bytes()).hexdigest()


def take_record() -> dict[str, Any]:
    """Run everything, and give what is kept."""
    runs = {
        f"{harness} {form}": {
            "text": _hash(harness, form),
            "groups": {
                group.name: [row_data(row) for row in observe(harness, form, group.name)]
                for group in groups(harness)
                if form in group.forms
            },
        }
        for harness in HARNESSES
        for form in FORMS
    }
    return {"torch": version("torch"), "runs": runs}


if __name__ == "__main__":
    _FILE.write_text(json.dumps(take_record(), indent=1) + "\n", encoding="utf-8")
    print(f"{_FILE.name}: with PyTorch {version('torch')}")
