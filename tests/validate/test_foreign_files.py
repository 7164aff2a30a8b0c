"""Files that other programs wrote, and C functions that write too much: right verdicts, or one sentence and no verdict.

The expected verdicts follow from how each file is made from a right pack: another type of the same words is equal, one
changed code is not, and what is not a file of vectors gives none.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mpsim.blocks import dequantize, quantize, quantizer_of
from mpsim.integers import IntegerPolicy, as_integer
from mpsim.rounding import decode
from mpsim.validate import validate_cast
from mpsim.validate.answers import SubjectError
from mpsim.validate.blocks.validation import validate_blocks
from mpsim.validate.cast.integers.stochastic import validate_stochastic_integers
from mpsim.validate.dot.vectors import read_dot_vectors
from mpsim.validate.sources import as_source
from mpsim.validate.subjects.casts import open_subject
from mpsim.validate.subjects.opening import Calling

NUMBERS = (np.random.default_rng(0).standard_normal((5, 32)) * 3).astype(np.float32)


def _quantized(name: str) -> dict[str, np.ndarray]:
    found = quantize(NUMBERS, quantizer_of(name))
    return {"input": NUMBERS, "expected": found.codes, "scale": np.asarray(found.scales).reshape(5, 1)}


def _verdict(path: Path, arrays: dict[str, np.ndarray], name: str) -> bool:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return validate_blocks(str(path), name).equal


def test_words_of_blocks_may_have_any_type_of_integers(tmp_path: Path) -> None:
    right = _quantized("mxfp4_floor")
    packed = (right["expected"][:, ::2] | right["expected"][:, 1::2] << 4).astype(np.uint8)
    others = [
        {"input": NUMBERS.view(np.int32)},
        {"input": NUMBERS.astype(">f4")},
        {"input": NUMBERS.astype(np.float64)},
        {"scale": right["scale"].astype(np.int16)},
        {"scale": right["scale"].astype(np.uint8).view(np.int8)},
        {"expected": packed},
        {"expected": packed.view(np.int8)},
    ]
    for other in others:
        assert _verdict(tmp_path / "x.npz", right | other, "mxfp4_floor"), other
        changed = {name: array.copy() for name, array in (right | other).items()}
        changed["expected"][3, 4] ^= 1
        assert not _verdict(tmp_path / "x.npz", changed, "mxfp4_floor"), other


def test_a_code_beyond_its_bits_is_no_code(tmp_path: Path) -> None:
    for name, dtype in (("mxfp4_floor", np.int16), ("int4_symmetric_group32", np.int8)):
        right = _quantized(name)
        wide = right["expected"].astype(dtype)
        assert _verdict(tmp_path / "x.npz", right | {"expected": wide}, name)
        with pytest.raises(SubjectError, match="as a code, which has 4 bits"):
            _verdict(tmp_path / "x.npz", right | {"expected": wide + 16}, name)


def test_floats_of_another_type_are_refused_or_kept(tmp_path: Path) -> None:
    right = _quantized("mxfp4_floor")
    values = np.asarray(dequantize(quantize(NUMBERS, quantizer_of("mxfp4_floor"))))
    short = {"input": NUMBERS, "values": values.astype(np.float16)}
    assert _verdict(tmp_path / "x.npz", short, "mxfp4_floor")
    with pytest.raises(SubjectError, match="float32 does not hold"):
        _verdict(tmp_path / "x.npz", right | {"input": NUMBERS.astype(np.float64) + 1e-12}, "mxfp4_floor")
    for name in ("expected", "scale"):
        with pytest.raises(SubjectError, match=f"'{name}' is float32; expected codes"):
            _verdict(tmp_path / "x.npz", right | {name: right[name].astype(np.float32)}, "mxfp4_floor")


def test_whole_numbers_of_json_are_words(tmp_path: Path) -> None:
    right = _quantized("mxfp8_e4m3_floor")
    rows = [
        {
            name: right[name].view(np.uint32)[i].tolist() if name == "input" else right[name][i].tolist()
            for name in right
        }
        for i in range(5)
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert validate_blocks(str(path), "mxfp8_e4m3_floor").equal
    rows[2]["scale"][0] += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert not validate_blocks(str(path), "mxfp8_e4m3_floor").equal


BAD_LINES = {
    "number.jsonl": "5\n", "list.jsonl": "[1]\n", "text.jsonl": '"input"\n', "broken.jsonl": "{oops\n",
    "negative.jsonl": '{"input": -1, "expected": 1, "scale": 1}\n', "true.jsonl": '{"input": true, "expected": 1}\n',
    "huge.jsonl": '{"input": 1, "expected": 1000000000000000000000, "scale": 1}\n', "empty.jsonl": "",
    "lacking.jsonl": '{"input": 1, "expected": 1, "scale": 1}\n{"input": 1}\n', "nested.jsonl": '{"input": [[1]]}\n',
    "negative.txt": "-1 3c\n", "huge.txt": f"3c {'1' * 30}\n", "empty.txt": "", "word.txt": "1\n",
    "columns.txt": '// ; {"columns": [1]}\n1 2 3\n', "null.txt": '// ; {"columns": null}\n1 2 3\n',
    "below.txt": '// ; {"columns": {"input": -1, "expected": 3, "scale": 1}}\n1 2 3\n',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_lines_that_are_no_vectors_give_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(BAD_LINES[name], encoding="utf-8")
    with pytest.raises(SubjectError, match=name):
        validate_blocks(str(path), "mxfp4")
    if not name.startswith(("columns", "null", "below")):  # to a cast, that is a comment
        with pytest.raises(SubjectError, match=name):
            open_subject(str(path))
    if name.endswith(".jsonl"):
        with pytest.raises(SubjectError, match=name):
            read_dot_vectors(path)


def test_archives_that_are_none_give_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "right.npz", **_quantized("mxfp4_floor"))  # type: ignore[arg-type]
    whole = (tmp_path / "right.npz").read_bytes()
    np.save(tmp_path / "array.npy", NUMBERS)
    spoilt = whole[:300] + bytes([whole[300] ^ 255]) + whole[301:]
    contents = (b"", b"hello", whole[:500], spoilt, (tmp_path / "array.npy").read_bytes())
    for content in contents:
        path = tmp_path / "x.npz"
        path.write_bytes(content)
        asks = [lambda at: validate_blocks(at, "mxfp4"), open_subject, lambda at: read_dot_vectors(Path(at))]
        for ask in asks if content != spoilt else asks[:2]:  # there an array is spoilt that products do not have
            with pytest.raises(SubjectError, match=r"x\.npz: .*not a complete npz archive"):
                ask(str(path))


def test_casts_of_a_file_are_at_least_one_each_with_its_word(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    x = np.float32([0.5, 1.5])
    for random_bits in (np.zeros(3, np.uint32), np.array(["a", "b"]), np.array([-1, 0]), np.zeros(2)):
        np.savez(path, input=x, expected=np.uint8([0, 2]), random_bits=random_bits)
        with pytest.raises(SubjectError, match="a uint32 word for each of 2 inputs"):
            open_subject(str(path))
    np.savez(path, input=x, expected=np.uint8([0, 2]), random_bits=np.int32([-1, 0]))
    subject = open_subject(str(path))
    assert subject.vectors is not None and subject.vectors.words is not None
    assert subject.vectors.words.tolist() == [0xFFFFFFFF, 0]
    np.savez(path, input=x[:0], expected=np.uint8([]))
    with pytest.raises(SubjectError, match="at least one vector"):
        open_subject(str(path))


@pytest.mark.parametrize("form", ["npz", "txt", "jsonl"])
def test_a_pack_of_stochastic_casts_to_integers_is_read_back(form: str, tmp_path: Path) -> None:
    """x = 10.25 .. 10.75 with 8 bits of variant A: up if the word is at least 256 (1 - fraction)."""
    x, words = np.float32([10.25, 10.25, -10.75, -10.75, 300]), np.array([191, 192, 63, 64, 0], np.uint32)
    right = np.array([10, 11, 0xF6, 0xF5, 127], np.uint8)
    for change, count in ((0, 0), (1, 1)):
        codes = right.copy()
        codes[1] ^= change
        rows = [
            {"input": f"{a:08x}", "expected": f"{b:02x}", "random_bits": f"{c:08x}"}
            for a, b, c in zip(x.view(np.uint32), codes, words, strict=True)
        ]
        path = tmp_path / f"x.{form}"
        if form == "npz":
            np.savez(path, input=x, expected=codes, random_bits=words)
        else:
            lines = [json.dumps(row) if form == "jsonl" else " ".join(row.values()) for row in rows]
            path.write_text("\n".join(lines), encoding="utf-8")
        policy = IntegerPolicy("stochastic", "saturate", random_bit_count=8)
        report = validate_stochastic_integers(
            open_subject(str(path), random_bits=True), as_integer("int8"), as_source("float32"), policy, given_bits=True
        )
        assert (report.trials, report.mismatches) == (5, count)
    with pytest.raises(SubjectError, match="its own random words"):
        validate_stochastic_integers(
            open_subject(str(path)), as_integer("int8"), as_source("float32"), policy, given_bits=False
        )


OVERRUN = """#include <stddef.h>
#include <stdint.h>
void after(const float *in, uint8_t *out, size_t n) { for (size_t i = 0; i < n; i++) out[i] = 0; out[n] = 0; }
void before(const float *in, uint8_t *out, size_t n) { for (size_t i = 0; i < n; i++) out[i] = 0; out[-1] = 0; }
void blocks(const float *in, uint8_t *codes, uint8_t *scales, size_t n) {
    for (size_t i = 0; i < n; i++) codes[i] = 0;
    for (size_t i = 0; i <= n / 32; i++) scales[i] = 0;
}
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_function_that_writes_beyond_its_arrays_has_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "f.c").write_text(OVERRUN, encoding="utf-8")
    library = tmp_path / "f.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "f.c")], check=True)
    calling = Calling(header=tmp_path / "f.c")
    for name in ("after", "before"):
        with pytest.raises(SubjectError, match="writes outside its array"):
            validate_cast(open_subject(f"{library}:{name}", calling), "float8_e4m3fn", "float32")
    with pytest.raises(SubjectError, match="writes more than"):
        validate_blocks(f"{library}:blocks", "mxfp8_e4m3", calling=calling)


@pytest.mark.parametrize(
    ("source", "code"), [("ue4m3", 0x33), ("ue8m0", 0), ("p3109_k8p3u", 0x51), ("float8_e5m2", 0x83)]
)
def test_a_decoder_wrong_for_one_code_differs_there_also_without_signs(source: str, code: int) -> None:
    def decoder(codes: np.ndarray) -> np.ndarray:
        values = np.array(decode(codes, source, np.float32))
        values[codes == code] += 2
        return values

    for declared in ({}, {"mode": "nearest_even"}):
        report = validate_cast(decoder, "float32", source, **declared)  # type: ignore[arg-type]
        compared = report.declared or report.once
        assert compared is not None
        findings = compared.findings
        assert not report.equal and sum(each.count for each in findings) == 1
        assert findings[0].smallest.input.bits == code
