"""The device's instructions, memory and arrays, and the definition and launch of kernels."""
