"""Registers the profile "mpsim" of Hypothesis, by which strategies of mpsim.testing note what they draw in codes.

Hypothesis loads it by its entry point when it is imported.
"""

from __future__ import annotations

#: The name of the profile.
NAME = "mpsim"


def register() -> None:
    """Registers the profile: no deadline, and the smallest failing example can be run again from what is printed."""
    from hypothesis import settings

    settings.register_profile(NAME, settings(deadline=None, print_blob=True))
