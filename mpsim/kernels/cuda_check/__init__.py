"""Compares every bit of the cuda backend on this device with the CPU's: ``python -m mpsim.kernels.cuda_check``.

It is not part of the backend's package. Python would import that package first, which fails without numba-cuda, and the
command could not report what to install.
"""
