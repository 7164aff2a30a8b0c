"""The definition of quantisers in stages: one group of elements at a time, in exact fractions."""
