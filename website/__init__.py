"""Writes the pages of the site that are derived from mpsim's own declarations (``nox -s docs`` builds the site)."""
