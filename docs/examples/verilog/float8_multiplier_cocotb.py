"""Compares float8_multiplier with a pack of ``mpsim vectors op --form mem`` in cocotb.

``python float8_multiplier_cocotb.py DIR`` builds the design with Icarus Verilog for each overflow policy, and runs the
test with the set of that policy.
"""

import os
import sys
from pathlib import Path

import cocotb
from cocotb.triggers import Timer

HERE = Path(__file__).parent
SET = "multiply_float8_e4m3fn_to_float8_e4m3fn_nearest_even_{}"


def words(column):
    """The words of a column of the set."""
    return [int(word, 16) for word in Path(f"{os.environ['PACK']}.{column}.mem").read_text().split()]


@cocotb.test()
async def every_product_is_equal(dut):
    wrong = []
    for a, b, expected in zip(words("a"), words("b"), words("expected"), strict=True):
        dut.a.value, dut.b.value = a, b
        await Timer(1, "step")
        if dut.product.value != expected:
            wrong.append(f"{a:02x} * {b:02x}: got {dut.product.value}, expected {expected:08b}")
    assert not wrong, f"{len(wrong)} products differ, the first: {wrong[0]}"


def main(pack, design=HERE / "float8_multiplier.v", build="sim_build"):
    """Builds and tests the design; returns the number of failed tests."""
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    failed = 0
    for policy, saturate in (("saturate", 1), ("infinity", 0)):
        runner, folder = get_runner("icarus"), f"{build}/{policy}"
        runner.build(
            sources=[design], hdl_toplevel="float8_multiplier", parameters={"SATURATE": saturate}, build_dir=folder
        )
        results = runner.test(
            hdl_toplevel="float8_multiplier",
            test_module="float8_multiplier_cocotb",
            build_dir=folder,
            extra_env={"PACK": f"{Path(pack).resolve()}/{SET.format(policy)}", "PYTHONPATH": str(HERE)},
        )
        failed += get_results(results)[1]
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1]) else 0)
