"""A primitive: one kind of op as data, its forward and its derivative side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mpsim.engine.tensor import Array
from mpsim.errors import UsageError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Shapes and attributes on which a primitive's gradient is checked (mpsim.testing.gradients).

    ``inputs`` and ``parameters`` are shapes, filled with normal numbers; an array is taken as it is and gets no
    gradient (labels).
    """

    inputs: tuple[Any, ...]
    parameters: tuple[Shape, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Primitive:
    """One kind of op. Its functions see backend arrays and reach data through ``kernels`` only.

    forward(kernels, inputs, parameters, **attributes) -> (output, saved)
        ``saved`` is a tuple of whatever the derivative needs; stored inputs are saved as they are, not copied.
    backward(kernels, gradient, saved, needs_input_gradients) -> (input gradients, parameter gradients)
        None stands for an input gradient that is not needed. Products are those of ``kernels.by_input`` for an input's
        gradient and of ``kernels.by_weight`` for a parameter's, whose accumulators may differ.
    output_shape(input_shapes, parameter_shapes, **attributes) -> shape
        Called before forward; raises ValueError saying what came and what was expected.

    What others know of the kind by: ``opens_group``: it begins a group of tensors (Lee et al. 2023, section 4.1);
    ``is_product``: a general matrix product; ``is_loss``: its output is the scalar loss; ``chooses``: every element of
    its output is an element of an input, or 0; ``reads_input_again``: ``backward`` reads the stored inputs;
    ``kept_bits``: what it keeps beside stored tensors, per element of its output.

    With ``saves_output`` the *stored* output is appended to ``saved``. What ``forward`` and ``backward`` return
    belongs to the store, which may overwrite it: a returned array is never part of an input, of a saved value or
    of another returned array. ``gradient`` may be overwritten by ``backward``, and returned once.
    """

    kind: str
    forward: Callable[..., tuple[Array, tuple]]
    backward: Callable[..., tuple[tuple[Array | None, ...], tuple[Array, ...]]]
    output_shape: Callable[..., Shape]
    opens_group: bool = False
    is_product: bool = False
    is_loss: bool = False
    chooses: bool = False
    reads_input_again: bool = False
    kept_bits: int = 0
    saves_output: bool = False
    samples: tuple[Sample, ...] = ()

    def shape(self, name: str, inputs: list[Shape], parameters: list[Shape], attributes: dict[str, Any]) -> Shape:
        """The output's shape; a ValueError names the op."""
        try:
            return self.output_shape(inputs, parameters, **attributes)
        except ValueError as error:
            raise UsageError(f"{self.kind} {name!r}: {error}") from None
