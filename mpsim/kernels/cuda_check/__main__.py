"""``python -m mpsim.kernels.cuda_check`` compares every bit of the cuda backend on this device with a CPU backend.

It needs no network, and besides this tree only numpy, numba and numba-cuda. It compares with the compiled backend if
that is built, else with numba on smaller samples. It compares the golden digests of all reference networks, every
kernel on shapes that fill the device, and rounding of all 16-bit numbers and of 2**26 float32 patterns to every format
in every mode. It prints one table. It exits with 0 if all bits are equal, 1 if not, and 2 without a device. In the CUDA
simulator use ``--quick``, which uses small samples and no digests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from mpsim.kernels import BackendUnavailable, load
from mpsim.kernels.cuda_check.rounding import check_patterns, check_sixteen_bits
from mpsim.kernels.cuda_check.sections import check_digests, check_kernels
from mpsim.kernels.cuda_check.table import Extent, Row

#: Seconds after which no further combination of float32 patterns starts.
BUDGET = 420
SECTIONS: tuple[Callable[[Extent, float], Iterator[Row]], ...] = (
    check_digests,
    check_kernels,
    check_sixteen_bits,
    check_patterns,
)


def peer_here() -> str:
    """Returns the CPU backend to compare with."""
    try:
        load("compiled")
        return "compiled"
    except BackendUnavailable as error:
        print(f"compared with numba on smaller samples: {error}")
        return "numba"


def main(arguments: list[str] | None = None) -> int:
    """Runs the check. The module's docstring describes it."""
    parser = argparse.ArgumentParser(prog="python -m mpsim.kernels.cuda_check", description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="the device's number (default 0)")
    parser.add_argument("--quick", action="store_true", help="use small samples, for the CUDA simulator")
    parser.add_argument("--seconds", type=float, default=BUDGET, help=f"time limit for new passes (default {BUDGET})")
    parser.add_argument("--json", type=Path, help="write the table's numbers to this file")
    options = parser.parse_args(arguments)
    backend = f"cuda:{options.device}"
    try:
        load(backend)
    except BackendUnavailable as error:
        print(error)
        return 2
    from mpsim.kernels.cuda.device.devices import describe

    end = time.monotonic() + options.seconds
    extent, rows = Extent(backend, peer_here(), options.quick), list[Row]()
    print(f"{describe()}\ncompared with {extent.peer!r}, bit for bit\n")
    for section in SECTIONS:
        for row in section(extent, end):
            print(row, flush=True)
            rows.append(row)
    different = sum(row.different for row in rows)
    print(f"\n{sum(row.compared for row in rows)} numbers compared, {different or 'none'} different")
    if options.json:
        options.json.write_text(json.dumps({"device": describe(), "rows": [asdict(row) for row in rows]}, indent=1))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
