"""Defects that the session must find. Each is planted alone in a copy of the tree, which the session searches."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.session import ROOT, Plan, search

WIDE, RESULTS = "ext/rounding/wide.c", "mpsim/experiments/results.py"
#: What Git does not have, and a build or Numba would write again.
BUILT = ("build", "mpsim/_kernels*.so", "mpsim/**/__pycache__/*.nb?")


class Mutant(NamedTuple):
    """A text of a file, which is there once, and what replaces it."""

    what: str
    file: str
    old: str
    new: str


MUTANTS = {
    "tie": Mutant("C: ties to even go away from zero", WIDE, "return half - 1 + odd;", "return half;"),
    "sticky": Mutant(
        "C: bits far below the quantum are lost", WIDE,
        "significand = significand >> dropped | ((significand & (((uint64_t)1 << dropped) - 1)) != 0);",
        "significand = significand >> dropped;",
    ),
    "saturation": Mutant(
        "C: the ends of the range are exchanged", WIDE,
        "(sign ? p->negative_overflow : p->positive_overflow)", "(sign ? p->positive_overflow : p->negative_overflow)",
    ),
    "nan_code": Mutant(
        "C: NaN's code loses its sign", "ext/rounding/codes.c",
        "return (uint64_t)c->nan_code | (c->nan_has_sign ? sign : 0);", "return (uint64_t)c->nan_code;",
    ),
    "tail": Mutant(
        "C: the last element of a rest is not written", "ext/rounding/vectors.c",
        "memcpy(out + i, rest, (size_t)(n - i) * sizeof *x);",
        "memcpy(out + i, rest, (size_t)(n - i - 1) * sizeof *x);",
    ),
    "guard": Mutant(
        "kernels run in the caller's floating-point environment", "mpsim/kernels/__init__.py",
        "setattr(module, name, in_default_environment(getattr(module, name)))", "pass",
    ),
    "chance": Mutant(
        "Numba: stochastic rounding goes up once too often", "mpsim/kernels/numba_cpu/pattern_rounding.py",
        "goes_up = chance_of(discarded, full_shift) > np", "goes_up = chance_of(discarded, full_shift) >= np",
    ),
    "fused": Mutant(
        "Numba: a rest of products is rounded before it is added", "mpsim/kernels/numba_cpu/sums.py",
        "sums[j] = multiply_add(value, row[j], sums[j])", "sums[j] = sums[j] + value * row[j]",
    ),
    "pooling": Mutant(
        "reference: a later NaN replaces the first", "mpsim/kernels/reference/pooling.py",
        "better = (index < 0) | (element > y) | (np.isnan(element) & ~np.isnan(y))",
        "better = (index < 0) | (element > y) | np.isnan(element)",
    ),
    "size": Mutant(
        "npz: an array's size is not compared with its bytes", "mpsim/files/npz.py",
        "if needed != there:", "if False:",
    ),
    "bounds": Mutant(
        "safetensors: the header's length is not compared with the file", "mpsim/files/safetensors.py",
        "if size < 8 or length > min(size - 8, MOST_HEADER):", "if size < 8:",
    ),
    "pickle": Mutant(
        "pickle: a name of builtins is looked up", "mpsim/data/restricted_pickle.py",
        "        if (module, name) not in ALLOWED:\n",
        '        if module == "builtins":\n            return super().find_class(module, name)\n'
        "        if (module, name) not in ALLOWED:\n",
    ),
    "checksum": Mutant(
        "results: checksums are not compared", RESULTS,
        "if stored != {(row[\"key\"], row[\"epoch\"]): _sha256(row) for row in rows}:", "if False:",
    ),
}  # fmt: skip


def run(plan: Plan, names: list[str]) -> int:
    """Searches for each mutant, or for those named, and prints a table. Returns 1 if one is not found."""
    chosen = {name: MUTANTS[name] for name in names or MUTANTS}
    missed, before = 0, list[Mutant]()
    with tempfile.TemporaryDirectory() as parent:
        root = copy_of(ROOT, Path(parent, "tree"))
        print("| mutant | in | found by | seconds | of the processor |\n|---|---|---|---|---|", flush=True)
        for name, mutant in chosen.items():
            path = root / mutant.file
            right = path.read_text(encoding="utf-8")
            path.write_text(planted(mutant, right), encoding="utf-8")
            build(root, mutant, *before)
            folder = Path(parent, "kept", name)  # an empty one: what earlier sessions kept would help
            before_search = processor_seconds()
            failures, _ = search(replace(plan, folder=folder, root=root, first=True, done=set()))
            used = processor_seconds() - before_search
            found = f"not in {plan.seconds:.0f} s | "
            for failure in failures[:1]:
                found = f"{failure.target} | {failure.seconds:.0f}"
                print(f"{name}: {failure.text[-1500:]}", file=sys.stderr)
            print(f"| {mutant.what} | `{mutant.file}` | {found} | {used:.0f} |", flush=True)
            missed += not failures
            path.write_text(right, encoding="utf-8")
            before = [mutant]
    return int(missed > 0)


def processor_seconds() -> float:
    """What the processes of slices that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def planted(mutant: Mutant, source: str) -> str:
    """The source with the mutant. Raises ValueError if the place is not there once."""
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} has {mutant.old!r} {source.count(mutant.old)} times")
    return source.replace(mutant.old, mutant.new)


def copy_of(root: Path, copy: Path) -> Path:
    """Copies what Git has, and what was built."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    names = listed.stdout.split("\n") if not listed.returncode else []
    paths = [root / name for name in names if name] + [path for pattern in BUILT for path in root.glob(pattern)]
    for path in paths:
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, target)
        elif path.exists():
            shutil.copy2(path, target)
    return copy


#: Calls the kernels of the numba backend, so that Numba compiles them before the time of the search begins.
WARM = """
import tests.fuzz
import numpy as np
from kernel_cases import CASES
from tests.fuzz.sums import ACCUMULATORS
from mpsim.kernels import load
kernels = load("numba")
for name, cases in CASES.items():
    getattr(kernels, name)(*cases[0])
for accumulator in ACCUMULATORS:
    kernels.matmul(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), accumulator=accumulator)
"""


def build(root: Path, *mutants: Mutant) -> None:
    """Compiles what a mutant is in again: the extension, or Numba's functions."""
    environment = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": "0", "PYTHONPATH": str(root)}
    if any(mutant.file.startswith("ext/") for mutant in mutants):
        command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext"]
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    if "numba_cpu" in mutants[0].file:
        subprocess.run([sys.executable, "-c", WARM], cwd=root, env=environment, check=True)
