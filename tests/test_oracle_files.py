"""Cases and results in files: what is written comes back bit by bit, and what strangers wrote cannot do harm."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_cases import CELL, right, small_cases

import numeric.oracle
from numeric.oracle import judge
from numeric.oracle.calling import InProcess, Outcome
from numeric.oracle.case_data import VERSION, case_from_data, case_text, named_arrays
from numeric.oracle.files import FileError, FolderCaller, file_stems, read_cases, write_cases
from numeric.oracle.flags import FLAGS, flags_of
from numeric.oracle.result_data import outcome_of, outcome_text
from numeric.oracle.safetensors import parse_safetensors, safetensors_bytes
from numeric.oracle.strict_json import parse_json
from numeric.oracle.tensors import exact_in_json, tensor_array, tensor_text
from reports.cli import main

CASES = small_cases()
CASE_BYTES = case_text(CASES[0]).encode()


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("BPTT_CACHE", "")
    monkeypatch.delenv("BPTT_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    """Three cases as files."""
    write_cases(CASES[:3], tmp_path / "cases")
    return tmp_path / "cases"


def result_text(case, value=None, **head):
    head = {"schema": "bptt-result", "version": VERSION, "id": case.id} | head
    return outcome_text(Outcome("returned", value or right(case)), head, 10**6)


def write_results(folder, change=lambda value: value):
    found = read_cases(folder)
    for case in found.cases:
        (folder / f"{found.results[case.id]}.json").write_text(result_text(case, change(right(case))))


# ------------------------------------------------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b"[NaN]", "NaN is no JSON"),
        (b"[-Infinity]", "not finite"),
        (b"[" * 40 + b"]" * 40, "nested more than"),
        (b"[" * 10**6, "nested more than"),
        (b'{"a":' * 10**5, "nested more than"),
        (b'["\xff"]', "UTF-8"),
        (b'["a', "no JSON"),
        (b"\x80\x04cos\nsystem\n", "UTF-8"),
        (b"cos\nsystem\n(S'true'\ntR.", "no JSON"),
        (b"", "no JSON"),
    ],
)
def test_strange_json_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_json_takes_time_in_proportion():
    text = b'"' + b'\\"' * 200_000
    with pytest.raises(ValueError, match="no JSON"):
        parse_json(text)  # quadratic in half a second each thousand, were it so


def test_numbers_without_end_are_floats():
    assert parse_json(b"[" + b"9" * 100_000 + b"]") == [np.inf]
    assert np.signbit(parse_json(b"[-0]")[0])


FLOATS = st.floats(allow_nan=False) | st.just(float("nan")) | st.sampled_from([-0.0, 5e-324, 1e308, np.inf, -np.inf])


@given(st.lists(FLOATS, min_size=1, max_size=6), st.sampled_from(["float64", "float32", "float16"]), st.booleans())
def test_every_number_comes_back(numbers, dtype, decimal):
    with np.errstate(all="ignore"):
        array = np.array(numbers).astype(dtype)
    found = tensor_array(parse_json(tensor_text(array, decimal=decimal).encode()))
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    values = parse_json(tensor_text(array).encode())["values"]
    for text, x in zip(values, array.astype(float), strict=True):
        assert (text is None) == (not np.isfinite(x))
        assert text is None or (float(text) == x and np.signbit(text) == np.signbit(x))


def test_what_a_nan_carries_is_not_lost_in_json():
    odd = np.frombuffer(struct.pack("<Q", 0x7FF8000000000001), "<f8").copy()
    assert not exact_in_json(odd)
    assert exact_in_json(np.array([np.nan, 1.0]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"shape": [10**9, 10**9], "values": [1]}, "numbers; 'values' is 1"),
        ({"shape": [-1], "values": []}, "the shape is"),
        ({"shape": [1.0], "values": [1]}, "the shape is"),
        ({"shape": [True], "values": [1]}, "the shape is"),
        ({"shape": [1] * 9, "values": [1]}, "at most 8"),
        ({"shape": [1], "values": "1"}, "a str"),
        ({"shape": [1], "values": [1], "hex": ["0x1p1"]}, "different numbers"),
        ({"shape": [1], "values": [[1]]}, "no number"),
        ({"shape": [1], "values": [True]}, "no number"),
        ({"shape": [1], "values": ["__import__('os')"]}, "no number"),
        ({"shape": [1], "hex": ["0x1p99999999999999999999"]}, "no number"),
        ({"shape": [1], "values": [0.1], "dtype": "float32"}, "cannot hold"),
        ({"shape": [1], "values": [1.5], "dtype": "int64"}, "no int64"),
        ({"shape": [1], "values": [10**30], "dtype": "int64"}, "no int64"),
        ({"shape": [1], "values": [1], "dtype": "object"}, "dtype"),
        ({"shape": [1], "values": [1], "dtype": ["f"]}, "dtype"),
        ({"shape": [1]}, "neither"),
        ({"shape": [1], "values": [1], "code": "x"}, "not known"),
        ([[1], [1, 2]], "equally long"),
        ([[1], 2], "equally long"),
        ({}, "the shape is"),
        ("x", "no number"),
    ],
)
def test_strange_arrays_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        tensor_array(data)


# ------------------------------------------------------------------------------------------------------ safetensors


ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7, np.int32), "none": np.zeros((0, 4), np.float32)}


def test_safetensors_come_back():
    arrays, metadata = parse_safetensors(safetensors_bytes(ARRAYS, {"id": "x"}))
    assert metadata == {"id": "x"}
    assert list(arrays) == list(ARRAYS)
    for name, x in ARRAYS.items():
        assert arrays[name].dtype == x.dtype
        assert arrays[name].shape == x.shape
        assert arrays[name].tobytes() == x.tobytes()


def test_the_package_safetensors_reads_and_writes_the_same():
    package = pytest.importorskip("safetensors.numpy")
    found = package.load(safetensors_bytes(ARRAYS))
    assert all(np.array_equal(found[name], x) for name, x in ARRAYS.items())
    assert set(parse_safetensors(package.save(ARRAYS))[0]) == set(ARRAYS)


def tensors(header, body=b"\0" * 16, size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


def entry(start=0, end=16, shape=(2,), dtype="F64"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"\x01\0\0", "truncated"),
        (tensors({}, size=1 << 62), "truncated"),
        (tensors({"a": entry()}, size=400), "truncated"),
        (tensors({"a": entry()}, b"\0" * 8), "outside"),
        (tensors({"a": entry(0, 1 << 60, (1 << 57,))}), "outside"),
        (tensors({"a": entry(0, 16, (1 << 40, 1 << 40))}), "do not make"),
        (tensors({"a": entry(-8, 8)}), "outside"),
        (tensors({"a": entry(0, 16), "b": entry(8, 16, (1,))}), "overlaps"),
        (tensors({"a": entry(8, 16, (1,))}), "gap"),
        (tensors({"a": entry(0, 8, (1,))}), "belong to none"),
        (tensors(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2)), "stands twice"),
        (tensors({"a": entry(dtype="O")}), "dtype"),
        (tensors({"a": entry(dtype=["F64"])}), "dtype"),
        (tensors({"a": {**entry(), "x": 1}}), "expected the keys"),
        (tensors({"a": {**entry(), "shape": "2"}}), "shape"),
        (tensors({"a": {**entry(), "data_offsets": [0.0, 16.0]}}), "whole numbers"),
        (tensors({"__metadata__": {"a": 1}, "a": entry()}), "object of strings"),
        (tensors(b"[" * 1000), "nested"),
        (tensors(b"[]", b""), "no JSON object"),
        (b"PK\x03\x04" + b"\0" * 100, "it is no safetensors|truncated|header"),
    ],
)
def test_strange_safetensors_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        parse_safetensors(data)


@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 40))
def test_a_damaged_file_is_an_error_or_an_array(at, byte, cut):
    data = bytearray(safetensors_bytes(ARRAYS, {"id": "x"}))
    data[at % len(data)] = byte
    with contextlib.suppress(ValueError):
        parse_safetensors(bytes(data[: len(data) - cut]))


@given(st.integers(0, 10**6), st.sampled_from(b'0-"[]{}:,.enx\\'))
def test_a_damaged_case_is_an_error_or_the_case(at, byte):
    data = bytearray(CASE_BYTES)
    data[at % len(data)] = byte
    with contextlib.suppress(ValueError):
        assert case_from_data(parse_json(bytes(data))).digest == CASES[0].digest


# ------------------------------------------------------------------------------------------------------------ cases


@pytest.mark.parametrize("small", [0, 10**6], ids=["safetensors", "json"])
def test_cases_come_back(tmp_path, small):
    written = write_cases(CASES, tmp_path / "cases", small=small)
    assert any(path.suffix == ".safetensors" for path in written) == (small == 0)
    found = read_cases(tmp_path / "cases").cases
    assert [c.digest for c in found] == [c.digest for c in CASES]
    assert [(c.id, c.family, c.purpose) for c in found] == [(c.id, c.family, c.purpose) for c in CASES]


def test_bfloat16_comes_back(tmp_path):
    dtype = pytest.importorskip("ml_dtypes").bfloat16
    groups = {g: {n: x.astype(dtype) for n, x in getattr(CASES[0], g).items()} for g in ("params", "inputs", "initial")}
    case = replace(CASES[0], dtype="bfloat16", accumulate="float32", **groups)
    for small in (0, 10**6):
        write_cases([case], tmp_path / str(small), small=small)
        assert read_cases(tmp_path / str(small)).cases[0].digest == case.digest


def test_the_index_explains_every_flag(folder):
    index = json.loads((folder / "index.json").read_text())
    assert index["schema"] == "bptt-cases"
    assert index["version"] == VERSION
    assert set(index["flags"]) == {flag.name for flag in FLAGS}
    for said, case in zip(index["cases"], CASES, strict=False):
        assert said["flags"] == list(flags_of(case))
    assert {"lengths", "nan-padding", "mean", "distribution"} <= set(index["cases"][1]["flags"])


def test_names_of_files_are_plain_and_differ():
    stems = file_stems(["a/b", "a_b", "A_B", "../x", ".hidden", "", "é" * 200])
    assert len({s.lower() for s in stems.values()}) == 7
    assert not any(s.startswith(".") or "/" in s or len(s) > 90 for s in stems.values())


def test_a_case_by_its_id():
    one = numeric.oracle.find_case("tanh_rnn", "separating")
    assert one.id == "separating"
    with pytest.raises(ValueError, match="did you mean separating"):
        numeric.oracle.find_case(CELL, "seperating")


def changed_case(**changes):
    return json.loads(case_text(CASES[0])) | changes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed_case(version=2), "version 2.*newer"),
        (changed_case(version="1"), "version 1;"),
        (changed_case(schema="other"), "schema"),
        (changed_case(text="h[t] = __import__('os').system('true')"), "line 1"),
        (changed_case(text=None), "expected a text"),
        (changed_case(loss="hinge"), "loss"),
        (changed_case(loss="squared_error"), "targets"),
        (changed_case(params={}), "W_hh"),
        (changed_case(params=[1]), "expected an object"),
        (changed_case(truncate=[1]), "truncate"),
        (changed_case(truncate=[5, 1]), "truncate"),
        (changed_case(extra=1), "not known"),
        (changed_case(dtype="int8"), "dtype"),
        (changed_case(purpose="edited", loss="linear"), "targets|cotangents"),
        (changed_case(reduction="mean"), "digest"),
        (changed_case(lengths={"dtype": "int64", "shape": [3], "values": [9, 1, 1]}), "lengths"),
        ([1], "JSON object"),
    ],
)
def test_strange_cases_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        case_from_data(data)


def test_a_large_case_says_its_arrays():
    case = CASES[4]
    data = json.loads(case_text(case, data="x.safetensors"))
    assert case_from_data(data, named_arrays(case)).digest == case.digest
    with pytest.raises(ValueError, match="is not known"):
        case_from_data(data, {**named_arrays(case), "code": np.zeros(1)})


# ---------------------------------------------------------------------------------------------------------- results


def test_results_in_files_are_judged(folder, capsys):
    write_results(folder)
    assert main(["judge", str(folder)]) == 0
    assert "agrees" in capsys.readouterr().out

    def wrong(value):
        value["grads"]["b"] = value["grads"]["b"] * 2
        return value

    write_results(folder, wrong)
    assert main(["judge", str(folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "disagrees"
    assert said["reproduce"] == f"the case in {folder / said['findings'][0]['case']}.case.json"
    assert main(["judge", str(folder), "--only", "W_hh"]) == 0


def test_results_may_be_safetensors_or_nested_lists(folder):
    found = read_cases(folder)
    for k, case in enumerate(found.cases):
        value = right(case)
        grads = {f"grads.{name}": np.asarray(x) for name, x in value["grads"].items()}
        path = folder / f"{found.results[case.id]}{'.safetensors' if k else '.json'}"
        lists = {"grads": {name: np.asarray(x).tolist() for name, x in value["grads"].items()}}
        head = {"schema": "bptt-result", "version": VERSION, "id": case.id}
        path.write_bytes(safetensors_bytes(grads) if k else json.dumps(head | lists).encode())
    assert judge(FolderCaller(found), CELL, cases=found.cases)


def test_the_same_numbers_under_two_names_have_a_result_each(tmp_path):
    twins = (CASES[0], replace(CASES[0], id="twin"))
    write_cases(twins, tmp_path / "cases")
    found = read_cases(tmp_path / "cases")
    (tmp_path / "cases" / "twin.result.json").write_text(result_text(twins[1]))
    verdict = judge(FolderCaller(found), CELL, cases=found.cases)
    assert verdict.judged == ("twin",)


def test_missing_results_are_never_agreement(folder, capsys):
    assert main(["judge", str(folder)]) == 4
    assert "declined" in capsys.readouterr().out
    (folder / "plain.result.json").write_text(result_text(CASES[0]))
    assert main(["judge", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "declined: mean, last (no result file)" in out
    assert "second call" in out


def test_a_wrong_shape_is_a_verdict_not_a_bad_file(folder, capsys):
    (folder / "plain.result.json").write_text(
        json.dumps({"schema": "bptt-result", "version": 1, "id": "plain", "grads": {"W_hh": [1.0], "b": [None] * 4}})
    )
    assert main(["judge", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "has shape (1,); expected (4, 4)" in out
    assert "holds nan" in out


def head(**more):
    return json.dumps({"schema": "bptt-result", "version": 1, "id": "plain", "grads": {}} | more).encode()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("plain.result.json", head()[:-5], "no JSON"),
        ("plain.result.json", head(version=9), "version 9"),
        ("plain.result.json", head(schema="x"), "schema"),
        ("plain.result.json", head(id="other"), "id"),
        ("plain.result.json", b'{"a": 1, "a": 1}', "twice"),
        ("plain.result.json", head(loss=float("nan")), "NaN is no JSON"),
        ("plain.result.json", b"[" * 10**5, "nested"),
        ("plain.result.json", head(grads={"b": {"shape": [10**12], "values": []}}), "numbers"),
        ("plain.result.json", head(grads=[1]), "object of arrays"),
        ("plain.result.json", b" " * (1 << 22), "at most"),
        ("plain.result.json", b"\x80\x04\x95cposix\nsystem\n.", "UTF-8"),
        ("plain.result.safetensors", tensors({"a": entry()}), "not known"),
        ("plain.result.safetensors", tensors({"loss": entry()}, size=1 << 40), "truncated"),
        ("plain.result.safetensors", tensors({"__metadata__": {"version": "9"}}, b""), "version 9"),
        ("plain.result.safetensors", b"\0" * (1 << 22), "at most"),
        ("plane.result.json", head(), "no case"),
        ("plain.case.json", b"{}", "schema"),
        ("plain.case.json", b"", "no JSON"),
        ("index.json", b"", "no JSON"),
        ("index.json", b'{"schema": "bptt-cases", "version": 2}', "version 2"),
        ("index.json", b'{"schema": "bptt-cases", "version": 1, "cases": []}', "entries"),
        ("index.json", b'{"schema": "bptt-cases", "version": 1, "cases": [{"id": 1}]}', "expected id"),
        ("index.json", b" " * (1 << 25), "at most"),
    ],
)
def test_bad_files_are_one_line_and_status_2(folder, capsys, name, data, words):
    (folder / name).write_bytes(data)
    assert main(["judge", str(folder)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert words in line
    assert name in line or name == "index.json"


def index_with(folder, **changes):
    index = json.loads((folder / "index.json").read_text())
    index["cases"][0] |= changes
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "..", "a\0b", "a/b", "", ".hidden", "x" * 500])
def test_no_name_leads_out_of_the_folder(folder, name):
    index_with(folder, file=name)
    with pytest.raises(FileError, match="no plain file name"):
        read_cases(folder)


def test_two_files_for_one_result_are_refused(folder):
    (folder / "plain.result.json").write_bytes(head())
    (folder / "plain.result.safetensors").write_bytes(b"")
    with pytest.raises(FileError, match="one result"):
        FolderCaller(read_cases(folder))
    index_with(folder, result="mean.result.json")
    with pytest.raises(FileError, match="same result file"):
        read_cases(folder)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_links_and_pipes_are_not_read(folder, tmp_path):
    (tmp_path / "secret").write_bytes(head())
    os.symlink(tmp_path / "secret", folder / "plain.result.json")
    with pytest.raises(FileError, match="symbolic link"):
        FolderCaller(read_cases(folder))
    os.unlink(folder / "plain.result.json")
    os.mkfifo(folder / "plain.result.json")
    with pytest.raises(FileError, match="no plain file"):
        FolderCaller(read_cases(folder))
    os.unlink(folder / "plain.result.json")
    os.symlink(tmp_path / "nothing", folder / "plain.result.json")
    with pytest.raises(FileError, match="symbolic link"):
        FolderCaller(read_cases(folder))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory")
def test_hostile_files_need_no_memory(folder):
    """A sparse file of a terabyte, and a header that claims one, in a process that may not have 200 MB more."""
    with open(folder / "plain.result.safetensors", "wb") as file:
        file.truncate(1 << 40)
    (folder / "mean.result.safetensors").write_bytes(tensors({"loss": entry(0, 1 << 40, (1 << 37,))}, size=1 << 39))
    code = (
        "import resource, sys, numeric.oracle.files as f\n"
        "found = f.read_cases(sys.argv[1])\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 200_000_000,) * 2)\n"
        "for k in range(2):\n"
        "    try: f._read_result(f.Reader(sys.argv[1]), found.cases[k], found.cases[k].id + '.result')\n"
        "    except f.FileError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert "at most" in done.stdout.splitlines()[0]
    assert "truncated" in done.stdout.splitlines()[1]


def test_cases_are_written_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("numeric.oracle.families.default_cases", lambda cell, seed=0: CASES)
    assert main(["cases", "tanh_rnn", "-o", "new", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cases"] == [case.id for case in read_cases("new").cases]
    assert main(["cases", "tanh_rnn", "-o", "new"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["judge", "new", "--cell", "tanh_rnn"]) == 2
    assert main(["judge", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "empty").mkdir()
    assert main(["judge", "empty"]) == 2
    assert "index.json" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- outcomes


def test_an_outcome_comes_back_whatever_was_returned():
    case = CASES[0]

    def odd(case):
        value = right(case)
        value["grads"] |= {"W_hh": np.zeros((10**4, 10**4)), "b": [[1], [1, 2]], "W_hy": np.zeros((3, 4)) * 1j}
        value["grads"]["nope"] = 1
        return value | {"what": object(), "trace": {"h": np.zeros((5, 3, 4), np.float32)}}

    direct = judge(odd, CELL, cases=[case])
    text = outcome_text(InProcess(odd).call(case), {}, 10**6)

    class Sent:
        name = "odd"

        def call(self, case):
            return outcome_of(parse_json(text.encode()))

        def close(self):
            pass

    sent = judge(Sent(), CELL, cases=[case])
    assert sent.status == direct.status == "error"
    assert {(f.tensor, f.status) for f in sent.findings} == {(f.tensor, f.status) for f in direct.findings}
    assert sent.notes == direct.notes
    assert outcome_of(parse_json(text.encode())).value["trace"]["h"].dtype == np.float32


@pytest.mark.parametrize("value", [None, [1], {"grads": [1]}, {"grads": {}, "outputs": 3}])
def test_a_result_of_another_kind_is_an_error(value):
    outcome = outcome_of(json.loads(outcome_text(Outcome("returned", value), {}, 10)))
    assert outcome.kind == "raised"
    assert "expected a dict" in outcome.message
