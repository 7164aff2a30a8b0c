"""Quantises arrays in groups whose elements share a scale: MX and NVFP4 by name, and quantisers described in stages.

docs/block_formats.md describes the formats and the stages.

>>> import numpy as np
>>> round_to_blocks(np.float32([7, -0.3, 0.1]), "mxfp4")
array([ 6. , -0.5,  0. ], dtype=float32)
>>> quantizer_of("te_nvfp4").group
Block(size=16)
>>> BLOCK_FORMATS["mxfp4"].size, SCALE_RULES["ceil"]
(32, 'the smallest power of two >= amax, / 2**E')
>>> PRESETS["mxfp4"].source
'OCP Microscaling Formats (MX) v1.0 §5, §6.3'
"""

from mpsim.blocks.products import dot
from mpsim.blocks.quantization import dequantize, quantize, round_to_blocks
from mpsim.blocks.quantized import Blocks, Quantized
from mpsim.blocks.quantizers.presets import PRESETS
from mpsim.blocks.quantizers.presets import as_quantizer as quantizer_of
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.kernels.spec_blocks import BLOCK_FORMATS, SCALE_RULES, BlockFormat

__all__ = [
    "BLOCK_FORMATS", "PRESETS", "SCALE_RULES", "BlockFormat", "Blocks", "Quantized", "Quantizer", "dequantize", "dot",
    "quantize", "quantizer_of", "round_to_blocks",
]  # fmt: skip
