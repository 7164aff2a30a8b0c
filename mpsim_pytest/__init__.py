"""The pytest plugin of mpsim (``plugin``), and a profile of Hypothesis (``profile``), each loaded by its entry point.

Hypothesis loads the profile also where pytest is not installed, so this module imports nothing.
"""
