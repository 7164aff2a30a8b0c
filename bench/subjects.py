"""Measures the exhaustive check of a cast with the subject in a separate process, beside the same in mpsim's process.

The subjects are a C function, a cast of ml_dtypes and (if installed) one of PyTorch, on all 2**32 float32 inputs.
"""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.validate import validate_cast
from mpsim.validate.cast.validation import sweep_all
from mpsim.validate.subjects.casts import open_subject
from mpsim.validate.subjects.opening import Calling

#: The cost of a separate process, as a ratio of times.
GOAL = 1.1
C_SOURCE = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
void to_bfloat16(const float *in, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, in + i, 4);
        uint32_t rounded = (word + 0x7fff + (word >> 16 & 1)) >> 16;
        out[i] = (word & 0x7fffffff) > 0x7f800000 ? 0x7fc0 | (word >> 16 & 0x8000) : rounded;
    }
}
"""


def check(subject: str, format: str, preset: str | None, calling: Calling) -> None:
    """Runs the check. Raises RuntimeError if the subject is not equal, which would change the amount of work."""
    declared = {"preset": preset} if preset else {"mode": "nearest_even"}
    opened = open_subject(subject, calling)
    try:
        report = sweep_all(validate_cast(opened, format, **declared))
    finally:
        opened.close()
    if not report.equal:
        raise RuntimeError(f"{subject} is not equal to what is declared")


def run(threads: int, repetitions: int) -> None:
    """Times each subject both ways, alternating, and writes bench/results/subjects.json."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "casts.c"), Path(folder, "casts.so")
        source.write_text(C_SOURCE)
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", library, source], check=True)
        subjects: list[tuple[str, str, str, str | None, Path | None]] = [
            ("C", f"{library}:to_bfloat16", "bfloat16", None, source),
            ("ml_dtypes", "ml_dtypes.float8_e4m3fn", "float8_e4m3fn", "ml_dtypes", None),
        ]
        if importlib.util.find_spec("torch"):
            subjects.append(("PyTorch", "torch.float8_e4m3fn", "float8_e4m3fn", "torch>=2.12", None))
        for name, subject, format, preset, header in subjects:
            ways = {
                word: partial(check, subject, format, preset, Calling(header=header, in_process=here))
                for word, here in (("process", False), ("here", True))
            }
            timed = harness.interleaved(ways, repetitions)
            ratios = [timed["process"].minimum / timed["here"].minimum, timed["process"].median / timed["here"].median]
            rows.append({"subject": name, **{way: each._asdict() for way, each in timed.items()}, "ratios": ratios})
    table = Table("subject", "own process, s", "in process, s", "ratio (median)", title="2**32 float32 inputs")
    for row in rows:
        least = [f"{row[way]['minimum']:.2f}" for way in ("process", "here")]
        table.add_row(row["subject"], *least, f"{row['ratios'][0]:.2f} ({row['ratios'][1]:.2f})")
    Console().print(table)
    print(harness.save("subjects", {**harness.surroundings(threads, repetitions), "goal": GOAL, "rows": rows}))
