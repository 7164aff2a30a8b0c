"""What the tests of training share."""

import numpy as np

#: Images of a batch.
BATCH = 12


def is_on_grid(values, format):
    """Whether every number is one of the format's, by its definition: a whole number of quanta, not beyond the
    largest; zeros, infinities and NaN pass."""
    values = np.abs(np.asarray(values, np.float64))
    values = values[np.isfinite(values) & (values > 0)]
    exponent = np.maximum(np.frexp(values)[1] - 1, format.min_exponent)
    quanta = values / np.exp2(exponent - format.mantissa_bits)
    return bool(np.all(quanta == np.floor(quanta)) and np.all(values <= format.largest))
