"""Measures this machine's peak rates with one thread: bytes copied and float32 operations per second.

Rates are the largest of several runs of np.copyto between arrays of three sizes, and of a loop of independent fused
multiply-adds in registers, which is compiled here (cc -O3 -march=native).
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench import harness

SIZES = (1 << 20, 8 << 20, 128 << 20)  # bytes: a second-level cache, a third-level cache, memory
FMA_LOOP = r"""
#include <stdio.h>
#include <time.h>
#define CHAINS 12
typedef float Floats __attribute__((vector_size(64)));
int main(void) {
    Floats sums[CHAINS] = {{0}}, a = {0}, b = {0};
    double best = 0;
    a += 0.999f, b += 1e-3f;
    for (int run = 0; run < 20; run++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (long i = 0; i < 4000000; i++)
            for (int c = 0; c < CHAINS; c++) {
                sums[c] = sums[c] * a + b;
                __asm__ volatile("" : "+v"(sums[c]));
            }
        clock_gettime(CLOCK_MONOTONIC, &to);
        double seconds = (to.tv_sec - from.tv_sec) + 1e-9 * (to.tv_nsec - from.tv_nsec);
        double rate = 4e6 * CHAINS * 16 * 2 / seconds;
        if (rate > best) best = rate;
    }
    printf("%.0f\n", best);
    return sums[0][0] == 42;
}
"""


def copy_bandwidth(size: int, repetitions: int) -> float:
    """Returns the bytes read and written per second."""
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    rounds, best = max(1, (256 << 20) // size), float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        for _ in range(rounds):
            np.copyto(target, source)
        best = min(best, (time.perf_counter() - start) / rounds)
    return 2 * size / best


def multiply_add_rate() -> float | None:
    """Returns the operations (two per multiply-add) per second, or None without a C compiler."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "fma.c"), Path(folder, "fma")
        source.write_text(FMA_LOOP)
        try:
            flags = ["-O3", "-funroll-loops", "-march=native", "-mprefer-vector-width=512", "-ffp-contract=fast"]
            subprocess.run(["cc", *flags, str(source), "-o", str(program)], check=True, capture_output=True)
            return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
        except (OSError, subprocess.CalledProcessError):
            return None


def run(threads: int, repetitions: int) -> None:
    """Prints the rates of one thread (``threads`` is not used) and writes bench/results/roofline.json."""
    console = Console()
    rate = multiply_add_rate()
    copies = {size: copy_bandwidth(size, repetitions) for size in SIZES}
    console.print(harness.processor())
    console.print("multiply-add: " + (f"{rate * 1e-9:.0f} GFLOP/s" if rate else "no C compiler"))
    for size, bandwidth in copies.items():
        console.print(f"copy of {size >> 20} MiB: {bandwidth * 1e-9:.1f} GB/s read and written")
    result: dict[str, Any] = {**harness.surroundings(1, repetitions), "operations": rate, "copy": copies}
    print(f"written to {harness.save('roofline', result)}")
