"""A run of a few hundred milliseconds, for the tests of runs and sweeps."""

from __future__ import annotations

from mpsim.experiments.settings import RunSettings

QUICK = RunSettings("largest_first", 0.6, levels="four_bit", width=0.0625, epochs=3, batch=479)
BACKEND = {"backend": "compiled", "threads": 1}


def timeless(result):
    return {name: value for name, value in result.items() if name != "seconds"}
