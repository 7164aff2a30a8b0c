"""Measures the peak memory of ResNet-18 training steps: mpsim as in bench.step and PyTorch float32, each in a process.

The peak is the process's largest resident size during three steps minus its resident size before the model is built.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import harness

CASES = (("resnet18", 1.0), ("resnet18", 0.25))
BATCH = 128
STEPS = 3


def resident() -> int:
    """Returns this process's resident bytes (on Linux; elsewhere their peak so far)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def peak() -> int:
    """Returns this process's largest resident bytes (on Linux of this program alone, as ru_maxrss is not)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def measure_here(library: str, network: str, width: float, threads: int) -> int:
    """Measures the bytes in this process, which should have done nothing else."""
    from bench.step import call_of

    # Everything is imported, and every thread started, before memory is counted.
    call_of(library, network, 0.1, 1, threads)()
    gc.collect()
    before = resident()
    call = call_of(library, network, width, BATCH, threads)
    for _ in range(STEPS):
        call()
    return peak() - before


def measure(library: str, network: str, width: float, threads: int) -> int:
    """Does the same in a new process. Raises RuntimeError with its last line if it fails."""
    command = [sys.executable, "-m", "bench.memory", library, network, str(width), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1])
    return int(done.stdout.split()[-1])


def run(threads: int, repetitions: int) -> None:
    """Prints the table (least of up to three processes) and writes bench/results/memory.json."""
    table = Table("network", "width", title=f"peak memory of {STEPS} steps, batch {BATCH}, MiB")
    for column in ("mpsim", "torch", "mpsim / torch"):
        table.add_column(column, justify="right")
    rows: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    for network, width in CASES:
        peaks = {}
        for library in ("mpsim", "torch"):
            try:
                peaks[library] = min(measure(library, network, width, threads) for _ in range(min(3, repetitions)))
            except RuntimeError as error:
                absent[library] = str(error)
        ratio = peaks["mpsim"] / peaks["torch"] if len(peaks) == 2 else None
        rows.append({"network": network, "width": width, "batch": BATCH, "bytes": peaks, "ratio": ratio})
        cells = [f"{peaks[library] / 2**20:.0f}" if library in peaks else "absent" for library in ("mpsim", "torch")]
        table.add_row(network, str(width), *cells, "-" if ratio is None else f"{ratio:.2f}")
    table.caption = "\n".join(f"{library}: {reason}" for library, reason in absent.items()) or None
    Console().print(table)
    result = {**harness.surroundings(threads, min(3, repetitions)), "absent": absent, "rows": rows}
    print(f"written to {harness.save('memory', result)}")


if __name__ == "__main__":
    print(measure_here(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
