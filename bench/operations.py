"""Measures operations on all 65,536 pairs of codes of a format of eight bits, in every rounding mode of P3109.

The goal is less than a second for one operation in every mode. ``definition`` is the time of the definition in exact
fractions, estimated from one pair in 256.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import harness
from mpsim.arithmetic import operate
from mpsim.arithmetic.definition import operate as define
from mpsim.formats import as_format
from mpsim.policies import Mode, Policy

#: Seconds that one operation may take, in all modes together.
GOAL = 1.0
FORMATS = ("p3109_k8p3", "float8_e4m3fn")
OPERATIONS = ("add", "subtract", "multiply", "divide", "minimum", "maximum")
MODES = tuple(mode for mode in Mode if not mode.is_legacy)
BITS = 8
STEP = 256


def in_every_mode(operation: str, name: str, codes: list[np.ndarray], words: np.ndarray) -> None:
    for mode in MODES:
        random: dict[str, Any] = {"random_bits": words, "random_bit_count": BITS} if mode.needs_random_bits else {}
        operate(operation, *codes, formats=name, mode=mode, overflow="saturate", **random)


def defined_in_every_mode(operation: str, name: str, codes: list[np.ndarray], words: np.ndarray) -> None:
    format = as_format(name)
    for mode in MODES:
        policy = Policy(mode, "saturate", BITS if mode.needs_random_bits else None)  # type: ignore[arg-type]
        for x, y, word in zip(*(array[::STEP].tolist() for array in (*codes, words)), strict=True):
            define(operation, (x, y), (format, format), format, policy, word if mode.needs_random_bits else None)


def run(threads: int, repetitions: int) -> None:
    words = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint32)
    codes = [np.repeat(np.arange(256), 256).astype(np.uint8), np.tile(np.arange(256), 256).astype(np.uint8)]
    mixed = np.random.default_rng(1).permutation(1 << 16)  # one pair in 256 has codes of every kind
    codes = [array[mixed] for array in codes]
    table = Table("format", "operation", "seconds in every mode", "of the definition", "ratio")
    rows: dict[str, dict[str, float]] = {}
    for name in FORMATS:
        for operation in OPERATIONS:
            given = (operation, name, codes, words)
            times = harness.interleaved(
                {"arrays": lambda g=given: in_every_mode(*g), "part": lambda g=given: defined_in_every_mode(*g)},
                repetitions,
            )
            seconds, definition = times["arrays"].minimum, STEP * times["part"].minimum
            rows[f"{name} {operation}"] = {
                "seconds": seconds,
                "median": times["arrays"].median,
                "definition": definition,
            }
            table.add_row(name, operation, f"{seconds:.3f}", f"{definition:.0f}", f"{definition / seconds:.0f}")
    Console().print(table)
    slowest = max(row["seconds"] for row in rows.values())
    print(f"{len(MODES)} modes; the slowest takes {slowest:.3f} s, goal {GOAL:g} s")
    harness.save("operations", {**harness.surroundings(threads, repetitions), "modes": len(MODES), "rows": rows})
