"""A float16 to float8_e5m2 converter that reads hex operands and prints ``OPERAND RESULT``; no package is needed.

Arguments: "right"; "short", which ends after half of the operands; "decimal", which prints numbers of another base.
"""

import sys


def converted(pattern: int) -> int:
    """To nearest even, overflow to infinity."""
    sign, magnitude = pattern >> 15 << 7, pattern & 0x7FFF
    if magnitude >= 0x7C00:
        return sign | (0x7E if magnitude > 0x7C00 else 0x7C)
    kept, rest = magnitude >> 8, magnitude & 0xFF
    return sign | kept + (rest > 0x80 or (rest == 0x80 and kept & 1))


lines = sys.stdin.read().split()
how = sys.argv[1]
for line in lines[: len(lines) // 2] if how == "short" else lines:
    code = converted(int(line, 16))
    print(line, f"{code:02X} 00" if how != "decimal" else f"g{code}")
