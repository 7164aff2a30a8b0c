"""Whether every bit of the cuda backend on this device is the CPU's: ``python -m mpsim.kernels.cuda_check``.

It is a room beside the backend's and not in it, as Python would import the backend first, which fails without
numba-cuda. So the command can say what to install.
"""
