"""A stochastic float16 to float8_e5m2 converter: reads ``OPERAND WORD``, and prints ``OPERAND WORD RESULT``."""

import sys

shift = int(sys.argv[1])
for line in sys.stdin:
    operand, word = (int(text, 16) for text in line.split())
    magnitude = operand & 0x7FFF
    if magnitude < 0x7C00:
        code = magnitude + (word >> shift & 0xFF) >> 8
    else:
        code = 0x7E if magnitude > 0x7C00 else 0x7C
    print(line.strip(), f"{operand >> 15 << 7 | code:02X}")
