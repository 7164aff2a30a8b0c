"""``python -m bench NAME``: one table, and its numbers in bench/results/NAME.json. A benchmark is a row of TABLES."""

from __future__ import annotations

import argparse
import importlib

#: name -> (module with a function run(threads, repetitions), what it measures)
TABLES = {
    "rounding": ("bench.rounding", "round_to per format and mode, as a ratio to a copy, beside other libraries"),
    "contraction": ("bench.contraction", "matmul and the convolutions of ResNet-18, beside OpenBLAS and PyTorch"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, (_, what) in TABLES.items():
        command = names.add_parser(name, help=what, description=what)
        command.add_argument("--threads", type=int, default=1, help="threads of every library (default 1)")
        command.add_argument("--repetitions", type=int, default=15, help="timed calls of each case (default 15)")
    arguments = parser.parse_args()
    module = importlib.import_module(TABLES[arguments.name][0])
    module.run(threads=arguments.threads, repetitions=arguments.repetitions)


if __name__ == "__main__":
    main()
