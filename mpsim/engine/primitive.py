"""Defines a primitive: one kind of op as data, with its forward function and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mpsim.engine.tensor import Array
from mpsim.errors import UsageError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Shapes and attributes on which a primitive's gradient is checked (mpsim.testing.gradients).

    ``inputs`` and ``parameters`` are shapes, filled with normal numbers. An array (such as labels) is passed unchanged
    and gets no gradient. With ``positive`` the numbers are positive, which a logarithm or a quotient needs.

    >>> from mpsim import ops
    >>> ops.PRIMITIVES["Log"].samples[0].positive
    True
    """

    inputs: tuple[Any, ...]
    parameters: tuple[Shape, ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    positive: bool = False


class Needs(tuple[bool, ...]):
    """Which gradients of an op are read: those of its inputs, as a tuple, and those of its ``parameters``."""

    parameters: tuple[bool, ...] = ()

    @classmethod
    def of(cls, inputs: tuple[bool, ...], parameters: tuple[bool, ...]) -> Needs:
        """Returns the tuple ``inputs`` with ``parameters``."""
        needs = cls(inputs)
        needs.parameters = parameters
        return needs


def needs_parameter(needs: tuple[bool, ...], position: int) -> bool:
    """Returns whether the gradient of the op's parameter number ``position`` is read. A plain tuple needs all of them.

    >>> needs_parameter((True,), 0), needs_parameter(Needs.of((True,), (False, True)), 0)
    (True, False)
    """
    parameters = getattr(needs, "parameters", ())
    return position >= len(parameters) or parameters[position]


@dataclass(frozen=True)
class Primitive:
    """One kind of op. Its functions receive backend arrays and access their data only through ``kernels``.

    forward(kernels, inputs, parameters, **attributes) -> (output, saved)
        ``saved`` is a tuple of everything that the derivative needs. Stored inputs are saved without a copy.
    backward(kernels, gradient, saved, needs_input_gradients) -> (input gradients, parameter gradients)
        An input gradient that is not needed is None. That of a frozen parameter (``needs_parameter``) may be None too.
        ``kernels.by_input`` computes the products of an input's gradient and ``kernels.by_weight`` those of a
        parameter's. Their accumulators may differ.
    output_shape(input_shapes, parameter_shapes, **attributes) -> shape
        Called before forward. It raises ValueError with what came and what was expected.

    ``opens_group``: the op starts a group of tensors (Lee et al. 2023, section 4.1). ``is_product``: it is a general
    matrix product. ``sums``: what it adds that is not a product, in an order that may be chosen by layer: its "output",
    or the gradient of its "bias". ``is_loss``: its output is the scalar loss. ``chooses``: every element of its output
    is an element of an input, or 0. ``reads_input_again``: ``backward`` reads the stored inputs. ``kept_bits``: the
    bits per output element that it saves besides stored tensors.

    With ``saves_output`` the *stored* output is appended to ``saved``. The store owns the results of ``forward`` and
    ``backward`` and may overwrite them: a returned array is never part of an input, of a saved value or of another
    returned array. ``backward`` may overwrite ``gradient``, and return it once.

    >>> from mpsim import ops
    >>> ops.PRIMITIVES["Linear"].is_product, ops.PRIMITIVES["ReLU"].kept_bits
    (True, 1)
    """

    kind: str
    forward: Callable[..., tuple[Array, tuple]]
    backward: Callable[..., tuple[tuple[Array | None, ...], tuple[Array | None, ...]]]
    output_shape: Callable[..., Shape]
    opens_group: bool = False
    is_product: bool = False
    sums: Literal["", "output", "bias"] = ""
    is_loss: bool = False
    chooses: bool = False
    reads_input_again: bool = False
    kept_bits: int = 0
    saves_output: bool = False
    samples: tuple[Sample, ...] = ()

    def shape(self, name: str, inputs: list[Shape], parameters: list[Shape], attributes: dict[str, object]) -> Shape:
        """Returns the output's shape. A ValueError names the op."""
        try:
            return self.output_shape(inputs, parameters, **attributes)
        except ValueError as error:
            raise UsageError(f"{self.kind} {name!r}: {error}") from None
