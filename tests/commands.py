"""The commands of mpsim, found by looking, and quick arguments for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpsim.cli import main

TINY = ["--width", "0.0625", "--epochs", "1", "--batch", "479", "--data", "digits"]
#: What each command gets besides the option that is tried; {} is a separate folder.
ARGUMENTS = {
    "round": ["1.5", "--format", "bfloat16", "--backend", "reference"],
    "plan": ["small_cnn", "--width", "0.0625", "--batch", "8"],
    "train": ["small_cnn", *TINY, "--results", "{}"],
    "sweep": ["--ratios", "0.5", "--levels", "paper", "--processes", "1", *TINY, "--results", "{}"],
    "figure": ["4", "--models", "small_cnn", "--widths", "0.0625", "--data", "digits", "--ratios", "0.7", "--levels",
               "paper", "--epochs", "1", "--seeds", "1", "--results", "{}", "--dry-run"],
    "trace-step": ["small_cnn", "--width", "0.0625", "--out", "{}/step.npz"],
    "validate cast": ["ml_dtypes.float8_e5m2", "--source", "float16"],
    "validate op": ["{}/adder.py:add", "--operation", "add", "--formats", "p3109_k4p2"],
    "conformance p3109": ["{}/adder.py:{Operation}", "--formats", "Binary4p2se", "--operations", "Add"],
    "validate dot": ["accumulator:exact", "--length", "16", "--side", "2", "--backend", "reference"],
    "validate blocks": ["{}/quantiser.py:quantise", "--format", "nvfp4"],
    "validate step": ["{}/step.npz", "--against", "{}/step.npz", "--teacher-forced"],
    "vectors cast": ["--out", "{}/pack", "--format", "float4_e2m1fn", "--mode", "up", "--size", "4"],
    "vectors op": ["--out", "{}/pack", "--operation", "add", "--formats", "p3109_k4p2", "--mode", "stochastic"],
    "vectors blocks": ["--out", "{}/pack", "--format", "nvfp4", "--size", "2"],
    "vectors dot": ["--out", "{}/pack", "--size", "2", "--length", "3"],
    "vectors step": ["--out", "{}/pack", "--width", "0.0625"],
}  # fmt: skip
ADDER = """
from mpsim.arithmetic import operate
def add(x, y):
    return operate("add", x, y, formats="p3109_k4p2")
Add = add
"""
QUANTISER = """
from mpsim.blocks import quantize
def quantise(x):
    blocks = quantize(x, "nvfp4", tensor_scale=1.0, backend="reference")
    return blocks.codes, blocks.scales
"""


def with_files(folder: Path) -> Path:
    """The folder, with the small files that some commands read."""
    (folder / "quantiser.py").write_text(QUANTISER)
    (folder / "adder.py").write_text(ADDER)
    with pytest.raises(SystemExit):
        main(["trace-step", "small_cnn", "--width", "0.0625", "--out", str(folder / "step.npz")])
    return folder
