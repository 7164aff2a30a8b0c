"""Block quantisers under test."""
