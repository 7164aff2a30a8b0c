"""A process that trains, sweeps or rounds to new formats for long does not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the size of the process from /proc"),
]
#: Bytes by which a process may grow, e.g. by the allocator's free lists.
MOST = 4 << 20
BEGINNING = """
import gc, os, sys, tempfile
import numpy as np
import mpsim

def size():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def grown(call, first, count):
    for number in range(first):
        call(number)
    before = size()
    for number in range(first, first + count):
        call(number)
    print(size() - before)

backend = sys.argv[1]
"""
STEPS = """
import reference_models
model = reference_models.build("small_cnn", width=0.25)
plan = mpsim.assignment.demote(mpsim.trace(model, batch=16), 0.6)
trainer = mpsim.Trainer(model, plan, backend=backend, threads=2)
images = np.random.default_rng(0).standard_normal((16, *model.input_shape)).astype(np.float32)
labels = np.arange(16) % model.classes
grown(lambda number: trainer.step(images, labels), 50, 400)
"""
SWEEPS = """
from mpsim.experiments.results import Results
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.sweep import sweep
jobs = [RunSettings(width=0.0625, epochs=1, batch=32, train_images=64)]
def one(number):
    with tempfile.TemporaryDirectory() as folder, Results.in_folder(folder) as results:
        sweep(jobs, results, backend=backend, threads=1)
grown(one, 10, 50)
"""
FORMATS = """
x = np.random.default_rng(0).standard_normal(1000)
found = set()
def one(number):
    exponent, rest = 2 + number % 7, number // 7
    name = f"fp_{exponent}_{rest % 14}_{rest // 14}"
    found.add(name)
    mpsim.round_to(x, name, backend=backend, threads=1)
grown(one, 3000, 6000)
assert len(found) == 9000
"""


@pytest.mark.parametrize("backend", ["compiled", "numba"])
@pytest.mark.parametrize("work", [STEPS, SWEEPS, FORMATS], ids=["steps", "sweeps", "formats"])
def test_memory_stays_flat(work: str, backend: str) -> None:
    command = [sys.executable, "-c", BEGINNING + work, backend]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST


def test_growth_is_noticed() -> None:
    """Work that keeps 20 kB a step is not flat."""
    keeps = "kept = []\ngrown(lambda number: kept.append(np.ones(20_000, np.uint8)), 50, 400)\n"
    done = subprocess.run([sys.executable, "-c", BEGINNING + keeps, ""], capture_output=True, text=True)
    assert int(done.stdout) > MOST
