"""Which batch a device's memory holds, by the sizes of a step's tensors."""

from __future__ import annotations

from mpsim.kernels import DeviceMemoryError
from mpsim.nn import Module
from mpsim.trace import trace

FLOAT_BYTES = 4


def fitting_batch(model: Module, free: int) -> int:
    """How many images a step of this model may have with ``free`` bytes beside masters, momentum and statistics.

    An estimate: every activation is kept to its backward pass, and two of the largest gradients and one padded copy
    live beside them; all in float32. The rounded parameters and their gradients are taken off first.

    >>> import reference_models
    >>> fitting_batch(reference_models.build("small_cnn", width=0.25), 1 << 30) > 100
    True
    """
    tensors = trace(model, batch=1).tensors
    activations = [tensor.elements for tensor in tensors if tensor.id.role == "activation"]
    parameters = sum(tensor.elements for tensor in tensors if tensor.id.role.startswith("parameter"))
    image = sum(activations) + 3 * max(activations)
    return max(0, (free - FLOAT_BYTES * parameters) // (FLOAT_BYTES * image))


def with_advice(error: DeviceMemoryError, model: Module, batch: int, held: int) -> DeviceMemoryError:
    """The error of a step, with the batch that would fit; ``held``: bytes in use before the step."""
    fits = min(fitting_batch(model, error.total - held), batch - 1)
    advice = f"a batch of about {fits} would fit" if fits > 0 else "no batch would fit"
    return DeviceMemoryError(
        f"a step of batch {batch} asked for {error.asked} bytes more than there were: {error}. By the sizes of its "
        f"tensors {advice}",
        asked=error.asked,
        used=error.used,
        total=error.total,
    )
