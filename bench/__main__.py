"""``python -m bench NAME`` prints a table and writes its numbers to bench/results/NAME.json. TABLES lists the names."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

#: name -> (module with a function run(threads, repetitions), what it measures)
TABLES = {
    "rounding": ("bench.rounding", "round_to per format and mode, as a ratio to a copy, beside other libraries"),
    "codes": ("bench.codes", "codes, float64 and blocks, as a ratio to a copy, beside other libraries"),
    "contraction": ("bench.contraction", "matmul and the convolutions of ResNet-18, beside OpenBLAS and PyTorch"),
    "step": ("bench.step", "a training step beside PyTorch in float32 and PyTorch with QPyTorch"),
    "roofline": ("bench.roofline", "copy bandwidth and multiply-add rate of one thread of this machine"),
    "memory": ("bench.memory", "peak memory of a ResNet-18 training step beside PyTorch's"),
    "gpu": ("bench.gpu", "the cuda backend beside a copy on the device, cuBLAS and PyTorch on the same GPU"),
    "subjects": ("bench.subjects", "the exhaustive check of a cast in a separate process, beside one in mpsim's"),
    "fp8": ("bench.fp8", "a training step with the sums of tensor cores, as a ratio to the float32 step"),
    "products": ("bench.products", "products in stages: a bfloat16 result, explicit trees, aligned sums"),
    "orders": ("bench.orders", "finding the order of sums of NumPy's and PyTorch's products, and predicting results"),
    "operations": ("bench.operations", "operations on all pairs of codes of 8-bit formats, in every rounding mode"),
    "backends": ("bench.backends", "every kernel of the numba backend beside the compiled one"),
}

#: name -> further options: flag, arguments for argparse
OPTIONS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "gpu": (("--device", {"type": int, "default": 0, "help": "the device's number (default 0)"}),),
    "step": (
        ("--network", {"action": "append", "dest": "networks", "help": "only this network (may be repeated)"}),
        ("--profile", {"action": "store_true", "dest": "profiles", "help": "mpsim's time kernel by kernel instead"}),
        ("--growth", {"action": "store_true", "help": "batch 32 to 512 and width 0.1 to 1.0 of ResNet-18 instead"}),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, (_, what) in TABLES.items():
        command = names.add_parser(name, help=what, description=what)
        command.add_argument("--threads", type=int, default=1, help="threads of every library (default 1)")
        command.add_argument("--repetitions", type=int, default=15, help="timed calls of each case (default 15)")
        for flag, told in OPTIONS.get(name, ()):
            command.add_argument(flag, **told)
    arguments = vars(parser.parse_args())
    importlib.import_module(TABLES[arguments.pop("name")][0]).run(**arguments)


if __name__ == "__main__":
    main()
