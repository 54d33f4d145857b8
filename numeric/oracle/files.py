"""Cases in a folder, for programs of any language, and their results in it, at any later time.

    index.json                         what there is, in which version, and what each flag means
    separating.case.json               a case; a large one names a separating.case.safetensors for its numbers
    separating.result.json             what somebody's program made of it, or separating.result.safetensors

A folder may come from anybody: every size is looked at before anything is read, links are not followed, nothing is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numeric.oracle.calling import Outcome
from numeric.oracle.case import Case
from numeric.oracle.case_data import VERSION, case_from_data, case_text, check_head, fits_json, named_arrays
from numeric.oracle.flags import FLAGS, flags_of
from numeric.oracle.result_data import most_bytes, outcome_of
from numeric.oracle.safetensors import parse_safetensors, safetensors_bytes
from numeric.oracle.strict_json import parse_json

__all__ = ["CaseFolder", "FileError", "FolderCaller", "Reader", "file_stems", "read_cases", "write_cases"]

#: Numbers of a case that is written as JSON, at most.
SMALL = 4096
#: Bytes of a JSON file, and of everything that is read from one folder, at most.
MOST_JSON, MOST = 1 << 24, 1 << 30
_MOST_CASES = 10_000

_HELP = {
    "arrays": "An array is {dtype, shape, values, hex}: its numbers row by row, in decimal with 17 digits and in "
    "hexadecimal as C's strtod reads it; both say the same. A number that is not finite is null in values. Where a "
    "case has the key data, that file (safetensors) holds the arrays params.W, inputs.x, initial.h, cotangents.y, "
    "targets, lengths.",
    "axes": "inputs, outputs and states by step are (T, B, size), initial states (B, size); a matrix is (rows, "
    "columns) and acts as W @ v. Targets are (T, B) class indices or (T, B, size), without the time axis for the loss "
    "at the last step.",
    "results": "Write the file that a case's entry calls result: {schema: 'bptt-result', version: 1, id, grads: {W: "
    "array}, loss: number, outputs: {y: array}, trace: {h: array}}; grads holds every parameter; the gradient of an "
    "input x is called x, that of an initial state h0; the rest may be left out. An array is as above, with values or "
    "hex alone, or nested lists; a number may be a text such as '0x1.8p-3'; null is NaN. {schema, version, id, "
    "declined: reason} for a case that is not supported, or no file. Or, with the ending .safetensors: arrays called "
    "grads.W, loss, outputs.y, trace.h. Then: bptt judge FOLDER",
}


class FileError(ValueError):
    """A file that is not what it should be; its text begins with the path."""


# --------------------------------------------------------------------------------------------------------- writing


def file_stems(ids: Iterable[str]) -> dict[str, str]:
    """Names of files by id, in letters that every system takes, no two alike."""
    out: dict[str, str] = {}
    taken: set[str] = set()
    for one in ids:
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", one)[:80].lstrip(".-") or "case"
        name, k = stem, 1
        while name.lower() in taken:
            k += 1
            name = f"{stem}.{k}"
        taken.add(name.lower())
        out[one] = name
    return out


def write_cases(cases: Sequence[Case], folder: Path | str, *, small: int = SMALL) -> list[Path]:
    """Write a new folder of cases of one cell; those of up to ``small`` numbers wholly as JSON.

    Raises FileError for a folder that is there and not empty, OSError where nothing can be written.
    """
    folder = Path(folder)
    _check_cases(cases)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileError(f"{folder}: it is not empty; cases are written into a new folder")
    entries, written = [], []
    for case, stem in zip(cases, file_stems(case.id for case in cases).values(), strict=True):
        entry = _entry(case, stem)
        data = None if fits_json(case, small) else f"{stem}.case.safetensors"
        if data is not None:
            (folder / data).write_bytes(safetensors_bytes(named_arrays(case), {"id": case.id}))
            written.append(folder / data)
        (folder / entry["file"]).write_text(case_text(case, data=data, lines=True) + "\n", encoding="utf-8")
        entries.append(entry)
        written.append(folder / entry["file"])
    # the index is last: a folder without one is not complete
    (folder / "index.json").write_text(_index(cases, entries), encoding="utf-8")
    return [*written, folder / "index.json"]


def _check_cases(cases: Sequence[Case]) -> None:
    if not cases or len({case.text for case in cases}) != 1 or len({case.id for case in cases}) != len(cases):
        raise ValueError("a folder is for at least one case, of one cell, with ids that differ")


def _entry(case: Case, stem: str) -> dict[str, Any]:
    return {
        "id": case.id,
        "family": case.family,
        "purpose": case.purpose,
        "flags": list(flags_of(case)),
        "file": f"{stem}.case.json",
        "result": f"{stem}.result.json",
    }


def _index(cases: Sequence[Case], entries: Sequence[Mapping[str, Any]]) -> str:
    said = {
        "schema": "bptt-cases",
        "version": VERSION,
        "cell": cases[0].cell,
        "text": cases[0].text,
        "help": _HELP,
        "flags": {flag.name: flag.meaning for flag in FLAGS},
        "cases": entries,
    }
    return json.dumps(said, indent=1) + "\n"


# --------------------------------------------------------------------------------------------------------- reading


class Reader:
    """Reads plain files of one folder, each up to a bound, and up to ``most`` bytes altogether."""

    def __init__(self, folder: Path | str, most: int = MOST) -> None:
        self.folder, self.left = Path(folder), most

    def bytes_of(self, name: str, most: int) -> bytes:
        """A file's content; raises FileError for one that is missing, no plain file, or too large."""
        path = self.folder / name
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}", name):
            raise FileError(f"{self.folder}: {name[:80]!r} is no plain file name")
        flags = os.O_RDONLY
        for one in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, one, 0)
        try:
            if path.is_symlink():
                raise FileError(f"{path}: it is a symbolic link; expected a plain file")
            with os.fdopen(os.open(path, flags), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise FileError(f"{path}: it is no plain file")
                most = min(most, self.left)
                data = b"" if found.st_size > most else file.read(most + 1)
        except OSError as error:
            raise FileError(f"{path}: it cannot be read ({error.strerror})") from None
        if found.st_size > most or len(data) > most:
            raise FileError(f"{path}: it has {max(found.st_size, len(data))} bytes; at most {most} are read")
        self.left -= len(data)
        return data

    def json_of(self, name: str, most: int = MOST_JSON) -> Any:
        """What a JSON file says; raises FileError."""
        with _within(self.folder / name):
            return parse_json(self.bytes_of(name, most))

    def arrays_of(self, name: str, most: int) -> tuple[dict[str, Any], dict[str, str]]:
        """What a safetensors file says; raises FileError."""
        with _within(self.folder / name):
            return parse_safetensors(self.bytes_of(name, most))


@contextlib.contextmanager
def _within(path: Path) -> Iterator[None]:
    """Errors in here begin with the path."""
    try:
        yield
    except FileError:
        raise
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None


@dataclass(frozen=True)
class CaseFolder:
    """The cases of a folder, and by id the names of their files, and of their results without the ending."""

    folder: Path
    cases: tuple[Case, ...]
    files: Mapping[str, str]
    results: Mapping[str, str]


def read_cases(folder: Path | str) -> CaseFolder:
    """All cases of a folder; raises FileError that names the file and says what is wrong with it."""
    reader = Reader(folder)
    with _within(reader.folder / "index.json"):
        index = check_head(reader.json_of("index.json"), "bptt-cases")
        entries = index.get("cases")
        if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_CASES:
            raise ValueError(f"'cases' is no list of 1 to {_MOST_CASES} entries")
        for entry in entries:
            _check_entry(entry)
    cases = tuple(_read_case(reader, entry) for entry in entries)
    with _within(reader.folder / "index.json"):
        _check_cases(cases)
        results = {entry["id"]: entry["result"].removesuffix(".json") for entry in entries}
        if len({name.lower() for name in results.values()}) < len(results):
            raise ValueError("two cases have the same result file")
    return CaseFolder(reader.folder, cases, {entry["id"]: entry["file"] for entry in entries}, results)


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, dict) or any(not isinstance(entry.get(key), str) for key in ("id", "file", "result")):
        raise ValueError(f"an entry of 'cases' is {str(entry)[:60]}; expected id, file and result")
    if not entry["result"].endswith(".result.json"):
        raise ValueError(f"the result of {entry['id'][:60]} is {entry['result'][:60]!r}; expected a name.result.json")


def _read_case(reader: Reader, entry: Mapping[str, str]) -> Case:
    data = reader.json_of(entry["file"])
    with _within(reader.folder / entry["file"]):
        name = data.get("data") if isinstance(data, dict) else None
        if name is not None and not isinstance(name, str):
            raise ValueError("'data' is no file name")
        arrays = None if name is None else reader.arrays_of(name, MOST)[0]
        case = case_from_data(data, arrays)
        if case.id != entry["id"]:
            raise ValueError(f"its id is {case.id[:60]!r}; the index says {entry['id'][:60]!r}")
    return case


# --------------------------------------------------------------------------------------------------------- results


class FolderCaller:
    """Results in files as a :class:`numeric.oracle.calling.Caller`; a case without a result is declined.

    Everything is read at once: raises FileError for a file that is no result.
    """

    def __init__(self, cases: CaseFolder) -> None:
        self.name = str(cases.folder)
        reader = Reader(cases.folder)
        self.outcomes = {case.id: _read_result(reader, case, cases.results[case.id]) for case in cases.cases}
        known = {f"{name}{end}" for name in cases.results.values() for end in (".json", ".safetensors")}
        for path in sorted(cases.folder.iterdir()):
            if re.search(r"\.result\.(json|safetensors)$", path.name) and path.name not in known:
                raise FileError(f"{path}: the index has no case with this result")

    def call(self, case: Case) -> Outcome:
        """What the file says."""
        return self.outcomes[case.id]

    def close(self) -> None:
        """Nothing is open."""


def _read_result(reader: Reader, case: Case, stem: str) -> Outcome:
    names = [f"{stem}{end}" for end in (".json", ".safetensors") if os.path.lexists(reader.folder / f"{stem}{end}")]
    if not names:
        return Outcome("declined", None, "no result file")
    if len(names) == 2:
        raise FileError(f"{reader.folder / names[0]}: there is {names[1]}, too; expected one result for a case")
    path = reader.folder / names[0]
    with _within(path):
        if path.suffix == ".json":
            said = check_head(reader.json_of(names[0], most_bytes(case)), "bptt-result")
        else:
            arrays, metadata = reader.arrays_of(names[0], most_bytes(case))
            said = _from_arrays(arrays, metadata, case.id)
        if said.get("id") != case.id:
            raise ValueError(f"its id is {str(said.get('id'))[:60]!r}; expected {case.id!r}")
        return outcome_of({key: x for key, x in said.items() if key not in ("schema", "version", "id")})


def _from_arrays(arrays: Mapping[str, Any], metadata: Mapping[str, str], id: str) -> dict[str, Any]:
    """A result by keys, of arrays called grads.W, loss, outputs.y and trace.h."""
    if metadata.get("version", str(VERSION)) != str(VERSION):
        raise ValueError(f"it is of version {metadata['version'][:40]}; this bptt reads version {VERSION}")
    out: dict[str, Any] = {"id": metadata.get("id", id)}
    for name, x in arrays.items():
        group, dot, rest = name.partition(".")
        if dot and group in ("grads", "outputs", "trace"):
            out.setdefault(group, {})[rest] = x
        elif name == "loss":
            out[name] = x
        else:
            raise ValueError(f"the array {name[:60]!r} is not known; expected names such as grads.W_hh or loss")
    return out
