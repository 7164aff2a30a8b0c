"""Programs, and functions that answer codes, as subjects of ``mpsim validate dot``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.validate import SubjectError, validate_dot
from mpsim.validate.dot.report import text
from mpsim.validate.dot.subjects import open_dot

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

PROGRAM = """
import struct, sys
def number(word): return struct.unpack({kind!r}, bytes.fromhex(word))[0]
for line in sys.stdin:
    words = line.split()
    half = len(words) // 2
    total = sum(number(x) * number(y) for x, y in zip(words[:half], words[half:]))
    print({before}struct.pack({kind!r}, total).hex())
"""


@pytest.mark.parametrize("inputs,kind", [("float32", ">f"), ("float16", ">e")])
@pytest.mark.parametrize("before", ["", "line.strip(), "])
def test_a_program_gets_both_vectors_of_a_line(tmp_path: Path, inputs: str, kind: str, before: str) -> None:
    (tmp_path / "dot.py").write_text(PROGRAM.format(kind=kind, before=before))
    subject = open_dot(f"command:{sys.executable} {tmp_path / 'dot.py'}", inputs=inputs)
    a, b = np.float32([[1.5, -2, 0.25], [3, 4, 5]]), np.float32([[2, 1, 8], [0.5, -1, 1]])
    assert subject.dots(a, b).tolist() == [3.0, 2.5] and subject.output == inputs and subject.form == "dot"


@pytest.mark.parametrize(
    "line,message",
    [
        ("print('3f80000')", "words of 7 hex digits; expected 8, 4, 8 or 16"),
        ("print('3f80000g')", "expected a result of hex digits"),
        ("print('3f800000' if line[0] == '3' else '3c00')", "words of 4, 8 hex digits"),
        ("pass", "answered 0 lines to 2"),
    ],
)
def test_what_a_program_may_not_print(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "dot.py").write_text(f"import sys\nfor line in sys.stdin: {line}\n")
    subject = open_dot(f"command:{sys.executable} {tmp_path / 'dot.py'}")
    with pytest.raises(SubjectError, match=message):
        subject.dots(np.float32([[1, 2], [4, 5]]), np.float32([[1, 1], [1, 1]]))


def test_codes_of_the_operands_format_are_numbers() -> None:
    def product(a: Any, b: Any) -> np.ndarray:
        total = np.zeros((len(a), b.shape[1]), np.float32)
        for k in range(a.shape[1]):
            total = total + np.outer(a[:, k].astype(np.float32), b[k].astype(np.float32))
        return total.astype(a.dtype).view(np.uint16)

    report = validate_dot(product, "product(order=rising(), output=bfloat16)", inputs="bfloat16", length=16)
    assert not report.equal and report.output == "bfloat16"  # products of bfloat16 that overflow are rounded here
    rounded = "product(products=float32, order=rising(), output=bfloat16)"
    assert validate_dot(product, rounded, inputs="bfloat16", length=16).equal, text(report)
    with pytest.raises(SubjectError, match="answered uint16; expected floats"):
        validate_dot(lambda a, b: (a @ b).astype(np.uint16), length=16)
