"""A judging that keeps what it has: every outcome in a file as it comes, so that an interrupted one can go on.

judging.json              of what, by what; a judging of anything else does not go on here
separating.1.json         what came of the first call with this case
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numeric.oracle.calling import Caller, Outcome
from numeric.oracle.case import Case
from numeric.oracle.case_data import VERSION, check_head
from numeric.oracle.files import FileError, Reader, file_stems
from numeric.oracle.result_data import most_bytes, outcome_of, outcome_text

__all__ = ["KeepingCaller"]


class KeepingCaller:
    """Another caller, whose outcomes are kept in a folder and, with ``resume``, taken from it.

    ``about`` says what is judged, by what: a folder in which that differs is refused.  Raises FileError for a folder
    that cannot be gone on with, OSError where nothing can be written.
    """

    def __init__(
        self,
        caller: Caller,
        cases: Sequence[Case],
        folder: Path | str,
        about: Mapping[str, Any],
        *,
        resume: bool = False,
    ) -> None:
        self.caller, self.folder, self.resume = caller, Path(folder), resume
        self.name = caller.name
        self.stems = file_stems(case.id for case in cases)
        self.calls: dict[str, int] = {}
        self.taken = 0
        self._open({**about, "cases": {case.id: case.digest for case in cases}})

    def _open(self, about: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "judging.json"
        if any(self.folder.iterdir()):
            if not self.resume:
                raise FileError(f"{self.folder}: it is not empty; resume the judging in it, or give a new folder")
            self._check_same(about)
        else:
            _write(path, json.dumps({"schema": "bptt-judging", "version": VERSION, **about}, indent=1) + "\n")

    def _check_same(self, about: Mapping[str, Any]) -> None:
        path = self.folder / "judging.json"
        try:
            kept = check_head(Reader(self.folder).json_of("judging.json"), "bptt-judging")
        except FileError:
            raise
        except ValueError as error:
            raise FileError(f"{path}: {error}") from None
        for key, value in about.items():
            if kept.get(key) != value:
                what = "" if key in ("cases", "fingerprint") else f": {str(kept.get(key))[:60]}, now {str(value)[:60]}"
                raise FileError(f"{path}: that judging had another {_SAID.get(key, key)}{what}; give a new folder")

    def call(self, case: Case) -> Outcome:
        """What was kept of this call, or what comes of it now, then kept."""
        n = self.calls[case.id] = self.calls.get(case.id, 0) + 1
        name = f"{self.stems[case.id]}.{n}.json"
        kept = self._kept(case, name) if self.resume and (self.folder / name).exists() else None
        # what hung or crashed may have done so for a limit that is another one now
        if kept is not None and kept.kind not in ("hung", "crashed"):
            self.taken += 1
            return kept
        outcome = self.caller.call(case)
        head = {"schema": "bptt-outcome", "version": VERSION, "id": case.id, "digest": case.digest}
        _write(self.folder / name, outcome_text(outcome, head, most_bytes(case) // 64) + "\n")
        return outcome

    def _kept(self, case: Case, name: str) -> Outcome:
        said = Reader(self.folder).json_of(name, most_bytes(case))
        try:
            check_head(said, "bptt-outcome")
            if said.get("digest") != case.digest:
                raise ValueError("it belongs to another case")
            return outcome_of({k: x for k, x in said.items() if k not in ("schema", "version", "id", "digest")})
        except ValueError as error:
            raise FileError(f"{self.folder / name}: {error}") from None

    def close(self) -> None:
        """No more calls."""
        self.caller.close()


_SAID = {"cases": "set of cases", "fingerprint": "program (its file has changed)", "implementation": "implementation"}


def _write(path: Path, text: str) -> None:
    """The whole file, or none."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
