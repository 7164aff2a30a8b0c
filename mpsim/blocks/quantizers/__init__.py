"""Block quantisers described in stages, as data."""
