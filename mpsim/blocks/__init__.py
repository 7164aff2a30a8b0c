"""Rounds to block formats and multiplies them: MX (OCP Microscaling Formats v1.0) and NVFP4.

docs/block_formats.md describes the formats.

>>> import numpy as np
>>> round_to_blocks(np.float32([7, -0.3, 0.1]), "mxfp4")
array([ 6. , -0.5,  0. ], dtype=float32)
"""

from mpsim.blocks.products import dot
from mpsim.blocks.quantization import Blocks, dequantize, quantize, round_to_blocks
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_RULES, BlockFormat

__all__ = ["BLOCK_FORMATS", "SCALE_RULES", "BlockFormat", "Blocks", "dequantize", "dot", "quantize", "round_to_blocks"]
