"""Reverse-mode differentiation. Precision enters only through the store; formats and layers are not known here."""
