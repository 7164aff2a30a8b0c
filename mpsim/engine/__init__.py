"""Reverse-mode differentiation with one hinge, the store; knows no formats and no layers."""
