"""Casts to integer types: their rules, presets, comparison with a declared rule, fingerprint and report."""
