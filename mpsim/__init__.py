"""mpsim: a golden reference for mixed-precision floating-point training."""
