"""The 'cuda' backend: kernels for NVIDIA devices from Numba's CUDA target. See docs/cuda.md."""
