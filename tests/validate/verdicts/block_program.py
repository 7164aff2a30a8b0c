"""A block quantiser as a program, for the verdict matrix: a line of float32 patterns in, codes and a scale out."""

import sys

import numpy as np
import quantisers

rows = [[int(word, 16) for word in line.split()] for line in sys.stdin]
codes, scales = quantisers.mxfp4_even(np.array(rows, np.uint32).view(np.float32))
if sys.argv[1] == "packed":
    codes = codes[:, ::2] | codes[:, 1::2] << 4
if sys.argv[1] == "without_scales":
    codes, scales = codes[:, :-1], codes[:, -1]
for row, scale in list(zip(codes, scales, strict=True))[sys.argv[1] == "short" :]:
    print(*(f"{code:X}" for code in row), f"{scale:02X}")
